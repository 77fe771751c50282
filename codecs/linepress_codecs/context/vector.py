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
from linepress_codecs.context.chains import CELL_OF, COLUMNS, LATER_OF, line_chains
from linepress_codecs.context.channel import ChannelTables
from linepress_codecs.context.rows import NEAR
from linepress_codecs.context.turning import CELL_FIRST as TURNING_CELL
from linepress_codecs.context.turning import CLASS_FIRST as TURNING_CLASS
from linepress_codecs.context.turning import COARSER, CROSS, OWN, STEP, TurningTables
from linepress_codecs.intrinsics import count_ones, deposit, load32, store64
from linepress_codecs.tans.chains import LANES
from linepress_codecs.tans.kernels import MODE_CODED, U0, U32, U64
from linepress_codecs.tans.words import head_of, plain_line, window

U3, U8 = np.uint64(3), np.uint64(8)
ROW = np.uint64(4 * LANES)
CODED = np.uint64(MODE_CODED)
MOST_WORDS = 32
MOST_RAW_BITS = np.uint64(56)
"""Most raw bits of one word, so that one `window` holds them; three escapes side by side have more."""
BLOCK_LINES = 4096
"""Lines sorted by their first channel at a time, so that what they write stays in a core's cache."""
STREAMS = (2, 4)


def channel_constants(parameters: NDArray[np.int64], turning: NDArray[np.int64], precision: int) -> NDArray[np.int64]:
    """Parameters of lines of one channel as `chains` has them, int64[n_channels + 1, 8 or 12], before the mantissa
    and bias of the cells; ``turning`` int64[n_channels + 1, 0 or 4] are own, cross, step and coarser."""
    p = parameters
    widen = p[:, CELL_FIRST] - p[:, CELL_NEXT]
    mean = p[:, MEAN_FIRST] << widen
    offset = (mean << SLOPE_SHIFT) - p[:, SLOPE] * mean + (1 << (SLOPE_SHIFT - 1))
    first, following = ((1 + p[:, c] * (NEAR + 1)) << precision for c in (CLASS_FIRST, CLASS_NEXT))
    cells = p[:, CELL_FIRST], p[:, CELL_NEXT]
    return np.column_stack([p[:, SLOPE], offset, following, first, widen, p[:, MEAN_FIRST], *cells, turning])


def row_constants(parameters: NDArray[np.int64], turning: NDArray[np.int64], precision: int) -> NDArray[np.int64]:
    """What `chains` needs of an element of each channel, int64[n_channels + 1, COLUMNS], before mantissa and bias."""
    p = parameters
    mirror = p[:, MEAN_FIRST] >> 63
    cells = ((p[:, MEAN_FIRST] ^ mirror) - mirror + 4) >> 3
    near = np.minimum(cells, NEAR)
    row = (1 + p[:, CLASS_FIRST] * (NEAR + 1) + near) << precision
    known = turning if turning.shape[1] else np.column_stack([cells - near, mirror])
    out = np.zeros((len(p), COLUMNS), np.int64)
    out[:, : CELL_OF + 1] = np.column_stack([row, p[:, CELL_FIRST]])
    out[:, CELL_OF + 1 : CELL_OF + 1 + known.shape[1]] = known
    return out


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
def _elements_of(channel, ahead, offset, later, span, turning, constants, elements):  # type: ignore[no-untyped-def]
    """Constants of each element of a line that begins at ``channel``."""
    last = constants.shape[0] - 1
    for j in range(elements.shape[0]):
        c, behind = channel + offset[j], later[j]
        if ahead + offset[j] >= span:
            c -= span
            behind += 1
        elements[j] = constants[min(c, last)]
        if turning:
            elements[j, LATER_OF] = behind


