"""What an encoder does with the elements of many lines at once: their symbols, and the steps back over them.

Elements become symbols a block at a time, by arithmetic in the lanes of a vector. The steps of a line wait for one
another (entry, number of bits, next state), so `LANES` lines go side by side, a line in each lane, its four states in
four registers, tables by gathers; or, where registers hold one word, a line's four states at a time.

An entry (`Machine.encode_steps`) is one uint32: the next state is at ``(x >> count) + (entry & 0x7FFF)`` of the
states, which are taken to begin `FIND_BIAS` before their array, and ``count``, the bits to write, is
``((x << 15) + entry) >> 28``. Lines are written from values and their numbers of bits, [rows, LANES] each: row 0 is a
line's head (the states and the mode's bits), the others the eight elements of two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from linepress_codecs.intrinsics import (
    Lanes,
    load16,
    load32,
    load64,
    loop_over,
    operation,
    store64,
    variable,
)
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, U0, U1, U15, U16, U63, ZERO, low_bits
from linepress_codecs.tans.tables import COUNT_AT, FIND_BITS

Gather = Callable[[Lanes, Any, Any, int], Any]
"""(lanes, address, index of each lane, bytes an index counts) -> what lies there."""
Costs = Callable[[Any, Any, Any], Any]
"""(builder, address of uint64[256], symbols) -> the sum of their numbers."""
LANES = 16
"""Lines side by side."""
BLOCK_WORDS = 4
"""Words whose elements become symbols together; every line has a multiple of them."""
CHUNK = 16
"""Symbols looked at together; every line has a multiple of them."""
PAIR: Any = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
COSTS = 8
"""Costs gathered together."""
SYMBOL_STRIDE = 128
"""Bytes from a line's symbols to the next line's."""
ROW_SHIFT = 8
U2, U8, U24, U28 = np.uint64(2), np.uint64(8), np.uint64(24), np.uint64(COUNT_AT)
BYTE, FIND = np.uint64(0xFF), np.uint64((1 << FIND_BITS) - 1)
LINE_ROW = np.uint64(8 * LANES)
"""Bytes of a row of numbers, one a line."""


def in_lanes(builder: Any, narrow: Any, take: Callable[[Lanes], None]) -> None:
    """``take`` in lanes of a block's elements, 8-bit ones if ``narrow``, 16-bit ones if not."""
    with builder.if_else(builder.icmp_unsigned("!=", narrow, ir.Constant(narrow.type, 0))) as (then, otherwise):
        with then:
            take(Lanes(builder, 8 * BLOCK_WORDS, 8))
        with otherwise:
            take(Lanes(builder, 4 * BLOCK_WORDS, 16))


def any_set(builder: Any, block: Any) -> Any:
    """Whether a bit of a block is set, as uint64."""
    whole = builder.bitcast(block, ir.IntType(64 * BLOCK_WORDS))
    return builder.zext(builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0)), ir.IntType(64))


def block_words(builder: Any) -> Lanes:
    """A block as the words it is."""
    return Lanes(builder, BLOCK_WORDS, 64)


@operation
def any_bit(typing_context, words, blocks):  # type: ignore[no-untyped-def]
    """1 if a bit of the blocks at an address is set, else 0."""
    del typing_context, words, blocks

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del context, signature
        words, blocks = arguments
        whole = block_words(builder)
        seen = variable(builder, whole.constant(0))
        with loop_over(builder, blocks, intp=ir.IntType(64)) as loop:
            builder.store(builder.or_(builder.load(seen), whole.load(words, loop.index)), seen)
        return any_set(builder, builder.load(seen))

    return types.uint64(types.uint64, types.uint64), generate


def _gather(lane: Lanes, address: Any, index: Any, size: int) -> Any:
    """`Lanes.gather` of any alignment."""
    return lane.gather(address, index, size, 1)


def _shuffled(builder: Any, a: Any, b: Any, which: Iterable[int]) -> Any:
    """Elements ``which`` of two vectors side by side."""
    places = list(which)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places))


