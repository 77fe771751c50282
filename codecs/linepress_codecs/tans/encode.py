"""Encoding of lines of 8- or 16-bit elements in four streams; stream layout in `tans.kernels`.

What a step needs of a symbol is one uint64 (`Machine.encode_entries`). The table of a line is chosen from the
differences of the tables' costs to the first one's, three of them side by side in a uint64, so that an element adds
one number; the index in the lowest bits of the sums makes the choice one minimum. Lines with escapes or zero elements
are gathered again element by element, in the same kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.intrinsics import load8, load16, load32, load64, store8, store32, store64
from linepress_codecs.tans import tables
from linepress_codecs.tans.kernels import (
    ESCAPE,
    FIRST,
    MODE_CODED,
    MODE_RAW,
    U0,
    U1,
    U16,
    U32,
    U63,
    U64,
    ZERO,
    ZERO_LINE,
    ZERO_LINE_BITS,
    low_bits,
)
from linepress_codecs.tans.words import put_bits, take_raw, window

U2, U3, U7, U8, U11, U24, U48, U56 = (np.uint64(i) for i in (2, 3, 7, 8, 11, 24, 48, 56))
BYTE, PAIR, WORD = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
LANE_BITS, LANE = np.uint64(21), np.uint64((1 << 21) - 1)
COST_SHIFT, MODE_SHIFT, NO_TABLE = 1 << 13, 1 << 17, 1 << 20
"""Added to each element's and the mode's cost difference, so that sums stay positive; the sum of no table is larger
than any."""
MISSING = np.uint64(tables.MISSING)
MOST_CHOICES = 4
BUFFER_WORDS = 20


@njit(inline="always")
def step_back_word(x, entry, states):  # type: ignore[no-untyped-def]
    """One encoder step from state ``x``: (bits to write, their number, next state)."""
    count = ((x + entry) & WORD) >> U16
    at = (x >> count) + np.uint64(np.int64(entry) >> np.int64(32))
    return low_bits(x, count), count, np.uint64(load16(states + (at << U1)))


@njit(inline="always")
def _element(line, j, width):  # type: ignore[no-untyped-def]
    """Element ``j`` of the line at an address."""
    if width == U16:
        return np.uint64(load16(line + (np.uint64(j) << U1)))
    return np.uint64(load8(line + np.uint64(j)))


@njit(cache=True)
def _with_zeros(line, elements, width, cost, total, symbols):  # type: ignore[no-untyped-def]
    """Mark the zero elements of a line among its symbols; ``total`` with the costs of all symbols."""
    for j in range(elements):
        if _element(line, j, width) == U0:
            store8(symbols + np.uint64(j), np.uint8(ZERO))
        total += load64(cost + (np.uint64(load8(symbols + np.uint64(j))) << U3))
    return total


@njit(inline="always")
def _gather_odd(line, n_words, width, low, sign, shape, row, symbols, raw, bit_moves):  # type: ignore[no-untyped-def]
    """Raw fields of a line with escapes, zeros or symbols that the row at ``row`` lacks, which become escapes here:
    their bits. A word without any goes as a whole."""
    top = width - U1
    low_mask = (U1 << low) - U1
    each = np.int64(U64 // width)
    word_raw = (low + sign) * (U64 // width)
    held, used, fill, to = U0, U0, U0, raw
    for t in range(n_words):
        at = symbols + np.uint64(t * each)
        least, seen = BYTE, U0
        for c in range(each):
            s = np.uint64(load8(at + np.uint64(c)))
            least = min(least, s)
            seen |= load64(row + (s << U3))
        if least >= np.uint64(FIRST) and (seen & MISSING) == U0:
            held |= take_raw(load64(line + (np.uint64(t) << U3)), shape, bit_moves) << used
            fill += word_raw
            to, held, used = put_bits(to, held, used + word_raw)
            continue
        for c in range(each):
            u = _element(line, t * each + c, width)
            s = np.uint64(load8(at + np.uint64(c)))
            if (load64(row + (s << U3)) & MISSING) != U0:
                s = np.uint64(ESCAPE)
                store8(at + np.uint64(c), np.uint8(ESCAPE))
            value, count = u, width
            if s >= np.uint64(FIRST):
                value, count = (u & low_mask) | (((u >> top) & sign) << low), low + sign
            elif s == np.uint64(ZERO):
                value, count = U0, U0
            held |= value << used
            fill += count
            to, held, used = put_bits(to, held, used + count)
    store64(to, held)
    store64(to + U8, U0)
    return fill


def _encoder(bit_moves: bool) -> Any:
    """The kernel of a target: raw fields by pext or by shifts."""

    @njit(cache=True)
    def encode(  # type: ignore[no-untyped-def]
        data, precision, width, low, sign, shape, field_of_in, use_zero, differences, mode_difference, bias,
        choices, entries_in, states_in, words, starts, bits, write
    ):  # fmt: skip
        """Sizes (and with ``write`` the code) of lines uint64[n, words]; returns the bits of ``words`` used.

        field_of : uint8[2**(width - low)], symbol by element >> low; differences : uint64[256], mode_difference and
        bias uint64, of ``choices`` tables: see `StaticTables.choice`; entries : uint64[rows * 256]; states :
        uint16[rows * L]; starts uint64[n], bits uint16[n] are written.
        """
        entries, states = np.uint64(entries_in.ctypes.data), np.uint64(states_in.ctypes.data)
        field_of, cost = np.uint64(field_of_in.ctypes.data), np.uint64(differences.ctypes.data)
        out = np.uint64(words.ctypes.data)
        source = np.uint64(data.ctypes.data)
        n, n_words = data.shape
        line_bits = U64 * np.uint64(n_words)
        elements = np.int64(line_bits // width)
        steps = elements >> 2
        narrow = width == U8
        ones = np.uint64(0x0101010101010101) if narrow else np.uint64(0x0001000100010001)
        tops = ones << (width - U1)
        mask, size, flush = (U1 << precision) - U1, U1 << precision, precision << U2
        word_raw = (low + sign) * (U64 // width)
        plain_fill = word_raw * np.uint64(n_words)
        value_array, count_array = np.zeros(32, np.uint64), np.zeros(32, np.uint64)
        symbol_array, raw_array = np.zeros(128, np.uint8), np.zeros(BUFFER_WORDS, np.uint64)
        values, counts = np.uint64(value_array.ctypes.data), np.uint64(count_array.ctypes.data)
        symbols, raw = np.uint64(symbol_array.ctypes.data), np.uint64(raw_array.ctypes.data)
        cursor = U0
        for i in range(n):
            line = source + (np.uint64(i * n_words) << U3)
            starts[i] = cursor
            total, least, some, none = mode_difference, BYTE, U0, U0
            held, used, to = U0, U0, raw
            for t in range(n_words):
                w = load64(line + (np.uint64(t) << U3))
                some |= w
                none |= (w - ones) & ~w & tops
                if narrow:
                    at = symbols + (np.uint64(t) << U3)
                    for half in range(2):
                        h = (w >> np.uint64(32 * half)) & WORD
                        s0 = np.uint64(load8(field_of + ((h & BYTE) >> low)))
                        s1 = np.uint64(load8(field_of + (((h >> U8) & BYTE) >> low)))
                        s2 = np.uint64(load8(field_of + (((h >> U16) & BYTE) >> low)))
                        s3 = np.uint64(load8(field_of + (h >> (U24 + low))))
                        if choices > 1:
                            total += load64(cost + (s0 << U3)) + load64(cost + (s1 << U3))
                            total += load64(cost + (s2 << U3)) + load64(cost + (s3 << U3))
                        store32(at + np.uint64(4 * half), np.uint32(s0 | (s1 << U8) | (s2 << U16) | (s3 << U24)))
                        least = min(least, min(min(s0, s1), min(s2, s3)))
                else:
                    s0 = np.uint64(load8(field_of + ((w & PAIR) >> low)))
                    s1 = np.uint64(load8(field_of + (((w >> U16) & PAIR) >> low)))
                    s2 = np.uint64(load8(field_of + (((w >> U32) & PAIR) >> low)))
                    s3 = np.uint64(load8(field_of + (w >> (U48 + low))))
                    if choices > 1:
                        total += load64(cost + (s0 << U3)) + load64(cost + (s1 << U3))
                        total += load64(cost + (s2 << U3)) + load64(cost + (s3 << U3))
                    four = s0 | (s1 << U8) | (s2 << U16) | (s3 << U24)
                    store32(symbols + (np.uint64(t) << U2), np.uint32(four))
                    least = min(least, min(min(s0, s1), min(s2, s3)))
                x = take_raw(w, shape, bit_moves)
                held |= x << used
                store64(to, held)
                after = used + word_raw
                over = after >> np.uint64(6)
                held = (x >> U1) >> (U63 - used) if over else held
                to += over << U3
                used = after & U63
            to_here = out + (cursor >> U3)
            if some == U0:
                if write:
                    store64(to_here, ZERO_LINE)
                bits[i] = ZERO_LINE_BITS
                cursor += U64
                continue
            store64(to, held)
            store64(to + U8, U0)
            best = U0
            zeros = use_zero and none != U0
            if zeros:
                total = _with_zeros(line, elements, width, cost, mode_difference, symbols)
            if choices > 1:
                key0, key1 = bias << U2, ((total & LANE) << U2) | U1
                key2 = (((total >> LANE_BITS) & LANE) << U2) | U2
                key3 = ((total >> (LANE_BITS + LANE_BITS)) << U2) | U3
                best = min(min(key0, key1), min(key2, key3)) & U3
            row = entries + ((best + U1) << U11)
            fill = plain_fill
            odd = least < np.uint64(FIRST) or zeros
            stepped = x0 = x1 = x2 = x3 = U0
            while True:
                if odd:
                    fill = _gather_odd(line, n_words, width, low, sign, shape, row, symbols, raw, bit_moves)
                x0, x1 = size + (load64(raw) & mask), size + (window(raw, precision) & mask)
                x2 = size + (window(raw, precision + precision) & mask)
                x3 = size + (window(raw, precision * U3) & mask)
                stepped, seen = U0, U0
                for t in range(steps - 1, -1, -1):
                    y = np.uint64(load32(symbols + (np.uint64(t) << U2)))
                    e0, e1 = load64(row + ((y & BYTE) << U3)), load64(row + (((y >> U8) & BYTE) << U3))
                    e2, e3 = load64(row + (((y >> U16) & BYTE) << U3)), load64(row + ((y >> U24) << U3))
                    seen |= e0 | e1 | e2 | e3
                    v0, n0, x0 = step_back_word(x0, e0, states)
                    v1, n1, x1 = step_back_word(x1, e1, states)
                    v2, n2, x2 = step_back_word(x2, e2, states)
                    v3, n3, x3 = step_back_word(x3, e3, states)
                    four = n0 + n1 + n2 + n3
                    stepped += four
                    store64(values + (np.uint64(t) << U3), v0 | ((v1 | ((v2 | (v3 << n2)) << n1)) << n0))
                    store64(counts + (np.uint64(t) << U3), four)
                if odd or (seen & MISSING) == U0:
                    break
                odd = True
            head, head_bits, x0 = step_back_word(x0, load64(entries + ((np.uint64(MODE_CODED) + best) << U3)), states)
            done = min(flush, fill)
            size_bits = flush + head_bits + stepped + fill - done
            coded = size_bits < line_bits
            if not coded:
                for t in range(n_words):
                    store64(raw + (np.uint64(t) << U3), load64(line + (np.uint64(t) << U3)))
                x0 = size + (load64(raw) & mask)
                head, head_bits, x0 = step_back_word(x0, load64(entries + (np.uint64(MODE_RAW) << U3)), states)
                size_bits = line_bits + head_bits
            if write:
                held, used = (x0 - size) | (head << precision), precision + head_bits
                last = line_bits
                if coded:
                    three = (x1 - size) | ((x2 - size) << precision) | ((x3 - size) << (precision + precision))
                    held |= three << used
                    to, held, used = put_bits(to_here, held, used + flush - precision)
                    for t in range(steps):
                        held |= load64(values + (np.uint64(t) << U3)) << used
                        to, held, used = put_bits(to, held, used + load64(counts + (np.uint64(t) << U3)))
                    last = fill
                else:
                    to, held, used = put_bits(to_here, held, used)
                    done = precision
                while last - done > U56:
                    held |= (window(raw, done) & np.uint64(0xFFFFFFFFFFFFFF)) << used
                    store64(to, held)
                    to += U7
                    held >>= U56
                    done += U56
                held |= low_bits(window(raw, done), last - done) << used
                store64(to, held)
                store64(to + U8, U0)
            bits[i] = size_bits
            cursor = (cursor + size_bits + U63) & ~U63
        return cursor

    return encode


encode_moves = _encoder(bit_moves=True)
encode_shifts = _encoder(bit_moves=False)
