"""The look of every plot: one palette, text as text, and SVG that follows the reader's light or dark setting.

Plots are drawn in fixed colours. `inline_svg` swaps them for the CSS variables of the report, so that one drawing
serves both settings; `standalone_svg` and `png` keep the fixed colours for files that stand alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure

INK, MUTED, GRID, PAPER, BAND = "#1b1f24", "#59626d", "#d9dee3", "#fefefe", "#eef1f4"
SERIES = ("#0b62c4", "#c2570c", "#1a7f4b", "#7b3fc4", "#b3263e", "#0f7b8a", "#7a5a1e", "#5b6470")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper", BAND: "--band"} | {
    colour: f"--c{i}" for i, colour in enumerate(SERIES)
}
GOOD, BAD = SERIES[2], SERIES[4]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_RC: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a partner may call a tensor a$b$c
    "svg.hashsalt": "linepress",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "savefig.transparent": True,
}


@contextmanager
def canvas(
    width: float = 7.4, height: float = 3.6, rows: int = 1, cols: int = 1, **kw: Any
) -> Iterator[tuple[MplFigure, Any]]:
    """A figure of ``width`` x ``height`` inches in the house style, as ``(figure, axes[rows][cols])``."""
    with rc_context(_RC):
        figure = MplFigure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(rows, cols, squeeze=False, **kw)


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name in order of importance; names beyond the palette share its grey."""
    return {name: SERIES[min(i, len(SERIES) - 1)] for i, name in enumerate(names)}


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """``positions`` moved as little as needed so that neighbours lie at least ``gap`` apart (for direct labels)."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[tuple[float, list[int]]] = []
    for i in order:
        blocks.append((positions[i], [i]))
        while len(blocks) > 1:
            (c0, m0), (c1, m1) = blocks[-2], blocks[-1]
            if (c1 - gap * (len(m1) - 1) / 2) - (c0 + gap * (len(m0) - 1) / 2) >= gap:
                break
            n0, n1 = len(m0), len(m1)
            blocks[-2:] = [((c0 * n0 + c1 * n1) / (n0 + n1), m0 + m1)]
    result = [0.0] * len(positions)
    for centre, members in blocks:
        for k, i in enumerate(members):
            result[i] = centre + gap * (k - (len(members) - 1) / 2)
    return result


def end_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], x: float, size: float = 8.5) -> None:
    """Name lines at their right end: ``labels`` are (y, text, colour), moved apart where they would overlap."""
    if not labels:
        return
    low, high = axes.get_ylim()
    height_pt = axes.get_window_extent().height * 72 / axes.figure.dpi or 200.0
    gap = (high - low) * (size * 1.25) / height_pt
    for (y, text, colour), place in zip(labels, spread([y for y, _, _ in labels], gap), strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(x, place),
            textcoords="data",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
        )


def legend_above(figure: MplFigure, axes: Axes, columns: int) -> None:
    """A legend over the plot, in space of its own."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        fontsize=8.5,
        handletextpad=0.3,
        columnspacing=1.3,
        borderaxespad=0.2,
    )


def inline_svg(figure: MplFigure, slug: str, title: str, alt: str) -> str:
    """SVG markup to put into a page: no fixed size, colours as CSS variables, ids made unique by ``slug``."""
    svg = _svg_text(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", "var(--sans)", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{slug}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{slug}-", svg)
    svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    svg = re.sub(r"\n\s*", "\n", svg).strip()
    box = re.search(r'viewBox="([^"]+)"', svg)
    head = f'<svg viewBox="{box.group(1) if box else "0 0 533 259"}" role="img" aria-labelledby="{slug}-t {slug}-d">'
    body = svg[svg.index(">") + 1 :]
    return f'{head}<title id="{slug}-t">{_escape(title)}</title><desc id="{slug}-d">{_escape(alt)}</desc>{body}'


def standalone_svg(figure: MplFigure, path: Path) -> None:
    """Write the figure as a file of its own, on white."""
    with rc_context(_RC):
        figure.savefig(path, format="svg", facecolor="#ffffff", transparent=False, metadata={"Date": None})


def png(figure: MplFigure, path: Path, dpi: int = 144) -> None:
    """Write the figure as PNG, on white."""
    with rc_context(_RC):
        figure.savefig(path, format="png", dpi=dpi, facecolor="#ffffff", transparent=False)


def _svg_text(figure: MplFigure) -> str:
    buffer = io.StringIO()
    with rc_context(_RC), warnings.catch_warnings():
        # Text stays text in the SVG, so a glyph that the measuring font lacks is drawn by the reader's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
