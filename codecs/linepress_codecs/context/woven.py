"""Lines that hold several channels: the channel model for rows and pages, element by element.

The stream is that of `encode`; `order` says which channel an element is of, what its context is and in which
order elements are coded. Lines of one channel have faster kernels of their own (`encode`, `decode`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.context.cells import (
    CELL_FIRST,
    CELL_NEXT,
    CLASS_FIRST,
    CLASS_NEXT,
    MEAN_FIRST,
    PARAMETERS,
    SLOPE,
    SLOPE_SHIFT,
    cell_of,
    middle,
    negate,
    row_and_shift,
)
from linepress_codecs.context.decode import after, finish, step
from linepress_codecs.context.encode import FLIGHT, NO_SYMBOL, U8
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET
from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_LONG,
    BAD_MODE,
    BUFFER_WORDS,
    MODE_CODED,
    MODE_RAW,
    MODE_ZERO,
    OK,
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
    read_head,
    read_raw,
    step_back,
)


@njit(cache=True, inline="always")
def _base(first, ahead, offset, span, last):  # type: ignore[no-untyped-def]
    """Where the parameters of the channel start that lies ``offset`` < span behind channel ``first`` in its span.

    ``ahead`` is ``first % span``: a division a line, not one an element.
    """
    channel = first + offset
    if ahead + offset >= span:
        channel -= span
    return min(channel, last) * PARAMETERS


@njit(cache=True, inline="always")
def classify_woven(  # type: ignore[no-untyped-def]
    line, g, first, p, last, before, needed, offset, span, width, mantissa, bias, frequency, places, guess, raw,
):  # fmt: skip
    """Places (row * 256 + symbol) of a line's elements into ``places[g]``, its raw fields into the ``g``-th part of
    ``raw``; returns their bits. ``guess`` int64[m] is overwritten."""
    sign_shift = width - U1
    ahead = first % span
    i_word, s_bit, held = np.uint64(g * BUFFER_WORDS), U0, U0
    for w in range(BUFFER_WORDS):
        raw[i_word + np.uint64(w)] = U0
    fill = U0
    for j in range(line.shape[0]):
        base = _base(first, ahead, offset[j], span, last)
        b = before[j]
        if b < 0:
            cell = np.int64(p[base + CELL_FIRST])
            prediction = np.int64(p[base + MEAN_FIRST])
            row = 1 + np.int64(p[base + CLASS_FIRST]) * (NEAR + 1)
        else:
            cell = np.int64(p[base + CELL_NEXT])
            prediction = guess[b]
            row = 1 + np.int64(p[base + CLASS_NEXT]) * (NEAR + 1)
        row, shift, mirror = row_and_shift(prediction, row)
        u = line[j]
        index, raw_bits = cell_of(u, cell, width, mantissa, bias)
        place = (np.uint64(row) << U8) + min(np.uint64(negate(index, mirror) - shift + OFFSET), NO_SYMBOL)
        value = low_bits(u, raw_bits)
        if index == 0:
            value = u >> sign_shift
        escaped = frequency[place] == 0
        if escaped:
            place = (np.uint64(row) << U8) + np.uint64(ESCAPE_SYMBOL)
            raw_bits = width
            value = u
        if needed[j]:
            slope = np.int64(p[base + SLOPE])
            finer = np.int64(p[base + CELL_FIRST]) - np.int64(p[base + CELL_NEXT])
            mean = np.int64(p[base + MEAN_FIRST]) << finer
            seen = middle(index) << (finer if b < 0 else np.int64(0))
            guess[j] = mean if escaped else mean + ((slope * (seen - mean) + 4) >> SLOPE_SHIFT)
        places[g, j] = place
        i_word, s_bit, held = emit(raw, i_word, s_bit, held, value, raw_bits)
        fill += raw_bits
    return fill


@njit(cache=True)
def woven_code(  # type: ignore[no-untyped-def]
    elements, channel, parameters, steps, before, needed, offset, span, width, mantissa, bias, streams, precision,
    machine_bits, machine_find, machine_state, frequency, bits, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; parameters int32[n_channels + 1, 6].

    ``channel`` int64[n] is that of each line's first element; ``needed`` bool[m] says which elements are context.
    Returns the bits used.
    """
    n, m = elements.shape
    r = np.uint64(precision)
    size = U1 << r
    places = np.zeros((FLIGHT, m), np.uint64)
    out = np.zeros((FLIGHT, m), np.uint64)
    out_bits = np.zeros((FLIGHT, m), np.uint64)
    raw = np.zeros(FLIGHT * BUFFER_WORDS, np.uint64)
    guess = np.zeros(m, np.int64)
    flat = parameters.reshape(-1)
    last = parameters.shape[0] - 1
    state = np.zeros((FLIGHT, streams), np.uint64)
    stepped = np.zeros(FLIGHT, np.uint64)
    fills = np.zeros(FLIGHT, np.uint64)
    empty = np.zeros(FLIGHT, np.bool_)
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
            fills[g] = classify_woven(
                elements[i], g, channel[i], flat, last, before, needed, offset, span, width, mantissa, bias,
                frequency, places, guess, raw,
            )  # fmt: skip
            for c in range(streams):
                state[g, c] = size + low_bits(read64(raw, np.uint64(64 * g * BUFFER_WORDS) + np.uint64(c) * r), r)
            stepped[g] = U0
        c = 0
        for q in range(m - 1, -1, -1):
            j = steps[q]
            c = c - 1 if c > 0 else streams - 1
            for g in range(lines):
                place = places[g, j]
                value, nb, state[g, c] = step_back(
                    state[g, c], place, place >> U8, r, machine_bits, machine_find, machine_state
                )
                out[g, q] = value
                out_bits[g, q] = nb
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
                for q in range(m):
                    i_word, s_bit, held = emit(words, i_word, s_bit, held, out[g, q], out_bits[g, q])
                raw_at = np.uint64(64 * g * BUFFER_WORDS)
                emit_tail(words, i_word, s_bit, held, raw, raw_at + min(flush, fill), raw_at + fill)
            bits[i] = used
            cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True)
