"""Checking submissions: ``python -m benchmarks.submission [--quick] [--bytes N]``; raw samples in
``results/submission.json``.

1. One core: seconds of CPU to check a model of N bytes (hash and geometry in one pass) against hashing it alone (the
   floor: the hash cannot be left out), against sha256sum, and against hashing and then opening it with the library.
   Target: at least 1 GB/s a core, under 300 MB.
2. The whole of ``linepress submit``: wall time and peak memory of the checking process.
3. A fuzz of the header readers: mutated headers through the streaming reader and the safetensors library. What the
   own reader takes without complaint the library must take alike; the other way round is a refusal and is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "submission.json"
TARGET_GBPS = 1.0
TARGET_MEMORY_BYTES = 300e6


def model(folder: Path, n_bytes: int, shards: int = 4) -> None:
    """Shards of random bf16 bits; random, so that nothing on the way can be quicker than on weights."""
    from safetensors.numpy import save_file

    rng = np.random.Generator(np.random.PCG64(0))
    rows = n_bytes // shards // 8192
    for i in range(shards):
        bits = rng.integers(0, 1 << 16, (rows, 4096), dtype=np.uint16)
        save_file({f"layers.{i}.weight": bits}, folder / f"model-{i + 1:05}-of-{shards:05}.safetensors")


def hash_only(folder: Path) -> None:
    buffer = memoryview(bytearray(256 << 10))
    for path in sorted(folder.glob("*.safetensors")):
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(buffer):
                digest.update(buffer[:n])


def hash_then_open(folder: Path) -> None:
    import safetensors

    hash_only(folder)
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_slice(name).get_shape()


def sha256sum(folder: Path) -> None:
    subprocess.run(["sha256sum", *sorted(folder.glob("*.safetensors"))], check=True, stdout=subprocess.DEVNULL)


def cpu_s() -> float:
    """CPU seconds of this process and its ended children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each work in each round; a warm-up round is thrown away and the order turns."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = cpu_s()
            works[name]()
            if turn:
                samples[name].append(cpu_s() - start)
    return samples


def one_core(base: Path, n_bytes: int, rounds: int) -> dict[str, Any]:
    from linepress.submission.check.inspect import inspect
    from linepress.submission.check.limits import Limits
    from linepress.submission.pack import Terms, pack
    from linepress.submission.submit import check_submission

    (base / "model").mkdir()
    model(base / "model", n_bytes)
    folder = pack(base / "model", "bench", base / "out", Terms("MIT", "bench@example.org"), name="random").folder
    shutil.rmtree(base / "model")
    total = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    works: dict[str, Callable[[], object]] = {
        "linepress: S01 to S16": lambda: inspect(folder, Limits()),
        "sha256 alone (floor)": lambda: hash_only(folder),
        "sha256, then the library": lambda: hash_then_open(folder),
    }
    if shutil.which("sha256sum"):
        works["sha256sum"] = lambda: sha256sum(folder)
    samples = interleaved(works, rounds)
    first = statistics.median(samples["linepress: S01 to S16"])
    print(f"{total / 1e9:.2f} GB, CPU time, median of {rounds}")
    for name, seconds in samples.items():
        median = statistics.median(seconds)
        print(f"  {name:<26} {total / median / 1e9:6.2f} GB/s a core   linepress is {median / first:4.2f}x this")
    start = time.perf_counter()
    report = check_submission(folder)
    wall_s = time.perf_counter() - start
    peak = report.isolation["peak_bytes"]
    rate = total / first / 1e9
    print(f"  linepress submit: {report.verdict}, {wall_s:.2f} s wall, peak {peak / 1e6:.0f} MB in the sandbox")
    print(f"  target {TARGET_GBPS} GB/s a core: {'met' if rate >= TARGET_GBPS else 'MISSED'} ({rate:.2f})")
    met = "met" if peak < TARGET_MEMORY_BYTES else "MISSED"
    print(f"  target {TARGET_MEMORY_BYTES / 1e6:.0f} MB: {met} ({peak / 1e6:.0f})")
    return {"n_bytes": total, "cpu_s": samples, "submit_wall_s": wall_s, "submit_peak_bytes": peak}


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bytes", type=int, default=2 << 30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    n_bytes = min(arguments.bytes, 256 << 20) if arguments.quick else arguments.bytes
    with tempfile.TemporaryDirectory() as folder:
        speed = one_core(Path(folder), n_bytes, 2 if arguments.quick else 3)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"one_core": speed, "cores": os.cpu_count()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
