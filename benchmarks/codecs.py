"""Ratio, bound, line sizes and speed of every codec on real tensors, one core, everything in one run.

    python -m benchmarks.codecs [FILE ...] [-c SPEC ...] [--rounds N] [--max-mib M] [--json | --markdown] [--fuzz N]

Each tensor is fitted, coded, decoded and compared bit for bit before anything is timed. Then rounds are interleaved:
every codec once a round, so that a slow moment of the machine hits all of them. Speeds are raw bytes over processor
time of the one thread (wall times are kept beside), on tensors of at least 64 KiB (per-call overhead of tiny ones is
the harness' affair); medians are printed, all samples kept in ``benchmarks/results/codecs.json``, the plot beside it.
``--fuzz N`` runs N hostile mutations instead, on each form of the kernels.

    python -m benchmarks.codecs --speed WEIGHTS CACHES [--target NAME ...]

holds the speeds of the tANS codecs and `window` against their targets, on a file of bf16 weights and a KV snapshot,
for each form of the kernels (avx512, avx2, portable), each in a process held to its instructions. Without files: the
bundled samples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _codec_speed
from linepress.errors import LinepressError, SourceError
from linepress.sources import open_source
from linepress_codecs import targets
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.contracts import BlockCodec, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CodecError, UnsupportedFormatError
from linepress_codecs.layout import to_lines
from linepress_codecs.packing import parse_packing
from linepress_codecs.registry import codecs
from linepress_codecs.testing.fuzzing import fuzz
from linepress_codecs.variant import Variant

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path(__file__).parent.parent / "suites" / "linepress_suites" / "data"
SPECS = (
    "huffman",
    "huffman:tables=4",
    "huffman:tables=16",
    "huffman:substreams=4",
    "lz4",
    "snappy",
    "zstd:level=1",
    "zstd:level=3",
    "zstd:level=9",
    "deflate:lib=zlib",
    "deflate:level=1:lib=isal",
    "deflate:lib=libdeflate",
)
SPEED_SAMPLES = ("whisper-tiny-bf16.safetensors", "smollm2-135m-instruct-kv-handbook-512.safetensors")
REFERENCE = "zstd"
PACKINGS = ("stream", "pairs", "spill", "classes:set=auto", "groups:lines=48:size=33")
TIMED_FROM_BYTES = 64 << 10
SAMPLE_S = 0.02
TARGETS = {"measure": 5.0, "encode": 1.5, "decode": 1.5}
"""Ratios to Zstandard level 1 at 64 KiB in the same run that `huffman` is to reach on bf16 weights."""


def default_specs() -> list[str]:
    """`SPECS`, and the default variant of every other line codec that is registered."""
    covered = {spec.split(":")[0] for spec in SPECS} | {"raw"}
    others = [name for name, cls in codecs().items() if issubclass(cls, LineCodec) and name not in covered]
    return [*SPECS[:4], *others, *SPECS[4:]]


Samples = dict[str, list[float]]


@dataclass
class Coded:
    """One codec over one file: totals, and what a timed round calls."""

    spec: str
    raw_bytes: int = 0
    payload_bits: int = 0
    table_bytes: int = 0
    packed_bytes: dict[str, int] = field(default_factory=dict)
    line_bits: list[np.ndarray] = field(default_factory=list)
    actions: dict[str, list[Callable[[], object]]] = field(default_factory=dict)
    timed_bytes: int = 0
    seconds: Samples = field(default_factory=dict)
    wall_seconds: Samples = field(default_factory=dict)

    def row(self, bound_bytes: float) -> dict[str, Any]:
        """Plain numbers for the table and the record."""
        bits = np.concatenate(self.line_bits) if self.line_bits else None
        quantiles = [int(q) for q in np.quantile(bits, (0.01, 0.5, 0.99, 1.0))] if bits is not None else None
        return {
            "codec": self.spec,
            "raw_bytes": self.raw_bytes,
            "payload_bytes": self.payload_bits / 8,
            "table_bytes": self.table_bytes,
            "payload_ratio": self.raw_bytes * 8 / self.payload_bits if self.payload_bits else None,
            "bound_ratio": self.raw_bytes / bound_bytes,
            "of_bound_pct": 100 * bound_bytes * 8 / self.payload_bits if self.payload_bits else None,
            "packed_ratio": {k: self.raw_bytes / v for k, v in self.packed_bytes.items()},
            "bits_per_line_p01_p50_p99_max": quantiles,
            "timed_bytes": self.timed_bytes,
            "seconds": self.seconds,
            "wall_seconds": self.wall_seconds,
            "GBps": {k: self.timed_bytes / statistics.median(v) / 1e9 for k, v in self.seconds.items()},
        }


def tensors_of(path: str, max_bytes: int) -> list[tuple[str, Lines]]:
    """(name, lines) of a file's tensors in row layout, at most ``max_bytes`` in all."""
    found, total = [], 0
    for ref in open_source(path).tensors():
        if total + ref.n_bytes > max_bytes:
            continue
        stored = np.frombuffer(bytes(ref.read(0, ref.n_bytes)), ref.format.storage)
        lines = to_lines(stored, "row", ref.format)
        if len(lines):
            found.append((ref.name, lines))
            total += ref.n_bytes
    if not found:
        raise SourceError(f"{path}: no tensor fits {max_bytes >> 20} MiB; raise --max-mib")
    return found


