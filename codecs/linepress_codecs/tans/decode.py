"""Decoding of lines of 8- or 16-bit elements in four streams, many at once; stream layout in `tans.kernels`.

What the fast loop does not take (a damaged line, one too near the payload's end for loads that reach ahead, raw
fields shorter than the end states) it names, and `static_kernels.static_decode` reads those one by one. Before a line
is read its whole reach is known to lie in the payload, so that no load needs a check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.formats import Format
from linepress_codecs.intrinsics import copy32, count_ones, deposit, load32, load64, store64
from linepress_codecs.tans.blocks import BLOCK_BYTES, HALF_BYTES, LINE_ROOM, PATTERN_BYTES, block_shape, place_blocks
from linepress_codecs.tans.chains import LANES, vector_chains, word_chains
from linepress_codecs.tans.kernels import (
    MODE_CODED,
    U0,
    U1,
    U32,
    U64,
    low_bits,
)
from linepress_codecs.tans.static import SIGN_RAW, StaticTables
from linepress_codecs.tans.words import LOW, MOST_RAW_BITS, SIGN, head_of, place_raw, plain_line, window
from linepress_codecs.targets import TARGETS

U2, U3, U5, U7, U8 = (np.uint64(i) for i in (2, 3, 5, 7, 8))
FIRST_TABLE = np.uint64(MODE_CODED)
MOST_ELEMENTS = 128
MOST_RAW = np.uint64(MOST_RAW_BITS)
EVERY_BYTE, EVERY_HALF = np.uint64(0x0101010101010101), np.uint64(0x0001000100010001)
BLOCK, HALF_ROOM = np.uint64(BLOCK_BYTES), np.uint64(HALF_BYTES + BLOCK_BYTES - 1)
BATCH_BITS = np.uint64(1 << 31)
"""Bits from a batch's first line on in which its lines begin, so that positions fit 32 bits."""


def reach_bits(line_bytes: int, elements: int, precision: int) -> int:
    """Bits behind a line's start that any bits at all can make the fast loop load: heads, steps, raw fields."""
    return 5 * precision + elements * precision + 8 * line_bytes + 256


