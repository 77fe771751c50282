"""Heat map of the ratio over layers and KV heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from linepress.report.plots.style import MUTED, canvas

MAX_WRITTEN = 96
"""Cells up to which each ratio is written into its cell."""


def heads(
    names: Sequence[str],
    layers: Sequence[int],
    ratios: Sequence[NDArray[np.float64]],
    bounds: Sequence[NDArray[np.float64]],
) -> MplFigure:
    """One map each of ``names`` (keys, values), float64[layer, head], on one scale, with the bound of the layer, over
    all its heads, as a last column apart; NaN where nothing was measured."""
    known = [v[np.isfinite(v)] for v in (*ratios, *bounds)]
    low, high = (float(f(np.concatenate(known))) for f in (np.min, np.max))
    height = 1.2 + max(0.16 * len(layers), 0.8)
    with canvas(7.4, height, cols=len(names)) as (figure, axes):
        for ax, name, ratio, bound in zip(axes[0], names, ratios, bounds, strict=True):
            n_heads = ratio.shape[1]
            gap = np.full((len(layers), 1), np.nan)
            drawn = np.concatenate([ratio, gap, bound[:, None]], axis=1)
            edges = np.arange(n_heads + 3) - 0.5, np.arange(len(layers) + 1) - 0.5
            mesh = ax.pcolormesh(*edges, drawn, cmap="viridis", vmin=low, vmax=max(high, low + 1e-3))
            if drawn.size <= MAX_WRITTEN:
                for (row, column), value in np.ndenumerate(drawn):
                    if np.isfinite(value):
                        dark = (value - low) < 0.6 * (high - low)
                        colour = "#ffffff" if dark else "#000000"
                        ax.text(column, row, f"{value:.2f}", color=colour, fontsize=7, ha="center", va="center")
            step = max(1, n_heads // 8)
            ax.set_xticks([*range(0, n_heads, step), n_heads + 1], [*map(str, range(0, n_heads, step)), "bound"])
            places = range(0, len(layers), max(1, len(layers) // 16))
            ax.set_yticks(list(places), [str(layers[p]) for p in places])
            ax.set_xlabel("KV head")
            ax.set_title(name, color=MUTED, fontsize=9)
            ax.grid(visible=False)
        axes[0][0].set_ylabel("layer")
        figure.colorbar(mesh, ax=list(axes[0]), label="payload ratio →", shrink=0.9)
        return figure
