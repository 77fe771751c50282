"""What the ratios buy: in a memory channel, on an accelerator, in a rack, each number beside its closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress.records.frame import Frame
from linepress.records.measured import NO_CAST
from linepress.records.summary import DataClass
from linepress.report.model import Plot, Section
from linepress.report.plots import system as plots
from linepress.report.plots.style import inline_svg
from linepress.report.sections import racks, sensitivity
from linepress.report.sections.channel_gains import settled_table, silicon_table
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell

MAX_ROWS = 80
MAX_MARKS = 14
_DATA = {"weights": "weights", "kv": "KV cache"}


def channel(view: RunView) -> Section:
    """Bandwidth, capacity and latency gains by memory and packing, closed forms beside."""
    section = Section(
        "channel",
        "Memory channel",
        "Each channel is simulated from the measured line sizes and set against the same channel without "
        "compression, at its best: mapping, page policy, queues and refresh under which it is fastest. Runs go on "
        "until the gain's interval is within 1 %, or no gain is stated. The closed form beside a number says what "
        "arithmetic alone would predict.",
        short="Channel",
    )
    rows = view.channel.equal(status="ok")
    if not len(rows):
        section.parts.append(Note("This run has no channel stage."))
        return section
    for i, ((data, element, cast), part) in enumerate(rows.by("data", "format", "cast")):
        label = DataClass(_DATA.get(data, data), element, "" if cast in NO_CAST else cast).label
        kept = _best_per(part, ("memory", "packing"), part.real("effective_capacity_ratio"))
        figure = _gains_figure(i, label, kept)
        if figure is not None:
            section.parts.append(figure)
        section.parts.append(_channel_table(i, label, part))
        settled = settled_table(i, label, kept)
        if settled is not None:
            section.parts.append(settled)
        cost = _cost_table(i, label, part)
        if cost is not None:
            section.parts.append(cost)
        went = _went_table(i, label, kept, view.channel_went)
        if went is not None:
            section.parts.append(went)
    section.parts += sensitivity.of_channel(rows)
    section.parts.append(silicon_table())
    return section


def system(view: RunView) -> Section:
    """Tokens a second, capacity, devices and racks with and without compression."""
    section = Section(
        "system",
        "Accelerators and racks",
        "Tokens a second by roofline, with the packed ratios and channel gains measured above. Decode gains while "
        "it is memory bound; prefill above the ridge gains nothing.",
        short="System",
    )
    rows = view.system.equal(status="ok")
    if not len(rows):
        section.parts.append(Note("This run has no system stage."))
        section.parts += racks.tables(view)
        return section
    speedup = rows.real("speedup")
    best = _best_per(rows, ("model", "accelerator", "scenario", "cast"), speedup)
    figure = _tokens_figure(best)
    if figure is not None:
        section.parts.append(figure)
    section.parts.append(_system_table(rows))
    roof = _roofline_figure(best)
    if roof is not None:
        section.parts.append(roof)
    section.parts += sensitivity.of_system(rows)
    section.parts += racks.tables(view)
    return section


def _best_per(rows: Frame, keys: tuple[str, ...], score: NDArray[np.float64]) -> Frame:
    """For each combination of ``keys`` the row with the highest score."""
    scored = Frame({**rows.columns, "_score": score}, rows.n)
    chosen: list[Frame] = []
    for _, part in scored.by(*keys):
        values = part.real("_score")
        best = int(np.nanargmax(values)) if np.isfinite(values).any() else 0
        mask = np.zeros(len(part), dtype=bool)
        mask[best] = True
        chosen.append(part.where(mask))
    columns = {name: np.concatenate([c.columns[name] for c in chosen]) for name in scored.columns}
    return Frame(columns, len(chosen))


def _gains_figure(i: int, label: str, rows: Frame) -> Plot | None:
    gains = [
        plots.Gain(
            f"{rows.text('memory')[k]}, {rows.text('packing')[k]}",
            float(rows.real("gain_sequential")[k]),
            float(rows.real("gain_random")[k]),
            float(rows.real("effective_capacity_ratio")[k]),
            float(rows.real("closed_form_gain_sequential")[k]),
            float(rows.real("closed_form_gain_random")[k]),
        )
        for k in range(len(rows))
    ]
    gains = [g for g in gains if np.isfinite(g.sequential)][:MAX_MARKS]
    if not gains:
        return None
    title = f"Gains over the plain channel: {label}"
    alt = "; ".join(
        f"{g.label}: sequential {g.sequential:.2f}, random {g.random:.2f}, capacity {g.capacity:.2f}" for g in gains
    )
    return Plot(
        f"channel-{i}",
        inline_svg(plots.channel_gains(gains), f"channel{i}", title, alt),
        title,
        alt,
        "One row a memory and packing, with the codec that holds the most in it. Right of the "
        "black line is a gain, left of it a loss; the "
        "upright bars are the closed forms. Random single lines gain only where a coded line touches fewer atoms "
        "than a raw one.",
    )


def _channel_table(i: int, label: str, rows: Frame) -> Table:
    columns = (
        Column("memory"),
        Column("packing"),
        Column("codec"),
        Column("workload"),
        Column("sequential", "GB/s", True, "higher", "useful bytes a second"),
        Column("gain", numeric=True, better="higher"),
        Column("closed form", numeric=True),
        Column("random", "GB/s", True, "higher", "useful bytes a second, single lines"),
        Column("gain", numeric=True, better="higher"),
        Column("closed form", numeric=True),
        Column("capacity", numeric=True, better="higher", hint="raw bytes held per byte of memory"),
        Column("closed form", numeric=True),
        Column("p50", "ns", True, "lower", "read latency"),
        Column("plain", "ns", True),
        Column("p99", "ns", True, "lower", "read latency"),
        Column("plain", "ns", True),
        Column(
            "energy",
            "pJ/B",
            True,
            "lower",
            "energy of the memory device per useful byte, sequential; drivers and PHY apart",
        ),
    )
    out = []
    for k in range(min(len(rows), MAX_ROWS)):
        cells = [
            cell(rows.text("memory")[k]),
            cell(rows.text("packing")[k], style="code"),
            cell(rows.text("codec")[k], style="code"),
            cell(rows.text("workload")[k]),
        ]
        for name in ("sequential", "random"):
            value = rows.real(f"effective_bandwidth_{name}_GBps")[k]
            base = rows.real(f"plain_bandwidth_{name}_GBps")[k]
            cells.append(number_cell(value, fmt.significant(value), hint=f"plain {fmt.significant(base)} GB/s"))
            gain, closed = rows.real(f"gain_{name}")[k], rows.real(f"closed_form_gain_{name}")[k]
            style = "" if not np.isfinite(gain) else "good" if gain > 1.005 else "bad" if gain < 0.995 else ""
            cells.append(number_cell(gain, fmt.ratio(gain), style))
            cells.append(number_cell(closed, fmt.ratio(closed), "muted"))
        capacity, closed = rows.real("effective_capacity_ratio")[k], rows.real("closed_form_capacity_ratio")[k]
        cells.append(number_cell(capacity, fmt.ratio(capacity)))
        cells.append(number_cell(closed, fmt.ratio(closed), "muted"))
        for q in ("p50", "p99"):
            for prefix, style in (("", ""), ("plain_", "muted")):
                value = rows.real(f"{prefix}latency_{q}_ns")[k]
                cells.append(number_cell(value, fmt.significant(value), style))
        energy = rows.real("energy_pJ_per_useful_byte")[k]
        base = rows.real("plain_energy_pJ_per_useful_byte")[k]
        cells.append(number_cell(energy, fmt.significant(energy), hint=f"plain {fmt.significant(base)} pJ/B"))
        out.append(Row(tuple(cells)))
    note = f"the first {MAX_ROWS} of {fmt.count(len(rows))} rows" if len(rows) > MAX_ROWS else ""
    return Table(
        f"channel-table-{i}",
        f"{label}: the channel with and without compression",
        columns,
        (RowGroup("", tuple(out)),),
        note,
    )


def _cost_table(i: int, label: str, rows: Frame) -> Table | None:
    """Metadata traffic and overflows: what compression costs the channel."""
    hit = rows.real("metadata_hit_rate")
    if not np.isfinite(hit).any():
        return None
    kept = _best_per(rows, ("memory", "packing", "workload"), rows.real("effective_capacity_ratio"))
    columns = (
        Column("memory"),
        Column("packing"),
        Column("workload"),
        Column("metadata hits", "%", True, "higher"),
        Column("metadata traffic", "%", True, "lower"),
        Column("overflows", numeric=True, better="lower"),
        Column("ECC corrected", numeric=True),
        Column("ECC detected", numeric=True),
        Column("ECC miscorrected", numeric=True, better="lower"),
    )
    out = []
    for k in range(min(len(kept), MAX_ROWS)):
        cells = [
            cell(kept.text("memory")[k]),
            cell(kept.text("packing")[k], style="code"),
            cell(kept.text("workload")[k]),
        ]
        for name, scale, digits in (("metadata_hit_rate", 100, 1), ("metadata_traffic_ratio", 100, 2)):
            value = kept.real(name)[k] * scale
            cells.append(number_cell(value, fmt.ABSENT if not np.isfinite(value) else f"{value:.{digits}f}"))
        for name in ("overflows", "ecc_corrected", "ecc_detected", "ecc_miscorrected"):
            value = kept.real(name)[k]
            cells.append(number_cell(value, fmt.count(value)))
        out.append(Row(tuple(cells)))
    return Table(f"channel-cost-{i}", f"{label}: what it costs the channel", columns, (RowGroup("", tuple(out)),))


def _went_table(i: int, label: str, rows: Frame, went: list[dict[str, float]]) -> Table | None:
    """Shares of the time of the sequential run: useful code, metadata, and what the memory itself takes."""
    chosen = [went[int(p)] for p in rows.real("position")]
    names = [n for n in dict.fromkeys(n for w in chosen for n in w) if any(w.get(n, 0) >= 0.005 for w in chosen)]
    if not names:
        return None
    columns = (
        Column("memory"),
        Column("packing"),
        *(Column(name.replace("_", " "), "%", True) for name in names),
        Column("other", "%", True),
    )
    out = []
    for k, shares in enumerate(chosen):
        cells = [cell(rows.text("memory")[k]), cell(rows.text("packing")[k], style="code")]
        values = [100 * shares.get(name, 0.0) for name in names]
        values.append(max(0.0, 100 * sum(shares.values()) - sum(values)))
        cells += [number_cell(v, f"{v:.1f}") for v in values]
        out.append(Row(tuple(cells)))
    return Table(
        f"channel-went-{i}", f"{label}: where the bandwidth went, sequential", columns, (RowGroup("", tuple(out)),)
    )


def _tokens_figure(rows: Frame) -> Plot | None:
    new = rows.real("tokens_per_s")
    old = rows.real("plain_tokens_per_s")
    good = np.isfinite(new) & np.isfinite(old) & (old > 0)
    if not good.any():
        return None
    rows, new, old = rows.where(good), new[good], old[good]
    labels = [_system_label(rows, k) for k in range(min(len(rows), MAX_MARKS))]
    n = len(labels)
    title = "Tokens a second with and without compression"
    alt = "; ".join(f"{labels[k]}: {old[k]:.1f} to {new[k]:.1f} tokens/s" for k in range(n))
    drawn = plots.tokens(labels, old[:n].tolist(), new[:n].tolist())
    return Plot(
        "tokens",
        inline_svg(drawn, "tokens", title, alt),
        title,
        alt,
        "One row a model, accelerator and scenario, with the codec that gains most there. Open circle: without "
        "compression; filled: with it; the number is the speed-up.",
    )


def _system_label(rows: Frame, k: int) -> str:
    cast = rows.text("cast")[k]
    parts = [rows.text("model")[k], rows.text("accelerator")[k], rows.text("scenario")[k]]
    if cast not in ("", "none"):
        parts.append(cast.split(":")[0])
    return ", ".join(parts)


_SYSTEM_COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    # heading, column of the record, how it is written, which is better
    ("weights", "weight_ratio", "ratio", ""),
    ("KV", "kv_ratio", "ratio", ""),
    ("tokens/s", "tokens_per_s", "", "higher"),
    ("plain", "plain_tokens_per_s", "", ""),
    ("speed-up", "speedup", "ratio", "higher"),
    ("closed form", "closed_form_speedup", "ratio", ""),
    ("expected", "expected_speedup", "ratio", "higher"),
    ("low", "expected_speedup_low", "ratio", ""),
    ("high", "expected_speedup_high", "ratio", ""),
    ("TTFT", "ttft_s", "s", "lower"),
    ("plain", "plain_ttft_s", "s", ""),
    ("largest batch", "largest_batch", "count", "higher"),
    ("plain", "plain_largest_batch", "count", ""),
    ("capacity gain", "capacity_gain", "ratio", "higher"),
    ("closed form", "closed_form_capacity_gain", "ratio", ""),
    ("devices", "devices_needed", "count", "lower"),
    ("plain", "plain_devices_needed", "count", ""),
    ("racks", "racks_needed", "", "lower"),
    ("plain", "plain_racks_needed", "", ""),
    ("decoders a device", "decoder_engines_needed", "count", "lower"),
    ("J per million tokens", "energy_J_per_million_tokens", "", "lower"),
    ("plain", "plain_energy_J_per_million_tokens", "", ""),
    ("USD per million tokens", "cost_usd_per_million_tokens", "", "lower"),
    ("plain", "plain_cost_usd_per_million_tokens", "", ""),
)


_STANDING = (("energy", "energy_status"), ("cost", "cost_status"), ("chips a rack", "chips_per_rack_status"))


def _system_table(rows: Frame) -> Table:
    present = [(h, rows.real(name), unit, better) for h, name, unit, better in _SYSTEM_COLUMNS]
    present = [p for p in present if np.isfinite(p[1]).any()]
    columns = (
        Column("model"),
        Column("accelerator"),
        Column("scenario"),
        Column("codec"),
        *(Column(h, numeric=True, better=better) for h, _, _, better in present),
        Column("bound by"),
    )
    out = []
    for k in range(min(len(rows), MAX_ROWS)):
        cells = [
            cell(rows.text("model")[k]),
            cell(rows.text("accelerator")[k]),
            cell(rows.text("scenario")[k]),
            cell(
                rows.text("codec")[k],
                style="code",
                hint=f"packing {rows.text('packing')[k]}, memory {rows.text('memory')[k]}",
            ),
        ]
        for heading, values, unit, _ in present:
            v = float(values[k])
            text = (
                fmt.ratio(v)
                if unit == "ratio"
                else fmt.seconds(v)
                if unit == "s"
                else fmt.count(v)
                if unit == "count"
                else fmt.significant(v)
            )
            cells.append(number_cell(v, text, "muted" if heading in ("plain", "closed form", "low", "high") else ""))
        cells.append(cell(rows.text("bound_by")[k]))
        out.append(Row(tuple(cells)))
    note = f"the first {MAX_ROWS} of {fmt.count(len(rows))} rows. " if len(rows) > MAX_ROWS else ""
    standing = [f"{what} {', '.join(x for x in rows.unique(c) if x)}" for what, c in _STANDING if any(rows.unique(c))]
    if standing:
        note += "Standing of the figures behind energy and cost: " + "; ".join(standing) + "."
    bands = sorted({source for source in rows.unique("band_source") if source})
    if bands:
        note += " Expected speed-up: shares of peak and host time of measured machines; low to high is the 90th "
        note += f"percentile of the residuals there: {'; '.join(bands)}."
    return Table("system-table", "With and without compression", columns, (RowGroup("", tuple(out)),), note)


def _roofline_figure(rows: Frame) -> Plot | None:
    """Prefill and decode of the first system row under the roof of its accelerator."""
    from linepress_hardware.catalog.accelerators import accelerator
    from linepress_hardware.errors import HardwareError
    from linepress_hardware.inference.catalog import model
    from linepress_hardware.inference.precision import parse_precision
    from linepress_hardware.inference.roofline import roofline

    context = rows.real("context_tokens")
    batch = rows.real("batch")
    weight_ratio, kv_ratio = rows.real("weight_ratio"), rows.real("kv_ratio")
    for k in range(len(rows)):
        if not (np.isfinite(context[k]) and np.isfinite(batch[k]) and np.isfinite(weight_ratio[k])):
            continue
        r_w, r_kv = float(weight_ratio[k]), float(np.nan_to_num(kv_ratio[k], nan=1.0)) or 1.0
        name, part = rows.text("model")[k], rows.text("accelerator")[k]
        points: list[plots.RooflinePoint] = []
        try:
            for stage in ("prefill", "decode"):
                result = roofline(
                    model(name),
                    accelerator(part),
                    stage=stage,
                    batch=int(batch[k]),
                    context_tokens=int(context[k]),
                    precision=parse_precision("w16a16kv16"),
                )
                device = result["device"]
                peak, bandwidth = device["peak_Tops"]["matmul"] * 1e12, device["bandwidth_GBps"] * 1e9
                points += _points(stage, result["rows"], peak, bandwidth, r_w, r_kv)
        except HardwareError:
            # A model given by its own config.json is not in the catalogue; the next row may be.
            continue
        title = f"Roofline: {name} on {part}, {int(context[k]):,} tokens, batch {int(batch[k])}"
        alt = "; ".join(f"{p.label} {p.intensity:.3g} op/B, {p.performance / 1e12:.3g} Top/s" for p in points)
        return Plot(
            "roofline",
            inline_svg(plots.roofline(points, peak, bandwidth), "roofline", title, alt),
            title,
            alt,
            "Left of the ridge an operator waits for memory (blue), right of it for arithmetic (orange). Green "
            "rings: the same operators with the measured ratios; only what lies left of the ridge rises.",
        )
    return None


def _points(
    stage: str, rows: list[dict[str, float]], peak: float, bandwidth: float, r_w: float, r_kv: float
) -> list[plots.RooflinePoint]:
    kinds: dict[str, list[dict[str, float]]] = {}
    for r in rows:
        name = str(r["layer"])
        if r["load_weight_B"] > 0 and "norm" not in name:
            kind = "linear layers"
        elif r["load_kv_B"] > 0:
            kind = "attention"
        else:
            kind = "element-wise"
        kinds.setdefault(kind, []).append(r)
    points = []
    for kind, members in kinds.items():
        ops = sum(r["count"] * r["ops"] for r in members)
        memory = sum(r["count"] * r["memory_B"] for r in members)
        saved = sum(
            r["count"] * (r["load_weight_B"] * (1 - 1 / r_w) + r["load_kv_B"] * (1 - 1 / r_kv)) for r in members
        )
        plain, packed = ops / memory, ops / (memory - saved)
        points.append(
            plots.RooflinePoint(
                f"{stage}, {kind}", plain, min(peak, plain * bandwidth), packed, min(peak, packed * bandwidth)
            )
        )
    return points
