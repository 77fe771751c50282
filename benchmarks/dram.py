"""The DRAM model against its reference rows, and its speed, on one core.

    python -m benchmarks.dram [--rows FILE] [--config TEXT] [--rounds N] [--requests N] [--json]

Accuracy: every row of ``tests/data/dram/results.csv`` (another simulator's runs of the same traces), as the error of
bandwidth, mean and 99th-percentile read latency; the share of rows inside 1 %, 2 % and 5 %, the worst rows, and how
many end on the same tick. Speed: requests per second of processor time of the one thread, rounds interleaved, median
and all samples. Exit 1 if a share or a speed misses its target. Raw samples: ``benchmarks/results/dram.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from linepress_hardware.dram import Trace, load_part, pattern, simulate
from linepress_hardware.dram.results import percentile

ROWS = Path(__file__).parent.parent / "tests" / "data" / "dram" / "results.csv"
RESULTS = Path(__file__).parent / "results"
PARTS = {
    "HBM2_2000": "hbm2",
    "HBM3_6400": "hbm3",
    "HBM4_8000": "hbm4",
    "DDR4_3200": "ddr4",
    "DDR5_4800": "ddr5",
    "LPDDR5_6400": "lpddr5",
    "GDDR6_14000": "gddr6",
    "GDDR7_28000": "gddr7",
}
TOLERANCE_PCT = {"bandwidth": 1.0, "mean": 2.0, "p99": 5.0}
TARGET_SHARE = {"bandwidth": 0.98, "mean": 0.97, "p99": 0.95}
TARGET_SPEED = {  # requests/s, by part and pattern
    ("hbm3", "rand"): 0.6e6,
    ("hbm3", "seq"): 1.8e6,
    ("ddr5", "seq"): 1.5e6,
    ("ddr5", "rand"): 1.5e6,
}
SPEED_RUNS = [(p, k) for p in ("hbm3", "hbm4", "ddr5", "lpddr5", "gddr7") for k in ("seq", "rand", "rw70")]


@lru_cache
def trace(name: str) -> Trace:
    return pattern("seq", 1 << 20) if name.startswith("seq") else pattern(name, 1 << 18)


def compare(row: dict[str, str]) -> dict[str, Any]:
    """One reference row simulated; errors in percent."""
    part_name, mapping = row["config"].removesuffix("_noref").rsplit("_", 1)
    n, interval = int(row["n_requests"]), float(row["interval_ns"])
    requests = trace(row["trace"])
    part = load_part(PARTS[part_name])
    result = simulate(
        part,
        requests.address_bytes[:n],
        requests.is_write[:n],
        np.arange(n) * interval if interval else None,
        mapping=mapping,
        policy="open:refresh=none" if row["config"].endswith("_noref") else "open:refresh=all_bank",
    )
    reads = np.sort(result.read_latency_ns)
    return {
        "row": " ".join(filter(None, [row["config"], row["trace"], row["mode"], row["load_pct_peak"]])),
        "bandwidth": 100 * (result.bandwidth_GBps / float(row["bandwidth_GBps"]) - 1),
        "mean": 100 * (float(reads.mean()) / float(row["rd_lat_mean_ns"]) - 1),
        "p99": 100 * (percentile(reads, 0.99) / float(row["rd_lat_p99_ns"]) - 1),
        "ticks": (result.sim_time_ns - float(row["sim_time_ns"])) / part.tick_ns,
        "requests_per_s": n / result.seconds,
    }


def accuracy(rows: list[dict[str, str]]) -> dict[str, Any]:
    found = [compare(row) for row in rows]
    errors = {k: np.abs([f[k] for f in found]) for k in TOLERANCE_PCT}
    return {
        "rows": found,
        "share": {k: float((e < TOLERANCE_PCT[k]).mean()) for k, e in errors.items()},
        "mean_error_pct": {k: float(e.mean()) for k, e in errors.items()},
        "max_error_pct": {k: float(e.max()) for k, e in errors.items()},
        "same_tick": sum(abs(f["ticks"]) < 0.5 for f in found),
    }


def speed(rounds: int, requests: int) -> dict[str, list[float]]:
    """Requests per second of every part and pattern, one sample a round, rounds interleaved."""
    traces = {k: pattern(k, requests) for k in ("seq", "rand", "rw70")}
    samples: dict[str, list[float]] = {f"{p} {k}": [] for p, k in SPEED_RUNS}
    for _ in range(rounds):
        for p, k in SPEED_RUNS:
            t = traces[k]
            samples[f"{p} {k}"].append(requests / simulate(p, t.address_bytes, t.is_write).seconds)
    return samples


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.dram", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--config", default="", help="only rows whose config contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=65536, help="requests of a speed sample")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with options.rows.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if options.config in r["config"]]
    if not rows:
        sys.stderr.write(f"no row of {options.rows} has a config with {options.config!r} in it\n")
        return 3
    simulate("hbm3", [0])  # compile or load the engine before anything is timed
    result = accuracy(rows)
    samples = speed(options.rounds, options.requests)
    document = {
        "host": {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "accuracy": result,
        "requests_per_s": samples,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "dram.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    missed = [f"{k} share" for k, s in result["share"].items() if s < TARGET_SHARE[k]]
    medians = {k: statistics.median(v) for k, v in samples.items()}
    missed += [f"{p} {k} speed" for (p, k), t in TARGET_SPEED.items() if medians[f"{p} {k}"] < t]
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        _print(result, samples, medians)
    if missed:
        sys.stderr.write(f"missed: {', '.join(missed)}\n")
    return 1 if missed else 0


def _print(result: dict[str, Any], samples: dict[str, list[float]], medians: dict[str, float]) -> None:
    n = len(result["rows"])
    print(f"accuracy against {n} reference rows; {result['same_tick']} end on the same tick")
    print("quantity       within      rows   target   mean error   max error")
    for k, tolerance in TOLERANCE_PCT.items():
        print(
            f"{k:12} {tolerance:6.0f} %   {100 * result['share'][k]:6.1f} %   {100 * TARGET_SHARE[k]:4.0f} %"
            f"   {result['mean_error_pct'][k]:8.3f} %   {result['max_error_pct'][k]:7.3f} %"
        )
    worst = sorted(result["rows"], key=lambda f: -max(abs(f[k]) / TOLERANCE_PCT[k] for k in TOLERANCE_PCT))
    print("worst rows                                            bandwidth       mean        p99      ticks")
    for f in worst[:10]:
        print(f"  {f['row']:50} {f['bandwidth']:+8.3f} % {f['mean']:+8.3f} % {f['p99']:+8.3f} % {f['ticks']:+10.0f}")
    print("speed ↑, million requests/s of processor time, one core: median [least, most]   target")
    for (p, k), name in ((run, f"{run[0]} {run[1]}") for run in SPEED_RUNS):
        target = TARGET_SPEED.get((p, k))
        v = samples[name]
        line = f"  {name:14} {medians[name] / 1e6:6.2f} [{min(v) / 1e6:.2f}, {max(v) / 1e6:.2f}]"
        print(line + (f"   {target / 1e6:.1f}" if target else ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
