"""Numba kernels of the ``huffman`` codec: count, measure, encode (`decode` has the way back).

The stream is defined in ``FORMAT.md``. What makes them fast: two symbols a step (code and size tables are indexed by
a pair of symbols), lines on 64-bit words, and no scratch memory: symbols of whole words are gathered by shifts. Every
operand stays unsigned, since an int64 mixed with a uint64 would become a float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U0, U1, U2, U3, U6, U7, U8 = (np.uint64(x) for x in (0, 1, 2, 3, 6, 7, 8))
U16, U20, U24, U26, U32, U48, U63, U64 = (np.uint64(x) for x in (16, 20, 24, 26, 32, 48, 63, 64))
BYTE, PAIR, LOW24, LOW5, LOW4 = (np.uint64(x) for x in (0xFF, 0xFFFF, 0xFFFFFF, 0x1F, 0xF))

KIND_BYTES, KIND_BF16, KIND_INT16, KIND_FP16, KIND_FP32, KIND_INT32 = range(6)
"""How an item splits into a symbol and a rest. The order matters: bf16 and int16 have rests of a byte, and 32-bit
items come last."""

SLACK_WORDS = 16
"""Words an encoder may write past a line's start before it falls back to raw, and a decoder may read: 63 header bits
and 64 codes of 12 bits, plus the word that a 64-bit window reads ahead."""

UNSEEN = np.uint32(1 << 31)
"""In a pair's code entry: one of the two symbols has no code."""

SINGLE, UNUSED = np.uint32(1 << 24), np.uint32(1 << 25)
"""In a decode entry: only one code fits the index; no code leads here."""

OK, BAD_BITS, BAD_CODE, BAD_SELECTOR, BAD_SUBSTREAM, BAD_SYMBOL, BAD_PLACE = range(7)

_M7F = np.uint64(0x007F007F007F007F)
_M80 = np.uint64(0x0080008000800080)
_MFF = np.uint64(0x00FF00FF00FF00FF)
_M1F = np.uint64(0x001F001F001F001F)
_M3FF = np.uint64(0x03FF03FF03FF03FF)
_M400 = np.uint64(0x0400040004000400)
_W_FF = np.uint64(0x000000FF000000FF)
_W_LOW23 = np.uint64(0x007FFFFF007FFFFF)
_W_BIT23 = np.uint64(0x0080000000800000)
_W_LOW24 = np.uint64(0x00FFFFFF00FFFFFF)


# LLVM inlines the helpers: Numba's own inlining types each copy again and compiles 1.6 times as long.
@njit(forceinline=True)
def _symbol_words(kind, n_words):  # type: ignore[no-untyped-def]
    """Symbol words (eight symbols each) of a line of ``n_words`` words."""
    if kind == KIND_BYTES:
        return n_words
    if kind >= KIND_FP32:
        return n_words // 4
    return n_words // 2


@njit(forceinline=True)
def _symbols(words, line, k, kind):  # type: ignore[no-untyped-def]
    """Symbol word ``k`` of a line: eight symbols, first in coding order lowest."""
    if kind == KIND_BF16:
        return ((words[line, 2 * k] >> U7) & _MFF) | (((words[line, 2 * k + 1] >> U7) & _MFF) << U8)
    if kind == KIND_BYTES:
        return words[line, k]
    if kind == KIND_FP16:
        shift = np.uint64(10)
        return ((words[line, 2 * k] >> shift) & _M1F) | (((words[line, 2 * k + 1] >> shift) & _M1F) << U8)
    if kind == KIND_INT16:
        return ((words[line, 2 * k] >> U8) & _MFF) | (((words[line, 2 * k + 1] >> U8) & _MFF) << U8)
    shift = np.uint64(23) if kind == KIND_FP32 else U24
    a, b = (words[line, 4 * k] >> shift) & _W_FF, (words[line, 4 * k + 1] >> shift) & _W_FF
    c, d = (words[line, 4 * k + 2] >> shift) & _W_FF, (words[line, 4 * k + 3] >> shift) & _W_FF
    return a | (b << U8) | (c << U16) | (d << U24)


@njit(forceinline=True)
def _rest_pair(a, b, kind):  # type: ignore[no-untyped-def]
    """The 64 rest bits of two words of bf16 or int16 items, in coding order."""
    if kind == KIND_BF16:
        low = (a & _M7F) | ((a >> U8) & _M80)
        return low | ((b & _M7F) << U8) | (b & (_M80 << U8))
    return (a & _MFF) | ((b & _MFF) << U8)


@njit(forceinline=True)
def _rest_word(a, kind):  # type: ignore[no-untyped-def]
    """The rest bits of one word: 4 x 11 (fp16) or 2 x 24 (32-bit items), memory order."""
    if kind == KIND_FP16:
        x = (a & _M3FF) | ((a >> np.uint64(5)) & _M400)
        x = (x & np.uint64(0x000007FF000007FF)) | ((x >> np.uint64(5)) & np.uint64(0x003FF800003FF800))
        return (x & np.uint64(0x3FFFFF)) | ((x >> np.uint64(10)) & np.uint64(0x00000FFFFFC00000))
    x = (a & _W_LOW23) | ((a >> U8) & _W_BIT23) if kind == KIND_FP32 else a & _W_LOW24
    return (x & LOW24) | ((x >> U8) & np.uint64(0xFFFFFF000000))


