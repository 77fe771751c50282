"""Decoding of the channel-context coder; stream layout in `encode`."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.context.cells import (
    CELL_FIRST,
    CELL_NEXT,
    CLASS_FIRST,
    ESCAPED,
    MEAN_FIRST,
    NEAR_CELLS,
    PARAMETERS,
    constants,
    follow,
    middle,
    negate,
    row_and_shift,
    value_of,
)
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET
from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_LONG,
    BAD_MODE,
    BAD_PADDING,
    BAD_VALUE,
    BUFFER_WORDS,
    MODE_CODED,
    MODE_RAW,
    MODE_ZERO,
    OK,
    U0,
    U1,
    U12,
    U15,
    U16,
    U64,
    U4095,
    copy_bits,
    low_bits,
    put,
    read64,
    read_head,
    read_raw,
)

LAST_NEAR_CELL = np.uint64(NEAR_CELLS - 1)


@njit(cache=True, inline="always")
def step(x, prediction, first_row, window, precision, machine_decode):  # type: ignore[no-untyped-def]
    """One decoder step: (cell index or `ESCAPED`, next state, window after it, bits read)."""
    row, shift, mirror = row_and_shift(prediction, first_row)
    entry = np.uint64(machine_decode[(np.uint64(row) << precision) + x])
    nb = (entry >> U12) & U15
    s = np.int64(entry >> U16)
    k = negate(s - OFFSET + shift, mirror)
    if s == ESCAPE_SYMBOL:
        k = ESCAPED
    return k, (entry & U4095) + low_bits(window, nb), window >> nb, nb


@njit(cache=True, inline="always")
def after(k, finer, slope, offset, mean):  # type: ignore[no-untyped-def]
    """Prediction after cell index ``k``."""
    prediction = follow(middle(k) << finer, slope, offset)
    if k == ESCAPED:
        prediction = mean
    return prediction


@njit(cache=True, inline="always")
def _chains(words, at, state, g, p, base, streams, precision, machine_decode, index):  # type: ignore[no-untyped-def]
    """Cell indices of a coded line, its end states into ``state``; returns the position after its steps."""
    chain = index.shape[1] // streams
    slope, offset, mean, next_row = constants(p, base)
    finer = np.int64(p[base + CELL_FIRST]) - np.int64(p[base + CELL_NEXT])
    row = 1 + np.int64(p[base + CLASS_FIRST]) * (NEAR + 1)
    guess = np.full(streams, np.int64(p[base + MEAN_FIRST]))
    for t in range(chain):
        for c in range(streams):
            k, state[g, c], _, nb = step(state[g, c], guess[c], row, read64(words, at), precision, machine_decode)
            at += nb
            index[g, c * chain + t] = k
            guess[c] = after(k, finer, slope, offset, mean)
        row, finer = next_row, np.int64(0)
    return at


@njit(cache=True, inline="always")
def _four_chains(  # type: ignore[no-untyped-def]
    words, at_a, at_b, state, a, b, p, base_a, base_b, alone, precision, machine_decode, index,
):  # fmt: skip
    """`_chains` of lines ``a``, ``b`` of two streams, or (``alone``) of one line of four: four chains in registers.

    One chain's steps wait for each other (table, prediction, table); four fill the wait. Returns both positions.
    """
    chain = index.shape[1] // (4 if alone else 2)
    c_a, c_b = (2 * chain, 3 * chain) if alone else (0, chain)
    slope_a, offset_a, mean_a, next_a = constants(p, base_a)
    slope_b, offset_b, mean_b, next_b = constants(p, base_b)
    finer_a = np.int64(p[base_a + CELL_FIRST]) - np.int64(p[base_a + CELL_NEXT])
    finer_b = np.int64(p[base_b + CELL_FIRST]) - np.int64(p[base_b + CELL_NEXT])
    row_a = 1 + np.int64(p[base_a + CLASS_FIRST]) * (NEAR + 1)
    row_b = 1 + np.int64(p[base_b + CLASS_FIRST]) * (NEAR + 1)
    g0 = g1 = np.int64(p[base_a + MEAN_FIRST])
    g2 = g3 = np.int64(p[base_b + MEAN_FIRST])
    x0, x1 = state[a, 0], state[a, 1]
    x2, x3 = (state[a, 2], state[a, 3]) if alone else (state[b, 0], state[b, 1])
    for t in range(chain):
        window = read64(words, at_a)
        k0, x0, window, n0 = step(x0, g0, row_a, window, precision, machine_decode)
        k1, x1, window, n1 = step(x1, g1, row_a, window, precision, machine_decode)
        at_a += n0 + n1
        if alone:
            at_b = at_a
        else:
            window = read64(words, at_b)
        k2, x2, window, n2 = step(x2, g2, row_b, window, precision, machine_decode)
        k3, x3, window, n3 = step(x3, g3, row_b, window, precision, machine_decode)
        at_b += n2 + n3
        if alone:
            at_a = at_b
        index[a, t] = k0
        index[a, chain + t] = k1
        index[b, c_a + t] = k2
        index[b, c_b + t] = k3
        g0 = after(k0, finer_a, slope_a, offset_a, mean_a)
        g1 = after(k1, finer_a, slope_a, offset_a, mean_a)
        g2 = after(k2, finer_b, slope_b, offset_b, mean_b)
        g3 = after(k3, finer_b, slope_b, offset_b, mean_b)
        row_a, row_b, finer_a, finer_b = next_a, next_b, np.int64(0), np.int64(0)
    state[a, 0], state[a, 1] = x0, x1
    if alone:
        state[a, 2], state[a, 3] = x2, x3
    else:
        state[b, 0], state[b, 1] = x2, x3
    return at_a, at_b


@njit(cache=True, inline="always")
def finish(  # type: ignore[no-untyped-def]
    words, at, end, state, index, g, width, mantissa, bias, top, precision, near_cells, raw, elements, i, scratch,
):  # fmt: skip
    """Line ``i`` from its cell indices, end states and raw fields; returns the problem.

    ``near_cells`` int64[NEAR_CELLS]: see `kv_cells.near_cells`. ``scratch`` int64[2, m]: row 0 holds
    (cell exponent + bias) << mantissa of each element, row 1 is overwritten.
    """
    m = elements.shape[1]
    streams = state.shape[1]
    sign_shift = width - U1
    wide = np.int64(mantissa)
    flush = np.uint64(streams) * precision
    if at > end or end - at > np.uint64(m) * width:
        return BAD_END
    left = end - at
    for w in range(BUFFER_WORDS):
        raw[w] = U0
    for c in range(streams):
        put(raw, np.uint64(c) * precision, state[g, c], precision)
    copy_bits(words, at, raw, flush, left)
    odd = np.int64(0)
    for j in range(m):
        k = index[g, j]
        sign = k >> 63
        size = negate(k, sign)
        near = min(np.uint64(size), LAST_NEAR_CELL)
        both = near_cells[near]
        magnitude = scratch[0, j] + (both >> 6)
        odd |= ((magnitude >> wide) - 1) | (top - (magnitude >> wide)) | (NEAR_CELLS - 1 - size) | (size - 1)
        scratch[1, j] = both & 63
        elements[i, j] = np.uint64(magnitude | (-sign << (np.int64(width) - 1)))
    if odd < 0:
        for j in range(m):
            k = index[g, j]
            sign = k >> 63
            magnitude, scratch[1, j] = value_of(
                negate(k, sign), (scratch[0, j] >> wide) - bias, width, mantissa, bias, top
            )
            if scratch[1, j] < 0:
                return BAD_VALUE
            elements[i, j] = np.uint64(magnitude) | (np.uint64(-sign) << sign_shift)
    q = U0
    for j in range(m):
        raw_bits = np.uint64(scratch[1, j])
        value = low_bits(read64(raw, q), raw_bits)
        q += raw_bits
        if odd < 0 and index[g, j] == 0:
            value <<= sign_shift
        elements[i, j] |= value
    if q < flush:
        if left != U0 or read64(raw, q) != U0 or read64(raw, q + U64) != U0:
            return BAD_PADDING
    elif q != flush + left:
        return BAD_END
    return OK


@njit(cache=True)
def channel_decode(  # type: ignore[no-untyped-def]
    words, starts, bits, channel, parameters, width, mantissa, bias, top, streams, precision, near_cells,
    machine_decode, elements,
):  # fmt: skip
    """Inverse of `channel_code`; returns (line, problem) of the first damaged line, problem 0 where there is none.

    Lines go in pairs, so that two of two streams run together.
    """
    n, m = elements.shape
    r = np.uint64(precision)
    index = np.zeros((2, m), np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    scratch = np.zeros((2, m), np.int64)
    state = np.zeros((2, streams), np.uint64)
    at = np.zeros(2, np.uint64)
    modes = np.zeros(2, np.int64)
    flat = parameters.reshape(-1)
    for first in range(0, n, 2):
        lines = min(2, n - first)
        problem = OK
        for g in range(lines):
            i = first + g
            end = starts[i] + np.uint64(bits[i])
            modes[g], state[g, 0], at[g] = read_head(words, starts[i], machine_decode, precision)
            if modes[g] > MODE_CODED:
                lines, problem = g, BAD_MODE
                break
            if modes[g] == MODE_CODED:
                if end - starts[i] >= np.uint64(m) * width:
                    lines, problem = g, BAD_LONG
                    break
                for c in range(1, streams):
                    state[g, c] = low_bits(read64(words, at[g]), r)
                    at[g] += r
        pair = streams == 2 and lines == 2 and modes[0] == MODE_CODED and modes[1] == MODE_CODED
        if pair:
            at[0], at[1] = _four_chains(
                words, at[0], at[1], state, 0, 1, flat, channel[first] * PARAMETERS,
                channel[first + 1] * PARAMETERS, False, r, machine_decode, index,
            )  # fmt: skip
        for g in range(lines):
            i = first + g
            end = starts[i] + np.uint64(bits[i])
            if modes[g] == MODE_ZERO:
                for j in range(m):
                    elements[i, j] = U0
            elif modes[g] == MODE_RAW:
                at[g] = read_raw(words, at[g], state[g, 0], precision, width, m, elements[i])
            else:
                base = channel[i] * PARAMETERS
                if streams == 4:
                    at[g], _ = _four_chains(
                        words, at[g], at[g], state, g, g, flat, base, base, True, r, machine_decode, index
                    )
                elif not pair:
                    at[g] = _chains(words, at[g], state, g, flat, base, streams, r, machine_decode, index)
                wide = np.int64(mantissa)
                for j in range(m):
                    scratch[0, j] = (np.int64(flat[base + CELL_NEXT]) + bias) << wide
                for c in range(streams):
                    scratch[0, c * (m // streams)] = (np.int64(flat[base + CELL_FIRST]) + bias) << wide
                bad = finish(
                    words, at[g], end, state, index, g, width, mantissa, bias, top, r, near_cells, raw, elements, i,
                    scratch,
                )  # fmt: skip
                if bad != OK:
                    return i, bad
                at[g] = end
            if at[g] != end:
                return i, BAD_END
        if problem != OK:
            return first + lines, problem
    return n, OK
