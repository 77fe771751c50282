"""Fitting Huffman tables to one tensor, streaming: one table from counts, or several by k-means in code bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import line_words
from linepress_codecs.contracts import Lines, count_lines, item_counts
from linepress_codecs.errors import SpecError
from linepress_codecs.fields import exponent_field
from linepress_codecs.formats import Format
from linepress_codecs.huffman import kernels as kernels
from linepress_codecs.huffman.canonical import code_lengths
from linepress_codecs.huffman.tables import HuffmanTables, pair_bits_of

SAMPLE_LINES = 1 << 15
"""Lines that k-means looks at, evenly spread over the tensor."""

LINES_A_TABLE = 16
"""Fewest lines a table: a code's lengths cost about 20 B, which fewer lines cannot save."""

ROUNDS = 8
"""Assign-and-refit rounds; on the reference tensors the cost changes by under 0.01 % after the sixth."""

KindOf = Callable[[Format, int], int]
"""`kernels.KIND_BYTES` … of a format and a line size in bytes."""


def fit_tables(chunks: Iterable[Lines], kind_of: KindOf, tables: int, limit: int) -> HuffmanTables:
    """Up to ``tables`` codes of at most ``limit`` bits for the lines of one tensor.

    Several tables are kept only where they save more bits than their selectors and lengths cost. All-zero lines have
    a mode of their own and do not count. Memory does not grow with the tensor; the result does not depend on how it
    is cut into chunks. Raises `SpecError` if several tables are asked of an iterator that can be read only once.
    """
    if tables > 1 and isinstance(chunks, Iterator):
        raise SpecError("several Huffman tables take three passes: give a list of chunks, not an iterator")
    kind, pooled, n_lines, zeros = _counted(chunks, kind_of)
    single = HuffmanTables(code_lengths(pooled, limit)[None], zero_lines=zeros > 0)
    coded = n_lines - zeros
    tables = min(tables, coded // LINES_A_TABLE)
    if tables <= 1:
        return single
    start = _best_of(_sample(chunks, n_lines), kind, pooled, tables, limit, coded)
    several, histograms = _assigned((lines.data for lines in chunks), kind, start, limit, zeros > 0)
    cost_several, cost_single = _cost(several, histograms, coded, coded), _cost(single, pooled[None], coded, coded)
    return several if cost_several < cost_single else single


def _counted(chunks: Iterable[Lines], kind_of: KindOf) -> tuple[int, NDArray[np.int64], int, int]:
    """(kind, symbols int64[256] of the lines that are not all zero, lines, all-zero lines)."""
    known = item_counts(chunks)
    if known is not None:
        kind, field = kind_of(known.format, known.line_bytes), exponent_field(known.format)
        symbols = np.arange(len(known.items)) >> field.shift & ((1 << field.bits) - 1)
        pooled = np.bincount(symbols, known.items, 256).astype(np.int64)
        return kind, pooled, count_lines(chunks), known.zero_lines
    pooled = np.zeros(256, np.int64)
    n_lines = zeros = 0
    kind = kernels.KIND_BYTES
    for lines in chunks:
        kind = kind_of(lines.format, lines.line_bytes)
        part = np.zeros((4, 256), np.uint32)
        zeros += int(kernels.count(line_words(lines.data), kind, part))
        pooled += part.sum(axis=0, dtype=np.int64)
        n_lines += len(lines)
    return kind, pooled, n_lines, zeros


def _assigned(
    parts: Iterable[NDArray[np.uint8]], kind: int, start: NDArray[np.uint8], limit: int, zero_lines: bool
) -> tuple[HuffmanTables, NDArray[np.int64]]:
    """(tables refitted to the lines each of ``start`` codes shortest, their histograms), unused ones dropped."""
    histograms = np.zeros((len(start), 256), np.uint64)
    lines_of = np.zeros(len(start), np.uint64)
    lookups = pair_bits_of(start)
    for data in parts:
        kernels.assign(line_words(data), kind, lookups, lines_of, histograms)
    used = histograms[lines_of > 0].astype(np.int64)
    return HuffmanTables(np.stack([code_lengths(row, limit) for row in used]), zero_lines), used


def _cost(tables: HuffmanTables, histograms: NDArray[np.int64], counted_lines: int, coded_lines: int) -> float:
    """Bits of codes, selectors and tables of ``coded_lines`` lines, of which ``counted_lines`` were counted."""
    codes = float((histograms * tables.lengths).sum()) * coded_lines / counted_lines
    return codes + tables.selector_bits * coded_lines + 8 * len(tables.to_bytes())


def _best_of(
    sample: NDArray[np.uint64], kind: int, pooled: NDArray[np.int64], tables: int, limit: int, coded_lines: int
) -> NDArray[np.uint8]:
    """Code lengths of the number of tables, ``tables`` halved down to 2, that costs least on the sample.

    Every selector bit must pay: 16 tables cost each line 4 bits, 1 % of a line of bf16.
    """
    counted = int(np.count_nonzero(sample.any(axis=1)))
    best, best_cost = np.zeros((0, 256), np.uint8), float("inf")
    while tables >= 2:
        start = _k_means(sample, kind, pooled, tables, limit)
        if counted == 0:
            return start
        fitted, histograms = _assigned([sample.view(np.uint8)], kind, start, limit, False)
        cost = _cost(fitted, histograms, counted, coded_lines)
        if cost < best_cost:
            best, best_cost = start, cost
        tables //= 2
    return best


def _sample(chunks: Iterable[Lines], n_lines: int) -> NDArray[np.uint64]:
    """Every n-th line of the tensor, by its index in the whole."""
    step = -(-n_lines // SAMPLE_LINES)
    parts, seen = [], 0
    for lines in chunks:
        parts.append(line_words(lines.data)[-seen % step :: step])
        seen += len(lines)
    return np.concatenate(parts)


def _k_means(
    sample: NDArray[np.uint64], kind: int, pooled: NDArray[np.int64], tables: int, limit: int
) -> NDArray[np.uint8]:
    """Code lengths uint8[k, 256] of ``tables`` clusters; every symbol of the tensor has a code in each of them.

    Starts from lines sorted by their size under the pooled code and cut into equal parts (deterministic), then
    assigns lines to the table that codes them shortest and refits, which never raises the cost on the sample but for
    the smoothing that keeps every symbol codable.
    """
    floor = (pooled > 0).astype(np.int64)
    first = code_lengths(pooled, limit)[None]
    bits = np.zeros(len(sample), np.uint16)
    kernels.measure(sample, kind, pair_bits_of(first), np.uint64(1), 1, False, bits)
    order = np.argsort(bits, kind="stable")
    lengths = []
    for part in np.array_split(order, tables):
        histogram = np.zeros((4, 256), np.uint32)
        kernels.count(sample[np.sort(part)], kind, histogram)
        lengths.append(code_lengths(histogram.sum(axis=0, dtype=np.int64) * 256 + floor, limit))
    current = np.stack(lengths)
    for _ in range(ROUNDS):
        histograms = np.zeros((tables, 256), np.uint64)
        lines_of = np.zeros(tables, np.uint64)
        kernels.assign(sample, kind, pair_bits_of(current), lines_of, histograms)
        rows = [
            code_lengths(row.astype(np.int64) * 256 + floor, limit) if n else old
            for row, n, old in zip(histograms, lines_of, current, strict=True)
        ]
        refitted = np.stack(rows)
        if np.array_equal(refitted, current):
            break
        current = refitted
    return current
