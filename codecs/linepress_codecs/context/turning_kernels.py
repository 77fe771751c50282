"""Kernels of turning channels: means of every element of a line from its position, then coding around them.

The stream is that of `encode`; only the prediction differs. An element's mean is known before its line is read; an
element with a context is predicted by its own mean plus the slope times what the context lies off *its* mean.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.context.cells import ESCAPED, SLOPE_SHIFT, cell_of, middle, negate, row_and_shift
from linepress_codecs.context.decode import finish, step
from linepress_codecs.context.encode import NO_SYMBOL
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET
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
)
from linepress_codecs.tans.flight import FLIGHT, U8, code_flight
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
    emit,
    low_bits,
    read64,
    read_head,
    read_raw,
)

INDEX_BITS = (4 * QUARTER).bit_length() - 1
HALF_STEP = np.uint64(1 << (31 - INDEX_BITS))
TO_INDEX = np.uint64(32 - INDEX_BITS)
INDEX_MASK = np.uint64(4 * QUARTER - 1)


@njit(cache=True, inline="always")
def turned(own, cross, step_, coarser, position, sines):  # type: ignore[no-untyped-def]
    """Mean of a channel at ``position`` in eighths of its first cell, from `turning.TurningTables.parameters`."""
    index = np.int64(((np.uint64(position) * np.uint64(step_) + HALF_STEP) >> TO_INDEX) & INDEX_MASK)
    total = own * np.int64(sines[index + QUARTER]) + cross * np.int64(sines[index])
    shift = SINE_BITS + coarser
    return (total + (np.int64(1) << (shift - 1))) >> shift


@njit(cache=True)
def place_elements(  # type: ignore[no-untyped-def]
    channel, position, parameters, offset, later, span, in_runs, sines, row, mean,
):  # fmt: skip
    """Row of ``parameters`` and mean of every element, into int64[n, m] each.

    ``channel`` int64[n] and ``position`` uint32[n] are those of each line's first element; ``offset``, ``later`` and
    ``span`` those of `order.LineOrder`; ``in_runs`` where elements of one channel follow one another, whose
    tokens a new span does not advance.
    """
    last = parameters.shape[0] - 1
    for i in range(row.shape[0]):
        ahead = channel[i] % span
        for j in range(row.shape[1]):
            at = channel[i] + offset[j]
            token = np.int64(position[i]) + later[j]
            if ahead + offset[j] >= span:
                at -= span
                if not in_runs:
                    token += 1
            at = min(at, last)
            row[i, j] = at
            p = parameters[at]
            mean[i, j] = turned(p[OWN], p[CROSS], p[STEP], p[COARSER], token, sines)


@njit(cache=True, inline="always")
def classify(  # type: ignore[no-untyped-def]
    line, g, parameters, at, mean, before, needed, width, mantissa, bias, frequency, places, off, raw,
):  # fmt: skip
    """Places (row * 256 + symbol) of a line's elements into ``places[g]``, its raw fields into the ``g``-th part of
    ``raw``; returns their bits. ``off`` int64[m] is overwritten: what each element lies off its mean."""
    sign_shift = width - U1
    i_word, s_bit, held = np.uint64(g * BUFFER_WORDS), U0, U0
    for w in range(BUFFER_WORDS):
        raw[i_word + np.uint64(w)] = U0
    fill = U0
    for j in range(line.shape[0]):
        p = parameters[at[j]]
        b = before[j]
        finer = p[CELL_FIRST] - p[CELL_NEXT]
        if b < 0:
            cell = p[CELL_FIRST]
            prediction = mean[j]
            row = 1 + p[CLASS_FIRST] * (NEAR + 1)
        else:
            cell = p[CELL_NEXT]
            prediction = (mean[j] << finer) + ((p[SLOPE] * off[b] + 4) >> SLOPE_SHIFT)
            row = 1 + p[CLASS_NEXT] * (NEAR + 1)
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
            seen = middle(index) << (finer if b < 0 else np.int64(0))
            off[j] = np.int64(0) if escaped else seen - (mean[j] << finer)
        places[g, j] = place
        i_word, s_bit, held = emit(raw, i_word, s_bit, held, value, raw_bits)
        fill += raw_bits
    return fill


@njit(cache=True)
def turning_code(  # type: ignore[no-untyped-def]
    elements, parameters, at, mean, steps, before, needed, width, mantissa, bias, streams, precision, machine_bits,
    machine_find, machine_state, frequency, bits, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; ``at`` and ``mean`` are those of `place_elements`.

    Returns the bits used.
    """
    n, m = elements.shape
    places = np.zeros((FLIGHT, m), np.uint64)
    out = np.zeros((FLIGHT, m), np.uint64)
    out_bits = np.zeros((FLIGHT, m), np.uint64)
    raw = np.zeros(FLIGHT * BUFFER_WORDS, np.uint64)
    off = np.zeros(m, np.int64)
    state = np.zeros((FLIGHT, streams), np.uint64)
    fills = np.zeros(FLIGHT, np.uint64)
    empty = np.zeros(FLIGHT, np.bool_)
    cursor = U0
    for first in range(0, n, FLIGHT):
        lines = min(FLIGHT, n - first)
        for g in range(lines):
            i = first + g
            some = U0
            for j in range(m):
                some |= elements[i, j]
            empty[g] = some == U0
            fills[g] = classify(
                elements[i], g, parameters, at[i], mean[i], before, needed, width, mantissa, bias, frequency, places,
                off, raw,
            )  # fmt: skip
        cursor = code_flight(
            elements, first, lines, places, raw, fills, empty, steps, width, streams, precision, machine_bits,
            machine_find, machine_state, out, out_bits, state, bits, words, starts, cursor, write,
        )  # fmt: skip
    return cursor


