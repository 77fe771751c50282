"""What a nightly adds to the report: the comparison with the baseline, and the history of every figure.

Both are read from the run's own folder, where `linepress.nightly.night` writes them; without them there is no
such section.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from linepress.report.model import Section, Source
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, RowGroup, Table, cell, row

FOLDER = "nightly"
BARS = "▁▂▃▄▅▆▇█"
GAP = "·"
MOST_ROWS = 400
FIGURES = {
    "payload_ratio": ("payload ratio", "", "higher"),
    "packed_ratio": ("packed ratio", "", "higher"),
    "lossless": ("lossless, share of cases", "", "higher"),
    "encode_GBps": ("encode", "GB/s", "higher"),
    "decode_GBps": ("decode", "GB/s", "higher"),
    "measure_GBps": ("measure", "GB/s", "higher"),
}
MARKS = {"+": ("worse", "bad"), "-": ("better", "good"), "!": ("new failure", "bad"), "*": ("recovered", "good")}


def compared(view: RunView) -> Section:
    """The gate of the night and what changed against the baseline."""
    section = Section("compare", "Against the last good run", short="Compare")
    found = _read(view, "compare.json")
    if not found:
        return section
    reasons = [*found.get("failures", []), *found.get("undecided", [])]
    base = found.get("base") or {}
    commit = str(base.get("commit") or "")[:10]
    tail = f": {', '.join(reasons)}" if reasons else ""
    section.parts.append(
        Note(
            f"Gate {found.get('verdict')}{tail}. Baseline {base.get('run_id')}"
            f"{', commit ' + commit if commit else ''}, of {base.get('created_at')}; {fmt.count(found.get('cases'))} "
            "cases compared.",
            "good" if found.get("verdict") == "PASS" else "bad",
        )
    )
    rows = [*_outcomes(found), *_exact(found), *_modelled(found), *_speeds(found)]
    if rows:
        section.parts.append(
            Table(
                "compare-table",
                "What changed against the baseline; equal figures are left out",
                (
                    Column("what"),
                    Column("metric"),
                    Column("base", numeric=True),
                    Column("new", numeric=True),
                    Column("change"),
                    Column("verdict"),
                ),
                (RowGroup("", tuple(rows[:MOST_ROWS])),),
                note=f"{len(rows) - MOST_ROWS:,} more rows are in nightly/compare.json"
                if len(rows) > MOST_ROWS
                else "",
            )
        )
    else:
        section.parts.append(Note("No exact figure changed, and no speed changed by more than noise explains."))
    if found.get("speed_not_compared"):
        section.parts.append(Note(f"Speeds were not compared: {found['speed_not_compared']}.", "warn"))
    return section


def history(view: RunView) -> Section:
    """Every figure over the last nights, with the nights at which it stepped to another level."""
    section = Section("history", "History")
    found = _read(view, "history.json")
    nights = found.get("nights") or []
    if len(nights) < 2:
        return section
    section.lead = (
        f"The last {len(nights)} nights of this suite, the oldest at the left; a bar lies between the least and the "
        "largest value of its row, a dot is a night without it. Exact figures step at any change. A speed steps when "
        "its level, relative to the control codecs, moves by more than noise explains and stays for two nights."
    )
    lines = found.get("lines") or []
    steps = [row_ for line in lines for row_ in _steps(line, nights)]
    if steps:
        section.parts.append(
            Table(
                "history-steps",
                "Steps",
                (
                    Column("codec"),
                    Column("figure"),
                    Column("first night at the new level"),
                    Column("before", numeric=True),
                    Column("after", numeric=True),
                    Column("change", unit="%", numeric=True),
                ),
                (RowGroup("", tuple(steps[:MOST_ROWS])),),
            )
        )
    else:
        section.parts.append(Note(f"No figure stepped in {len(nights)} nights.", "good"))
    groups: dict[str, list[Any]] = {}
    for line in lines:
        if line.get("data") != "all data" and line.get("figure") in FIGURES and not _flat(line):
            groups.setdefault(str(line["data"]), []).append(_line(line))
    section.parts.append(
        Table(
            "history-table",
            "Figures by sort of data",
            (
                Column("codec"),
                Column("figure"),
                Column("nights", hint="oldest to newest, scaled to the row"),
                Column("first", numeric=True),
                Column("night before", numeric=True),
                Column("last night", numeric=True),
                Column("last against before", unit="%", numeric=True),
            ),
            tuple(RowGroup(data, tuple(rows)) for data, rows in groups.items()),
            note="packed ratios and losslessness that never changed are left out",
        )
    )
    runs = "\n".join(
        f"{night.get('created_at')}  {str(night.get('commit') or '')[:10]}{'  dirty' if night.get('dirty') else ''}  "
        f"{night.get('run')}"
        for night in nights
    )
    section.parts.append(Source("The nights", runs))
    return section


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, between the least and the largest; a level series is drawn in the middle."""
    known = [v for v in values if v is not None]
    if not known:
        return GAP * len(values)
    low, high = min(known), max(known)
    span = high - low
    top = len(BARS) - 1
    return "".join(
        GAP if v is None else BARS[top // 2 if span <= 1e-12 * abs(high) else round(top * (v - low) / span)]
        for v in values
    )


def _read(view: RunView, name: str) -> dict[str, Any]:
    """A file of the nightly; empty where there is none, or none that can be read."""
    try:
        found = json.loads((view.store.path / FOLDER / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _verdict(mark: str) -> Any:
    word, style = MARKS.get(mark, ("changed", ""))
    return cell(word, style=style)


def _outcomes(found: Mapping[str, Any]) -> list[Any]:
    marks = {"new failure": "!", "recovered": "*"}
    return [
        row(
            cell(str(change["case"]), style="code"),
            "outcome" if change["stage"] == "measure" else f"{change['stage']} outcome",
            str(change["before"]),
            str(change["after"]),
            str(change["detail"]),
            _verdict(marks[change["kind"]]) if change["kind"] in marks else cell("no result", style="bad"),
        )
        for change in found.get("changes") or []
    ]


def _exact(found: Mapping[str, Any]) -> list[Any]:
    rows = []
    for one in found.get("exact") or []:
        if one["mark"] == "=":
            continue
        tally = f"{one['better']:,} tensors better, {one['worse']:,} worse, {one['equal']:,} equal"
        if one["base"] is None:
            tally = f"changed in {one['worse']:,} tensors"
        change = "" if one.get("change_pct") is None else f"{fmt.percent(one['change_pct'], 3, signed=True)}; "
        rows.append(
            row(
                cell(str(one["variant"]), style="code"),
                str(one["metric"]),
                fmt.bytes_si(one["base"]),
                fmt.bytes_si(one["new"]),
                change + tally,
                _verdict(str(one["mark"])),
            )
        )
    return rows


def _modelled(found: Mapping[str, Any]) -> list[Any]:
    return [
        row(
            str(one["stage"]),
            str(one["metric"]),
            fmt.ABSENT,
            fmt.ABSENT,
            f"{one['better']:,} rows better, {one['worse']:,} worse, {one['equal']:,} equal; "
            f"worst −{fmt.plain(one['worst_pct'], 3)} %, best +{fmt.plain(one['best_pct'], 3)} %",
            _verdict(str(one["mark"])),
        )
        for one in found.get("modelled") or []
        if one["mark"] != "="
    ]


def _speeds(found: Mapping[str, Any]) -> list[Any]:
    rows = []
    for one in found.get("sampled") or []:
        if one["mark"] not in ("+", "-") or one.get("time_factor") is None:
            continue
        factor = float(one["time_factor"])
        low, high = float(one["time_factor_low"]), float(one["time_factor_high"])
        word = "slower" if factor >= 1 else "faster"
        if factor < 1:
            factor, low, high = 1 / factor, 1 / high, 1 / low
        rows.append(
            row(
                cell(str(one["variant"]), style="code"),
                f"{one['metric']}, GB/s",
                fmt.significant(one["base_GBps"]),
                fmt.significant(one["new_GBps"]),
                f"{factor:.3f}x {word}, p = {one['p']:.2g}, 95 % CI [{low:.3f}, {high:.3f}]",
                _verdict(str(one["mark"])),
            )
        )
    return rows


def _flat(line: Mapping[str, Any]) -> bool:
    """An exact figure beside the payload ratio that was the same every night."""
    known = {v for v in line["values"] if v is not None}
    return bool(line.get("exact")) and line["figure"] != "payload_ratio" and len(known) <= 1


def _steps(line: Mapping[str, Any], nights: Sequence[Mapping[str, Any]]) -> list[Any]:
    if line.get("data") == "all data":
        return []
    words, unit, _ = FIGURES.get(str(line["figure"]), (str(line["figure"]), "", ""))
    rows = []
    for step in line.get("steps") or []:
        night = nights[int(step["night"])]
        change = step.get("change_pct")
        worse = change is not None and change < 0
        rows.append(
            row(
                cell(str(line["variant"]), style="code"),
                f"{line['data']}, {words}{', ' + unit if unit else ''}",
                f"{str(night.get('created_at'))[:10]} {str(night.get('commit') or '')[:10]}",
                fmt.plain(step["before"], 5),
                fmt.plain(step["after"], 5),
                cell(fmt.percent(change, 2, signed=True).removesuffix(" %"), change, "bad" if worse else "good"),
            )
        )
    return rows


def _line(line: Mapping[str, Any]) -> Any:
    words, unit, _ = FIGURES[str(line["figure"])]
    values = list(line["values"])
    known = [v for v in values if v is not None]
    before, last = (values[-2] if len(values) > 1 else None), values[-1]
    # Of the two numbers in the row, so that nobody can read a change that they do not show.
    change = 100 * (last / before - 1) if last is not None and before else None
    return row(
        cell(str(line["variant"]), style="code"),
        words + (f", {unit}" if unit else ""),
        cell(sparkline(values), style="code", hint=", ".join(fmt.plain(v, 5) for v in values)),
        fmt.plain(known[0], 5) if known else fmt.ABSENT,
        fmt.plain(before, 5),
        fmt.plain(last, 5),
        cell(fmt.percent(change, 2, signed=True).removesuffix(" %"), change),
    )