@njit(forceinline=True)
def _word_rest_bits(kind):  # type: ignore[no-untyped-def]
    return np.uint64(44) if kind == KIND_FP16 else U48


@njit(forceinline=True)
def _is_zero(words, line, n_words):  # type: ignore[no-untyped-def]
    bits = U0
    for k in range(n_words):
        bits |= words[line, k]
    return bits == U0


@njit(forceinline=True)
def _pair_sums(words, line, kind, n_symbol_words, pair_bits, lane):  # type: ignore[no-untyped-def]
    """Code bits of a line in the four tables of a lane, 16 bits each."""
    total = U0
    base = np.uint64(lane) << U16
    for k in range(n_symbol_words):
        u = _symbols(words, line, k, kind)
        total += pair_bits[base | (u & PAIR)] + pair_bits[base | ((u >> U16) & PAIR)]
        total += pair_bits[base | ((u >> U32) & PAIR)] + pair_bits[base | (u >> U48)]
    return total


@njit(forceinline=True)
def _choose(words, line, kind, n_symbol_words, pair_bits):  # type: ignore[no-untyped-def]
    """(table with the fewest code bits, those bits); the first of equals."""
    best, table = np.uint64(1 << 20), U0
    for lane in range(pair_bits.shape[0] >> 16):
        total = _pair_sums(words, line, kind, n_symbol_words, pair_bits, lane)
        for j in range(4):
            size = total & PAIR
            total >>= U16
            if size < best:
                best, table = size, np.uint64(4 * lane + j)
    return table, best


@njit(cache=True)
def count(words, kind, histograms):  # type: ignore[no-untyped-def]
    """Add the symbols of all lines but the all-zero ones to histograms uint32[4, 256]; return the all-zero lines.

    Four histograms, so that a symbol that repeats does not wait for its own counter.
    """
    n_words = words.shape[1]
    n_symbol_words = _symbol_words(kind, n_words)
    zeros = 0
    for line in range(words.shape[0]):
        if _is_zero(words, line, n_words):
            zeros += 1
            continue
        for k in range(n_symbol_words):
            u = _symbols(words, line, k, kind)
            for _half in range(2):
                histograms[0, u & BYTE] += np.uint32(1)
                histograms[1, (u >> U8) & BYTE] += np.uint32(1)
                histograms[2, (u >> U16) & BYTE] += np.uint32(1)
                histograms[3, (u >> U24) & BYTE] += np.uint32(1)
                u >>= U32
    return zeros


@njit(cache=True)
def assign(words, kind, pair_bits, lines_of, histograms):  # type: ignore[no-untyped-def]
    """Add each line that is not zero to its cheapest table: lines_of uint64[k], histograms uint64[k, 256]."""
    n_words = words.shape[1]
    n_symbol_words = _symbol_words(kind, n_words)
    for line in range(words.shape[0]):
        if _is_zero(words, line, n_words):
            continue
        table, _ = _choose(words, line, kind, n_symbol_words, pair_bits)
        lines_of[table] += U1
        for k in range(n_symbol_words):
            u = _symbols(words, line, k, kind)
            for _ in range(8):
                histograms[table, u & BYTE] += U1
                u >>= U8


@njit(cache=True)
def fill_pair_bits(lengths, no_code_bits, out):  # type: ignore[no-untyped-def]
    """Pair sizes of tables lengths uint8[k, 256] as `measure` takes them, into out uint64[lanes * 65536]."""
    k = lengths.shape[0]
    one = np.empty(256, np.uint64)
    for table in range(out.shape[0] >> 14):
        at = np.uint64(16 * (table & 3))
        base = (table >> 2) << 16
        for s in range(256):
            used = table < k and lengths[min(table, k - 1), s] > 0
            one[s] = np.uint64(lengths[table, s]) if used else no_code_bits
        for high in range(256):
            for low in range(256):
                pair = (one[low] + one[high]) << at
                index = base + (high << 8) + low
                out[index] = pair if at == U0 else out[index] | pair


@njit(cache=True)
def fill_pair_code(lengths, codes, out):  # type: ignore[no-untyped-def]
    """Pair codes of tables lengths uint8[k, 256], codes uint32[k, 256] as `encode` takes them, uint32[k * 65536]."""
    out[:] = UNSEEN
    for table in range(lengths.shape[0]):
        for high in range(256):
            n_high = np.uint32(lengths[table, high])
            if n_high == 0:
                continue
            for low in range(256):
                n_low = np.uint32(lengths[table, low])
                if n_low > 0:
                    pair = codes[table, low] | (codes[table, high] << n_low) | ((n_low + n_high) << np.uint32(24))
                    out[(table << 16) + (high << 8) + low] = pair


