"""Sources and the measure stage: ``python -m benchmarks.measure [--quick]``; raw samples in ``results/measure.json``.

Four questions, competitors interleaved in the same process:

1. Reading a safetensors file in chunks against the safetensors library.
2. Streaming from a hub against the same ranges by plainer clients of the same server (target: at least 90 %).
3. Opening a 400-tensor, 30-shard model: requests and seconds (target: one request a shard).
4. The measure stage against the codec called in a bare loop, and its peak memory on a tensor larger than its budget.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

PARTS = ("local", "stream", "opening", "night", "overhead", "memory")
RESULTS = Path(__file__).parent / "results" / "measure.json"
CHUNK_BYTES = 16 << 20
MEMORY_PROGRAM = """
import re, sys
from pathlib import Path
from linepress.sources import open_source
from linepress.stages.measure.case import measure_case
from linepress_codecs.variant import Variant
def peak_kib():
    return re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
before = peak_kib()
uri, spec = sys.argv[1:]
row = measure_case(open_source(uri).tensors()[0], Variant.parse(spec), repeats=1)
print(before, peak_kib(), row["lossless"])
"""

SERVER_PROGRAM = """
import os, sys
from linepress_kit.hub_server import HubServer, Repo
from linepress.submission.fixtures import build
n_bytes, tensors, bytes_per_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
body = os.urandom(1 << 20) * (n_bytes // tensors >> 20)
one = ("BF16", [len(body) // 8192, 4096], body)
repo = Repo({"model.safetensors": build({f"w{i}": one for i in range(tensors)})}, redirect=False)
with HubServer({"acme/model": repo}, bytes_per_s=bytes_per_s) as server:
    print(server.endpoint, repo.commit, flush=True)
    sys.stdin.read()
"""
NIGHT_TENSORS = 16
NIGHT_BYTES_PER_S = 60e6
"""A network of 480 Mbit/s, slower than a core measures one variant."""


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round; one warm-up round is thrown away and the order turns."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            works[name]()
            if turn:
                samples[name].append(time.perf_counter() - start)
    return samples


def report(title: str, n_bytes: int, samples: dict[str, list[float]]) -> dict[str, Any]:
    """Print medians and the ratio of the first work to each other one."""
    first = statistics.median(next(iter(samples.values())))
    print(title)
    for name, seconds in samples.items():
        median = statistics.median(seconds)
        print(f"  {name:<34} {n_bytes / median / 1e9:8.2f} GB/s   first is {median / first:5.2f}x this")
    return {"title": title, "n_bytes": n_bytes, "seconds": samples}


def local_reading(folder: Path, n_bytes: int, rounds: int) -> dict[str, Any]:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    from linepress.sources import open_source

    rows = n_bytes // 8192
    path = folder / "local.safetensors"
    save_file({"w": np.arange(rows * 4096, dtype=np.uint16).reshape(rows, 4096)}, path)
    tensor = open_source(str(path)).tensors()[0]
    total = rows * 8192

    def ours() -> None:
        for start in range(0, total, CHUNK_BYTES):
            tensor.read(start, min(start + CHUNK_BYTES, total)).view(np.uint64).max()

    def library() -> None:
        step = CHUNK_BYTES // 8192
        with safe_open(path, "np") as opened:
            part = opened.get_slice("w")
            for start in range(0, rows, step):
                part[start : start + step].view(np.uint64).max()

    works: dict[str, Callable[[], object]] = {"linepress": ours, "safetensors get_slice": library}
    return report("reading a local file in 16 MiB parts, every byte touched", total, interleaved(works, rounds))


def hub_streaming(n_bytes: int, rounds: int) -> dict[str, Any]:
    """Against two clients of the same server, which runs in a process of its own: the standard library's, and the hub
    client's own stream with its bytes thrown away, which no reader that uses that client can beat."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    from linepress.sources import hub, open_source

    server = subprocess.Popen(
        [sys.executable, "-c", SERVER_PROGRAM, str(n_bytes), "1", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        endpoint, commit = server.stdout.readline().split()  # type: ignore[union-attr]  # a pipe, as asked
        tensor = open_source("hf://acme/model@main", endpoint=endpoint).tensors()[0]
        path = f"/acme/model/resolve/{commit}/model.safetensors"

        def ours() -> None:
            for start in range(0, n_bytes, CHUNK_BYTES):
                tensor.read(start, min(start + CHUNK_BYTES, n_bytes))

        def client() -> None:
            for start in range(0, n_bytes, hub.PIECE_BYTES):
                asked = {"Range": f"bytes={start}-{min(start + hub.PIECE_BYTES, n_bytes) - 1}"}
                with get_session().stream("GET", endpoint + path, headers=asked) as answer:
                    for _ in answer.iter_raw():
                        continue

        def plain() -> None:
            connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
            buffer = bytearray(hub.PIECE_BYTES)
            for start in range(0, n_bytes, hub.PIECE_BYTES):
                end = min(start + hub.PIECE_BYTES, n_bytes)
                connection.request("GET", path, headers={"Range": f"bytes={start}-{end - 1}"})
                answer, done = connection.getresponse(), 0
                while done < end - start:
                    done += answer.readinto(memoryview(buffer)[done:])
                answer.read()
            connection.close()

        works: dict[str, Callable[[], object]] = {
            "linepress": ours,
            "hub client's stream, thrown away": client,
            "http.client into one buffer": plain,
        }
        samples = interleaved(works, rounds)
    return report("streaming from a server on the loopback", n_bytes, samples)


def hub_night(folder: Path, n_bytes: int, rounds: int) -> dict[str, Any]:
    """A chain of tensors as one worker takes it, against the hub client's stream of the same bytes thrown away."""
    from dataclasses import replace

    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    from linepress.cluster.tasks import run_group
    from linepress.run.plan import make_plan
    from linepress.sources import staging
    from linepress.suite.model import load_suite

    suite = folder / "night.yaml"
    suite.write_text(
        "name: night\nversion: 1\nsources: [{uri: 'hf://acme/model@main'}]\ncodecs: [huffman]\nclaims: false\n"
    )
    arguments = [str(n_bytes), str(NIGHT_TENSORS), str(NIGHT_BYTES_PER_S)]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER_PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        endpoint, commit = server.stdout.readline().split()  # type: ignore[union-attr]  # a pipe, as asked
        os.environ["HF_ENDPOINT"] = endpoint
        tasks = list(make_plan(load_suite(str(suite))).tasks({}))
        size = n_bytes // NIGHT_TENSORS

        def night(tasks: Sequence[Any]) -> None:
            staging._STAGE._kept.clear()  # nothing is there yet
            for rows in run_group(tasks, 600.0, "night"):
                if rows[0]["status"] != "ok":
                    raise RuntimeError(rows[0]["error"])

        def client() -> None:
            for i in range(NIGHT_TENSORS):
                asked = {"Range": f"bytes={i * size}-{(i + 1) * size - 1}"}
                url = f"{endpoint}/acme/model/resolve/{commit}/model.safetensors"
                with get_session().stream("GET", url, headers=asked, timeout=60) as answer:
                    for _ in answer.iter_raw():
                        continue

        works: dict[str, Callable[[], object]] = {
            "measured, the next fetched ahead": lambda: night(tasks),
            "measured, each fetched first": lambda: night([replace(task, afar=None) for task in tasks]),
            "hub client's stream, thrown away": client,
        }
        samples = interleaved(works, rounds)
    title = f"{NIGHT_TENSORS} tensors over a network of {NIGHT_BYTES_PER_S / 1e6:.0f} MB/s, huffman"
    return report(title, n_bytes, samples)


def hub_opening() -> dict[str, Any]:
    from linepress.sources import open_source
    from linepress.submission.fixtures import build
    from linepress_kit.hub_server import HubServer, Repo

    files: dict[str, bytes] = {}
    weight_map: dict[str, str] = {}
    for shard in range(30):
        name = f"model-{shard + 1:05d}-of-00030.safetensors"
        names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(400) if i % 30 == shard]
        weight_map |= dict.fromkeys(names, name)
        files[name] = build({n: ("BF16", [64, 64], bytes(8192)) for n in names})
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    with HubServer({"acme/model": Repo(files, redirect=False)}) as server:
        start = time.perf_counter()
        source = open_source("hf://acme/model@main", endpoint=server.endpoint)
        seconds = time.perf_counter() - start
        shard_requests = sum(r.path.endswith(".safetensors") for r in server.requests)
        requests = len(server.requests)
    print(f"opening {len(source.tensors())} tensors in 30 shards: {requests} requests, {shard_requests} of shards")
    print(f"  {seconds:.3f} s on the loopback")
    return {"title": "opening", "requests": requests, "shard_requests": shard_requests, "seconds": seconds}


def stage_overhead(folder: Path, n_bytes: int, rounds: int) -> dict[str, Any]:
    from linepress.sources import open_source
    from linepress.sources.staging import staged
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    variant = Variant.parse("huffman")
    side = int((n_bytes // 2) ** 0.5) // 64 * 64
    ref = staged(open_source(f"synthetic:gauss?shape={side}x{side}&seed=1").tensors()[0]).tensor
    lines = next(iter(ref.lines(ref.n_bytes)))
    codec = variant.line_codec

    def stage() -> None:
        measure_case(ref, variant, repeats=0)

    def bare() -> None:
        tables = codec.fit([lines])
        packed = codec.encode(lines, tables)
        codec.measure(lines, tables)
        decoded = codec.decode(packed, tables)
        if not np.array_equal(decoded, lines.data):
            raise RuntimeError("the codec is not lossless")

    works: dict[str, Callable[[], object]] = {"measure_case, everything checked": stage, "bare codec loop": bare}
    return report("fit, encode, decode, compare, measure one tensor", ref.n_bytes, interleaved(works, rounds))


def memory(n_bytes: int) -> dict[str, Any]:
    side = int((n_bytes // 2) ** 0.5) // 64 * 64
    found = {}
    print(f"peak memory of a process that measures one tensor of {2 * side * side / 1e9:.2f} GB (16 MiB chunks)")
    for spec in ("huffman", "zstd:level=1:block=64KiB"):
        uri = f"synthetic:random?shape={side}x{side}&dtype=bf16"
        done = subprocess.run(
            [sys.executable, "-c", MEMORY_PROGRAM, uri, spec], capture_output=True, text=True, check=True
        )
        *kib, lossless = done.stdout.split()
        if lossless != "True":
            raise RuntimeError(f"{spec} is not lossless on {uri}")
        before, peak = (int(n) * 1024 for n in kib)
        print(f"  {spec:<34} {peak / 1e6:8.0f} MB, {before / 1e6:.0f} MB of it before the tensor is opened")
        found[spec] = {"before_bytes": before, "peak_bytes": peak}
    return {"title": "memory", "n_bytes": 2 * side * side, "peak": found}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all of them; ``--quick`` on small data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data, two rounds")
    parser.add_argument("--only", choices=[*PARTS], help="one of the questions")
    arguments = parser.parse_args(argv)
    size, rounds = (32 << 20, 2) if arguments.quick else (256 << 20, 5)
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "local": lambda: local_reading(Path(folder), size, rounds),
            "stream": lambda: hub_streaming(size // 2, rounds),
            "opening": hub_opening,
            "night": lambda: hub_night(Path(folder), size // 2, rounds),
            "overhead": lambda: stage_overhead(Path(folder), size // 4, rounds),
            "memory": lambda: memory(size * 4),
        }
        results = [work() for name, work in parts.items() if arguments.only in (None, name)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    print(f"raw samples in {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
