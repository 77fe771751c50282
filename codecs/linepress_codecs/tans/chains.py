"""The steps of coded lines with four streams, many lines at once: the loop in which a tANS decoder spends its time.

A line's steps wait for one another (table, position, table), so many lines go side by side: a line in each lane of a
vector register, its four states in four registers, the table and the windows of bits by gathers; or, where registers
hold one word, two lines of four states.

An entry of the decode table is one uint32, so that a step is one load: the field in its place in the element (bits 0
to 15), the bits to read (16 to 19), and the next state (20 to 31). Escapes and zero elements have a flag where a
field has none: bit 0 of 16-bit elements (raw in them), bit 8 of 8-bit ones; bit 15 then tells an escape.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types

from linepress_codecs.intrinsics import Lanes, load32, load64, loop_over, operation, store32, store64, variable
from linepress_codecs.tans.kernels import U15, U16, low_bits
from linepress_codecs.tans.words import window

LANES = 16
"""Lines side by side. Arrays of `vector_chains` are [rows, LANES]."""
U20 = np.uint64(20)
FIELD_MASK, BITS_AT, STATE_AT, ESCAPE_FLAG = 0xFFFF, 16, 20, 1 << 15


def special_flag(width: int) -> int:
    """The bit that marks an escape or a zero element of ``width`` bits among fields."""
    return 1 if width == 16 else 1 << 8


@operation
def vector_chains(  # type: ignore[no-untyped-def]
    typing_context, table, payload, states, rows, places, out, odd, steps
):
    """Steps of LANES lines.

    Addresses: table uint32[], payload, states uint32[4, LANES] and places uint64[LANES] (bit positions) in and out,
    rows uint32[LANES] (of the table, in entries), out uint32[steps, 2, LANES] (fields of a step's four elements, 16
    bits each), odd uint32[LANES] (all the fields of a line, or-ed); then the number of steps.
    """
    del typing_context, table, payload, states, rows, places, out, odd, steps

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del signature
        table, payload, states, rows, places, out, odd, steps = arguments
        lane, wide = Lanes(builder, LANES, 32), Lanes(builder, LANES, 64)
        row = lane.load(rows)
        # Variables of a loop are allocas here; LLVM makes registers of them.
        state = [variable(builder, lane.load(states, c)) for c in range(4)]
        place, seen = variable(builder, wide.load(places)), variable(builder, lane.constant(0))
        with loop_over(builder, steps, intp=ir.IntType(64)) as loop:
            entries = [lane.gather(table, builder.add(builder.load(x), row), 4, 4) for x in state]
            at = builder.load(place)
            bits = wide.window(payload, at)
            read = lane.constant(0)
            for c in range(4):
                if c == 2:  # 32 bits hold two steps
                    bits = builder.lshr(bits, builder.zext(read, wide.vector))
                if c % 2 == 0:
                    part = builder.trunc(bits, lane.vector)
                count = builder.and_(builder.lshr(entries[c], lane.constant(BITS_AT)), lane.constant(15))
                low = lane.low_bits(part, count)
                builder.store(builder.add(builder.lshr(entries[c], lane.constant(STATE_AT)), low), state[c])
                part = builder.lshr(part, count)
                read = builder.add(read, count)
            builder.store(builder.add(at, builder.zext(read, wide.vector)), place)
            first = builder.mul(loop.index, ir.Constant(ir.IntType(64), 2))
            for half in range(2):
                field = builder.and_(entries[2 * half], lane.constant(FIELD_MASK))
                both = builder.or_(field, builder.shl(entries[2 * half + 1], lane.constant(16)))
                builder.store(builder.or_(builder.load(seen), both), seen)
                lane.store(both, out, builder.add(first, ir.Constant(ir.IntType(64), half)))
        for c in range(4):
            lane.store(builder.load(state[c]), states, c)
        wide.store(builder.load(place), places)
        lane.store(builder.load(seen), odd)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 8), generate


@njit(inline="always")
def _step(table, state, bits):  # type: ignore[no-untyped-def]
    """(entry, next state, bits after it, their number)."""
    entry = np.uint64(load32(table + (state << np.uint64(2))))
    count = (entry >> U16) & U15
    return entry, (entry >> U20) + low_bits(bits, count), bits >> count, count


@njit(cache=True)
def word_chains(table, payload, states, rows, places, out, odd, steps):  # type: ignore[no-untyped-def]
    """`vector_chains` without vectors: two lines at a time."""
    mask = np.uint64(FIELD_MASK)
    row = np.uint64(4 * LANES)
    for lane in range(0, LANES, 2):
        a, b = np.uint64(4 * lane), np.uint64(4 * lane + 4)
        s = table + (np.uint64(load32(rows + a)) << np.uint64(2))
        t = table + (np.uint64(load32(rows + b)) << np.uint64(2))
        x0, x1 = np.uint64(load32(states + a)), np.uint64(load32(states + row + a))
        x2, x3 = np.uint64(load32(states + row + row + a)), np.uint64(load32(states + row + row + row + a))
        y0, y1 = np.uint64(load32(states + b)), np.uint64(load32(states + row + b))
        y2, y3 = np.uint64(load32(states + row + row + b)), np.uint64(load32(states + row + row + row + b))
        p, q = load64(places + a + a), load64(places + b + b)
        at = out + a
        seen_v, seen_w = np.uint32(0), np.uint32(0)
        for _ in range(steps):
            v, w = window(payload, p), window(payload, q)
            e0, x0, v, n0 = _step(s, x0, v)
            f0, y0, w, m0 = _step(t, y0, w)
            e1, x1, v, n1 = _step(s, x1, v)
            f1, y1, w, m1 = _step(t, y1, w)
            e2, x2, v, n2 = _step(s, x2, v)
            f2, y2, w, m2 = _step(t, y2, w)
            e3, x3, v, n3 = _step(s, x3, v)
            f3, y3, w, m3 = _step(t, y3, w)
            p += n0 + n1 + n2 + n3
            q += m0 + m1 + m2 + m3
            v0, v1 = np.uint32((e0 & mask) | (e1 << U16)), np.uint32((e2 & mask) | (e3 << U16))
            w0, w1 = np.uint32((f0 & mask) | (f1 << U16)), np.uint32((f2 & mask) | (f3 << U16))
            seen_v, seen_w = np.uint32(seen_v | v0 | v1), np.uint32(seen_w | w0 | w1)
            store32(at, v0)
            store32(at + np.uint64(4), w0)
            store32(at + row, v1)
            store32(at + row + np.uint64(4), w1)
            at += row + row
        store32(odd + a, seen_v)
        store32(odd + b, seen_w)
        store32(states + a, np.uint32(x0))
        store32(states + row + a, np.uint32(x1))
        store32(states + row + row + a, np.uint32(x2))
        store32(states + row + row + row + a, np.uint32(x3))
        store32(states + b, np.uint32(y0))
        store32(states + row + b, np.uint32(y1))
        store32(states + row + row + b, np.uint32(y2))
        store32(states + row + row + row + b, np.uint32(y3))
        store64(places + a + a, p)
        store64(places + b + b, q)
