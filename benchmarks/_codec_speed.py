"""Speeds of the line codecs against their targets, multiples of Zstandard-1 at 64 KiB in the same rounds.

Each form of the kernels is measured in a process of its own that is held to its instructions. Times are the least
processor time of many rounds; memory that is freed stays with the process, so that neither side pays for fresh pages
(Zstandard's 64 KiB outputs never do).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import zstandard

from linepress.sources import open_source
from linepress_codecs import targets
from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.variant import Variant

BLOCK_BYTES = 64 << 10
LEAST_BYTES = 128 << 10
ANY = ("avx512", "avx2", "portable")
WIDE = ("avx512", "avx2")


class Goal(NamedTuple):
    """What a codec is to reach on a kind of data: (must, aim) on each target it is asked of."""

    spec: str
    data: str
    action: str
    by_target: dict[str, tuple[float, float]]


def _goals() -> list[Goal]:
    decode = {"avx512": (1.8, 2.2), "avx2": (1.3, 1.6), "portable": (0.9, 1.0)}
    out = []
    for spec in ("tans", "adaptive"):
        out.append(Goal(spec, "weights", "decode", decode))
        out.append(Goal(spec, "weights", "encode", dict.fromkeys(WIDE, (0.75, 0.95))))
    out.append(Goal("window", "weights", "decode", dict.fromkeys(ANY, (1.8, 2.5))))
    out.append(Goal("window", "weights", "encode", dict.fromkeys(ANY, (1.3, 1.5))))
    for data in ("keys row", "values row", "keys channel", "values channel"):
        out.append(Goal("context", data, "decode", dict.fromkeys(ANY, (0.45, 0.8))))
        out.append(Goal("context", data, "encode", dict.fromkeys(ANY, (0.4, 0.6))))
    out.append(Goal("adaptive", "weights e4m3", "decode", dict.fromkeys(ANY, (1.2, 1.6))))
    out.append(Goal("adaptive", "weights e4m3", "encode", dict.fromkeys(ANY, (0.5, 0.8))))
    return out


GOALS = _goals()


def keep_memory() -> None:
    """Freed memory stays with the process (glibc: thresholds of trimming and of mmap); elsewhere nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for parameter, value in ((-1, 1 << 30), (-2, 128 << 20), (-3, 32 << 20)):  # M_TRIM_THRESHOLD, _TOP_PAD, _MMAP_
        mallopt(parameter, value)


def data_of(weights: str, caches: str, max_bytes: int) -> dict[str, list[Lines]]:
    """Lines by kind of data: the largest bf16 tensors of a file of weights, and keys and values of a KV snapshot."""
    out: dict[str, list[Lines]] = {}
    total = 0
    for ref in sorted(open_source(weights).tensors(), key=lambda r: -r.n_bytes):
        if ref.format.name != "bf16" or ref.n_bytes < LEAST_BYTES or total + ref.n_bytes > max_bytes:
            continue
        total += ref.n_bytes
        bits = np.frombuffer(bytes(ref.read(0, ref.n_bytes)), np.uint16).reshape(ref.shape)
        out.setdefault("weights", []).append(to_lines(bits, "row", FORMATS["bf16"]))
        values = bits.view(ml_dtypes.bfloat16).astype(np.float32)
        narrow = (values * (448 / np.abs(values).max())).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        out.setdefault("weights e4m3", []).append(to_lines(narrow, "row", FORMATS["e4m3"]))
    totals = {"keys": 0, "values": 0}
    for ref in open_source(caches).tensors():
        kind = next((k for k in totals if ref.name.startswith(k[:-1]) or f".{k[:-1]}" in ref.name), None)
        if kind is None or ref.format.name != "bf16" or totals[kind] + ref.n_bytes > max_bytes // 4:
            continue
        totals[kind] += ref.n_bytes
        bits = np.frombuffer(bytes(ref.read(0, ref.n_bytes)), np.uint16).reshape(ref.shape)
        for layout in ("row", "channel"):
            out.setdefault(f"{kind} {layout}", []).append(to_lines(bits, layout, FORMATS["bf16"]))
    return out