@njit(cache=True)
def turning_decode(  # type: ignore[no-untyped-def]
    words, starts, bits, parameters, at, mean, steps, before, needed, width, mantissa, bias, top, streams,
    precision, near_cells, machine_decode, elements,
):  # fmt: skip
    """Inverse of `turning_code`; returns (line, problem) of the first damaged line, problem 0 where there is none."""
    n, m = elements.shape
    r = np.uint64(precision)
    index = np.zeros((1, m), np.int64)
    off = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    scratch = np.zeros((2, m), np.int64)
    state = np.zeros((1, streams), np.uint64)
    for i in range(n):
        end = starts[i] + np.uint64(bits[i])
        mode, state[0, 0], here = read_head(words, starts[i], machine_decode, precision)
        if mode == MODE_ZERO:
            for j in range(m):
                elements[i, j] = U0
        elif mode == MODE_RAW:
            here = read_raw(words, here, state[0, 0], precision, width, m, elements[i])
        elif mode == MODE_CODED:
            if end - starts[i] >= np.uint64(m) * width:
                return i, BAD_LONG
            for c in range(1, streams):
                state[0, c] = low_bits(read64(words, here), r)
                here += r
            c = -1
            for q in range(m):
                j = steps[q]
                c = c + 1 if c + 1 < streams else 0
                p = parameters[at[i, j]]
                b = before[j]
                finer = p[CELL_FIRST] - p[CELL_NEXT]
                if b < 0:
                    cell = p[CELL_FIRST]
                    prediction = mean[i, j]
                    row = 1 + p[CLASS_FIRST] * (NEAR + 1)
                else:
                    cell = p[CELL_NEXT]
                    prediction = (mean[i, j] << finer) + ((p[SLOPE] * off[b] + 4) >> SLOPE_SHIFT)
                    row = 1 + p[CLASS_NEXT] * (NEAR + 1)
                k, state[0, c], _, nb = step(state[0, c], prediction, row, read64(words, here), r, machine_decode)
                here += nb
                index[0, j] = k
                scratch[0, j] = (cell + bias) << np.int64(mantissa)
                if needed[j]:
                    seen = middle(k) << (finer if b < 0 else np.int64(0))
                    off[j] = np.int64(0) if k == ESCAPED else seen - (mean[i, j] << finer)
            bad = finish(
                words, here, end, state, index, 0, width, mantissa, bias, top, r, near_cells, raw, elements, i,
                scratch,
            )  # fmt: skip
            if bad != OK:
                return i, bad
            here = end
        else:
            return i, BAD_MODE
        if here != end:
            return i, BAD_END
    return n, OK
