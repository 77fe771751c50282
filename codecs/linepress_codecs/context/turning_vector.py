"""Decoding of lines of 16-bit elements under turning channels, sixteen side by side; see `chains` and `vector`.

Two kinds of lines, as there: of neighbouring channels without context in the line, in batches that begin at the same
channel, so that only the position differs from lane to lane; and of one channel, each lane with its own parameters. A
mean is one gather (sine and cosine of a phase in one word) and two multiplications in every lane.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from linepress_codecs.context.cells import SLOPE_SHIFT
from linepress_codecs.context.chains import _Model, _Words
from linepress_codecs.context.rows import NEAR, SMALL_CELLS
from linepress_codecs.context.turning import (
    CELL_FIRST,
    CELL_NEXT,
    CLASS_FIRST,
    CLASS_NEXT,
    COARSER,
    CROSS,
    OWN,
    QUARTER,
    SINE_BITS,
    SLOPE,
    STEP,
    wave,
)
from linepress_codecs.context.turning_kernels import HALF_STEP, TO_INDEX
from linepress_codecs.context.vector import BLOCK_LINES, CODED, MOST_RAW_BITS, MOST_WORDS, _by_channel
from linepress_codecs.intrinsics import count_ones, deposit, store64
from linepress_codecs.tans.chains import LANES
from linepress_codecs.tans.kernels import U0, U64
from linepress_codecs.tans.words import head_of, plain_line, window

U3 = np.uint64(3)
COLUMNS = 12
(
    OWN_AT,
    CROSS_AT,
    STEP_AT,
    SHIFT_AT,
    HALF_AT,
    ROW_AT,
    CELL_AT,
    LATER_AT,
    NEXT_ROW_AT,
    NEXT_CELL_AT,
    SLOPE_AT,
    FINER_AT,
) = range(COLUMNS)
"""Columns of `turning_constants`; LATER is filled in by the line's geometry."""


@lru_cache(maxsize=1)
def turns() -> NDArray[np.int64]:
    """int64[4 QUARTER]: cosine << 32 | sine (32 bits) of each phase, for one gather a mean."""
    sines = wave().astype(np.int64)
    both = (sines[QUARTER:] << 32) | (sines[: 4 * QUARTER] & 0xFFFFFFFF)
    return np.ascontiguousarray(both)


def turning_constants(parameters: NDArray[np.int64], mantissa: int, bias: int) -> NDArray[np.int64]:
    """What the kernels need of a channel, int64[n_channels + 1, COLUMNS]."""
    p = parameters
    out = np.zeros((len(p), COLUMNS), np.int64)
    out[:, OWN_AT], out[:, CROSS_AT], out[:, STEP_AT] = p[:, OWN], p[:, CROSS], p[:, STEP]
    out[:, SHIFT_AT] = SINE_BITS + p[:, COARSER]
    out[:, HALF_AT] = 1 << (out[:, SHIFT_AT] - 1)
    for row, cell, c, q in (
        (ROW_AT, CELL_AT, CLASS_FIRST, CELL_FIRST),
        (NEXT_ROW_AT, NEXT_CELL_AT, CLASS_NEXT, CELL_NEXT),
    ):
        out[:, row] = 1 + p[:, c] * (NEAR + 1)
        out[:, cell] = (p[:, q] + bias) << mantissa
    out[:, SLOPE_AT] = p[:, SLOPE]
    out[:, FINER_AT] = p[:, CELL_FIRST] - p[:, CELL_NEXT]
    return out


class _Turning(_Model):
    """Vector code of turning means; ``turns`` is the address of `turns`."""

    def __init__(self, builder: Any, mantissa: Any, top: Any, table: Any) -> None:
        super().__init__(builder, mantissa, top)
        self.turns = self.splat(table)

    def short(self, value: Any) -> Any:
        """The value, which fits 32 bits, so that a multiplication is one of 32 bits."""
        return self.builder.ashr(self.builder.shl(value, self.constant(32)), self.constant(32))

    def mean(self, phase: Any, own: Any, cross: Any, shift: Any, half: Any) -> Any:
        """Mean in eighths of a first cell at a phase in 2^-32 turns."""
        b = self.builder
        turned = b.and_(b.add(phase, self.constant(int(HALF_STEP))), self.constant(0xFFFFFFFF))
        index = b.lshr(turned, self.constant(int(TO_INDEX)))
        both = self.gather(b.add(self.turns, b.shl(index, self.constant(3))), 8)
        cosine, sine = b.ashr(both, self.constant(32)), self.short(both)
        total = b.add(b.mul(self.short(own), cosine), b.mul(self.short(cross), sine))
        return b.ashr(b.add(total, half), shift)

    def row(self, prediction: Any, first_row: Any, precision: Any) -> tuple[Any, Any, Any]:
        """(row in entries, shift, mirror) of a prediction."""
        b = self.builder
        mirror = self.sign(prediction)
        cells = b.lshr(b.add(self.negate(prediction, mirror), self.constant(4)), self.constant(3))
        most = self.constant(NEAR)
        near = b.select(b.icmp_unsigned("<", cells, most), cells, most)
        return b.shl(b.add(first_row, near), precision), b.sub(cells, near), mirror

    def window(self, payloads: Any, at: Any) -> Any:
        b = self.builder
        bits = self.gather(b.add(payloads, b.lshr(at, self.constant(3))), 1)
        return b.lshr(bits, b.and_(at, self.constant(7)))


