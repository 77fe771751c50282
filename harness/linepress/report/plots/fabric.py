"""Plots of the scale-up fabric: collectives over size, round trips over load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullFormatter, SymmetricalLogLocator

from linepress.report.plots.style import INK, MARKERS, MUTED, PAPER, SERIES, canvas, spread


@dataclass(frozen=True, slots=True)
class Curve:
    """One topology and operation over the bytes of a device's message.

    `size_bytes`, `time_s`, `bus_GBps` are the curve (closed form, or the bound where `bound_only`); the marks are
    what the packet simulation gave, `packed_*` with compressed messages.
    """

    label: str
    size_bytes: Sequence[float]
    time_s: Sequence[float]
    bus_GBps: Sequence[float]
    mark_bytes: Sequence[float] = ()
    mark_s: Sequence[float] = ()
    mark_GBps: Sequence[float] = ()
    packed_s: Sequence[float] = ()
    packed_GBps: Sequence[float] = ()
    packed_mark_s: Sequence[float] = ()
    packed_mark_GBps: Sequence[float] = ()
    bound_only: bool = False


@dataclass(frozen=True, slots=True)
class LoadCurve:
    """Round trips of one topology over the load, ns; `alone_ns` is the closed form."""

    label: str
    load: Sequence[float]
    p50_ns: Sequence[float]
    p999_ns: Sequence[float]
    alone_ns: float
    hot_p999_ns: Sequence[float] = field(default_factory=tuple)


def over_size(curves: Sequence[Curve]) -> MplFigure:
    """Time and bus bandwidth over size: lines are closed forms, marks the simulation; solid is compressed."""
    packed = any(len(c.packed_s) for c in curves)
    with canvas(7.4, 6.4, rows=2, sharex=True) as (figure, axes):
        for row, (ax, scale) in enumerate(zip(axes[:, 0], (1e6, 1.0), strict=True)):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ends = []
            for k, c in enumerate(curves):
                colour, marker = SERIES[k % len(SERIES)], MARKERS[k % len(MARKERS)]
                line, marks = (c.time_s, c.mark_s) if row == 0 else (c.bus_GBps, c.mark_GBps)
                dense, packed_marks = (
                    (c.packed_s, c.packed_mark_s) if row == 0 else (c.packed_GBps, c.packed_mark_GBps)
                )
                style: Any = ":" if c.bound_only else (0, (4, 2)) if len(dense) else "-"
                ax.plot(c.size_bytes, _scaled(line, scale), color=colour, lw=1.5, ls=style)
                if len(dense):
                    ax.plot(c.size_bytes, _scaled(dense, scale), color=colour, lw=1.8)
                ax.plot(
                    c.mark_bytes,
                    _scaled(marks, scale),
                    marker,
                    color=PAPER,
                    markeredgecolor=colour,
                    markeredgewidth=1.5,
                    markersize=6,
                )
                if len(packed_marks):
                    ax.plot(c.mark_bytes, _scaled(packed_marks, scale), marker, color=colour, markersize=6)
                last = (dense if len(dense) else line)[-1] * scale
                ends.append((float(last), c.label, colour))
            _log_end_labels(ax, ends, max(float(c.size_bytes[-1]) for c in curves) * 1.25)
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _binary(v)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].set_ylabel("time, µs (log scale)")
        axes[1, 0].set_ylabel("bus bandwidth, GB/s (log scale) →")
        axes[1, 0].set_xlabel("bytes of a device's message (log scale)")
        low = min(float(c.size_bytes[0]) for c in curves)
        axes[1, 0].set_xlim(low * 0.8, max(float(c.size_bytes[-1]) for c in curves) * 1.1)
        ax = axes[0, 0]
        ax.plot([], [], "-", color=MUTED, label="closed form" + (", compressed" if packed else ""))
        if packed:
            ax.plot([], [], ls=(0, (4, 2)), color=MUTED, label="closed form, plain")
        if any(c.bound_only for c in curves):
            ax.plot([], [], ":", color=MUTED, label="bound (no closed form)")
        ax.plot(
            [], [], "o", color=PAPER, markeredgecolor=MUTED, label="packet simulation" + (", plain" if packed else "")
        )
        if packed:
            ax.plot([], [], "o", color=MUTED, label="packet simulation, compressed")
        ax.legend(loc="upper left", fontsize=8.5)
        return figure


def over_load(curves: Sequence[LoadCurve], limit_ns: float) -> MplFigure:
    """Round trip of 64 B against load: everyone to everyone, and with a share of the accesses to one peer."""
    with canvas(7.4, 4.2, cols=2, sharey=True) as (figure, axes):
        left, right = axes[0]
        for ax, title in ((left, "random peers"), (right, "2 % of the reads to one peer")):
            ax.set_title(title)
            ax.set_yscale("log")
            ax.axhline(limit_ns, color=INK, lw=1.2, ls=(0, (1, 1.5)))
            ax.set_xlabel("load of the links, %")
            ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 3, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
        ends = []
        for k, c in enumerate(curves):
            colour, marker = SERIES[k % len(SERIES)], MARKERS[k % len(MARKERS)]
            x = [100 * share for share in c.load]
            left.axhline(c.alone_ns, color=colour, lw=1.2, ls=(0, (4, 2)))
            left.plot(x, c.p50_ns, color=colour, lw=1.2)
            left.plot(x, c.p999_ns, marker, color=colour, markersize=5)
            right.plot(x, c.hot_p999_ns, marker, color=colour, ls="-", lw=1.5, markersize=5)
            ends.append((float(c.hot_p999_ns[-1]), c.label, colour))
        left.set_ylabel("round trip, ns (log scale)")
        left.text(100 * min(curves[0].load), limit_ns * 1.03, f"{limit_ns / 1e3:g} µs", fontsize=8.5, color=INK)
        _log_end_labels(right, ends, 100 * max(curves[0].load) + 4)
        left.plot([], [], ls=(0, (4, 2)), color=MUTED, label="closed form")
        left.plot([], [], "-", color=MUTED, lw=1.2, label="median")
        left.plot([], [], "o", color=MUTED, markersize=5, label="99.9th percentile")
        left.legend(loc="upper left", fontsize=8.5)
        values = [v for c in curves for v in (*c.p50_ns, *c.hot_p999_ns)]
        left.set_ylim(0.85 * min(values), 1.6 * max(values))
        return figure


def _scaled(values: Sequence[float], factor: float) -> list[float]:
    return [float(v) * factor for v in values]


def _log_end_labels(ax: Any, ends: Sequence[tuple[float, str, str]], x: float) -> None:
    """`end_labels` on a logarithmic axis: apart by their distance on paper."""
    if not ends:
        return
    low, high = ax.get_ylim()
    height_pt = ax.get_window_extent().height * 72 / ax.figure.dpi or 200.0
    gap = (np.log10(high) - np.log10(low)) * 11.0 / height_pt
    places = spread([float(np.log10(max(y, 1e-30))) for y, _, _ in ends], gap)
    for (_, text, colour), place in zip(ends, places, strict=True):
        ax.annotate(text, (x, 10**place), color=colour, fontsize=8.5, va="center", annotation_clip=False)


def _binary(size_bytes: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:g} {unit}"
    return f"{size_bytes:g} B"


__all__ = ["Curve", "LoadCurve", "over_load", "over_size"]
