"""What measured rows say together: the one definition that every table, page and metric of a run shows.

Ratios are sums over sums (raw over coded bytes: what a memory that holds all of it would gain), rates are bytes over
time, the bound is that of the codec's own class where it has one. Always with ok / failed / skipped of planned; a
failed or skipped case is counted, never averaged in. The geometric mean over tensors is a different number and is
labelled so where it appears.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.records.frame import Frame
from linepress.records.measured import measure_frame
from linepress.records.store import RunStore
from linepress.sources.groups import KINDS
from linepress_codecs.bounds import held_against

COLUMNS = (
    "status",
    "lossless",
    "source",
    "kind",
    "group",
    "layer",
    "format",
    "cast",
    "variant",
    "codec",
    "codec_kind",
    "options",
    "layout",
    "packing",
    "elements",
    "raw_bytes",
    "payload_bits",
    "packed_bytes",
    "bound_name",
    "bound_ratio",
    "bounds",
    "sampled",
    "encode_GBps",
    "decode_GBps",
    "measure_GBps",
    "decode_latency_ns",
    "block_bytes",
)
"""Columns of the table ``measure`` that a summary is made of."""
KIND_TITLES = KINDS | dict.fromkeys(("key", "value"), "KV cache")
GROUP_ORDER = (
    "embed",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "lm_head",
    "norm",
    "key_cache",
    "value_cache",
    "other",
)


@dataclass(frozen=True, slots=True)
class DataClass:
    """What may be pooled into one ratio: the sort of data and its element format, never mixed."""

    title: str
    format: str
    cast: str
    origin: str = ""

    @property
    def data(self) -> str:
        """``weights``, ``dequantised weights``, ``kv`` or the plural of another kind, as later stages name it."""
        return f"{self.origin} {'kv' if self.title == 'KV cache' else self.title}".strip()

    @property
    def shown_format(self) -> str:
        """The element format, with the cast that led to it."""
        return self.format + (f" ({self.cast})" if self.cast else "")

    @property
    def label(self) -> str:
        title = f"{self.origin} {self.title}".strip()
        if not self.cast:
            return f"{title}, {self.format}"
        if self.cast.startswith("dequant:"):
            return f"{title}, unpacked to {self.format}"
        rule = self.cast.partition(":")[2]
        return f"{title}, cast to {self.format}" + (f" ({rule})" if rule else "")


@dataclass(frozen=True, slots=True)
class Summary:
    """One variant over one data class (or a part of it). Ratios bare, rates in GB/s of raw bytes, NaN if unknown."""

    variant: str
    codec: str
    codec_kind: str
    layout: str
    n_ok: int
    n_failed: int
    n_skipped: int
    n_lossless: int
    raw_bytes: float
    payload_bytes: float
    packed_bytes: float
    packing: str
    bound_name: str
    bound_ratio: float
    bounds: dict[str, float]
    elements: float
    encode_GBps: float
    decode_GBps: float
    measure_GBps: float
    decode_latency_ns: float
    block_bytes: float
    sampled: bool
    geometric_mean_ratio: float

    @property
    def n_planned(self) -> int:
        return self.n_ok + self.n_failed + self.n_skipped

    @property
    def payload_ratio(self) -> float:
        return _divide(self.raw_bytes, self.payload_bytes)

    @property
    def packed_ratio(self) -> float:
        return _divide(self.raw_bytes, self.packed_bytes)

    @property
    def above_bound_pct(self) -> float:
        """Coded size above the entropy bound, in percent of the bound."""
        return 100.0 * (_divide(self.bound_ratio, self.payload_ratio) - 1.0)

    @property
    def highest_bound(self) -> tuple[str, float]:
        """The most generous of all bounds computed for this data in this layout."""
        return max(self.bounds.items(), key=lambda item: item[1], default=(self.bound_name, self.bound_ratio))

    @property
    def bits_per_line(self) -> float:
        """Mean coded bits of 64 raw bytes."""
        return _divide(512.0, self.payload_ratio)

    @property
    def all_lossless(self) -> bool:
        return self.n_ok > 0 and self.n_lossless == self.n_ok

    def row(self, data: DataClass) -> dict[str, Any]:
        """As plain data, null for what is not known; the keys are those of ``--json`` and of ``summary.json``."""
        return {
            "data": data.data,
            "format": data.shown_format,
            "label": data.label,
            "stored": not data.cast,
            "variant": self.variant,
            "codec": self.codec,
            "codec_kind": self.codec_kind,
            "layout": self.layout,
            "packing": self.packing,
            "raw_bytes": _whole(self.raw_bytes),
            "payload_bytes": _whole(self.payload_bytes),
            "packed_bytes": _whole(self.packed_bytes),
            **self.figures(),
            "bound": self.bound_name,
            "geomean_payload_ratio": known(self.geometric_mean_ratio),
            "sampled": self.sampled,
            "lossless": self.n_lossless,
            "ok": self.n_ok,
            "failed": self.n_failed,
            "skipped": self.n_skipped,
            "planned": self.n_planned,
        }

    def figures(self) -> dict[str, float | None]:
        """The ratios and rates, None where one is not known."""
        return {
            name: known(getattr(self, name))
            for name in (
                "payload_ratio",
                "packed_ratio",
                "bound_ratio",
                "above_bound_pct",
                "encode_GBps",
                "decode_GBps",
                "measure_GBps",
            )
        }


def _whole(value: float) -> int | None:
    return math.ceil(value) if math.isfinite(value) else None


def known(value: float) -> float | None:
    """None for what is not finite."""
    return float(value) if math.isfinite(value) else None


def _divide(a: float, b: float) -> float:
    return float(a / b) if b and np.isfinite(b) else float("nan")


def _weighted(raw: NDArray[np.float64], ratio: NDArray[np.float64]) -> float:
    """Ratio of the whole from the ratios of its parts; NaN unless every part has one."""
    if not len(raw) or np.isnan(ratio).any():  # an infinite bound (values all the same) takes no bits
        return float("nan")
    return _divide(float(raw.sum()), float((raw / ratio).sum()))


def _rate(raw: NDArray[np.float64], rate_GBps: NDArray[np.float64]) -> float:
    """Rate of the whole: all bytes over all time, of the cases that were timed."""
    known = np.isfinite(rate_GBps) & (rate_GBps > 0) & (raw > 0)
    if not known.any():
        return float("nan")
    return float(raw[known].sum() / (raw[known] / rate_GBps[known]).sum())


def classes(measure: Frame) -> list[tuple[DataClass, Frame]]:
    """The measured rows by data class: stored weights first, then casts, dequantised weights, the KV cache."""
    parts: dict[DataClass, NDArray[np.bool_]] = {}
    columns = [measure.text(name) for name in ("kind", "format", "cast", "origin")]
    for kind, fmt, cast, origin in dict.fromkeys(zip(*columns, strict=True)):
        mask = np.logical_and.reduce([c == v for c, v in zip(columns, (kind, fmt, cast, origin), strict=True)])
        data = DataClass(KIND_TITLES.get(kind, kind or "data"), fmt, cast, origin)
        parts[data] = mask | parts[data] if data in parts else mask
    order = {"weights": 0, "KV cache": 1}
    ranked = sorted(parts, key=lambda d: (order.get(d.title, 2), d.origin, bool(d.cast), d.format, d.cast))
    return [(d, measure.where(parts[d])) for d in ranked]


def summarise(rows: Frame, variant: str) -> Summary:
    """Aggregate the rows of one variant. Rows that are not ``ok`` are counted, never averaged in."""
    status = rows.text("status")
    ok = rows.where(status == "ok")
    raw, payload, packed = ok.real("raw_bytes"), ok.real("payload_bits") / 8.0, ok.real("packed_bytes")
    bounds = {
        name.removeprefix("bound:"): ratio
        for name in ok.columns
        if name.startswith("bound:") and np.isfinite(ratio := _weighted(raw, ok.real(name)))
    }
    own = ", ".join(x for x in ok.unique("bound_name") if x)
    total = _divide(float(raw.sum()), float(payload.sum()))
    bound_name, bound_ratio = held_against(own, _weighted(raw, ok.real("bound_ratio")), bounds, total)
    packings = [p for p in ok.unique("packing") if p]
    ratios = raw[payload > 0] / payload[payload > 0]
    return Summary(
        variant=variant,
        codec=_first(rows, "codec"),
        codec_kind=_first(rows, "codec_kind"),
        layout=", ".join(x for x in ok.unique("layout") if x),
        n_ok=len(ok),
        n_failed=int(np.count_nonzero(status == "failed")),
        n_skipped=int(np.count_nonzero(status == "skipped")),
        n_lossless=int(np.count_nonzero(ok.real("lossless") == 1.0)),
        raw_bytes=float(raw.sum()),
        payload_bytes=float(payload.sum()),
        packed_bytes=float(packed.sum()),
        packing=packings[0] if len(packings) == 1 else ("mixed" if packings else ""),
        bound_name=bound_name,
        bound_ratio=bound_ratio,
        bounds=bounds,
        elements=float(ok.real("elements").sum()),
        encode_GBps=_rate(raw, ok.real("encode_GBps")),
        decode_GBps=_rate(raw, ok.real("decode_GBps")),
        measure_GBps=_rate(raw, ok.real("measure_GBps")),
        decode_latency_ns=_median(ok.real("decode_latency_ns")),
        block_bytes=_median(ok.real("block_bytes")),
        sampled=bool((ok.real("sampled") == 1.0).any()),
        geometric_mean_ratio=float(np.exp(np.log(ratios).mean())) if len(ratios) else float("nan"),
    )


def measured(store: RunStore) -> Frame:
    """The table ``measure`` of a run, with the columns that a summary is made of."""
    return measure_frame(store.table("measure", list(COLUMNS)), store.manifest)


def headline(frame: Frame) -> list[dict[str, Any]]:
    """One `Summary.row` for every kind of data, format and variant."""
    return [s.row(data) for data, part in classes(frame) for s in summaries(part)]


def frame_of(rows: Iterable[Mapping[str, Any]], manifest: Mapping[str, Any] | None = None) -> Frame:
    """Rows that are in no record (of ``linepress measure``), as `measured` gives them."""
    import pyarrow as pa

    from linepress.records.schema import schema

    fields = [schema("measure").field(name) for name in COLUMNS if name != "options"]
    return measure_frame(pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields)), manifest or {})


def summaries(rows: Frame) -> list[Summary]:
    """One summary a variant, best payload ratio first; variants without an ok case last."""
    found = [summarise(part, variant) for (variant,), part in rows.by("variant")]
    return sorted(found, key=lambda s: (-s.payload_ratio if np.isfinite(s.payload_ratio) else 1.0, s.variant))


def best_line_variant(found: list[Summary]) -> Summary | None:
    """The lossless line codec with the highest packed ratio (payload ratio where no packing was costed)."""
    lines = [s for s in found if s.codec_kind == "line" and s.all_lossless and s.codec != "raw"]
    return max(lines, key=lambda s: (np.nan_to_num(s.packed_ratio), np.nan_to_num(s.payload_ratio)), default=None)


def best_payload_line_variant(found: list[Summary]) -> Summary | None:
    """The lossless line codec with the highest payload ratio: what a claim about a codec's ratio is held against."""
    lines = [s for s in found if s.codec_kind == "line" and s.all_lossless and s.codec != "raw"]
    return max(lines, key=lambda s: np.nan_to_num(s.payload_ratio), default=None)


