"""Fitting Huffman tables to one tensor, streaming: one table from counts, or several by k-means in code bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from linepress_codecs import huffman_kernels as kernels
from linepress_codecs.bitio import line_words
from linepress_codecs.canonical import code_lengths
from linepress_codecs.contracts import Lines
from linepress_codecs.errors import SpecError
from linepress_codecs.huffman_tables import HuffmanTables, pair_bits_of

SAMPLE_LINES = 1 << 15
"""Lines that k-means looks at, evenly spread over the tensor."""

LINES_A_TABLE = 16
"""Fewest lines a table: a code's lengths cost about 20 B, which fewer lines cannot save."""

ROUNDS = 8
"""Assign-and-refit rounds; on the reference tensors the cost changes by under 0.01 % after the sixth."""

KindOf = Callable[[Lines], int]


def fit_tables(chunks: Iterable[Lines], kind_of: KindOf, tables: int, limit: int) -> HuffmanTables:
    """Up to ``tables`` codes of at most ``limit`` bits for the lines of one tensor.

    Several tables are kept only where they save more bits than their selectors and lengths cost. All-zero lines have
    a mode of their own and do not count. Memory does not grow with the tensor; the result does not depend on how it
    is cut into chunks. Raises `SpecError` if several tables are asked of an iterator that can be read only once.
    """
    if tables > 1 and isinstance(chunks, Iterator):
        raise SpecError("several Huffman tables take three passes: give a list of chunks, not an iterator")
    pooled = np.zeros(256, np.int64)
    n_lines = zeros = 0
    kind = kernels.KIND_BYTES
    for lines in chunks:
        kind = kind_of(lines)
        part = np.zeros((4, 256), np.uint32)
        zeros += int(kernels.count(line_words(lines.data), kind, part))
        pooled += part.sum(axis=0, dtype=np.int64)
        n_lines += len(lines)
    single = HuffmanTables(code_lengths(pooled, limit)[None], zero_lines=zeros > 0)
    coded = n_lines - zeros
    tables = min(tables, coded // LINES_A_TABLE)
    if tables <= 1:
        return single
    start = _k_means(_sample(chunks, n_lines), kind, pooled, tables, limit)
    histograms = np.zeros((len(start), 256), np.uint64)
    lines_of = np.zeros(len(start), np.uint64)
    lookups = pair_bits_of(start)
    for lines in chunks:
        kernels.assign(line_words(lines.data), kind, lookups, lines_of, histograms)
    used = histograms[lines_of > 0].astype(np.int64)
    several = HuffmanTables(np.stack([code_lengths(row, limit) for row in used]), zero_lines=zeros > 0)
    return several if _cost(several, used, coded) < _cost(single, pooled[None], coded) else single


def _cost(tables: HuffmanTables, histograms: NDArray[np.int64], coded_lines: int) -> int:
    """Bits of codes, selectors and tables."""
    codes = int((histograms * tables.lengths).sum())
    return codes + tables.selector_bits * coded_lines + 8 * len(tables.to_bytes())


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
