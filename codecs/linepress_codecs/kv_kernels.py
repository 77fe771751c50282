"""Hot loops of the channel-context coder; stream layout as in `tans_kernels`, but contiguous chains.

Stream ``c`` of ``streams`` decodes elements ``[c * m / streams, (c + 1) * m / streams)``. Its first element is
predicted by the channel's mean; each further one by ``mean + slope * (previous - mean)`` where "previous" is the
middle of the previous element's cell, so that the chain never waits for raw bits. All of it is integer arithmetic in
eighths of a cell.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.kv_rows import ESCAPE_SYMBOL, NEAR, OFFSET, SMALL_CELLS
from linepress_codecs.tans_kernels import (
    BAD_END,
    BAD_LENGTH,
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
    U63,
    U64,
    U4095,
    ZERO_LINE,
    ZERO_LINE_BITS,
    code_raw,
    copy_bits,
    low_bits,
    put,
    read64,
    read_head,
    read_raw,
)

MOST_DOUBLINGS = 20
"""A value ``2**20`` cells or more from zero escapes, which bounds every integer below."""
ESCAPED = np.int64(1) << 40
"""Stands for the cell index of an escaped element."""
# Columns of the parameters of a channel, int32[n_channels, 6].
CELL_FIRST, CLASS_FIRST, MEAN_FIRST, CELL_NEXT, CLASS_NEXT, SLOPE = 0, 1, 2, 3, 4, 5
SLOPE_SHIFT = 3
"""Slopes are in eighths."""


@njit(cache=True, inline="always")
def middle(index):  # type: ignore[no-untyped-def]
    """Middle of a cell in eighths of a cell."""
    k = index if index >= 0 else -index
    value = 8 * (k - SMALL_CELLS) + 4 if k > SMALL_CELLS else (12 >> (SMALL_CELLS + 1 - k) if k > 0 else 0)
    return value if index >= 0 else -value


@njit(cache=True, inline="always")
def cell_of(u, cell, width, mantissa, bias):  # type: ignore[no-untyped-def]
    """(cell index, raw bits) of element ``u``; index `ESCAPED` where it has no cell."""
    magnitude = u & ((U1 << (width - U1)) - U1)
    negative = (u >> (width - U1)) != U0
    if magnitude == U0:
        return np.int64(0), U1
    exponent = np.int64(magnitude >> mantissa)
    significand = np.int64(magnitude & ((U1 << mantissa) - U1))
    length = np.int64(mantissa) + 1
    if exponent > 0:
        significand |= np.int64(1) << np.int64(mantissa)
    else:
        exponent = 1
        while (significand >> (length - 1)) == 0:
            length -= 1
    over = exponent - bias - np.int64(mantissa) + length - 1 - cell
    if over >= MOST_DOUBLINGS or over < -SMALL_CELLS:
        return ESCAPED, width
    if over < 0:
        k = SMALL_CELLS + 1 + over
        raw = length - 1
    elif over <= length - 1:
        raw = length - 1 - over
        k = SMALL_CELLS + (significand >> raw)
    else:
        raw = 0
        k = SMALL_CELLS + (significand << (over - length + 1))
    return (-k if negative else k), np.uint64(raw)


@njit(cache=True, inline="always")
def value_of(index, cell, width, mantissa, bias, top):  # type: ignore[no-untyped-def]
    """(bits of the element with raw bits zero, raw bits, whether it exists) of a cell; inverse of `cell_of`."""
    k = index if index >= 0 else -index
    sign = (U1 << (width - U1)) if index < 0 else U0
    if k <= SMALL_CELLS:
        over = k - SMALL_CELLS - 1
        linear = np.int64(1)
        size = np.int64(1)
    else:
        linear = k - SMALL_CELLS
        size = np.int64(0)
        while (linear >> size) != 0:
            size += 1
        over = size - 1
    exponent = cell + over + bias
    length = np.int64(mantissa) + 1 if exponent >= 1 else np.int64(mantissa) + exponent
    if length < 1 or exponent > top:
        return U0, U0, False
    raw = np.int64(0)
    if length >= size:
        raw = length - size
        significand = linear << raw
    else:
        significand = linear >> (size - length)
        if (significand << (size - length)) != linear:
            return U0, U0, False
    if exponent >= 1:
        whole = (np.uint64(exponent) << mantissa) | (np.uint64(significand) & ((U1 << mantissa) - U1))
    else:
        whole = np.uint64(significand)
    return whole | sign, np.uint64(raw), True


@njit(cache=True, inline="always")
def row_and_shift(prediction, sigma_class):  # type: ignore[no-untyped-def]
    """(row, cells the row is shifted by, whether it is mirrored) for a prediction in eighths of a cell."""
    mirrored = prediction < 0
    cells = ((-prediction if mirrored else prediction) + 4) >> 3
    near = min(cells, NEAR)
    return 1 + sigma_class * (NEAR + 1) + near, cells - near, mirrored


@njit(cache=True)
def channel_code(  # type: ignore[no-untyped-def]
    elements, channel, parameters, width, mantissa, bias, streams, precision, machine_bits, machine_find,
    machine_state, frequency, bits, modes, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; parameters int32[n_channels, 6]."""
    n, m = elements.shape
    chain = m // streams
    r = np.uint64(precision)
    size = U1 << r
    states = np.int64(1) << precision
    places = np.zeros(m, np.int64)
    rows = np.zeros(m, np.int64)
    out = np.zeros(m, np.uint64)
    out_bits = np.zeros(m, np.uint64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    cursor = U0
    for i in range(n):
        line = elements[i]
        some = U0
        for j in range(m):
            some |= line[j]
        starts[i] = cursor
        if some == U0:
            modes[i] = MODE_ZERO
            bits[i] = ZERO_LINE_BITS
            if write:
                put(words, cursor, ZERO_LINE, ZERO_LINE_BITS)
            cursor += U64
            continue
        p = parameters[channel[i]]
        cell_first, class_first, cell_next, class_next = (
            np.int64(p[0]),
            np.int64(p[1]),
            np.int64(p[3]),
            np.int64(p[4]),
        )
        mean_first, slope = np.int64(p[2]), np.int64(p[5])
        drop = cell_next - cell_first
        mean_next = mean_first << -drop if drop <= 0 else mean_first >> drop
        for w in range(BUFFER_WORDS):
            raw[w] = U0
        fill = U0
        pre = np.uint64(streams) * r
        previous = np.int64(0)
        at_chain = 0
        for j in range(m):
            if at_chain == 0:
                cell, sigma_class, prediction = cell_first, class_first, mean_first
            else:
                cell, sigma_class = cell_next, class_next
                prediction = mean_next + ((slope * previous + 4) >> SLOPE_SHIFT)
            row, shift, mirrored = row_and_shift(prediction, sigma_class)
            u = line[j]
            index, raw_bits = cell_of(u, cell, width, mantissa, bias)
            s = (-index if mirrored else index) - shift + OFFSET
            if index == ESCAPED or s < 0 or s >= ESCAPE_SYMBOL or frequency[row, s] == 0:
                s = np.int64(ESCAPE_SYMBOL)
                raw_bits = width
                previous = np.int64(0)
            elif at_chain == 0:
                value = middle(index)
                previous = (value << -drop if drop <= 0 else value >> drop) - mean_next
            else:
                previous = middle(index) - mean_next
            rows[j] = row
            places[j] = row * 256 + s
            if write or fill < pre:
                value_bits = u if s == ESCAPE_SYMBOL else (u >> (width - U1) if index == 0 else low_bits(u, raw_bits))
                fill = put(raw, fill, value_bits, raw_bits)
            else:
                fill += raw_bits
            at_chain = at_chain + 1 if at_chain + 1 < chain else 0
        for c in range(streams):
            state[c] = size + low_bits(read64(raw, np.uint64(c) * r), r)
        stepped = U0
        for back in range(chain):
            t = chain - 1 - back
            for c in range(streams):
                j = c * chain + t
                x = state[c]
                nb = np.uint64((np.int64(x) + machine_bits[places[j]]) >> 16)
                out[j] = low_bits(x, nb)
                out_bits[j] = nb
                stepped += nb
                state[c] = np.uint64(machine_state[rows[j] * states + np.int64(x >> nb) + machine_find[places[j]]])
        x = state[0]
        nb = np.uint64((np.int64(x) + machine_bits[MODE_CODED]) >> 16)
        head = low_bits(x, nb)
        state[0] = np.uint64(machine_state[np.int64(x >> nb) + machine_find[MODE_CODED]])
        pre = min(pre, fill)
        used = np.uint64(streams) * r + nb + stepped + fill - pre
        if used >= np.uint64(m) * width:
            modes[i] = MODE_RAW
            used = code_raw(
                line, m, width, machine_bits, machine_find, machine_state, precision, words, cursor, write
            )
        else:
            modes[i] = MODE_CODED
            if write:
                at = put(words, cursor, state[0] - size, r)
                at = put(words, at, head, nb)
                for c in range(1, streams):
                    at = put(words, at, state[c] - size, r)
                for t in range(chain):
                    for c in range(streams):
                        at = put(words, at, out[c * chain + t], out_bits[c * chain + t])
                copy_bits(raw, pre, words, at, fill - pre)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True)
