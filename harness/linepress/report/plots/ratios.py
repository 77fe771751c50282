"""Plots of ratios: against decode speed, by tensor group, by layer, and the distribution of line sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from linepress.records.summary import Summary, pareto, percentile_bits
from linepress.report.plots.style import GRID, INK, MARKERS, MUTED, canvas, end_labels, legend_above, spread

FEW_SERIES, FEW_LAYERS, PANEL_COLUMNS = 3, 24, 2
"""Up to so many lines lie in one strip with their bounds; more over more layers than that cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Series:
    """Ratios over positions (layers or groups); NaN where nothing was measured."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    bound: tuple[float, ...]


def ratio_against_speed(found: Sequence[Summary], colours: dict[str, str]) -> MplFigure | None:
    """Payload ratio over decode rate, Pareto front in bold; None without two timed variants."""
    timed = [s for s in found if np.isfinite(s.decode_GBps) and np.isfinite(s.payload_ratio)]
    if len(timed) < 2:
        return None
    points = [(s.decode_GBps, s.payload_ratio) for s in timed]
    front = pareto(points)
    with canvas(7.4, 3.9) as (figure, axes):
        ax = axes[0][0]
        ax.set_xscale("log")
        ax.plot(
            [points[i][0] for i in front],
            [points[i][1] for i in front],
            color=GRID,
            linewidth=5,
            zorder=1,
        )
        for i, s in enumerate(timed):
            colour = colours[s.variant]
            if np.isfinite(s.packed_ratio):
                ax.plot([points[i][0]] * 2, [s.packed_ratio, s.payload_ratio], color=colour, lw=1.0, zorder=3)
                ax.plot(points[i][0], s.packed_ratio, "_", color=colour, markersize=9, zorder=3)
            marker = "o" if s.codec_kind == "line" else "s"
            ax.plot(*points[i], marker, color=colour, markersize=8 if i in front else 6, zorder=4)
        xs = np.log10([p[0] for p in points])
        ax.set_xlim(10 ** (xs.min() - 0.12), 10 ** (xs.max() + 0.75))
        ys = [v for s in timed for v in (s.payload_ratio, s.packed_ratio) if np.isfinite(v)]
        ax.set_ylim(min(ys) - 0.04, max(ys) + 0.06)
        gap = (ax.get_ylim()[1] - ax.get_ylim()[0]) * 0.056
        lift = 0.45 * gap
        aside = 10 ** (0.013 * float(np.log10(ax.get_xlim()[1] / ax.get_xlim()[0])))
        for i, y in zip(range(len(timed)), spread([p[1] + lift for p in points], gap), strict=True):
            ax.annotate(
                timed[i].variant,
                points[i],
                xytext=(points[i][0] * aside, y),
                fontsize=8.5,
                fontweight="bold" if i in front else "normal",
                color=colours[timed[i].variant],
                va="center",
                annotation_clip=False,
            )
        _plain_log(ax)
        ax.set_xlabel("decode, GB/s of raw bytes on one core (log scale) → faster")
        ax.set_ylabel("ratio, raw / coded → smaller code")
        return figure


def by_group(
    groups: Sequence[str],
    per_variant: dict[str, list[float]],
    bound: list[float],
    colours: dict[str, str],
) -> MplFigure:
    """Dots of the payload ratio per tensor group, one colour a variant, the bound as a bar."""
    n = len(groups)
    with canvas(7.4, 1.3 + 0.36 * n) as (figure, axes):
        ax = axes[0][0]
        y = np.arange(n)[::-1]
        finite = [v for values in per_variant.values() for v in values if np.isfinite(v)]
        known = [b for b in bound if np.isfinite(b)]
        ax.plot(bound, y, "|", color=INK, markersize=15, markeredgewidth=2, label="bound", zorder=2)
        places = {variant: k for k, variant in enumerate(colours)}
        for variant, values in per_variant.items():
            marker = MARKERS[places[variant] % len(MARKERS)]
            ax.plot(values, y, marker, color=colours[variant], markersize=6, label=variant, zorder=3)
        ax.set_yticks(y, groups)
        ax.set_ylim(-0.6, n - 0.4)
        ax.grid(axis="y", visible=False)
        low, high = min([*finite, 1.0]), max([*finite, *known, 1.05])
        ax.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        ax.set_xlabel("payload ratio, raw / coded →")
        legend_above(figure, ax, columns=4)
        return figure


def layer_strip(series: Sequence[Series], colours: dict[str, str], y_range: tuple[float, float]) -> MplFigure:
    """Ratio by layer, one line a tensor group; the bound of each while there are few, else their mean.

    Lines join neighbouring layers only: between layers that were not measured there is nothing to draw. Two layers
    are dots, since a line would show a course that nobody measured; many groups over many layers get a panel each.
    """
    layers = {x for s in series for x in s.x}
    if len(series) > FEW_SERIES and len(layers) > FEW_LAYERS:
        return _panels(series, colours, y_range)
    joined = "-" if len(layers) > 2 else "none"
    with canvas(7.4, 2.9) as (figure, axes):
        ax = axes[0][0]
        last = max((max(s.x) for s in series if s.x), default=1.0)
        first = min((min(s.x) for s in series if s.x), default=0.0)
        direct = last > first and all(s.x[-1] == last for s in series)
        span = max(last - first, 1.0)
        ax.set_xlim(first - 0.05 * span, last + (0.2 if direct else 0.05) * span)
        ax.set_ylim(*y_range)
        figure.draw_without_rendering()
        ends = []
        size = 4 if last - first > 12 else 6
        for k, s in enumerate(series):
            colour = colours[s.name]
            if len(series) <= FEW_SERIES:
                if len(layers) > 2:
                    ax.plot(*with_gaps(s.x, s.bound), color=colour, lw=1.1, ls=(0, (3, 2)))
                ax.plot(s.x, s.bound, "_", color=colour, markersize=9)
            marker = MARKERS[k % len(MARKERS)]
            ax.plot(*with_gaps(s.x, s.y), color=colour, marker=marker, markersize=size, ls=joined, label=s.name)
            ends.append((s.y[-1], s.name, colour))
        if len(series) > FEW_SERIES:
            x, bound = mean_bound(series)
            if len(layers) > 2:
                ax.plot(*with_gaps(x, bound), color=INK, lw=1.4, ls=(0, (3, 2)))
            ax.plot(x, bound, "_", color=INK, markersize=9, label="mean bound")
            ends += [(bound[-1], "mean bound", INK)] if bound else []
        if direct:
            end_labels(ax, ends, last + 0.03 * span)
        else:
            legend_above(figure, ax, columns=5)
        # One layer alone would otherwise be given ticks at 13.98 and 14.02.
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.set_xlabel("layer")
        ax.set_ylabel("payload ratio →")
        return figure


def _panels(series: Sequence[Series], colours: dict[str, str], y_range: tuple[float, float]) -> MplFigure:
    """A small panel a tensor group, with its own bound, all of one scale; the others lie behind it in grey."""
    rows = -(-len(series) // PANEL_COLUMNS)
    with canvas(7.4, 0.5 + 1.35 * rows, rows, PANEL_COLUMNS, sharex=True, sharey=True) as (figure, axes):
        for ax, s in zip(axes.flat, series, strict=False):
            for other in series:
                if other is not s:
                    ax.plot(*with_gaps(other.x, other.y), color=GRID, lw=0.8)
            ax.plot(*with_gaps(s.x, s.bound), color=INK, lw=0.9, ls=(0, (3, 2)))
            ax.plot(*with_gaps(s.x, s.y), color=colours[s.name], lw=1.3)
            ax.set_title(s.name, color=colours[s.name], fontsize=8.5, fontweight="bold", loc="left")
            ax.set_ylim(*y_range)
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in axes.flat[len(series) :]:
            ax.set_visible(False)
        figure.supxlabel("layer", fontsize=9)
        figure.supylabel("payload ratio →", fontsize=9)
        return figure


def with_gaps(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """The line with a break wherever a layer is missing."""
    xs: list[float] = []
    ys: list[float] = []
    for here, value in zip(x, y, strict=True):
        if xs and here - xs[-1] > 1:
            xs.append(float("nan"))
            ys.append(float("nan"))
        xs.append(here)
        ys.append(value)
    return xs, ys


def mean_bound(series: Sequence[Series]) -> tuple[list[float], list[float]]:
    """Mean of the series' bounds at each position that any of them has."""
    at: dict[float, list[float]] = {}
    for s in series:
        for x, bound in zip(s.x, s.bound, strict=True):
            if np.isfinite(bound):
                at.setdefault(x, []).append(bound)
    xs = sorted(at)
    return xs, [sum(at[x]) / len(at[x]) for x in xs]


