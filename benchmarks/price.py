"""What a case costs: ``python -m benchmarks.price [--mb N] [--rounds N]``; raw samples in ``results/price.json``.

``--sample FILE``: how near the rates over `TIMED_BYTES` lie to those over all lines of the file's largest tensor.

A whole case as a worker does it (read, hash, fit, bounds, encode, decode, compare, timed sample, packing), by codec
and cast, on one tensor of a bf16 safetensors file of normal values. ``first`` is the first variant on a tensor that
nobody has seen: hash, scales and bounds are made. ``further`` is another variant or night on it, with these
known. Seconds are those of the wall; ``cpu`` is the core time of the same cases, for a machine that is shared. The
fastest round counts. GB/s are raw bytes of the case (after the cast) by its seconds, in 10^9.

The last two columns do not depend on the machine: wall seconds of the case as a multiple of what one encode, one
decode and one read of the stored bytes take in the same run, by the rates of the case's own timed sample.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "price.json"
VARIANTS = ("raw", "huffman", "tans", "adaptive", "zstd:level=3", "lz4")
CASTS = ("none", "e4m3:scale=tensor", "e5m2:scale=tensor")
SEED = 19


def write_file(path: Path, n_bytes: int) -> None:
    """A safetensors file of one bf16 tensor of normal values as weights have them."""
    from linepress.submission.fixtures import build

    rows = n_bytes // 8192
    values = np.random.Generator(np.random.PCG64(SEED)).standard_normal((rows, 4096), dtype=np.float32)
    values *= np.float32(0.02)
    bits = (values.view(np.uint32) >> np.uint32(16)).astype("<u2")
    path.write_bytes(build({"w": ("BF16", [rows, 4096], bits.tobytes())}))


def tasks_of(file: Path, casts: tuple[str, ...]) -> list[Any]:
    """The cases of a suite over the file, as they go to a worker."""
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    quoted = ", ".join(f"'{cast}'" for cast in casts)
    codecs = ", ".join(f"'{variant}'" for variant in VARIANTS)
    suite = file.with_suffix(".yaml")
    suite.write_text(
        f"name: price\nversion: 1\nsources:\n  - uri: {file}\n    casts: [{quoted}]\ncodecs: [{codecs}]\n"
        "claims: false\n",
        encoding="utf-8",
    )
    return list(make_plan(load_suite(str(suite))).tasks({}))


def forget(folder: Path, number: int) -> None:
    """Nothing of the tensor is known any more, neither on disk nor in this process."""
    from linepress.sources import casts, staging

    os.environ["XDG_CACHE_HOME"] = str(folder / f"cache-{number}")
    casts._SCALES.clear()
    staging._CONTENT.clear()


def timed(task: Any) -> dict[str, float]:
    """One case: seconds of wall and core, and of one plain encode, decode and read.

    Raises `SystemExit` where it failed, since its price means nothing.
    """
    from linepress.cluster.tasks import run_task

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    row = run_task(task, 3600.0, "price")[0]
    found = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
    if row["status"] != "ok":
        sys.exit(f"{task.identity['variant']}: {row['error']}")
    start = time.perf_counter()
    for _ in task.arguments[0].stored().chunks(8 << 20):
        pass
    read_s = time.perf_counter() - start
    return found | {"plain_s": read_s + sum(statistics.median(row[f"{name}_s"]) for name in ("encode", "decode"))}


def measure(folder: Path, n_bytes: int, rounds: int) -> list[dict[str, Any]]:
    """Every case, first and further, in turn through the rounds."""
    small, large = folder / "small.safetensors", folder / "large.safetensors"
    write_file(small, 1 << 20)
    write_file(large, n_bytes)
    forget(folder, 0)
    for task in tasks_of(small, CASTS):
        timed(task)  # compiles
    tasks = tasks_of(large, CASTS)
    cases = [
        {"variant": t.identity["variant"], "cast": t.identity.get("cast") or "none", "bytes": t.n_bytes}
        | {"first": [], "further": []}
        for t in tasks
    ]
    for turn in range(rounds):
        for number, (task, case) in enumerate(zip(tasks, cases, strict=True)):
            forget(folder, 1 + turn * len(tasks) + number)
            case["first"].append(timed(task))
            case["further"].append(timed(task))
    return cases


def sample_error(file: Path, rounds: int) -> None:
    """Rates of a round's sample against those of all lines, chunk by chunk in turn, so that a machine that drifts
    drifts for both; one seed of the sample a round."""
    from linepress.sources import LineStream, open_source
    from linepress.stages.measure.coded import TIMED_BYTES, timed_range
    from linepress_codecs.variant import Variant

    tensor = max(open_source(str(file)).tensors(), key=lambda each: each.n_bytes)
    print(f"{TIMED_BYTES >> 20} MiB a round of {tensor.n_bytes / 1e6:.0f} MB, {rounds} seeds:")
    stream = LineStream(tensor, 8 << 20)
    for spec in ("huffman", "tans", "adaptive"):
        codec = Variant.parse(spec).line_codec
        tables, found = codec.fit(stream), list[tuple[float, float]]()
        codec.decode(codec.encode(next(iter(stream)), tables), tables)  # compiles
        for seed in range(rounds):
            n_bytes, seconds = [0, 0], [[0.0, 0.0], [0.0, 0.0]]
            for number, lines in enumerate(stream):
                taken = timed_range(len(lines), lines.line_bytes, number, stream.n_chunks, seed)
                for which, part in enumerate((lines, lines[taken.start : taken.stop])):
                    packed = codec.encode(part, tables)  # pages touched, as in a case
                    begun_s = time.perf_counter()
                    codec.encode(part, tables)
                    encoded_s = time.perf_counter()
                    codec.decode(packed, tables)
                    seconds[which][0] += encoded_s - begun_s
                    seconds[which][1] += time.perf_counter() - encoded_s
                    n_bytes[which] += part.data.nbytes
            whole, sample = ([n / each for each in some] for n, some in zip(n_bytes, seconds, strict=True))
            found.append((100 * (sample[0] / whole[0] - 1), 100 * (sample[1] / whole[1] - 1)))
        for name, off in zip(("encode", "decode"), zip(*found, strict=True), strict=True):
            print(
                f"{spec} {name}: sample against all lines {statistics.mean(off):+.1f} % on average, "
                f"{min(off):+.1f} to {max(off):+.1f} %, standard deviation {statistics.stdev(off):.1f} %",
                flush=True,
            )


def table(cases: list[dict[str, Any]]) -> str:
    """GB/s of a core by case, by wall and by core time, and multiples of plain coding."""
    lines = [
        "| cast | variant | first GB/s | further GB/s | first, cpu | further, cpu | first, times | further, times |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case in cases:
        rates = [
            case["bytes"] / min(sample[clock] for sample in case[which]) / 1e9
            for clock in ("wall_s", "cpu_s")
            for which in ("first", "further")
        ]
        times = [
            min(sample["wall_s"] for sample in case[which])
            / min(sample["plain_s"] for sample in (*case["first"], *case["further"]))
            for which in ("first", "further")
        ]
        cells = [f"{rate:.3f}" for rate in rates] + [f"{each:.2f}" for each in times]
        lines.append(f"| {case['cast']} | {case['variant']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, keep the samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=128, help="size of the file, 2^20 bytes (128)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument(
        "--sample", type=Path, metavar="FILE", help="compare rates of a sample with those of all lines"
    )
    options = parser.parse_args(argv)
    from linepress import environment
    from linepress.cluster.tasks import pin_threads

    environment.prepare()
    pin_threads()
    load = os.getloadavg()[0]
    if options.sample:
        sample_error(options.sample, options.rounds)
        print(f"load {load:.1f}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(Path(folder), options.mb << 20, options.rounds)
    document = {"machine": environment.machine(), "load_before": load, "mib": options.mb, "cases": cases}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(cases))
    print(f"load {load:.1f}; samples {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
