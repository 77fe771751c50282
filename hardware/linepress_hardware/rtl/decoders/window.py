"""``window`` decoder: places of the escapes by a prefix count, then one selection an element."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux

from linepress_hardware.rtl.blocks import Pipe, mux_tree, named, prefix_sums
from linepress_hardware.rtl.line import BF16, RAW_BITS, Element, LineEngine

BASE = 0
"""Configuration address of the base exponent."""


def window_config(base: int) -> list[tuple[int, int]]:
    """Table writes (address, data) of a tensor whose window begins at exponent ``base``."""
    return [(BASE, base)]


def fixed_bits(element: Element, code_bits: int) -> int:
    """Bits of a coded line without escapes."""
    return 1 + element.count * (code_bits + element.rest_bits)


def most_escapes(element: Element, code_bits: int) -> int:
    """Escapes of the longest coded line: one of `RAW_BITS` bits or more is stored raw."""
    return (RAW_BITS - 1 - fixed_bits(element, code_bits)) // element.exponent_bits


class WindowDecoder(LineEngine):
    """``window`` with ``code_bits``-bit codes in three clocks: count by quarters of a line, count, select."""

    line_bits = RAW_BITS + 2

    def __init__(self, element: Element = BF16, code_bits: int = 3) -> None:
        super().__init__()
        self.element, self.code_bits = element, code_bits

    def build(self, m: Module) -> None:
        element, w = self.element, self.code_bits
        count, exponent, rest = element.count, element.exponent_bits, element.rest_bits
        rest_at, fixed, most = 1 + count * w, fixed_bits(element, w), most_escapes(element, w)
        base = self.config(BASE, 8, "base")
        pipe = Pipe(m, self.valid)
        line, size = pipe.cut(self.line, self.size)
        escape = [named(m, line[1 + w * j : 1 + w * (j + 1)] == 0, f"escape{j}") for j in range(count)]
        quarters = prefix_sums(m, escape, 1, "quarters", until=count // 4)
        line, size, escape, quarters = pipe.cut(line, size, escape, quarters)
        counts = prefix_sums(m, quarters, 1, "count", done=count // 4)
        line, size, escape, counts = pipe.cut(line, size, escape, counts)

        listed = [line[fixed + exponent * k : fixed + exponent * (k + 1)] for k in range(most)]
        elements, beyond = [], []
        for j in range(count):
            value = named(m, (base + line[1 + w * j : 1 + w * (j + 1)] - 1)[:9], f"value{j}")
            beyond.append(named(m, value[exponent:9].any() & ~escape[j], f"beyond{j}"))
            taken = mux_tree(m, listed[: j + 1], counts[j - 1] if j else Const(0, 1), f"taken{j}")
            raw = line[2 + element.bits * j : 2 + element.bits * (j + 1)]
            own = line[rest_at + rest * j : rest_at + rest * (j + 1)]
            coded = Cat(own[:-1], Mux(escape[j], taken, value[:exponent]), own[-1])
            elements.append(Mux(line[0], Mux(line[1], 0, raw), coded))
        escapes = counts[-1]
        value_bad = named(m, Cat(*beyond).any(), "check_value")
        too_long = named(m, escapes > most, "check_escapes")
        unmet = named(m, size != fixed + exponent * escapes, "check_size")
        zero_bad, raw_bad = (
            named(m, size != n, f"check_{what}_size") for n, what in ((2, "zero"), (RAW_BITS + 2, "raw"))
        )
        error = Mux(line[0], Mux(line[1], zero_bad, raw_bad), value_bad | too_long | unmet)
        self.finish(m, pipe, Cat(*elements), error)
