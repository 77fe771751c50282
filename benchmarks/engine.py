"""Benchmark of the run engine: Ray against a plain loop, planning, and memory on a model of 4 GB.

    python -m benchmarks.engine [overhead] [plan] [memory] [--rounds N] [--gigabytes G]

``overhead``: the measure stage of the smoke suite in a plain loop and through Ray with one worker, interleaved, both
warm; the ratio of the medians is what Ray costs. ``plan``: 100,000 cases. ``memory``: peak resident memory of driver
and workers in a real ``linepress run`` over a safetensors file of that size. Raw samples go to
``benchmarks/results/engine.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from linepress import environment

RESULTS = Path(__file__).parent / "results"
PARTS = ("overhead", "plan", "memory")
WORKER_LIMIT_BYTES = 10**9
DRIVER_LIMIT_BYTES = 5 * 10**8


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def overhead(rounds: int) -> dict[str, Any]:
    """Measure stage of the smoke suite: plain loop against Ray with one worker, interleaved rounds."""
    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.cluster.tasks import pin_threads, run_task
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    tasks = list(make_plan(load_suite("smoke")).tasks({}))
    timeout_s = 600.0
    pin_threads()

    def loop() -> None:
        for task in tasks:
            assert run_task(task, timeout_s, "loop")[0]["status"] == "ok"

    with Cluster(workers=1) as cluster:

        def ray() -> None:
            assert sum(rows[0]["status"] == "ok" for _, rows in fan_out(tasks, cluster, timeout_s)) == len(tasks)

        loop()
        ray()
        samples: dict[str, list[float]] = {"loop_s": [], "ray_s": []}
        for _ in range(rounds):
            samples["loop_s"].append(seconds(loop))
            samples["ray_s"].append(seconds(ray))
        describe = cluster.describe()
    loop_s, ray_s = (statistics.median(samples[name]) for name in ("loop_s", "ray_s"))
    return {
        **samples,
        "cases": len(tasks),
        "cluster": describe,
        "overhead_pct": 100 * (ray_s / loop_s - 1),
        "overhead_ms_per_case": 1e3 * (ray_s - loop_s) / len(tasks),
        "least_overhead_pct": 100 * (min(samples["ray_s"]) / min(samples["loop_s"]) - 1),
    }


def no_op_cases(cases: int = 2000) -> dict[str, Any]:
    """What a case costs that does nothing: eight to a task, two workers."""
    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.cluster.tasks import Task

    tasks = [Task(f"{i}", "measure", "linepress_kit.faults:fine", (i,)) for i in range(cases)]
    with Cluster() as cluster:
        list(fan_out(tasks[:64], cluster, 60.0))
        took_s = seconds(lambda: list(fan_out(tasks, cluster, 60.0)))
    return {"no_op_cases": cases, "no_op_ms_per_case": 1e3 * took_s / cases}


PLAN_CODE = """
import json, resource, sys, time
from linepress.run.plan import make_plan
from linepress.suite.model import load_suite
suite = load_suite(sys.argv[1])
start = time.perf_counter()
plan = make_plan(suite)
took = time.perf_counter() - start
print(json.dumps({"cases": len(plan.cases), "plan_s": took,
                  "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def plan(folder: Path) -> dict[str, Any]:
    """Planning 25,000 tensors × 4 variants in a process of its own."""
    suite = folder / "plan.yaml"
    suite.write_text(
        "name: plan\nversion: 1\nsources: [{uri: 'synthetic:gauss?shape=64x64&tensors=25000'}]\n"
        "codecs: [raw, {codec: huffman, tables: [1, 2, 4]}]\npackings: [stream, classes]\n"
    )
    done = subprocess.run([sys.executable, "-c", PLAN_CODE, str(suite)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


class Peaks(threading.Thread):
    """Peak resident memory of a process and of the Ray workers below it, sampled from ``/proc``."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.driver_bytes = 0
        self.worker_bytes: dict[int, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.sample()

    def sample(self) -> None:
        """One look at every process."""
        self.driver_bytes = max(self.driver_bytes, _peak_bytes(self.root))
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_worker(entry):
                pid = int(entry.name)
                self.worker_bytes[pid] = max(self.worker_bytes.get(pid, 0), _peak_bytes(pid))

    def _is_worker(self, entry: Path) -> bool:
        try:
            title = (entry / "cmdline").read_bytes().decode(errors="replace")
            variables = (entry / "environ").read_bytes()
        except OSError:
            return False
        return title.startswith("ray::") and f"LINEPRESS_BENCHMARK={self.root_mark}".encode() in variables

    root_mark = str(os.getpid())


def _peak_bytes(pid: int) -> int:
    """``VmHWM`` less the pages of shared files would be fairer; the whole of it is the safe side."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def write_model(path: Path, n_bytes: int) -> None:
    """A safetensors file of four bf16 tensors of a normal distribution, drawn once (16 MiB) and repeated."""
    import ml_dtypes
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(1))
    block = (0.02 * rng.standard_normal(8 << 20)).astype(ml_dtypes.bfloat16).view(np.uint8).tobytes()
    each = n_bytes // 4 // len(block) * len(block)
    header: dict[str, Any] = {}
    for i in range(4):
        name = f"model.layers.{i}.mlp.up_proj.weight"
        header[name] = {"dtype": "BF16", "shape": [each // 8192, 4096], "data_offsets": [i * each, (i + 1) * each]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(4 * each // len(block)):
            file.write(block)


def memory(folder: Path, gigabytes: float) -> dict[str, Any]:
    """A real run over a large model: peaks of driver and workers, and the memory that a case asked for."""
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    model = folder / "model.safetensors"
    write_model(model, int(gigabytes * 1e9))
    suite = folder / "memory.yaml"
    suite.write_text(
        "name: memory\nversion: 1\nsources: [{uri: model.safetensors}]\ncodecs: [huffman]\n"
        "packings: [stream, classes]\nclaims: false\nrepeats: 1\n"
    )
    command = [sys.executable, "-c", "from linepress.cli.app import main; main()", "run", str(suite), "--no-mlflow"]
    quiet = {**os.environ, "LINEPRESS_BENCHMARK": Peaks.root_mark, "XDG_CACHE_HOME": str(folder)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--out", str(folder / "run")],
        env=quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks = Peaks(process.pid)
    peaks.start()
    _, err = process.communicate()
    peaks.over.set()
    peaks.join()
    if process.returncode:
        raise SystemExit(f"the run failed with exit code {process.returncode}:\n{err}")
    workers = sorted(peaks.worker_bytes.values(), reverse=True)
    asked = max(task.memory_bytes for task in make_plan(load_suite(str(suite))).tasks({}))
    return {
        "model_bytes": model.stat().st_size,
        "run_s": time.perf_counter() - start,
        "driver_peak_bytes": peaks.driver_bytes,
        "worker_peak_bytes": workers,
        "worker_asked_bytes": asked,
        "driver_within_limit": peaks.driver_bytes < DRIVER_LIMIT_BYTES,
        "workers_within_limit": bool(workers) and workers[0] < WORKER_LIMIT_BYTES,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the parts asked for, print one line each, keep the raw samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="overhead, plan, memory; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    options = parser.parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]!r}; choose from {', '.join(PARTS)}")
    environment.prepare()
    document: dict[str, Any] = {"machine": environment.machine(), "packages": environment.packages()}
    wanted = options.parts or PARTS
    with tempfile.TemporaryDirectory(prefix="linepress-bench-") as name:
        folder = Path(name)
        if "overhead" in wanted:
            found = document["overhead"] = {**overhead(options.rounds), **no_op_cases()}
            print(
                f"overhead  {found['cases']} cases: loop {statistics.median(found['loop_s']):.2f} s, Ray with one "
                f"worker {statistics.median(found['ray_s']):.2f} s: {found['overhead_pct']:+.1f} % (target < 10 %); "
                f"a case that does nothing {found['no_op_ms_per_case']:.2f} ms"
            )
        if "plan" in wanted:
            found = document["plan"] = plan(folder)
            print(
                f"plan      {found['cases']:,} cases in {found['plan_s']:.1f} s, {found['peak_bytes'] / 1e6:.0f} MB"
            )
        if "memory" in wanted:
            found = document["memory"] = memory(folder, options.gigabytes)
            print(
                f"memory    {found['model_bytes'] / 1e9:.1f} GB model: driver {found['driver_peak_bytes'] / 1e6:.0f} "
                f"MB (target < 500 MB), largest worker {max(found['worker_peak_bytes'], default=0) / 1e6:.0f} MB "
                f"(target < 1,000 MB, asked for {found['worker_asked_bytes'] / 1e6:.0f} MB), {found['run_s']:.0f} s"
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "engine.json").write_text(json.dumps(document, indent=1, default=str) + "\n")
    print(f"samples {RESULTS / 'engine.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
