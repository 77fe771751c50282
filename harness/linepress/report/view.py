"""A run as the report sees it: its tables by column, its manifest, and what several sections share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from linepress.records import RunStore
from linepress.records.frame import Frame
from linepress.records.measured import measure_frame
from linepress.records.summary import DataClass, Summary, classes, summaries

if TYPE_CHECKING:
    from linepress.claims import Verdict


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
    pages: Frame
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
            pages=Frame.from_arrow(store.table("pages")),
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
            ("pages", self.pages),
        ):
            status = frame.text("status")
            result[name] = {s: int(np.count_nonzero(status == s)) for s in ("ok", "failed", "skipped")}
        return result
