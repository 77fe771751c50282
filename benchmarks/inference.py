"""Speed of the inference model and the accuracy tables of its MODEL.md: ``python -m benchmarks.inference``.

Sweep: 10,000 points of model × accelerator × batch × context, prefill and decode, plain and compressed, against the
same points evaluated one by one (interleaved rounds). Serving: steps a second of the event loop. With ``--accuracy``
(some minutes) the tables as Markdown: kernels by form, recorded runs, measured points, MLPerf; exit 1 if a target is
missed. Raw samples go to ``benchmarks/results/inference.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import kernels, mlperf, serving
from benchmarks.tools.grid import sweep
from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.kernels import bound
from linepress_hardware.inference.kernels.tables import Rows
from linepress_hardware.inference.mlperf import summary
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.serving import Engine, simulate
from linepress_hardware.inference.system import evaluate
from linepress_hardware.inference.trace import synthetic

MODELS = (
    "llama-2-7b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "qwen2.5-7b",
    "qwen3-8b",
    "mixtral-8x7b",
    "deepseek-v3",
    "gemma-2-9b",
    "mistral-7b",
)
PARTS = ("a6000", "a100", "h100", "h200", "b200", "gb200", "mi300x", "rngd", "sn40l", "cs-3")
BATCHES = tuple(range(1, 11))
CONTEXTS = tuple(1024 * i for i in range(1, 11))
WHAT = Compression(1.33, 1.4)
ONE_BY_ONE = 40


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print a table, keep the raw samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accuracy", action="store_true", help="print the accuracy tables too (some minutes)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/inference.json"))
    given = parser.parse_args(argv)
    points = len(MODELS) * len(PARTS) * len(BATCHES) * len(CONTEXTS)
    samples: dict[str, list[float]] = {"sweep_s": [], "one_by_one_s_per_point": [], "serving_steps_per_s": []}
    shape, part = model("llama-3.1-8b"), accelerator("h100")
    requests = synthetic(20, 2000, prompt_tokens=1000, answer_tokens=300, spread=0.7, seed=1)
    engine = Engine(chunked_prefill=True)
    simulate(shape, part, requests, engine=engine)  # compile outside the timing
    for _ in range(given.rounds):
        samples["sweep_s"].append(seconds(lambda: sweep(MODELS, PARTS, BATCHES, CONTEXTS, compression=WHAT)))
        scenarios = [Scenario(batch=1 + i % 10, context_tokens=1024 * (1 + i // 10)) for i in range(ONE_BY_ONE)]
        alone = seconds(lambda: [evaluate("llama-3.1-8b", "h100", s, WHAT) for s in scenarios])  # noqa: B023
        samples["one_by_one_s_per_point"].append(alone / ONE_BY_ONE)
        start = time.perf_counter()
        served = simulate(shape, part, requests, engine=engine)
        samples["serving_steps_per_s"].append(served.summary["steps"] / (time.perf_counter() - start))
    whole = statistics.median(samples["sweep_s"])
    alone = statistics.median(samples["one_by_one_s_per_point"]) * points
    print(f"sweep of {points:,} points          {whole:8.3f} s   {points / whole:12,.0f} points/s   target < 10 s")
    print(f"the same one by one (projected)  {alone:8.3f} s   {alone / whole:12,.0f}x slower")
    print(f"serving event loop               {statistics.median(samples['serving_steps_per_s']):12,.0f} steps/s")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"points": points, "samples": samples}, indent=1) + "\n")
    if not given.accuracy:
        return 0 if whole < 10 else 1
    tables, missed = accuracy()
    print(tables)
    for line in missed:
        print(f"missed: {line}")
    return 0 if whole < 10 and not missed else 1


def _pct(value: float, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.1%}".replace("%", " %").replace("-", "−")


def accuracy() -> tuple[str, list[str]]:
    """The accuracy tables of ``hardware/MODEL.md`` as Markdown, and the targets that are missed."""
    missed: list[str] = []
    out = ["| GPU | kernels | rows | mean error | 90th percentile |", "|---|---|---|---|---|"]
    by_part: dict[str, list[Rows]] = {}
    for rows in kernels.table_rows(kernels.TABLE):
        by_part.setdefault(accelerator(rows.hardware).name, []).append(rows)
    limits = {"linear": 0.08, "attention": 0.10}
    for name, mine in by_part.items():
        sets = {"": (kernels.fitted(mine, name), mine)}
        unseen = [rows for rows in mine if rows.tp > 1]
        if unseen:
            first = [rows for rows in mine if rows.tp == 1]
            sets[" of tp 2, fitted on tp 1"] = (kernels.fitted(first, name), unseen)
        for title, (forms, rows_of) in sets.items():
            for kind, one in kernels.judged(forms, rows_of).items():
                if kind in ("linear", "decode", "prefill", "mixed", "attention"):
                    out.append(
                        f"| {name} | {kind}{title} | {one['rows']:,} | {_pct(one['mean'])} | {_pct(one['p90'])} |"
                    )
                if kind in limits and one["mean"] > limits[kind]:
                    missed.append(f"{name} {kind}{title}: {one['mean']:.1%} above {limits[kind]:.0%}")
        above = [bound.above(rows, model(rows.model), accelerator(name)) for rows in mine]
        count = sum(one.rows_above for one in above)
        out.append(
            f"| {name} | rows above the roofline bound | {sum(one.rows for one in above):,} | {count} | nearest "
            f"{max(one.largest for one in above):.3f} of it |"
        )
        if count:
            missed.append(f"{name}: {count} kernels above the bound")
    out += [
        "",
        "| recorded run, odd requests | GPU | host time a step | TPOT, mean | a request, mean / 90th percentile |",
    ]
    out[-1] += " TTFT, mean | a request | preempted / tokens again |"
    out.append("|---|---|---|---|---|---|---|---|")
    for run in serving.recorded_accuracy():
        odd = run["odd"]
        out.append(
            f"| {run['case']} | {run['hardware']} | {run['host_ms']:.1f} ms | {_pct(odd['tpot_mean'], True)} | "
            f"{_pct(odd['tpot_request_mean'])} / {_pct(odd['tpot_request_p90'])} | {_pct(odd['ttft_mean'], True)} | "
            f"{odd['ttft_mean_abs_s']:.2f} s | {run['preemptions']} / {run['recomputed_tokens']:,} |"
        )
        limit = {"measured kernels": 0.03, "linear layers by form": 0.05, "all kernels by form": 0.08}
        if odd["tpot_request_mean"] > limit.get(run["case"], 1.0):
            missed.append(f"{run['case']} on {run['hardware']}: {odd['tpot_request_mean']:.1%}")
    out += [
        "",
        "| measured points of H100, TensorRT-LLM | rows | TPOT error, median | mean | 90th percentile | bias |",
    ]
    out.append("|---|---|---|---|---|---|")
    for title, one in serving.point_accuracy().items():
        found = one["unseen"]
        out.append(
            f"| {title} | {found['points']} | {_pct(found['median_error'])} | {_pct(found['mean_error'])} | "
            f"{_pct(found['p90_error'])} | {_pct(found['bias'], True)} |"
        )
        below = one.get("predictions_below_roofline", 0)
        if below or one.get("largest_roofline_ratio", 0.0) >= 1:
            missed.append(f"{title}: {below} predictions below their roofline")
    out += ["", "| MLPerf v5.1, closed | rows | least head-room | of |", "|---|---|---|---|"]
    rows_found, _ = mlperf.judged()
    table = summary(row for row in rows_found if row.closed)
    for name in sorted({row["accelerator"] for row in table}):
        nearest = min((row for row in table if row["accelerator"] == name), key=lambda row: float(row["head_room"]))
        count = sum(row["rows"] for row in table if row["accelerator"] == name)
        out.append(
            f"| {name} | {count} | {nearest['head_room']:.2f} | {nearest['model']}, {nearest['scenario']}, "
            f"{nearest['weights']} |"
        )
    missed += [f"MLPerf {row.id} lies above its ceiling" for row in rows_found if row.verdict == "above"]
    return "\n".join(out), missed


if __name__ == "__main__":
    raise SystemExit(main())
