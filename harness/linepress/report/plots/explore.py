"""The front of a design-space search: capacity against random and sequential gain, area as the size of a point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure as MplFigure

from linepress.explore.record import default_of
from linepress.explore.trial import Trial, front
from linepress.report.plots.style import BAD, MUTED, SERIES, canvas, standalone_svg

SMALLEST, LARGEST = 18.0, 150.0
"""Points² of the least and the most area on the front."""
PANELS = (("gain_random", "random"), ("gain_sequential", "sequential"))


def front_plot(trials: Sequence[Trial], picked: Sequence[int]) -> MplFigure:
    """One row a memory: grey dots are dominated trials, the cross is the default, numbers are the picks."""
    memories = list(dict.fromkeys(t.point.memory for t in trials))
    on_front = front(trials)
    packings = list(dict.fromkeys(t.point.packing for t in on_front))
    with canvas(7.4, 3.2 * len(memories), rows=len(memories), cols=2) as (figure, axes):
        for row, memory in zip(axes, memories, strict=True):
            good = [t for t in trials if t.point.memory == memory and not t.error]
            mine = [t for t in on_front if t.point.memory == memory]
            most = max((t.area_mm2 for t in mine), default=1.0)
            default = default_of(trials, memory)
            for ax, (name, title) in zip(row, PANELS, strict=True):
                rest = [t for t in good if t not in mine]
                ax.scatter(
                    [t.capacity_ratio for t in rest], [getattr(t, name) for t in rest], s=9, color=MUTED, alpha=0.5
                )
                for k, packing in enumerate(packings):
                    own = [t for t in mine if t.point.packing == packing]
                    ax.scatter(
                        [t.capacity_ratio for t in own],
                        [getattr(t, name) for t in own],
                        s=[SMALLEST + (LARGEST - SMALLEST) * t.area_mm2 / most for t in own],
                        color=SERIES[k % len(SERIES)],
                        alpha=0.75,
                        label=packing,
                    )
                if not default.error:
                    ax.scatter([default.capacity_ratio], [getattr(default, name)], marker="x", color=BAD)
                for t in mine:
                    if t.number in picked:
                        place = (t.capacity_ratio, getattr(t, name))
                        ax.annotate(str(t.number), place, xytext=(5, 5), textcoords="offset points", fontsize=8.5)
                ax.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=":")
                ax.set_title(f"{memory}, {title}")
                ax.set_xlabel("capacity, raw over packed")
            row[0].set_ylabel("gain over plain at its best")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels) or 1), fontsize=8)
    return figure


def draw(trials: Sequence[Trial], picked: Sequence[int], path: Path) -> None:
    """Write the figure to ``path`` as SVG."""
    standalone_svg(front_plot(trials, picked), path)
