"""``bpc`` decoder: four planes a clock, then the differences summed; trusts its input, as published decompressors do.

A classic codec of which cycles and an area were published, to calibrate the scale of the other designs.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal

from linepress_hardware.rtl.blocks import Pipe, named, prefix_sums, resized, shift_out
from linepress_hardware.rtl.line import RAW_BITS, LineEngine

WORD_BITS = 32
WORDS, PLANES, EACH = RAW_BITS // WORD_BITS, WORD_BITS + 1, 4
"""Words of a line, bit planes of their differences, planes a clock."""
WIDTH = WORDS - 1
"""Bits of a plane."""
PHASES = -(-PLANES // EACH)
LONGEST = 1 + WIDTH
"""Bits of the longest code of a plane."""


class BpcDecoder(LineEngine):
    """``bpc`` (``delta=33``) in twelve clocks: the base, nine of planes, two that sum; a line every ten.

    A run of zero planes is counted down plane by plane: every plane takes its turn, and a line's time is fixed.
    """

    line_bits = 1 + RAW_BITS
    interval = 1 + PHASES

    def build(self, m: Module) -> None:
        valid, phase = Signal(name="busy"), Signal(self.interval, name="phase", reset_less=True)
        coded, body = Signal(name="coded", reset_less=True), Signal(RAW_BITS, name="body", reset_less=True)
        base, left = Signal(WORD_BITS, name="base", reset_less=True), Signal(6, name="left", reset_less=True)
        planes = Signal(WIDTH * EACH * PHASES, name="planes", reset_less=True)

        last = named(m, valid & phase[PHASES], "last")
        m.d.comb += self.ready.eq(~valid | phase[PHASES])
        take = named(m, self.valid & self.ready, "take")

        # The base: 1 and the word; 001, 010, 011 and a short one of 4, 8, 16 bits; 000.
        kind = Cat(body[2], body[1])
        short = [Cat(body[3 : 3 + n], *[body[2 + n]] * (WORD_BITS - n)) for n in (4, 8, 16)]
        word = Mux(kind[1], Mux(kind[0], short[2], short[1]), Mux(kind[0], short[0], 0))
        word = named(m, Mux(body[0], body[1 : 1 + WORD_BITS], word), "word")
        base_bits = Mux(kind[1], Mux(kind[0], 19, 11), Mux(kind[0], 7, 3))
        base_bits = named(m, Mux(body[0], 1 + WORD_BITS, base_bits), "base_bits")

        window, run, above = body[: EACH * LONGEST], left, planes[:WIDTH]
        new: list[Any] = []
        taken: Any = Const(0, 1)
        for i in range(EACH):
            idle = named(m, run.any(), f"idle{i}")
            bits = Mux(window[0], LONGEST, Mux(window[1], 7, Mux(window[2], 3, Mux(window[3], 9, 5))))
            bits = named(m, Mux(idle, 0, bits), f"bits{i}")
            starts_run = ~idle & ~window[0] & window[1]
            run = named(m, Mux(idle, run - 1, Mux(starts_run, window[2:7] + 1, 0))[:6], f"run{i}")
            one = named(m, (Const(1, WIDTH + 1) << window[5:9])[:WIDTH], f"one{i}")
            two = one | (one << 1)[:WIDTH]
            rare = Mux(window[3], Mux(window[4], one, two), Mux(window[4], above, ~Const(0, WIDTH)))
            changed = Mux(window[0], window[1 : 1 + WIDTH], Mux(window[1] | window[2], 0, rare))
            above = named(m, above ^ Mux(idle, 0, changed), f"plane{i}")
            new.append(above)
            taken = named(m, (taken + bits)[: (LONGEST * (i + 1)).bit_length()], f"taken{i}")
            rest = (EACH - 1 - i) * LONGEST
            if rest:
                window = shift_out(m, window, bits, rest, LONGEST, f"window{i}")
        after = named(m, Cat(*reversed(new), planes)[: len(planes)], "planes_after")
        move = named(m, Mux(coded, Mux(phase[0], base_bits, taken), 0)[:7], "move")
        moved = shift_out(m, body, move, RAW_BITS, EACH * LONGEST, "moved")

        m.d.sync += [
            valid.eq(take | (valid & ~phase[PHASES])),
            phase.eq(Mux(take, 1, phase << 1)),
            body.eq(Mux(take, self.line[1:], moved)),
            left.eq(Mux(phase[0], 0, run)),
            planes.eq(Mux(phase[0], 0, after)),
        ]
        with m.If(take):
            m.d.sync += coded.eq(self.line[0])
        with m.If(phase[0]):
            m.d.sync += base.eq(word)

        pipe = Pipe(m, last)
        first, table, raw, is_coded = pipe.cut(base, after, body, coded)
        # Plane j of the differences has moved up by the planes that were decoded after it.
        spare = EACH * PHASES - PLANES
        differences = [Cat(*[table[WIDTH * (j + spare) + i] for j in range(WORD_BITS)]) for i in range(WIDTH)]
        most = (1 << WORD_BITS) - 1
        sums = prefix_sums(m, [first, *differences], most, "fours", until=4)
        sums, raw, is_coded = pipe.cut([resized(each, WORD_BITS) for each in sums], raw, is_coded)
        words = [resized(each, WORD_BITS) for each in prefix_sums(m, sums, most, "word", done=4)]
        self.finish(m, pipe, Mux(is_coded, Cat(*words), raw), 0, before=self.interval)