def best_on_another_text(store: RunStore) -> dict[str, Any] | None:
    """The lossless row of ``pages`` with the highest payload ratio of lines whose tables are of another text.

    What a device would reach, which cannot learn from the cache that it is about to hold; None without such a row.
    """
    rows = [
        row
        for row in store.rows("pages")
        if row["status"] == "ok" and row["lossless"] and row["granularity"] == "line" and row["own_text_ratio"]
    ]
    return max(rows, key=lambda row: float(row["ratio"]), default=None)


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats in both coordinates (more is better), by rising x."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    front: list[int] = []
    best = float("-inf")
    for i in order:
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front[::-1]


def group_rank(group: str) -> tuple[int, str]:
    return (GROUP_ORDER.index(group) if group in GROUP_ORDER else len(GROUP_ORDER), group)


def histograms(table: object, variant_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lines by coded bits, summed over rows of the measure table: entry b counts lines of b bits."""
    import pyarrow as pa

    assert isinstance(table, pa.Table)
    column = table.column("bits_histogram").take(pa.array(variant_rows)).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    lengths = np.nan_to_num(np.asarray(column.value_lengths().to_numpy(zero_copy_only=False), dtype=np.float64))
    values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    sizes = lengths.astype(np.int64)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    positions = np.arange(len(values)) - starts
    return np.bincount(positions, weights=np.nan_to_num(values)).astype(np.int64)


def percentile_bits(histogram: NDArray[np.int64], share: float) -> float:
    """Smallest number of bits that at least ``share`` of the lines do not exceed; NaN without lines."""
    total = int(histogram.sum())
    if not total:
        return float("nan")
    return float(np.searchsorted(np.cumsum(histogram), share * total))


def _first(rows: Frame, name: str) -> str:
    return next((v for v in rows.unique(name) if v), "")


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
