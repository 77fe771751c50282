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
def _tally_few(  # type: ignore[no-untyped-def]
    elements, low, symbol_of, use_zero, differences, mode_difference, bias, coded, raw, modes, counts
):
    """As `_tally_any` for up to four tables, which `encode` chooses among in the same way. ``counts`` is
    int64[2, K, 256]: neighbours count apart, so that equal symbols do not wait for one another."""
    symbols = np.zeros(elements.shape[1], np.uint8)
    for i in range(elements.shape[0]):
        total, some = mode_difference, U0
        for j in range(elements.shape[1]):
            u = np.uint64(elements[i, j])
            some |= u
            if j < coded:
                s = symbol_of[u >> low]
                if use_zero and u == U0:
                    s = np.uint8(ZERO)
                symbols[j] = s
                total += differences[s]
        if some == U0:
            modes[MODE_ZERO] += 1
            continue
        if raw[i]:
            modes[MODE_RAW] += 1
            continue
        best = cheapest(total, bias)
        modes[np.uint64(MODE_CODED) + best] += 1
        for j in range(coded):
            counts[j & 1, best, symbols[j]] += 1


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
        pairs = np.zeros((2, n_tables, ROW_SYMBOLS), np.int64)
        elements = frozen(np.ascontiguousarray(data)).view(fmt.storage)
        _tally_few(
            elements, np.uint64(field.low), tables.symbol_of, tables.use_zero, *choice, coded, raw, modes, pairs
        )  # fmt: skip
        return modes, pairs.sum(axis=0)
    counts = np.zeros((n_tables, ROW_SYMBOLS), np.int64)
    cost, mode_cost = tables.cost
    for at in range(0, len(data), BLOCK_LINES):
        _tally_any(
            elements_of(data[at : at + BLOCK_LINES], fmt), np.uint64(field.low), field.signed, np.uint64(field.flip),
            np.uint64(fmt.bits), tables.first, n_symbols, tables.use_zero, cost, mode_cost, coded,
            raw[at : at + BLOCK_LINES], modes, counts,
        )  # fmt: skip
    return modes, counts
