"""Measured bandwidth-latency curves and the model's, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure as MplFigure

from linepress.report.plots.style import MUTED, SERIES, canvas
from linepress_hardware.dram.many_cores import loaded
from linepress_hardware.dram.silicon import Compared, Machine

POINTS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95)
"""Shares of the model's saturated bandwidth at which its curve is drawn, and saturation itself."""
MOST = 4


def curves(compared: Sequence[tuple[Machine, list[Compared]]], *, lines: int, seed: int) -> MplFigure:
    """One panel a machine: latency over bandwidth of the whole machine, at most `MOST` shares of reads.

    Dots are measured, lines the model's chase plus the idle offset of the curve.
    """
    with canvas(7.4, 3.0 * len(compared), rows=len(compared)) as (figure, axes):
        for ax, (m, rows) in zip(axes[:, 0], compared, strict=True):
            step = max(1, -(-len(rows) // MOST))
            for k, row in enumerate(rows[::step]):
                colour = SERIES[k % len(SERIES)]
                measured = m.curves.at(row.share)
                ax.plot(measured.bandwidth_GBps, measured.latency_ns, ".", color=colour, markersize=3)
                x, y = model_curve(m, row, lines=lines, seed=seed)
                ax.plot(x, y, "-", color=colour, linewidth=1.2, label=f"{100 * row.share:.0f} % reads")
            ax.axvline(m.curves.peak_GBps, color=MUTED, linewidth=0.8, linestyle=":")
            ax.set_title(f"{m.curves.system}, {m.curves.memory}", fontsize=9, loc="left")
            ax.set_ylabel("load-to-use latency, ns")
            ax.set_ylim(bottom=0)
            ax.set_xlim(left=0)
            ax.legend(fontsize=7, frameon=False)
        axes[-1, 0].set_xlabel("bandwidth of the machine, GB/s (dots measured, lines model; dotted: pin peak)")
    return figure


def model_curve(m: Machine, row: Compared, *, lines: int, seed: int) -> tuple[list[float], list[float]]:
    """Bandwidth of the machine and latency with the idle offset, from light load to saturation."""
    measured, base = m.curves.at(row.share), m.memory_idle_ns
    offset = max(0.0, measured.idle_ns - base)
    cores = replace(m.cores, fabric_ns=offset)
    top = row.model_saturated * m.part.peak_GBps
    scale = m.curves.peak_GBps / m.part.peak_GBps
    x, y = [0.0], [measured.idle_ns]
    for load in POINTS:
        at = loaded(
            m.part, cores, row.share, cores.line_bytes / row.share / (load * top), mapping=m.mapping, policy=m.policy,
            lines=lines, seed=seed,
        )  # fmt: skip
        x.append(at.bandwidth_GBps * scale)
        y.append(at.latency_ns + offset)
    return [*x, top * scale], [*y, measured.idle_ns + row.model_saturated_added_ns]


def draw(compared: Sequence[tuple[Machine, list[Compared]]], path: Path, *, lines: int, seed: int) -> None:
    """Write the figure to ``path``; its ending chooses the format."""
    curves(compared, lines=lines, seed=seed).savefig(path)
