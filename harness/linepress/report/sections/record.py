"""The record itself: claims, gates, failures, provenance and every case."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from linepress.report.model import Packed, Section, Source
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Facts, Note, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell

MAX_PLAIN_ROWS = 600
MAX_FAILURES = 200
MAX_TEXT = 20_000
_STYLE = {"reproduced": "good", "not reproduced": "bad", "not checkable": "muted"}


def claims(view: RunView) -> Section:
    """Every claim with its verdict."""
    section = Section(
        "claims",
        "Published claims",
        "A figure somebody published, and what this run makes of it. Reproduced: measured within the tolerance. Not "
        "reproduced: measured, and different. Not checkable: nothing here can decide it, and the reason is given.",
    )
    if not view.verdicts:
        section.parts.append(Note("No claims were checked."))
        return section
    columns = (
        Column("claim"),
        Column("verdict"),
        Column("claimed", numeric=True),
        Column("measured", numeric=True),
        Column("bound", numeric=True),
        Column("why"),
    )
    groups: dict[str, list[Row]] = {}
    for v in view.verdicts:
        bound, _, of = v.bound.partition(" (")
        groups.setdefault(v.group, []).append(
            Row(
                (
                    cell(v.title, style="name", hint=f"“{v.quote}” – {v.claim_source}"),
                    cell(v.verdict, style=f"verdict {_STYLE[v.verdict]}"),
                    cell(v.claimed or fmt.ABSENT, sort=v.claimed_low, hint=f"counts as equal: {v.tolerance}"),
                    cell(v.measured or fmt.ABSENT, sort=v.measured_value),
                    cell(bound or fmt.ABSENT, sort=v.bound_value, hint=of.removesuffix(")")),
                    cell(v.reason, style="wrap", hint=v.checked_by),
                )
            )
        )
    section.parts.append(
        Table(
            "claims-table",
            "Verdicts",
            columns,
            tuple(RowGroup(name, tuple(rows)) for name, rows in groups.items()),
            note="Quotes, sources, tolerances and the way of checking: linepress claims RUN --json",
        )
    )
    return section


def failures(view: RunView) -> Section:
    """Gates that do not hold, cases that failed, cases that were skipped and why."""
    section = Section("failures", "Failures and gates", short="Failures")
    if len(view.gates):
        section.parts.append(_gates(view))
    if view.failures:
        rows = tuple(
            Row(
                (
                    cell(str(f.get("stage") or ""), style="bad"),
                    cell(str(f.get("label") or ""), style="wrap"),
                    cell(str(f.get("error_type") or "")),
                    cell(str(f.get("error") or ""), style="wrap"),
                )
            )
            for f in view.failures[:MAX_FAILURES]
        )
        left = len(view.failures) - len(rows)
        section.parts.append(
            Table(
                "failures-table",
                f"{fmt.count(len(view.failures))} failed case" + ("s" if len(view.failures) > 1 else ""),
                (Column("stage"), Column("case"), Column("error"), Column("message")),
                (RowGroup("", rows),),
                note=f"{fmt.count(left)} more in the record" if left else "",
            )
        )
    else:
        section.parts.append(Note("No case failed.", "good"))
    skipped = _skipped(view)
    if skipped is not None:
        section.parts.append(skipped)
    return section


def provenance(view: RunView) -> Section:
    """What was run, where and with what, from the manifest."""
    section = Section("provenance", "Provenance")
    hidden = {"parts", "suite", "sources", "sessions", "schema_version"}
    shown = {key: value for key, value in view.manifest.items() if key not in hidden}
    suite = view.manifest.get("suite")
    if isinstance(suite, Mapping):
        shown = {"suite": {k: v for k, v in suite.items() if k not in ("text", "resolved")}, **shown}
    pairs = [("record schema", f"version {view.manifest.get('schema_version')}", "")]
    pairs += [(key.replace("_", " ").replace(".", ", "), text, "") for key, text in _flatten(shown)]
    section.parts.append(Facts(tuple(pairs), "wide"))
    if isinstance(suite, Mapping) and suite.get("text"):
        section.parts.append(Source("The suite as written", str(suite["text"])[:MAX_TEXT]))
    for key, title in (("sources", "Where the tensors came from"), ("sessions", "Starts of this run")):
        if view.manifest.get(key):
            text = json.dumps(view.manifest[key], indent=1, ensure_ascii=False, default=str)
            section.parts.append(Source(title, text[:MAX_TEXT]))
    n_parts = len(view.manifest.get("parts") or {})
    section.parts.append(Note(f"manifest.json beside this report lists {n_parts} Parquet parts with their sha256."))
    return section


def full_table(view: RunView) -> Section:
    """Every case: as plain rows while there are few, else compressed data that the script unfolds."""
    section = Section("cases", "All cases", short="All cases")
    n = len(view.measure)
    if not n:
        section.parts.append(Note("No case is recorded."))
        return section
    columns, rows = _case_rows(view)
    shown = rows[:MAX_PLAIN_ROWS]
    note = "" if len(shown) == n else f"the first {fmt.count(len(shown))} of {fmt.count(n)} cases"
    section.parts.append(
        Table(
            "cases-table",
            "One row a tensor and codec",
            columns,
            (RowGroup("", tuple(_plain(r, columns) for r in shown)),),
            note,
        )
    )
    if len(shown) < n:
        section.parts.append(_packed(columns, rows))
        section.parts.append(
            Note(
                "All cases are inside this file and can be sorted and filtered where scripts run; everywhere else: "
                "tables/measure/*.parquet beside the report, for instance "
                "duckdb -c \"select * from 'tables/measure/*.parquet'\"."
            )
        )
    return section


_CASE_COLUMNS: tuple[tuple[str, str, int], ...] = (
    # column of the record, heading, decimals (-1: text)
    ("tensor", "tensor", -1),
    ("variant", "codec", -1),
    ("format", "format", -1),
    ("cast", "cast", -1),
    ("layout", "layout", -1),
    ("raw_bytes", "raw, B", 0),
    ("payload_ratio", "payload", 4),
    ("packed_ratio", "packed", 4),
    ("bound_ratio", "bound", 4),
    ("above_bound_pct", "above bound, %", 2),
    ("lossless", "lossless", -1),
    ("decode_GBps", "decode, GB/s", 3),
    ("status", "status", -1),
)


def _case_rows(view: RunView) -> tuple[tuple[Column, ...], list[list[Any]]]:
    columns = tuple(Column(label, numeric=digits >= 0) for _, label, digits in _CASE_COLUMNS)
    lists: list[list[Any]] = []
    for name, _, digits in _CASE_COLUMNS:
        if name == "lossless":
            values = view.measure.real(name)
            lists.append(["" if np.isnan(v) else "yes" if v else "NO" for v in values])
        elif digits < 0:
            lists.append([str(v) for v in view.measure.text(name)])
        else:
            values = view.measure.real(name)
            lists.append(
                [None if not np.isfinite(v) else int(v) if digits == 0 else round(float(v), digits) for v in values]
            )
    return columns, [list(row) for row in zip(*lists, strict=True)]


def _plain(values: list[Any], columns: tuple[Column, ...]) -> Row:
    cells = []
    for value, column, (_, _, digits) in zip(values, columns, _CASE_COLUMNS, strict=True):
        if column.numeric:
            text = fmt.ABSENT if value is None else f"{value:,.{digits}f}"
            cells.append(cell(text, sort=None if value is None else float(value)))
        else:
            cells.append(cell(str(value), style="bad" if value in ("NO", "failed") else ""))
    return Row(tuple(cells))


def _packed(columns: tuple[Column, ...], rows: list[list[Any]]) -> Packed:
    """Column by column with texts as indices into a dictionary: small, and quick to unfold."""
    data: dict[str, Any] = {
        "columns": [
            {"label": c.label, "digits": digits} for c, (_, _, digits) in zip(columns, _CASE_COLUMNS, strict=True)
        ],
        "values": [],
    }
    for i, column in enumerate(columns):
        values = [row[i] for row in rows]
        if column.numeric:
            data["values"].append({"v": values})
        else:
            words = list(dict.fromkeys(values))
            index = {word: k for k, word in enumerate(words)}
            data["values"].append({"w": words, "i": [index[v] for v in values]})
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return Packed("cases-data", packed, len(rows))


def _gates(view: RunView) -> Table:
    g = view.gates
    signs = {"at_least": "≥", "at_most": "≤", "equals": "="}
    rows = []
    for i in range(len(g)):
        passed = g.real("passed")[i] == 1.0
        rule = g.text("rule")[i]
        rows.append(
            Row(
                (
                    cell(g.text("gate")[i]),
                    cell(f"{g.text('table')[i]} {g.text('metric')[i]}"),
                    cell(f"{signs.get(rule, rule)} {fmt.plain(g.real('threshold')[i])}"),
                    number_cell(g.real("value")[i], fmt.plain(g.real("value")[i])),
                    cell("holds" if passed else "FAILS", style="verdict " + ("good" if passed else "bad")),
                    cell("" if passed else g.text("next_step")[i], style="wrap"),
                )
            )
        )
    columns = (
        Column("gate"),
        Column("of"),
        Column("rule"),
        Column("value", numeric=True),
        Column("state"),
        Column("next step"),
    )
    return Table("gates-table", "Gates", columns, (RowGroup("", tuple(rows)),))


def _skipped(view: RunView) -> Table | None:
    reasons: dict[tuple[str, str], int] = {}
    for name, frame in (("measure", view.measure), ("channel", view.channel), ("system", view.system)):
        part = frame.equal(status="skipped")
        for reason in part.text("error"):
            key = (name, reason or "no reason recorded")
            reasons[key] = reasons.get(key, 0) + 1
    if not reasons:
        return None
    rows = tuple(
        Row((cell(stage), cell(fmt.count(n), sort=float(n)), cell(reason, style="wrap")))
        for (stage, reason), n in reasons.items()
    )
    return Table(
        "skipped-table",
        "Skipped cases",
        (Column("stage"), Column("cases", numeric=True), Column("reason")),
        (RowGroup("", rows),),
    )


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            pairs += _flatten(item, f"{name}.")
        elif isinstance(item, list):
            if item:
                pairs.append((name, ", ".join(str(x) for x in item)[:2000]))
        elif item is not None and item != "":
            pairs.append((name, str(item) if len(str(item)) < 600 else f"{str(item)[:600]} …"))
    return pairs