def prepare_lines(coded: Coded, codec: LineCodec, name: str, lines: Lines) -> None:
    """Fit, code, verify and count one tensor; keep its calls for timing."""
    tables = codec.fit([lines])
    bits, packed = codec.measure(lines, tables), codec.encode(lines, tables)
    if not np.array_equal(codec.decode(packed, tables), lines.data) or not np.array_equal(bits, packed.bits):
        raise LinepressError(f"{coded.spec} is not lossless on {name}")
    coded.raw_bytes += lines.data.size
    coded.payload_bits += int(bits.sum(dtype=np.int64))
    coded.table_bytes += len(tables.to_bytes())
    coded.line_bits.append(bits)
    for spec in PACKINGS:
        cost = parse_packing(spec).cost(bits, len(tables.to_bytes()))
        coded.packed_bytes[spec] = coded.packed_bytes.get(spec, 0) + cost.packed_bytes
    if lines.data.size >= TIMED_FROM_BYTES:
        coded.timed_bytes += lines.data.size
        for action, call in _line_calls(codec, lines, tables, packed).items():
            coded.actions.setdefault(action, []).append(call)


def _line_calls(codec: LineCodec, lines: Lines, tables: Tables, packed: Packed) -> dict[str, Callable[[], object]]:
    return {
        "measure": lambda: codec.measure(lines, tables),
        "encode": lambda: codec.encode(lines, tables),
        "decode": lambda: codec.decode(packed, tables),
    }


def prepare_blocks(coded: Coded, codec: BlockCodec, name: str, lines: Lines) -> None:
    """The same for a block codec."""
    whole = memoryview(np.ascontiguousarray(lines.data).reshape(-1)).cast("B")
    blocks = [whole[i : i + codec.block] for i in range(0, len(whole), codec.block)]
    codes = [codec.encode(block) for block in blocks]
    if any(codec.decode(c, len(b)) != b for c, b in zip(codes, blocks, strict=True)):
        raise LinepressError(f"{coded.spec} is not lossless on {name}")
    coded.raw_bytes += len(whole)
    coded.payload_bits += 8 * sum(map(len, codes))
    if len(whole) >= TIMED_FROM_BYTES:
        coded.timed_bytes += len(whole)
        pairs = [(c, len(b)) for c, b in zip(codes, blocks, strict=True)]
        coded.actions.setdefault("encode", []).append(lambda: [codec.encode(b) for b in blocks])
        coded.actions.setdefault("decode", []).append(lambda: [codec.decode(c, n) for c, n in pairs])


def prepare(spec: str, tensors: list[tuple[str, Lines]]) -> Coded:
    """One codec over all tensors of a file that it takes."""
    coded = Coded(spec)
    codec = Variant.parse(spec).codec
    for name, lines in tensors:
        try:
            if isinstance(codec, LineCodec):
                prepare_lines(coded, codec, name, lines)
            elif isinstance(codec, BlockCodec):
                prepare_blocks(coded, codec, name, lines)
        except UnsupportedFormatError as error:
            sys.stderr.write(f"{spec} leaves out {name}: {error}\n")
    return coded


