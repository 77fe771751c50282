"""Hot loops of static tables: stream layout in `tans.kernels`."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_LONG,
    BAD_MODE,
    BAD_PADDING,
    BUFFER_WORDS,
    ESCAPE,
    FIRST,
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
    ZERO,
    ZERO_LINE,
    ZERO_LINE_BITS,
    code_raw,
    copy_bits,
    emit,
    emit_tail,
    low_bits,
    put,
    read64,
    read_head,
    read_raw,
    step_back,
)

U2, U3, U4, U8, U256 = (np.uint64(i) for i in (2, 3, 4, 8, 256))


@njit(cache=True, inline="always")
def field_of(u, low, signed, flip, sign_shift):  # type: ignore[no-untyped-def]
    """Field value of element ``u``: sign raw (signed = 0), sign below the field (1), or an integer's top bits (2)."""
    if signed == 2:
        return (u ^ flip) >> low
    magnitude = (u & ((U1 << sign_shift) - U1)) >> low
    if signed == 1:
        return (magnitude << U1) | (u >> sign_shift)
    return magnitude


@njit(cache=True, inline="always")
def _gather_plain(line, m, low, signed, sign_shift, raw, whole, most):  # type: ignore[no-untyped-def]
    """Raw fields of a line without escapes into ``raw`` (``most`` bits unless ``whole``); returns all their bits."""
    low_mask = (U1 << low) - U1
    raw_width = low + (U1 if signed == 0 else U0)
    i, s, held = U0, U0, U0
    fill = U0
    for j in range(m):
        value = line[j] & low_mask
        if signed == 0:
            value |= (line[j] >> sign_shift) << low
        i, s, held = emit(raw, i, s, held, value, raw_width)
        fill += raw_width
        if fill >= most and not whole:
            break
    return np.uint64(m) * raw_width


@njit(cache=True, inline="always")
def _gather_raw(line, fresh, coded, m, width, low, signed, sign_shift, raw):  # type: ignore[no-untyped-def]
    """Raw fields of a line into ``raw``; returns their bits."""
    low_mask = (U1 << low) - U1
    raw_width = low + (U1 if signed == 0 else U0)
    i, s, held = U0, U0, U0
    fill = U0
    for j in range(m):
        u = line[j]
        symbol = np.int64(fresh[j]) if j < coded else ESCAPE
        value = u
        bits = width
        if symbol >= FIRST:
            value = u & low_mask
            if signed == 0:
                value |= (u >> sign_shift) << low
            bits = raw_width
        elif symbol == ZERO:
            bits = U0
        i, s, held = emit(raw, i, s, held, value, bits)
        fill += bits
    return fill


