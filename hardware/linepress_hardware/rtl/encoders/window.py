"""``window`` encoder: the exponents against the window, then each escape's exponent to its slot."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux

from linepress_hardware.rtl.blocks import Pipe, named, one_hot, prefix_sums
from linepress_hardware.rtl.decoders.window import BASE, fixed_bits, most_escapes
from linepress_hardware.rtl.line import BF16, RAW_BITS, Element, LineEncoder


class WindowEncoder(LineEncoder):
    """``window`` in five clocks: compare, count by quarters, count, select a slot's exponent, choose the mode."""

    data_bits = RAW_BITS + 2

    def __init__(self, element: Element = BF16, code_bits: int = 3) -> None:
        super().__init__()
        self.element, self.code_bits = element, code_bits

    def build(self, m: Module) -> None:
        element, w = self.element, self.code_bits
        count, e, low = element.count, element.exponent_bits, element.mantissa_bits
        fixed, most = fixed_bits(element, w), most_escapes(element, w)
        base = self.config(BASE, 8, "base")
        pipe = Pipe(m, self.valid)
        line = pipe.cut(self.line)
        codes, escape = [], []
        for j in range(count):
            exponent = line[element.bits * j + low : element.bits * j + low + e]
            code = named(m, (exponent - base + 1)[:9], f"difference{j}")
            inside = named(m, ~code[8] & ~code[w:8].any() & code[:w].any(), f"inside{j}")
            codes.append(named(m, Mux(inside, code[:w], 0), f"code{j}"))
            escape.append(named(m, ~inside, f"escape{j}"))
        zero = named(m, ~line.any(), "zero")
        line, codes, escape, zero = pipe.cut(line, codes, escape, zero)
        quarters = prefix_sums(m, escape, 1, "quarters", until=count // 4)
        line, codes, escape, zero, quarters = pipe.cut(line, codes, escape, zero, quarters)
        counts = prefix_sums(m, quarters, 1, "count", done=count // 4)
        line, codes, escape, zero, counts = pipe.cut(line, codes, escape, zero, counts)
        exponents = [line[element.bits * j + low : element.bits * j + low + e] for j in range(count)]
        slots = []
        for k in range(most):
            flags = []
            for j in range(k, count):
                before = counts[j - 1] if j else Const(0, 1)
                flags.append(named(m, escape[j] & (before == k), f"slot{k}_{j}"))
            slots.append(named(m, one_hot(flags, exponents[k:], e), f"slot{k}"))
        escapes = counts[-1]
        raw = named(m, escapes > most, "raw")
        size = named(m, Mux(zero, 2, Mux(raw, RAW_BITS + 2, fixed + e * escapes))[:10], "bits")
        line, codes, slots, zero, raw, size = pipe.cut(line, codes, slots, zero, raw, size)
        rests = [Cat(line[element.bits * j :][:low], line[element.bits * (j + 1) - 1]) for j in range(count)]
        coded = Cat(Const(0, 1), *codes, *rests, *slots)
        m.d.sync += self.out_size.eq(size)
        self.finish(m, pipe, Mux(zero, 3, Mux(raw, Cat(Const(1, 2), line), coded)), 0)