def _costs_by(gather: Gather) -> Costs:
    """Costs by gathers."""

    def costs(builder: Any, cost: Any, symbols: Any) -> Any:
        lane, sums = Lanes(builder, COSTS, 64), []
        for at in range(0, symbols.type.count, COSTS):
            index = builder.zext(_shuffled(builder, symbols, symbols, range(at, at + COSTS)), lane.vector)
            sums.append(gather(lane, cost, index, 8))
        total, name = reduce(builder.add, sums), f"llvm.vector.reduce.add.v{COSTS}i64"
        kind = ir.FunctionType(ir.IntType(64), [lane.vector])
        return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [total])

    return costs


def _costs_by_words(builder: Any, cost: Any, symbols: Any) -> Any:
    """Costs by a load each, their places taken from words of eight symbols."""
    word, sums = ir.IntType(64), []
    words, base = symbols.type.count // 8, builder.inttoptr(cost, ir.PointerType())
    parts = builder.bitcast(symbols, ir.VectorType(word, words))
    for k in range(words):
        eight = builder.extract_element(parts, ir.Constant(ir.IntType(32), k))
        for j in range(8):
            index = builder.and_(builder.lshr(eight, ir.Constant(word, 8 * j)), ir.Constant(word, 0xFF))
            sums.append(builder.load(builder.gep(base, [index], source_etype=word), align=8, typ=word))
    return reduce(builder.add, sums)


def _line_symbols(costs: Costs) -> Any:
    @operation
    def line_symbols(typing_context, elements, symbols, blocks, cost, total, numbers):  # type: ignore[no-untyped-def]
        """Symbols (uint8) of the elements at an address: ``total`` with their costs, uint64[256] at the address
        ``cost``, which may be none, and whether any bit of an element is set. ``numbers``: `StaticTables.numbers`."""
        del typing_context, elements, symbols, blocks, cost, total

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            elements, symbols, blocks, cost, total, numbers = arguments
            narrow, top, magnitude, low, coded, flip, first, n, zero = (
                builder.extract_value(numbers, k) for k in range(len(signature.args[5]))
            )
            word, whole = ir.IntType(64), block_words(builder)
            none = ir.Constant(word, 0)
            added, seen = variable(builder, total), variable(builder, whole.constant(0))
            has_cost = builder.icmp_unsigned("!=", cost, none)
            with loop_over(builder, blocks, intp=word) as loop:

                def take(lane: Lanes) -> None:
                    u, byte = lane.load(elements, loop.index), Lanes(builder, lane.n, 8)
                    builder.store(builder.or_(builder.load(seen), builder.bitcast(u, whole.vector)), seen)
                    value = builder.lshr(builder.and_(u, lane.splat(magnitude)), lane.splat(low))
                    sign = builder.and_(builder.lshr(u, lane.splat(top)), lane.splat(coded))
                    value = builder.or_(builder.shl(value, lane.splat(coded)), sign)
                    place = builder.sub(builder.xor(value, lane.splat(flip)), lane.splat(first))
                    inside = builder.icmp_unsigned("<", place, lane.splat(n))
                    symbol = builder.select(inside, builder.add(place, lane.constant(FIRST)), lane.constant(0))
                    zeros = builder.icmp_unsigned("<", u, lane.splat(zero))
                    symbol = builder.select(zeros, lane.constant(ZERO), symbol)
                    symbol = builder.trunc(symbol, byte.vector) if lane.bits > 8 else symbol
                    byte.store(symbol, symbols, loop.index)
                    with builder.if_then(has_cost):
                        one = costs(builder, cost, symbol)
                        builder.store(builder.add(builder.load(added), one), added)

                in_lanes(builder, narrow, take)
            both = builder.load(added), any_set(builder, builder.load(seen))
            return context.make_tuple(builder, signature.return_type, both)

        return PAIR(*[types.uint64] * 5, numbers), generate

    return line_symbols


line_symbols, gathered_symbols = _line_symbols(_costs_by_words), _line_symbols(_costs_by(_gather))


@operation
def outside_chunk(typing_context, symbols, least, span):  # type: ignore[no-untyped-def]
    """A bit for each of CHUNK symbols at an address that is none of the ``span`` from ``least`` on."""
    del typing_context, symbols, least, span

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del context, signature
        symbols, least, span = arguments
        byte = Lanes(builder, CHUNK, 8)
        above = builder.sub(byte.load(symbols), byte.splat(least))
        bits = builder.bitcast(builder.icmp_unsigned(">=", above, byte.splat(span)), ir.IntType(CHUNK))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(*[types.uint64] * 3), generate


