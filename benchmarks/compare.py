"""Benchmark of the comparison: speed on 100,000 cases, false alarms, what it catches; invented and real timings.

    python -m benchmarks.compare [speed] [store] [synthetic] [calibrate] [retime] [nights]
        [--cases N] [--pairs N] [--runs N] [--nights N]

``speed``: two runs of 100,000 cases, from folder to words. ``store``: the same runs in an S3-compatible server on
loopback, first with an empty cache, then again. ``synthetic``: pairs of runs with invented noise as large
as the real one, of the same code and with 5 % less speed in one codec: false alarms and detections. ``calibrate``:
real runs of the same code in processes of their own, every pair compared: how often anything is flagged, and how far
the effects lie beyond the spread that ``noise.toml`` states. ``retime``: real codecs timed in turn, the same code and
with a decoder that takes 5 % longer. ``nights``: ``linepress nightly`` on real workers night after night with the
same code, then one night with a decoder that loses a bit and takes 5 % longer. Raw samples go to
``benchmarks/results/compare.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
PARTS = ("speed", "store", "synthetic", "calibrate", "retime", "nights")
SPEED_LIMIT_S = 10.0
ALARM_LIMIT = 0.01
SUITE = """name: calibration
version: 1
sources:
  - uri: {data}/whisper-tiny-bf16.safetensors
    label: whisper-tiny
    casts: [none, "e4m3:scale=tensor"]
  - uri: {data}/smollm2-135m-instruct-kv-handbook-512.safetensors
    label: smollm2 KV
codecs: [raw, huffman, {{codec: huffman, tables: 4}}, {{codec: zstd, level: 3, block: 64KiB}}]
packings: [stream]
claims: false
repeats: 5
"""
ONE_RUN = """
import sys
from pathlib import Path
from linepress import environment
environment.prepare()
from linepress.run import manifest
from linepress.cluster.tasks import pin_threads, run_task
from linepress.run.plan import make_plan
from linepress.records import RunStore
from linepress.suite.model import load_suite
pin_threads()
suite = load_suite(sys.argv[1])
plan = make_plan(suite)
store = RunStore.create(Path(sys.argv[2]), manifest.new_manifest(Path(sys.argv[2]).name, suite, plan, {}))
store.append("measure", [row for task in plan.tasks({}) for row in run_task(task, 600.0, "calibration")])
store.manifest["status"] = "complete"
store.save_manifest()
"""
SLOWER = """
import linepress.stages.measure.case as stage
from linepress_kit.worse_codecs import slower_decode
true = stage.measure_case
def measure_case(tensor, variant, **options):
    with slower_decode(variant, 0.05):
        return true(tensor, variant, **options)
