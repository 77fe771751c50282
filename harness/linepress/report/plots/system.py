"""Plots of what a ratio buys: channel gains, tokens a second, the roofline, racks, and claims beside bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullFormatter

from linepress.report.plots.style import GOOD, GRID, INK, MUTED, PAPER, SERIES, canvas, legend_above


@dataclass(frozen=True, slots=True)
class Gain:
    """One memory and packing: gains over the plain channel, closed forms beside; NaN if unknown."""

    label: str
    sequential: float
    random: float
    capacity: float
    closed_sequential: float
    closed_random: float


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """An operator group: intensity in operations a byte, performance in operations a second."""

    label: str
    intensity: float
    performance: float
    compressed_intensity: float
    compressed_performance: float


@dataclass(frozen=True, slots=True)
class ClaimMark:
    """A claimed ratio beside what was measured and what bounds it; NaN if unknown."""

    label: str
    claimed_low: float
    claimed_high: float
    measured: float
    bound: float
    verdict: str


def channel_gains(gains: Sequence[Gain]) -> MplFigure:
    """Gain of bandwidth and capacity over the plain channel, closed forms as bars."""
    n = len(gains)
    with canvas(7.4, 1.25 + 0.4 * n) as (figure, axes):
        ax = axes[0][0]
        y = np.arange(n)[::-1].astype(float)
        ax.axvline(1.0, color=INK, lw=1.2)
        for values, closed, marker, colour, name, shift in (
            ([g.sequential for g in gains], [g.closed_sequential for g in gains], "o", SERIES[0], "sequential", 0.18),
            ([g.random for g in gains], [g.closed_random for g in gains], "s", SERIES[1], "random", 0.0),
            ([g.capacity for g in gains], None, "D", SERIES[2], "capacity", -0.18),
        ):
            ax.hlines(y + shift, 1.0, values, color=colour, lw=1.4, alpha=0.6)
            if closed is not None:
                ax.plot(closed, y + shift, "|", color=colour, markersize=11, markeredgewidth=2)
            ax.plot(values, y + shift, marker, color=colour, markersize=5.5, label=name)
        ax.plot([], [], "|", color=MUTED, markersize=11, markeredgewidth=2, label="closed form")
        ax.set_yticks(y, [g.label for g in gains])
        ax.set_ylim(-0.6, n - 0.4)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("gain over the same channel without compression → (1 = no gain)")
        legend_above(figure, ax, columns=4)
        return figure


def tokens(labels: Sequence[str], plain: Sequence[float], compressed: Sequence[float]) -> MplFigure:
    """Tokens a second without and with compression, joined by a line."""
    n = len(labels)
    with canvas(7.4, 1.2 + 0.36 * n) as (figure, axes):
        ax = axes[0][0]
        y = np.arange(n)[::-1]
        ax.set_xscale("log")
        ax.hlines(y, plain, compressed, color=MUTED, lw=2)
        ax.plot(plain, y, "o", color=PAPER, markeredgecolor=MUTED, markeredgewidth=1.6, markersize=6.5, label="plain")
        ax.plot(compressed, y, "o", color=GOOD, markersize=7, label="compressed")
        for yi, a, b in zip(y, plain, compressed, strict=True):
            if a > 0 and np.isfinite(b):
                ax.annotate(
                    f"{b / a:.2f}×",
                    (max(a, b), yi),
                    xytext=(7, 0),
                    textcoords="offset points",
                    fontsize=8.5,
                    va="center",
                )
        ax.set_yticks(y, list(labels))
        ax.set_ylim(-0.6, n - 0.4)
        ax.grid(axis="y", visible=False)
        low, high = min([*plain, *compressed]), max([*plain, *compressed])
        ax.set_xlim(low / 1.3, high * 1.6)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 10 else f"{v:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("tokens/s, all devices of the scenario (log scale) →")
        legend_above(figure, ax, columns=2)
        return figure


def roofline(points: Sequence[RooflinePoint], peak_ops: float, bandwidth_Bps: float) -> MplFigure:
    """Operators under the roof of an accelerator; rings show where compression moves them."""
    with canvas(7.4, 4.0) as (figure, axes):
        ax = axes[0][0]
        ridge = peak_ops / bandwidth_Bps
        lows = [p.intensity for p in points if p.intensity > 0]
        x = np.array([min([*lows, 0.1]) / 2, ridge, max([*(p.intensity for p in points), ridge]) * 12])
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.plot(x, np.minimum(peak_ops, x * bandwidth_Bps) / 1e12, color=INK, lw=2.2)
        ax.axvline(ridge, color=GRID, lw=1.2, ls="--")
        ax.text(
            ridge * 1.08, x[0] * bandwidth_Bps * 1.15 / 1e12, f"ridge {ridge:.0f} op/B", fontsize=8.5, color=MUTED
        )
        for p in points:
            colour = SERIES[0] if p.intensity < ridge else SERIES[1]
            ax.plot(p.intensity, p.performance / 1e12, "o", color=colour, markersize=6)
            if np.isfinite(p.compressed_intensity) and p.compressed_intensity > p.intensity * 1.01:
                ax.plot(
                    p.compressed_intensity,
                    p.compressed_performance / 1e12,
                    "o",
                    color=PAPER,
                    markeredgecolor=SERIES[2],
                    markeredgewidth=1.6,
                    markersize=6,
                )
        # Labels hang to the lower right, where no roof can cross them.
        places = _spread_log([0.62 * p.performance / 1e12 for p in points], 0.19)
        for p, y in zip(points, places, strict=True):
            ax.annotate(
                p.label,
                (p.intensity, p.performance / 1e12),
                xytext=(p.intensity * 1.35, y),
                fontsize=8.5,
                va="center",
                color=INK,
            )
        ax.set_xlim(x[0], x[-1])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 10 else f"{v:g}"))
            axis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("arithmetic intensity, operations a byte (log scale)")
        ax.set_ylabel("Top/s (log scale)")
        return figure


def claims(marks: Sequence[ClaimMark]) -> MplFigure:
    """Claimed figure, measured figure and bound of each ratio claim."""
    n = len(marks)
    with canvas(7.4, 1.3 + 0.38 * n) as (figure, axes):
        ax = axes[0][0]
        y = np.arange(n)[::-1]
        for yi, m in zip(y, marks, strict=True):
            ax.plot([m.measured, m.claimed_low], [yi, yi], color=GRID, lw=3, zorder=1, solid_capstyle="round")
        ax.plot(
            [m.bound for m in marks], y, "|", color=INK, markersize=15, markeredgewidth=2, label="bound", zorder=2
        )
        ax.plot(
            [m.claimed_low for m in marks],
            y,
            "D",
            color=PAPER,
            markeredgecolor=SERIES[3],
            markeredgewidth=1.7,
            markersize=7,
            label="claimed",
            zorder=3,
        )
        for verdict, colour in (("reproduced", GOOD), ("not reproduced", SERIES[4])):
            chosen = [(m.measured, yi) for m, yi in zip(marks, y, strict=True) if m.verdict == verdict]
            if chosen:
                ax.plot(
                    *zip(*chosen, strict=True),
                    "o",
                    color=colour,
                    markersize=7,
                    label=f"measured, {verdict}",
                    zorder=4,
                )
        ax.set_yticks(y, [m.label for m in marks])
        ax.set_ylim(-0.6, n - 0.4)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("ratio, raw / coded →")
        legend_above(figure, ax, columns=4)
        return figure


def _spread_log(values: Sequence[float], gap: float) -> list[float]:
    from linepress.report.plots.style import spread

    return [10**v for v in spread([float(np.log10(max(v, 1e-30))) for v in values], gap)]
