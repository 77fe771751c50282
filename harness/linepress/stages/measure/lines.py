"""A line codec over one tensor, chunk by chunk: tables, encode, decode, compare every line, measure, time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from linepress.sources import LineStream
from linepress.stages.measure.coded import Clock, Coded, MeasureError, time_rounds, timed_range
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.contracts import ClassBound, LineCodec, Lines, Packed, Tables

SPOT_LINES = 4
"""Lines of each chunk that are also decoded alone, beside its first and last; each takes as long as 0.1 MB do."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a line codec learned from a tensor, and the bytes it would be stored as."""

    tables: Tables
    stored: bytes


@dataclass(slots=True)
class CodedPart:
    """A run of chunks of one tensor coded by a line codec; the parts of a tensor add up to its `Coded`.

    Attributes
    ----------
    bits : uint16[n]
        Coded bits of each line.
    mismatch : int | None
        First line of the part that did not come back.
    encode, decode, measure : Clock
    timed_bytes : int
        Bytes gone through in each timed round.
    class_bound : ClassBound | None
        Counts of the codec's own class, where it has one.
    """

    bits: NDArray[np.uint16]
    mismatch: int | None
    encode: Clock
    decode: Clock
    measure: Clock
    timed_bytes: int
    class_bound: ClassBound | None


def code_lines(
    stream: LineStream,
    n_lines: int,
    codec: LineCodec,
    *,
    repeats: int,
    seed: int,
    verify: bool,
) -> Coded:
    """Code every line of ``stream``. Memory is that of one chunk in raw, coded and decoded form."""
    fitted = fit_lines(stream, codec)
    whole = code_part(stream, codec, fitted, repeats=repeats, seed=seed, verify=verify)
    return merge_parts([whole], n_lines, codec, fitted, stream.line_bytes, repeats=repeats, verify=verify)


def fit_lines(stream: LineStream, codec: LineCodec) -> Fitted:
    """The tables of a whole tensor."""
    tables = codec.fit(stream)
    return Fitted(tables, tables.to_bytes())


def code_part(
    stream: LineStream,
    codec: LineCodec,
    fitted: Fitted,
    *,
    repeats: int,
    seed: int,
    verify: bool,
    bounds: BoundAccumulator | None = None,
) -> CodedPart:
    """Code the chunks of ``stream`` (all of a tensor's, or some) with the tables of the whole tensor.

    ``bounds`` also counts every chunk where it is given.
    """
    tables = fitted.tables
    # what decodes is what was written down: the tables too must survive their bytes
    read_tables = codec.tables_from_bytes(fitted.stored)
    bits: list[NDArray[np.uint16]] = []
    encode, decode, measure = Clock(repeats), Clock(repeats), Clock(repeats)
    mismatch: int | None = None
    first, timed_bytes = 0, 0
    own = codec.class_bound(stream.tensor.format, tables)
    n_chunks = stream.n_chunks
    for number, lines in enumerate(stream, stream.first_chunk):
        codec.check(lines)
        packed = codec.encode(lines, tables)
        if len(packed) != len(lines):
            raise MeasureError(f"{codec}: {len(lines)} lines in, {len(packed)} encoded")
        bits.append(packed.bits)
        if own is not None:
            own.add(lines, packed.bits)
        if verify and mismatch is None:
            # a generator a chunk: the lines drawn are the same however the tensor is cut into parts
            rng = np.random.Generator(np.random.PCG64((seed, number)))
            wrong = _first_wrong(codec, lines, packed, read_tables, rng)
            mismatch = None if wrong is None else first + wrong
        elif first == 0:
            codec.decode(packed, read_tables)  # compiled before it is timed
        if bounds is not None:
            bounds.add(lines)
        first += len(lines)
        taken = timed_range(len(lines), lines.line_bytes, number, n_chunks, seed)
        if not taken:
            continue
        stretch = slice(taken.start, taken.stop)
        lines, wrote = lines[stretch], packed.bits[stretch]
        _check_measure(codec, lines, wrote, tables)
        if not repeats:
            continue
        if len(lines) < len(packed):
            packed = codec.encode(lines, tables)
        time_rounds(
            (
                (encode, partial(codec.encode, lines, tables)),
                # With the tables as read, as a reader has them: what they build on first use was built above.
                (decode, partial(codec.decode, packed, read_tables)),
                (measure, partial(codec.measure, lines, tables)),
            )
        )
        timed_bytes += lines.data.nbytes
    sizes = np.concatenate(bits) if bits else np.empty(0, np.uint16)
    return CodedPart(sizes, mismatch, encode, decode, measure, timed_bytes, own)


