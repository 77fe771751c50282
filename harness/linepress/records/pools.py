"""From measured tensors to what the channel and system stages take: line sizes and ratios pooled per variant.

Weights and KV are pooled apart, and every element format (so every cast) apart: lines of e4m3 say nothing about
lines of bf16. Dequantised weights overstate how far trained weights compress: they are a kind of data of their own,
``dequantised weights``, which the system and fabric stages and the claims never take for weights. A tensor that did
not come back bit for bit is left out: its size is worth nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from linepress.records.measured import data_of, dequantised_sources
from linepress.records.store import RunStore

COLUMNS = (
    "status",
    "lossless",
    "source",
    "tensor",
    "kind",
    "group",
    "layer",
    "format",
    "cast",
    "variant",
    "codec",
    "codec_kind",
    "line_bytes",
    "raw_bytes",
    "payload_bits",
    "table_bytes",
    "packings",
    "bits_histogram",
    "decode_latency_ns",
    "encode_latency_ns",
    "initiation_interval_ns",
    "decode_GBps",
)


@dataclass
class Bytes:
    """Raw bytes of some tensors, and their packed bytes by packing."""

    raw: int = 0
    packed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def ratio(self, packing: str) -> float | None:
        """Packed ratio, raw over packed; None where nothing was packed that way."""
        packed = self.packed.get(packing, 0)
        return self.raw / packed if packed else None


@dataclass
class Pool:
    """All tensors of one kind of data in one format, coded by one variant.

    Attributes
    ----------
    variant, codec, codec_kind, data, format, cast : str
        ``data`` is weights, dequantised weights, kv, or the plural of another kind.
    histogram : int64[b]
        Lines by coded bits; empty for block codecs.
    total : Bytes
    by_group, by_kind : dict of Bytes
    decode_latency_ns, encode_latency_ns, interval_ns : float
        From the codec's hardware card, 0 where it has none.
    """

    variant: str
    codec: str
    codec_kind: str
    data: str
    format: str
    cast: str
    line_bytes: int
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    payload_bits: int = 0
    table_bytes: int = 0
    tensors: int = 0
    sources: set[str] = field(default_factory=set)
    total: Bytes = field(default_factory=Bytes)
    by_group: dict[str, Bytes] = field(default_factory=lambda: defaultdict(Bytes))
    by_kind: dict[str, Bytes] = field(default_factory=lambda: defaultdict(Bytes))
    decode_latency_ns: float = 0.0
    encode_latency_ns: float = 0.0
    interval_ns: float = 0.0

    @property
    def payload_ratio(self) -> float | None:
        """Payload ratio, Σ raw over Σ coded."""
        return 8 * self.total.raw / self.payload_bits if self.payload_bits else None

    @property
    def lines(self) -> int:
        """Lines in the histogram."""
        return int(self.histogram.sum())


def pools(store: RunStore) -> list[Pool]:
    """Every pool of a run, in the order in which it first appears; memory is bounded by one part of the record."""
    found: dict[tuple[str, str, str, str], Pool] = {}
    marked = dequantised_sources(store.manifest)
    for batch in store.batches("measure", list(COLUMNS)):
        histograms = _histograms(batch["bits_histogram"])
        for row, histogram in zip(batch.drop_columns(["bits_histogram"]).to_pylist(), histograms, strict=True):
            if row["status"] != "ok" or row["lossless"] is False:
                continue
            data = data_of(row["kind"], row["source"], row["cast"] or "", marked)
            key = (row["variant"], data, row["format"], row["cast"] or "")
            pool = found.get(key)
            if pool is None:
                pool = found[key] = Pool(
                    row["variant"],
                    row["codec"],
                    row["codec_kind"],
                    data,
                    row["format"],
                    row["cast"] or "",
                    row["line_bytes"] or 64,
                    decode_latency_ns=row["decode_latency_ns"] or 0.0,
                    encode_latency_ns=row["encode_latency_ns"] or 0.0,
                    interval_ns=row["initiation_interval_ns"] or 0.0,
                )
            _add(pool, row, histogram)
    return list(found.values())


def _histograms(column: pa.ChunkedArray) -> Iterable[NDArray[np.int64]]:
    """Each row's histogram as a view into the column, without a Python number for every entry."""
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False)
        offsets = chunk.offsets.to_numpy()
        for start, end in pairwise(offsets):
            yield values[start:end]


def _add(pool: Pool, row: dict[str, object], histogram: NDArray[np.int64]) -> None:
    if len(histogram) > len(pool.histogram):
        pool.histogram = np.concatenate([pool.histogram, np.zeros(len(histogram) - len(pool.histogram), np.int64)])
    pool.histogram[: len(histogram)] += histogram.astype(np.int64)
    pool.payload_bits += _whole(row["payload_bits"])
    pool.table_bytes += _whole(row["table_bytes"])
    pool.tensors += 1
    pool.sources.add(str(row["source"]))
    packings = row["packings"]
    for into in (pool.total, pool.by_group[str(row["group"])], pool.by_kind[str(row["kind"])]):
        into.raw += _whole(row["raw_bytes"])
        for cost in packings if isinstance(packings, list) else []:
            into.packed[cost["packing"]] += cost["packed_bytes"]


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