def memcpy(tensors: list[tuple[str, Lines]]) -> Coded:
    """The row that nothing can beat: copying the same bytes into memory that is already mapped."""
    coded = Coded("memcpy")
    for _, lines in tensors:
        coded.raw_bytes += lines.data.size
        coded.payload_bits += 8 * lines.data.size
        if lines.data.size >= TIMED_FROM_BYTES:
            target = np.ones_like(lines.data)
            coded.timed_bytes += lines.data.size
            for action in ("encode", "decode"):
                call = partial(np.copyto, target, lines.data)
                coded.actions.setdefault(action, []).append(call)
    return coded


def timed_rounds(everything: list[Coded], rounds: int) -> None:
    """Interleaved rounds: each codec's each action over all tensors, one sample a round.

    A sample repeats the pass until it lasts SAMPLE_S, so that neither the clock nor the caches left cold by the codec
    before decide. Processor time of the thread is what speeds come from: it leaves out what other processes took.
    """
    loops: dict[tuple[str, str], int] = {}
    for _ in range(rounds):
        for coded in everything:
            for action, calls in coded.actions.items():
                key = (coded.spec, action)
                if key not in loops:
                    loops[key] = max(1, round(SAMPLE_S / max(_pass(calls, 1)[0], 1e-6)))
                cpu_s, wall_s = _pass(calls, loops[key])
                coded.seconds.setdefault(action, []).append(cpu_s / loops[key])
                coded.wall_seconds.setdefault(action, []).append(wall_s / loops[key])


def _pass(calls: list[Callable[[], object]], loops: int) -> tuple[float, float]:
    """(processor seconds of this thread, wall seconds) of so many passes."""
    wall, cpu = time.perf_counter(), time.thread_time()
    for _ in range(loops):
        for call in calls:
            call()
    return time.thread_time() - cpu, time.perf_counter() - wall


def run_file(path: str, specs: list[str], rounds: int, max_bytes: int) -> dict[str, Any]:
    """All rows of one file."""
    tensors = tensors_of(path, max_bytes)
    bound_bits = 0.0
    for _, lines in tensors:
        bound = BoundAccumulator(lines.format).add(lines).bounds()["field_order0"]
        bound_bits += bound.bits_per_value * bound.values
    everything = [memcpy(tensors)]
    for spec in specs:
        sys.stderr.write(f"{Path(path).name}: {spec}\n")
        everything.append(prepare(spec, tensors))
    timed_rounds(everything, rounds)
    return {
        "file": Path(path).name,
        "tensors": len(tensors),
        "formats": sorted({lines.format.name for _, lines in tensors}),
        "rows": [coded.row(bound_bits / 8) for coded in everything if coded.raw_bytes],
    }


def table(result: dict[str, Any]) -> str:
    """The rows as text, with the ratios to Zstandard level 1 of the same run."""
    rows = result["rows"]
    reference = next((r for r in rows if r["codec"] in (REFERENCE, "zstd:level=1")), None)
    raw = rows[0]["raw_bytes"]
    title = (
        f"{result['file']}: {result['tensors']} tensors, {', '.join(result['formats'])}, {raw / 1e6:.1f} MB; "
        f"order-0 field bound per tensor {rows[0]['bound_ratio']:.4f}"
    )
    heads = (
        f"{'codec':28}{'payload':>9}{'of bound':>10}{'stream':>8}{'classes':>9}{'groups':>8}"
        f"{'bits/line p1 p50 p99 max':>27}{'measure':>9}{'encode':>8}{'decode':>8} GB/s{'   x zstd-1 m / e / d'}"
    )
    out = [title, heads]
    for row in rows:
        packed = [f"{row['packed_ratio'][p]:.4f}" if p in row["packed_ratio"] else "-" for p in PACKINGS]
        bits = row["bits_per_line_p01_p50_p99_max"]
        speed = {a: row["GBps"].get(a) for a in ("measure", "encode", "decode")}
        out.append(
            f"{row['codec']:28}{row['payload_ratio']:9.4f}{row['of_bound_pct']:8.2f} %"
            f"{packed[0]:>8}{packed[1]:>9}{packed[2]:>8}{' '.join(map(str, bits)) if bits else '-':>27}"
            + "".join(f"{v:{w}.2f}" if v else f"{'-':>{w}}" for v, w in zip(speed.values(), (9, 8, 8), strict=True))
            + (" " * 8 + relative(row, reference) if reference else "")
        )
    return "\n".join(out)


