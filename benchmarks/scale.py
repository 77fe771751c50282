"""Benchmark of scale: what Ray costs a case, two nodes against one, a finished run of 100,000 cases, a million cases.

    python -m benchmarks.scale [overhead] [nodes] [resume] [driver] [rates] [split] [--cases N] [--rounds N]

``overhead``: cases that do nothing, eight to a task, against a plain loop. ``nodes``: the same CPU-bound cases on one
loopback node of one core and on two, interleaved. ``resume``: a complete run of 100,000 cases, given the same command
again. ``driver``: peak resident memory of a driver through 1,000,000 cases. For the last two the rows are one
measured row under every case's key: workers are left out, planning, recording, ordering and pooling are the real
ones. ``rates``: seconds a case by codec variant, which `benchmarks.schedule` plans with. ``split``: one tensor of
1 GB on two workers, in parts and in one piece, interleaved. Raw samples go to ``benchmarks/results/scale.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from linepress import environment

RESULTS = Path(__file__).parent / "results"
PARTS = ("overhead", "nodes", "resume", "driver", "rates", "split")
BY_REQUEST = ("driver", "split")
VARIANTS_A_TENSOR = 4
TENSORS_A_SOURCE = 25_000


def overhead(rounds: int, cases: int = 2000) -> dict[str, Any]:
    """No-op cases through Ray with one worker and in a loop, interleaved; the difference is what Ray costs a case."""
    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.cluster.tasks import Task, pin_threads, run_task

    tasks = [Task(f"{i}", "measure", "linepress_kit.faults:fine", (i,)) for i in range(cases)]
    pin_threads()
    samples: dict[str, list[float]] = {"loop_s": [], "ray_s": []}
    with Cluster(workers=1) as cluster:
        all_ok(fan_out(tasks[:64], cluster, 60.0))
        for _ in range(rounds):
            start = time.perf_counter()
            for task in tasks:
                run_task(task, 60.0, "loop")
            samples["loop_s"].append(time.perf_counter() - start)
            start = time.perf_counter()
            all_ok(fan_out(tasks, cluster, 60.0))
            samples["ray_s"].append(time.perf_counter() - start)
    costs = [1e3 * (ray - loop) / cases for ray, loop in zip(samples["ray_s"], samples["loop_s"], strict=True)]
    loop_ms = 1e3 * statistics.median(samples["loop_s"]) / cases
    return {**samples, "cases": cases, "ms_per_case": statistics.median(costs), "loop_ms": loop_ms}


def nodes(rounds: int, cases: int = 96) -> dict[str, Any]:
    """CPU-bound cases on one node of one core and on two; the ratio of rates, and what the machine itself allows."""
    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.cluster.tasks import Task
    from linepress_kit.loopback import Loopback

    tasks = [Task(f"{i}", "measure", "linepress_kit.faults:computes", (60_000_000,)) for i in range(cases)]
    samples: dict[str, list[float]] = {"one_s": [], "two_s": [], "loop_one_s": [], "loop_two_s": []}
    with Loopback() as pair:
        for number in range(rounds):
            for name in ("two", "one") if number % 2 == 0 else ("one", "two"):
                if name == "two":
                    pair.ensure()
                else:
                    pair.worker.kill()
                with Cluster(pair.address) as cluster:
                    wait_for_cores(cluster, 2 if name == "two" else 1)
                    all_ok(fan_out(tasks[:32], cluster, 120.0))
                    start = time.perf_counter()
                    all_ok(fan_out(tasks, cluster, 120.0))
                    samples[f"{name}_s"].append(time.perf_counter() - start)
            for name, processes in (("one", 1), ("two", 2)):
                samples[f"loop_{name}_s"].append(plain_loops(processes, cases // 4))
    one, two = (statistics.median(samples[f"{name}_s"]) for name in ("one", "two"))
    machine = [2 * a / b for a, b in zip(samples["loop_one_s"], samples["loop_two_s"], strict=True)]
    return {
        **samples,
        "cases": cases,
        "speedup": one / two,
        "best_speedup": min(samples["one_s"]) / min(samples["two_s"]),
        "machine_speedup": statistics.median(machine),
        "load": os.getloadavg()[0],
    }


def all_ok(results: Iterable[tuple[Any, list[dict[str, Any]]]]) -> None:
    """Wait for every case; a failed one ends the benchmark, since its time says nothing."""
    for _, rows in results:
        if rows[0]["status"] != "ok":
            raise SystemExit(f"a case failed: {rows[0]['error']}")


def wait_for_cores(cluster: Any, cores: int, limit_s: float = 60.0) -> None:
    """Until the cluster has just so many cores."""
    deadline_s = time.monotonic() + limit_s
    while cluster.slots != cores:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the cluster has {cluster.slots} cores, not {cores}")
        time.sleep(0.2)
        cluster.lost(at_once=True)


LOOP_CODE = """
import sys
from linepress_kit.faults import computes
computes(1); print("ready", flush=True); sys.stdin.readline()
for _ in range(int(sys.argv[1])): computes(60_000_000)
"""


def plain_loops(processes: int, cases: int) -> float:
    """Seconds that so many plain processes take, each for its ``cases`` cases, all at once."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP_CODE, str(cases)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    start = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        process.wait()
    return time.perf_counter() - start