@operation
def line_masks(typing_context, symbols, masks, blocks, narrow, plain):  # type: ignore[no-untyped-def]
    """Which bits are raw in the elements whose symbols are at an address, 8-bit ones if ``narrow``: all of an escape,
    none of a zero, else those of the word ``plain``."""
    del typing_context, symbols, masks, blocks, narrow, plain

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del signature
        symbols, masks, blocks, narrow, plain = arguments
        with loop_over(builder, blocks, intp=ir.IntType(64)) as loop:

            def take(lane: Lanes) -> None:
                byte = Lanes(builder, lane.n, 8)
                symbol, mask = byte.load(symbols, loop.index), lane.splat(plain)
                for which, bits in ((ESCAPE, -1), (ZERO, 0)):
                    there = builder.icmp_unsigned("==", symbol, byte.constant(which))
                    mask = builder.select(there, lane.constant(bits), mask)
                lane.store(mask, masks, loop.index)

            in_lanes(builder, narrow, take)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 5), generate


@operation
def vector_steps(  # type: ignore[no-untyped-def]
    typing_context, entries, states, symbols, rows, raw, precision, steps, values, tops, counts, totals
):
    """Steps back of LANES lines from their last elements to their modes.

    Addresses: entries uint32[], states uint16[] (`FIND_BIAS` before the array), symbols
    uint8[LANES, SYMBOL_STRIDE], rows uint32[LANES] (of entries), raw uint64[LANES] (each line's first raw bits,
    its states at the start); the number of steps, even. Written: values, tops (what is above a value's 64 bits)
    and counts uint64[1 + steps / 2, LANES], totals uint64[LANES] (bits of a line's values).
    """
    del typing_context, entries, states, symbols, rows, raw, precision, steps, values, tops, counts, totals

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del signature
        entries, states, symbols, rows, raw, precision, steps, values, tops, counts, totals = arguments
        word = ir.IntType(64)
        lane, wide = Lanes(builder, LANES, 32), Lanes(builder, LANES, 64)
        one = ir.Constant(word, 1)
        lines = ir.Constant(lane.vector, [SYMBOL_STRIDE * i for i in range(LANES)])
        size = lane.splat(builder.shl(one, precision))
        mask = builder.sub(size, lane.constant(1))

        def step(x: Any, place: Any) -> tuple[Any, Any, Any]:
            entry = _gather(lane, entries, place, 4)
            count = builder.add(builder.shl(x, lane.constant(FIND_BITS)), entry)
            count = builder.lshr(count, lane.constant(COUNT_AT))
            at = builder.add(builder.lshr(x, count), builder.and_(entry, lane.constant((1 << FIND_BITS) - 1)))
            following = builder.and_(_gather(lane, states, at, 2), lane.constant(0xFFFF))
            return lane.low_bits(x, count), count, following

        def joined(low: Any, count: Any, high: Any) -> Any:
            return builder.or_(low, builder.shl(high, count))

        def widened(value: Any) -> Any:
            return builder.zext(value, wide.vector)

        row, first, state = lane.load(rows), wide.load(raw), []
        for c in range(4):
            part = builder.lshr(first, wide.splat(builder.mul(precision, ir.Constant(word, c))))
            begun = builder.or_(builder.and_(builder.trunc(part, lane.vector), mask), size)
            state.append(variable(builder, begun))
        total = variable(builder, lane.constant(0))

        def four(t: Any) -> tuple[Any, Any]:
            symbols_at = builder.add(symbols, builder.shl(t, ir.Constant(word, 2)))
            bytes_in, value, count = _gather(lane, symbols_at, lines, 1), [], []
            for c in range(4):
                symbol = builder.and_(builder.lshr(bytes_in, lane.constant(8 * c)), lane.constant(0xFF))
                v, n, x = step(builder.load(state[c]), builder.add(row, symbol))
                builder.store(x, state[c])
                value.append(v)
                count.append(n)
            low, low_count = joined(value[0], count[0], value[1]), builder.add(count[0], count[1])
            high, high_count = joined(value[2], count[2], value[3]), builder.add(count[2], count[3])
            both = joined(widened(low), widened(low_count), widened(high))
            return both, builder.add(low_count, high_count)

        pairs = builder.lshr(steps, one)
        with loop_over(builder, pairs, intp=word) as loop:
            to = builder.sub(pairs, loop.index)
            second = builder.sub(builder.shl(to, one), one)
            high, high_count = four(second)
            low, low_count = four(builder.sub(second, one))
            all_count = builder.add(low_count, high_count)
            builder.store(builder.add(builder.load(total), all_count), total)
            shift = widened(low_count)
            above = builder.lshr(builder.lshr(high, wide.constant(1)), builder.sub(wide.constant(63), shift))
            wide.store(joined(low, shift, high), values, to)
            wide.store(above, tops, to)
            wide.store(widened(all_count), counts, to)
        mode = builder.add(builder.lshr(row, lane.constant(ROW_SHIFT)), lane.constant(MODE_CODED - 1))
        head, head_count, first_state = step(builder.load(state[0]), mode)
        last = [widened(builder.sub(x, size)) for x in [first_state, *(builder.load(x) for x in state[1:])]]
        r = wide.splat(precision)
        rest = joined(last[1], r, joined(last[2], r, last[3]))
        wide.store(joined(last[0], r, joined(widened(head), widened(head_count), rest)), values)
        flush = builder.shl(precision, ir.Constant(word, 2))
        head_count = builder.add(widened(head_count), wide.splat(flush))
        wide.store(head_count, counts)
        wide.store(builder.add(head_count, widened(builder.load(total))), totals)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 11), generate


