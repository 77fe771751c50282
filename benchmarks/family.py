"""The family on one picture: ratio against bits of decode table against decode speed, on the same lines.

    python -m benchmarks.family [FILE] [--out family.png] [--json]

FILE is a safetensors file of bf16 tensors (the bundled whisper-tiny sample unless given). Speeds are multiples of
Zstandard-1 at 64 KiB, interleaved in the same run, the fastest of the rounds; table bits are those of the hardware
card. Compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import linepress_suites
from linepress.sources import open_source
from linepress_codecs.codecs.zstd import Zstd
from linepress_codecs.contracts import LineCodec
from linepress_codecs.layout import to_lines
from linepress_codecs.registry import make, parse_spec

SPECS = ("dual", "quad", "window", "huffman", "tans", "adaptive", "bpc", "bdi")
SAMPLE = Path(linepress_suites.__file__).parent / "data" / "whisper-tiny-bf16.safetensors"
MOST_BYTES = 8 << 20
ROUNDS = 5


def measure(path: str) -> list[dict[str, Any]]:
    """One row a codec: spec, payload ratio, table bits of the card, decode speed over Zstandard's."""
    tensors = [t for t in open_source(path).tensors() if t.format.name == "bf16" and t.n_bytes >= 1 << 16]
    lines, raw = [], 0
    for tensor in tensors:
        if raw + tensor.n_bytes <= MOST_BYTES:
            stored = tensor.read(0, tensor.n_bytes).view(tensor.format.storage).reshape(tensor.shape)
            lines.append(to_lines(stored, "row", tensor.format))
            raw += tensor.n_bytes
    zstd = Zstd()
    blob = b"".join(part.data.tobytes() for part in lines)
    blocks = [blob[at : at + zstd.block] for at in range(0, len(blob), zstd.block)]
    codes = [zstd.encode(block) for block in blocks]
    jobs: list[tuple[dict[str, Any], Callable[[], object]]] = []
    for spec in SPECS:
        codec = make(*parse_spec(spec))
        assert isinstance(codec, LineCodec)
        packed = [(codec.encode(part, tables), tables) for part in lines for tables in [codec.fit([part])]]
        bits = sum(int(one.bits.sum(dtype="int64")) for one, _ in packed)
        row = {"codec": spec, "ratio": 8 * len(blob) / bits, "best_s": float("inf")}
        row["table_bits"] = 8 * codec.card(lines[0].format).table_sram_bytes.value
        jobs.append((row, lambda codec=codec, packed=packed: [codec.decode(*each) for each in packed]))
    reference = {"best_s": float("inf")}
    jobs.append((reference, lambda: [zstd.decode(c, len(b)) for c, b in zip(codes, blocks, strict=True)]))
    for _ in range(ROUNDS):
        for row, decode in jobs:
            begun = time.perf_counter()
            decode()
            row["best_s"] = min(row["best_s"], time.perf_counter() - begun)
    rows = [row for row, _ in jobs[:-1]]
    for row in rows:
        row["decode_over_zstd1"] = reference["best_s"] / row.pop("best_s")
    return rows


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """Ratio over table bits; the size of a mark is the decode speed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        bits = max(row["table_bits"], 4)
        axes.scatter(bits, row["ratio"], s=40 + 160 * row["decode_over_zstd1"], alpha=0.6)
        axes.annotate(f"{row['codec']}\n{row['decode_over_zstd1']:.2f}x", (bits, row["ratio"]), fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("decode table, bits (4 = none)")
    axes.set_ylabel("payload ratio, bf16 weights")
    axes.set_title("Line codecs: area of a mark = decode speed in software, in Zstandard-1 (64 KiB)")
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=150)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family", description=__doc__)
    parser.add_argument("file", nargs="?", default=str(SAMPLE))
    parser.add_argument("--out", type=Path, help="the figure, a PNG or PDF")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = measure(options.file)
    if options.out:
        draw(rows, options.out)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'codec':<18} {'ratio':>7} {'table, bits':>12} {'decode, zstd-1':>15}")
    for row in sorted(rows, key=lambda r: -float(r["ratio"])):
        print(f"{row['codec']:<18} {row['ratio']:7.4f} {row['table_bits']:12,.0f} {row['decode_over_zstd1']:15.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
