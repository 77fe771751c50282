"""Which table each line takes and which symbols it then has: counts for `fit` and for the class' bound."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.formats import Format
from linepress_codecs.tans.encode import cheapest
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, MODE_RAW, MODE_ZERO, U0, U1, ZERO
from linepress_codecs.tans.static import BLOCK_LINES, StaticTables, elements_of
from linepress_codecs.tans.static_kernels import field_of
from linepress_codecs.tans.tables import ROW_SYMBOLS


@njit(cache=True)
def _choose_few(  # type: ignore[no-untyped-def]
    elements, low, differences, of_zero, mode_difference, bias, coded, raw, chosen, zeros
):
    """Mode of each line under up to four tables, as `encode` chooses, into ``chosen`` uint8[n], and its zeros
    among the ``coded`` elements into ``zeros`` uint8[n].

    ``differences`` uint64 by the bits of an element above its raw ones; ``of_zero`` what a zero element has beyond.
    """
    whole = coded & ~3
    for i in range(elements.shape[0]):
        none = 0
        for j in range(coded):
            none += elements[i, j] == 0
        zeros[i] = none
        if none == coded and not elements[i, coded:].any():
            chosen[i] = MODE_ZERO
            continue
        if raw[i]:
            chosen[i] = MODE_RAW
            continue
        # sums of their own, so that none waits for another
        total0, total1, total2, total3 = mode_difference + np.uint64(none) * of_zero, U0, U0, U0
        for j in range(0, whole, 4):
            total0 += differences[np.uint64(elements[i, j]) >> low]
            total1 += differences[np.uint64(elements[i, j + 1]) >> low]
            total2 += differences[np.uint64(elements[i, j + 2]) >> low]
            total3 += differences[np.uint64(elements[i, j + 3]) >> low]
        for j in range(whole, coded):
            total0 += differences[np.uint64(elements[i, j]) >> low]
        total = total0 + total1 + total2 + total3
        chosen[i] = np.uint64(MODE_CODED) + cheapest(total, bias)


@njit(cache=True)
def _count_chosen(elements, low, coded, chosen, counts):  # type: ignore[no-untyped-def]
    """Add the elements of coded lines to ``counts`` uint32[2, K, m], by their bits above the raw ones: neighbours
    apart, so that equal ones do not wait for one another, and after all lines have chosen, for which none waits."""
    even = coded & ~1
    for i in range(elements.shape[0]):
        table = np.int64(chosen[i]) - MODE_CODED
        if table < 0:
            continue
        for j in range(0, even, 2):
            counts[0, table, np.uint64(elements[i, j]) >> low] += np.uint32(1)
            counts[1, table, np.uint64(elements[i, j + 1]) >> low] += np.uint32(1)
        if even < coded:
            counts[0, table, np.uint64(elements[i, even]) >> low] += np.uint32(1)


@njit(cache=True)
def _tally_any(  # type: ignore[no-untyped-def]
    elements, low, signed, flip, width, first, n_symbols, use_zero, cost, mode_cost, coded, raw, modes, counts
):
    """Add lines uint64[n, m] to ``modes`` and the symbols of those coded to ``counts`` int64[K, 256], each line
    under its cheapest table; ``raw`` bool[n] are not counted by symbol."""
    sign_shift = width - U1
    symbols = np.zeros(elements.shape[1], np.int64)
    for i in range(elements.shape[0]):
        some = U0
        for j in range(elements.shape[1]):
            u = elements[i, j]
            some |= u
            v = np.int64(field_of(u, low, signed, flip, sign_shift)) - first + FIRST
            symbols[j] = v if FIRST <= v < n_symbols else ESCAPE
            if use_zero and u == U0:
                symbols[j] = ZERO
        if some == U0:
            modes[MODE_ZERO] += 1
            continue
        if raw[i] or cost.shape[0] == 0:
            modes[MODE_RAW] += 1
            continue
        best = 0
        least = np.int64(1) << 60
        for k in range(cost.shape[0]):
            total = np.int64(mode_cost[MODE_CODED + k])
            for j in range(coded):
                total += cost[k, symbols[j]]
            if total < least:
                least = total
                best = k
        modes[MODE_CODED + best] += 1
        for j in range(coded):
            counts[best, symbols[j]] += 1


def tally(
    data: NDArray[np.uint8], fmt: Format, tables: StaticTables, coded: int, raw: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(lines by mode int64[2 + K], symbols int64[K, 256]) of lines uint8[n, line_bytes], by cheapest table.

    The first ``coded`` elements of a line are counted. Lines that ``raw`` bool[n] marks count by their mode alone. A
    symbol that the line's table lacks, and that is an escape in its code, is counted as itself.
    """
    n_tables, n_symbols = tables.frequency.shape
    field, modes = tables.field, np.zeros(MODE_CODED + n_tables, np.int64)
    choice = tables.choice(coded) if n_tables and fmt.bits in (8, 16) else None
    raw = frozen(raw)
    if choice is not None:
        return _tally_few(frozen(np.ascontiguousarray(data)).view(fmt.storage), tables, choice, coded, raw)
    counts = np.zeros((n_tables, ROW_SYMBOLS), np.int64)
    cost, mode_cost = tables.cost
    for at in range(0, len(data), BLOCK_LINES):
        _tally_any(
            elements_of(data[at : at + BLOCK_LINES], fmt), np.uint64(field.low), field.signed, np.uint64(field.flip),
            np.uint64(fmt.bits), tables.first, n_symbols, tables.use_zero, cost, mode_cost, coded,
            raw[at : at + BLOCK_LINES], modes, counts,
        )  # fmt: skip
    return modes, counts


def _tally_few(
    elements: NDArray[np.unsignedinteger],
    tables: StaticTables,
    choice: tuple[NDArray[np.uint64], np.uint64, np.uint64],
    coded: int,
    raw: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`tally` of elements of 8 or 16 bits under tables that `StaticTables.choice` can tell apart by sums."""
    low, symbol_of = np.uint64(tables.field.low), tables.symbol_of
    differences, mode_difference, bias = choice
    by_bits = differences[symbol_of]
    of_zero = np.subtract(differences[ZERO], by_bits[:1])[0] if tables.use_zero else U0  # modulo 2^64, as the sums
    chosen, zeros = np.empty(len(elements), np.uint8), np.empty(len(elements), np.uint8)
    _choose_few(elements, low, by_bits, of_zero, mode_difference, bias, coded, raw, chosen, zeros)
    counts = np.zeros((2, len(tables.frequency), len(symbol_of)), np.uint32)
    _count_chosen(elements, low, coded, chosen, counts)
    modes = np.bincount(chosen, minlength=MODE_CODED + len(tables.frequency))
    symbols = [np.bincount(symbol_of, row, ROW_SYMBOLS) for row in counts.sum(axis=0, dtype=np.int64)]
    found = np.array(symbols).astype(np.int64)
    if tables.use_zero:
        zeros_of = np.bincount(chosen, zeros, len(modes)).astype(np.int64)[MODE_CODED:]
        found[:, symbol_of[0]] -= zeros_of
        found[:, ZERO] += zeros_of
    return modes, found