def tail_of(payload: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """The last ``reach`` bits of a payload with room for as many behind them: what lines that begin there are read
    from."""
    last = payload[max(0, len(payload) - reach // 8) :]
    out = np.zeros(len(last) + reach // 8 + 64, np.uint8)
    out[: len(last)] = last
    return out


def numbers_of(
    tables: StaticTables, fmt: Format, line_bytes: int, shape: tuple[np.uint64, ...]
) -> NDArray[np.uint64]:
    """What the kernels need to know, in one array, since each argument of a call costs time: precision, width, low
    bits, whether the sign is raw, tables, `reach_bits`, `blocks.block_shape` and `words.word_shape`."""
    kept: dict[int, NDArray[np.uint64]] = tables.__dict__.setdefault("_decoder_numbers", {})
    if line_bytes not in kept:
        low, sign = tables.field.low, tables.field.signed == SIGN_RAW
        reach = reach_bits(line_bytes, fmt.elements_in(line_bytes), tables.precision)
        first = tables.precision, fmt.bits, low, sign, len(tables.frequency), reach
        kept[line_bytes] = np.array([*first, *block_shape(fmt.bits, low, sign), *shape], np.uint64)
    return kept[line_bytes]


@njit(inline="always")
def _two_rows(part, row):  # type: ignore[no-untyped-def]
    """Eight bytes of a lane."""
    return np.uint64(load32(part)) | (np.uint64(load32(part + row)) << U32)


@njit(inline="always")
def _odd_word(word, marks, payload, first, raw, flush, p, width, low, sign):  # type: ignore[no-untyped-def]
    """Eight bytes with escapes or zeros among them: (the elements, bits of raw fields read so far)."""
    out = at = U0
    while at < U64:
        y = first >> p if p < flush else window(payload, raw + p)
        value = U0
        if (marks >> at) & U1:
            if (marks >> (at + width - U1)) & U1:
                value = low_bits(y, width)
                p += width
        else:
            value = low_bits(word >> at, width) | low_bits(y, low) | (((y >> low) & sign) << (width - U1))
            p += low + sign
        out |= value << at
        at += width
    return out, p


@njit(cache=True)
def _finish_words(  # type: ignore[no-untyped-def]
    payload, out_at, line_bytes, precision, word_raw, shape, patterns, place, index, used, places, parts, ends, raw,
    pattern, target
):  # fmt: skip
    """`_finish_blocks` a word at a time, of the lanes ``used``."""
    flush, row = precision << U2, np.uint64(4 * parts.shape[1])
    parts_at = np.uint64(parts.ctypes.data)
    for z in range(used):
        at, p = np.uint64(places[z]) - flush, U0
        first = ends[z] | (window(payload, at + flush) << flush)
        part, to = parts_at + np.uint64(4 * z), out_at + np.uint64(index[z]) * line_bytes
        for _ in range(np.int64(line_bytes >> U3)):
            if p >= flush:
                y = window(payload, at + p)
            else:  # the end states are the first raw bits
                y = first >> p
                if p + word_raw > U64:
                    y |= window(payload, at + U64) << (U64 - p)
            store64(to, _two_rows(part, row) | place_raw(y, shape, False))
            p += word_raw
            part += row + row
            to += U8


# Kernels close over plain values only: one that closes over another is compiled anew in every process.
place_16, place_32 = place_blocks(16), place_blocks(32)
chains_16, chains_32 = vector_chains(16), vector_chains(32)


def _finish_blocks(lanes: int) -> Any:
    @njit(cache=True)
    def finish(  # type: ignore[no-untyped-def]
        payload, out_at, line_bytes, precision, word_raw, shape, patterns, place, index, used, places, parts, ends,
        raw, pattern, target
    ):  # fmt: skip
        """Lines without escapes and zeros from the fields of `chains`; of others anything.

        A function of its own, so that its loops have all registers. It takes arrays, not addresses: these live as
        long as they are named.
        """
        flush, half_raw = precision << U2, word_raw >> U2
        raw_at, patterns_at = np.uint64(raw.ctypes.data), np.uint64(patterns.ctypes.data)
        mask = (U1 << flush) - U1
        blocks = line_bytes >> U5
        # What the loads of the last sixteen bytes of a line see is copied.
        copies = np.int64(((blocks + blocks - U1) * half_raw + HALF_ROOM) >> U5)
        for z in range(lanes):
            at = np.uint64(places[z]) - flush
            source, to, shift = payload + (at >> U3), raw_at, at & U7
            for _ in range(copies):
                copy32(source, to)
                source += BLOCK
                to += BLOCK
            # The end states are the first raw bits.
            first = load64(payload + (at >> U3)) & ~(mask << shift)
            store64(raw_at, first | (ends[z] << shift))
            raw_at += np.uint64(LINE_ROOM)
            pattern[z] = patterns_at + shift * np.uint64(PATTERN_BYTES)
            target[z] = out_at + np.uint64(index[z]) * line_bytes
        parts_at, raw_bits_at = np.uint64(parts.ctypes.data), np.uint64(raw.ctypes.data)
        pattern_at, target_at = np.uint64(pattern.ctypes.data), np.uint64(target.ctypes.data)
        if lanes == 32:
            place_32(
                parts_at, raw_bits_at, pattern_at, target_at, half_raw, blocks, place[0], place[1], place[2],
                place[3], place[4],
            )  # fmt: skip
        else:
            place_16(
                parts_at, raw_bits_at, pattern_at, target_at, half_raw, blocks, place[0], place[1], place[2],
                place[3], place[4],
            )  # fmt: skip

    return finish


def _finish_others(bit_moves: bool) -> Any:
    """By pdep, or element by element."""

    @njit(cache=True)
    def finish(  # type: ignore[no-untyped-def]
        payload, out_at, line_bytes, flush, word_raw, width, low, sign, shape, other, others, index, places, parts,
        marks, ends, stops, slow, left
    ):  # fmt: skip
        """Lines with escapes or zeros, in the lanes ``other``; the number of lines left to others so far."""
        ones = EVERY_BYTE if width == U8 else EVERY_HALF
        words = np.int64(line_bytes >> U3)
        for q in range(others):
            z = other[q]
            k, at = index[z], np.uint64(places[z])
            if at > stops[z]:
                slow[left] = k
                left += 1
                continue
            first, raw, p = ends[z] | (window(payload, at) << flush), at - flush, U0
            to, fits = out_at + np.uint64(k) * line_bytes, True
            for t in range(words):
                word = np.uint64(parts[2 * t, z]) | (np.uint64(parts[2 * t + 1, z]) << U32)
                marked = word
                if width == U8:
                    marked = np.uint64(marks[2 * t, z]) | (np.uint64(marks[2 * t + 1, z]) << U32)
                bare = marked & ones
                if not bit_moves and bare:
                    word, p = _odd_word(word, marked, payload, first, raw, flush, p, width, low, sign)
                    store64(to, word)
                    to += U8
                    continue
                free, count = shape[LOW] | shape[SIGN], word_raw
                if bit_moves:
                    gone = (bare << width) - bare
                    escaped = (marked >> (width - U1)) & bare
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
                store64(to, word)
                to += U8
            if p < flush or raw + p != stops[z] or not fits:
                slow[left] = k
                left += 1
        return left

    return finish


finish_16, finish_32 = _finish_blocks(16), _finish_blocks(32)
finish_others_moves, finish_others_words = _finish_others(True), _finish_others(False)


def _decoder(lanes: int) -> Any:
    """The kernel of lines in so many lanes of vector registers, with pdep; of 0, of words alone."""
    batch = lanes or LANES

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, tail, starts, bits, numbers, patterns, table_in, modes, out, slow
    ):
        """Lines into out uint8[n, line_bytes]; the lines left to others into slow int64[n], their number returned.

        bytes_in : uint8[m], tail : `tail_of` it, starts : uint64[n] inside it, bits : uint16[n], numbers :
        `numbers_of`, patterns : `blocks.block_patterns`, table_in : `StaticTables.decode_entries`, modes : uint32[L]
        of the mode row.
        """
        precision, width, low, sign, tables, reach = (
            numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
        )  # fmt: skip
        place = numbers[6], numbers[7], numbers[8], numbers[9], numbers[10]
        shape = (
            numbers[11], numbers[12], numbers[13], numbers[14], numbers[15], numbers[16], numbers[17], numbers[18],
            numbers[19], numbers[20], numbers[21], numbers[22], numbers[23],
        )  # fmt: skip
        whole, table = np.uint64(bytes_in.ctypes.data), np.uint64(table_in.ctypes.data)
        tail_from = np.uint64(bytes_in.shape[0]) - min(np.uint64(bytes_in.shape[0]), reach >> U3)
        tail_at = np.uint64(tail.ctypes.data) - tail_from
        line_bytes = np.uint64(out.shape[1])
        target = np.uint64(out.ctypes.data)
        line_bits = line_bytes << U3
        words = out.shape[1] >> 3
        steps = (line_bits // width) >> U2
        narrow = width == U8
        flags = np.uint32(EVERY_BYTE if narrow else EVERY_HALF)
        mask, flush, rest3 = (U1 << precision) - U1, precision << U2, precision * U3
        word_raw = (low + sign) * (U64 // width)
        line_raw = word_raw * (line_bytes >> U3)
        states, rows = np.zeros((4, batch), np.uint32), np.zeros(batch, np.uint32)
        places, stops = np.zeros(batch, np.uint32), np.zeros(batch, np.uint64)
        parts = np.zeros((MOST_ELEMENTS // 2, batch), np.uint32)
        marks = np.zeros((MOST_ELEMENTS // 4, batch), np.uint32)
        odd, ends = np.zeros(batch, np.uint32), np.zeros(batch, np.uint64)
        index, other = np.zeros(batch, np.int64), np.zeros(batch, np.int64)
        raw_bits = np.empty((batch, LINE_ROOM), np.uint8)
        pattern, line_at = np.empty(batch, np.uint64), np.empty(batch, np.uint64)
        states_at, rows_at, places_at = (
            np.uint64(states.ctypes.data), np.uint64(rows.ctypes.data), np.uint64(places.ctypes.data)
        )  # fmt: skip
        parts_at, marks_at = np.uint64(parts.ctypes.data), np.uint64(marks.ctypes.data)
        odd_at, ends_at = np.uint64(odd.ctypes.data), np.uint64(ends.ctypes.data)
        n = starts.shape[0]
        left = 0
        i = 0
        while i < n:
            used = 0
            origin, payload = U0, whole
            while used < batch and i < n:
                start, size = starts[i], np.uint64(bits[i])
                bytes_at = tail_at if (start >> U3) >= tail_from else whole
                if used == 0:
                    origin, payload = start & ~U7, bytes_at
                elif start - origin >= BATCH_BITS or bytes_at != payload:
                    break
                to = target + np.uint64(i) * line_bytes
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
                states[0, used] = x
                states[1, used] = w & mask
                states[2, used] = (w >> precision) & mask
                states[3, used] = (w >> (precision + precision)) & mask
                places[used] = at + rest3 - origin
                stops[used] = start + size - origin
                rows[used] = (mode - U1) << precision
                index[used] = i
                used += 1
                i += 1
            if used == 0:
                continue
            for z in range(used, batch):  # lanes without a line repeat one
                places[z], rows[z], index[z] = places[used - 1], rows[used - 1], index[used - 1]
                for c in range(4):
                    states[c, z] = states[c, used - 1]
            here = payload + (origin >> U3)
            if lanes == 32:
                chains_32(
                    table, here, states_at, rows_at, places_at, parts_at, marks_at, odd_at, ends_at, steps, precision,
                    narrow,
                )  # fmt: skip
            elif lanes == 16:
                chains_16(
                    table, here, states_at, rows_at, places_at, parts_at, marks_at, odd_at, ends_at, steps, precision,
                    narrow,
                )  # fmt: skip
            else:
                word_chains(
                    table, here, states_at, rows_at, places_at, parts_at, marks_at, odd_at, ends_at, steps, precision,
                    narrow,
                )  # fmt: skip
            if lanes == 32:
                finish_32(
                    here, target, line_bytes, precision, word_raw, shape, patterns, place, index, used, places, parts,
                    ends, raw_bits, pattern, line_at,
                )  # fmt: skip
            elif lanes == 16:
                finish_16(
                    here, target, line_bytes, precision, word_raw, shape, patterns, place, index, used, places, parts,
                    ends, raw_bits, pattern, line_at,
                )  # fmt: skip
            else:
                _finish_words(
                    here, target, line_bytes, precision, word_raw, shape, patterns, place, index, used, places, parts,
                    ends, raw_bits, pattern, line_at,
                )  # fmt: skip
            others = 0
            for z in range(used):
                other[others] = z
                end = np.uint64(places[z]) + (line_raw - flush)
                others += (odd[z] & flags) != 0 or line_raw < flush or end != stops[z]
            if lanes != 0:
                left = finish_others_moves(
                    here, target, line_bytes, flush, word_raw, width, low, sign, shape, other, others, index, places,
                    parts, marks, ends, stops, slow, left,
                )  # fmt: skip
            else:
                left = finish_others_words(
                    here, target, line_bytes, flush, word_raw, width, low, sign, shape, other, others, index, places,
                    parts, marks, ends, stops, slow, left,
                )  # fmt: skip
        return left

    return decode


DECODERS = {lanes: _decoder(lanes) for lanes in sorted({target.lanes for target in TARGETS.values()})}
"""By the lanes of a `targets.Target`."""
