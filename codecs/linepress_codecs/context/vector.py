"""Decoding of lines of 16-bit elements under the channel model, many at once; see `chains`.

As in `tans.decode`, a line is taken only where everything it can make the loop load lies in the payload; others, and
lines with odd elements, are named and left to the general decoders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.context.cells import (
    CELL_FIRST,
    CELL_NEXT,
    CLASS_FIRST,
    CLASS_NEXT,
    MEAN_FIRST,
    SLOPE,
    SLOPE_SHIFT,
)
from linepress_codecs.context.chains import (
    SHIFT_FROM,
    channel_chains_2,
    channel_chains_4,
    row_chains_2,
    row_chains_4,
    turning_channel_chains_2,
    turning_channel_chains_4,
    turning_row_chains_2,
    turning_row_chains_4,
)
from linepress_codecs.context.rows import NEAR
from linepress_codecs.context.turning import CELL_FIRST as TURNING_CELL
from linepress_codecs.context.turning import CLASS_FIRST as TURNING_CLASS
from linepress_codecs.context.turning import COARSER, CROSS, OWN, QUARTER, SINE_BITS, STEP
from linepress_codecs.intrinsics import count_ones, deposit, store64
from linepress_codecs.tans.chains import LANES
from linepress_codecs.tans.kernels import MODE_CODED, U0, U64
from linepress_codecs.tans.words import head_of, plain_line, window

U3 = np.uint64(3)
_INDEX_BITS = (4 * QUARTER).bit_length() - 1
HALF_STEP, TO_INDEX = np.uint32(1 << (31 - _INDEX_BITS)), np.uint32(32 - _INDEX_BITS)
CODED = np.uint64(MODE_CODED)
MOST_WORDS = 32
BLOCK_LINES = 4096
"""Lines sorted by their first channel at a time, so that what they write stays in a core's cache."""
STREAMS = (2, 4)
SLOPE_OF, OFFSET_OF, NEXT_ROW, FIRST_ROW, WIDEN, MEAN, FIRST_CELL, NEXT_CELL = range(8)
"""Columns of `channel_constants`."""
ROW_CELL = 3
"""Column of the cell in `row_constants`."""


def channel_constants(parameters: NDArray[np.int32]) -> NDArray[np.int64]:
    """Parameters of `channel_chains`, int64[n_channels + 1, 8], before the mantissa and bias of the cells."""
    p = parameters.astype(np.int64)
    widen = p[:, CELL_FIRST] - p[:, CELL_NEXT]
    mean = p[:, MEAN_FIRST] << widen
    offset = (mean << SLOPE_SHIFT) - p[:, SLOPE] * mean + (1 << (SLOPE_SHIFT - 1))
    first, following = (1 + p[:, c] * (NEAR + 1) for c in (CLASS_FIRST, CLASS_NEXT))
    cells = p[:, CELL_FIRST], p[:, CELL_NEXT]
    return np.stack([p[:, SLOPE], offset, following, first, widen, p[:, MEAN_FIRST], *cells], axis=1)


def row_constants(parameters: NDArray[np.int32], precision: int) -> NDArray[np.int64]:
    """What `row_chains` needs of an element of each channel, int64[n_channels + 1, 4], before mantissa and bias."""
    p = parameters.astype(np.int64)
    mean = p[:, MEAN_FIRST]
    mirror = mean >> 63
    cells = ((mean ^ mirror) - mirror + 4) >> 3
    near = np.minimum(cells, NEAR)
    row = (1 + p[:, CLASS_FIRST] * (NEAR + 1) + near) << precision
    return np.stack([row, cells - near, mirror, p[:, CELL_FIRST]], axis=1)


@njit(cache=True)
def _by_channel(channel, order, counts):  # type: ignore[no-untyped-def]
    """Lines in the order of their first channels, those of one channel as they come; counts int64[n_channels + 2]."""
    for c in range(counts.shape[0]):
        counts[c] = 0
    for i in range(channel.shape[0]):
        counts[channel[i] + 1] += 1
    for c in range(1, counts.shape[0]):
        counts[c] += counts[c - 1]
    for i in range(channel.shape[0]):
        order[counts[channel[i]]] = i
        counts[channel[i]] += 1


