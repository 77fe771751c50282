"""Hot loops of the tANS line coders.

A coded line, bits in the order they are read (least significant bit of a word first), ``R`` = precision:

1. ``R`` bits: state of stream 0; then the bits of its first step, which decodes the line's *mode* from row 0.
2. ``R`` bits: the state of each further stream.
3. The bits of every element's step, element order; element ``j`` belongs to stream ``j % streams``.
4. The raw fields (sign and low mantissa bits, or whole elements after an escape), element order, without their
   first ``R * streams`` bits: those are the states in which the encoder starts (the decoder ends), so flushing the
   states costs nothing.

A raw line is step 1 and the line itself (its first ``R`` bits are the end state). A zero line is four ones: states of
row 0 that end in four ones are reserved for it (0.09 bits a line), so that no other line starts so. Every
operand is unsigned: int64 mixed with uint64 would become float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans_tables import RESERVED_BITS, RESERVED_MASK

MODE_RAW, MODE_ZERO, MODE_CODED = 0, 1, 2
ESCAPE, ZERO, FIRST = 0, 1, 2
"""Symbol ids of static rows: escape, the element whose bits are all zero, the first field value."""

OK, BAD_MODE, BAD_END, BAD_LENGTH, BAD_PADDING, BAD_VALUE = 0, 1, 2, 3, 4, 5
PROBLEMS = {
    BAD_MODE: "its mode has no table",
    BAD_END: "its code does not end where its size says",
    BAD_LENGTH: "its code lies outside the payload",
    BAD_PADDING: "bits that an encoder leaves zero are set",
    BAD_VALUE: "a coded value does not exist in the element format",
}

U0, U1, U6, U12, U15, U16, U32, U63, U64 = (np.uint64(i) for i in (0, 1, 6, 12, 15, 16, 32, 63, 64))
U4095 = np.uint64(4095)
ZERO_LINE_BITS, ZERO_LINE = np.uint64(RESERVED_BITS), np.uint64(RESERVED_MASK)
BUFFER_WORDS = 20
"""Words of the raw part of a 128 B line (16), of the end states (2) and slack for `read64`."""
PAD_WORDS = 64
"""Zero words after a payload: more than the steps of one damaged line can read past its end."""


@njit(cache=True, inline="always")
def read64(words, at):  # type: ignore[no-untyped-def]
    """The 64 bits of uint64 ``words`` that start at bit ``at``; reads one word beyond."""
    i = np.int64(at >> U6)
    s = at & U63
    return (words[i] >> s) | ((words[i + 1] << U1) << (U63 - s))


@njit(cache=True, inline="always")
def low_bits(value, bits):  # type: ignore[no-untyped-def]
    """The low ``bits`` (0..63) bits of ``value``."""
    return value & ((U1 << bits) - U1)


@njit(cache=True, inline="always")
def put(words, at, value, bits):  # type: ignore[no-untyped-def]
    """Write ``bits`` (0..63) bits at bit ``at`` into words zero from there on; returns the next position."""
    i = np.int64(at >> U6)
    s = at & U63
    words[i] |= value << s
    words[i + 1] |= (value >> U1) >> (U63 - s)
    return at + bits


@njit(cache=True)
def copy_bits(source, source_at, target, target_at, bits):  # type: ignore[no-untyped-def]
    """Copy ``bits`` bits between bit positions of two uint64 arrays; the target is zero from there on."""
    done = U0
    while done + U32 <= bits:
        put(target, target_at + done, read64(source, source_at + done) & np.uint64(0xFFFFFFFF), U32)
        done += U32
    if done < bits:
        put(target, target_at + done, low_bits(read64(source, source_at + done), bits - done), bits - done)


@njit(cache=True, inline="always")
def field_of(u, low, signed, flip, sign_shift):  # type: ignore[no-untyped-def]
    """Field value of element ``u``: sign raw (signed = 0), sign below the field (1), or an integer's top bits (2)."""
    if signed == 2:
        return (u ^ flip) >> low
    magnitude = (u & ((U1 << sign_shift) - U1)) >> low
    if signed == 1:
        return (magnitude << U1) | (u >> sign_shift)
    return magnitude


