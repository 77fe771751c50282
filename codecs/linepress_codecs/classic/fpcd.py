"""Kernels of ``fpcd``: frequent patterns with a history of two words; prefixes first, stored bytes after them."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import (
    BAD_SIZE,
    BYTE,
    CODED,
    HALF,
    NOT_CANONICAL,
    OK,
    RAW,
    U0,
    U1,
    U4,
    U6,
    U8,
    U16,
    U24,
    U32,
    WORD,
    finish,
    get,
    get_raw32,
    put,
    put_raw32,
)

ZZZZ, FFFF, MMMM_P, MMMM_Q, ZZZX, XZZZ, RRRR, MMMX_P, MMMX_Q, ZZXX, ZXZX, FFXX, XXZZ, MMXX_P, MMXX_Q, XXXX = range(16)
"""Prefixes; bytes most significant first: Z zero, F 0xFF, R repeated, M as in the history, X stored."""

DATA_BITS = np.array([0, 0, 0, 0, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 32], np.uint64)
"""Bits of a word beside the four of its prefix."""

_REPEAT = np.uint64(0x01010101)
_ODD_BYTES = np.uint64(0xFF00FF00)
_LOW24 = np.uint64(0xFFFFFF)


@njit
def _pattern(x, p, q, known):  # type: ignore[no-untyped-def]
    """The pattern with the fewest bits; of equals those without history first, then Q, then P.

    ``known``: 0 words of history, 1 (in Q: the first word of a line), or 2.
    """
    if x == U0:
        return ZZZZ
    if x == WORD:
        return FFFF
    if known > 0 and x == q:
        return MMMM_Q
    if known > 1 and x == p:
        return MMMM_P
    if x <= BYTE:
        return ZZZX
    if x & _LOW24 == U0:
        return XZZZ
    if x == (x & BYTE) * _REPEAT:
        return RRRR
    if known > 0 and (x ^ q) <= BYTE:
        return MMMX_Q
    if known > 1 and (x ^ p) <= BYTE:
        return MMMX_P
    if x <= HALF:
        return ZZXX
    if x & _ODD_BYTES == U0:
        return ZXZX
    if x >> U16 == HALF:
        return FFXX
    if x & HALF == U0:
        return XXZZ
    if known > 0 and (x ^ q) <= HALF:
        return MMXX_Q
    if known > 1 and (x ^ p) <= HALF:
        return MMXX_P
    return XXXX


@njit
def _data(x, pattern):  # type: ignore[no-untyped-def]
    """The stored bytes of a word, `DATA_BITS` wide."""
    if pattern == XZZZ:
        return x >> U24
    if pattern == ZXZX:
        return (x & BYTE) | ((x >> U8) & (BYTE << U8))
    if pattern == XXZZ:
        return x >> U16
    return x & ((U1 << DATA_BITS[pattern]) - U1)


@njit
def _word(data, pattern, p, q):  # type: ignore[no-untyped-def]
    """Inverse of `_data`."""
    if pattern == FFFF:
        return WORD
    if pattern == MMMM_P:
        return p
    if pattern == MMMM_Q:
        return q
    if pattern == XZZZ:
        return data << U24
    if pattern == RRRR:
        return data * _REPEAT
    if pattern == MMMX_P:
        return (p & ~BYTE) | data
    if pattern == MMMX_Q:
        return (q & ~BYTE) | data
    if pattern == ZXZX:
        return (data & BYTE) | ((data & (BYTE << U8)) << U8)
    if pattern == FFXX:
        return (HALF << U16) | data
    if pattern == XXZZ:
        return data << U16
    if pattern == MMXX_P:
        return (p & ~HALF) | data
    if pattern == MMXX_Q:
        return (q & ~HALF) | data
    return data


@njit
def _size(words, line):  # type: ignore[no-untyped-def]
    """Code bits of a line, header bit not counted."""
    m = words.shape[1]
    bits = U4 * np.uint64(m)
    p, q = U0, U0
    for k in range(m):
        x = np.uint64(words[line, k])
        bits += DATA_BITS[_pattern(x, p, q, min(k, 2))]
        q = p if k > 1 else (q if k == 1 else x)
        p = x
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
        prefixes = U0
        # The prefixes come first in the stream but are known last: their bits are left free and filled in at the end.
        word, held, used = put(out, word, CODED, U1, U0, U4 * np.uint64(m))
        p, q = U0, U0
        for k in range(m):
            x = np.uint64(words[line, k])
            pattern = _pattern(x, p, q, min(k, 2))
            prefixes |= np.uint64(pattern) << np.uint64(4 * k)
            word, held, used = put(out, word, held, used, _data(x, pattern), DATA_BITS[pattern])
            q = p if k > 1 else (q if k == 1 else x)
            p = x
        size = ((word - first) << U6) + used
        if size - U1 > most:
            word = put_raw32(words, line, out, first, RAW, U1)
            size = U1 + U32 * np.uint64(m)
        else:
            word = finish(out, word, held, used)
            out[first] |= prefixes << U1
            if m == 16:
                out[first + U1] |= prefixes >> np.uint64(63)
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
        prefix_at = at
        at += U4 * np.uint64(m)
        p, q = U0, U0
        for k in range(m):
            pattern = np.int64(get(payload, prefix_at, U4))
            prefix_at += U4
            x = _word(get(payload, at, DATA_BITS[pattern]), pattern, p, q)
            at += DATA_BITS[pattern]
            if _pattern(x, p, q, min(k, 2)) != pattern:
                return line, NOT_CANONICAL
            out[line, k] = x
            q = p if k > 1 else (q if k == 1 else x)
            p = x
        if at != end:
            return line, BAD_SIZE
        if size - U1 > most:
            return line, NOT_CANONICAL
    return -1, OK