def _row_chains(streams: int) -> Any:
    @intrinsic
    def chains(  # type: ignore[no-untyped-def]
        typing_context, table, payload, states, places, elements, positions, out, masks, words, mantissa, top,
        precision, wheel,
    ):  # fmt: skip
        del typing_context, table, payload, states, places, elements, positions, out, masks, words, mantissa, top
        del precision, wheel

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            (table, payload, states, places, elements, positions, out, masks, words, mantissa, top, precision,
             wheel) = arguments  # fmt: skip
            b, model = builder, _Turning(builder, mantissa, top, wheel)
            tables, payloads, r = model.splat(table), model.splat(payload), model.splat(precision)
            state = [cgutils.alloca_once_value(b, model.load(states, c)) for c in range(streams)]
            place = cgutils.alloca_once_value(b, model.load(places))
            odd = cgutils.alloca_once_value(b, model.constant(0))
            position = model.load(positions)
            word64 = ir.IntType(64)

            def column(j: Any, k: int) -> Any:
                at = b.add(b.mul(j, ir.Constant(word64, 8 * COLUMNS)), ir.Constant(word64, 8 * k))
                pointer = b.inttoptr(b.add(elements, at), ir.PointerType())
                return model.splat(b.load(pointer, align=8, typ=word64))

            with cgutils.for_range(b, words, intp=word64) as loop:
                at = b.load(place)
                bits = model.window(payloads, at)
                seen, both = b.load(odd), _Words(model)
                for c in range(4):
                    j = b.add(b.mul(loop.index, ir.Constant(word64, 4)), ir.Constant(word64, c))
                    token = b.and_(b.add(position, column(j, LATER_AT)), model.constant(0xFFFFFFFF))
                    phase = b.mul(token, column(j, STEP_AT))
                    mean = model.mean(
                        phase, column(j, OWN_AT), column(j, CROSS_AT), column(j, SHIFT_AT), column(j, HALF_AT)
                    )
                    row, shift, mirror = model.row(mean, column(j, ROW_AT), r)
                    entry = model.entry(tables, row, b.load(state[c % streams]))
                    symbol, following, bits, count = model.step(entry, bits)
                    b.store(following, state[c % streams])
                    at = b.add(at, count)
                    value, mask, strange = model.value(model.cell(symbol, shift, mirror), column(j, CELL_AT))
                    seen = b.or_(seen, strange)
                    both.take(c, value, mask)
                b.store(at, place)
                b.store(seen, odd)
                model.store(both.words[0], out, loop.index)
                model.store(both.words[1], masks, loop.index)
            for c in range(streams):
                model.store(b.load(state[c]), states, c)
            model.store(b.load(place), places, 0)
            model.store(b.load(odd), places, 1)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 13), generate

    return chains