@njit(cache=True)
def code_raw(line, m, width, machine_bits, machine_find, machine_state, precision, words, at, write):  # type: ignore[no-untyped-def]
    """A raw line: returns its bits."""
    r = np.uint64(precision)
    buffer = np.zeros(BUFFER_WORDS, np.uint64)
    fill = U0
    for j in range(m):
        fill = put(buffer, fill, line[j], width)
    x = (U1 << r) + low_bits(buffer[0], r)
    nb = np.uint64((np.int64(x) + machine_bits[MODE_RAW]) >> 16)
    out = low_bits(x, nb)
    x = np.uint64(machine_state[np.int64(x >> nb) + machine_find[MODE_RAW]])
    if write:
        at = put(words, at, x - (U1 << r), r)
        at = put(words, at, out, nb)
        copy_bits(buffer, r, words, at, fill - r)
    return nb + fill


@njit(cache=True)
def static_code(  # type: ignore[no-untyped-def]
    elements, width, low, signed, flip, coded, streams, precision, first, n_symbols, use_zero,
    symbol_cost, mode_cost, machine_bits, machine_find, machine_state, frequency, bits, modes, words, starts, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of lines under rows chosen per line; see the module for the layout.

    elements : uint64[n, m]; symbol_cost : int32[K, 256] in 1/256 bit, raw bits included; mode_cost : int32[2 + K].
    bits : uint16[n], modes : uint8[n], words : uint64[...], starts : uint64[n] are written.
    """
    n, m = elements.shape
    tables = symbol_cost.shape[0]
    r = np.uint64(precision)
    size = U1 << r
    states = np.int64(1) << precision
    sign_shift = width - U1
    raw_width = low + (U1 if signed == 0 else U0)
    low_mask = (U1 << low) - U1
    symbols = np.zeros(m, np.int64)
    fresh = np.zeros(m, np.int64)
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
        for j in range(coded):
            u = line[j]
            v = np.int64(field_of(u, low, signed, flip, sign_shift)) - first + FIRST
            s = v if FIRST <= v < n_symbols else ESCAPE
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
        if tables > 0:
            row = best + 1
            for w in range(BUFFER_WORDS):
                raw[w] = U0
            fill = U0
            pre = np.uint64(streams) * r
            for j in range(m):
                u = line[j]
                s = ESCAPE
                if j < coded:
                    s = symbols[j]
                    if frequency[row, s] == 0:
                        s = ESCAPE
                    fresh[j] = s
                if s >= FIRST:
                    value = u & low_mask
                    if signed == 0:
                        value |= (u >> sign_shift) << low
                    fill = put(raw, fill, value, raw_width) if write or fill < pre else fill + raw_width
                elif s == ESCAPE:
                    fill = put(raw, fill, u, width) if write or fill < pre else fill + width
            for c in range(streams):
                state[c] = size + low_bits(read64(raw, np.uint64(c) * r), r)
            stepped = U0
            c = (coded - 1) % streams
            for back in range(coded):
                j = coded - 1 - back
                s = fresh[j]
                x = state[c]
                nb = np.uint64((np.int64(x) + machine_bits[row * 256 + s]) >> 16)
                out[j] = low_bits(x, nb)
                out_bits[j] = nb
                stepped += nb
                state[c] = np.uint64(machine_state[row * states + np.int64(x >> nb) + machine_find[row * 256 + s]])
                c = c - 1 if c > 0 else streams - 1
            x = state[0]
            nb = np.uint64((np.int64(x) + machine_bits[MODE_CODED + best]) >> 16)
            head = low_bits(x, nb)
            state[0] = np.uint64(machine_state[np.int64(x >> nb) + machine_find[MODE_CODED + best]])
            pre = min(pre, fill)
            used = np.uint64(streams) * r + nb + stepped + fill - pre
        if used >= np.uint64(m) * width:
            modes[i] = MODE_RAW
            used = code_raw(
                line, m, width, machine_bits, machine_find, machine_state, precision, words, cursor, write
            )
        else:
            modes[i] = MODE_CODED + best
            if write:
                at = put(words, cursor, state[0] - size, r)
                at = put(words, at, head, nb)
                for c in range(1, streams):
                    at = put(words, at, state[c] - size, r)
                for j in range(coded):
                    at = put(words, at, out[j], out_bits[j])
                copy_bits(raw, pre, words, at, fill - pre)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True)
def read_head(words, at, machine_decode, precision):  # type: ignore[no-untyped-def]
    """First step of a line: (mode, state of stream 0, next position)."""
    r = np.uint64(precision)
    x = low_bits(read64(words, at), r)
    if low_bits(x, ZERO_LINE_BITS) == ZERO_LINE:
        return np.int64(MODE_ZERO), U0, at + ZERO_LINE_BITS
    entry = np.uint64(machine_decode[np.int64(x)])
    nb = (entry >> U12) & U15
    at += r
    x = (entry & U4095) + low_bits(read64(words, at), nb)
    return np.int64(entry >> U16), x, at + nb


@njit(cache=True)
def read_raw(words, at, x, precision, width, m, line):  # type: ignore[no-untyped-def]
    """A raw line after its head."""
    r = np.uint64(precision)
    buffer = np.zeros(BUFFER_WORDS, np.uint64)
    whole = np.uint64(m) * width
    put(buffer, U0, x, r)
    copy_bits(words, at, buffer, r, whole - r)
    for j in range(m):
        line[j] = low_bits(read64(buffer, np.uint64(j) * width), width)
    return at + whole - r


@njit(cache=True)
def static_decode(  # type: ignore[no-untyped-def]
    words, n_bits, starts, bits, width, low, signed, flip, coded, streams, precision, first, use_zero, tables,
    machine_decode, elements,
):  # fmt: skip
    """Inverse of `static_code` into ``elements`` uint64[n, m]; returns (line, problem), problem 0 where all is well."""
    n, m = elements.shape
    r = np.uint64(precision)
    states = np.int64(1) << precision
    sign_shift = width - U1
    raw_width = low + (U1 if signed == 0 else U0)
    low_mask = (U1 << low) - U1
    symbols = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    state = np.zeros(streams, np.uint64)
    for i in range(n):
        start = starts[i]
        end = start + np.uint64(bits[i])
        if end > n_bits or start > n_bits:
            return i, BAD_LENGTH
        line = elements[i]
        mode, x, at = read_head(words, start, machine_decode, precision)
        if mode >= MODE_CODED + tables:
            return i, BAD_MODE
        if mode == MODE_ZERO:
            for j in range(m):
                line[j] = U0
        elif mode == MODE_RAW:
            at = read_raw(words, at, x, precision, width, m, line)
        else:
            base = (mode - MODE_CODED + 1) * states
            state[0] = x
            for c in range(1, streams):
                state[c] = low_bits(read64(words, at), r)
                at += r
            fill = np.uint64(m - coded) * width
            j = 0
            while j < coded:
                # Up to four steps share one read: 4 x 12 bits fit in 64.
                window = read64(words, at)
                for _ in range(4):
                    if j >= coded:
                        break
                    c = j % streams
                    entry = np.uint64(machine_decode[base + np.int64(state[c])])
                    nb = (entry >> U12) & U15
                    state[c] = (entry & U4095) + low_bits(window, nb)
                    window >>= nb
                    at += nb
                    s = np.int64(entry >> U16)
                    symbols[j] = s
                    fill += raw_width if s >= FIRST else (width if s == ESCAPE else U0)
                    j += 1
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
            p = U0
            for j in range(m):
                s = symbols[j] if j < coded else ESCAPE
                if s == ESCAPE:
                    line[j] = low_bits(read64(raw, p), width)
                    p += width
                elif s == ZERO and use_zero:
                    line[j] = U0
                else:
                    value = low_bits(read64(raw, p), raw_width)
                    p += raw_width
                    v = np.uint64(s - FIRST + first)
                    if signed == 2:
                        line[j] = ((v << low) | value) ^ flip
                    elif signed == 1:
                        line[j] = ((v >> U1) << low) | value | ((v & U1) << sign_shift)
                    else:
                        line[j] = (v << low) | (value & low_mask) | ((value >> low) << sign_shift)
        if at != end:
            return i, BAD_END
    return n, OK
