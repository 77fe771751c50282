"""A run as the report sees it: its tables by column, its manifest, and what several sections share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from linepress.records import RunStore
from linepress.report.aggregate import DataClass, Summary, classes, summaries
from linepress.report.frame import Frame

if TYPE_CHECKING:
    from linepress.claims import Verdict

NO_CAST = ("", "none")
_DEQUANTISED = re.compile(r"dequanti[sz]ed", re.IGNORECASE)


def with_extra(table: Any) -> Frame:
    """All scalar columns of a table, the row as ``position``, and what ``extra`` holds where the schema lacks it."""
    frame = Frame.from_arrow(table)
    frame.columns["position"] = np.arange(frame.n, dtype=np.float64)
    if "extra" not in table.column_names:
        return frame
    extras: list[dict[str, Any]] = [json.loads(text) if text else {} for text in table.column("extra").to_pylist()]
    names = dict.fromkeys(name for extra in extras for name in extra)
    columns = dict(frame.columns)
    for name in names:
        known = columns.get(name)
        if known is not None and (known.dtype == object or np.isfinite(known).any()):
            continue
        values = [extra.get(name) for extra in extras]
        if all(v is None or isinstance(v, bool | int | float) for v in values):
            columns[name] = np.array([np.nan if v is None else float(v) for v in values])
        elif all(v is None or isinstance(v, str) for v in values):
            columns[name] = np.array([v or "" for v in values], dtype=object)
    return Frame(columns, frame.n)


def measure_frame(table: Any, manifest: Mapping[str, Any]) -> Frame:
    """The table ``measure`` by column, with what aggregates need besides.

    ``cast`` is empty for data as stored. ``origin`` says ``dequantised`` for weights whose source or cast calls them
    so: they overstate how far trained weights compress, and are never pooled with those. ``position`` is the row in
    ``table``.
    Every entropy bound has a column ``bound:<class>`` with its ratio (NaN where the class was not computed).
    """
    frame = Frame.from_arrow(table)
    columns = dict(frame.columns)
    if "cast" in columns:
        columns["cast"] = np.array(["" if c in NO_CAST else c for c in columns["cast"]], dtype=object)
    marked = dequantised_sources(manifest)
    told = zip(frame.text("kind"), frame.text("source"), frame.text("cast"), strict=True)
    origin = [
        "dequantised" if kind == "weight" and (source in marked or cast.startswith("dequant:")) else ""
        for kind, source, cast in told
    ]
    columns["origin"] = np.array(origin, dtype=object)
    columns["position"] = np.arange(frame.n, dtype=np.float64)
    if "bounds" in table.column_names and frame.n:
        columns |= _bound_columns(table.column("bounds"))
    return Frame(columns, frame.n)


def dequantised_sources(manifest: Mapping[str, Any]) -> set[str]:
    """URIs of sources that call themselves dequantised, in their label or in their own metadata."""
    marked = set()
    for source in manifest.get("sources") or []:
        if not isinstance(source, dict):
            continue
        said = [source.get("label"), *(source.get("metadata") or {}).values()]
        if any(_DEQUANTISED.search(text) for text in said if isinstance(text, str)):
            marked.add(str(source.get("uri")))
    return marked


def _bound_columns(column: Any) -> dict[str, Any]:
    import pyarrow.compute as pc

    owner = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(column)
    names = np.array(pc.struct_field(flat, "name").to_pylist(), dtype=object)
    ratios = pc.struct_field(flat, "ratio").to_numpy(zero_copy_only=False)
    columns = {}
    for name in dict.fromkeys(names):
        own = names == name
        values = np.full(len(column), np.nan)
        values[owner[own]] = ratios[own]
        columns[f"bound:{name}"] = values
    return columns


@dataclass
class RunView:
    """Everything the sections read.

    Attributes
    ----------
    store : RunStore
    measure_table : pyarrow.Table
        For the histograms, which stay in Arrow.
    verdicts : list[Verdict]
    """

    store: RunStore
    measure_table: Any
    measure: Frame
    channel: Frame
    system: Frame
    fabric: Frame
    gates: Frame
    failures: list[dict[str, Any]]
    verdicts: list[Verdict]
    _classes: list[tuple[DataClass, Frame]] = field(default_factory=list)

    @classmethod
    def load(cls, store: RunStore, verdicts: list[Verdict]) -> RunView:
        table = store.table("measure")
        return cls(
            store=store,
            measure_table=table,
            measure=measure_frame(table, store.manifest),
            channel=with_extra(store.table("channel")),
            system=with_extra(store.table("system")),
            fabric=with_extra(store.table("fabric")),
            gates=Frame.from_arrow(store.table("gates")),
            failures=store.rows("failures"),
            verdicts=verdicts,
        )

    @cached_property
    def channel_went(self) -> list[dict[str, float]]:
        """For each row of ``channel``, shares of the time of its sequential run."""
        rows = self.store.table("channel", ["where_bandwidth_went"])["where_bandwidth_went"].to_pylist()
        return [{str(k): float(v) for k, v in (went or []) if v is not None} for went in rows]

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.store.manifest

    @cached_property
    def classes(self) -> list[tuple[DataClass, Frame]]:
        return classes(self.measure)

    @cached_property
    def summaries(self) -> dict[DataClass, list[Summary]]:
        """By data class, one summary a variant, best payload ratio first."""
        return {data: summaries(rows) for data, rows in self.classes}

    @cached_property
    def variants(self) -> list[str]:
        """Every variant, the line codecs first, in the order in which they first lead a table."""
        found = [s for rows in self.summaries.values() for s in rows]
        found.sort(key=lambda s: s.codec_kind != "line")
        return list(dict.fromkeys(s.variant for s in found))

    @cached_property
    def colours(self) -> dict[str, str]:
        """One colour a variant through the whole report; beyond the palette, grey."""
        from linepress.report.plots.style import colour_of

        chosen = [s.variant for rows in self.summaries.values() for s in rows[:3] if s.codec != "raw"]
        return colour_of(list(dict.fromkeys([*chosen, *self.variants])))

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows by table and status."""
        result: dict[str, dict[str, int]] = {}
        for name, frame in (
            ("measure", self.measure),
            ("channel", self.channel),
            ("system", self.system),
            ("fabric", self.fabric),
        ):
            status = frame.text("status")
            result[name] = {s: int(np.count_nonzero(status == s)) for s in ("ok", "failed", "skipped")}
        return result
