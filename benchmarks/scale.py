"""Benchmark of scale: what Ray costs a case, two nodes against one, a finished run of 100,000 cases, a million cases.

    python -m benchmarks.scale [overhead] [nodes] [resume] [driver] [rates] [split] [--cases N] [--rounds N]
    python -m benchmarks.scale estimate --suite SUITE [--set KEY=VALUE]

``overhead``: cases that do nothing, eight to a task, against a plain loop. ``nodes``: the same CPU-bound cases on one
loopback node of one core and on two, interleaved. ``resume``: a complete run of 100,000 cases, given the same command
again. ``driver``: peak resident memory of a driver through 1,000,000 cases. For the last two the rows are one
measured row under every case's key: workers are left out, planning, recording, ordering and pooling are the real
ones. ``rates``: seconds of the parts of a case by codec variant, which `linepress.run.estimate` and
`benchmarks.schedule` plan with. ``split``: one tensor of 1 GB on two workers, in parts and in one piece, interleaved.
``estimate``: what a dry run says a suite costs, and what it then takes. Raw samples go to
``benchmarks/results/scale.json``.
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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from linepress import environment

RESULTS = Path(__file__).parent / "results"
PARTS = ("overhead", "nodes", "resume", "driver", "rates", "split", "estimate")
BY_REQUEST = ("driver", "split", "estimate")
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


RATE_CASTS = ("e4m3:scale=tensor", "e4m3:scale=none", "e4m3:scale=channel", "e5m2:scale=tensor", "e5m2:scale=channel")


def rates(folder: Path, rounds: int, rows: int = 512) -> dict[str, Any]:
    """The parts of a case by variant of the packaged suites, on bf16 and e4m3 tensors of 2 Mi values; one core.

    ``rates.yaml`` in the results is what `linepress.run.estimate` reads: put it in the place of
    ``harness/linepress/run/rates.yaml``. Kernels must be compiled already (run it twice after a change of codecs).
    """
    from linepress.cluster.tasks import pin_threads
    from linepress.run.estimate import GB, probe

    pin_threads()
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # nothing is remembered of these contents
    work_s = min(probe().work_s for _ in range(5))
    variants: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, Any] = {}
    for width, cast in (("2", "none"), ("1", "e4m3:scale=tensor")):
        small, large = (
            [
                task
                for suite in ("nightly", "smoke")
                for task in tasks_of(suite, f"synthetic:gauss?shape={n}x4096", cast)
            ]
            for n in (8, rows)
        )
        for one, other in zip(small, large, strict=True):
            spec = str(one.identity["variant"])
            if width in variants.get(spec, {}):
                continue
            first_s = timed_case(one, repeats=1)[0]  # loads kernels, draws and casts
            case_s = min(timed_case(one, repeats=1)[0] for _ in range(rounds + 2))
            timed_case(other, repeats=0)  # counts hash and bounds
            passes = [timed_case(other, repeats=0)[0] for _ in range(rounds)]
            row = timed_case(other, repeats=rounds)[1]
            round_s = sum(min(row[f"{metric}_s"] or [0.0]) for metric in ("encode", "decode", "measure"))
            n_bytes = other.n_bytes / GB
            figures = [first_s - case_s, case_s, (min(passes) - case_s) / n_bytes, round_s / n_bytes]
            variants.setdefault(spec, {})[width] = [float(f"{max(figure, 0.0):.3g}") for figure in figures]
            samples[f"{spec} {cast}"] = {"passes_s": passes, "round_s": round_s, "bytes": other.n_bytes}
    document = {
        "work_s": work_s,
        "start_s": start_rate(),
        "bounds_s_per_GB": {width: bounds_rate(cast, rows) for width, cast in (("2", "none"), ("1", RATE_CASTS[0]))},
        "staging_s_per_GB": staging_rates(rows),
        "packings_s_per_GB": packing_rates(),
        "variants": variants,
    }
    (RESULTS / "rates.yaml").write_text(rates_yaml(document), encoding="utf-8")
    # Of a whole further case with one timed round, as `benchmarks.schedule` plans with.
    whole = {name: 1 / (widths["2"][2] + widths["2"][3]) for name, widths in variants.items()}
    return {"samples": samples, "GBps_per_core": whole, "rates": document}


def tasks_of(suite: str, source: str, cast: str) -> list[Any]:
    """A case of every variant of a suite over another source, as it goes to a worker, without further packings."""
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    plan = make_plan(load_suite(suite, (f"sources=[{{uri: '{source}', casts: ['{cast}']}}]",)))
    task = next(plan.tasks({}))
    tensor = task.arguments[0]
    return [
        replace(
            task,
            arguments=(tensor, one.variant),
            options={**task.options, "packings": ()},
            identity={**task.identity, "variant": one.spec},
        )
        for one in plan.variants  # those of other kinds of data too
    ]


def timed_case(task: Any, repeats: int) -> tuple[float, dict[str, Any]]:
    """Core seconds of one case, whatever else the machine does, and its row."""
    from linepress.cluster.tasks import run_task

    begun_s = time.process_time()
    row = run_task(replace(task, options={**task.options, "repeats": repeats}), 600.0, "rates")[0]
    core_s = time.process_time() - begun_s
    if row["status"] != "ok":
        raise SystemExit(f"a case failed: {row['error']}")
    return core_s, row


def drawn(rows: int, cast: str = "none") -> Any:
    """A tensor of ``rows`` x 4096 values that nothing has seen."""
    from linepress.sources import open_source

    [tensor] = open_source(f"synthetic:gauss?shape={rows}x4096&seed={time.time_ns() % 1_000_000}").tensors()
    return tensor.with_cast(cast)


def start_rate() -> float:
    """Wall seconds of a local Ray from nothing to an end, with two cases that do nothing for each of its workers."""
    from linepress.cluster.fanout import fan_out
    from linepress.cluster.join import Cluster
    from linepress.cluster.tasks import Task

    seconds = []
    for _ in range(2):
        begun_s = time.perf_counter()
        with Cluster() as cluster:
            tasks = [
                Task(f"{i}", "measure", "linepress_kit.faults:fine", (i,))
                for i in range(2 * environment.usable_cores())
            ]
            all_ok(fan_out(tasks, cluster, 60.0))
        seconds.append(time.perf_counter() - begun_s)
    return float(f"{min(seconds):.3g}")


def bounds_rate(cast: str, rows: int) -> float:
    """Seconds a GB of a pass that counts the bounds."""
    from linepress.sources.staging import staged
    from linepress_codecs.bounds import BoundAccumulator

    tensor = staged(drawn(rows, cast)).tensor
    seconds = []
    for _ in range(3):
        begun_s = time.process_time()
        counted = BoundAccumulator(tensor.format)
        for lines in tensor.lines(16 << 20):
            counted.add(lines)
        seconds.append(time.process_time() - begun_s)
    return float(f"{min(seconds) * 1e9 / tensor.n_bytes:.3g}")


def staging_rates(rows: int) -> dict[str, float]:  # seconds a GB
    """Seconds a stored GB of drawing, hash and all, and of each cast."""
    from linepress.sources.staging import staged

    found: dict[str, float] = {}
    for cast in RATE_CASTS:
        staged(drawn(8, cast))  # compiles
        tensor = drawn(rows, cast)
        stored = tensor.stored()
        begun_s = time.process_time()
        staged(stored)
        drawn_s = time.process_time()
        staged(tensor)
        found[cast] = float(f"{(time.process_time() - drawn_s) * 1e9 / stored.n_bytes:.3g}")
        found["synthetic"] = float(f"{(drawn_s - begun_s) * 1e9 / stored.n_bytes:.3g}")
    return found


def packing_rates(n_lines: int = 1 << 17) -> dict[str, float]:
    """Seconds a GB of raw lines of each packing's cost."""
    import numpy as np

    from linepress_codecs.packing import PACKINGS, parse_packing

    bits = np.random.Generator(np.random.PCG64(3)).integers(250, 420, n_lines).astype(np.uint16)
    found = {}
    for name in PACKINGS:
        packing, seconds = parse_packing(name), []
        for _ in range(3):
            begun_s = time.process_time()
            packing.cost(bits, 0, 64)
            seconds.append(time.process_time() - begun_s)
        found[name] = float(f"{min(seconds) * 1e9 / (64 * n_lines):.3g}")
    return found