def _channel_chains(streams: int) -> Any:
    @intrinsic
    def chains(  # type: ignore[no-untyped-def]
        typing_context, table, payload, states, places, parameters, positions, out, masks, words, mantissa, top,
        precision, wheel,
    ):  # fmt: skip
        del typing_context, table, payload, states, places, parameters, positions, out, masks, words, mantissa, top
        del precision, wheel

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            (table, payload, states, places, parameters, positions, out, masks, words, mantissa, top, precision,
             wheel) = arguments  # fmt: skip
            b, model = builder, _Turning(builder, mantissa, top, wheel)
            tables, payloads, r = model.splat(table), model.splat(payload), model.splat(precision)
            state = [cgutils.alloca_once_value(b, model.load(states, c)) for c in range(streams)]
            place = cgutils.alloca_once_value(b, model.load(places))
            odd = cgutils.alloca_once_value(b, model.constant(0))
            own, cross, step, shift, half, first_row, first_cell, _, next_row, next_cell, slope, widen = (
                model.load(parameters, k) for k in range(COLUMNS)
            )
            slope = model.short(slope)
            word64 = ir.IntType(64)
            a_stream = b.udiv(words, ir.Constant(word64, streams))
            position = model.load(positions)
            phases, means, guess = [], [], []
            for c in range(streams):
                ahead = b.mul(b.mul(a_stream, ir.Constant(word64, 4)), ir.Constant(word64, c))
                token = b.and_(b.add(position, model.splat(ahead)), model.constant(0xFFFFFFFF))
                phase = b.mul(token, step)
                mean = model.mean(phase, own, cross, shift, half)
                phases.append(cgutils.alloca_once_value(b, phase))
                guess.append(cgutils.alloca_once_value(b, mean))
                means.append(cgutils.alloca_once_value(b, b.shl(mean, widen)))
            row = cgutils.alloca_once_value(b, first_row)
            cell = cgutils.alloca_once_value(b, first_cell)
            finer = cgutils.alloca_once_value(b, widen)
            with cgutils.for_range(b, a_stream, intp=word64) as loop:
                seen, both = b.load(odd), [_Words(model) for _ in range(streams)]
                for t in range(4):
                    at = b.load(place)
                    bits = model.window(payloads, at)
                    for c in range(streams):
                        start, cells, mirror = model.row(b.load(guess[c]), b.load(row), r)
                        entry = model.entry(tables, start, b.load(state[c]))
                        symbol, following, bits, count = model.step(entry, bits)
                        b.store(following, state[c])
                        at = b.add(at, count)
                        index = model.cell(symbol, cells, mirror)
                        value, mask, strange = model.value(index, b.load(cell))
                        seen = b.or_(seen, strange)
                        both[c].take(t, value, mask)
                        sign = model.sign(index)
                        middle = b.sub(b.shl(model.negate(index, sign), model.constant(3)),
                                       model.constant(8 * SMALL_CELLS - 4))  # fmt: skip
                        middle = b.shl(model.negate(model.larger(middle, 0), sign), b.load(finer))
                        off = model.short(b.sub(middle, b.load(means[c])))
                        off = b.select(model.escape(index), model.constant(0), off)
                        phase = b.add(b.load(phases[c]), step)
                        mean = b.shl(model.mean(phase, own, cross, shift, half), widen)
                        add = b.ashr(b.add(b.mul(off, slope), model.constant(4)), model.constant(SLOPE_SHIFT))
                        b.store(phase, phases[c])
                        b.store(mean, means[c])
                        b.store(b.add(mean, add), guess[c])
                    b.store(at, place)
                    b.store(next_row, row)
                    b.store(next_cell, cell)
                    b.store(model.constant(0), finer)
                b.store(seen, odd)
                for c in range(streams):
                    word = b.add(loop.index, b.mul(a_stream, ir.Constant(word64, c)))
                    model.store(both[c].words[0], out, word)
                    model.store(both[c].words[1], masks, word)
            for c in range(streams):
                model.store(b.load(state[c]), states, c)
            model.store(b.load(place), places, 0)
            model.store(b.load(odd), places, 1)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 13), generate

    return chains


row_chains_2, row_chains_4 = _row_chains(2), _row_chains(4)
channel_chains_2, channel_chains_4 = _channel_chains(2), _channel_chains(4)


@njit(cache=True)
def _elements_of(channel, ahead, offset, later, span, constants, elements):  # type: ignore[no-untyped-def]
    """Constants of each element of a line that begins at ``channel``, with the positions it lies behind the first."""
    last = constants.shape[0] - 1
    for j in range(elements.shape[0]):
        c, behind = channel + offset[j], later[j]
        if ahead + offset[j] >= span:
            c -= span
            behind += 1
        elements[j] = constants[min(c, last)]
        elements[j, LATER_AT] = behind


