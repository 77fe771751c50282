"""What each choice is worth: how far the results of channel and system move when one thing changes."""

from __future__ import annotations

import numpy as np

from linepress.records.frame import Frame
from linepress.report.model import Plot
from linepress.report.plots import sensitivity as plots
from linepress.report.plots.style import inline_svg

# column that tells rows apart -> what it is called
CHANNEL_CHOICES = {
    "memory": "memory",
    "packing": "packing",
    "codec": "codec",
    "decode_latency_ns": "decode latency",
    "workload": "workload",
    "data": "data",
    "cast": "cast",
    "placement": "placement",
}
CHANNEL_RESULTS = {
    "gain_sequential": "sequential gain",
    "gain_random": "random gain",
    "effective_capacity_ratio": "capacity",
    "latency_p50_ns": "median latency",
}
SYSTEM_CHOICES = {
    "packing": "packing",
    "codec": "codec",
    "memory": "memory",
    "cast": "cast",
    "scenario": "scenario",
    "accelerator": "accelerator",
    "model": "model",
}
SYSTEM_RESULTS = {"speedup": "decode speed-up", "capacity_gain": "capacity gain", "ttft_speedup": "TTFT speed-up"}


def of_channel(rows: Frame) -> list[Plot]:
    """What memory, packing, codec, decode latency … change in the channel."""
    figure = _spread_figure("sensitivity-channel", "What each choice changes in the channel", rows, *_CHANNEL)
    return [] if figure is None else [figure]


def of_system(rows: Frame) -> list[Plot]:
    """What packing, codec, scenario, accelerator … change in the system."""
    figure = _spread_figure("sensitivity-system", "What each choice changes in the system", rows, *_SYSTEM)
    return [] if figure is None else [figure]


_CHANNEL = (CHANNEL_CHOICES, CHANNEL_RESULTS)
_SYSTEM = (SYSTEM_CHOICES, SYSTEM_RESULTS)


def spreads(rows: Frame, choices: dict[str, str], results: dict[str, str]) -> dict[str, dict[str, float]]:
    """For each choice that the run varies, by result: largest over smallest value with all other choices equal.

    The figure of a choice is the median over the sets of rows that differ in that choice alone. A numeric column is
    compared as text of its value; a choice that never varies alone is left out.
    """
    columns = dict(rows.columns)
    for name in choices:
        values = rows.columns.get(name)
        if values is not None and values.dtype != object:
            columns[name] = np.array([f"{v:g}" for v in values], dtype=object)
    frame = Frame(columns, rows.n)
    # A codec brings its latency along: neither is held equal while the other varies.
    tied = {"codec": {"decode_latency_ns"}, "decode_latency_ns": {"codec"}}
    present = [name for name in choices if name in columns]
    found: dict[str, dict[str, float]] = {}
    for name in present:
        others = [other for other in present if other != name and other not in tied.get(name, set())]
        groups = [part for _, part in frame.by(*others)] if others else [frame]
        for result, title in results.items():
            factors = []
            for part in groups:
                if len(set(part.text(name))) < 2:
                    continue
                values = part.real(result)
                values = values[np.isfinite(values) & (values > 0)]
                if len(values) > 1:
                    factors.append(float(values.max() / values.min()))
            if factors:
                found.setdefault(choices[name], {})[title] = float(np.median(factors))
    return found


def _spread_figure(
    slug: str, title: str, rows: Frame, choices: dict[str, str], results: dict[str, str]
) -> Plot | None:
    found = spreads(rows, choices, results)
    if not found:
        return None
    said = [
        f"{choice}: " + ", ".join(f"{result} {factor:.2f} times" for result, factor in by.items())
        for choice, by in found.items()
    ]
    alt = "; ".join(said)
    return Plot(
        slug,
        inline_svg(plots.spreads(found), slug, title, alt),
        title,
        alt,
        "How many times the best option of a choice is the worst one, all other choices equal (median over those). "
        "At 1 the choice does not matter for that result. Only what this run varied can be shown.",
    )