def rates_yaml(document: dict[str, Any]) -> str:
    """The document as ``rates.yaml``."""
    made = environment.machine()
    lines = [
        "# What the parts of a case cost on one core; `linepress.run.estimate` says how they add up. For estimates",
        "# only (`linepress run --dry-run`), which scale them by `work_s`, the time of their probe on this machine.",
        f"# Source: `python -m benchmarks.scale rates` on {made['cpu']}, {made['usable_cores']} cores,",
        f"# Python {made['python']}, {time.strftime('%B %Y')}.",
        f"work_s: {document['work_s']:.4g}",
        "# of the wall, to start a local Ray and to end it",
        f"start_s: {document['start_s']:g}",
    ]
    for name, note in (
        ("bounds_s_per_GB", "by bytes an element (2: two and more)"),
        ("staging_s_per_GB", "a stored GB of each cast, and of drawing a synthetic tensor"),
        ("packings_s_per_GB", "each packing beside a variant's own"),
    ):
        lines += [f"# {note}", f"{name}:"]
        lines += [f'  "{key}": {value:g}' for key, value in document[name].items()]
    lines += [
        "# variant: bytes an element: [load_s of a worker's first case, case_s whatever its size, pass_s_per_GB over",
        "# the whole tensor, round_s_per_GB of a timed round]",
        "variants:",
    ]
    for name, widths in document["variants"].items():
        figures = ", ".join(f'"{width}": [{", ".join(f"{f:g}" for f in found)}]' for width, found in widths.items())
        lines.append(f'  "{name}": {{{figures}}}')
    return "\n".join(lines) + "\n"