def split_parameters(tables: ChannelTables | TurningTables) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(parameters in the columns of `channel.ChannelTables`, the four ``turning`` of the constants or none)."""
    p = tables.parameters.astype(np.int64)
    if isinstance(tables, TurningTables):
        columns = [p[:, TURNING_CELL], p[:, TURNING_CLASS], 0 * p[:, 0], p[:, 2], p[:, 3], p[:, 4]]
        return np.stack(columns, axis=1), p[:, [OWN, CROSS, STEP, COARSER]]
    return p, p[:, :0]


@njit(cache=True)
def finish(  # type: ignore[no-untyped-def]
    payload, target, n_words, precision, streams, starts, bits, index, lanes, states, places, values, masks, odd,
    left_over, left
):  # fmt: skip
    """Values and raw bits of `line_chains` to lines; the number of lines left to others.

    A function of its own, so that its loop has all registers. It takes arrays, not addresses: these live as long as
    they are named.
    """
    states_at, values_at = np.uint64(states.ctypes.data), np.uint64(values.ctypes.data)
    masks_at = np.uint64(masks.ctypes.data)
    flush, line_bytes = np.uint64(streams) * precision, np.uint64(n_words) << U3
    for z in range(lanes):
        k, at = index[z], places[z]
        end = starts[k] + np.uint64(bits[k])
        if odd[z] < 0 or at > end:
            left_over[left] = k
            left += 1
            continue
        lane = np.uint64(4 * z)
        first, used = window(payload, at) << flush, U0
        for c in range(streams):
            first |= np.uint64(load32(states_at + lane + ROW * np.uint64(c))) << used
            used += precision
        begin, p, most = at - flush, U0, U0
        to, value, mask = target + np.uint64(k) * line_bytes, values_at + lane, masks_at + lane
        for _ in range(n_words):
            free = np.uint64(load32(mask)) | (np.uint64(load32(mask + ROW)) << U32)
            word = np.uint64(load32(value)) | (np.uint64(load32(value + ROW)) << U32)
            count = count_ones(free)
            most = max(most, count)
            if p >= flush:
                y = window(payload, begin + p)
            else:  # the end states are the first raw bits
                y = first >> p
                if p + count > U64:
                    y |= window(payload, begin + U64) << (U64 - p)
            store64(to, word | deposit(y, free))
            p += count
            to += U8
            value += ROW + ROW
            mask += ROW + ROW
        if p < flush or begin + p != end or most > MOST_RAW_BITS:
            left_over[left] = k
            left += 1
    return left


def _decoder(streams: int, rows: bool, turning: bool) -> Any:
    """The kernel of lines of neighbouring channels (``rows``) or of one channel, in two or four streams."""

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, starts, bits, channel, position, constants, wheel_in, offset, later, span, precision, mantissa, top,
        table_in, out, left_over
    ):  # fmt: skip
        """Lines into out uint8[n, line_bytes]; those left to others into left_over int64[n], their number returned.

        bytes_in uint8[m], starts uint64[n], bits uint16[n]; channel int64[n] of the first elements; constants int32:
        of `row_constants` or `channel_constants`, cells as (exponent + bias) << mantissa; offset and later
        int64[elements], span: of `order.LineOrder`; table: uint32[rows * L]. Where means turn: position uint32[n] of
        the first elements, wheel: `chains.turns`.
        """
        payload, target = np.uint64(bytes_in.ctypes.data), np.uint64(out.ctypes.data)
        table, wheel = np.uint64(table_in.ctypes.data), np.uint64(wheel_in.ctypes.data)
        n_words = out.shape[1] >> 3
        line_bits = np.uint64(8 * out.shape[1])
        r = np.uint64(precision)
        mask = (np.uint64(1) << r) - np.uint64(1)
        flush = np.uint64(streams) * r
        reach = line_bits + np.uint64(4 * n_words + streams + 2) * r + np.uint64(192)
        n_bits = np.uint64(8 * bytes_in.shape[0])
        last = n_bits - reach if n_bits >= reach else U0
        states, places = np.zeros((streams, LANES), np.uint32), np.zeros(LANES, np.uint64)
        values, masks = np.zeros((2 * MOST_WORDS, LANES), np.uint32), np.zeros((2 * MOST_WORDS, LANES), np.uint32)
        columns = constants.shape[1]
        known = np.zeros((4 * n_words, columns) if rows else (columns, LANES), np.int32)
        positions, odd = np.zeros(LANES, np.uint32), np.zeros(LANES, np.int32)
        states_at, places_at = np.uint64(states.ctypes.data), np.uint64(places.ctypes.data)
        values_at, masks_at = np.uint64(values.ctypes.data), np.uint64(masks.ctypes.data)
        known_at, odd_at = np.uint64(known.ctypes.data), np.uint64(odd.ctypes.data)
        positions_at, words64 = np.uint64(positions.ctypes.data), np.uint64(n_words)
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
                        _elements_of(here, here % span, offset, later, span, turning, constants, known)
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
                    places[lanes] = at + flush - r
                    if turning:
                        positions[lanes] = position[k]
                    if not rows:
                        for c in range(columns):
                            known[c, lanes] = constants[channel[k], c]
                    index[lanes] = k
                    lanes += 1
                if lanes == 0:
                    continue
                for z in range(lanes, LANES):
                    places[z], positions[z] = places[lanes - 1], positions[lanes - 1]
                    for c in range(streams):
                        states[c, z] = states[c, lanes - 1]
                    if not rows:
                        for c in range(columns):
                            known[c, z] = known[c, lanes - 1]
                line_chains(
                    table, payload, wheel, states_at, places_at, known_at, positions_at, values_at, masks_at, odd_at,
                    words64, mantissa, top, r, streams, rows, turning,
                )  # fmt: skip
                left = finish(
                    payload, target, n_words, r, streams, starts, bits, index, lanes, states, places, values, masks,
                    odd, left_over, left,
                )  # fmt: skip
        return left

    return decode


DECODERS = {
    (streams, rows, turning): _decoder(streams, rows, turning)
    for streams in STREAMS
    for rows in (False, True)
    for turning in (False, True)
}
"""By streams, whether neighbours are of different channels, and whether means turn."""
