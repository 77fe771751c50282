"""Decoding of lines of 8- or 16-bit elements in four streams, many at once; stream layout in `tans.kernels`.

What the fast loop does not take (a damaged line, one too near the payload's end for loads that reach ahead, raw
fields shorter than the end states) it names, and `static_kernels.static_decode` reads those one by one. Before a line
is read its whole reach is known to lie in the payload, so that no load needs a check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.intrinsics import count_ones, deposit, load32, store64
from linepress_codecs.tans.chains import (
    ESCAPE_FLAG,
    FIELD_MASK,
    LANES,
    vector_chains,
    word_chains,
)
from linepress_codecs.tans.kernels import (
    MODE_CODED,
    U0,
    U1,
    U32,
    U64,
    low_bits,
)
from linepress_codecs.tans.words import LOW, MOST_RAW_BITS, SIGN, four_bytes, head_of, place_raw, plain_line, window

U2, U3, U8, U24 = np.uint64(2), np.uint64(3), np.uint64(8), np.uint64(24)
ROW = np.uint64(4 * LANES)
FIRST_TABLE = np.uint64(MODE_CODED)
MOST_ELEMENTS = 128
MOST_RAW = np.uint64(MOST_RAW_BITS)
ONES = np.uint64(0x0001000100010001)


def reach_bits(line_bytes: int, elements: int, precision: int) -> int:
    """Bits behind a line's start that any bits at all can make the fast loop load: heads, steps, raw fields."""
    return 5 * precision + elements * precision + 8 * line_bytes + 128


@njit(inline="always")
def _two_parts(part):  # type: ignore[no-untyped-def]
    """Four fields of a lane, 16 bits each."""
    return np.uint64(load32(part)) | (np.uint64(load32(part + ROW)) << U32)


@njit(inline="always")
def _odd_part(fields, payload, first, raw, flush, p, width, low, sign, special):  # type: ignore[no-untyped-def]
    """Four elements, escapes or zeros among them: (the elements side by side, bits of raw fields read so far)."""
    word = U0
    for c in range(4):
        f = (fields >> np.uint64(16 * c)) & np.uint64(FIELD_MASK)
        y = first >> p if p < flush else window(payload, raw + p)
        value = U0
        if f & special:
            if f & np.uint64(ESCAPE_FLAG):
                value = low_bits(y, width)
                p += width
        else:
            value = f | low_bits(y, low) | (((y >> low) & sign) << (width - U1))
            p += low + sign
        word |= value << (width * np.uint64(c))
    return word, p


def _finisher(bit_moves: bool) -> Any:
    """What ends a batch on a target: raw fields by pdep or by shifts."""

    @njit(cache=True)
    def finish(  # type: ignore[no-untyped-def]
        payload, to, line_bytes, narrow, precision, word_raw, shape, flags, starts, bits, index, lanes, states,
        places, parts, odd, others
    ):  # fmt: skip
        """Lines without escapes and zeros from the fields of `chains`; the lanes of others into ``others``, their
        number returned.

        A function of its own, so that its loop has all registers. It takes arrays, not addresses: these live as long
        as they are named.
        """
        flush, words = precision << U2, np.int64(line_bytes >> U3)
        states_at, parts_at = np.uint64(states.ctypes.data), np.uint64(parts.ctypes.data)
        line_raw = word_raw * (line_bytes >> U3)
        left = 0
        for z in range(lanes):
            k, at = index[z], places[z] - flush
            if (odd[z] & flags) != 0 or line_raw < flush or at + line_raw != starts[k] + np.uint64(bits[k]):
                others[left] = z
                left += 1
                continue
            lane = np.uint64(4 * z)
            state, part = states_at + lane, parts_at + lane
            first = np.uint64(load32(state)) | (np.uint64(load32(state + ROW)) << precision)
            high = np.uint64(load32(state + ROW + ROW)) | (np.uint64(load32(state + ROW * U3)) << precision)
            first |= high << (precision + precision)
            first |= window(payload, places[z]) << flush
            line = to + np.uint64(k) * line_bytes
            p = U0
            for _ in range(words):
                word = _two_parts(part)
                part += ROW + ROW
                if narrow:
                    word = four_bytes(word, bit_moves) | (four_bytes(_two_parts(part), bit_moves) << U32)
                    part += ROW + ROW
                if p >= flush:
                    y = window(payload, at)
                else:  # the end states are the first raw bits
                    y = first >> p
                    if p + word_raw > U64:
                        y |= window(payload, places[z] + U64 - flush) << (U64 - p)
                    p += word_raw
                store64(line, word | place_raw(y, shape, bit_moves))
                at += word_raw
                line += U8
        return left

    return finish