@njit(inline="always")
def step_back_entry(x, entry, states):  # type: ignore[no-untyped-def]
    """One encoder step from state ``x``: (bits to write, their number, next state)."""
    count = ((x << U15) + entry) >> U28
    return low_bits(x, count), count, np.uint64(load16(states + (((x >> count) + (entry & FIND)) << U1)))


@njit(inline="always")
def _entry(row, symbol):  # type: ignore[no-untyped-def]
    return np.uint64(load32(row + (symbol << U2)))


@njit(cache=True)
def word_steps(  # type: ignore[no-untyped-def]
    entries, states, symbols, rows, raw, precision, steps, values, tops, counts, totals
):  # fmt: skip
    """`vector_steps` without vectors."""
    size = U1 << precision
    mask = size - U1
    for lane in range(LANES):
        at = np.uint64(8 * lane)
        place = np.uint64(load32(rows + np.uint64(4 * lane)))
        row = entries + (place << U2)
        first = load64(raw + at)
        x0, x1 = size | (first & mask), size | ((first >> precision) & mask)
        first >>= precision + precision
        x2, x3 = size | (first & mask), size | ((first >> precision) & mask)
        from_symbols = symbols + np.uint64(SYMBOL_STRIDE * lane)
        total, high, high_count = U0, U0, U0
        for t in range(np.int64(steps) - 1, -1, -1):
            y = np.uint64(load32(from_symbols + (np.uint64(t) << U2)))
            v0, n0, x0 = step_back_entry(x0, _entry(row, y & BYTE), states)
            v1, n1, x1 = step_back_entry(x1, _entry(row, (y >> U8) & BYTE), states)
            v2, n2, x2 = step_back_entry(x2, _entry(row, (y >> U16) & BYTE), states)
            v3, n3, x3 = step_back_entry(x3, _entry(row, y >> U24), states)
            four, count = v0 | ((v1 | ((v2 | (v3 << n2)) << n1)) << n0), n0 + n1 + n2 + n3
            total += count
            if t & 1:
                high, high_count = four, count
            else:
                to = at + np.uint64(1 + (t >> 1)) * LINE_ROW
                store64(values + to, four | (high << count))
                store64(tops + to, (high >> U1) >> (U63 - count))
                store64(counts + to, count + high_count)
        mode = _entry(entries, (place >> np.uint64(ROW_SHIFT)) + np.uint64(MODE_CODED - 1))
        head, head_bits, x0 = step_back_entry(x0, mode, states)
        three = (x1 - size) | (((x2 - size) | ((x3 - size) << precision)) << precision)
        store64(values + at, (x0 - size) | ((head | (three << head_bits)) << precision))
        head_bits += precision << U2
        store64(counts + at, head_bits)
        store64(totals + at, head_bits + total)
