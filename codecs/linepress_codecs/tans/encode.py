"""Encoding of lines of 8- or 16-bit elements in four streams, many at once; stream layout in `tans.kernels`.

The table of a line is chosen from the differences of the tables' costs to the first one's, three of them side by
side in a uint64, so that an element adds one number; the index in the lowest bits of the sums makes the choice one
minimum. Most symbols of a table lie in one run (`StaticTables.runs`), so one comparison of all of a line's symbols
tells whether it may have escapes, zero elements or symbols that its table lacks; only such lines are gone through by
element.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.intrinsics import (
    count_ones,
    extract,
    load8,
    load16,
    load32,
    load64,
    store8,
    store32,
    store64,
    trailing_zeros,
)
from linepress_codecs.tans import tables
from linepress_codecs.tans.kernels import (
    ESCAPE,
    FIRST,
    MODE_RAW,
    U0,
    U1,
    U16,
    U63,
    U64,
    ZERO_LINE,
    ZERO_LINE_BITS,
    low_bits,
)
from linepress_codecs.tans.steps import (
    BLOCK_WORDS,
    CHUNK,
    LANES,
    LINE_ROW,
    ROW_SHIFT,
    SYMBOL_STRIDE,
    gathered_symbols,
    line_masks,
    line_symbols,
    outside_chunk,
    step_back_entry,
    vector_steps,
    word_steps,
)
from linepress_codecs.tans.words import LOW, SIGN, append, append_raw, put_bits, put_rest, take_raw

U2, U3, U8, U48, U56 = (np.uint64(i) for i in (2, 3, 8, 48, 56))
WORD = np.uint64(0xFFFFFFFF)
LANE_BITS, LANE = np.uint64(21), np.uint64((1 << 21) - 1)
COST_SHIFT, MODE_SHIFT, NO_TABLE = 1 << 13, 1 << 17, 1 << 20
"""Added to each element's and the mode's cost difference, so that sums stay positive; the sum of no table is larger
than any."""
MISSING = np.uint64(tables.MISSING)
MOST_CHOICES = 4
BUFFER_WORDS, MASK_WORDS, MOST_ROWS = 20, 16, 1 + SYMBOL_STRIDE // 8
RAW_STRIDE = np.uint64(8 * BUFFER_WORDS)


def _scratch() -> tuple[dict[str, np.uint64], int]:
    """Where a batch's arrays lie in the scratch words: (first byte of each, words in all).

    Of the lines: ``some``, whether a bit is set; ``sums`` of costs; ``odd``, whether symbols are outside the table's
    run; ``firsts``, the first raw bits, and ``fills``, the number of all; ``totals``, the bits of steps and head.
    """
    words = {"symbols": LANES * SYMBOL_STRIDE // 8, "raw": LANES * BUFFER_WORDS, "rows": LANES // 2}
    words |= dict.fromkeys(("values", "tops", "counts"), MOST_ROWS * LANES) | {"masks": MASK_WORDS}
    words |= dict.fromkeys(("some", "sums", "odd", "firsts", "fills", "totals"), LANES)
    ends = np.cumsum(list(words.values()))
    starts = dict(zip(words, ends - list(words.values()), strict=True))
    return {name: np.uint64(8 * at) for name, at in starts.items()}, int(ends[-1])


_at, SCRATCH_WORDS = _scratch()
SYMBOLS, RAW, ROWS, VALUES, TOPS, COUNTS, MASKS, SOME, SUMS, ODD, FIRSTS, FILLS, TOTALS = _at.values()


@njit(inline="always")
def step_back_word(x, entry, states):  # type: ignore[no-untyped-def]
    """One encoder step from state ``x``: (bits to write, their number, next state)."""
    count = ((x + entry) & WORD) >> U16
    at = (x >> count) + np.uint64(np.int64(entry) >> np.int64(32))
    return low_bits(x, count), count, np.uint64(load16(states + (at << U1)))


@njit(inline="always")
def cheapest(total, bias):  # type: ignore[no-untyped-def]
    """The table of the sums of `StaticTables.choice`."""
    key0, key1 = bias << U2, ((total & LANE) << U2) | U1
    key2 = (((total >> LANE_BITS) & LANE) << U2) | U2
    key3 = ((total >> (LANE_BITS + LANE_BITS)) << U2) | U3
    return min(min(key0, key1), min(key2, key3)) & U3


@njit(inline="always")
def _odd_raw(line, n_words, width, low, sign, shape, masks, raw, bit_moves):  # type: ignore[no-untyped-def]
    """Raw fields of a line at the bits of ``masks``, one word of the line each; their number."""
    plain, lane = shape[LOW] | shape[SIGN], (U1 << width) - U1
    held, used, fill, to = U0, U0, U0, raw
    for t in range(n_words):
        w, mask = load64(line + (np.uint64(t) << U3)), load64(masks + (np.uint64(t) << U3))
        if bit_moves:
            count = count_ones(mask)
            to, held, used = append(to, held, used, extract(w, mask), count)
            fill += count
        elif mask == plain:
            count = count_ones(mask)
            to, held, used = append(to, held, used, take_raw(w, shape, bit_moves), count)
            fill += count
        else:
            for c in range(0, 64, np.int64(width)):
                u, taken = (w >> np.uint64(c)) & lane, (mask >> np.uint64(c)) & lane
                value, count = u, width
                if taken != lane:
                    value = low_bits(u, low) | (((u >> (width - U1)) & sign) << low)
                    count = low + sign if taken != U0 else U0
                    value = value if taken != U0 else U0
                to, held, used = append(to, held, used, value, count)
                fill += count
    store64(to, held)
    store64(to + U8, U0)
    return fill


def _gatherer(bit_moves: bool) -> Any:
    """How a target takes raw fields, by pext or by shifts."""

    @njit(cache=True)
    def gather(  # type: ignore[no-untyped-def]
        lines, n_words, lanes, width, low, sign, shape, runs, frequency, scratch
    ):  # fmt: skip
        """Raw fields of ``lanes`` lines at an address; symbols that a line's table lacks become escapes."""
        masks, blocks = scratch + MASKS, np.uint64(n_words // BLOCK_WORDS)
        chunks = np.int64(U64 // width) * n_words // CHUNK
        word_raw = (low + sign) * (U64 // width)
        plain_fill = word_raw * np.uint64(n_words)
        for g in range(lanes):
            at = np.uint64(8 * g)
            line, raw = lines + at * np.uint64(n_words), scratch + RAW + np.uint64(g) * RAW_STRIDE
            symbols, special = scratch + SYMBOLS + np.uint64(g * SYMBOL_STRIDE), False
            if load64(scratch + ODD + at) != U0:
                row = np.uint64(load32(scratch + ROWS + (at >> U1))) >> np.uint64(ROW_SHIFT)
                run = runs + ((row - U1) << U1)
                least, span = np.uint64(load8(run)), np.uint64(load8(run + U1))
                for k in range(chunks):
                    outside = outside_chunk(symbols + np.uint64(k * CHUNK), least, span)
                    while outside != U0:
                        at_symbol = symbols + np.uint64(k * CHUNK) + trailing_zeros(outside)
                        outside &= outside - U1
                        s = np.uint64(load8(at_symbol))
                        if load32(frequency + (((row << U8) + s) << U2)) == 0:
                            s = np.uint64(ESCAPE)
                            store8(at_symbol, np.uint8(ESCAPE))
                        if s < np.uint64(FIRST):
                            special = True
            fill = plain_fill
            if special:
                line_masks(symbols, masks, blocks, np.uint64(width == U8), shape[LOW] | shape[SIGN])
                fill = _odd_raw(line, n_words, width, low, sign, shape, masks, raw, bit_moves)
            else:
                to, held, _ = append_raw(raw, U0, U0, line, n_words, word_raw, shape, bit_moves)
                store64(to, held)
                store64(to + U8, U0)
            store64(scratch + FIRSTS + at, load64(raw))
            store64(scratch + FILLS + at, fill)

    return gather


gather_moves, gather_shifts = _gatherer(bit_moves=True), _gatherer(bit_moves=False)


def _chooser(gathers: bool) -> Any:
    """How a target finds symbols and tables, costs by gathers or by loads."""

    @njit(cache=True)
    def choose(lines, n_words, lanes, width, numbers, runs, cost, mode_difference, bias, choices, scratch):  # type: ignore[no-untyped-def]
        """Symbols and tables of the lines at an address."""
        blocks, chunks = np.uint64(n_words // BLOCK_WORDS), np.int64(U64 // width) * n_words // CHUNK
        for g in range(lanes):
            at = np.uint64(8 * g)
            line, symbols = lines + at * np.uint64(n_words), scratch + SYMBOLS + np.uint64(g * SYMBOL_STRIDE)
            if gathers:
                total, some = gathered_symbols(line, symbols, blocks, cost, mode_difference, numbers)
            else:
                total, some = line_symbols(line, symbols, blocks, cost, mode_difference, numbers)
            store64(scratch + SUMS + at, total)
            store64(scratch + SOME + at, some)
        for g in range(lanes):
            at, best = np.uint64(8 * g), U0
            if choices > 1:
                best = cheapest(load64(scratch + SUMS + at), bias)
            store32(scratch + ROWS + (at >> U1), np.uint32((best + U1) << np.uint64(ROW_SHIFT)))
            least, span = np.uint64(load8(runs + (best << U1))), np.uint64(load8(runs + (best << U1) + U1))
            odd, symbols = U0, scratch + SYMBOLS + np.uint64(g * SYMBOL_STRIDE)
            for k in range(chunks):
                odd |= outside_chunk(symbols + np.uint64(k * CHUNK), least, span)
            store64(scratch + ODD + at, odd)

    return choose


choose_gathers, choose_loads = _chooser(gathers=True), _chooser(gathers=False)


@njit(cache=True)
def _put(  # type: ignore[no-untyped-def]
    lines, n_words, first, lanes, precision, steps, entries, states, scratch, out, starts, bits, cursor, write
):  # fmt: skip
    """Sizes (and with ``write`` the code) of the lines at an address, the first of which is line ``first``; returns
    the bits written so far."""
    line_bits = U64 * np.uint64(n_words)
    size, flush = U1 << precision, precision << U2
    for g in range(lanes):
        i, at = first + g, np.uint64(8 * g)
        starts[i] = cursor
        to = out + (cursor >> U3)
        if load64(scratch + SOME + at) == U0:
            if write:
                store64(to, ZERO_LINE)
            bits[i] = ZERO_LINE_BITS
            cursor += U64
            continue
        fill = load64(scratch + FILLS + at)
        done = min(flush, fill)
        size_bits = load64(scratch + TOTALS + at) + fill - done
        raw, last = scratch + RAW + np.uint64(g) * RAW_STRIDE, fill
        coded = size_bits < line_bits
        if not coded:
            raw, last, done = lines + at * np.uint64(n_words), line_bits, precision
            x = size + low_bits(load64(raw), precision)
            head, head_bits, x = step_back_entry(x, np.uint64(load32(entries + np.uint64(4 * MODE_RAW))), states)
            size_bits = line_bits + head_bits
        if write:
            if coded:
                values, counts = scratch + VALUES + at, scratch + COUNTS + at
                to, held, used = put_bits(to, load64(values), load64(counts))
                for _ in range(steps >> 1):
                    values += LINE_ROW
                    counts += LINE_ROW
                    value, count = load64(values), load64(counts)
                    if count > U56:
                        to, held, used = put_bits(to, held | (low_bits(value, U48) << used), used + U48)
                        value = (value >> U48) | (load64(values + (TOPS - VALUES)) << U16)
                        count -= U48
                    to, held, used = put_bits(to, held | (value << used), used + count)
            else:
                to, held, used = put_bits(to, (x - size) | (head << precision), precision + head_bits)
            put_rest(to, held, used, raw, done, last)
        bits[i] = size_bits
        cursor = (cursor + size_bits + U63) & ~U63
    return cursor


def _encoder(wide: bool, vectors: bool) -> Any:
    """The kernel of a target, which closes over plain values only: Numba finds no other again in its cache."""

    @njit(cache=True)
    def encode(  # type: ignore[no-untyped-def]
        data, precision, width, low, sign, shape, numbers, runs, frequency, differences, mode_difference, bias,
        choices, entries_in, states_in, words, starts, bits, write, scratch_words
    ):  # fmt: skip
        """Sizes (and with ``write`` the code) of lines uint64[n, words]; returns the bits of ``words`` used.

        numbers, runs: `StaticTables.numbers` and `runs`; frequency : int32[rows, 256]; differences : uint64[256],
        mode_difference and bias uint64, of ``choices`` tables: see `StaticTables.choice`; entries : uint32[rows *
        256]; states : uint16[rows * L + 1]; starts uint64[n], bits uint16[n] are written; scratch
        uint64[SCRATCH_WORDS], zero before the first call.
        """
        n, n_words = data.shape
        steps = np.int64(U64 // width) * n_words >> 2
        scratch = np.uint64(scratch_words.ctypes.data)
        source, out = np.uint64(data.ctypes.data), np.uint64(words.ctypes.data)
        entries = np.uint64(entries_in.ctypes.data)
        states = np.uint64(states_in.ctypes.data) - np.uint64(2 * tables.FIND_BIAS)
        cost = np.uint64(differences.ctypes.data) if choices > 1 else U0
        runs_at, frequency_at = np.uint64(runs.ctypes.data), np.uint64(frequency.ctypes.data)
        cursor = U0
        for i in range(0, n, LANES):
            lanes, lines = min(n - i, LANES), source + np.uint64(8 * n_words * i)
            choose = choose_gathers if wide else choose_loads
            choose(lines, n_words, lanes, width, numbers, runs_at, cost, mode_difference, bias, choices, scratch)
            gather = gather_moves if vectors else gather_shifts
            gather(lines, n_words, lanes, width, low, sign, shape, runs_at, frequency_at, scratch)
            steps_back = vector_steps if vectors else word_steps
            steps_back(
                entries, states, scratch + SYMBOLS, scratch + ROWS, scratch + FIRSTS, precision, np.uint64(steps),
                scratch + VALUES, scratch + TOPS, scratch + COUNTS, scratch + TOTALS
            )  # fmt: skip
            cursor = _put(
                lines, n_words, i, lanes, precision, steps, entries, states, scratch, out, starts, bits, cursor, write
            )
        return cursor

    return encode


KERNELS = {
    "avx512": _encoder(wide=True, vectors=True),
    "avx2": _encoder(wide=False, vectors=True),
    "portable": _encoder(wide=False, vectors=False),
}
"""By target."""