def _calls(codec: LineCodec, tensors: Sequence[Lines]) -> dict[str, Callable[[], object]]:
    items = []
    for lines in tensors:
        tables = codec.fit([lines])
        packed = codec.encode(lines, tables)
        if not np.array_equal(codec.decode(packed, tables), lines.data):
            raise RuntimeError(f"{codec.spec} is not lossless")
        items.append((lines, tables, packed))
    return {
        "encode": lambda: [codec.encode(lines, tables) for lines, tables, _ in items],
        "decode": lambda: [codec.decode(packed, tables) for _, tables, packed in items],
    }


def measured(weights: str, caches: str, max_bytes: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of this process' target: GB/s of codec and Zstandard-1 and their ratio, for each goal."""
    keep_memory()
    rows = []
    name = targets.target().name
    data = data_of(weights, caches, max_bytes)
    for kind in dict.fromkeys(goal.data for goal in GOALS):
        tensors = data.get(kind, [])
        goals = [goal for goal in GOALS if goal.data == kind and name in goal.by_target]
        if not tensors or not goals:
            continue
        raw = b"".join(lines.data.tobytes() for lines in tensors)
        blocks = [raw[i : i + BLOCK_BYTES] for i in range(0, len(raw), BLOCK_BYTES)]
        press, back = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
        codes = [press.compress(block) for block in blocks]
        calls: dict[tuple[str, str], Callable[[], object]] = {
            ("zstd", "encode"): lambda press=press, blocks=blocks: [press.compress(b) for b in blocks],
            ("zstd", "decode"): lambda back=back, codes=codes: [back.decompress(c) for c in codes],
        }
        for spec in dict.fromkeys(goal.spec for goal in goals):
            codec = Variant.parse(spec).codec
            assert isinstance(codec, LineCodec)
            calls |= {(spec, action): call for action, call in _calls(codec, tensors).items()}
        samples: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
        for _ in range(rounds):
            for key, call in calls.items():
                start = time.thread_time()
                call()
                samples[key].append(time.thread_time() - start)
        for goal in goals:
            own, other = samples[goal.spec, goal.action], samples["zstd", goal.action]
            must, aim = goal.by_target[name]
            rows.append({
                "target": name, "codec": goal.spec, "data": kind, "action": goal.action, "bytes": len(raw),
                "GBps": len(raw) / min(own) / 1e9, "zstd_GBps": len(raw) / min(other) / 1e9,
                "x_zstd": min(other) / min(own), "must": must, "aim": aim, "seconds": own, "zstd_seconds": other,
            })  # fmt: skip
    return rows


def run(weights: str, caches: str, chosen: Sequence[str], max_bytes: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of all chosen targets, each measured in a process that is held to it."""
    rows: list[dict[str, Any]] = []
    for name in chosen:
        sys.stderr.write(f"target {name}\n")
        command = [sys.executable, "-m", "benchmarks._codec_speed", weights, caches, str(max_bytes), str(rounds)]
        environment = {**os.environ, targets.VARIABLE: name}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        rows += json.loads(done.stdout)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    out = [
        f"{'target':10}{'codec':10}{'data':16}{'action':8}{'GB/s':>7}{'zstd-1':>8}{'ratio':>7}{'must':>7}{'aim':>6}"
    ]
    for row in rows:
        met = "missed" if row["x_zstd"] < row["must"] else ("aim" if row["x_zstd"] >= row["aim"] else "met")
        out.append(
            f"{row['target']:10}{row['codec']:10}{row['data']:16}{row['action']:8}{row['GBps']:7.2f}"
            f"{row['zstd_GBps']:8.2f}{row['x_zstd']:7.2f}{row['must']:7.2f}{row['aim']:6.2f}  {met}"
        )
    return "\n".join(out)


if __name__ == "__main__":
    json.dump(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), sys.stdout)