@njit(cache=True)
def measure(words, kind, pair_bits, fixed_bits, n_tables, zero_lines, bits):  # type: ignore[no-untyped-def]
    """Coded bits of each line into bits uint16[n].

    pair_bits : uint64[lanes * 65536]
        Four tables a lane, 16 bits each: code bits of the pair, 0x300 a symbol without code.
    fixed_bits : uint64
        Bits of a coded line beside its codes.
    zero_lines : bool
        Whether all-zero lines have a mode of their own (two mode bits instead of one for raw and zero).
    """
    n_words = words.shape[1]
    n_symbol_words = _symbol_words(kind, n_words)
    raw = np.uint64(64 * n_words + (2 if zero_lines else 1))
    for line in range(words.shape[0]):
        # The loop of one table gains nothing on bytes: there, it became gathers at a third of the speed.
        if n_tables == 1 and kind != KIND_BYTES:
            size = _pair_sums(words, line, kind, n_symbol_words, pair_bits, 0) & PAIR
        else:
            _, size = _choose(words, line, kind, n_symbol_words, pair_bits)
        size = min(size + fixed_bits, raw)
        if zero_lines and _is_zero(words, line, n_words):
            size = U2
        bits[line] = size


@njit(cache=True)
def encode(  # type: ignore[no-untyped-def]
    words, kind, pair_code, pair_bits, n_tables, selector_bits, substreams, field_bits, zero_lines, out, starts, bits
):
    """Write every line to ``out`` uint64 (9 words a 64 B line, 5 a 32 B line, and SLACK_WORDS); return words used.

    pair_code : uint32[tables * 65536]
        Codes of a pair in the low 24 bits, their length in bits 24 to 28, UNSEEN.
    selector_bits, field_bits : uint64
    """
    n_words = words.shape[1]
    n_symbol_words = _symbol_words(kind, n_words)
    mode_bits = U2 if zero_lines else U1
    raw = np.uint64(64 * n_words) + mode_bits
    header = U1 + selector_bits + np.uint64(substreams - 1) * field_bits
    word_rest = _word_rest_bits(kind)
    pairs_a_substream = 4 * n_symbol_words // substreams
    w = U0
    for line in range(words.shape[0]):
        first = w
        starts[line] = first << U6
        if zero_lines and _is_zero(words, line, n_words):
            out[w] = U2
            w += U1
            bits[line] = U2
            continue
        table = U0
        if n_tables > 1:
            table, _ = _choose(words, line, kind, n_symbol_words, pair_bits)
        acc = U1 | (table << U1)
        n = header
        if KIND_BF16 <= kind <= KIND_INT16:
            for k in range(n_words // 2):
                r = _rest_pair(words[line, 2 * k], words[line, 2 * k + 1], kind)
                out[w] = acc | (r << header)
                acc = r >> (U64 - header)
                w += U1
        elif kind != KIND_BYTES:
            for k in range(n_words):
                r = _rest_word(words[line, k], kind)
                acc |= r << n
                out[w] = acc
                high = (r >> U1) >> (U63 - n)
                n += word_rest
                full = n >> U6
                acc = high if full else acc
                w += full
                n &= U63
        base = table << U16
        unseen = np.uint32(0)
        fields = U0
        field_at = U1 + selector_bits
        last = ((w - first) << U6) + n
        pair = 0
        for k in range(n_symbol_words):
            u = _symbols(words, line, k, kind)
            for _half in range(2):
                c0 = pair_code[base | (u & PAIR)]
                c1 = pair_code[base | ((u >> U16) & PAIR)]
                u >>= U32
                unseen |= c0 | c1
                n0 = (np.uint64(c0) >> U24) & LOW5
                n1 = (np.uint64(c1) >> U24) & LOW5
                if substreams > 1:
                    # The lengths of all sub-streams but the last go to the header, as soon as each ends.
                    here = ((w - first) << U6) + n + n0
                    for _side in range(2):
                        pair += 1
                        if pair % pairs_a_substream == 0 and pair < 4 * n_symbol_words:
                            fields |= (here - last) << field_at
                            field_at += field_bits
                            last = here
                        here += n1
                code = (np.uint64(c0) & LOW24) | ((np.uint64(c1) & LOW24) << n0)
                acc |= code << n
                out[w] = acc
                high = (code >> U1) >> (U63 - n)
                n += n0 + n1
                full = n >> U6
                acc = high if full else acc
                w += full
                n &= U63
        out[w] = acc
        size = ((w - first) << U6) + n
        if (unseen & UNSEEN) != np.uint32(0) or size >= raw:
            w = first
            acc = U0
            for k in range(n_words):
                value = words[line, k]
                out[w] = acc | (value << mode_bits)
                acc = value >> (U64 - mode_bits)
                w += U1
            out[w] = acc
            w += U1
            size = raw
        else:
            out[first] |= fields
            w += np.uint64(n > U0)
        bits[line] = size
    return w
