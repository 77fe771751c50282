"""Writing and reading bit fields in the kernels of the classic cache-line codecs, and what their decoders report.

Streams run from the least significant bit of little-endian 64-bit words; a prefix code is written leftmost bit first,
so its constant here is the published code read backwards. Every operand is uint64: an int64 mixed with a uint64 would
become a float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U0, U1, U2, U3, U4, U5, U6, U7, U8 = (np.uint64(i) for i in range(9))
U16, U24, U32, U63, U64 = (np.uint64(i) for i in (16, 24, 32, 63, 64))
BYTE, HALF, WORD = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)

RAW, CODED = U0, U1
"""The header bit of a line in the codecs with a single coded class."""

SLACK_WORDS = 16
"""Words an encoder may write past a line's start before it falls back to raw, and a decoder may read past it: the
longest code of any of the codecs (sixteen escapes of 15 + 32 bits), the header, and the word that `window` reads
ahead."""

OK, BAD_SIZE, BAD_CODE, NOT_CANONICAL = 0, 1, 2, 3
REASONS = {
    BAD_SIZE: "its code does not end where its size says",
    BAD_CODE: "its code has a field that no line has",
    NOT_CANONICAL: "its code is not the one that the encoder writes for that line",
}


@njit
def put(out, word, held, used, value, width):  # type: ignore[no-untyped-def]
    """Append ``width`` (0..64) bits to a stream whose word ``word`` holds ``used`` (0..63) bits in ``held``.

    Returns (word, held, used). ``value`` must be below 2^width.
    """
    held |= value << used
    out[word] = held
    high = (value >> U1) >> (U63 - used)
    used += width
    full = used >> U6
    held = high if full else held
    return word + full, held, used & U63


@njit
def finish(out, word, held, used):  # type: ignore[no-untyped-def]
    """End a line: the word after it. Writes nothing behind the line, so that lines may be written in any order."""
    if used:
        out[word] = held
        word += U1
    return word


@njit
def put_raw(words, line, out, word, header, width):  # type: ignore[no-untyped-def]
    """Write a header and the line as it is from word ``word`` on; returns the word after it."""
    held, used = header, width
    for k in range(words.shape[1]):
        word, held, used = put(out, word, held, used, np.uint64(words[line, k]), U64)
    return finish(out, word, held, used)


@njit
def put_raw32(words, line, out, word, header, width):  # type: ignore[no-untyped-def]
    """`put_raw` for lines of 32-bit words, two at a time."""
    held, used = header, width
    for k in range(words.shape[1] // 2):
        value = np.uint64(words[line, 2 * k]) | (np.uint64(words[line, 2 * k + 1]) << U32)
        word, held, used = put(out, word, held, used, value, U64)
    return finish(out, word, held, used)


@njit
def window(payload, at):  # type: ignore[no-untyped-def]
    """The 64 bits that start at bit ``at``; reads one word beyond the one that bit lies in."""
    word, bit = at >> U6, at & U63
    return (payload[word] >> bit) | ((payload[word + U1] << U1) << (U63 - bit))


@njit
def get(payload, at, width):  # type: ignore[no-untyped-def]
    """``width`` (0..63) bits from bit ``at``."""
    return window(payload, at) & ((U1 << width) - U1)


@njit
def get_raw32(payload, at, out, line):  # type: ignore[no-untyped-def]
    """A raw line of 32-bit words from bit ``at``, two at a time."""
    for k in range(out.shape[1] // 2):
        value = window(payload, at)
        out[line, 2 * k] = value & WORD
        out[line, 2 * k + 1] = value >> U32
        at += U64


@njit
def sign_extend(value, width):  # type: ignore[no-untyped-def]
    """The low ``width`` bits of a two's complement number as a 32-bit one."""
    sign = U1 << (width - U1)
    return ((value ^ sign) - sign) & WORD


@njit
def is_signed(value, width):  # type: ignore[no-untyped-def]
    """Whether a 32-bit word is the sign extension of its low ``width`` bits."""
    return ((value + (U1 << (width - U1))) & WORD) < (U1 << width)
