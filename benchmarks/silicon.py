"""The model against measured machines, every share of reads: ``python -m benchmarks.silicon [--write] [--plot F]``.

Prints what `linepress dram --against packaged` prints for a few shares, over all of them, with three seeds: the mean
error of the saturated share, the worst curve, and the latency above idle. ``--write`` keeps one row a machine in
``hardware/linepress_hardware/data/silicon/compared.csv``, from where the report takes its table. Exit 1 where a
machine that is not bound by its cores misses a limit.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from linepress_hardware.dram.silicon import LOADS, Compared, Errors, Machine, compare, machine, packaged_curves

DATA = Path(__file__).parents[1] / "hardware" / "linepress_hardware" / "data" / "silicon" / "compared.csv"
SEEDS = (1, 2, 3)
LINES = 30_000
SATURATED_MEAN, SATURATED_WORST, ADDED_NS = 0.06, 0.15, (15.0, 15.0, 15.0, 30.0)
BY_CORES = ("Xeon Max 9480",)
"""Bound by their cores, not their memory: shown, not judged."""
COLUMNS = (
    "system", "memory", "ranks", "refresh", "lines_in_flight_a_channel", "curves", "saturated_mean_pct",
    "saturated_worst_pct", *(f"added_{100 * load:g}_ns" for load in LOADS), "saturated_latency_pct",
    "seed_spread_pct",
)  # fmt: skip


def row(m: Machine, runs: list[list[Compared]]) -> dict[str, str]:
    """One machine over all seeds: means of the errors, and how far a seed moves the mean saturated error."""
    errors = [Errors.of(r) for r in runs]
    added = np.mean([e.added_ns for e in errors], axis=0)
    means = [100 * e.saturated_mean for e in errors]
    return {
        "system": m.curves.system,
        "memory": m.curves.memory,
        "ranks": str(m.part.ranks),
        "refresh": m.policy.refresh,
        "lines_in_flight_a_channel": str(m.cores.in_flight),
        "curves": str(len(runs[0])),
        "saturated_mean_pct": f"{np.mean(means):.1f}",
        "saturated_worst_pct": f"{100 * max(e.saturated_worst for e in errors):.1f}",
        **{f"added_{100 * load:g}_ns": f"{ns:.1f}" for load, ns in zip(LOADS, added, strict=True)},
        "saturated_latency_pct": f"{100 * np.mean([e.saturated_latency for e in errors]):.0f}",
        "seed_spread_pct": f"{max(means) - min(means):.1f}",
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=int, default=100, help="at most so many shares of reads a machine")
    parser.add_argument("--write", action="store_true", help="keep the rows")
    parser.add_argument("--plot", type=Path, help="draw the curves of the first seed")
    options = parser.parse_args(argv)
    rows, drawn, missed = [], [], []
    for curves in packaged_curves():
        m = machine(curves, shares=options.shares)
        runs = [compare(m, shares=options.shares, lines=LINES, seed=seed) for seed in SEEDS]
        drawn.append((m, runs[0]))
        rows.append(row(m, runs))
        r = rows[-1]
        print("  ".join(f"{k} {v}" for k, v in r.items()), flush=True)
        limits = dict(zip((f"added_{100 * load:g}_ns" for load in LOADS), ADDED_NS, strict=True))
        limits |= {"saturated_mean_pct": 100 * SATURATED_MEAN, "saturated_worst_pct": 100 * SATURATED_WORST}
        if m.curves.system not in BY_CORES:
            missed += [
                f"{m.curves.system}: {k} {r[k]} > {limit:g}" for k, limit in limits.items() if float(r[k]) > limit
            ]
    if options.write:
        with DATA.open("w", encoding="utf-8", newline="") as file:
            file.write(
                "# The model against the machines of memory_curves.csv: python -m benchmarks.silicon --write\n"
            )
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if options.plot:
        from linepress.report.plots.silicon import draw

        draw(drawn, options.plot, lines=LINES, seed=SEEDS[0])
    for line in missed:
        sys.stderr.write(line + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
