"""Kernels of ``zero`` and ``repeat``: lines of one repeated 64-bit word, stored once or (zero) not at all."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import (
    BAD_SIZE,
    CODED,
    NOT_CANONICAL,
    OK,
    RAW,
    U0,
    U1,
    U64,
    finish,
    put,
    put_raw,
    window,
)


@njit
def _uniform(words, line, stored):  # type: ignore[no-untyped-def]
    """Whether the line is of the coded class: all words equal, and zero unless the word is ``stored``."""
    first = words[line, 0]
    differ = U0 if stored else first
    for k in range(words.shape[1]):
        differ |= words[line, k] ^ first
    return differ == U0


@njit(cache=True)
def measure(words, stored, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint64[n, k] into bits uint16[n]."""
    coded = U1 + (U64 if stored else U0)
    raw = U1 + U64 * np.uint64(words.shape[1])
    for line in range(words.shape[0]):
        bits[line] = coded if _uniform(words, line, stored) else raw


@njit(cache=True)
def encode(words, stored, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    word = U0
    for line in range(words.shape[0]):
        starts[line] = word * U64
        if _uniform(words, line, stored):
            held, used = CODED, U1
            if stored:
                word, held, used = put(out, word, held, used, words[line, 0], U64)
            word = finish(out, word, held, used)
            bits[line] = U1 + (U64 if stored else U0)
        else:
            word = put_raw(words, line, out, word, RAW, U1)
            bits[line] = U1 + U64 * np.uint64(words.shape[1])
    return word


@njit(cache=True)
def decode(payload, starts, bits, stored, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode`; returns (line, reason) of the first damaged line, or (-1, OK)."""
    n_words = out.shape[1]
    for line in range(out.shape[0]):
        at = starts[line]
        size = np.uint64(bits[line])
        if size == U0:
            return line, BAD_SIZE
        header = window(payload, at) & U1
        at += U1
        if header == CODED:
            value = U0
            if stored:
                value = window(payload, at)
                at += U64
            for k in range(n_words):
                out[line, k] = value
        else:
            for k in range(n_words):
                out[line, k] = window(payload, at)
                at += U64
        if at != starts[line] + size:
            return line, BAD_SIZE
        if header == RAW and _uniform(out, line, stored):
            return line, NOT_CANONICAL
    return -1, OK
