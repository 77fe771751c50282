"""Learning static tANS tables: which field, which symbols, how many tables, from one tensor in chunks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.contracts import ItemCounts, Lines, count_lines, item_counts, spread_lines
from linepress_codecs.formats import Format
from linepress_codecs.tans.engine import measure_static
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, ZERO
from linepress_codecs.tans.static import (
    BLOCK_LINES,
    FINE_MANTISSA_BITS,
    INTEGER,
    SIGN_CODED,
    Field,
    StaticTables,
    elements_of,
    fields_for,
)
from linepress_codecs.tans.static_kernels import field_of
from linepress_codecs.tans.tables import RESERVED_BITS, ROW_SYMBOLS, normalise
from linepress_codecs.tans.tally import tally

ROUNDS = 8
"""Rounds of clustering lines into tables (a k-means whose distance is code length)."""
SYMBOL_TABLE_BITS = 9
"""Rough serialised bits of one symbol of one table, for the choice of field (measured: 7 to 11)."""


@njit(cache=True)
def _count(elements, fine_low, signed, flip, width, histogram):  # type: ignore[no-untyped-def]
    """Histogram of fine field values over non-zero elements of lines; (zeros in non-zero lines, zero lines)."""
    zeros = 0
    zero_lines = 0
    sign_shift = width - np.uint64(1)
    for i in range(elements.shape[0]):
        here = 0
        for j in range(elements.shape[1]):
            u = np.uint64(elements[i, j])
            if u == np.uint64(0):
                here += 1
            else:
                histogram[np.int64(field_of(u, fine_low, signed, flip, sign_shift))] += 1
        if here == elements.shape[1]:
            zero_lines += 1
        else:
            zeros += here
    return zeros, zero_lines


@dataclass
class Survey:
    """What a first pass over a tensor sees.

    ``histogram`` counts non-zero elements by fine field value (`FINE_MANTISSA_BITS` mantissa bits, sign lowest);
    ``sample`` uint8[k, line_bytes] are lines spread evenly over the tensor: tables are clustered and compared on
    them.
    """

    format: Format
    line_bytes: int
    n_lines: int
    zero_lines: int
    zeros: int
    fine: Field
    histogram: NDArray[np.int64]
    sample: NDArray[np.uint8]

    @property
    def per_line(self) -> int:
        return self.format.elements_in(self.line_bytes)


def survey(chunks: Iterable[Lines]) -> Survey | None:
    """Counts and a sample of a tensor's lines; None if it has none."""
    n_lines = count_lines(chunks)
    if not n_lines:
        return None
    known = item_counts(chunks)
    if known is not None:
        return _known(known, n_lines)
    histogram = np.zeros(0, np.int64)
    fmt, line_bytes = None, 0
    zeros = zero_lines = seen = 0
    sample = []
    for lines in chunks:
        if fmt is None:
            fmt, line_bytes = lines.format, lines.line_bytes
            fine = _fine_field(fmt)
            histogram = np.zeros(1 << (fmt.bits - fine.raw_bits), np.int64)
        z, zl = _survey(lines.data, fmt, fine, histogram)
        zeros += z
        zero_lines += zl
        sample.append(spread_lines(lines, seen, n_lines))
        seen += len(lines)
    assert fmt is not None
    return Survey(fmt, line_bytes, n_lines, zero_lines, zeros, fine, histogram, np.concatenate(sample))


def _known(counts: ItemCounts, n_lines: int) -> Survey:
    """The survey of items counted before."""
    fmt, fine = counts.format, _fine_field(counts.format)
    values = _values(np.arange(len(counts.items)), fmt, fine)[1:]
    histogram = np.bincount(values, counts.items[1:], 1 << (fmt.bits - fine.raw_bits)).astype(np.int64)
    zeros = int(counts.items[0])
    return Survey(fmt, counts.line_bytes, n_lines, counts.zero_lines, zeros, fine, histogram, counts.sample)


def _values(elements: NDArray[np.int64], fmt: Format, field: Field) -> NDArray[np.int64]:
    """`static_kernels.field_of` of every element."""
    if field.signed == INTEGER:
        return (elements ^ field.flip) >> field.low
    sign = elements >> (fmt.bits - 1)
    magnitude = (elements & ((1 << (fmt.bits - 1)) - 1)) >> field.low
    return magnitude << 1 | sign if field.signed == SIGN_CODED else magnitude


