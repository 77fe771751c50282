"""Speed of the inference model and its accuracy against measured serving: ``python -m benchmarks.inference``.

Sweep: 10,000 points of model × accelerator × batch × context, prefill and decode, plain and compressed, against the
same points evaluated one by one (interleaved rounds). Serving: steps a second of the event loop. Accuracy: the
three constants from every other measured row, the error on the rest. Raw samples go to
``benchmarks/results/inference.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tools.grid import sweep
from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.inference.calibrate import Model, fit, measured_points, report, split
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.precision import Precision
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
MEASURED = Path(__file__).parents[1] / "tests" / "data" / "inference" / "measured_serving_h100_8b.csv"
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
    accuracy = _accuracy()
    print(
        f"measured serving, {accuracy['unseen']['points']} unseen rows: TPOT median error "
        f"{accuracy['unseen']['median_error']:.1%}, mean {accuracy['unseen']['mean_error']:.1%}, "
        f"90th percentile {accuracy['unseen']['p90_error']:.1%}   target median ≤ 15 %"
    )
    print(f"roofline over measured step, all rows: at most {accuracy['largest_roofline_ratio']:.3f}   must be < 1")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"points": points, "samples": samples, "accuracy": accuracy}, indent=1) + "\n")
    ok = whole < 10 and accuracy["unseen"]["median_error"] <= 0.15 and accuracy["largest_roofline_ratio"] < 1
    return 0 if ok else 1


def _accuracy() -> dict[str, Any]:
    with MEASURED.open(encoding="utf-8", newline="") as file:
        points = measured_points(list(csv.DictReader(file)))
    known, unseen = split(points)
    engine = Model.of(model("llama-3.1-8b"), accelerator("h100"), Precision(), points)
    by = fit(engine, known)
    return {
        "split": "rows in file order, even ones calibrate, odd ones are predicted",
        "constants": by.__dict__,
        "known": report(engine.errors(known, by)),
        "unseen": report(engine.errors(unseen, by)),
        "largest_roofline_ratio": max(engine.roofline_step_s(point) / point.tpot_s for point in points),
    }


if __name__ == "__main__":
    raise SystemExit(main())