def markdown(result: dict[str, Any]) -> str:
    """The ratios as a Markdown table, for the README."""
    rows = result["rows"]
    title = (
        f"**{result['file']}** ({', '.join(result['formats'])}, {rows[0]['raw_bytes'] / 1e6:.1f} MB; order-0 field "
        f"bound {rows[0]['bound_ratio']:.3f})\n"
    )
    out = [
        title,
        "| codec | payload ratio | packed ratio (`stream`) | of bound | encode GB/s | decode GB/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        stream = row["packed_ratio"].get("stream")
        speed = [f"{row['GBps'][a]:.2f}" if a in row["GBps"] else "–" for a in ("encode", "decode")]
        out.append(
            f"| `{row['codec']}` | {row['payload_ratio']:.3f} | {f'{stream:.3f}' if stream else '–'} "
            f"| {row['of_bound_pct']:.1f} % | {speed[0]} | {speed[1]} |"
        )
    return "\n".join(out)


def relative(row: dict[str, Any], reference: dict[str, Any]) -> str:
    """measure and encode over Zstandard's compression, decode over its decompression."""
    base = {"measure": "encode", "encode": "encode", "decode": "decode"}
    speed = {a: row["GBps"][a] / reference["GBps"][b] for a, b in base.items() if a in row["GBps"]}
    return " / ".join(f"{speed[a]:.2f}" if a in speed else "-" for a in base)


def verdict(result: dict[str, Any]) -> list[str]:
    """Targets on bf16 weights that this run misses, as sentences."""
    rows = {r["codec"]: r for r in result["rows"]}
    reference = rows.get("zstd:level=1") or rows.get(REFERENCE)
    if result["formats"] != ["bf16"] or "huffman" not in rows or reference is None:
        return []
    base = {"measure": "encode", "encode": "encode", "decode": "decode"}
    misses = []
    for action, target in TARGETS.items():
        got = rows["huffman"]["GBps"][action] / reference["GBps"][base[action]]
        if got < target:
            misses.append(f"{result['file']}: huffman {action} is {got:.2f}x Zstandard-1, target {target}x")
    if rows["huffman"]["of_bound_pct"] < 98.5:
        misses.append(f"{result['file']}: huffman payload is {rows['huffman']['of_bound_pct']:.2f} % of its bound")
    return misses


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Payload ratio against decode speed, a panel a file; line codecs blue, block codecs grey, numbers in the key."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = plt.subplots(1, len(results), figsize=(8.5 * len(results), 5.2), squeeze=False)
    for axis, result in zip(axes[0], results, strict=True):
        rows = [row for row in result["rows"] if "decode" in row["GBps"]]
        for i, row in enumerate(rows, 1):
            x, y = row["GBps"]["decode"], row["payload_ratio"]
            colour = "tab:blue" if row["bits_per_line_p01_p50_p99_max"] else "dimgray"
            label = f"{i}  {row['codec']}  {y:.3f}, {x:.2f} GB/s"
            axis.plot(x, y, "o", color=colour, label=label, markersize=5)
            side = (5, 4) if i % 2 else (-12, -11)
            axis.annotate(str(i), (x, y), xytext=side, textcoords="offset points", fontsize=8, color=colour)
        bound = result["rows"][0]["bound_ratio"]
        axis.axhline(bound, linestyle="--", linewidth=1, color="tab:red", label=f"order-0 field bound {bound:.3f}")
        axis.set(xscale="log", xlabel="decode, GB/s (one core)", ylabel="payload ratio", title=result["file"])
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(y=0.1)
        axis.grid(True, linewidth=0.3)
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False, handlelength=1)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def run_fuzz(specs: list[str], mutations: int) -> int:
    """Hostile mutations of a few line codecs, ``mutations`` in all on each form of the kernels this machine runs."""
    from linepress_codecs.testing import formats_of, sample_lines

    chosen = [c for c in (Variant.parse(s).codec for s in specs) if isinstance(c, LineCodec)]
    formats, inputs = ("bf16", "fp16", "fp32", "e4m3", "int8"), ("mixed", "channels", "woven")
    jobs = [(c, f, name) for c in chosen for f in formats_of(c) if f.name in formats for name in inputs]
    share = -(-mutations // len(jobs))
    tried = refused = 0
    own = targets.target().name
    for form in dict.fromkeys((own, "portable")):
        for i, (codec, fmt, name) in enumerate(jobs):
            start = time.perf_counter()
            with targets.forced(form):
                count = fuzz(codec, dict(sample_lines(fmt))[name][:24], share, seed=i)
            tried, refused = tried + count.tried, refused + count.refused
            print(
                f"{form:10}{codec.spec:28}{fmt.name:6}{name:9}{count.tried:9} mutations {count.refused:9} refused"
                f"{count.decoded:9} decoded  {time.perf_counter() - start:6.1f} s",
                flush=True,
            )
    print(f"{tried} mutations, {refused} refused with the typed error, none crashed, hung or gave a wrong shape")
    return 0


def run_speed(files: list[str], chosen: list[str] | None, max_bytes: int, rounds: int) -> int:
    """Speeds against their targets; 1 if one is missed."""
    weights, caches = files or [str(SAMPLE / name) for name in SPEED_SAMPLES]
    own = targets.target().name
    forms = chosen or [name for name in targets.TARGETS if name != "avx512" or own == "avx512"]
    rows = _codec_speed.run(weights, caches, forms, max_bytes, rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "codec_speed.json").write_text(json.dumps({"rounds": rounds, "rows": rows}, indent=1) + "\n")
    print(_codec_speed.table(rows))
    return int(any(row["x_zstd"] < row["must"] for row in rows))


def main(argv: list[str]) -> int:
    """Run; 0, or 1 if a target on bf16 weights is missed, 3 if there is nothing to measure, 4 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="safetensors files; the bundled sample without any")
    parser.add_argument("-c", "--codec", action="append", help="variant to run (repeatable)")
    parser.add_argument("--rounds", type=int, help="5, with --speed 25")
    parser.add_argument("--max-mib", type=int, help="bytes taken of each file: 32, with --speed 4 (under a minute)")
    parser.add_argument("--json", action="store_true", help="print the record instead of tables")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown, for the README")
    parser.add_argument("--fuzz", type=int, metavar="N", help="run N hostile mutations of the line codecs instead")
    parser.add_argument("--speed", action="store_true", help="hold speeds against their targets instead")
    parser.add_argument("--target", action="append", choices=tuple(targets.TARGETS), help="form for --speed")
    arguments = parser.parse_args(argv)
    specs = list(arguments.codec or default_specs())
    rounds, max_mib = (25, 4) if arguments.speed else (5, 32)
    arguments.rounds, arguments.max_mib = arguments.rounds or rounds, arguments.max_mib or max_mib
    if arguments.speed:
        return run_speed(arguments.files, arguments.target, arguments.max_mib << 20, arguments.rounds)
    if arguments.fuzz:
        return run_fuzz(specs, arguments.fuzz)
    files = arguments.files or [str(p) for p in sorted(SAMPLE.glob("*.safetensors"))]
    if not files:
        sys.stderr.write(f"no sample in {SAMPLE.name}/: name safetensors files\n")
        return 3
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        results = [run_file(path, specs, arguments.rounds, arguments.max_mib << 20) for path in files]
    except (LinepressError, CodecError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 4
    RESULTS.mkdir(exist_ok=True)
    record = {
        "benchmark": "codecs",
        "rounds": arguments.rounds,
        "host": {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__},
        "results": results,
    }
    (RESULTS / "codecs.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(results, RESULTS / "codecs.svg")
    show = markdown if arguments.markdown else table
    print(json.dumps(record, indent=1) if arguments.json else "\n\n".join(show(r) for r in results))
    misses = [sentence for result in results for sentence in verdict(result)]
    for sentence in misses:
        sys.stderr.write(sentence + "\n")
    sys.stderr.write(f"raw samples {RESULTS / 'codecs.json'}, plot {RESULTS / 'codecs.svg'}\n")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