def _decoder(streams: int, rows: bool) -> Any:
    """The kernel of lines of neighbouring channels (``rows``) or of one channel, in two or four streams."""

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, starts, bits, channel, position, constants, offset, later, span, precision, mantissa, top, table_in,
        turns_in, out, left_over,
    ):  # fmt: skip
        """Lines into out uint8[n, line_bytes]; those left to others into left_over int64[n], their number returned.

        As `vector.decode_rows` and `decode_channels`, with position uint32[n], constants of `turning_constants` and
        later int64[elements] of `order.LineOrder`.
        """
        payload, target = np.uint64(bytes_in.ctypes.data), np.uint64(out.ctypes.data)
        table, wheel = np.uint64(table_in.ctypes.data), np.uint64(turns_in.ctypes.data)
        n_words = out.shape[1] >> 3
        line_bits = np.uint64(8 * out.shape[1])
        r = np.uint64(precision)
        mask = (np.uint64(1) << r) - np.uint64(1)
        flush = np.uint64(streams) * r
        reach = line_bits + np.uint64(4 * n_words + streams + 2) * r + np.uint64(192)
        n_bits = np.uint64(8 * bytes_in.shape[0])
        last = n_bits - reach if n_bits >= reach else U0
        states, places = np.zeros((4, LANES), np.uint64), np.zeros((2, LANES), np.uint64)
        values, masks = np.zeros((MOST_WORDS, LANES), np.uint64), np.zeros((MOST_WORDS, LANES), np.uint64)
        positions = np.zeros(LANES, np.int64)
        elements = np.zeros((4 * n_words if rows else COLUMNS, COLUMNS if rows else LANES), np.int64)
        elements_at, positions_at = np.uint64(elements.ctypes.data), np.uint64(positions.ctypes.data)
        states_at, places_at = np.uint64(states.ctypes.data), np.uint64(places.ctypes.data)
        values_at, masks_at = np.uint64(values.ctypes.data), np.uint64(masks.ctypes.data)
        words64 = np.uint64(n_words)
        index = np.zeros(LANES, np.int64)
        order = np.zeros(BLOCK_LINES, np.int64)
        counts = np.zeros(constants.shape[0] + 1, np.int64)
        n = starts.shape[0]
        left = 0
        here = np.int64(-1)
        for block in range(0, n, BLOCK_LINES):
            size_of_block = min(BLOCK_LINES, n - block)
            if rows:
                _by_channel(channel[block : block + size_of_block], order, counts)
            i = 0
            while i < size_of_block:
                lanes = 0
                while lanes < LANES and i < size_of_block:
                    k = block + (order[i] if rows else i)
                    if rows and channel[k] != here:
                        if lanes > 0:
                            break
                        here = channel[k]
                        _elements_of(here, here % span, offset, later, span, constants, elements)
                    i += 1
                    start, size = starts[k], np.uint64(bits[k])
                    if n_bits < reach or start > last:
                        left_over[left] = k
                        left += 1
                        continue
                    mode, x, at = head_of(payload, start, r, table_in)
                    if mode < CODED:
                        at = plain_line(payload, mode, x, at, r, n_words, target + (np.uint64(k) * (line_bits >> U3)))
                    if mode != CODED or size >= line_bits:
                        if mode >= CODED or at != start + size:
                            left_over[left] = k
                            left += 1
                        continue
                    w = window(payload, at)
                    states[0, lanes] = x
                    for c in range(1, streams):
                        states[c, lanes] = w & mask
                        w >>= r
                    places[0, lanes] = at + flush - r
                    positions[lanes] = position[k]
                    if not rows:
                        for c in range(COLUMNS):
                            elements[c, lanes] = constants[channel[k], c]
                    index[lanes] = k
                    lanes += 1
                if lanes == 0:
                    continue
                for z in range(lanes, LANES):
                    places[0, z] = places[0, lanes - 1]
                    positions[z] = positions[lanes - 1]
                    for c in range(streams):
                        states[c, z] = states[c, lanes - 1]
                    if not rows:
                        for c in range(COLUMNS):
                            elements[c, z] = elements[c, lanes - 1]
                if rows:
                    if streams == 2:
                        row_chains_2(table, payload, states_at, places_at, elements_at, positions_at, values_at,
                                     masks_at, words64, mantissa, top, r, wheel)  # fmt: skip
                    else:
                        row_chains_4(table, payload, states_at, places_at, elements_at, positions_at, values_at,
                                     masks_at, words64, mantissa, top, r, wheel)  # fmt: skip
                elif streams == 2:
                    channel_chains_2(table, payload, states_at, places_at, elements_at, positions_at, values_at,
                                     masks_at, words64, mantissa, top, r, wheel)  # fmt: skip
                else:
                    channel_chains_4(table, payload, states_at, places_at, elements_at, positions_at, values_at,
                                     masks_at, words64, mantissa, top, r, wheel)  # fmt: skip
                for z in range(lanes):
                    k, at = index[z], places[0, z]
                    end = starts[k] + np.uint64(bits[k])
                    to = target + np.uint64(k) * (line_bits >> U3)
                    if np.int64(places[1, z]) < 0 or at > end:
                        left_over[left] = k
                        left += 1
                        continue
                    ends = states[0, z]
                    for c in range(1, streams):
                        ends |= states[c, z] << (np.uint64(c) * r)
                    first = ends | (window(payload, at) << flush)
                    raw, p, most = at - flush, U0, U0
                    for t in range(n_words):
                        free = masks[t, z]
                        count = count_ones(free)
                        most = max(most, count)
                        if p >= flush:
                            y = window(payload, raw + p)
                        else:
                            y = first >> p
                            if p + count > U64:
                                y |= window(payload, raw + U64) << (U64 - p)
                        store64(to + (np.uint64(t) << U3), values[t, z] | deposit(y, free))
                        p += count
                    if p < flush or raw + p != end or most > MOST_RAW_BITS:
                        left_over[left] = k
                        left += 1
        return left

    return decode


decode_rows = {2: _decoder(2, rows=True), 4: _decoder(4, rows=True)}
decode_channels = {2: _decoder(2, rows=False), 4: _decoder(4, rows=False)}