# Globals, not variables that a kernel closes over: by those Numba knows its kernels again, and a compiled function is
# another one in every process.
_finish_moves, _finish_shifts = _finisher(bit_moves=True), _finisher(bit_moves=False)


def _decoder(vectors: bool, bit_moves: bool) -> Any:
    """The kernel of a target: registers of many lines or of one word, raw fields by pdep or by shifts."""

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, starts, bits, precision, width, low, sign, special, shape, table_in, tables, modes, reach, out, slow
    ):  # fmt: skip
        """Lines into out uint8[n, line_bytes]; the lines left to others into slow int64[n], their number returned.

        bytes_in : uint8[m], starts : uint64[n], bits : uint16[n], modes : uint32[L] of the mode row, shape : see
        `words.word_shape`, table_in : `StaticTables.decode_entries`; precision, width, low, sign (1 where raw),
        special (`special_flag`) and reach uint64.
        """
        payload, table = np.uint64(bytes_in.ctypes.data), np.uint64(table_in.ctypes.data)
        n_bits = np.uint64(8 * bytes_in.shape[0])
        last = n_bits - reach
        if n_bits < reach:
            last = U0
        line_bytes = np.uint64(out.shape[1])
        target = np.uint64(out.ctypes.data)
        line_bits = line_bytes << U3
        words = out.shape[1] >> 3
        elements = np.int64(line_bits // width)
        steps = np.uint64(elements >> 2)
        narrow = width == np.uint64(8)
        flags = np.uint32(special * np.uint64(0x00010001))
        flag_at = np.uint64(8) if narrow else U0
        mask, flush, rest3 = (U1 << precision) - U1, precision << U2, precision * U3
        word_raw = (low + sign) * (U64 // width)
        states = np.zeros((4, LANES), np.uint32)
        places = np.zeros(LANES, np.uint64)
        parts = np.zeros((MOST_ELEMENTS // 2, LANES), np.uint32)
        rows = np.zeros(LANES, np.uint32)
        odd = np.zeros(LANES, np.uint32)
        odd_at = np.uint64(odd.ctypes.data)
        index, odd_lanes = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
        states_at, places_at = np.uint64(states.ctypes.data), np.uint64(places.ctypes.data)
        parts_at, rows_at = np.uint64(parts.ctypes.data), np.uint64(rows.ctypes.data)
        n = starts.shape[0]
        left = 0
        i = 0
        while i < n:
            lanes = 0
            while lanes < LANES and i < n:
                start, size = starts[i], np.uint64(bits[i])
                to = target + np.uint64(i) * line_bytes
                if n_bits < reach or start > last:
                    slow[left] = i
                    left += 1
                    i += 1
                    continue
                mode, x, at = head_of(payload, start, precision, modes)
                if mode < FIRST_TABLE:
                    at = plain_line(payload, mode, x, at, precision, words, to)
                if mode < FIRST_TABLE or mode >= FIRST_TABLE + tables or size >= line_bits:
                    if mode >= FIRST_TABLE or at != start + size:
                        slow[left] = i
                        left += 1
                    i += 1
                    continue
                w = window(payload, at)
                states[0, lanes] = x
                states[1, lanes] = w & mask
                states[2, lanes] = (w >> precision) & mask
                states[3, lanes] = (w >> (precision + precision)) & mask
                places[lanes] = at + rest3
                rows[lanes] = (mode - U1) << precision
                index[lanes] = i
                lanes += 1
                i += 1
            if lanes == 0:
                break
            for z in range(lanes, LANES):  # the last batch: lanes without a line repeat one
                places[z], rows[z] = places[lanes - 1], rows[lanes - 1]
                for c in range(4):
                    states[c, z] = states[c, lanes - 1]
            if vectors:
                vector_chains(table, payload, states_at, rows_at, places_at, parts_at, odd_at, steps)
            else:
                word_chains(table, payload, states_at, rows_at, places_at, parts_at, odd_at, steps)
            if bit_moves:
                odds = _finish_moves(
                    payload, target, line_bytes, narrow, precision, word_raw, shape, flags, starts, bits, index,
                    lanes, states, places, parts, odd, odd_lanes,
                )  # fmt: skip
            else:
                odds = _finish_shifts(
                    payload, target, line_bytes, narrow, precision, word_raw, shape, flags, starts, bits, index,
                    lanes, states, places, parts, odd, odd_lanes,
                )  # fmt: skip
            for q in range(odds):
                z = odd_lanes[q]
                k, at = index[z], places[z]
                end = starts[k] + np.uint64(bits[k])
                to = target + np.uint64(k) * line_bytes
                ends = np.uint64(states[0, z]) | (np.uint64(states[1, z]) << precision)
                high = np.uint64(states[2, z]) | (np.uint64(states[3, z]) << precision)
                ends |= high << (precision + precision)
                first = ends | (window(payload, at) << flush)
                raw, p = at - flush, U0
                if at > end:
                    slow[left] = k
                    left += 1
                    continue
                fits = True
                for t in range(words):
                    u = 4 * t if narrow else 2 * t
                    word = np.uint64(parts[u, z]) | (np.uint64(parts[u + 1, z]) << U32)
                    others = U0
                    if narrow:
                        others = np.uint64(parts[u + 2, z]) | (np.uint64(parts[u + 3, z]) << U32)
                    if not bit_moves and (word | others) & (special * ONES):
                        word, p = _odd_part(word, payload, first, raw, flush, p, width, low, sign, special)
                        if narrow:
                            half, p = _odd_part(others, payload, first, raw, flush, p, width, low, sign, special)
                            word |= half << U32
                        store64(to + (np.uint64(t) << U3), word)
                        continue
                    free, count = shape[LOW] | shape[SIGN], word_raw
                    bare = escaped = U0
                    if bit_moves:
                        bare = (word >> flag_at) & ONES
                        escaped = (word >> np.uint64(15)) & bare
                        if narrow:
                            half = (others >> flag_at) & ONES
                            escaped = four_bytes(escaped, True) | (
                                four_bytes((others >> np.uint64(15)) & half, True) << U32
                            )
                            bare = four_bytes(bare, True) | (four_bytes(half, True) << U32)
                    if narrow:
                        word = four_bytes(word, bit_moves) | (four_bytes(others, bit_moves) << U32)
                    if bit_moves:
                        gone = (bare << width) - bare
                        word &= ~gone
                        free = (free & ~gone) | ((escaped << width) - escaped)
                        count = count_ones(free)
                        fits = fits and count <= MOST_RAW
                    if p >= flush:
                        y = window(payload, raw + p)
                    else:
                        y = first >> p
                        if p + count > U64:
                            y |= window(payload, raw + U64) << (U64 - p)
                    word |= deposit(y, free) if bit_moves else place_raw(y, shape, False)
                    p += count
                    store64(to + (np.uint64(t) << U3), word)
                if p < flush or raw + p != end or not fits:
                    slow[left] = k
                    left += 1
        return left

    return decode


decode_vector = _decoder(vectors=True, bit_moves=True)
decode_word = _decoder(vectors=False, bit_moves=False)