@njit(cache=True)
def static_code(  # type: ignore[no-untyped-def]
    elements, width, low, signed, flip, coded, streams, precision, first, n_symbols, use_zero,
    symbol_cost, mode_cost, machine_bits, machine_find, machine_state, frequency, bits, modes, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines under rows chosen per line.

    elements : uint64[n, m]; symbol_cost : int32[K, 256] in 1/256 bit, raw bits included; mode_cost : int32[2 + K].
    bits : uint16[n], modes : uint8[n], words : uint64[...], starts : uint64[n] are written. Returns the bits used.
    """
    n, m = elements.shape
    tables = symbol_cost.shape[0]
    r = np.uint64(precision)
    size = U1 << r
    sign_shift = width - U1
    symbols = np.zeros(m, np.uint8)
    out = np.zeros(m, np.uint64)
    out_bits = np.zeros(m, np.uint64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    flush = np.uint64(streams) * r
    wide = streams == 4 and coded % 4 == 0
    cursor = U0
    for i in range(n):
        line = elements[i]
        starts[i] = cursor
        some = U0
        for j in range(m):
            some |= line[j]
        if some == U0:
            modes[i] = MODE_ZERO
            bits[i] = ZERO_LINE_BITS
            if write:
                emit(words, cursor >> np.uint64(6), U0, U0, ZERO_LINE, ZERO_LINE_BITS)
            cursor += U64
            continue
        for j in range(coded):
            u = line[j]
            v = np.int64(field_of(u, low, signed, flip, sign_shift)) - first + FIRST
            s = v if v >= FIRST and v < n_symbols else ESCAPE
            if use_zero and u == U0:
                s = ZERO
            symbols[j] = s
        best = 0
        least = np.int64(1) << 60
        for k in range(tables):
            total = np.int64(mode_cost[MODE_CODED + k])
            for j in range(coded):
                total += symbol_cost[k, symbols[j]]
            if total < least:
                least = total
                best = k
        used = np.uint64(1 << 20)
        fill = U0
        head = U0
        head_bits = U0
        if tables > 0:
            row = np.uint64(best + 1)
            base = row * U256
            odd = 0
            for j in range(coded):
                if frequency[best + 1, symbols[j]] == 0:
                    symbols[j] = ESCAPE
                odd += symbols[j] < FIRST
            for w in range(BUFFER_WORDS):
                raw[w] = U0
            if odd == 0 and coded == m:
                fill = _gather_plain(line, m, low, signed, sign_shift, raw, write, flush)
            else:
                fill = _gather_raw(line, symbols, coded, m, width, low, signed, sign_shift, raw)
            for c in range(streams):
                state[c] = size + low_bits(read64(raw, np.uint64(c) * r), r)
            stepped = U0
            if wide:
                x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
                for t in range(coded // 4 - 1, -1, -1):
                    j = 4 * t
                    v0, n0, x0 = step_back(
                        x0, base + np.uint64(symbols[j]), row, r, machine_bits, machine_find, machine_state
                    )
                    v1, n1, x1 = step_back(
                        x1, base + np.uint64(symbols[j + 1]), row, r, machine_bits, machine_find, machine_state
                    )
                    v2, n2, x2 = step_back(
                        x2, base + np.uint64(symbols[j + 2]), row, r, machine_bits, machine_find, machine_state
                    )
                    v3, n3, x3 = step_back(
                        x3, base + np.uint64(symbols[j + 3]), row, r, machine_bits, machine_find, machine_state
                    )
                    four = n0 + n1 + n2 + n3
                    stepped += four
                    if write:
                        out[t] = v0 | ((v1 | ((v2 | (v3 << n2)) << n1)) << n0)
                        out_bits[t] = four
                state[0], state[1], state[2], state[3] = x0, x1, x2, x3
            else:
                c = (coded - 1) % streams
                for j in range(coded - 1, -1, -1):
                    out[j], out_bits[j], state[c] = step_back(
                        state[c], base + np.uint64(symbols[j]), row, r, machine_bits, machine_find, machine_state
                    )
                    stepped += out_bits[j]
                    c = c - 1 if c > 0 else streams - 1
            head, head_bits, state[0] = step_back(
                state[0], np.uint64(MODE_CODED + best), U0, r, machine_bits, machine_find, machine_state
            )
            used = flush + head_bits + stepped + fill - min(flush, fill)
        if used >= np.uint64(m) * width:
            modes[i] = MODE_RAW
            if write:
                for w in range(m * np.int64(width) // 64 + 1):
                    words[(cursor >> np.uint64(6)) + np.uint64(w)] = U0
                    words[(cursor >> np.uint64(6)) + np.uint64(w + 1)] = U0
            used = code_raw(
                line, m, width, machine_bits, machine_find, machine_state, precision, words, cursor, write
            )
        else:
            modes[i] = MODE_CODED + best
            if write:
                i_word, s_bit, held = emit(words, cursor >> np.uint64(6), U0, U0, state[0] - size, r)
                i_word, s_bit, held = emit(words, i_word, s_bit, held, head, head_bits)
                for c in range(1, streams):
                    i_word, s_bit, held = emit(words, i_word, s_bit, held, state[c] - size, r)
                for t in range(coded // 4 if wide else coded):
                    i_word, s_bit, held = emit(words, i_word, s_bit, held, out[t], out_bits[t])
                emit_tail(words, i_word, s_bit, held, raw, min(flush, fill), fill)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True, inline="always")
def _step(x, base, window, machine_decode):  # type: ignore[no-untyped-def]
    """One decoder step: (symbol, next state, window after it, bits read)."""
    entry = np.uint64(machine_decode[base + x])
    nb = (entry >> U12) & U15
    return entry >> U16, (entry & U4095) + low_bits(window, nb), window >> nb, nb


@njit(cache=True)
def static_decode(  # type: ignore[no-untyped-def]
    words, starts, bits, width, low, signed, flip, coded, streams, precision, first, use_zero, tables,
    machine_decode, elements,
):  # fmt: skip
    """Inverse of `static_code` into ``elements`` uint64[n, m].

    Returns (line, problem) of the first damaged line, problem 0 where there is none.
    """
    n, m = elements.shape
    r = np.uint64(precision)
    sign_shift = width - U1
    raw_width = low + (U1 if signed == 0 else U0)
    low_mask = (U1 << low) - U1
    symbols = np.zeros(m, np.uint8)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    flush = np.uint64(streams) * r
    wide = streams == 4 and coded % 4 == 0
    first_value = np.uint64(first)
    for i in range(n):
        start = starts[i]
        end = start + np.uint64(bits[i])
        line = elements[i]
        mode, x, at = read_head(words, start, machine_decode, precision)
        if mode >= MODE_CODED + tables:
            return i, BAD_MODE
        if mode == MODE_ZERO:
            for j in range(m):
                line[j] = U0
        elif mode == MODE_RAW:
            at = read_raw(words, at, x, precision, width, m, line)
        elif end - start >= np.uint64(m) * width:
            return i, BAD_LONG
        else:
            base = np.uint64(mode - MODE_CODED + 1) << r
            state[0] = x
            for c in range(1, streams):
                state[c] = low_bits(read64(words, at), r)
                at += r
            if wide:
                x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
                for t in range(coded // 4):
                    window = read64(words, at)
                    j = 4 * t
                    s0, x0, window, n0 = _step(x0, base, window, machine_decode)
                    s1, x1, window, n1 = _step(x1, base, window, machine_decode)
                    s2, x2, window, n2 = _step(x2, base, window, machine_decode)
                    s3, x3, window, n3 = _step(x3, base, window, machine_decode)
                    at += n0 + n1 + n2 + n3
                    symbols[j] = s0
                    symbols[j + 1] = s1
                    symbols[j + 2] = s2
                    symbols[j + 3] = s3
                state[0], state[1], state[2], state[3] = x0, x1, x2, x3
            else:
                c = 0
                for j in range(coded):
                    symbol, state[c], _, nb = _step(state[c], base, read64(words, at), machine_decode)
                    symbols[j] = symbol
                    at += nb
                    c = c + 1 if c + 1 < streams else 0
            odd = 0
            zeros = 0
            for j in range(coded):
                odd += symbols[j] < FIRST
                zeros += symbols[j] == ZERO
            plain = np.uint64(coded - odd)
            fill = plain * raw_width + np.uint64(m - coded + odd - zeros) * width
            for w in range(BUFFER_WORDS):
                raw[w] = U0
            for c in range(streams):
                put(raw, np.uint64(c) * r, state[c], r)
            if flush > fill:
                if read64(raw, fill) != U0 or read64(raw, fill + U64) != U0:
                    return i, BAD_PADDING
            else:
                if at + fill - flush > end:
                    return i, BAD_END
                copy_bits(words, at, raw, flush, fill - flush)
                at += fill - flush
            p = U0
            if odd == 0 and coded == m:
                for j in range(m):
                    value = low_bits(read64(raw, p), raw_width)
                    p += raw_width
                    v = np.uint64(symbols[j]) - U2 + first_value
                    line[j] = (v << low) | (value & low_mask)
                    if signed == 0:
                        line[j] |= (value >> low) << sign_shift
                    elif signed == 1:
                        line[j] = ((v >> U1) << low) | value | ((v & U1) << sign_shift)
                    else:
                        line[j] ^= flip
            else:
                for j in range(m):
                    s = np.int64(symbols[j]) if j < coded else ESCAPE
                    if s == ESCAPE:
                        line[j] = low_bits(read64(raw, p), width)
                        p += width
                    elif s == ZERO:
                        line[j] = U0
                    else:
                        value = low_bits(read64(raw, p), raw_width)
                        p += raw_width
                        v = np.uint64(s) - U2 + first_value
                        line[j] = (v << low) | (value & low_mask)
                        if signed == 0:
                            line[j] |= (value >> low) << sign_shift
                        elif signed == 1:
                            line[j] = ((v >> U1) << low) | value | ((v & U1) << sign_shift)
                        else:
                            line[j] ^= flip
        if at != end:
            return i, BAD_END
    return n, OK
