"""Kernels of ``bdi``: small deltas from zero or from one base of 8, 4 or 2 bytes.

What a mask costs is the accounting: `MASK_NEVER` is the published table of sizes, which no decoder can read,
`MASK_IF_MIXED` and `MASK_ALWAYS` are the streams of the codec.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import line_words
from linepress_codecs.classic.bits import (
    BAD_CODE,
    BAD_SIZE,
    NOT_CANONICAL,
    OK,
    U0,
    U1,
    U4,
    U6,
    U8,
    U64,
    finish,
    get,
    put,
    put_raw,
    window,
)
from linepress_codecs.contracts import Lines

MASK_NEVER, MASK_IF_MIXED, MASK_ALWAYS = range(3)

ZEROS, REPEATED, FIRST_DELTA, RAW_TAG = 0, 1, 2, 15
"""Tags, as in Table 2 of the paper: 2 to 7 are the encodings below."""
MIXED = 6
"""Added to a tag where the mask follows only in lines that need it."""

BASE_LOG2 = np.array([3, 3, 3, 2, 2, 1], np.int64)
"""log2 of the bytes of base and elements, encodings 2 to 7."""
DELTA_BITS = np.array([8, 16, 32, 8, 16, 8], np.uint64)
TAG_BITS = U4
U64_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit
def _element(words, line, i, log2):  # type: ignore[no-untyped-def]
    """Element ``i`` of 2^log2 bytes."""
    per_log2 = 3 - log2
    shift = np.uint64((i & ((1 << per_log2) - 1)) << (3 + log2))
    return (words[line, i >> per_log2] >> shift) & (U64_ALL >> (U64 - (U8 << np.uint64(log2))))


@njit
def _near(delta, all_ones, bits, symmetric):  # type: ignore[no-untyped-def]
    """Whether a wrapped difference fits ``bits`` signed; ``symmetric`` refuses the most negative one."""
    low = (U1 << (bits - U1)) - np.uint64(symmetric)
    return ((delta + low) & all_ones) < (low + (U1 << (bits - U1)))


@njit
def _scan(words, line, encoding, symmetric):  # type: ignore[no-untyped-def]
    """(whether every element is near zero or the base, base, whether all are near the base).

    The base is the first element that is not near zero, 0 where there is none.
    """
    log2, bits = BASE_LOG2[encoding], DELTA_BITS[encoding]
    all_ones = U64_ALL >> (U64 - (U8 << np.uint64(log2)))
    count = words.shape[1] << (3 - log2)
    base, have, some_zero = U0, False, False
    for i in range(count):
        x = _element(words, line, i, log2)
        if _near(x, all_ones, bits, symmetric):
            some_zero = True
        elif not have:
            base, have = x, True
        elif not _near(x - base, all_ones, bits, symmetric):
            return False, U0, False
    if have and some_zero:
        for i in range(count):
            if not _near(_element(words, line, i, log2) - base, all_ones, bits, symmetric):
                return True, base, False
    return True, base, True


@njit
def _code_bits(encoding, n_words, mask):  # type: ignore[no-untyped-def]
    """Bits of a line in an encoding: base, a delta an element, and a mask bit an element with ``mask``."""
    count = np.uint64(n_words) << np.uint64(3 - BASE_LOG2[encoding])
    bits = (U8 << np.uint64(BASE_LOG2[encoding])) + count * DELTA_BITS[encoding]
    return bits + count if mask else bits


@njit
def _choose(words, line, mode, symmetric):  # type: ignore[no-untyped-def]
    """(tag, base, code bits) of the smallest encoding, the first of equals in the order of the tags."""
    n_words = words.shape[1]
    first = words[line, 0]
    differ = U0
    for k in range(1, n_words):
        differ |= words[line, k] ^ first
    if differ == U0:
        if first == U0:
            return ZEROS, U0, (U0 if mode == MASK_ALWAYS else U8)
        return REPEATED, first, U64
    tag, base, best = RAW_TAG, U0, U64 * np.uint64(n_words)
    for encoding in range(6):
        if _code_bits(encoding, n_words, mode == MASK_ALWAYS) >= best:
            continue
        fits, this_base, one_base = _scan(words, line, encoding, symmetric)
        if not fits:
            continue
        mixed = mode == MASK_IF_MIXED and not one_base
        size = _code_bits(encoding, n_words, mode == MASK_ALWAYS or mixed)
        if size < best:
            tag, base, best = FIRST_DELTA + encoding + (MIXED if mixed else 0), this_base, size
    return tag, base, best


@njit(cache=True)
def measure(words, mode, symmetric, tag_bits, most, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint64[n, k] into bits uint16[n]; codes over ``most`` bits are raw."""
    raw = U64 * np.uint64(words.shape[1])
    for line in range(words.shape[0]):
        _, _, size = _choose(words, line, mode, symmetric)
        bits[line] = tag_bits + (size if size <= most else raw)


