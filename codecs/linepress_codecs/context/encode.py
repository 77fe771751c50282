"""Encoding and sizes of the channel-context coder; stream layout as in `tans.kernels`, but contiguous chains.

Stream ``c`` of ``streams`` decodes elements ``[c * m / streams, (c + 1) * m / streams)``. Its first element is
predicted by the channel's mean; each further one by ``mean + slope * (previous - mean)`` where "previous" is the
middle of the previous element's cell, so that the chain never waits for raw bits. All of it is integer arithmetic in
eighths of a cell.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.context.cells import (
    CELL_FIRST,
    CELL_NEXT,
    CLASS_FIRST,
    MEAN_FIRST,
    PARAMETERS,
    cell_of,
    constants,
    follow,
    middle,
    negate,
    row_and_shift,
)
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, SMALL_CELLS
from linepress_codecs.tans.kernels import (
    BUFFER_WORDS,
    MODE_CODED,
    U0,
    U1,
    U6,
    U63,
    U64,
    ZERO_LINE,
    ZERO_LINE_BITS,
    code_raw,
    emit,
    emit_tail,
    low_bits,
    read64,
    step_back,
)

FLIGHT = 4
"""Lines whose encoder steps are interleaved."""
U8, U256 = np.uint64(8), np.uint64(256)
NO_SYMBOL = np.uint64(254)
"""A symbol without a frequency in any row, below the escape."""


@njit(cache=True, inline="always")
def classify(  # type: ignore[no-untyped-def]
    elements, i, g, p, base, width, mantissa, bias, streams, frequency, places, raw, whole, most,
):  # fmt: skip
    """Places (row * 256 + symbol) of the elements of line ``i`` into ``places[g]``, its raw fields into the ``g``-th
    part of ``raw``; returns their bits. The channel's parameters start at ``p[base]``.

    Only the first ``most`` bits of the raw fields are written unless ``whole``.
    """
    m = elements.shape[1]
    chain = m // streams
    sign_shift = width - U1
    slope, offset, mean, next_row = constants(p, base)
    widen = np.int64(p[base + CELL_FIRST]) - np.int64(p[base + CELL_NEXT])
    first_row = 1 + np.int64(p[base + CLASS_FIRST]) * (NEAR + 1)
    i_word, s_bit, held = np.uint64(g * BUFFER_WORDS), U0, U0
    for w in range(BUFFER_WORDS):
        raw[i_word + np.uint64(w)] = U0
    fill = U0
    for c in range(streams):
        cell = np.int64(p[base + CELL_FIRST])
        row, shift, mirror = row_and_shift(np.int64(p[base + MEAN_FIRST]), first_row)
        finer = widen
        for t in range(chain):
            j = c * chain + t
            u = elements[i, j]
            index, raw_bits = cell_of(u, cell, width, mantissa, bias)
            s = min(np.uint64(negate(index, mirror) - shift + OFFSET), NO_SYMBOL)
            place = np.uint64(row) * U256 + s
            value = low_bits(u, raw_bits)
            prediction = follow(middle(index) << finer, slope, offset)
            if index == 0:
                value = u >> sign_shift
            if frequency[place] == 0:
                place = np.uint64(row) * U256 + np.uint64(ESCAPE_SYMBOL)
                raw_bits = width
                value = u
                prediction = mean
            places[g, j] = place
            if whole or fill < most:
                i_word, s_bit, held = emit(raw, i_word, s_bit, held, value, raw_bits)
            fill += raw_bits
            cell = np.int64(p[base + CELL_NEXT])
            finer = np.int64(0)
            row, shift, mirror = row_and_shift(prediction, next_row)
    return fill


@njit(cache=True, inline="always")
def _classify_plain(  # type: ignore[no-untyped-def]
    elements, i, g, p, base, width, mantissa, bias, streams, frequency, places, raw, whole, most, scratch,
):  # fmt: skip
    """`classify` for a line of normal numbers without escapes, in loops that vectorise; -1 for any other line.

    ``scratch`` int64[5, m] is overwritten.
    """
    m = elements.shape[1]
    chain = m // streams
    wide = np.int64(mantissa)
    top = np.int64(width) - 1
    low = (np.int64(1) << wide) - 1
    slope, offset, _, next_row = constants(p, base)
    cell_first, cell_next = np.int64(p[base + CELL_FIRST]), np.int64(p[base + CELL_NEXT])
    mean_first = np.int64(p[base + MEAN_FIRST])
    for j in range(m):
        scratch[0, j] = cell_next + bias
        scratch[1, j] = 0
        scratch[4, j] = next_row
    for c in range(streams):
        scratch[0, c * chain] = cell_first + bias
        scratch[1, c * chain] = cell_first - cell_next
        scratch[4, c * chain] = 1 + np.int64(p[base + CLASS_FIRST]) * (NEAR + 1)
    odd = np.int64(0)
    for j in range(m):
        u = np.int64(elements[i, j])
        magnitude = u & ((np.int64(1) << top) - 1)
        exponent = magnitude >> wide
        over = exponent - scratch[0, j]
        odd |= (over + SMALL_CELLS) | (wide - over) | (exponent - 1)
        raw_bits = wide - max(over, 0)
        k = SMALL_CELLS + (((magnitude & low) | (low + 1)) >> raw_bits) + min(over, 0)
        sign = -(u >> top)
        place = negate(max(8 * k - (8 * SMALL_CELLS - 4), 0), sign) << scratch[1, j]
        scratch[0, j] = negate(k, sign)
        scratch[1, j] = raw_bits
        scratch[2, j] = follow(place, slope, offset)
    if odd < 0:
        return np.int64(-1)
    for j in range(m - 1):
        scratch[3, j + 1] = scratch[2, j]
    for c in range(streams):
        scratch[3, c * chain] = mean_first
    fill = np.int64(0)
    for j in range(m):
        prediction = scratch[3, j]
        mirror = prediction >> 63
        cells = (negate(prediction, mirror) + 4) >> 3
        near = min(cells, NEAR)
        symbol = np.uint64(negate(scratch[0, j], mirror) - (cells - near) + OFFSET)
        places[g, j] = (np.uint64(scratch[4, j] + near) << U8) + min(symbol, NO_SYMBOL)
        fill += scratch[1, j]
    missing = 0
    for j in range(m):
        missing |= frequency[places[g, j]] - 1
    if missing < 0:
        return np.int64(-1)
    i_word, s_bit, held = np.uint64(g * BUFFER_WORDS), U0, U0
    done = U0
    for w in range(BUFFER_WORDS):
        raw[i_word + np.uint64(w)] = U0
    for j in range(m):
        bits = np.uint64(scratch[1, j])
        i_word, s_bit, held = emit(raw, i_word, s_bit, held, low_bits(elements[i, j], bits), bits)
        done += bits
        if done >= most and not whole:
            break
    return fill


@njit(cache=True, inline="always")
def _step_back_four(  # type: ignore[no-untyped-def]
    places, state, stepped, out, out_bits, a, b, alone, precision, machine_bits, machine_find, machine_state,
):  # fmt: skip
    """Encoder steps of lines ``a`` and ``b`` of two streams, or (``alone``) of line ``a`` of four.

    The fields of one step of a line are joined in ``out[line, step]``. (a = b repeats a line, to no effect.)
    """
    chain = places.shape[1] // (4 if alone else 2)
    d = a if alone else b
    at2, at3 = (2 * chain, 3 * chain) if alone else (0, chain)
    x0, x1 = state[a, 0], state[a, 1]
    x2, x3 = (state[a, 2], state[a, 3]) if alone else (state[b, 0], state[b, 1])
    total_a, total_b = U0, U0
    for t in range(chain - 1, -1, -1):
        p0, p1, p2, p3 = places[a, t], places[a, chain + t], places[d, at2 + t], places[d, at3 + t]
        v0, n0, x0 = step_back(x0, p0, p0 >> U8, precision, machine_bits, machine_find, machine_state)
        v1, n1, x1 = step_back(x1, p1, p1 >> U8, precision, machine_bits, machine_find, machine_state)
        v2, n2, x2 = step_back(x2, p2, p2 >> U8, precision, machine_bits, machine_find, machine_state)
        v3, n3, x3 = step_back(x3, p3, p3 >> U8, precision, machine_bits, machine_find, machine_state)
        front, n_front = v0 | (v1 << n0), n0 + n1
        back, n_back = v2 | (v3 << n2), n2 + n3
        if alone:
            front |= back << n_front
            n_front += n_back
        else:
            out[b, t] = back
            out_bits[b, t] = n_back
            total_b += n_back
        out[a, t] = front
        out_bits[a, t] = n_front
        total_a += n_front
    state[a, 0], state[a, 1] = x0, x1
    if alone:
        state[a, 2], state[a, 3] = x2, x3
    else:
        state[b, 0], state[b, 1] = x2, x3
        stepped[b] = total_b
    stepped[a] = total_a


@njit(cache=True)
def channel_code(  # type: ignore[no-untyped-def]
    elements, channel, parameters, width, mantissa, bias, streams, precision, machine_bits, machine_find,
    machine_state, frequency, bits, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; parameters int32[n_channels, 6].

    frequency is flat, int32[rows * 256]. Returns the bits used. `FLIGHT` lines step together, because one line's
    steps wait for each other.
    """
    n, m = elements.shape
    chain = m // streams
    r = np.uint64(precision)
    size = U1 << r
    places = np.zeros((FLIGHT, m), np.uint64)
    out = np.zeros((FLIGHT, m), np.uint64)
    out_bits = np.zeros((FLIGHT, m), np.uint64)
    raw = np.zeros(FLIGHT * BUFFER_WORDS, np.uint64)
    flat = parameters.reshape(-1)
    state = np.zeros((FLIGHT, streams), np.uint64)
    stepped = np.zeros(FLIGHT, np.uint64)
    fills = np.zeros(FLIGHT, np.uint64)
    empty = np.zeros(FLIGHT, np.bool_)
    scratch = np.zeros((5, m), np.int64)
    flush = np.uint64(streams) * r
    cursor = U0
    for first in range(0, n, FLIGHT):
        lines = min(FLIGHT, n - first)
        for g in range(lines):
            i = first + g
            some = U0
            for j in range(m):
                some |= elements[i, j]
            empty[g] = some == U0
            fill_here = _classify_plain(
                elements, i, g, flat, channel[i] * PARAMETERS, width, mantissa, bias, streams, frequency, places, raw,
                write, flush, scratch,
            )  # fmt: skip
            if fill_here < 0:
                fills[g] = classify(
                    elements, i, g, flat, channel[i] * PARAMETERS, width, mantissa, bias, streams, frequency, places,
                    raw, write, flush,
                )  # fmt: skip
            else:
                fills[g] = np.uint64(fill_here)
            raw_at = np.uint64(64 * g * BUFFER_WORDS)
            for c in range(streams):
                state[g, c] = size + low_bits(read64(raw, raw_at + np.uint64(c) * r), r)
            stepped[g] = U0
        if streams == 2 or streams == 4:
            for g in range(0, lines, 4 // streams):
                _step_back_four(
                    places, state, stepped, out, out_bits, g, min(g + 1, lines - 1), streams == 4, r, machine_bits,
                    machine_find, machine_state,
                )  # fmt: skip
        else:
            for t in range(chain - 1, -1, -1):
                for g in range(lines):
                    for c in range(streams):
                        j = c * chain + t
                        place = places[g, j]
                        v, nb, state[g, c] = step_back(
                            state[g, c], place, place >> U8, r, machine_bits, machine_find, machine_state
                        )
                        out[g, t * streams + c] = v
                        out_bits[g, t * streams + c] = nb
                        stepped[g] += nb
        for g in range(lines):
            i = first + g
            starts[i] = cursor
            if empty[g]:
                if write:
                    emit(words, cursor >> U6, U0, U0, ZERO_LINE, ZERO_LINE_BITS)
                bits[i] = ZERO_LINE_BITS
                cursor += U64
                continue
            head, head_bits, state[g, 0] = step_back(
                state[g, 0], np.uint64(MODE_CODED), U0, r, machine_bits, machine_find, machine_state
            )
            fill = fills[g]
            used = flush + head_bits + stepped[g] + fill - min(flush, fill)
            if used >= np.uint64(m) * width:
                if write:
                    for w in range(m * np.int64(width) // 64 + 2):
                        words[(cursor >> U6) + np.uint64(w)] = U0
                used = code_raw(
                    elements[i], m, width, machine_bits, machine_find, machine_state, precision, words, cursor, write
                )
            elif write:
                i_word, s_bit, held = emit(words, cursor >> U6, U0, U0, state[g, 0] - size, r)
                i_word, s_bit, held = emit(words, i_word, s_bit, held, head, head_bits)
                for c in range(1, streams):
                    i_word, s_bit, held = emit(words, i_word, s_bit, held, state[g, c] - size, r)
                for t in range(chain if streams == 2 or streams == 4 else m):
                    i_word, s_bit, held = emit(words, i_word, s_bit, held, out[g, t], out_bits[g, t])
                raw_at = np.uint64(64 * g * BUFFER_WORDS)
                emit_tail(words, i_word, s_bit, held, raw, raw_at + min(flush, fill), raw_at + fill)
            bits[i] = used
            cursor = (cursor + used + U63) & ~U63
    return cursor