def _survey(data: NDArray[np.uint8], fmt: Format, fine: Field, histogram: NDArray[np.int64]) -> tuple[int, int]:
    """`_count` over lines uint8[n, line_bytes]; elements of four bits are unpacked block by block."""
    zeros = zero_lines = 0
    step = BLOCK_LINES if fmt.bits < 8 else max(len(data), 1)
    for at in range(0, len(data), step):
        part = data[at : at + step]
        elements = elements_of(part, fmt) if fmt.bits < 8 else frozen(np.ascontiguousarray(part)).view(fmt.storage)
        z, zl = _count(
            elements, np.uint64(fine.low), fine.signed, np.uint64(fine.flip), np.uint64(fmt.bits), histogram
        )
        zeros += int(z)
        zero_lines += int(zl)
    return zeros, zero_lines


def _fine_field(fmt: Format) -> Field:
    if fmt.is_float and fmt.sign_bits:
        return Field(max(fmt.mantissa_bits - FINE_MANTISSA_BITS, 0), SIGN_CODED)
    return fields_for(fmt, None)[0]


def _coarse(seen: Survey, field: Field) -> NDArray[np.int64]:
    """The survey's histogram by the values of a coarser field."""
    values = np.arange(len(seen.histogram))
    drop = field.low - seen.fine.low
    if field.signed == INTEGER:
        target = values >> drop
    else:
        magnitude = (values >> 1) >> drop
        target = (magnitude << 1) | (values & 1) if field.signed == SIGN_CODED else magnitude
    return np.bincount(target, weights=seen.histogram).astype(np.int64)


@dataclass(frozen=True)
class _Plan:
    """One candidate field with its symbols and its estimated cost a tensor in bits."""

    field: Field
    first: int
    counts: NDArray[np.int64]
    zeros: int
    """Elements that the zero symbol takes; 0 where zeros are left to their field value."""
    tail: int
    bits: float


def _plans(seen: Survey, field: Field, precision: int, streams: int, tables: int) -> list[_Plan]:
    """With a zero symbol and without: it saves the raw bits of zeros, but leaves a hole in their field value."""
    options = (True, False) if seen.zeros else (False,)
    return [_plan(seen, field, precision, streams, tables, own_zero) for own_zero in options]


