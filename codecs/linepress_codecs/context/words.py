"""Encoding of lines of 16-bit elements under the channel model, in two or four streams.

A plain line is classified sixteen elements at a time (`places`), any other by the general classifiers. Both leave
places (row * 256 + symbol) and raw fields, and the steps back take one uint64 a place, as in `tans.encode`. `FLIGHT`
lines step together, because one line's steps wait for each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.context.cells import PARAMETERS
from linepress_codecs.context.chains import NEXT_ROW_AT
from linepress_codecs.context.encode import NO_SYMBOL, classify
from linepress_codecs.context.places import line_places
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET
from linepress_codecs.context.turning_kernels import classify as classify_turning
from linepress_codecs.context.turning_kernels import place_elements
from linepress_codecs.context.woven import classify_woven
from linepress_codecs.intrinsics import count_ones, extract, load64, store64
from linepress_codecs.tans.encode import MISSING, step_back_word
from linepress_codecs.tans.kernels import (
    BUFFER_WORDS,
    MODE_CODED,
    MODE_RAW,
    U0,
    U1,
    U16,
    U63,
    U64,
    ZERO_LINE,
    ZERO_LINE_BITS,
)
from linepress_codecs.tans.steps import BLOCK_WORDS, any_bit
from linepress_codecs.tans.words import put_bits, put_rest, window

U2, U3, U48 = (np.uint64(i) for i in (2, 3, 48))
PAIR = np.uint64(0xFFFF)
FLIGHT = 4
MOST_ELEMENTS = 64
MOST_RAW_BITS = np.uint64(56)
"""Most raw bits of a word in a line of the fast kind; three escapes side by side have more."""


@njit(inline="always")
def _place_around(index, row, prediction):  # type: ignore[no-untyped-def]
    """Place of an element under a prediction; ``row`` is that of a prediction near zero."""
    mirror = prediction >> np.int32(31)
    cells = ((prediction ^ mirror) - mirror + np.int32(4)) >> np.int32(3)
    near = min(cells, np.int32(NEAR))
    symbol = np.uint32(((index ^ mirror) - mirror) - (cells - near) + np.int32(OFFSET))
    return np.uint16((np.uint32(row + near) << np.uint32(8)) + min(symbol, np.uint32(NO_SYMBOL)))


def _encoder(streams: int, rows: bool, turning: bool, bit_moves: bool) -> Any:
    """The kernel of lines of neighbouring channels (``rows``) or of one channel."""

    @njit(cache=True)
    def encode(  # type: ignore[no-untyped-def]
        data, channel, position, parameters, constants, wheel, sines, before, needed, offsets, later, span, in_runs,
        precision, mantissa, bias, frequency, entries_in, states_in, words, starts, bits, write
    ):  # fmt: skip
        """Sizes (and with ``write`` the code) of lines uint16[n, m]; returns the bits of ``words`` used.

        channel int64[n]; position uint32[n], wheel (`chains.turns`) and sines (`turning.wave`) where means turn;
        parameters: of the tables; constants int32: of `vector.row_constants` transposed and repeated behind the last
        channel, or of `vector.channel_constants`, cells with the bias added; before, needed, offsets, later, span of
        `order.LineOrder`; frequency : flat int32[rows * 256]; entries : `encode_entries`.
        """
        entries, states = np.uint64(entries_in.ctypes.data), np.uint64(states_in.ctypes.data)
        out, source = np.uint64(words.ctypes.data), np.uint64(data.ctypes.data)
        n, m = data.shape
        n_words = m >> 2
        chain = m // streams
        r = np.uint64(precision)
        width = np.uint64(16)
        line_bits = np.uint64(16 * m)
        mask_r, size, flush = (U1 << r) - U1, U1 << r, np.uint64(streams) * r
        constants_at, wheel_at = np.uint64(constants.ctypes.data), np.uint64(wheel.ctypes.data)
        stride = constants.shape[1]
        behind = np.zeros((2, m), np.int32)
        behind_at = np.uint64(behind.ctypes.data)
        at_row, at_mean, off = np.zeros((1, m), np.int64), np.zeros((1, m), np.int64), np.zeros(m, np.int64)
        flat = parameters.reshape(-1)
        last = parameters.shape[0] - 1
        free = np.zeros(m, np.uint16)
        free_at = np.uint64(free.ctypes.data)
        place = np.zeros((FLIGHT, m), np.uint16)
        place_at = np.uint64(place.ctypes.data)
        elements, places, guesses = np.zeros((1, m), np.uint64), np.zeros((1, m), np.uint64), np.zeros(m, np.int64)
        raw = np.zeros((FLIGHT, BUFFER_WORDS + 2), np.uint64)
        general = np.zeros(BUFFER_WORDS, np.uint64)
        raw_at = np.uint64(raw.ctypes.data)
        raw_size = np.uint64(8 * (BUFFER_WORDS + 2))
        state = np.zeros((FLIGHT, streams), np.uint64)
        values, counts = np.zeros((FLIGHT, MOST_ELEMENTS), np.uint64), np.zeros((FLIGHT, MOST_ELEMENTS), np.uint64)
        stepped, fills = np.zeros(FLIGHT, np.uint64), np.zeros(FLIGHT, np.uint64)
        cursor = U0
        for block in range(0, n, FLIGHT):
            lines = min(FLIGHT, n - block)
            for g in range(lines):
                i = block + g
                c0 = channel[i]
                odd = np.int32(-1)
                if not rows or c0 % span + m <= span:
                    known = constants_at + (np.uint64(c0 if rows else c0 * stride) << U2)
                    odd = line_places(
                        source + (np.uint64(i * m) << U1), known, np.uint64(stride),
                        np.uint64(position[i]) if turning else U0, wheel_at, behind_at,
                        place_at + np.uint64(2 * m * g), free_at, np.uint64(m), np.uint64(mantissa), np.uint64(chain),
                        rows, turning,
                    )  # fmt: skip
                at = raw_at + np.uint64(g) * raw_size
                if odd >= 0:
                    seen = U0
                    for j in range(m):
                        seen |= load64(entries + (np.uint64(place[g, j]) << U3))
                    if seen & MISSING:
                        for j in range(m):
                            if (load64(entries + (np.uint64(place[g, j]) << U3)) & MISSING) == U0:
                                continue
                            place[g, j] = (place[g, j] & np.uint16(0xFF00)) | np.uint16(ESCAPE_SYMBOL)
                            free[j] = np.uint16(0xFFFF)
                            if not rows and (j + 1) % chain != 0:  # what follows is predicted by its mean alone
                                row = constants[c0, NEXT_ROW_AT]
                                place[g, j + 1] = _place_around(behind[1, j + 1], row, behind[0, j + 1])
                        for t in range(n_words):
                            if count_ones(load64(free_at + (np.uint64(t) << U3))) > MOST_RAW_BITS:
                                odd = np.int32(-1)
                if odd >= 0 and bit_moves:
                    held, used, fill, to = U0, U0, U0, at
                    line = source + (np.uint64(i * m) << U1)
                    for t in range(n_words):
                        some = load64(free_at + (np.uint64(t) << U3))
                        count = count_ones(some)
                        held |= extract(load64(line + (np.uint64(t) << U3)), some) << used
                        fill += count
                        to, held, used = put_bits(to, held, used + count)
                    store64(to, held)
                    store64(to + np.uint64(8), U0)
                    fills[g] = fill
                elif odd >= 0:
                    held, used, fill, to = U0, U0, U0, at
                    for j in range(m):
                        count = count_ones(np.uint64(free[j]))
                        held |= np.uint64(data[i, j] & free[j]) << used
                        fill += count
                        to, held, used = put_bits(to, held, used + count)
                    store64(to, held)
                    store64(to + np.uint64(8), U0)
                    fills[g] = fill
                else:
                    for j in range(m):
                        elements[0, j] = np.uint64(data[i, j])
                    if turning:
                        place_elements(
                            channel[i : i + 1], position[i : i + 1], parameters, offsets, later, span, in_runs, sines,
                            at_row, at_mean,
                        )  # fmt: skip
                        fills[g] = classify_turning(
                            elements[0], 0, parameters, at_row[0], at_mean[0], before, needed, width,
                            np.uint64(mantissa), bias, frequency, places, off, general,
                        )  # fmt: skip
                    elif rows:
                        fills[g] = classify_woven(
                            elements[0], 0, c0, flat, last, before, needed, offsets, span, width, np.uint64(mantissa),
                            bias, frequency, places, guesses, general,
                        )  # fmt: skip
                    else:
                        fills[g] = classify(
                            elements, 0, 0, flat, c0 * PARAMETERS, width, np.uint64(mantissa), bias, streams,
                            frequency, places, general, True, flush,
                        )  # fmt: skip
                    for j in range(m):
                        place[g, j] = np.uint16(places[0, j])
                    for w in range(BUFFER_WORDS):
                        raw[g, w] = general[w]
                for c in range(streams):
                    state[g, c] = size + (window(at, np.uint64(c) * r) & mask_r)
                stepped[g] = U0
            for g in range(lines, FLIGHT):  # lanes without a line repeat the last one's places, to no effect
                for c in range(streams):
                    state[g, c] = size
            pair = 2 if streams == 2 else 1
            for g in range(0, lines, pair):
                h = g + pair - 1
                a_at = place_at + np.uint64(2 * m * g)
                b_at = place_at + np.uint64(2 * m * h)
                x0, x1 = state[g, 0], state[g, 1]
                y0, y1 = (state[h, 0], state[h, 1]) if streams == 2 else (state[g, 2], state[g, 3])
                total_a, total_b = U0, U0
                if rows:
                    for t in range(n_words - 1, -1, -1):
                        p = load64(a_at + (np.uint64(t) << U3))
                        q = load64(b_at + (np.uint64(t) << U3))
                        if streams == 2:
                            v3, n3, x1 = step_back_word(x1, load64(entries + ((p >> U48) << U3)), states)
                            w3, m3, y1 = step_back_word(y1, load64(entries + ((q >> U48) << U3)), states)
                            v2, n2, x0 = step_back_word(
                                x0, load64(entries + (((p >> np.uint64(32)) & PAIR) << U3)), states
                            )
                            w2, m2, y0 = step_back_word(
                                y0, load64(entries + (((q >> np.uint64(32)) & PAIR) << U3)), states
                            )
                            v1, n1, x1 = step_back_word(x1, load64(entries + (((p >> U16) & PAIR) << U3)), states)
                            w1, m1, y1 = step_back_word(y1, load64(entries + (((q >> U16) & PAIR) << U3)), states)
                            v0, n0, x0 = step_back_word(x0, load64(entries + ((p & PAIR) << U3)), states)
                            w0, m0, y0 = step_back_word(y0, load64(entries + ((q & PAIR) << U3)), states)
                            values[h, t] = w0 | ((w1 | ((w2 | (w3 << m2)) << m1)) << m0)
                            counts[h, t] = m0 + m1 + m2 + m3
                            total_b += counts[h, t]
                        else:
                            v3, n3, y1 = step_back_word(y1, load64(entries + ((p >> U48) << U3)), states)
                            v2, n2, y0 = step_back_word(
                                y0, load64(entries + (((p >> np.uint64(32)) & PAIR) << U3)), states
                            )
                            v1, n1, x1 = step_back_word(x1, load64(entries + (((p >> U16) & PAIR) << U3)), states)
                            v0, n0, x0 = step_back_word(x0, load64(entries + ((p & PAIR) << U3)), states)
                        values[g, t] = v0 | ((v1 | ((v2 | (v3 << n2)) << n1)) << n0)
                        counts[g, t] = n0 + n1 + n2 + n3
                        total_a += counts[g, t]
                else:
                    for t in range(chain - 1, -1, -1):
                        p0, p1 = np.uint64(place[g, t]), np.uint64(place[g, chain + t])
                        v0, n0, x0 = step_back_word(x0, load64(entries + (p0 << U3)), states)
                        v1, n1, x1 = step_back_word(x1, load64(entries + (p1 << U3)), states)
                        if streams == 2:
                            q0, q1 = np.uint64(place[h, t]), np.uint64(place[h, chain + t])
                        else:
                            q0, q1 = np.uint64(place[g, 2 * chain + t]), np.uint64(place[g, 3 * chain + t])
                        w0, m0, y0 = step_back_word(y0, load64(entries + (q0 << U3)), states)
                        w1, m1, y1 = step_back_word(y1, load64(entries + (q1 << U3)), states)
                        front, back = v0 | (v1 << n0), w0 | (w1 << m0)
                        if streams == 2:
                            values[h, t], counts[h, t] = back, m0 + m1
                            total_b += m0 + m1
                        else:
                            front |= back << (n0 + n1)
                            n1 += m0 + m1
                        values[g, t], counts[g, t] = front, n0 + n1
                        total_a += n0 + n1
                state[g, 0], state[g, 1] = x0, x1
                stepped[g] = total_a
                if streams == 2:
                    state[h, 0], state[h, 1] = y0, y1
                    stepped[h] = total_b
                else:
                    state[g, 2], state[g, 3] = y0, y1
            for g in range(lines):
                i = block + g
                line = source + (np.uint64(i * m) << U1)
                to_here = out + (cursor >> U3)
                starts[i] = cursor
                if any_bit(line, np.uint64(n_words // BLOCK_WORDS)) == U0:
                    if write:
                        store64(to_here, ZERO_LINE)
                    bits[i] = ZERO_LINE_BITS
                    cursor += U64
                    continue
                at = raw_at + np.uint64(g) * raw_size
                head, head_bits, x0 = step_back_word(
                    state[g, 0], load64(entries + (np.uint64(MODE_CODED) << U3)), states
                )
                fill = fills[g]
                done = min(flush, fill)
                size_bits = flush + head_bits + stepped[g] + fill - done
                coded = size_bits < line_bits
                if not coded:
                    at = line
                    x0 = size + (load64(at) & mask_r)
                    head, head_bits, x0 = step_back_word(x0, load64(entries + (np.uint64(MODE_RAW) << U3)), states)
                    size_bits = line_bits + head_bits
                    fill, done = line_bits, r
                if write:
                    held, used = (x0 - size) | (head << r), r + head_bits
                    to = to_here
                    if coded:
                        for c in range(1, streams):
                            held |= (state[g, c] - size) << used
                            used += r
                        to, held, used = put_bits(to, held, used)
                        for t in range(n_words if rows else chain):
                            held |= values[g, t] << used
                            to, held, used = put_bits(to, held, used + counts[g, t])
                    else:
                        to, held, used = put_bits(to, held, used)
                    put_rest(to, held, used, at, done, fill)
                bits[i] = size_bits
                cursor = (cursor + size_bits + U63) & ~U63
        return cursor

    return encode


ENCODERS = {
    (streams, rows, turning, bit_moves): _encoder(streams, rows, turning, bit_moves)
    for streams in (2, 4)
    for rows in (False, True)
    for turning in (False, True)
    for bit_moves in (False, True)
}
"""By streams, whether neighbours are of different channels, whether means turn, and whether the target has pext."""
