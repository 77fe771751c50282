"""The steps of coded lines with four streams, many lines at once: the loop in which a tANS decoder spends its time.

A line's steps wait for one another (table, position, table), so many lines go side by side: a line in each lane of a
vector register, its four states in four registers, the table and the windows of bits by gathers; or, where registers
hold one word, two lines of four states.

An entry of the decode table is one uint64, so that a step is one load: the field in its place in the element (bits 0
to 15), the bits to read (16 to 19), and from bit 24 on the next state with the offset of its row in the table.
The row lives in the state; a step does not know which table it uses. Escapes and zero elements have a flag where a
field has none: bit 0 of 16-bit elements (raw in them), bit 8 of 8-bit ones; bit 15 then tells an escape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from linepress_codecs.intrinsics import Lanes, load64, loop_over, store64, variable
from linepress_codecs.tans.kernels import U15, U16, U32, low_bits
from linepress_codecs.tans.words import window

LANES = 16
"""Lines side by side. Arrays of `chains` are uint64[rows, LANES]."""
U24, U48 = np.uint64(24), np.uint64(48)
FIELD_MASK, BITS_AT, STATE_AT, ESCAPE_FLAG = 0xFFFF, 16, 24, 1 << 15


def special_flag(width: int) -> int:
    """The bit that marks an escape or a zero element of ``width`` bits among fields."""
    return 1 if width == 16 else 1 << 8


def _vector_chains(lanes: int) -> Any:
    @intrinsic
    def chains(typing_context, table, payload, states, places, out, steps):  # type: ignore[no-untyped-def]
        del typing_context, table, payload, states, places, out, steps

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            table, payload, states, places, out, steps = arguments
            lane = Lanes(builder, lanes)
            tables, payloads = lane.splat(table), lane.splat(payload)
            # Variables of a loop are allocas here; LLVM makes registers of them.
            state = [variable(builder, lane.load(states, c)) for c in range(4)]
            place = variable(builder, lane.load(places))
            with loop_over(builder, steps, intp=ir.IntType(64)) as loop:
                entries = [
                    lane.gather(builder.add(tables, builder.shl(builder.load(x), lane.constant(3))), 8) for x in state
                ]
                at = builder.load(place)
                bits = lane.gather(builder.add(payloads, builder.lshr(at, lane.constant(3))), 1)
                bits = builder.lshr(bits, builder.and_(at, lane.constant(7)))
                word = builder.shl(entries[3], lane.constant(48))
                for c in range(3):
                    field = builder.and_(entries[c], lane.constant(FIELD_MASK))
                    word = builder.or_(word, builder.shl(field, lane.constant(16 * c)))
                for c in range(4):
                    count = builder.and_(builder.lshr(entries[c], lane.constant(BITS_AT)), lane.constant(15))
                    low = builder.and_(bits, builder.sub(builder.shl(lane.constant(1), count), lane.constant(1)))
                    builder.store(builder.add(builder.lshr(entries[c], lane.constant(STATE_AT)), low), state[c])
                    bits = builder.lshr(bits, count)
                    at = builder.add(at, count)
                builder.store(at, place)
                lane.store(word, out, loop.index)
            for c in range(4):
                lane.store(builder.load(state[c]), states, c)
            lane.store(builder.load(place), places)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 6), generate

    return chains


vector_chains = _vector_chains(LANES)
"""Steps of LANES lines. Addresses: table uint64[], payload, states uint64[4, LANES] and places uint64[LANES] (bit
positions) in and out, out uint64[steps, LANES] (the fields of a step's four elements, 16 bits each);
then the number of steps."""


@njit(inline="always")
def _step(table, state, bits):  # type: ignore[no-untyped-def]
    """(entry, next state, bits after it, their number)."""
    entry = load64(table + (state << np.uint64(3)))
    count = (entry >> U16) & U15
    return entry, (entry >> U24) + low_bits(bits, count), bits >> count, count


@njit(cache=True)
def word_chains(table, payload, states, places, out, steps):  # type: ignore[no-untyped-def]
    """`vector_chains` without vectors: two lines at a time."""
    mask = np.uint64(FIELD_MASK)
    row = np.uint64(8 * LANES)
    for lane in range(0, LANES, 2):
        a, b = np.uint64(8 * lane), np.uint64(8 * lane + 8)
        x0, x1 = load64(states + a), load64(states + row + a)
        x2, x3 = load64(states + row + row + a), load64(states + row + row + row + a)
        y0, y1 = load64(states + b), load64(states + row + b)
        y2, y3 = load64(states + row + row + b), load64(states + row + row + row + b)
        p, q = load64(places + a), load64(places + b)
        at = out + a
        for _ in range(steps):
            v, w = window(payload, p), window(payload, q)
            e0, x0, v, n0 = _step(table, x0, v)
            f0, y0, w, m0 = _step(table, y0, w)
            e1, x1, v, n1 = _step(table, x1, v)
            f1, y1, w, m1 = _step(table, y1, w)
            e2, x2, v, n2 = _step(table, x2, v)
            f2, y2, w, m2 = _step(table, y2, w)
            e3, x3, v, n3 = _step(table, x3, v)
            f3, y3, w, m3 = _step(table, y3, w)
            p += n0 + n1 + n2 + n3
            q += m0 + m1 + m2 + m3
            low = (e0 & mask) | ((e1 & mask) << U16)
            word = low | ((e2 & mask) << U32) | (e3 << U48)
            store64(at, word)
            low = (f0 & mask) | ((f1 & mask) << U16)
            word = low | ((f2 & mask) << U32) | (f3 << U48)
            store64(at + np.uint64(8), word)
            at += row
        store64(states + a, x0)
        store64(states + row + a, x1)
        store64(states + row + row + a, x2)
        store64(states + row + row + row + a, x3)
        store64(states + b, y0)
        store64(states + row + b, y1)
        store64(states + row + row + b, y2)
        store64(states + row + row + row + b, y3)
        store64(places + a, p)
        store64(places + b, q)