def channel_decode(  # type: ignore[no-untyped-def]
    words, n_bits, starts, bits, channel, parameters, width, mantissa, bias, top, streams, precision, machine_decode,
    elements,
):  # fmt: skip
    """Inverse of `channel_code`; returns (line, problem), problem 0 where all is well."""
    n, m = elements.shape
    chain = m // streams
    r = np.uint64(precision)
    states = np.int64(1) << precision
    index = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    previous = np.zeros(streams, np.int64)
    for i in range(n):
        start = starts[i]
        end = start + np.uint64(bits[i])
        if end > n_bits or start > n_bits:
            return i, BAD_LENGTH
        line = elements[i]
        mode, x, at = read_head(words, start, machine_decode, precision)
        if mode == MODE_ZERO:
            for j in range(m):
                line[j] = U0
        elif mode == MODE_RAW:
            at = read_raw(words, at, x, precision, width, m, line)
        elif mode == MODE_CODED:
            p = parameters[channel[i]]
            cell_first, class_first, cell_next, class_next = (
                np.int64(p[0]), np.int64(p[1]), np.int64(p[3]), np.int64(p[4]),
            )  # fmt: skip
            mean_first, slope = np.int64(p[2]), np.int64(p[5])
            drop = cell_next - cell_first
            mean_next = mean_first << -drop if drop <= 0 else mean_first >> drop
            state[0] = x
            for c in range(1, streams):
                state[c] = low_bits(read64(words, at), r)
                at += r
            for t in range(chain):
                for c in range(streams):
                    if t == 0:
                        sigma_class, prediction = class_first, mean_first
                    else:
                        sigma_class = class_next
                        prediction = mean_next + ((slope * previous[c] + 4) >> SLOPE_SHIFT)
                    row, shift, mirrored = row_and_shift(prediction, sigma_class)
                    entry = np.uint64(machine_decode[row * states + np.int64(state[c])])
                    nb = (entry >> U12) & U15
                    state[c] = (entry & U4095) + low_bits(read64(words, at), nb)
                    at += nb
                    s = np.int64(entry >> U16)
                    if s == ESCAPE_SYMBOL:
                        index[c * chain + t] = ESCAPED
                        previous[c] = 0
                    else:
                        k = s - OFFSET + shift
                        k = -k if mirrored else k
                        index[c * chain + t] = k
                        value = middle(k)
                        if t == 0:
                            value = value << -drop if drop <= 0 else value >> drop
                        previous[c] = value - mean_next
            fill = U0
            for j in range(m):
                if index[j] == ESCAPED:
                    fill += width
                    line[j] = width << U16 << U16
                elif index[j] == 0:
                    fill += U1
                    line[j] = U1 << U16 << U16
                else:
                    cell = cell_first if j % chain == 0 else cell_next
                    value_bits, raw_bits, exists = value_of(index[j], cell, width, mantissa, bias, top)
                    if not exists:
                        return i, BAD_VALUE
                    fill += raw_bits
                    line[j] = value_bits | (raw_bits << U16 << U16)
            for w in range(BUFFER_WORDS):
                raw[w] = U0
            pre = np.uint64(streams) * r
            for c in range(streams):
                put(raw, np.uint64(c) * r, state[c], r)
            if pre > fill:
                if read64(raw, fill) != U0 or read64(raw, fill + U64) != U0:
                    return i, BAD_PADDING
            else:
                if at + fill - pre > end:
                    return i, BAD_END
                copy_bits(words, at, raw, pre, fill - pre)
                at += fill - pre
            q = U0
            for j in range(m):
                raw_bits = line[j] >> U16 >> U16
                value_bits = low_bits(read64(raw, q), raw_bits)
                q += raw_bits
                if index[j] == 0:
                    value_bits <<= width - U1
                line[j] = (line[j] & np.uint64(0xFFFFFFFF)) | value_bits
        else:
            return i, BAD_MODE
        if at != end:
            return i, BAD_END
    return n, OK
