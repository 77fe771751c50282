"""Kernels of `delta`: the stream of `tans.kernels`, its rows chosen by the exponent of the base's element."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans.flight import FLIGHT, U8, code_flight
from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_MODE,
    BAD_PADDING,
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
    emit,
    low_bits,
    put,
    read64,
    read_head,
    read_raw,
)

ESCAPE_SYMBOL, MIDDLE = 0, 64
"""Symbol of an element that follows whole; symbol of difference 0 (in units of 2^low)."""
MOST = 63
"""Largest difference, in units of 2^low, that has a symbol."""


@njit(cache=True, inline="always")
def order_of(u, width, floats):  # type: ignore[no-untyped-def]
    """Place of element ``u`` in the order of values: the bits, those of a negative float below zero."""
    if floats:
        sign = U1 << (width - U1)
        if (u & sign) != U0:
            return -np.int64(u & (sign - U1)) - 1
        return np.int64(u)
    return np.int64(u)


@njit(cache=True, inline="always")
def wrapped(value, width):  # type: ignore[no-untyped-def]
    """``value`` modulo 2^width, as a number of either sign."""
    shift = np.int64(64) - np.int64(width)
    return (value << shift) >> shift


@njit(cache=True, inline="always")
def element_of(place, width, floats):  # type: ignore[no-untyped-def]
    """Inverse of `order_of`, for a place of either sign."""
    if floats and place < 0:
        return np.uint64(-(place + 1)) | (U1 << (width - U1))
    return low_bits(np.uint64(place), width) if width < U64 else np.uint64(place)


@njit(cache=True, inline="always")
def row_of(u, width, mantissa, floats, first, rows):  # type: ignore[no-untyped-def]
    """Row of a base element: its exponent, from ``first`` on, clamped to the rows there are."""
    if not floats:
        return np.int64(0)
    exponent = np.int64((u & ((U1 << (width - U1)) - U1)) >> mantissa)
    return min(max(exponent - first, 0), rows - 1)


@njit(cache=True)
def survey_lengths(elements, base, width, mantissa, floats, counts):  # type: ignore[no-untyped-def]
    """Add to counts int64[exponents, 65]: elements by the base's exponent and the bits of the difference.

    Lines that equal their base are left out.
    """
    for i in range(elements.shape[0]):
        same = U0
        for j in range(elements.shape[1]):
            same |= elements[i, j] ^ base[i, j]
        if same == U0:
            continue
        for j in range(elements.shape[1]):
            d = wrapped(order_of(elements[i, j], width, floats) - order_of(base[i, j], width, floats), width)
            size = d if d >= 0 else -(d + 1)
            bits = 0
            while bits < 64 and (size >> bits) != 0:
                bits += 1
            counts[row_of(base[i, j], width, mantissa, floats, 0, counts.shape[0]), bits] += 1


@njit(cache=True)
def survey_symbols(elements, base, width, mantissa, floats, first, low, counts, lines):  # type: ignore[no-untyped-def]
    """Add to counts int64[rows, 256]: symbols under the rows of ``low``; to lines int64[2]: all, and equal."""
    for i in range(elements.shape[0]):
        same = U0
        for j in range(elements.shape[1]):
            same |= elements[i, j] ^ base[i, j]
        lines[0] += 1
        if same == U0:
            lines[1] += 1
            continue
        for j in range(elements.shape[1]):
            d = wrapped(order_of(elements[i, j], width, floats) - order_of(base[i, j], width, floats), width)
            row = row_of(base[i, j], width, mantissa, floats, first, counts.shape[0])
            v = d >> low[row]
            counts[row, v + MIDDLE if -MOST <= v <= MOST else ESCAPE_SYMBOL] += 1


@njit(cache=True, inline="always")
def classify(  # type: ignore[no-untyped-def]
    line, base, g, width, mantissa, floats, first, low, frequency, places, raw,
):  # fmt: skip
    """Places of a line's elements into ``places[g]``, raw fields into the ``g``-th part of ``raw``; their bits."""
    i_word, s_bit, held = np.uint64(g * BUFFER_WORDS), U0, U0
    for w in range(BUFFER_WORDS):
        raw[i_word + np.uint64(w)] = U0
    fill = U0
    for j in range(line.shape[0]):
        u = line[j]
        d = wrapped(order_of(u, width, floats) - order_of(base[j], width, floats), width)
        row = row_of(base[j], width, mantissa, floats, first, low.shape[0])
        v = d >> low[row]
        symbol = v + MIDDLE if -MOST <= v <= MOST else np.int64(ESCAPE_SYMBOL)
        place = (np.uint64(row + 1) << U8) + np.uint64(symbol)
        n = np.uint64(low[row])
        value = low_bits(np.uint64(d), n)
        if symbol == ESCAPE_SYMBOL or frequency[place] == 0:
            place = (np.uint64(row + 1) << U8) + np.uint64(ESCAPE_SYMBOL)
            n = width
            value = u
        places[g, j] = place
        i_word, s_bit, held = emit(raw, i_word, s_bit, held, value, n)
        fill += n
    return fill


