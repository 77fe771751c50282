"""The steps of coded lines with four streams, many lines at once: the loop in which a tANS decoder spends its time.

A line's steps wait for one another (table, position, table), so many lines go side by side: a line in each lane of
vector registers, its four states in four of them, the table and the windows of bits by gathers; or, where registers
hold one word, two lines of four states.

An entry of the decode table is one uint32, so that a step is one load: the field in its place in the element (bits 0
to 15), the bits to read (16 to 19), and the next state (20 to 31). Escapes and zero elements have a flag where a
field has none: bit 0 of 16-bit elements (raw in them), bit 8 of 8-bit ones; bit 15 then tells an escape.

What a loop writes of a line are its elements with raw fields zero, four bytes in a row of ``out``: two rows a step of
16-bit elements, flags among them; one of 8-bit ones, whose flags are a row of ``marks`` of their own (of each byte
bit 0 and, for an escape, bit 7).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from linepress_codecs.intrinsics import Lanes, load32, loop_over, operation, store32, store64, variable
from linepress_codecs.tans.kernels import U15, U16
from linepress_codecs.tans.words import window

LANES = 16
"""Lines side by side. Arrays of the loops are [rows, lanes]."""
U2, U4, U8, U20 = (np.uint64(i) for i in (2, 4, 8, 20))
FIELD_MASK, BITS_AT, STATE_AT, ESCAPE_FLAG = 0xFFFF, 16, 20, 1 << 15
FIELDS, MARKS = 0x00FF00FF, 0xFF00FF00
"""Of two entries of 8-bit elements side by side."""
ONE_FIELDS, ONE_MARKS = np.uint64(FIELDS), np.uint64(MARKS)

LOW_BITS = (np.uint64(1) << np.arange(16, dtype=np.uint64)) - np.uint64(1)
"""By their number: without BMI2 a load costs less than a shift."""


def special_flag(width: int) -> int:
    """The bit that marks an escape or a zero element of ``width`` bits among fields."""
    return 1 if width == 16 else 1 << 8


class _Steps:
    """Vector code of the steps of so many lines."""

    def __init__(self, lane: Lanes, table: Any, payload: Any, states: Any, rows: Any, places: Any) -> None:
        builder = lane.builder
        self.builder, self.lane, self.table, self.payload = builder, lane, table, payload
        self.row = lane.load(rows)
        # Variables of a loop are allocas here; LLVM makes registers of them.
        self.state = [variable(builder, lane.load(states, c)) for c in range(4)]
        self.place, self.seen = variable(builder, lane.load(places)), variable(builder, lane.constant(0))

    def step(self) -> list[Any]:
        """Entries of the next four elements; states and places behind them."""
        b, lane = self.builder, self.lane
        entries = [lane.gather(self.table, b.add(b.load(x), self.row), 4, 4) for x in self.state]
        at = b.load(self.place)
        for c in range(4):
            if c % 2 == 0:  # 25 bits hold two steps; loads of 32 bits fill a register with as many lines as states do
                bits = lane.window(self.payload, at)
            count = b.and_(b.lshr(entries[c], lane.constant(BITS_AT)), lane.constant(15))
            following = b.or_(b.lshr(entries[c], lane.constant(STATE_AT)), lane.low_bits(bits, count))
            b.store(following, self.state[c])
            bits = b.lshr(bits, count)
            at = b.add(at, count)
        b.store(at, self.place)
        return entries

    def pair(self, first: Any, second: Any) -> Any:
        """The low halves of two entries side by side."""
        b, lane = self.builder, self.lane
        return b.or_(b.and_(first, lane.constant(FIELD_MASK)), b.shl(second, lane.constant(16)))

    def see(self, flags: Any) -> None:
        self.builder.store(self.builder.or_(self.builder.load(self.seen), flags), self.seen)

    def wide(self, t: Any, out: Any) -> None:
        """A step of 16-bit elements."""
        b, entries, word = self.builder, self.step(), ir.IntType(64)
        first = b.mul(t, ir.Constant(word, 2))
        for half in range(2):
            both = self.pair(entries[2 * half], entries[2 * half + 1])
            self.see(both)
            self.lane.store(both, out, b.add(first, ir.Constant(word, half)))

    def narrow(self, t: Any, out: Any, marks: Any) -> None:
        """A step of 8-bit elements."""
        b, lane, entries, eight = self.builder, self.lane, self.step(), self.lane.constant(8)
        even, odd = self.pair(entries[0], entries[2]), self.pair(entries[1], entries[3])
        fields, flags = lane.constant(FIELDS), lane.constant(MARKS)
        lane.store(b.or_(b.and_(even, fields), b.and_(b.shl(odd, eight), flags)), out, t)
        both = b.or_(b.and_(b.lshr(even, eight), fields), b.and_(odd, flags))
        lane.store(both, marks, t)
        self.see(both)

    def end(self, precision: Any, ends: Any, places: Any, odd: Any) -> None:
        """What is left behind the last step."""
        b, lane = self.builder, self.lane
        long = Lanes(b, lane.n, 64)
        bits = long.splat(precision)
        first = None
        for variable_ in reversed(self.state):
            state = b.zext(b.load(variable_), long.vector)
            first = state if first is None else b.or_(b.shl(first, bits), state)
        long.store(first, ends)
        lane.store(b.load(self.place), places)
        lane.store(b.load(self.seen), odd)


def vector_chains(lanes: int) -> Any:
    """The loop of so many lines in lanes of vector registers."""

    @operation
    def chains(  # type: ignore[no-untyped-def]
        typing_context, table, payload, states, rows, places, out, marks, odd, ends, steps, precision, narrow
    ):
        """Steps of all the lines.

        Addresses: table uint32[], payload, states uint32[4, lanes], places uint32[lanes] (bit positions) in and out,
        rows uint32[lanes] (of the table, in entries), out and marks uint32[rows, lanes], odd uint32[lanes] (the flags
        of a line, or-ed), ends uint64[lanes] (a line's last states side by side); then the number of steps, the
        precision and whether elements have 8 bits.
        """
        del typing_context, table, payload, states, rows, places, out, marks, odd, ends, steps, precision, narrow

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            table, payload, states, rows, places, out, marks, odd, ends, steps, precision, narrow = arguments
            word = ir.IntType(64)
            code = _Steps(Lanes(builder, lanes, 32), table, payload, states, rows, places)
            with builder.if_else(narrow) as (bytes_, halves):
                with bytes_, loop_over(builder, steps, intp=word) as loop:
                    code.narrow(loop.index, out, marks)
                with halves, loop_over(builder, steps, intp=word) as loop:
                    code.wide(loop.index, out)
            code.end(precision, ends, places, odd)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 11, types.boolean), generate

    return chains


@njit(inline="always")
def _step(table, state, bits):  # type: ignore[no-untyped-def]
    """(entry, next state, bits after it, their number)."""
    entry = np.uint64(load32(table + (state << U2)))
    count = (entry >> U16) & U15
    return entry, (entry >> U20) + (bits & LOW_BITS[count]), bits >> count, count


@njit(inline="always")
def _put(at, mark, seen, row, e0, e1, e2, e3, narrow):  # type: ignore[no-untyped-def]
    """Store the elements of a step; returns the flags seen."""
    mask = np.uint64(FIELD_MASK)
    if narrow:
        even, odd = (e0 & mask) | (e2 << U16), (e1 & mask) | (e3 << U16)
        flags = np.uint32(((even >> U8) & ONE_FIELDS) | (odd & ONE_MARKS))
        store32(at, np.uint32((even & ONE_FIELDS) | ((odd << U8) & ONE_MARKS)))
        store32(mark, flags)
        return np.uint32(seen | flags)
    low, high = np.uint32((e0 & mask) | (e1 << U16)), np.uint32((e2 & mask) | (e3 << U16))
    store32(at, low)
    store32(at + row, high)
    return np.uint32(seen | low | high)


@njit(cache=True)
def word_chains(  # type: ignore[no-untyped-def]
    table, payload, states, rows, places, out, marks, odd, ends, steps, precision, narrow
):
    """`vector_chains` of LANES lines without vectors: two lines at a time."""
    row = np.uint64(4 * LANES)
    for lane in range(0, LANES, 2):
        a, b = np.uint64(4 * lane), np.uint64(4 * lane + 4)
        s = table + (np.uint64(load32(rows + a)) << U2)
        t = table + (np.uint64(load32(rows + b)) << U2)
        x0, x1 = np.uint64(load32(states + a)), np.uint64(load32(states + row + a))
        x2, x3 = np.uint64(load32(states + row + row + a)), np.uint64(load32(states + row + row + row + a))
        y0, y1 = np.uint64(load32(states + b)), np.uint64(load32(states + row + b))
        y2, y3 = np.uint64(load32(states + row + row + b)), np.uint64(load32(states + row + row + row + b))
        p, q = np.uint64(load32(places + a)), np.uint64(load32(places + b))
        at, mark = out + a, marks + a
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
            seen_v = _put(at, mark, seen_v, row, e0, e1, e2, e3, narrow)
            seen_w = _put(at + U4, mark + U4, seen_w, row, f0, f1, f2, f3, narrow)
            at += row if narrow else row + row
            mark += row
        store32(odd + a, seen_v)
        store32(odd + b, seen_w)
        store64(ends + a + a, x0 | (x1 << precision) | ((x2 | (x3 << precision)) << (precision + precision)))
        store64(ends + b + b, y0 | (y1 << precision) | ((y2 | (y3 << precision)) << (precision + precision)))
        store32(places + a, np.uint32(p))
        store32(places + b, np.uint32(q))