def merge_parts(
    parts: Iterable[CodedPart],
    n_lines: int,
    codec: LineCodec,
    fitted: Fitted,
    line_bytes: int,
    *,
    repeats: int,
    verify: bool,
) -> Coded:
    """A tensor coded whole, from its parts in order; each is looked at once, so they need not be held together."""
    bits = np.empty(n_lines, np.uint16)
    encode, decode, measure = Clock(repeats), Clock(repeats), Clock(repeats)
    mismatch: int | None = None
    own: ClassBound | None = None
    first, timed_bytes = 0, 0
    for part in parts:
        end = first + len(part.bits)
        bits[first:end] = part.bits[: max(n_lines - first, 0)]
        if mismatch is None and part.mismatch is not None:
            mismatch = first + part.mismatch
        for clock, more in ((encode, part.encode), (decode, part.decode), (measure, part.measure)):
            clock.add(more)
        timed_bytes += part.timed_bytes
        if own is None:
            own = part.class_bound
        elif part.class_bound is not None:
            own.merge(part.class_bound)
        first = end
    if first != n_lines:
        raise MeasureError(f"{codec.codec_id}: the tensor gave {first} lines, its geometry says {n_lines}")
    return Coded(
        unit_bits=bits,
        n_units=n_lines,
        unit_bytes=line_bytes,
        table_bytes=len(fitted.stored),
        sampled=False,
        verified=verify,
        mismatch=mismatch,
        encode=encode,
        decode=decode,
        measure=measure,
        timed_bytes=timed_bytes,
        class_bound=None if own is None else own.bound(),
    )


def _check_measure(codec: LineCodec, lines: Lines, wrote: NDArray[np.uint16], tables: Tables) -> None:
    """Raise `MeasureError` unless `measure` says of each line what `encode` ``wrote``. Its sizes go nowhere else, so
    the lines that are timed are enough; all of a tensor of `TIMED_BYTES`."""
    said = codec.measure(lines, tables)
    if len(said) != len(lines):
        raise MeasureError(f"{codec}: {len(lines)} lines in, {len(said)} measured")
    differ = np.flatnonzero(said != wrote)
    if len(differ):
        i = int(differ[0])
        raise MeasureError(
            f"{codec}: measure says {said[i]} bits for line {i} of those timed, encode wrote {wrote[i]}"
        )


def _first_wrong(
    codec: LineCodec, lines: Lines, packed: Packed, tables: Tables, rng: np.random.Generator
) -> int | None:
    """First line that does not come back bit for bit, from the whole chunk or alone; None if all do."""
    decoded = codec.decode(packed, tables)
    if decoded.shape != lines.data.shape or decoded.dtype != np.uint8:
        raise MeasureError(f"{codec}: decode gave {decoded.dtype}{list(decoded.shape)}, not {list(lines.data.shape)}")
    back, sent = np.ascontiguousarray(decoded).view(np.uint64), lines.data.view(np.uint64)
    if not np.array_equal(back, sent):  # which line it is takes longer to find than that there is none
        return int(np.flatnonzero((back != sent).any(axis=1))[0])
    n = len(lines)
    spots = np.unique(np.concatenate([[0, n - 1], rng.integers(0, n, SPOT_LINES)]))
    for i in map(int, spots):
        if not np.array_equal(codec.decode_line(packed, i, tables), lines.data[i]):
            return i
    return None
