"""Kernels of ``fpc``: frequent pattern compression of 32-bit words, zero runs and seven patterns."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import (
    BAD_CODE,
    BAD_SIZE,
    BYTE,
    CODED,
    HALF,
    NOT_CANONICAL,
    OK,
    RAW,
    U0,
    U1,
    U3,
    U4,
    U6,
    U8,
    U16,
    U32,
    WORD,
    finish,
    get,
    get_raw32,
    is_signed,
    put,
    put_raw32,
    sign_extend,
)

ZERO_RUN, SIGNED_4, SIGNED_8, SIGNED_16, LOW_ZERO, TWO_BYTES, ONE_BYTE, PLAIN = range(8)
"""Prefixes, in the order in which they are tried."""

LONGEST_RUN = 8
DATA_BITS = np.array([3, 4, 8, 16, 16, 16, 8, 32], np.uint64)
"""Bits after the three of the prefix."""

_REPEAT = np.uint64(0x01010101)
_SIGN_BYTE = np.uint64(0x80)


@njit
def _pattern(x):  # type: ignore[no-untyped-def]
    """The first pattern that the word has."""
    if x == U0:
        return ZERO_RUN
    if is_signed(x, U4):
        return SIGNED_4
    if is_signed(x, U8):
        return SIGNED_8
    if is_signed(x, U16):
        return SIGNED_16
    if x & HALF == U0:
        return LOW_ZERO
    # Each halfword on its own, as unsigned 16-bit numbers: a signed comparison here would lose the negative bytes.
    low, high = x & HALF, x >> U16
    if ((low + _SIGN_BYTE) & HALF) <= BYTE and ((high + _SIGN_BYTE) & HALF) <= BYTE:
        return TWO_BYTES
    if x == (x & BYTE) * _REPEAT:
        return ONE_BYTE
    return PLAIN


@njit
def _data(x, pattern):  # type: ignore[no-untyped-def]
    """What is stored of a word, `DATA_BITS` wide."""
    if pattern == SIGNED_4:
        return x & np.uint64(15)
    if pattern in (SIGNED_8, ONE_BYTE):
        return x & BYTE
    if pattern == SIGNED_16:
        return x & HALF
    if pattern == LOW_ZERO:
        return x >> U16
    if pattern == TWO_BYTES:
        return (x & BYTE) | ((x >> U8) & (BYTE << U8))
    return x


@njit
def _word(data, pattern):  # type: ignore[no-untyped-def]
    """Inverse of `_data`."""
    if pattern == SIGNED_4:
        return sign_extend(data, U4)
    if pattern == SIGNED_8:
        return sign_extend(data, U8)
    if pattern == SIGNED_16:
        return sign_extend(data, U16)
    if pattern == LOW_ZERO:
        return data << U16
    if pattern == TWO_BYTES:
        return (sign_extend(data & BYTE, U8) & HALF) | ((sign_extend(data >> U8, U8) << U16) & WORD)
    if pattern == ONE_BYTE:
        return data * _REPEAT
    return data


@njit
def _size(words, line):  # type: ignore[no-untyped-def]
    """Code bits of a line, header not counted."""
    bits = U0
    run = 0
    for k in range(words.shape[1]):
        x = np.uint64(words[line, k])
        if x == U0:
            # The first word of a run pays for it; the run starts anew after eight words.
            if run == 0:
                bits += U6
            run = run + 1 if run + 1 < LONGEST_RUN else 0
        else:
            run = 0
            bits += U3 + DATA_BITS[_pattern(x)]
    return bits


@njit(cache=True)
def measure(words, most, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint32[n, m] into bits uint16[n]; codes over ``most`` bits are raw."""
    raw = U32 * np.uint64(words.shape[1])
    for line in range(words.shape[0]):
        size = _size(words, line)
        bits[line] = U1 + (size if size <= most else raw)


@njit(cache=True)
def encode(words, most, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    m = words.shape[1]
    word = U0
    for line in range(words.shape[0]):
        first = word
        starts[line] = first << U6
        held, used = CODED, U1
        k = 0
        while k < m:
            x = np.uint64(words[line, k])
            if x == U0:
                run = 1
                while run < LONGEST_RUN and k + run < m and words[line, k + run] == 0:
                    run += 1
                word, held, used = put(out, word, held, used, np.uint64(run - 1) << U3, U6)
                k += run
                continue
            pattern = _pattern(x)
            value = np.uint64(pattern) | (_data(x, pattern) << U3)
            word, held, used = put(out, word, held, used, value, U3 + DATA_BITS[pattern])
            k += 1
        size = ((word - first) << U6) + used
        if size - U1 > most:
            word = put_raw32(words, line, out, first, RAW, U1)
            size = U1 + U32 * np.uint64(m)
        else:
            word = finish(out, word, held, used)
        bits[line] = size
    return word


@njit(cache=True)
def decode(payload, starts, bits, most, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode` into out uint32[n, m]; (line, reason) of the first damaged line, or (-1, OK)."""
    m = out.shape[1]
    raw = U1 + U32 * np.uint64(m)
    for line in range(out.shape[0]):
        at = starts[line]
        size = np.uint64(bits[line])
        if size == U0:
            return line, BAD_SIZE
        end = at + size
        coded = get(payload, at, U1) == CODED
        at += U1
        if not coded:
            if size != raw:
                return line, BAD_SIZE
            get_raw32(payload, at, out, line)
            if _size(out, line) <= most:
                return line, NOT_CANONICAL
            continue
        k = np.int64(0)
        short_run = False
        while k < m:
            pattern = np.int64(get(payload, at, U3))
            data = get(payload, at + U3, DATA_BITS[pattern])
            at += U3 + DATA_BITS[pattern]
            if pattern == ZERO_RUN:
                run = np.int64(data) + 1
                if k + run > m:
                    return line, BAD_CODE
                if short_run:
                    return line, NOT_CANONICAL
                short_run = bool(run < LONGEST_RUN)
                for j in range(run):
                    out[line, k + j] = U0
                k += run
                continue
            x = _word(data, pattern)
            if _pattern(x) != pattern:
                return line, NOT_CANONICAL
            out[line, k] = x
            short_run = False
            k += 1
        if at != end:
            return line, BAD_SIZE
        if size - U1 > most:
            return line, NOT_CANONICAL
    return -1, OK