@njit(cache=True)
def encode(words, mode, symmetric, most, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    n_words = words.shape[1]
    word = U0
    for line in range(words.shape[0]):
        first = word
        starts[line] = first << U6
        tag, base, size = _choose(words, line, mode, symmetric)
        if size > most or tag == RAW_TAG:
            word = put_raw(words, line, out, word, np.uint64(RAW_TAG), TAG_BITS)
            bits[line] = TAG_BITS + U64 * np.uint64(n_words)
            continue
        bits[line] = TAG_BITS + size
        held, used = np.uint64(tag), TAG_BITS
        if tag == ZEROS:
            word, held, used = put(out, word, held, used, U0, size)
        elif tag == REPEATED:
            word, held, used = put(out, word, held, used, base, U64)
        else:
            mixed = tag >= FIRST_DELTA + MIXED
            encoding = tag - FIRST_DELTA - (MIXED if mixed else 0)
            log2, width = BASE_LOG2[encoding], DELTA_BITS[encoding]
            all_ones = U64_ALL >> (U64 - (U8 << np.uint64(log2)))
            count = n_words << (3 - log2)
            masked = mode == MASK_ALWAYS or mixed
            if masked:
                mask = U0
                for i in range(count):
                    x = _element(words, line, i, log2)
                    mask |= np.uint64(not _near(x, all_ones, width, symmetric)) << np.uint64(i)
                word, held, used = put(out, word, held, used, mask, np.uint64(count))
            word, held, used = put(out, word, held, used, base, U8 << np.uint64(log2))
            low = (U1 << width) - U1
            for i in range(count):
                x = _element(words, line, i, log2)
                from_zero = masked and _near(x, all_ones, width, symmetric)
                delta = x if from_zero else x - base
                word, held, used = put(out, word, held, used, delta & low, width)
        word = finish(out, word, held, used)
    return word


@njit
def _read_deltas(payload, at, encoding, masked, out, line):  # type: ignore[no-untyped-def]
    """Fill a line from its mask (if any), base and deltas; (base, mask, position after them)."""
    log2, width = BASE_LOG2[encoding], DELTA_BITS[encoding]
    element_bits = U8 << np.uint64(log2)
    all_ones = U64_ALL >> (U64 - element_bits)
    per_log2 = 3 - log2
    n_words = out.shape[1]
    count = n_words << per_log2
    mask = U64_ALL
    if masked:
        mask = get(payload, at, np.uint64(count))
        at += np.uint64(count)
    base = window(payload, at) & all_ones
    at += element_bits
    sign = U1 << (width - U1)
    for k in range(n_words):
        value = U0
        for j in range(1 << per_log2):
            delta = ((get(payload, at, width) ^ sign) - sign) & all_ones
            at += width
            i = np.uint64((k << per_log2) + j)
            x = (delta + (base if (mask >> i) & U1 else U0)) & all_ones
            value |= x << (np.uint64(j) * element_bits)
        out[line, k] = value
    return base, mask, at


@njit
def _is_mask(mask, out, line, encoding, symmetric):  # type: ignore[no-untyped-def]
    """Whether the mask names zero for every element near zero and the base for the others."""
    log2, width = BASE_LOG2[encoding], DELTA_BITS[encoding]
    all_ones = U64_ALL >> (U64 - (U8 << np.uint64(log2)))
    for i in range(out.shape[1] << (3 - log2)):
        near = _near(_element(out, line, i, log2), all_ones, width, symmetric)
        if near == ((mask >> np.uint64(i)) & U1 == U1):
            return False
    return True


@njit(cache=True)
def decode(payload, starts, bits, mode, symmetric, most, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode`; (line, reason) of the first damaged line, or (-1, OK)."""
    n_words = out.shape[1]
    for line in range(out.shape[0]):
        at = starts[line]
        size = np.uint64(bits[line])
        if size < TAG_BITS:
            return line, BAD_SIZE
        end = at + size
        tag = np.int64(get(payload, at, TAG_BITS))
        at += TAG_BITS
        masked = True
        encoding = np.int64(0)
        base, mask = U0, U0
        if tag in (RAW_TAG, ZEROS, REPEATED):
            if tag == ZEROS and mode != MASK_ALWAYS:
                base = get(payload, at, U8)
                at += U8
            elif tag == REPEATED:
                base = window(payload, at)
                at += U64
            for k in range(n_words):
                out[line, k] = base
                if tag == RAW_TAG:
                    out[line, k] = window(payload, at)
                    at += U64
        else:
            mixed = bool(tag >= FIRST_DELTA + MIXED)
            if tag >= FIRST_DELTA + 2 * MIXED or (mixed and mode == MASK_ALWAYS):
                return line, BAD_CODE
            encoding = tag - FIRST_DELTA - (MIXED if mixed else 0)
            masked = bool(mode == MASK_ALWAYS or mixed)
            base, mask, at = _read_deltas(payload, at, encoding, masked, out, line)
        if at != end:
            return line, BAD_SIZE
        best, best_base, best_size = _choose(out, line, mode, symmetric)
        if best_size > most:
            best = RAW_TAG
        if best != tag or (tag != RAW_TAG and (best_base != base or size - TAG_BITS > most)):
            return line, NOT_CANONICAL
        if tag >= FIRST_DELTA and tag != RAW_TAG and masked and not _is_mask(mask, out, line, encoding, symmetric):
            return line, NOT_CANONICAL
    return -1, OK


def table_bits(lines: Lines, gem5: bool) -> NDArray[np.uint16]:
    """Bits of each line by the published tables, tag not counted, uint16[n].

    ``gem5``: base, deltas and a mask bit an element, as gem5 v24.0.0.1 counts. Otherwise 8 x the bytes of the
    paper's Table 2, which counts no mask: a size that says what the paper says, but that a line with elements
    near both bases cannot be decoded from.
    """
    bits = np.empty(len(lines), np.uint16)
    mode = MASK_ALWAYS if gem5 else MASK_NEVER
    measure(line_words(lines.data), mode, gem5, U0, np.uint64(8 * lines.line_bytes), bits)
    return bits
