"""Ratio against decode latency against area, one mark a codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from linepress.report.plots.style import INK, MUTED, PAPER, SERIES, canvas, spread

AREA_POINTS = 0.02
"""Square points of a mark for each µm²: 25,000 µm² come out 25 points wide."""
PLAIN_POINTS = 28.0
LABEL_SHARE, LABEL_REACH = 0.045, 2.5
"""Height of a label as a share of the axis, and how many times a mark's latency its label may cover."""
TICKS_NS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True, slots=True)
class Mark:
    """A codec, or a published decompressor: ``area_um2`` None where nobody built or stated one."""

    name: str
    ratio: float
    latency_ns: float
    area_um2: float | None
    standing: str


def decoders(marks: Sequence[Mark], published: Sequence[Mark]) -> MplFigure:
    """Latency across (logarithmic), ratio up, area as the area of the mark; hollow where the latency is estimated."""
    with canvas(7.4, 4.2) as (figure, axes):
        ax = axes[0][0]
        ax.set_xscale("log")
        ax.margins(x=0.08, y=0.14)
        ax.xaxis.set_major_locator(FixedLocator(TICKS_NS))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        for i, mark in enumerate(marks):
            colour = SERIES[i % len(SERIES)]
            built = mark.standing == "simulated"
            size = PLAIN_POINTS if mark.area_um2 is None else max(AREA_POINTS * mark.area_um2, PLAIN_POINTS)
            ax.scatter(
                [mark.latency_ns], [mark.ratio], s=size, marker="o", facecolor=colour if built else PAPER,
                edgecolor=colour, linewidth=1.6, alpha=0.85, zorder=3,
            )  # fmt: skip
        for mark in published:
            size = PLAIN_POINTS if mark.area_um2 is None else AREA_POINTS * mark.area_um2
            ax.scatter(
                [mark.latency_ns], [mark.ratio], s=size, marker="D", facecolor="none", edgecolor=MUTED, zorder=2
            )
        every = [*marks, *published]
        low, high = ax.get_ylim()
        gap = (high - low) * LABEL_SHARE
        decade = ax.get_window_extent().width * 72 / figure.dpi / math.log10(ax.get_xlim()[1] / ax.get_xlim()[0])
        for left in (False, True):
            chosen = [mark for mark in every if _labelled_left(mark, every, gap) == left]
            for mark, place in zip(chosen, spread([mark.ratio for mark in chosen], gap), strict=True):
                radius = math.sqrt(AREA_POINTS * mark.area_um2) / 2 if mark.area_um2 else 3.0
                beyond = 0.0 if left else decade * math.log10(max(_near(mark, every, gap)))
                away = 5 + radius + beyond
                ax.annotate(
                    mark.name, (mark.latency_ns, mark.ratio), xytext=(-away if left else away, place),
                    textcoords=("offset points", "data"), fontsize=8, color=MUTED if mark in published else INK,
                    ha="right" if left else "left", va="center", annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": radius},
                )  # fmt: skip
        ax.set_xlabel("decode latency by the hardware card, ns →")
        ax.set_ylabel("payload ratio →")
        return figure


def _near(mark: Mark, every: Sequence[Mark], gap: float) -> list[float]:
    """How many times the latency of ``mark`` those have that its label could hide, its own (1) among them."""
    times = [other.latency_ns / mark.latency_ns for other in every if abs(other.ratio - mark.ratio) < 2 * gap]
    return [each for each in times if 1 / LABEL_REACH < each < LABEL_REACH]


def _labelled_left(mark: Mark, every: Sequence[Mark], gap: float) -> bool:
    """Whether others lie just behind the mark and none just before it."""
    near = _near(mark, every, gap)
    return max(near) > 1 and min(near) == 1
