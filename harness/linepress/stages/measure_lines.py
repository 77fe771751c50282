"""A line codec over one tensor, chunk by chunk: tables, encode, decode, compare every line, measure, time."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from linepress.sources import LineStream
from linepress.stages.coded import Clock, Coded, MeasureError, time_rounds
from linepress_codecs.contracts import LineCodec, Lines, Packed, Tables

SPOT_LINES = 16
"""Lines of each chunk that are also decoded alone, without their neighbours."""


def code_lines(stream: LineStream, n_lines: int, codec: LineCodec, *, repeats: int, seed: int, verify: bool) -> Coded:
    """Code every line of ``stream``. Memory is that of one chunk in raw, coded and decoded form."""
    tables = codec.fit(stream)
    stored = tables.to_bytes()
    # what decodes is what was written down: the tables too must survive their bytes
    read_tables = codec.tables_from_bytes(stored)
    rng = np.random.Generator(np.random.PCG64(seed))
    bits = np.empty(n_lines, dtype=np.uint16)
    encode, decode, measure = Clock(repeats), Clock(repeats), Clock(repeats)
    mismatch: int | None = None
    first, timed_bytes = 0, 0
    own = codec.class_bound(stream.tensor.format, tables)
    for lines in stream:
        codec.check(lines)
        packed = codec.encode(lines, tables)
        bits[first : first + len(lines)] = _sizes(codec, lines, packed, tables)
        if own is not None:
            own.add(lines, packed.bits)
        if verify and mismatch is None:
            wrong = _first_wrong(codec, lines, packed, read_tables, rng)
            mismatch = None if wrong is None else first + wrong
        elif first == 0:
            codec.decode(packed, read_tables)  # compiled before it is timed
        time_rounds(
            (
                (encode, partial(codec.encode, lines, tables)),
                # With the tables as read, as a reader has them: what they build on first use was built above.
                (decode, partial(codec.decode, packed, read_tables)),
                (measure, partial(codec.measure, lines, tables)),
            )
        )
        first += len(lines)
        timed_bytes += lines.data.nbytes
    if first != n_lines:
        raise MeasureError(f"{codec.codec_id}: the tensor gave {first} lines, its geometry says {n_lines}")
    return Coded(
        unit_bits=bits,
        n_units=n_lines,
        unit_bytes=stream.line_bytes,
        table_bytes=len(stored),
        sampled=False,
        verified=verify,
        mismatch=mismatch,
        encode=encode,
        decode=decode,
        measure=measure,
        timed_bytes=timed_bytes,
        class_bound=None if own is None else own.bound(),
    )


def _sizes(codec: LineCodec, lines: Lines, packed: Packed, tables: Tables) -> NDArray[np.uint16]:
    """Coded bits of each line; what `measure` says and what `encode` wrote must be the same."""
    said = codec.measure(lines, tables)
    if len(packed) != len(lines) or len(said) != len(lines):
        raise MeasureError(f"{codec}: {len(lines)} lines in, {len(packed)} encoded and {len(said)} measured")
    differ = np.flatnonzero(said != packed.bits)
    if len(differ):
        i = int(differ[0])
        raise MeasureError(
            f"{codec}: measure says {said[i]} bits for line {i} of a chunk, encode wrote {packed.bits[i]}"
        )
    return said


def _first_wrong(
    codec: LineCodec, lines: Lines, packed: Packed, tables: Tables, rng: np.random.Generator
) -> int | None:
    """First line that does not come back bit for bit, from the whole chunk or alone; None if all do."""
    decoded = codec.decode(packed, tables)
    if decoded.shape != lines.data.shape or decoded.dtype != np.uint8:
        raise MeasureError(f"{codec}: decode gave {decoded.dtype}{list(decoded.shape)}, not {list(lines.data.shape)}")
    wrong = (np.ascontiguousarray(decoded).view(np.uint64) != lines.data.view(np.uint64)).any(axis=1)
    found = np.flatnonzero(wrong)
    if len(found):
        return int(found[0])
    n = len(lines)
    spots = np.unique(np.concatenate([[0, n - 1], rng.integers(0, n, SPOT_LINES)]))
    for i in map(int, spots):
        if not np.array_equal(codec.decode_line(packed, i, tables), lines.data[i]):
            return i
    return None
