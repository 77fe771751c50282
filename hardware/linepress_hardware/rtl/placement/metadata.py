"""What the address units share: a pointer and length codes of a width that is a table write."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux

from linepress_hardware.rtl.blocks import named, one_hot, thermometer
from linepress_hardware.rtl.line import LineEngine

BASE, WIDTH = 0, 1
"""Configuration addresses of a size code: shortest length, bits a code."""
POINTER_BITS = 32


def metadata_bits(lengths: int, full: int) -> int:
    """Bits of an entry of ``lengths`` codes of lengths up to ``full``, at the widest code."""
    return POINTER_BITS + lengths * full.bit_length()


class AddressUnit(LineEngine):
    """``line`` holds a metadata entry, ``size`` the number of a line under it; ``data`` a length, then an address.

    Both are in bytes. ``error`` is never set: which entries an encoder writes is not checked.
    """

    full: int
    """Length of what is not coded, in bytes."""

    def size_code(self) -> tuple[Any, Any]:
        """Base and width of the codes."""
        return self.config(BASE, 8, "base"), self.config(WIDTH, 4, "width")

    def codes(self, m: Module, entry: Any, width: Any, count: int) -> list[Any]:
        """The codes behind the pointer."""
        most = self.full.bit_length()
        flags = [named(m, width == n, f"width{n}") for n in range(1, most + 1)]
        at = [[entry[POINTER_BITS + n * i :][:n] for n in range(1, most + 1)] for i in range(count)]
        return [named(m, one_hot(flags, at[i], most), f"entry{i}") for i in range(count)]

    def length(self, m: Module, code: Any, base: Any, width: Any, name: str) -> Any:
        """The length that a code says: from ``base`` on, the last code the full one."""
        most = self.full.bit_length()
        last = named(m, code == thermometer(width, most), f"{name}_last")
        return named(m, Mux(last, self.full, (code + base)[:most]), name)