def _plan(seen: Survey, field: Field, precision: int, streams: int, tables: int, own_zero: bool) -> _Plan:
    counts = _coarse(seen, field)
    if not own_zero:
        counts[field.flip >> field.low] += seen.zeros
    zeros = seen.zeros if own_zero else 0
    total = int(counts.sum()) + zeros
    present = np.flatnonzero(counts * (2 << precision) >= max(total, 1))
    first, last = (int(present[0]), int(present[-1])) if len(present) else (0, 0)
    room = ROW_SYMBOLS - FIRST
    if last - first >= room:
        windows = np.convolve(counts[first : last + 1], np.ones(room, np.int64), "valid")
        first += int(np.argmax(windows))
        last = first + room - 1
    inside = counts[first : last + 1]
    escapes = int(counts.sum() - inside.sum())
    shares = np.concatenate([[max(escapes, 1), zeros], inside]).astype(np.float64)
    shares = shares[shares > 0]
    entropy = float(-(shares * np.log2(shares / shares.sum())).sum())
    per = seen.per_line
    element_bits = (entropy + int(inside.sum()) * field.raw_bits + escapes * seen.format.bits) / max(total, 1)
    lack = max(precision * streams - per * field.raw_bits, 0)
    tail = -(-lack // seen.format.bits)
    tail_bits = tail * (seen.format.bits - element_bits)
    if tail_bits > lack or tail > per // 2:
        tail, tail_bits = 0, float(lack)
    lines = seen.n_lines - seen.zero_lines
    bits = element_bits * total + lines * tail_bits + tables * SYMBOL_TABLE_BITS * len(inside)
    return _Plan(field, first, inside, zeros, tail, bits)


def fit_static(
    chunks: Iterable[Lines], *, precision: int, streams: int, tables: int, mantissa: int | None
) -> StaticTables:
    """Tables of one tensor.

    Tries every field that ``mantissa`` allows (None: all), keeps the cheapest by order-0 entropy and table size,
    clusters lines into ``tables`` tables, and keeps one table or none where the tensor is too small to pay for more.
    """
    seen = survey(chunks)
    if seen is None:
        return _raw_only(precision)
    candidates = [_raw_only(precision)]
    lines = seen.n_lines - seen.zero_lines
    # Fewer tables than asked for may pay better, with a field of more symbols.
    for count in sorted({1, tables // 4, tables} - {0}):
        plans = [p for f in fields_for(seen.format, mantissa) for p in _plans(seen, f, precision, streams, count)]
        plan = min(plans, key=lambda p: p.bits)
        counts = np.zeros((1, ROW_SYMBOLS), np.int64)
        counts[0, ESCAPE] = int(seen.histogram.sum()) + seen.zeros - plan.zeros - int(plan.counts.sum())
        counts[0, ZERO] = plan.zeros
        counts[0, FIRST : FIRST + len(plan.counts)] = plan.counts
        one = _tables(seen, plan, precision, counts, np.array([lines]))
        if count == 1:
            candidates.append(one)
        elif lines >= 2 * count:
            candidates.append(_cluster(chunks, seen, plan, precision, one, count))
    scale = seen.n_lines / len(seen.sample)
    sample = elements_of(seen.sample, seen.format)

    def total_bits(candidate: StaticTables) -> float:
        payload = measure_static(sample, seen.format, candidate, streams).sum(dtype=np.int64)
        return float(payload) * scale + 8 * len(candidate.to_bytes())

    return min(candidates, key=total_bits)


def _modes(precision: int, lines: NDArray[np.int64]) -> NDArray[np.int32]:
    """Mode frequencies: raw lines are too rare to count, zero lines have reserved states, tables by their lines."""
    size = 1 << precision
    zero = size >> RESERVED_BITS
    rest = normalise(np.concatenate([[0], lines]), size - zero, np.ones(1 + len(lines), np.bool_))
    return np.concatenate([rest[:1], [zero], rest[1:]]).astype(np.int32)


def _raw_only(precision: int) -> StaticTables:
    mode = _modes(precision, np.zeros(0, np.int64))
    return StaticTables(precision, 8, Field(0, INTEGER), 0, 0, mode, np.zeros((0, FIRST), np.int32))


def _tables(
    seen: Survey, plan: _Plan, precision: int, counts: NDArray[np.int64], lines: NDArray[np.int64]
) -> StaticTables:
    """Tables from symbol counts int64[K, 256] and lines a table."""
    size = 1 << precision
    n_symbols = FIRST + len(plan.counts)
    must = np.zeros(n_symbols, np.bool_)
    must[ESCAPE] = True
    must[ZERO] = plan.zeros > 0
    rows = []
    for row in counts[:, :n_symbols]:
        kept = row.copy()
        # What normalise drops escapes, so it counts as escapes from the start.
        rare = (kept * (2 * size) < kept.sum()) & ~must
        kept[ESCAPE] += int(kept[rare].sum())
        kept[rare] = 0
        rows.append(normalise(kept, size, must))
    frequency = np.stack(rows).astype(np.int32)
    mode = _modes(precision, lines)
    return StaticTables(precision, seen.format.bits, plan.field, plan.first, plan.tail, mode, frequency)


def _cluster(
    chunks: Iterable[Lines], seen: Survey, plan: _Plan, precision: int, one: StaticTables, tables: int
) -> StaticTables:
    fmt, per = seen.format, seen.per_line
    sample = seen.sample[seen.sample.any(axis=1)]
    f = plan.field
    values = elements_of(sample, fmt).astype(np.float64) % float(1 << (fmt.bits - (f.signed != INTEGER)))
    order = np.argsort(values.mean(axis=1), kind="stable")
    label = np.empty(len(sample), np.int64)
    label[order] = np.arange(len(sample)) * tables // max(len(sample), 1)

    def assign(lines: NDArray[np.uint8], by: StaticTables) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        modes, counts = tally(lines, fmt, by, per, np.zeros(len(lines), np.bool_))
        return modes[MODE_CODED:], counts

    counts = np.concatenate([assign(sample[label == k], one)[1] for k in range(tables)])
    fitted = _tables(seen, plan, precision, counts, np.bincount(label, minlength=tables))
    for _ in range(ROUNDS):
        lines, counts = assign(sample, fitted)
        used = lines > 0
        fitted = _tables(seen, plan, precision, counts[used], lines[used])
    lines, counts = (
        np.zeros(len(fitted.frequency), np.int64),
        np.zeros((len(fitted.frequency), ROW_SYMBOLS), np.int64),
    )
    for part in chunks:
        more = assign(part.data, fitted)
        lines += more[0]
        counts += more[1]
    used = lines > 0
    return _tables(seen, plan, precision, counts[used], lines[used])
