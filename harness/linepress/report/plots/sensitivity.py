"""Plots of sensitivity: how far a result moves when one choice changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure as MplFigure

from linepress.report.plots.style import INK, MARKERS, SERIES, canvas, legend_above


def spreads(found: Mapping[str, Mapping[str, float]]) -> MplFigure:
    """Best over worst of each choice, one mark a result."""
    names = list(found)
    results = list(dict.fromkeys(result for by in found.values() for result in by))
    n = len(names)
    with canvas(7.4, 1.35 + 0.46 * n) as (figure, axes):
        ax = axes[0][0]
        y = np.arange(n)[::-1].astype(float)
        ax.axvline(1.0, color=INK, lw=1.2)
        shifts = np.linspace(0.24, -0.24, len(results)) if len(results) > 1 else np.zeros(1)
        for k, (result, shift) in enumerate(zip(results, shifts, strict=True)):
            values = np.array([found[name].get(result, np.nan) for name in names])
            ax.hlines(y + shift, 1.0, values, color=SERIES[k], lw=1.6, alpha=0.6)
            ax.plot(values, y + shift, MARKERS[k], color=SERIES[k], markersize=5.5, label=result)
        ax.set_yticks(y, names)
        ax.set_ylim(-0.6, n - 0.4)
        widest = max(factor for by in found.values() for factor in by.values())
        ax.set_xlim(1 - 0.02 * max(widest - 1, 0.1), 1 + 1.08 * max(widest - 1, 0.1))
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("best option over worst (1 = the choice does not matter)")
        legend_above(figure, ax, columns=4)
        return figure
