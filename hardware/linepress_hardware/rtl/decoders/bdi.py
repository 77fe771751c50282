"""``bdi`` decoder: an adder an element; then, beside the data, what the encoder would have chosen.

A classic codec of which cycles were published, to calibrate the scale of the other designs.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux

from linepress_hardware.rtl.blocks import Pipe, named, one_hot
from linepress_hardware.rtl.line import RAW_BITS, LineEngine

ENCODINGS = ((8, 8), (8, 16), (8, 32), (4, 8), (4, 16), (2, 8))
"""Bytes of an element and bits of a delta, tags 2 to 7 and, with a mask, 8 to 13."""
TAG_BITS, ZEROS, REPEATED, RAW = 4, 0, 1, 15
FIRST, MIXED = 2, 6


def _tags() -> list[tuple[int, int, bool]]:
    """(tag, encoding, whether it has a mask) of every delta line."""
    return [(FIRST + e + MIXED * masked, e, bool(masked)) for masked in (0, 1) for e in range(len(ENCODINGS))]


def code_bits(encoding: int, masked: bool) -> int:
    """Bits of a delta line."""
    element, delta = ENCODINGS[encoding]
    return TAG_BITS + 8 * element + 64 // element * (delta + masked)


def _extended(value: Any, width: int) -> Any:
    return Cat(value, *[value[-1]] * (width - len(value)))


def _near(value: Any, bits: int) -> Any:
    """Whether ``value`` is a sign-extended number of ``bits``."""
    return value[bits - 1 :].all() | ~value[bits - 1 :].any()


class BdiDecoder(LineEngine):
    """``bdi`` (``accounting=paper``): deltas chosen by the tag, added to base or zero; two clocks.

    With ``checks`` six: a line has one code, so the decoder sees whether another tag, base or mask is the encoder's.
    Without, it trusts its input as published decompressors do, and ``error`` is never set.
    """

    line_bits = TAG_BITS + RAW_BITS

    def __init__(self, checks: bool = True) -> None:
        super().__init__()
        self.checks = checks

    def build(self, m: Module) -> None:
        pipe = Pipe(m, self.valid)
        line, size = pipe.cut(self.line, self.size)
        body = line[TAG_BITS:]
        tag = [named(m, line[:TAG_BITS] == t, f"tag{t}") for t in range(16)]
        deltas: list[list[Any]] = []
        bases, masks, wide = [], [], []
        for element in (8, 4, 2):
            own = [(tag[t], e, masked) for t, e, masked in _tags() if ENCODINGS[e][0] == element]
            count, width = 64 // element, 8 * element
            flags = [flag for flag, _, _ in own]
            heads = [body[count if masked else 0 :] for _, _, masked in own]
            deltas.append(
                [
                    named(
                        m,
                        one_hot(
                            flags,
                            [
                                _extended(h[width + ENCODINGS[e][1] * i :][: ENCODINGS[e][1]], width)
                                for h, (_, e, _) in zip(heads, own, strict=True)
                            ],
                            width,
                        ),
                        f"delta{element}_{i}",
                    )
                    for i in range(count)
                ]
            )
            bases.append(named(m, one_hot(flags, [h[:width] for h in heads], width), f"base{element}"))
            ones = Const(-1, count)
            masks.append(
                named(
                    m,
                    one_hot(flags, [body[:count] if masked else ones for _, _, masked in own], count),
                    f"mask{element}",
                )
            )
            wide.append(named(m, Cat(*flags).any(), f"wide{element}"))
        plain = one_hot([tag[REPEATED], tag[RAW]], [Cat(*[body[:64]] * 8), body], RAW_BITS)
        wanted = one_hot(
            [tag[t] for t, _, _ in _tags()], [Const(code_bits(e, masked), 10) for _, e, masked in _tags()], 10
        ) | one_hot([tag[ZEROS], tag[REPEATED], tag[RAW]], [Const(TAG_BITS + n, 10) for n in (8, 64, RAW_BITS)], 10)
        bad = named(m, size != wanted, "check_size") | (tag[ZEROS] & named(m, body[:8].any(), "check_zeros"))
        tags = Cat(*tag)
        deltas, bases, masks, wide, plain, tags, bad = pipe.cut(deltas, bases, masks, wide, plain, tags, bad)

        sums = [
            Cat(*[(d + Mux(mask[i], base, 0))[: len(base)] for i, d in enumerate(own)])
            for own, base, mask in zip(deltas, bases, masks, strict=True)
        ]
        data = one_hot([*wide, Const(1, 1)], [*sums, plain], RAW_BITS)
        if not self.checks:
            self.finish(m, pipe, data, 0)
            return
        data, bases, masks, tags, bad = pipe.cut(data, bases, masks, tags, bad)
        data, bad = self._encoded_again(m, pipe, data, bases, masks, tags, bad)
        self.finish(m, pipe, data, bad)

    def _encoded_again(
        self, m: Module, pipe: Pipe, data: Any, bases: list[Any], masks: list[Any], tags: Any, bad: Any
    ) -> tuple[Any, Any]:
        """The line, and whether it is refused: by another tag, base or mask than its one code has."""
        kind = {8: 0, 4: 1, 2: 2}

        def elements(line: Any, encoding: int) -> list[Any]:
            width = 8 * ENCODINGS[encoding][0]
            return [line[i : i + width] for i in range(0, RAW_BITS, width)]

        near_zero = [Cat(*[_near(x, delta) for x in elements(data, e)]) for e, (_, delta) in enumerate(ENCODINGS)]
        words = elements(data, 0)
        repeated = named(m, ~Cat(*[w ^ words[0] for w in words[1:]]).any(), "repeated")
        zero = named(m, ~words[0].any() & repeated, "zero")
        data, bases, masks, tags, bad, near_zero, repeated, zero = pipe.cut(
            data, bases, masks, tags, bad, near_zero, repeated, zero
        )
        # The base is the first element that is not near zero.
        found = []
        for e, near in enumerate(near_zero):
            first = [~near[0]] + [named(m, near[:i].all() & ~near[i], f"first{e}_{i}") for i in range(1, len(near))]
            found.append(named(m, one_hot(first, elements(data, e), 8 * ENCODINGS[e][0]), f"found{e}"))
        mask_bad = [tags[t] & (masks[kind[ENCODINGS[e][0]]] != ~near_zero[e]) for t, e, masked in _tags() if masked]
        bad = bad | named(m, Cat(*mask_bad).any(), "check_mask")
        data, bases, tags, bad, near_zero, repeated, zero, found = pipe.cut(
            data, bases, tags, bad, near_zero, repeated, zero, found
        )
        base_bad = [tags[t] & (bases[kind[ENCODINGS[e][0]]] != found[e]) for t, e, _ in _tags()]
        bad = bad | named(m, Cat(*base_bad).any(), "check_base")
        near_base = []
        for e, (element, delta) in enumerate(ENCODINGS):
            away = [named(m, (x - found[e])[: 8 * element], f"away{e}_{i}") for i, x in enumerate(elements(data, e))]
            near_base.append(Cat(*[_near(a, delta) for a in away]))
        data, tags, bad, near_zero, near_base, repeated, zero = pipe.cut(
            data, tags, bad, near_zero, near_base, repeated, zero
        )
        one_base = [named(m, b.all(), f"one_base{e}") for e, b in enumerate(near_base)]
        both = [
            named(m, (b | z).all(), f"both{e}") for e, (b, z) in enumerate(zip(near_base, near_zero, strict=True))
        ]
        # Of all encodings that hold the line the smallest, of equals the lowest tag.
        order = sorted(_tags(), key=lambda each: (code_bits(each[1], each[2]), each[0]))
        holds = [(ZEROS, zero), (REPEATED, repeated)]
        holds += [(t, both[e] if masked else one_base[e]) for t, e, masked in order]
        holds += [(RAW, Const(1, 1))]
        best = [
            tags[t] & h & ~Cat(Const(0, 1), *[earlier for _, earlier in holds[:i]]).any()
            for i, (t, h) in enumerate(holds)
        ]
        return data, bad | named(m, ~Cat(*best).any(), "check_tag")