SIMULATED = """
import json, resource, sys, time
from datetime import UTC, datetime
from pathlib import Path
from linepress import environment
environment.prepare()
from linepress import run as engine
from linepress.run.progress import Progress
from linepress.run.options import RunOptions
from linepress.stages.measure.case import measure_case
from linepress.suite.model import load_suite

sample = {}

def simulated(tasks, cluster, timeout_s, on_wait, note):
    for task in tasks:
        if not sample:
            sample.update(measure_case(*task.arguments, packings=("stream", "classes"), repeats=1))
        common = {"case_key": task.key, "status": "ok", "seconds": 0.1, "host": "simulated", "versions": "{}"}
        yield task, [{**sample, **task.identity, **common, "started_at": datetime.now(UTC), "row": 0, "attempts": 1}]

engine.fan_out = simulated
engine.Run._joined = lambda self, store: None
folder = Path(sys.argv[1])
options = RunOptions(out=folder / "run", mlflow=False, report=False)
start = time.perf_counter()
outcome = engine.Run(load_suite(str(folder / "suite.yaml")), options, Progress(live=False)).execute()
print(json.dumps({"seconds": time.perf_counter() - start, "counts": outcome.counts["measure"], "done": outcome.done,
                  "resumed": outcome.resumed,
                  "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def simulated_run(folder: Path, cases: int) -> dict[str, Any]:
    """A driver in a process of its own through ``cases`` cases whose results are given."""
    tensors = cases // VARIANTS_A_TENSOR
    seeds = range(-(-tensors // TENSORS_A_SOURCE))
    each = min(tensors, TENSORS_A_SOURCE)
    sources = ", ".join(f"{{uri: 'synthetic:gauss?shape=64x64&tensors={each}&seed={seed}'}}" for seed in seeds)
    (folder / "suite.yaml").write_text(
        f"name: scale\nversion: 1\nsources: [{sources}]\n"
        "codecs: [raw, {codec: huffman, tables: [1, 2, 4]}]\npackings: [stream, classes]\nclaims: false\n"
    )
    done = subprocess.run([sys.executable, "-c", SIMULATED, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the simulated run failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def rates(rows: int = 2048) -> dict[str, Any]:
    """Seconds a case, and so GB/s of a core, by variant of the nightly suite on a bf16 tensor of 16 MB; one core.

    A case is all that a worker does for it: read, hash, fit, bounds, encode, decode, compare, measure, timed rounds.
    """
    from linepress.cluster.tasks import pin_threads, run_task
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    pin_threads()
    source = f"sources=[{{uri: 'synthetic:gauss?shape={rows}x4096&tensors=2'}}]"
    plan = make_plan(load_suite("nightly", (source, "repeats=1")))
    samples: dict[str, list[tuple[int, float]]] = {}
    for number, task in enumerate(plan.tasks({})):
        row = run_task(task, 600.0, "rates")[0]
        compiled = number >= len(plan.cases) // 2  # the first tensor's cases compile
        if row["status"] == "ok" and compiled:
            samples.setdefault(str(task.identity["variant"]), []).append((task.n_bytes, row["seconds"]))
    rate = {name: sum(n for n, _ in cases) / sum(s for _, s in cases) / 1e9 for name, cases in samples.items()}
    return {"samples": samples, "GBps_per_core": rate}


def split(folder: Path, rounds: int, spec: str = "huffman", n_bytes: int = 1 << 30) -> dict[str, Any]:
    """One bf16 tensor under one variant on two workers: a case in one piece, and in parts of 128 MiB."""
    import ml_dtypes
    import numpy as np

    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    rng = np.random.Generator(np.random.PCG64(1))
    block = rng.standard_normal((2048, 8192), np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    rows = n_bytes // 2 // 8192
    large = folder / "large.safetensors"
    header = json.dumps({"w": {"dtype": "BF16", "shape": [rows, 8192], "data_offsets": [0, n_bytes]}}).encode()
    with large.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for at in range(0, rows, len(block)):
            file.write(block ^ np.uint16(at // len(block) % 128))  # no two blocks are the same
    (folder / "suite.yaml").write_text(
        f"name: split\nversion: 1\nsources: [{{uri: large.safetensors}}]\ncodecs: ['{spec}']\nclaims: false\n"
        "repeats: 1\n"
    )
    suite = load_suite(str(folder / "suite.yaml"))
    samples: dict[str, list[float]] = {"whole_s": [], "parts_s": [], "whole_core_s": [], "parts_core_s": []}
    loops: dict[int, list[float]] = {1: [], 2: []}
    exact = ("payload_bits", "packings", "bits_histogram", "bounds", "lossless", "content_sha256")
    rows_found: list[Any] = []
    with Cluster(workers=2) as cluster:
        for number in range(rounds + 1):  # the first one compiles and is left out
            for name in ("whole", "parts") if number % 2 == 0 else ("parts", "whole"):
                large.touch()  # another date: no worker remembers its hash or bounds
                plan = make_plan(suite)
                plan.split_bytes = n_bytes // 2 if name == "parts" else 0
                start = time.perf_counter()
                results = list(fan_out(plan.tasks({}), cluster, 600.0))
                took_s = time.perf_counter() - start
                all_ok(results)
                row = results[0][1][0]
                rows_found.append([row[column] for column in exact])
                if number:
                    samples[f"{name}_s"].append(took_s)
                    samples[f"{name}_core_s"].append(row["seconds"])
            for processes, seconds in loops.items():
                seconds.append(plain_loops(processes, 16))
    if any(found != rows_found[0] for found in rows_found):
        raise SystemExit("rows in parts and in one piece differ")
    whole, parts = (statistics.median(samples[name]) for name in ("whole_s", "parts_s"))
    machine = [2 * one / two for one, two in zip(loops[1], loops[2], strict=True)]
    return {**samples, "spec": spec, "speedup": whole / parts, "machine_speedup": statistics.median(machine)}


def main(argv: list[str] | None = None) -> int:
    """Run the parts asked for, print one line each, keep the raw samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", help=f"{', '.join(PARTS)}; all but driver and split by default (they take minutes)"
    )
    parser.add_argument("--cases", type=int, default=1_000_000, help="of the driver part")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]!r}; choose from {', '.join(PARTS)}")
    environment.prepare()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "scale.json"
    document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    document.update(machine=environment.machine(), packages=environment.packages())
    for part in options.parts or [name for name in PARTS if name not in BY_REQUEST]:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="linepress-bench-") as name:
            folder = Path(name)
            if part == "overhead":
                found = overhead(options.rounds)
                line = (
                    f"Ray adds {found['ms_per_case']:.2f} ms a case (target <= 1 ms), {found['loop_ms']:.2f} without"
                )
            elif part == "nodes":
                found = nodes(options.rounds)
                line = (
                    f"two nodes {found['speedup']:.2f}x one (target >= 1.7x), best {found['best_speedup']:.2f}x; "
                    f"two plain processes on this machine {found['machine_speedup']:.2f}x one"
                )
            elif part == "resume":
                first, again = simulated_run(folder, 100_000), simulated_run(folder, 100_000)
                found = {"first": first, "again": again}
                line = (
                    f"100,000 cases recorded in {first['seconds']:.0f} s; the same command again "
                    f"{again['seconds']:.1f} s with {again['done']} done (target < 10 s)"
                )
            elif part == "driver":
                found = simulated_run(folder, options.cases)
                line = (
                    f"{options.cases:,} cases: peak {found['peak_bytes'] / 1e6:.0f} MB (target < 1,000 MB), "
                    f"{found['seconds']:.0f} s"
                )
            elif part == "split":
                found = split(folder, options.rounds)
                line = (
                    f"one tensor of 1 GiB, {found['spec']}, two workers: {found['speedup']:.2f}x in parts "
                    f"({statistics.median(found['whole_s']):.1f} s to {statistics.median(found['parts_s']):.1f} s); "
                    f"two plain processes on this machine {found['machine_speedup']:.2f}x one"
                )
            else:
                found = rates()
                line = ", ".join(f"{name} {rate:.3f}" for name, rate in found["GBps_per_core"].items())
                line += " GB/s of a core"
        document[part] = {**found, "load_before": load}
        print(f"{part:<9} {line}   load {load:.1f}")
        file.write_text(json.dumps(document, indent=1, default=str) + "\n")
    print(f"samples {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
