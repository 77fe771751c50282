"""Kernels of ``sc2``: one Huffman code a 32-bit word, an escape before words that the code book does not hold."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import (
    BAD_CODE,
    BAD_SIZE,
    CODED,
    HALF,
    NOT_CANONICAL,
    OK,
    RAW,
    U0,
    U1,
    U6,
    U16,
    U32,
    WORD,
    finish,
    get,
    get_raw32,
    put,
    put_raw32,
)

_MULTIPLIER = np.uint64(0x9E3779B1)


@njit
def _entry(x, keys, entries, shift):  # type: ignore[no-untyped-def]
    """code | length << 16 of a word, 0 if the book does not hold it; ``shift`` = 32 - log2 of the slots."""
    last = np.uint64(len(keys) - 1)
    slot = ((x * _MULTIPLIER) & WORD) >> shift
    while entries[slot] != 0:
        if np.uint64(keys[slot]) == x:
            return np.uint64(entries[slot])
        slot = (slot + U1) & last
    return U0


@njit
def _size(words, line, keys, entries, shift, escape_bits):  # type: ignore[no-untyped-def]
    """Code bits of a line, header bit not counted."""
    bits = U0
    for k in range(words.shape[1]):
        entry = _entry(np.uint64(words[line, k]), keys, entries, shift)
        bits += entry >> U16 if entry else escape_bits + U32
    return bits


@njit(cache=True)
def measure(words, keys, entries, shift, escape_bits, most, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint32[n, m] into bits uint16[n]; codes over ``most`` bits are raw."""
    raw = U32 * np.uint64(words.shape[1])
    for line in range(words.shape[0]):
        size = _size(words, line, keys, entries, shift, escape_bits)
        bits[line] = U1 + (size if size <= most else raw)


@njit(cache=True)
def encode(words, keys, entries, shift, escape, escape_bits, most, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    m = words.shape[1]
    word = U0
    for line in range(words.shape[0]):
        first = word
        starts[line] = first << U6
        held, used = CODED, U1
        for k in range(m):
            x = np.uint64(words[line, k])
            entry = _entry(x, keys, entries, shift)
            if entry:
                word, held, used = put(out, word, held, used, entry & HALF, entry >> U16)
            else:
                word, held, used = put(out, word, held, used, escape | (x << escape_bits), escape_bits + U32)
        size = ((word - first) << U6) + used
        if size - U1 > most:
            word = put_raw32(words, line, out, first, RAW, U1)
            size = U1 + U32 * np.uint64(m)
        else:
            word = finish(out, word, held, used)
        bits[line] = size
    return word


@njit(cache=True)
def decode(payload, starts, bits, look_up, decoded, keys, entries, shift, escape_bits, most, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode` into out uint32[n, m]; (line, reason) of the first damaged line, or (-1, OK)."""
    m = out.shape[1]
    raw = U1 + U32 * np.uint64(m)
    mask = np.uint64(len(look_up) - 1)
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
            if _size(out, line, keys, entries, shift, escape_bits) <= most:
                return line, NOT_CANONICAL
            continue
        for k in range(m):
            entry = np.uint64(look_up[get(payload, at, U32) & mask])
            if entry == U0:
                return line, BAD_CODE
            at += entry >> U16
            if entry & HALF:
                out[line, k] = decoded[entry & HALF]
                continue
            x = get(payload, at, U32)
            at += U32
            if _entry(x, keys, entries, shift):
                return line, NOT_CANONICAL
            out[line, k] = x
        if at != end:
            return line, BAD_SIZE
        if size - U1 > most:
            return line, NOT_CANONICAL
    return -1, OK