def line_sizes(histograms: Sequence[tuple[str, NDArray[np.int64]]], colours: dict[str, str]) -> MplFigure:
    """One small histogram a variant of the coded bytes of a line, with the median and the 99th percentile."""
    n = len(histograms)
    with canvas(7.4, 0.9 + 0.72 * n, rows=n, sharex=True) as (figure, axes):
        for ax, (variant, histogram) in zip(axes[:, 0], histograms, strict=True):
            colour = colours[variant]
            by_byte = np.zeros(66)
            sizes = np.minimum((np.arange(len(histogram)) + 7) // 8, 65)
            np.add.at(by_byte, sizes, histogram)
            share = 100 * by_byte / max(by_byte.sum(), 1)
            ax.bar(np.arange(66), share, width=0.9, color=colour)
            top = max(float(share.max()), 1.0)
            ax.set_ylim(0, top * 1.15)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            ax.grid(axis="y", visible=False)
            p50, p99 = (percentile_bits(histogram, q) / 8 for q in (0.5, 0.99))
            ax.text(0, top * 0.98, variant, color=colour, fontweight="bold", fontsize=8.5, va="top")
            ax.text(
                0,
                top * 0.58,
                f"median {p50:.1f} B, p99 {p99:.1f} B, tallest bar {share.max():.0f} % of lines",
                color=MUTED,
                fontsize=8,
                va="top",
            )
        bottom = axes[-1, 0]
        bottom.set_xlim(-1, 66)
        bottom.set_xticks([0, 8, 16, 24, 32, 40, 48, 56, 64])
        bottom.set_xlabel("coded bytes of a 64 B line → 64 B or more is stored raw")
        return figure


def _plain_log(ax: object) -> None:
    """Log ticks as plain numbers: 0.5, 1, 2, not 10^-0.3."""
    axis = ax.xaxis  # type: ignore[attr-defined]
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())