def woven_decode(  # type: ignore[no-untyped-def]
    words, starts, bits, channel, parameters, steps, before, needed, offset, span, width, mantissa, bias,
    top, streams, precision, near_cells, machine_decode, elements,
):  # fmt: skip
    """Inverse of `woven_code`; returns (line, problem) of the first damaged line, problem 0 where there is none."""
    n, m = elements.shape
    r = np.uint64(precision)
    index = np.zeros((1, m), np.int64)
    guess = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    scratch = np.zeros((2, m), np.int64)
    state = np.zeros((1, streams), np.uint64)
    flat = parameters.reshape(-1)
    last = parameters.shape[0] - 1
    for i in range(n):
        end = starts[i] + np.uint64(bits[i])
        mode, state[0, 0], at = read_head(words, starts[i], machine_decode, precision)
        if mode == MODE_ZERO:
            for j in range(m):
                elements[i, j] = U0
        elif mode == MODE_RAW:
            at = read_raw(words, at, state[0, 0], precision, width, m, elements[i])
        elif mode == MODE_CODED:
            if end - starts[i] >= np.uint64(m) * width:
                return i, BAD_LONG
            for c in range(1, streams):
                state[0, c] = low_bits(read64(words, at), r)
                at += r
            ahead = channel[i] % span
            c = -1
            for q in range(m):
                j = steps[q]
                c = c + 1 if c + 1 < streams else 0
                base = _base(channel[i], ahead, offset[j], span, last)
                b = before[j]
                finer = np.int64(flat[base + CELL_FIRST]) - np.int64(flat[base + CELL_NEXT])
                if b < 0:
                    cell = np.int64(flat[base + CELL_FIRST])
                    prediction = np.int64(flat[base + MEAN_FIRST])
                    row = 1 + np.int64(flat[base + CLASS_FIRST]) * (NEAR + 1)
                else:
                    cell = np.int64(flat[base + CELL_NEXT])
                    prediction = guess[b]
                    row = 1 + np.int64(flat[base + CLASS_NEXT]) * (NEAR + 1)
                k, state[0, c], _, nb = step(state[0, c], prediction, row, read64(words, at), r, machine_decode)
                at += nb
                index[0, j] = k
                scratch[0, j] = (cell + bias) << np.int64(mantissa)
                if needed[j]:
                    slope = np.int64(flat[base + SLOPE])
                    mean = np.int64(flat[base + MEAN_FIRST]) << finer
                    start = (mean << SLOPE_SHIFT) - slope * mean + 4
                    guess[j] = after(k, finer if b < 0 else np.int64(0), slope, start, mean)
            bad = finish(
                words, at, end, state, index, 0, width, mantissa, bias, top, r, near_cells, raw, elements, i, scratch
            )
            if bad != OK:
                return i, bad
            at = end
        else:
            return i, BAD_MODE
        if at != end:
            return i, BAD_END
    return n, OK
