"""Where the ratio comes from: against speed, by tensor group, by layer, in the KV cache, by size of the line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linepress.records.frame import Frame
from linepress.records.summary import (
    DataClass,
    Summary,
    best_line_variant,
    group_rank,
    histograms,
    percentile_bits,
    summaries,
    summarise,
)
from linepress.report.model import Plot, Section
from linepress.report.plots import ratios as plots
from linepress.report.plots.style import SERIES, inline_svg
from linepress.report.sections.heads import by_head
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell

MAX_VARIANTS = 6
MIN_SHARE = 0.005
"""Groups with a smaller share of the bytes (norms, biases) are in the tables only; they would stretch a plot."""


def speed(view: RunView) -> Section:
    """Payload ratio over decode rate, one plot a data class."""
    section = Section(
        "speed",
        "Ratio against decode speed",
        "Rates are of the software in this run on one core of the host; they compare codecs with each other, "
        "not with silicon.",
        short="Speed",
    )
    for i, (data, found) in enumerate(view.summaries.items()):
        figure = plots.ratio_against_speed(found, view.colours)
        if figure is None:
            continue
        timed = [s for s in found if np.isfinite(s.decode_GBps)]
        alt = "; ".join(
            f"{s.variant} {fmt.ratio(s.payload_ratio)} at {fmt.significant(s.decode_GBps)} GB/s" for s in timed
        )
        title = f"Ratio against decode speed: {data.label}"
        section.parts.append(
            Plot(
                f"speed-{i}",
                inline_svg(figure, f"speed{i}", title, alt),
                title,
                alt,
                "Up and to the right is better. The heavy line is the Pareto front and its codecs are in bold: "
                "nothing is both smaller and faster. Circles are line codecs, squares block codecs; the bar under a "
                "mark is its packed ratio.",
            )
        )
    if not section.parts:
        section.parts.append(Note("No two variants were timed on the same data."))
    return section


def by_group(view: RunView) -> Section:
    """Payload ratio of each tensor group, plot and table."""
    section = Section("groups", "Ratio by tensor group", short="Groups")
    for i, (data, rows) in enumerate(view.classes):
        shown = [s.variant for s in view.summaries[data] if s.n_ok and s.codec != "raw"][:MAX_VARIANTS]
        ok = rows.where(rows.text("status") == "ok")
        parts = {group or "other": part for (group,), part in ok.by("group")}
        groups = sorted(parts, key=group_rank)
        if len(groups) < 2 or not shown:
            continue
        table = {g: {s.variant: s for s in summaries(parts[g])} for g in groups}
        bound = [
            max((s.highest_bound[1] for s in table[g].values()), default=float("nan"), key=np.nan_to_num)
            for g in groups
        ]
        drawn_groups = _large(groups, {g: max(s.raw_bytes for s in table[g].values()) for g in groups})
        bound = [bound[groups.index(g)] for g in drawn_groups]
        values = {
            v: [table[g][v].payload_ratio if v in table[g] else float("nan") for g in drawn_groups] for v in shown
        }
        title = f"Payload ratio by tensor group: {data.label}"
        drawn = plots.by_group(drawn_groups, values, bound, view.colours)
        alt = "; ".join(
            f"{g}: " + ", ".join(f"{v} {values[v][k]:.3f}" for v in shown) for k, g in enumerate(drawn_groups)
        )
        section.parts.append(
            Plot(
                f"groups-{i}",
                inline_svg(drawn, f"groups{i}", title, alt),
                title,
                alt,
                "One row a group of tensors; the bar is the highest entropy bound computed for the data. The gap "
                "between a mark and the bar is what a better code could still gain. A mark to the "
                "right of the bar adapts to the line, as the bound's class does not. Groups under 0.5 % of the bytes "
                "are in the table only.",
            )
        )
        section.parts.append(_group_table(i, data, groups, table, shown))
    if not section.parts:
        section.parts.append(Note("This run has only one tensor group in each sort of data."))
    return section


def layers(view: RunView) -> Section:
    """The strip of all layers, one a stored or cast format of the weights."""
    section = Section(
        "layers",
        "Weights by layer",
        "The best line codec over all layers, one strip an element format.",
        short="Layers",
    )
    strips: list[tuple[DataClass, str, list[plots.Series]]] = []
    for data, rows in view.classes:
        best = best_line_variant(view.summaries[data])
        if data.title == "weights" and best is not None:
            series = _series(rows, best.variant, "group")
            if series:
                strips.append((data, best.variant, series))
    section.parts += _strips("layers", strips, "tensor group")
    if not section.parts:
        section.parts.append(Note("No weights with a layer number were measured."))
    return section


def kv(view: RunView) -> Section:
    """Keys and values by layer, and the heads where they were measured apart."""
    section = Section(
        "kv",
        "KV cache by layer",
        "Keys and values apart: keys after rotary embedding keep more structure along a channel than values do.",
        short="KV",
    )
    strips: list[tuple[DataClass, str, list[plots.Series]]] = []
    for data, rows in view.classes:
        best = best_line_variant(view.summaries[data])
        if data.title == "KV cache" and best is not None:
            series = _series(rows, best.variant, "kind")
            if series:
                strips.append((data, best.variant, series))
    section.parts += _strips("kv", strips, "keys or values")
    for i, (data, rows) in enumerate(view.classes):
        if data.title == "KV cache":
            section.parts.append(_kv_table(data, rows, view.summaries[data]))
            section.parts += by_head(i, data, rows, view.summaries[data], view.measure_table)
    if not section.parts:
        section.parts.append(Note("No KV cache was measured in this run; add a snapshot to the suite's sources."))
    return section


def sizes(view: RunView) -> Section:
    """Distribution of coded line sizes: what slots and size classes have to hold."""
    section = Section(
        "sizes",
        "Sizes of coded lines",
        "A memory fetches whole atoms (32 or 64 B), so the spread of line sizes decides what a ratio is worth: the "
        "share of lines that fit a slot matters more than the mean.",
        short="Line sizes",
    )
    for i, (data, rows) in enumerate(view.classes):
        found = [s for s in view.summaries[data] if s.codec_kind == "line" and s.n_ok and s.codec != "raw"]
        pairs = []
        for s in found[:MAX_VARIANTS]:
            index = rows.equal(variant=s.variant, status="ok").real("position").astype(np.int64)
            histogram = histograms(view.measure_table, index)
            if histogram.sum():
                pairs.append((s.variant, histogram))
        if not pairs:
            continue
        title = f"Coded bytes of a line: {data.label}"
        alt = "; ".join(
            f"{v}: median {percentile_bits(h, 0.5) / 8:.1f} B, p99 {percentile_bits(h, 0.99) / 8:.1f} B"
            for v, h in pairs
        )
        drawn = plots.line_sizes(pairs, view.colours)
        section.parts.append(
            Plot(
                f"sizes-{i}",
                inline_svg(drawn, f"sizes{i}", title, alt),
                title,
                alt,
                "One histogram a codec over the bytes that a 64 B line takes after coding (rounded up). Narrow and "
                "far left is better; the last bar, over 64, is the share stored raw with its header.",
            )
        )
        section.parts.append(_size_table(i, data, pairs))
    if not section.parts:
        section.parts.append(Note("No line codec left line sizes in this run."))
    return section


def _large(names: Sequence[str], size: dict[str, float]) -> list[str]:
    total = sum(size.values())
    return [name for name in names if size[name] >= MIN_SHARE * total]


def _series(rows: Frame, variant: str, by: str) -> list[plots.Series]:
    """Ratio and bound by layer, one series a value of ``by``; tensors of one layer pooled."""
    own = rows.equal(variant=variant, status="ok")
    own = own.where(np.isfinite(own.real("layer")))
    parts = {value: part for (value,), part in own.by(by)}
    kept = _large(sorted(parts, key=group_rank), {v: float(p.real("raw_bytes").sum()) for v, p in parts.items()})
    names = {"key": "keys", "value": "values"}
    result = []
    for value in kept:
        part = parts[value]
        layer = part.real("layer")
        xs, ys, bounds = [], [], []
        for number in np.unique(layer):
            s = summarise(part.where(layer == number), variant)
            xs.append(float(number))
            ys.append(s.payload_ratio)
            bounds.append(s.highest_bound[1])
        result.append(plots.Series(names.get(value, value or "other"), tuple(xs), tuple(ys), tuple(bounds)))
    return result


def _strips(slug: str, strips: list[tuple[DataClass, str, list[plots.Series]]], what: str) -> list[Plot]:
    spans = [_span(series) for _, _, series in strips]
    if not spans:
        return []
    # Every strip shows the same range of ratio, each around its own data, so that slopes compare between strips.
    height = max(0.05, *(high - low for low, high in spans)) * 1.25
    names = list(dict.fromkeys(s.name for _, _, series in strips for s in series))
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}
    figures = []
    for i, ((data, variant, series), (low, high)) in enumerate(zip(strips, spans, strict=True)):
        title = f"{data.label}: {variant} by layer"
        alt = "; ".join(f"{s.name}: {min(s.y):.3f} to {max(s.y):.3f}" for s in series)
        middle = (low + high) / 2
        drawn = plots.layer_strip(series, colours, (middle - height / 2, middle + height / 2))
        caption = (
            f"One line (two layers: dots) per {what}: payload ratio of the layer; dashed the highest entropy bound. "
            "Many over many layers have a panel each, the others behind it in grey. The scale does not start at 1; "
            "all strips of this section show the same span of ratio, each around its own data. A mark above its "
            "bound conditions on more, or adapts faster, than the bound's class does."
        )
        figures.append(Plot(f"{slug}-{i}", inline_svg(drawn, f"{slug}{i}", title, alt), title, alt, caption))
    return figures


def _span(series: list[plots.Series]) -> tuple[float, float]:
    """Range of ratios and bounds of a strip."""
    values = [v for s in series for v in (*s.y, *s.bound) if np.isfinite(v)]
    return min(values), max(values)


def _group_table(
    i: int, data: DataClass, groups: Sequence[str], table: dict[str, dict[str, Summary]], shown: Sequence[str]
) -> Table:
    columns = (Column("group"), Column("raw"), *(Column(v, numeric=True, better="higher") for v in shown))
    rows = []
    for g in groups:
        raw = max(s.raw_bytes for s in table[g].values())
        cells = [cell(g), cell(fmt.bytes_si(raw), sort=raw)]
        for v in shown:
            s = table[g].get(v)
            if s is None:
                cells.append(cell(fmt.ABSENT))
            else:
                cells.append(
                    number_cell(
                        s.payload_ratio,
                        f"{fmt.ratio(s.payload_ratio)} / {fmt.ratio(s.packed_ratio)}",
                        hint=f"bound {fmt.ratio(s.bound_ratio)}",
                    )
                )
        rows.append(Row(tuple(cells)))
    return Table(
        f"groups-table-{i}", f"{data.label}: payload / packed ratio by group", columns, (RowGroup("", tuple(rows)),)
    )


def _kv_table(data: DataClass, rows: Frame, found: Sequence[Summary]) -> Table:
    columns = (
        Column("codec"),
        Column("keys, payload", numeric=True, better="higher"),
        Column("keys, packed", numeric=True, better="higher"),
        Column("values, payload", numeric=True, better="higher"),
        Column("values, packed", numeric=True, better="higher"),
        Column("both, payload", numeric=True, better="higher"),
        Column("both, packed", numeric=True, better="higher"),
    )
    result = []
    for s in found:
        own = rows.equal(variant=s.variant)
        cells = [cell(s.variant, style="code")]
        for part in (summarise(own.equal(kind="key"), s.variant), summarise(own.equal(kind="value"), s.variant), s):
            cells.append(number_cell(part.payload_ratio, fmt.ratio(part.payload_ratio)))
            cells.append(number_cell(part.packed_ratio, fmt.ratio(part.packed_ratio)))
        result.append(Row(tuple(cells)))
    slug = f"kv-table-{data.format}" + (f"-{data.cast.replace(':', '-').replace('=', '-')}" if data.cast else "")
    return Table(slug, f"{data.label}: keys and values", columns, (RowGroup("", tuple(result)),))


def _size_table(
    i: int, data: DataClass, pairs: Sequence[tuple[str, np.ndarray[tuple[int], np.dtype[np.int64]]]]
) -> Table:
    columns = (
        Column("codec"),
        Column("p1", "B", True, "lower"),
        Column("median", "B", True, "lower"),
        Column("p99", "B", True, "lower"),
        Column("max", "B", True, "lower"),
        Column("≤ 32 B", "% of lines", True, "higher"),
        Column("≤ 44 B", "% of lines", True, "higher"),
        Column("≤ 48 B", "% of lines", True, "higher"),
        Column("raw", "% of lines", True, "lower"),
    )
    rows = []
    for variant, h in pairs:
        total = max(int(h.sum()), 1)
        top = float(np.nonzero(h)[0].max()) / 8
        cells = [cell(variant, style="code")]
        cells += [number_cell(v, f"{v:.1f}") for v in (*(percentile_bits(h, q) / 8 for q in (0.01, 0.5, 0.99)), top)]
        for limit in (32, 44, 48):
            share = 100 * float(h[: limit * 8 + 1].sum()) / total
            cells.append(number_cell(share, f"{share:.1f}"))
        raw = 100 * float(h[512:].sum()) / total
        cells.append(number_cell(raw, f"{raw:.1f}"))
        rows.append(Row(tuple(cells)))
    return Table(f"sizes-table-{i}", f"{data.label}: coded size of a line", columns, (RowGroup("", tuple(rows)),))
