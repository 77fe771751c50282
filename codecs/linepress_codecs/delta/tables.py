"""Tables of `delta`: a tANS row for each exponent of the base, learned on one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines
from linepress_codecs.delta.kernels import ESCAPE_SYMBOL, MIDDLE, survey_lengths, survey_symbols
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.kernels import MODE_CODED, MODE_RAW, MODE_ZERO
from linepress_codecs.tans.static import BLOCK_LINES, elements_of
from linepress_codecs.tans.tables import RESERVED_BITS, ROW_SYMBOLS, Machine, build, normalise

MOST_ROWS = 32
TAIL = 1 / 500
"""Share of a row's differences that may lie beyond 32 units of 2^low."""
UNIT_BITS = 5
LEAST_SHARE = 1 / 2000
"""Exponents of fewer base elements than this share the row of their neighbour."""


def by_exponent(fmt: Format) -> bool:
    """Whether rows are chosen by the base's exponent: signed floats of at least a byte."""
    return fmt.is_float and fmt.sign_bits == 1 and fmt.bits >= 8


class DeltaTables:
    """Rows of one tensor.

    Attributes
    ----------
    width : int
        Bits of an element.
    first : int
        Base exponent of the first row; the others follow.
    low : int64[rows]
        Low bits of a difference that are stored raw.
    frequency : int32[rows, 256]
        See `kernels` for the symbols; each row sums to ``2**precision``.
    """

    def __init__(
        self, width: int, first: int, low: NDArray[np.int64], frequency: NDArray[np.int32], precision: int
    ) -> None:
        self.width, self.first, self.low, self.frequency, self.precision = width, first, low, frequency, precision

    @cached_property
    def machine(self) -> Machine:
        """Mode row (raw 1, equal to the base reserved, else coded), then the rows."""
        size = 1 << self.precision
        head = np.zeros((1, ROW_SYMBOLS), np.int32)
        zero = size >> RESERVED_BITS
        head[0, [MODE_RAW, MODE_ZERO, MODE_CODED]] = (1, zero, size - zero - 1)
        return build(np.concatenate([head, self.frequency]), self.precision, MODE_ZERO)

    def to_bytes(self) -> bytes:
        """Rows, first exponent, width; a row: low bits, least symbol, their number, frequencies as differences."""
        out = BitWriter()
        out.write(len(self.low) - 1, 5)
        out.write(self.first, 8)
        out.write(self.width - 1, 6)
        for low, row in zip(self.low.tolist(), self.frequency.tolist(), strict=True):
            used = [s for s in range(1, 2 * MIDDLE) if row[s]]
            least, most = (used[0], used[-1]) if used else (1, 0)
            out.write(low, 6)
            out.write(least, 7)
            out.write(most - least + 1, 7)
            before = 0
            for s in range(least, most + 1):
                out.signed(row[s] - before)
                before = row[s]
        return out.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, precision: int) -> DeltaTables:
        """Inverse of `to_bytes`; raises `CorruptDataError` on anything no encoder wrote."""
        source = BitReader(data)
        rows, first, width = source.read(5) + 1, source.read(8), source.read(6) + 1
        size = 1 << precision
        low = np.zeros(rows, np.int64)
        frequency = np.zeros((rows, ROW_SYMBOLS), np.int32)
        for k in range(rows):
            low[k] = source.read(6)
            least, count = source.read(7), source.read(7)
            if low[k] >= width or least < 1 or least + count > 2 * MIDDLE:
                raise CorruptDataError(f"row {k} of the differences has symbols or raw bits that none can have")
            before = 0
            for s in range(least, least + count):
                before += source.signed()
                if not 0 <= before < size:
                    raise CorruptDataError(f"row {k} of the differences has a frequency out of range")
                frequency[k, s] = before
            if count and not (frequency[k, least] and frequency[k, least + count - 1]):
                raise CorruptDataError(f"row {k} of the differences names symbols that it has not")
            frequency[k, ESCAPE_SYMBOL] = size - int(frequency[k].sum())
            if frequency[k, ESCAPE_SYMBOL] < 1:
                raise CorruptDataError(f"the frequencies of row {k} of the differences add up to more than there are")
        source.finish()
        return cls(width, first, low, frequency, precision)


def blocks_of(chunks: Iterable[Lines]) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64], Format]]:
    """(elements, base elements, format) block by block; a line without a base has zeros."""
    for lines in chunks:
        for at in range(0, len(lines), BLOCK_LINES):
            part = lines[at : at + BLOCK_LINES]
            base = base_elements(part.geometry.base, part.data, part.format)
            yield elements_of(part.data, part.format), base, part.format


def base_elements(base: NDArray[np.uint8] | None, data: NDArray[np.uint8], fmt: Format) -> NDArray[np.uint64]:
    """Elements of the base lines, uint64[n, m]."""
    return elements_of(np.zeros_like(data) if base is None else np.ascontiguousarray(base), fmt)


def fit_delta(chunks: Iterable[Lines], precision: int) -> DeltaTables:
    """Rows learned on one tensor; a row of escapes only where there is nothing to learn from."""
    lengths = np.zeros((0, 65), np.int64)
    fmt: Format | None = None
    for elements, base, fmt in blocks_of(chunks):
        if not len(lengths):
            lengths = np.zeros((1 << fmt.exponent_bits if by_exponent(fmt) else 1, 65), np.int64)
        survey_lengths(elements, base, *shape_of(fmt), lengths)
    width = fmt.bits if fmt is not None else 1
    first, low = _rows(lengths, width)
    counts = np.zeros((len(low), ROW_SYMBOLS), np.int64)
    seen = np.zeros(2, np.int64)
    for elements, base, form in blocks_of(chunks):
        survey_symbols(elements, base, *shape_of(form), first, low, counts, seen)
    must = np.zeros(ROW_SYMBOLS, np.bool_)
    must[ESCAPE_SYMBOL] = True
    frequency = np.stack([normalise(row, 1 << precision, must) for row in counts]).astype(np.int32)
    return DeltaTables(width, first, low, frequency, precision)


def shape_of(fmt: Format) -> tuple[np.uint64, np.uint64, bool]:
    """(width, mantissa, whether elements are ordered and told apart as signed floats)."""
    return np.uint64(fmt.bits), np.uint64(fmt.mantissa_bits if by_exponent(fmt) else 0), by_exponent(fmt)


def _rows(lengths: NDArray[np.int64], width: int) -> tuple[int, NDArray[np.int64]]:
    """(first exponent, raw low bits of each row) from the counts of `survey_lengths`."""
    every = lengths.sum(axis=1)
    often = np.flatnonzero(every >= max(float(every.sum()) * LEAST_SHARE, 1.0))
    if not len(often):
        return 0, np.zeros(1, np.int64)
    last = int(often[-1])
    first = max(int(often[0]), last - MOST_ROWS + 1)
    rows = lengths[first : last + 1].copy()
    rows[0] += lengths[:first].sum(axis=0)
    rows[-1] += lengths[last + 1 :].sum(axis=0)
    within = np.cumsum(rows, axis=1) >= (1 - TAIL) * np.maximum(rows.sum(axis=1, keepdims=True), 1)
    low = np.maximum(within.argmax(axis=1) - UNIT_BITS, 0)
    return first, np.minimum(low, width - 1).astype(np.int64)
