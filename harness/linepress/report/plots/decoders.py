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
        places = spread([mark.ratio for mark in every], (high - low) * 0.045)
        for mark, place in zip(every, places, strict=True):
            wide = math.sqrt(AREA_POINTS * mark.area_um2) / 2 if mark.area_um2 else 0.0
            ax.annotate(
                mark.name, (mark.latency_ns, place), xytext=(6 + wide, 0), textcoords="offset points", fontsize=8,
                color=MUTED if mark in published else INK, va="center", annotation_clip=False,
            )  # fmt: skip
        ax.set_xlabel("decode latency by the hardware card, ns →")
        ax.set_ylabel("payload ratio →")
        return figure
