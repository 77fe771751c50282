"""Kernels of ``cpack``: 32-bit words against a dictionary of the line's own earlier words."""

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
    U2,
    U4,
    U6,
    U32,
    WORD,
    finish,
    get,
    get_raw32,
    put,
    put_raw32,
)

ENTRIES = 16
"""Entries of the dictionary; a 64 B line has sixteen words, so that none is ever pushed out."""

ZZZZ, XXXX, MMMM, MMXX, ZZZX, MMMX = range(6)
CODE = np.array([0b00, 0b10, 0b01, 0b0011, 0b1011, 0b0111], np.uint64)
"""00, 01, 10, 1100, 1101, 1110, each read backwards."""
CODE_BITS = np.array([2, 2, 2, 4, 4, 4], np.uint64)
DATA_BITS = np.array([0, 32, 4, 4 + 16, 8, 4 + 8], np.uint64)
"""Index (4 bits, first) and stored bytes."""


@njit
def _nearest(x, dictionary, entries):  # type: ignore[no-untyped-def]
    """The least exclusive or of the word with an entry: its size says how many high bytes the best match has."""
    least = WORD
    for i in range(entries):
        least = min(least, x ^ dictionary[i])
    return least


@njit
def _pattern(x, least):  # type: ignore[no-untyped-def]
    """The pattern with the fewest bits of a word whose nearest entry differs by ``least``."""
    if x == U0:
        return ZZZZ
    if least == U0:
        return MMMM
    if x <= BYTE:
        return ZZZX
    if least <= BYTE:
        return MMMX
    if least <= HALF:
        return MMXX
    return XXXX


@njit
def _entry(x, dictionary, pattern):  # type: ignore[no-untyped-def]
    """The oldest entry that gives the word its pattern; there must be one."""
    # A nearer entry than the pattern needs cannot occur: the word would have the better pattern.
    reach = U0 if pattern == MMMM else (BYTE if pattern == MMMX else HALF)
    i = 0
    while x ^ dictionary[i] > reach:
        i += 1
    return i


@njit
def _best(x, dictionary, entries):  # type: ignore[no-untyped-def]
    """(pattern with the fewest bits over all entries, entry); the oldest of equal entries."""
    pattern = _pattern(x, _nearest(x, dictionary, entries))
    if pattern in (MMMM, MMMX, MMXX):
        return pattern, _entry(x, dictionary, pattern)
    return pattern, 0


@njit
def _enters(pattern):  # type: ignore[no-untyped-def]
    """Whether the word enters the dictionary. One that is there already does not need to: on lines of at most
    sixteen words no size depends on it."""
    return pattern in (XXXX, MMXX, MMMX)


@njit
def _size(words, line, dictionary):  # type: ignore[no-untyped-def]
    """Code bits of a line, header bit not counted."""
    bits = U0
    entries = 0
    for k in range(words.shape[1]):
        x = np.uint64(words[line, k])
        pattern = _pattern(x, _nearest(x, dictionary, entries))
        bits += CODE_BITS[pattern] + DATA_BITS[pattern]
        if _enters(pattern):
            dictionary[entries] = x
            entries += 1
    return bits


@njit(cache=True)
def measure(words, most, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint32[n, m] into bits uint16[n]; codes over ``most`` bits are raw."""
    raw = U32 * np.uint64(words.shape[1])
    dictionary = np.empty(ENTRIES, np.uint64)
    for line in range(words.shape[0]):
        size = _size(words, line, dictionary)
        bits[line] = U1 + (size if size <= most else raw)


@njit(cache=True)
def encode(words, most, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    m = words.shape[1]
    dictionary = np.empty(ENTRIES, np.uint64)
    word = U0
    for line in range(words.shape[0]):
        first = word
        starts[line] = first << U6
        held, used = CODED, U1
        entries = 0
        for k in range(m):
            x = np.uint64(words[line, k])
            pattern, entry = _best(x, dictionary, entries)
            data = U0
            if pattern in (XXXX, ZZZX):
                data = x
            elif pattern == MMMM:
                data = np.uint64(entry)
            elif pattern == MMXX:
                data = np.uint64(entry) | ((x & HALF) << U4)
            elif pattern == MMMX:
                data = np.uint64(entry) | ((x & BYTE) << U4)
            width = CODE_BITS[pattern]
            value = CODE[pattern] | (data << width)
            word, held, used = put(out, word, held, used, value, width + DATA_BITS[pattern])
            if _enters(pattern):
                dictionary[entries] = x
                entries += 1
        size = ((word - first) << U6) + used
        if size - U1 > most:
            word = put_raw32(words, line, out, first, RAW, U1)
            size = U1 + U32 * np.uint64(m)
        else:
            word = finish(out, word, held, used)
        bits[line] = size
    return word


@njit
def _code(payload, at):  # type: ignore[no-untyped-def]
    """The pattern at bit ``at``, -1 for the code 1111 that none has."""
    two = get(payload, at, U2)
    if two == CODE[ZZZZ]:
        return ZZZZ
    if two == CODE[XXXX]:
        return XXXX
    if two == CODE[MMMM]:
        return MMMM
    four = get(payload, at, U4)
    for pattern in range(MMXX, MMMX + 1):
        if four == CODE[pattern]:
            return pattern
    return -1


@njit(cache=True)
def decode(payload, starts, bits, most, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode` into out uint32[n, m]; (line, reason) of the first damaged line, or (-1, OK)."""
    m = out.shape[1]
    raw = U1 + U32 * np.uint64(m)
    dictionary = np.empty(ENTRIES, np.uint64)
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
            if _size(out, line, dictionary) <= most:
                return line, NOT_CANONICAL
            continue
        entries = 0
        for k in range(m):
            pattern = _code(payload, at)
            if pattern < 0:
                return line, BAD_CODE
            at += CODE_BITS[pattern]
            data = get(payload, at, DATA_BITS[pattern])
            at += DATA_BITS[pattern]
            x = data
            entry = np.int64(0)
            if pattern in (MMMM, MMXX, MMMX):
                entry = np.int64(data & np.uint64(15))
                if entry >= entries:
                    return line, BAD_CODE
                x = dictionary[entry]
                if pattern == MMXX:
                    x = (x & ~HALF) | (data >> U4)
                elif pattern == MMMX:
                    x = (x & ~BYTE) | (data >> U4)
            best, first = _best(x, dictionary, entries)
            if best != pattern or first != entry:
                return line, NOT_CANONICAL
            out[line, k] = x
            if _enters(pattern):
                dictionary[entries] = x
                entries += 1
        if at != end:
            return line, BAD_SIZE
        if size - U1 > most:
            return line, NOT_CANONICAL
    return -1, OK