@njit(cache=True)
def _elements_of(channel, ahead, offset, span, constants, elements):  # type: ignore[no-untyped-def]
    """Constants of each element of a line that begins at ``channel``."""
    last = constants.shape[0] - 1
    for j in range(elements.shape[0]):
        c = channel + offset[j]
        if ahead + offset[j] >= span:
            c -= span
        for k in range(elements.shape[1]):
            elements[j, k] = constants[min(c, last), k]


@njit(inline="always")
def turn(own, cross, step, coarser, position, sines):  # type: ignore[no-untyped-def]
    """`turning_kernels.turned` in 32 bits, which hold every sum (`turning.MOST_MEAN`)."""
    index = np.uint32(np.uint32(position * np.uint32(step)) + HALF_STEP) >> TO_INDEX
    shift = np.int32(SINE_BITS) + coarser
    total = own * sines[np.uint64(index) + np.uint64(QUARTER)] + cross * sines[np.uint64(index)]
    return np.int32((total + (np.int32(1) << (shift - np.int32(1)))) >> shift)


@njit(inline="always")
def means_of_row(turning, first, position, sines, mean):  # type: ignore[no-untyped-def]
    """Means of the elements of a line of neighbouring channels from ``first`` on, int32[m]; ``turning``
    int32[4, …]: own, cross, step, coarser."""
    m = mean.shape[0]
    own, cross = turning[0, first : first + m], turning[1, first : first + m]
    step, coarser = turning[2, first : first + m], turning[3, first : first + m]
    for j in range(m):
        mean[j] = turn(own[j], cross[j], step[j], coarser[j], position, sines)


@njit(inline="always")
def means_of_channel(turning, channel, position, sines, mean):  # type: ignore[no-untyped-def]
    """Means of the elements of a line of one channel, whose first token stands at ``position``."""
    own, cross, step, coarser = turning[0, channel], turning[1, channel], turning[2, channel], turning[3, channel]
    for j in range(mean.shape[0]):
        mean[j] = turn(own, cross, step, coarser, np.uint32(position + np.uint32(j)), sines)


def turning_constants(parameters: NDArray[np.int64], elements: int) -> NDArray[np.int32]:
    """``turning`` of the kernels, int32[4, n_channels + 1 + elements], the last channel repeated behind."""
    columns = parameters[:, [OWN, CROSS, STEP, COARSER]]
    whole = np.concatenate([columns, np.repeat(columns[-1:], elements, axis=0)])
    return np.ascontiguousarray(whole.T).astype(np.uint32).view(np.int32)


def plain_parameters(parameters: NDArray[np.int64]) -> NDArray[np.int32]:
    """Parameters of turning channels in the columns of `channel.ChannelTables.parameters`, means left out."""
    p = parameters
    columns = [p[:, TURNING_CELL], p[:, TURNING_CLASS], 0 * p[:, 0], p[:, 2], p[:, 3], p[:, 4]]
    return np.stack(columns, axis=1).astype(np.int32)


