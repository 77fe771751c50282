"""The table ``measure`` of one run by column: scalars, raw samples, packings, and a digest of each histogram.

Lists never become Python objects, so two runs of 100,000 cases load in seconds; histograms are read part by part and
only their digest is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linepress.compare.options import METRICS
from linepress.records import RunStore
from linepress.records.place import RunPlace

SCALARS = (
    "case_key",
    "status",
    "error_type",
    "error",
    "host",
    "started_at",
    "source",
    "revision",
    "tensor",
    "kind",
    "format",
    "cast",
    "content_sha256",
    "elements",
    "codec",
    "codec_kind",
    "variant",
    "options",
    "format_version",
    "layout",
    "line_bytes",
    "block_bytes",
    "sampled",
    "seed",
    "raw_bytes",
    "payload_bits",
    "table_bytes",
    "bound_bits_per_value",
    "lossless",
    "mismatch_line",
)
_LISTS = ("bits_histogram", "packings", *(f"{metric}_s" for metric in METRICS))
_SEPARATOR = "\x1f"
_DIGEST_SEED = 20260101


@dataclass(frozen=True, slots=True)
class Ragged:
    """Lists of different lengths: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: NDArray[np.int64]
    values: NDArray[np.float64]

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def first(self, rows: NDArray[np.int64], n: int) -> NDArray[np.float64]:
        """The first ``n`` values of each of ``rows``, as float64[len(rows), n]; every row must have that many."""
        return np.asarray(self.values[self.offsets[rows][:, None] + np.arange(n)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs.

    Attributes
    ----------
    path : RunPlace
    manifest : Mapping
    table : pyarrow.Table
        The columns `SCALARS` of every current row.
    identity : pyarrow.Array
        What makes a row the same case in another run: source label, tensor, cast and variant. Each is unique.
    samples : dict
        Metric -> raw seconds of each row.
    packed : dict
        Packing -> bytes of each row under it, NaN where it was not asked for.
    digest : uint64[n]
        Of the histogram of line bits; 0 where there is none.
    """

    path: RunPlace
    manifest: Mapping[str, Any]
    table: Any
    identity: Any
    samples: dict[str, Ragged]
    packed: dict[str, NDArray[np.float64]]
    digest: NDArray[np.uint64]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def text(self, name: str) -> NDArray[Any]:
        """A text column as objects; empty for null."""
        return np.array(pc.fill_null(self.table[name], "").to_pylist(), dtype=object)

    def real(self, name: str) -> NDArray[np.float64]:
        """A numeric or boolean column as float64; NaN for null."""
        values: NDArray[np.float64] = self.table[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values


def load_side(run: RunPlace | str | RunStore) -> Side:
    """Read a run for comparison; raises `RecordError` for a place that is no run of this schema version."""
    store = RunStore.open(run)
    scalars, digests = [], []
    lengths: dict[str, list[NDArray[np.int64]]] = {metric: [] for metric in METRICS}
    values: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in METRICS}
    packed: list[dict[str, NDArray[np.float64]]] = []
    for batch in store.batches("measure", [*SCALARS, *_LISTS]):
        scalars.append(batch.select(list(SCALARS)))
        digests.append(_digests(batch["bits_histogram"]))
        packed.append(_packed(batch["packings"]))
        for metric in METRICS:
            column = batch[f"{metric}_s"]
            lengths[metric].append(_lengths(column))
            values[metric].append(_flat(column))
    table = pa.concat_tables(scalars) if scalars else store.table("measure", list(SCALARS))
    return Side(
        path=store.place,
        manifest=store.manifest,
        table=table,
        identity=_identity(table, store.manifest),
        samples={m: Ragged(_offsets(_joined(lengths[m], np.int64)), _joined(values[m], np.float64)) for m in METRICS},
        packed=_stack(packed, [piece.num_rows for piece in scalars]),
        digest=_joined(digests, np.uint64),
    )


def labels(manifest: Mapping[str, Any]) -> dict[str, str]:
    """URI -> label of each source: labels stay the same when a checkout lies elsewhere or a revision moves on."""
    found = {}
    for source in manifest.get("sources") or []:
        if isinstance(source, Mapping) and source.get("uri"):
            found[str(source["uri"])] = str(source.get("label") or source["uri"])
    return found


def _identity(table: Any, manifest: Mapping[str, Any]) -> Any:
    known = labels(manifest)
    encoded = pc.fill_null(table["source"], "").combine_chunks().dictionary_encode()
    names = pa.array([known.get(uri, uri) for uri in encoded.dictionary.to_pylist()], pa.string())
    cast = pc.fill_null(table["cast"], "").combine_chunks()
    cast = pc.if_else(pc.equal(cast, "none"), "", cast)
    tensor, variant = (pc.fill_null(table[name], "").combine_chunks() for name in ("tensor", "variant"))
    joined = pc.binary_join_element_wise(names.take(encoded.indices), tensor, variant, cast, _SEPARATOR)
    codes = joined.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    again = np.zeros(len(codes), dtype=np.int64)
    # The n-th row of the same name is that name's n-th case: two sources may share a label.
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0]) if len(codes) else np.empty(0, np.int64)
    again[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    if not again.any():
        return joined
    return pc.binary_join_element_wise(joined, pa.array(again).cast(pa.string()), _SEPARATOR)


def _lengths(column: Any) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = (
        pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    )
    return counts


def _flat(column: Any) -> NDArray[np.float64]:
    flat: NDArray[np.float64] = pc.list_flatten(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return flat


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _joined(pieces: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.empty(0, kind)


def _digests(column: Any) -> NDArray[np.uint64]:
    """One number a histogram: a sum of its entries with random odd weights, modulo 2^64."""
    counts = _lengths(column)
    if not counts.any():
        return np.zeros(len(counts), np.uint64)
    rng = np.random.Generator(np.random.PCG64(_DIGEST_SEED))
    weights = rng.integers(0, 2**63, int(counts.max()), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.uint64)
    offsets = _offsets(counts)
    if (counts == counts[0]).all():
        return np.asarray((flat.reshape(len(counts), -1) * weights).sum(axis=1, dtype=np.uint64), dtype=np.uint64)
    position = np.arange(len(flat)) - np.repeat(offsets[:-1], counts)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(flat * weights[position], dtype=np.uint64)])
    return np.asarray(running[offsets[1:]] - running[offsets[:-1]], dtype=np.uint64)


def _packed(column: Any) -> dict[str, NDArray[np.float64]]:
    """Packing -> bytes under it, for one batch."""
    counts = _lengths(column)
    owner = np.repeat(np.arange(len(counts)), counts)
    flat = pc.list_flatten(column)
    if len(flat) == 0:
        return {}
    names = pc.struct_field(flat, "packing")
    names = (names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names).dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False)
    sizes = pc.struct_field(flat, "packed_bytes").cast(pa.float64()).to_numpy(zero_copy_only=False)
    found = {}
    for code, name in enumerate(names.dictionary.to_pylist()):
        own = codes == code
        column_of = np.full(len(counts), np.nan)
        column_of[owner[own]] = sizes[own]
        found[str(name)] = column_of
    return found


def _stack(batches: list[dict[str, NDArray[np.float64]]], lengths: list[int]) -> dict[str, NDArray[np.float64]]:
    names = list(dict.fromkeys(name for batch in batches for name in batch))
    return {
        name: np.concatenate([batch.get(name, np.full(n, np.nan)) for batch, n in zip(batches, lengths, strict=True)])
        for name in names
    }
