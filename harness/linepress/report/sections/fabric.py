"""The scale-up fabric: collectives over size, round trips over load, and what a topology consists of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from linepress.records.frame import Frame
from linepress.report.model import Plot, Section
from linepress.report.plots import fabric as plots
from linepress.report.plots.style import inline_svg
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell

MAX_ROWS = 120
MAX_CURVES = 6
MAX_FIGURES = 4
LIMIT_NS = 1000.0
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
REQUESTS = 10_000
MOST_PACKETS = 20_000
# Packaged topologies and collectives that stand beside those of a run: (topology, operation, algorithm).
STANDING = (
    ("dgx-h100", "all_reduce", "ring"),
    ("mi300x-8", "all_reduce", "direct"),
    ("nvl72", "all_reduce", "ring"),
    ("nvl72", "all_reduce", "in-network"),
    ("torus-8x8", "all_reduce", "bucket"),
    ("nvl72", "all_to_all", "direct"),
)
LOADED = ("mi300x-8", "nvl72", "ualink-256", "ualink-1024-leaf-spine")


def fabric(view: RunView) -> Section:
    """What compressed messages buy on the links, and how far one switch level carries."""
    section = Section(
        "fabric",
        "Scale-up fabric",
        "Collectives with messages compressed line by line, in closed form and packet by packet; then what the "
        "packaged topologies do with a 64 B read as load grows. The simulation is never faster than the closed form; "
        "where it is slower, messages wait for each other.",
        short="Fabric",
    )
    rows = view.fabric.equal(status="ok")
    if len(rows):
        for i, (title, curves) in enumerate(_run_curves(rows)):
            if i == MAX_FIGURES:
                break
            section.parts.append(_size_figure(f"fabric-run-{i}", title, curves))
        section.parts.append(_rows_table(rows))
    else:
        section.parts.append(Note("This run has no fabric stage; what follows needs none."))
    section.parts += [
        _standing_figure(),
        _machine_table(),
        _load_figure(),
        _scale_table(),
    ]
    return section


def _run_curves(rows: Frame) -> Iterator[tuple[str, list[plots.Curve]]]:
    """For each accelerator, codec and data, curves by topology, operation, algorithm and number of devices."""
    for (accelerator, codec, data, packing), part in rows.by("accelerator", "codec", "data", "packing"):
        curves = []
        for (topology, operation, algorithm), own in part.by("topology", "operation", "algorithm"):
            for devices in sorted(set(own.real("devices"))):
                curves.append(_run_curve(topology, operation, algorithm, own.where(own.real("devices") == devices)))
        said = "KV cache" if data == "kv" else data
        for k in range(0, len(curves), MAX_CURVES):
            some = f", {k // MAX_CURVES + 1}" if len(curves) > MAX_CURVES else ""
            yield f"{accelerator}: {codec} on {said}, {packing}{some}", curves[k : k + MAX_CURVES]


def _run_curve(topology: str, operation: str, algorithm: str, rows: Frame) -> plots.Curve:
    order = np.argsort(rows.real("size_bytes"), kind="stable")
    n = int(rows.real("devices")[0])
    size = rows.real("size_bytes")[order]

    def taken(name: str) -> list[float]:
        return [float(v) for v in rows.real(name)[order]]

    factors = rows.real("plain_bus_bandwidth_GBps")[order] * rows.real("plain_time_s")[order]
    simulated, packed_simulated = taken("plain_simulated_s"), taken("simulated_s")
    form = _closed_form(rows, topology, operation, algorithm)
    line = form or {
        "size_bytes": size.tolist(),
        "plain_time_s": taken("plain_time_s"),
        "plain_bus_bandwidth_GBps": taken("plain_bus_bandwidth_GBps"),
        "time_s": taken("time_s"),
        "bus_bandwidth_GBps": taken("bus_bandwidth_GBps"),
    }
    return plots.Curve(
        f"{topology} {n}, {_said(operation, algorithm)}",
        line["size_bytes"],
        line["plain_time_s"],
        line["plain_bus_bandwidth_GBps"],
        size.tolist(),
        simulated,
        [f / s for f, s in zip(factors, simulated, strict=True)],
        line["time_s"],
        line["bus_bandwidth_GBps"],
        packed_simulated,
        [f / s for f, s in zip(factors, packed_simulated, strict=True)],
        bound_only=not np.isfinite(rows.real("plain_closed_form_s")).any(),
    )


def _closed_form(rows: Frame, topology: str, operation: str, algorithm: str) -> dict[str, list[float]] | None:
    """The closed form between and beyond the sizes of the run; None where there is none or the run lacks it."""
    from linepress.stages.fabric import FabricCase, fabric_case
    from linepress_hardware.errors import HardwareError

    encode_ns, decode_ns = rows.real("encode_latency_ns"), rows.real("decode_latency_ns")
    if not (np.isfinite(encode_ns).all() and np.isfinite(decode_ns).all() and len(set(rows.real("ratio"))) == 1):
        return None
    if not np.isfinite(rows.real("plain_closed_form_s")).all():
        return None
    low, high = np.log2(rows.real("size_bytes").min()), np.log2(rows.real("size_bytes").max())
    line: dict[str, list[float]] = {}
    for size_bytes in 2.0 ** np.arange(np.floor(low) - 3, np.ceil(high) + 4, 0.5):
        try:
            found = fabric_case(
                FabricCase(
                    rows.text("accelerator")[0],
                    topology,
                    operation,
                    int(rows.real("devices")[0]),
                    int(size_bytes),
                    rows.text("codec")[0],
                    rows.text("data")[0],
                    rows.text("packing")[0],
                    float(rows.real("ratio")[0]),
                    float(encode_ns[0]),
                    float(decode_ns[0]),
                    algorithm if operation == "all_reduce" else "",
                    simulate=False,
                )
            )
        except HardwareError:
            return None  # a part that this machine's data files do not have
        for name in ("size_bytes", "plain_time_s", "plain_bus_bandwidth_GBps", "time_s", "bus_bandwidth_GBps"):
            line.setdefault(name, []).append(float(found[name]))
    return line


def _said(operation: str, algorithm: str) -> str:
    words = operation.replace("_", "-")
    return f"{words} {algorithm}" if operation == "all_reduce" and algorithm else words


@cache
def standing_curves() -> tuple[plots.Curve, ...]:
    """Closed form and simulation of `STANDING`, sizes 1 KiB to 1 GiB.

    A program of more packets than a report should wait for is left to the closed form, as the lack of a mark shows.
    """
    from linepress_hardware.fabric.collectives import bus_bandwidth_factor
    from linepress_hardware.fabric.evaluate import closed_form_s, collective, fabric_of
    from linepress_hardware.fabric.topologies import topology

    curves = []
    sizes = [2.0**k for k in range(10, 31)]
    for name, operation, algorithm in STANDING:
        on = fabric_of(topology(name))
        factor = bus_bandwidth_factor(operation, on.network.n) / 1e9
        forms = [closed_form_s(on, operation, algorithm, size) for size in sizes]
        times = [float("nan") if t is None else t for t in forms]
        runs = [
            collective(on, size, operation=operation, algorithm=algorithm, max_packets=MOST_PACKETS)
            for size in sizes[::4]
        ]
        done = [r for r in runs if r["method"] == "simulation"]
        curves.append(
            plots.Curve(
                f"{name}, {_said(operation, algorithm)}",
                sizes,
                times,
                [factor * size / t for size, t in zip(sizes, times, strict=True)],
                [r["size_bytes"] for r in done],
                [r["plain_time_s"] for r in done],
                [r["plain_bus_bandwidth_GBps"] for r in done],
            )
        )
    return tuple(curves)


@cache
def load_curves() -> tuple[plots.LoadCurve, ...]:
    """Round trips of 64 B reads on `LOADED` over `LOADS`, packet by packet."""
    from linepress_hardware.fabric.round_trip import loaded_round_trips, round_trip
    from linepress_hardware.fabric.topologies import topology

    curves = []
    for name in LOADED:
        one = topology(name)
        plain = [loaded_round_trips(one, load, requests=REQUESTS) for load in LOADS]
        hot = [loaded_round_trips(one, load, requests=REQUESTS, hot_share=0.02) for load in LOADS]
        alone = round_trip(one.link, one.switch, one.levels).total_ns
        curves.append(
            plots.LoadCurve(
                f"{name}",
                LOADS,
                [r["p50_ns"] for r in plain],
                [r["p999_ns"] for r in plain],
                alone,
                [r["p999_ns"] for r in hot],
            )
        )
    return tuple(curves)


def _size_figure(slug: str, title: str, curves: list[plots.Curve]) -> Plot:
    ends = [f"{c.label}: {fmt.seconds(c.time_s[-1])}, {c.bus_GBps[-1]:.3g} GB/s" for c in curves]
    alt = f"largest message, plain: {'; '.join(ends)}"
    packed = any(len(c.packed_s) for c in curves)
    caption = (
        "Top: time, lower is better; flat where latency rules. Bottom: bus bandwidth, the payload rate that the "
        "links would show were the operation a plain copy. Marks on their line: simulation and closed form agree; "
        "a line without marks was too long to simulate here. Where a line stays level although messages grow, "
        "each packet more goes over a parallel link of its own."
    )
    if packed:
        caption += (
            " Solid and filled: compressed; dashed and open: plain. Compression costs where the codec's latency "
            "outweighs the bytes it saves, at the left, and gains at the right."
        )
    drawn = inline_svg(plots.over_size(curves), slug, title, alt)
    return Plot(slug, drawn, title, alt, caption)


@cache
def _standing_figure() -> Plot:
    """The same in every report, as is `_load_figure`: drawn once in a process."""
    return _size_figure("fabric-size", "Collectives of packaged topologies, plain", list(standing_curves()))


@cache
def _load_figure() -> Plot:
    curves = list(load_curves())
    alt = "; ".join(
        f"{c.label}: closed form {c.alone_ns:,.0f} ns, 99.9th percentile at {c.load[-1]:.0%} load "
        f"{c.p999_ns[-1]:,.0f} ns, {c.hot_p999_ns[-1]:,.0f} ns with a hot peer"
        for c in curves
    )
    title = "Round trip of a 64 B read against load"
    return Plot(
        "fabric-load",
        inline_svg(plots.over_load(curves, LIMIT_NS), "fabricload", title, alt),
        title,
        alt,
        f"{REQUESTS:,} reads with Poisson arrivals, seeded, packet by packet. Left: with random peers queues stay "
        "short nearly up to full links, and the number of switches decides. Right: one popular peer fills the queue "
        "before it; its share grows with the number of readers, so the tail depends on traffic and not on the links. "
        "In a mesh each reader has a link of its own to that peer, and nothing queues.",
    )


def _rows_table(rows: Frame) -> Table:
    columns = (
        Column("topology"),
        Column("operation"),
        Column("devices", numeric=True),
        Column("size", numeric=True),
        Column("codec"),
        Column("ratio", numeric=True),
        Column("time", numeric=True, better="lower", hint="with compression"),
        Column("closed form", numeric=True),
        Column("simulated", numeric=True),
        Column("waits", "%", True, "lower", "simulated over closed form"),
        Column("plain", numeric=True),
        Column("speed-up", numeric=True, better="higher"),
        Column("bus bandwidth", "GB/s", True, "higher"),
        Column("plain", "GB/s", True),
        Column("on a machine", numeric=True, hint="plain, measured curves of this number and size"),
        Column("speed-up there", numeric=True, better="higher", hint="against the plain machine at its best"),
    )
    out = []
    for k in range(min(len(rows), MAX_ROWS)):
        value = {name: float(rows.real(name)[k]) for name in _NUMBERS}
        waits = 100 * (value["simulated_s"] / value["closed_form_s"] - 1)
        # Both add up the same terms in another order; what is left of that is no waiting.
        waits = 0.0 if abs(waits) < 1e-6 else waits
        gain = value["speedup"]
        style = "" if not np.isfinite(gain) else "good" if gain > 1.005 else "bad" if gain < 0.995 else ""
        out.append(
            Row(
                (
                    cell(f"{rows.text('topology')[k]}, {rows.text('link')[k]}", hint=rows.text("accelerator")[k]),
                    cell(_said(rows.text("operation")[k], rows.text("algorithm")[k])),
                    number_cell(value["devices"], fmt.count(value["devices"])),
                    number_cell(value["size_bytes"], fmt.bytes_si(value["size_bytes"])),
                    cell(rows.text("codec")[k], style="code", hint=f"packing {rows.text('packing')[k]}"),
                    number_cell(value["ratio"], fmt.ratio(value["ratio"])),
                    number_cell(value["time_s"], fmt.seconds(value["time_s"])),
                    number_cell(value["closed_form_s"], fmt.seconds(value["closed_form_s"]), "muted"),
                    number_cell(value["simulated_s"], fmt.seconds(value["simulated_s"]), "muted"),
                    number_cell(waits, fmt.ABSENT if not np.isfinite(waits) else f"{waits:.2f}"),
                    number_cell(value["plain_time_s"], fmt.seconds(value["plain_time_s"]), "muted"),
                    number_cell(gain, fmt.ratio(gain), style),
                    number_cell(value["bus_bandwidth_GBps"], fmt.significant(value["bus_bandwidth_GBps"])),
                    number_cell(
                        value["plain_bus_bandwidth_GBps"], fmt.significant(value["plain_bus_bandwidth_GBps"]), "muted"
                    ),
                    number_cell(value["plain_machine_s"], fmt.seconds(value["plain_machine_s"]), hint=_band(value)),
                    number_cell(value["machine_speedup"], fmt.ratio(value["machine_speedup"])),
                )
            )
        )
    note = f"the first {MAX_ROWS} of {fmt.count(len(rows))} rows" if len(rows) > MAX_ROWS else ""
    return Table(
        "fabric-table",
        "Collectives with and without compressed messages",
        columns,
        (RowGroup("", tuple(out)),),
        note,
    )


_NUMBERS = (
    "devices",
    "size_bytes",
    "ratio",
    "time_s",
    "closed_form_s",
    "simulated_s",
    "plain_time_s",
    "speedup",
    "bus_bandwidth_GBps",
    "plain_bus_bandwidth_GBps",
    "plain_machine_s",
    "machine_speedup",
    "machine_band",
)


def _band(value: dict[str, float]) -> str:
    """What held-out rows of a machine differ by; "" without any."""
    share = value["machine_band"]
    return f"held-out rows of this machine within {100 * share:.0f} %" if np.isfinite(share) else ""


def _machine_table() -> Table:
    """All-reduces of measured machines by size and number, beside what the wires of such a topology allow."""
    from linepress_hardware.fabric.collectives import bus_bandwidth_factor
    from linepress_hardware.fabric.curves import collective_time, systems

    columns = (
        Column("machine"),
        Column("devices", numeric=True),
        Column("size", numeric=True),
        Column("time", numeric=True, better="lower"),
        Column("bus bandwidth", "GB/s", True, "higher"),
        Column("by"),
        Column("rows"),
        Column(
            "held out within", "%", True, "lower", "largest error of rows of 1 MiB and more that no curve has seen"
        ),
    )
    out = []
    for name, n in (("h100-sxm", 2), ("h100-sxm", 8), ("a100-sxm", 8), ("b200-sxm", 8), ("gb200", 4), ("gb200", 72)):
        for size in (16 * 2**10, 2**20, 2**26, 2**30):
            one = collective_time(name, "all_reduce", n, size)
            bus = bus_bandwidth_factor("all_reduce", n) * size / one.time_s / 1e9
            share = one.band
            worst = float("nan") if share is None else 100 * share
            out.append(
                Row(
                    (
                        cell(name, hint=systems()[name].title),
                        number_cell(n, fmt.count(n)),
                        number_cell(size, fmt.bytes_si(size)),
                        number_cell(one.time_s, fmt.seconds(one.time_s)),
                        number_cell(bus, fmt.significant(bus)),
                        cell(one.curve, style="code"),
                        cell(
                            f"of {n}" if one.measured_n else "other numbers, closed form",
                            hint=one.basis,
                        ),
                        number_cell(worst, fmt.significant(worst)),
                    )
                )
            )
    return Table(
        "fabric-machines",
        "All-reduce on measured machines",
        columns,
        (RowGroup("", tuple(out)),),
        "Curves calibrated on published rows; the library takes the least time. Nothing transfers to a machine "
        "without rows. `linepress fabric collective` shows every size, `--check` the rows held out.",
    )


def _scale_table() -> Table:
    """What each packaged topology consists of, and the round trip that its switch levels allow."""
    from linepress_hardware.fabric.round_trip import round_trip
    from linepress_hardware.fabric.topologies import topologies

    columns = (
        Column("topology"),
        Column("kind"),
        Column("accelerators", numeric=True),
        Column("racks", numeric=True),
        Column("links", numeric=True, better="lower"),
        Column("switches", numeric=True, better="lower"),
        Column("switches one way", numeric=True, better="lower"),
        Column("64 B read", "ns", True, "lower", "closed form, nobody else on the links"),
        Column("below 1 µs"),
        Column("a device", "GB/s", True, "higher"),
        Column("bisection", "TB/s", True, "higher"),
        Column("links' power", "kW", True, "lower", "rate × 2 × links × pJ/bit of the medium"),
        Column("medium"),
        Column("standing"),
    )
    out = []
    for name, one in topologies().items():
        counts: dict[str, Any] = one.counts()
        direct = one.kind in ("ring", "torus")
        trip = float("nan") if direct else round_trip(one.link, one.switch, one.levels).total_ns
        # A ring or torus forwards through accelerators: its round trip depends on the distance.
        below = "–" if direct else "yes" if trip < LIMIT_NS else "no"
        out.append(
            Row(
                (
                    cell(name, hint=f"{one.title}; {one.source}"),
                    cell(one.kind),
                    number_cell(one.accelerators, fmt.count(one.accelerators)),
                    number_cell(one.racks, fmt.count(one.racks)),
                    number_cell(one.links, fmt.count(one.links), hint=one.link.title),
                    number_cell(
                        one.switch_count,
                        fmt.count(one.switch_count),
                        hint="" if one.switch is None else f"{one.switch.title}, {one.radix} ports at this rate",
                    ),
                    number_cell(one.most_switches, fmt.count(one.most_switches)),
                    number_cell(trip, fmt.significant(trip, 4)),
                    cell(below, style="" if direct else "good" if below == "yes" else "bad"),
                    number_cell(one.bandwidth_GBps, fmt.significant(one.bandwidth_GBps)),
                    number_cell(one.bisection_GBps / 1e3, fmt.significant(one.bisection_GBps / 1e3)),
                    number_cell(counts["link_W"] / 1e3, fmt.significant(counts["link_W"] / 1e3)),
                    cell(one.medium),
                    cell(one.status),
                )
            )
        )
    note = (
        "A round trip under 1 µs and 1,024 accelerators hold together only with one switch level, which asks for "
        "1,024 ports a switch; no such switch is known. Figures and sources: `linepress fabric topology NAME`."
    )
    return Table(
        "fabric-topologies",
        "Packaged topologies: scale against round trip",
        columns,
        (RowGroup("", tuple(out)),),
        note,
    )