def _decoder(streams: int, rows: bool, turning: bool) -> Any:
    """The kernel of lines of neighbouring channels (``rows``) or of one channel, in two or four streams."""

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, starts, bits, channel, position, constants, turns, sines, offset, span, precision, mantissa, top,
        table_in, out, left_over
    ):  # fmt: skip
        """Lines into out uint8[n, line_bytes]; those left to others into left_over int64[n], their number returned.

        bytes_in uint8[m], starts uint64[n], bits uint16[n]; channel int64[n] of the first elements; constants: of
        `row_constants` or `channel_constants`, cells as (exponent + bias) << mantissa; offset int64[elements], span:
        of `order.LineOrder`; table : uint32[rows * L + 1]. Where means turn: position uint32[n] of the first
        elements, turns : `turning_constants`, sines : `turning.wave`.
        """
        payload, target = np.uint64(bytes_in.ctypes.data), np.uint64(out.ctypes.data)
        table = np.uint64(table_in.ctypes.data)
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
        lane_constants = np.zeros((8, LANES), np.int64)
        elements = np.zeros((4 * n_words, 4), np.int64)
        elements_at, lanes_at = np.uint64(elements.ctypes.data), np.uint64(lane_constants.ctypes.data)
        states_at, places_at = np.uint64(states.ctypes.data), np.uint64(places.ctypes.data)
        values_at, masks_at = np.uint64(values.ctypes.data), np.uint64(masks.ctypes.data)
        words64 = np.uint64(n_words)
        m = 4 * n_words
        mean = np.zeros(m, np.int32)
        spread = np.zeros((m + 1, LANES), np.int64)
        spread_at = np.uint64(spread.ctypes.data)
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
                        _elements_of(here, here % span, offset, span, constants, elements)
                    i += 1
                    start, size = starts[k], np.uint64(bits[k])
                    if n_bits < reach or start > last or (turning and rows and here % span + m > span):
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
                    if not rows:
                        for c in range(8):
                            lane_constants[c, lanes] = constants[channel[k], c]
                    if turning and rows:
                        means_of_row(turns, here, position[k], sines, mean)
                        for j in range(m):
                            mirror = mean[j] >> np.int32(31)
                            cells = ((mean[j] ^ mirror) - mirror + np.int32(4)) >> np.int32(3)
                            near = min(cells, np.int32(NEAR))
                            place = elements[j, 0] + (np.int64(near) << precision)
                            place |= np.int64(cells - near) << SHIFT_FROM
                            spread[j, lanes] = place | (np.int64(mirror) << 63)
                    elif turning:
                        means_of_channel(turns, channel[k], position[k], sines, mean)
                        for j in range(m):
                            spread[j, lanes] = mean[j]
                    index[lanes] = k
                    lanes += 1
                if lanes == 0:
                    continue
                for z in range(lanes, LANES):
                    places[0, z] = places[0, lanes - 1]
                    for c in range(streams):
                        states[c, z] = states[c, lanes - 1]
                    if not rows:
                        for c in range(8):
                            lane_constants[c, z] = lane_constants[c, lanes - 1]
                if rows and turning and streams == 2:
                    turning_row_chains_2(
                        table,
                        payload,
                        states_at,
                        places_at,
                        elements_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                    )
                elif rows and turning:
                    turning_row_chains_4(
                        table,
                        payload,
                        states_at,
                        places_at,
                        elements_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                    )
                elif rows and streams == 2:
                    row_chains_2(
                        table,
                        payload,
                        states_at,
                        places_at,
                        elements_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                    )
                elif rows:
                    row_chains_4(
                        table,
                        payload,
                        states_at,
                        places_at,
                        elements_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                    )
                elif turning and streams == 2:
                    turning_channel_chains_2(
                        table,
                        payload,
                        states_at,
                        places_at,
                        lanes_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                        r,
                    )
                elif turning:
                    turning_channel_chains_4(
                        table,
                        payload,
                        states_at,
                        places_at,
                        lanes_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                        r,
                    )
                elif streams == 2:
                    channel_chains_2(
                        table,
                        payload,
                        states_at,
                        places_at,
                        lanes_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                        r,
                    )
                else:
                    channel_chains_4(
                        table,
                        payload,
                        states_at,
                        places_at,
                        lanes_at,
                        spread_at,
                        values_at,
                        masks_at,
                        words64,
                        mantissa,
                        top,
                        r,
                    )
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
                    raw, p = at - flush, U0
                    for t in range(n_words):
                        free = masks[t, z]
                        count = count_ones(free)
                        if p >= flush:
                            y = window(payload, raw + p)
                        else:
                            y = first >> p
                            if p + count > U64:
                                y |= window(payload, raw + U64) << (U64 - p)
                        store64(to + (np.uint64(t) << U3), values[t, z] | deposit(y, free))
                        p += count
                    if p < flush or raw + p != end:
                        left_over[left] = k
                        left += 1
        return left

    return decode


DECODERS = {
    (streams, rows, turning): _decoder(streams, rows, turning)
    for streams in STREAMS
    for rows in (False, True)
    for turning in (False, True)
}
"""By streams, whether neighbours are of different channels, and whether means turn."""