def estimated(folder: Path, suite_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What `linepress run --dry-run` says of a suite, and the run itself: seconds of its cases and of the wall."""
    from linepress.run.engine import Run
    from linepress.run.estimate import estimate_plan
    from linepress.run.options import RunOptions
    from linepress.run.plan import make_plan
    from linepress.run.progress import Progress
    from linepress.suite.model import load_suite

    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # bounds are counted, as on a first night
    suite, cores = load_suite(suite_name, tuple(overrides)), environment.usable_cores()
    cost = estimate_plan(make_plan(suite), {}, cores)
    begun_s = time.perf_counter()
    store = Run(suite, RunOptions(out=folder / "run", mlflow=False, report=False), Progress()).execute().store
    wall_s = time.perf_counter() - begun_s
    rows = store.rows("measure", ["status", "seconds"])
    core_s = sum(row["seconds"] for row in rows if row["status"] == "ok")
    return {
        "suite": suite.name,
        "cases": cost.cases,
        "estimated_core_s": cost.core_s,
        "core_s": core_s,
        "estimated_wall_s": cost.wall_s(cores),
        "wall_s": wall_s,
        "guessed": cost.guessed,
    }


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
        "parts",
        nargs="*",
        help=f"{', '.join(PARTS)}; all but driver, split and estimate by default (they take minutes)",
    )
    parser.add_argument("--cases", type=int, default=1_000_000, help="of the driver part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", default="smoke", help="of the estimate part: a name or a file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="changes a value of that suite"
    )
    options = parser.parse_args(argv)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]!r}; choose from {', '.join(PARTS)}")
    environment.prepare()
    os.environ.update(environment.THREAD_VARIABLES)  # before Numba, which cannot compile once they have changed
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
            elif part == "estimate":
                found = estimated(folder, options.suite, options.set)
                line = (
                    f"{found['suite']}, {found['cases']:,} cases: {found['estimated_core_s']:.0f} core-s estimated, "
                    f"{found['core_s']:.0f} taken ({100 * (found['estimated_core_s'] / found['core_s'] - 1):+.0f} %, "
                    f"target within 25 %); wall {found['estimated_wall_s']:.0f} s and {found['wall_s']:.0f} s"
                )
            elif part == "split":
                found = split(folder, options.rounds)
                line = (
                    f"one tensor of 1 GiB, {found['spec']}, two workers: {found['speedup']:.2f}x in parts "
                    f"({statistics.median(found['whole_s']):.1f} s to {statistics.median(found['parts_s']):.1f} s); "
                    f"two plain processes on this machine {found['machine_speedup']:.2f}x one"
                )
            else:
                found = rates(folder, options.rounds)
                line = ", ".join(f"{name} {rate:.3f}" for name, rate in found["GBps_per_core"].items())
                line += " GB/s of a core"
        document[part] = {**found, "load_before": load}
        print(f"{part:<9} {line}   load {load:.1f}")
        file.write_text(json.dumps(document, indent=1, default=str) + "\n")
    print(f"samples {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
