"""Which bits of an element are coded as a symbol and which are raw, and the order of symbols in a line.

The *symbol* of static codecs: the exponent of a 16- or 32-bit float, the whole byte of 8-bit and packed 4-bit
formats, the top byte of wider integers. The *field* of the bounds: sign and exponent together, or the whole byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from linepress_codecs.formats import Format


@dataclass(frozen=True, slots=True)
class SymbolField:
    """Position of a symbol within a stored item.

    Attributes
    ----------
    item_bits : int
        Stored item: 8, 16 or 32.
    shift, bits : int
        Lowest bit and width of the symbol.
    """

    item_bits: int
    shift: int
    bits: int

    @property
    def rest_bits(self) -> int:
        """Bits of an item beside the symbol, stored raw."""
        return self.item_bits - self.bits


def exponent_field(fmt: Format) -> SymbolField:
    """The symbol of static codecs for this format."""
    item = 8 * fmt.storage.itemsize
    if item == 8:
        return SymbolField(8, 0, 8)
    if fmt.is_float:
        return SymbolField(item, fmt.mantissa_bits, fmt.exponent_bits)
    return SymbolField(item, item - 8, 8)


def bound_field(fmt: Format) -> SymbolField:
    """Sign and exponent (whole byte of 8-bit items, top byte of wider integers): the field of the bounds."""
    item = 8 * fmt.storage.itemsize
    if item == 8:
        return SymbolField(8, 0, 8)
    if fmt.is_float:
        return SymbolField(item, fmt.mantissa_bits, fmt.exponent_bits + fmt.sign_bits)
    return SymbolField(item, item - 8, 8)