stage.measure_case = measure_case
"""
LOSING_A_BIT = """
import linepress.run.plan
from linepress_kit.worse_codecs import LOSING
linepress.run.plan.MEASURE_TARGET = LOSING
"""


def speed(cases: int) -> dict[str, Any]:
    """Seconds from two folders of ``cases`` cases to the verdict in words."""
    from linepress.compare import compare_runs
    from linepress.compare.render import as_text

    with tempfile.TemporaryDirectory() as folder:
        (base, new), n = large_runs(Path(folder), cases)
        samples = []
        for _ in range(3):
            start = time.perf_counter()
            text = as_text(compare_runs(base, new))
            samples.append(time.perf_counter() - start)
        on_disk = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
    return {"cases": n, "seconds": samples, "record_bytes": on_disk, "gate": text.splitlines()[-1]}


def large_runs(folder: Path, cases: int) -> tuple[tuple[Path, Path], int]:
    """Two complete runs of about ``cases`` invented cases, and how many they are."""
    from linepress_kit.synthetic_run import Shape
    from linepress_kit.timed_runs import timed_rows, write_run

    rows = timed_rows(Shape(layers=32, copies=max(1, round(cases / 32 / 207)), failing=0))
    paths = folder / "base", folder / "new"
    for path, seed in zip(paths, (1, 2), strict=True):
        store = write_run(path, rows, seed=seed)
        store.compact("measure", {row["case_key"]: i for i, row in enumerate(rows)})
        store.save_manifest()
    return paths, len(rows)


def store(cases: int) -> dict[str, Any]:
    """Seconds of a comparison of two runs in an object store, with an empty cache and with a full one."""
    import pyarrow.fs as fs

    from linepress.compare import compare_runs
    from linepress.compare.render import as_text
    from linepress.records.remote import open_place
    from linepress_kit.object_store import bucket, environment, s3_server

    with tempfile.TemporaryDirectory() as folder, s3_server() as port, bucket(port, "benchmark") as proxy:
        paths, n = large_runs(Path(folder), cases)
        os.environ.update(environment(proxy), XDG_CACHE_HOME=f"{folder}/cache")
        there = [f"s3://benchmark/{path.name}" for path in paths]
        for path, uri in zip(paths, there, strict=True):
            remote, base = open_place(uri)
            fs.copy_files(str(path), base, source_filesystem=fs.LocalFileSystem(), destination_filesystem=remote)
        seconds = {}
        for name in ("first", "again"):
            start = time.perf_counter()
            text = as_text(compare_runs(*there))
            seconds[name] = time.perf_counter() - start
    return {"cases": n, "seconds": seconds, "gate": text.splitlines()[-1]}


def synthetic(pairs: int) -> dict[str, Any]:
    """Share of A/A pairs with an alarm, and of pairs with an injected 5 % loss that are caught."""
    from linepress.compare import compare_runs
    from linepress_kit.synthetic_run import Shape
    from linepress_kit.timed_runs import timed_rows, write_run

    rows = timed_rows(Shape(layers=1, failing=0))
    alarms, caught, wrong = 0, 0, 0
    estimates = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(pairs):
            base = write_run(Path(folder) / f"base{i}", rows, seed=3 * i).path
            same = write_run(Path(folder) / f"same{i}", rows, seed=3 * i + 1).path
            slow = write_run(
                Path(folder) / f"slow{i}", rows, seed=3 * i + 2, slower={("huffman", "decode"): 1.05}
            ).path
            alarms += any(s.mark in "+-" for s in compare_runs(base, same).sampled.speeds)
            found = compare_runs(base, slow).sampled.speeds
            caught += any(s.mark == "+" and (s.variant, s.metric) == ("huffman", "decode") for s in found)
            wrong += any(s.mark in "+-" and (s.variant, s.metric) != ("huffman", "decode") for s in found)
            estimates += [s.factor for s in found if (s.variant, s.metric) == ("huffman", "decode")]
    return {
        "pairs": pairs,
        "alarms_same_code": alarms,
        "caught_5_pct_slower": caught,
        "wrong_codec_blamed": wrong,
        "median_estimate": float(np.median([e for e in estimates if e is not None])),
    }


def real_runs(folder: Path, runs: int) -> list[Path]:
    """Real runs of the same code, each in a process of its own."""
    import linepress_suites

    data = Path(linepress_suites.__path__[0]) / "data"
    suite = folder / "calibration.yaml"
    suite.write_text(SUITE.format(data=data), encoding="utf-8")
    paths = [folder / f"run{i}" for i in range(runs)]
    for path in paths:
        subprocess.run([sys.executable, "-c", ONE_RUN, str(suite), str(path)], check=True)
    return paths


def calibrate(runs: int) -> dict[str, Any]:
    """Every pair of real runs: alarms, and the spread of the effects beside what the model says."""
    from linepress.compare import CompareOptions, compare_runs

    with tempfile.TemporaryDirectory() as folder:
        paths = real_runs(Path(folder), runs)
        load = os.getloadavg()
        options = CompareOptions(resamples=200)
        comparisons = [compare_runs(a, b, options) for a, b in itertools.combinations(paths, 2)]
    alarms = sum(any(s.mark in "+-" for s in c.sampled.speeds) for c in comparisons)
    neighbours = [i for i, (a, b) in enumerate(itertools.combinations(range(runs), 2)) if b == a + 1]
    effects = [(s.effect.value, s.effect.error) for c in comparisons for s in c.sampled.speeds if s.effect]
    ratios = np.array([abs(value / error) for value, error in effects])
    drift = [math.log(c.sampled.drift) for c in comparisons if c.sampled.drift]
    return {
        "runs": runs,
        "load_average": load,
        "pairs": len(comparisons),
        "pairs_with_an_alarm": alarms,
        "successive_pairs": len(neighbours),
        "successive_pairs_with_an_alarm": sum(
            any(s.mark in "+-" for s in comparisons[i].sampled.speeds) for i in neighbours
        ),
        "effects": effects,
        "share_beyond_1.96_errors": float(np.mean(ratios > 1.96)),
        "share_beyond_3_errors": float(np.mean(ratios > 3)),
        "sigma_of_machine_drift": float(np.std(drift)) if drift else None,
        "exact_figures_changed": sum(one.mark != "=" for c in comparisons for one in c.exact),
    }


def retime_part() -> dict[str, Any]:
    """Real codecs in turn: the same code, and a decoder that takes 5 % longer."""
    from linepress.compare.data import load_side
    from linepress.compare.options import CompareOptions
    from linepress.compare.pairs import pair
    from linepress.compare.retime import RetimePlan, requests, retime, this_python

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = real_runs(Path(folder), 1)
        side = load_side(paths[0])
        plan = RetimePlan()
        cases = requests(pair(side, side), plan)
        for name, python in (("same_code", this_python()), ("slower_5_pct", slower_python(Path(folder)))):
            start = time.perf_counter()
            result = retime(cases, this_python(), python, plan, CompareOptions())
            found[name] = {
                "seconds": time.perf_counter() - start,
                "load_average": os.getloadavg(),
                "speeds": [
                    {
                        "variant": s.variant,
                        "metric": s.metric,
                        "mark": s.mark,
                        "time_factor": s.factor,
                        "low": math.exp(s.effect.low),
                        "high": math.exp(s.effect.high),
                        "p": s.effect.p,
                    }
                    for s in result.speeds
                    if s.effect is not None
                ],
            }
    return found


def nights(count: int) -> dict[str, Any]:
    """``count`` nights of the same code, then a bad one through the command, timed in turn with the good code."""
    import linepress_suites
    from linepress import environment
    from linepress.cluster.join import Cluster
    from linepress.nightly.night import NightlyOptions, run_nightly
    from linepress.run.progress import Progress
    from linepress.suite.model import load_suite

    environment.prepare()
    data = Path(linepress_suites.__path__[0]) / "data"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "calibration.yaml"
        suite.write_text(SUITE.format(data=data), encoding="utf-8")
        runs, summaries, seconds = folder / "runs", [], []
        with Cluster():
            for i in range(count + 1):
                start = time.perf_counter()
                options = NightlyOptions(runs=runs, night=f"2026-01-{i + 1:02d}", mlflow=False)
                outcome = run_nightly(load_suite(str(suite)), options, Progress(live=False))
                seconds.append(time.perf_counter() - start)
                summaries.append(outcome.summary or {})
        good = folder / "good-python"
        good.write_text(f'#!/bin/sh\nexec env -u PYTHONPATH "{sys.executable}" "$@"\n', encoding="utf-8")
        good.chmod(0o755)
        words = ["nightly", str(suite), "--runs", str(runs), "--night", "2026-02-01", "--retime", str(good)]
        bad = subprocess.run(
            [
                slower_python(folder, LOSING_A_BIT),
                *("-c", "from linepress.cli.app import main; main()"),
                *(*words, "--no-mlflow", "--json"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        found = json.loads(bad.stdout)
        compared = json.loads((Path(found["record"]) / "nightly" / "compare.json").read_text(encoding="utf-8"))
    return {
        "nights": count,
        "seconds": seconds,
        "load_average": os.getloadavg(),
        "nights_with_an_alarm": sum(s.get("exit_code") != 0 for s in summaries[1:]),
        "speed_steps": sum(step["figure"].endswith("_GBps") for s in summaries for step in s.get("steps", [])),
        "bad_exit_code": bad.returncode,
        "bad_gate": found["compare"],
        "bad_baseline_is_last_night": Path(found["baseline"] or "").name.startswith(
            f"calibration-2026-01-{count + 1:02d}"
        ),
        "slower": [
            {name: speed[name] for name in ("variant", "metric", "mark")}
            for speed in compared["sampled"]
            if speed["mark"] in ("+", "-")
        ],
    }


def slower_python(folder: Path, more: str = "") -> str:
    """An interpreter in which the Huffman decoder takes 5 % longer, and ``more`` is done at its start."""
    (folder / "slower").mkdir()
    (folder / "slower" / "sitecustomize.py").write_text(SLOWER + more, encoding="utf-8")
    script = folder / "slower" / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "slower"}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def main(argv: list[str]) -> int:
    """Run the parts named (all by default); 1 if a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--nights", type=int, default=20)
    options = parser.parse_args(argv)
    results: dict[str, Any] = {}
    missed = []
    for part in options.parts or PARTS:
        if part == "speed":
            one = results[part] = speed(options.cases)
            least = min(one["seconds"])
            print(f"compare two runs of {one['cases']:,} cases: {least:.1f} s (limit {SPEED_LIMIT_S:g} s)")
            missed += [part] if least > SPEED_LIMIT_S else []
        elif part == "store":
            one = results[part] = store(options.cases)
            first, again = (one["seconds"][name] for name in ("first", "again"))
            print(
                f"the same in an object store on loopback: {first:.1f} s first, {again:.1f} s again "
                f"(limit {SPEED_LIMIT_S:g} s)"
            )
            missed += [part] if first > SPEED_LIMIT_S else []
        elif part == "synthetic":
            one = results[part] = synthetic(options.pairs)
            print(
                f"invented noise, {one['pairs']} pairs: {one['alarms_same_code']} alarms on the same code, "
                f"{one['caught_5_pct_slower']} of {one['pairs']} losses of 5 % caught (median estimate "
                f"{one['median_estimate']:.3f}x), another codec blamed in {one['wrong_codec_blamed']}"
            )
            missed += [part] if one["alarms_same_code"] > math.ceil(ALARM_LIMIT * one["pairs"]) else []
        elif part == "calibrate":
            one = results[part] = calibrate(options.runs)
            print(
                f"real, {one['runs']} runs of the same code at load {one['load_average'][0]:.1f}: "
                f"{one['pairs_with_an_alarm']} of {one['pairs']} pairs with an alarm; "
                f"{100 * one['share_beyond_1.96_errors']:.1f} % of the effects beyond 1.96 standard errors, "
                f"{100 * one['share_beyond_3_errors']:.1f} % beyond 3; machine drift sigma "
                f"{100 * (one['sigma_of_machine_drift'] or 0):.1f} %; exact figures changed: "
                f"{one['exact_figures_changed']}"
            )
            missed += [part] if one["pairs_with_an_alarm"] > math.ceil(ALARM_LIMIT * one["pairs"]) else []
        elif part == "nights":
            one = results[part] = nights(options.nights)
            slower = [speed["variant"] for speed in one["slower"]]
            print(
                f"nightly, {one['nights']} nights of the same code ({np.median(one['seconds']):.1f} s each): "
                f"{one['nights_with_an_alarm']} alarms; a night that loses a bit and decodes 5 % slower: "
                f"exit {one['bad_exit_code']}, {one['bad_gate']}; flagged: {', '.join(slower) or 'none'}"
            )
            caught = one["bad_exit_code"] == 1 and "new failure" in one["bad_gate"] and "huffman" in slower
            blamed = [v for v in slower if not v.startswith("huffman")]
            missed += [part] if not caught or blamed or one["nights_with_an_alarm"] else []
        else:
            one = results[part] = retime_part()
            same, slow = one["same_code"]["speeds"], one["slower_5_pct"]["speeds"]
            slow_huffman = [s for s in slow if s["variant"].startswith("huffman") and s["metric"] == "decode"]
            width = max((s["high"] - s["low"]) / 2 for s in same)
            print(
                f"timed in turn: same code, {sum(s['mark'] != '~' for s in same)} alarms of {len(same)}, widest "
                f"interval ±{100 * width:.1f} %; decoder 5 % slower: "
                + ", ".join(f"{s['variant']} {s['time_factor']:.3f}x ({s['mark']})" for s in slow_huffman)
                + f", others flagged: {sum(s['mark'] != '~' for s in slow if s not in slow_huffman)}"
            )
            caught = bool(slow_huffman) and all(s["mark"] == "+" for s in slow_huffman)
            missed += [part] if not caught or any(s["mark"] != "~" for s in same) else []
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "compare.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