@njit(cache=True)
def delta_code(  # type: ignore[no-untyped-def]
    elements, base, width, mantissa, floats, first_exponent, low, streams, precision, machine_bits, machine_find,
    machine_state, frequency, bits, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines uint64[n, m] against ``base``; returns the bits used."""
    n, m = elements.shape
    places = np.zeros((FLIGHT, m), np.uint64)
    out = np.zeros((FLIGHT, m), np.uint64)
    out_bits = np.zeros((FLIGHT, m), np.uint64)
    raw = np.zeros(FLIGHT * BUFFER_WORDS, np.uint64)
    state = np.zeros((FLIGHT, streams), np.uint64)
    fills = np.zeros(FLIGHT, np.uint64)
    empty = np.zeros(FLIGHT, np.bool_)
    steps = np.arange(m)
    cursor = U0
    for first in range(0, n, FLIGHT):
        lines = min(FLIGHT, n - first)
        for g in range(lines):
            i = first + g
            same = U0
            for j in range(m):
                same |= elements[i, j] ^ base[i, j]
            empty[g] = same == U0
            fills[g] = classify(
                elements[i], base[i], g, width, mantissa, floats, first_exponent, low, frequency, places, raw
            )
        cursor = code_flight(
            elements, first, lines, places, raw, fills, empty, steps, width, streams, precision, machine_bits,
            machine_find, machine_state, out, out_bits, state, bits, words, starts, cursor, write,
        )  # fmt: skip
    return cursor


@njit(cache=True)
def delta_decode(  # type: ignore[no-untyped-def]
    words, starts, bits, base, width, mantissa, floats, first_exponent, low, streams, precision,
    machine_decode, elements,
):  # fmt: skip
    """Inverse of `delta_code` on lines taken `apart`.

    Returns (line, problem) of the first damaged line, problem 0 where there is none.
    """
    n, m = elements.shape
    r = np.uint64(precision)
    flush = np.uint64(streams) * r
    symbols = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    rows = low.shape[0]
    for i in range(n):
        end = starts[i] + np.uint64(bits[i])
        mode, state[0], at = read_head(words, starts[i], machine_decode, precision)
        if mode == MODE_ZERO:
            elements[i] = base[i]
        elif mode == MODE_RAW:
            at = read_raw(words, at, state[0], precision, width, m, elements[i])
        elif mode == MODE_CODED:
            if np.uint64(bits[i]) >= np.uint64(m) * width:  # an encoder writes it raw
                return i, BAD_END
            for c in range(1, streams):
                state[c] = low_bits(read64(words, at), r)
                at += r
            c = 0
            for j in range(m):
                row = row_of(base[i, j], width, mantissa, floats, first_exponent, rows)
                entry = np.uint64(machine_decode[(np.uint64(row + 1) << r) + state[c]])
                nb = (entry >> U12) & U15
                symbols[j] = np.int64(entry >> U16)
                state[c] = (entry & U4095) + low_bits(read64(words, at), nb)
                at += nb
                c = c + 1 if c + 1 < streams else 0
            if at > end or end - at > np.uint64(m) * width:
                return i, BAD_END
            left = end - at
            for w in range(BUFFER_WORDS):
                raw[w] = U0
            for c in range(streams):
                put(raw, np.uint64(c) * r, state[c], r)
            copy_bits(words, at, raw, flush, left)
            q = U0
            for j in range(m):
                row = row_of(base[i, j], width, mantissa, floats, first_exponent, rows)
                if symbols[j] == ESCAPE_SYMBOL:
                    elements[i, j] = low_bits(read64(raw, q), width)
                    q += width
                    continue
                bits_low = np.uint64(low[row])
                d = ((symbols[j] - MIDDLE) << low[row]) | np.int64(low_bits(read64(raw, q), bits_low))
                q += bits_low
                place = wrapped(order_of(base[i, j], width, floats) + d, width)
                elements[i, j] = element_of(place, width, floats)
            if q < flush:
                if left != U0 or read64(raw, q) != U0 or read64(raw, q + U64) != U0:
                    return i, BAD_PADDING
            elif q != flush + left:
                return i, BAD_END
            at = end
        else:
            return i, BAD_MODE
        if at != end:
            return i, BAD_END
    return n, OK
