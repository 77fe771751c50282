"""The family on one picture: ratio against bits of decode table against decode speed, on the same lines.

    python -m benchmarks.family [FILE ...] [--out family.png] [--markdown | --json]

A panel a file of bf16 tensors: weights in rows, the keys of a KV snapshot channel by channel (the bundled samples of
both unless given). Speeds are multiples of Zstandard-1 at 64 KiB, interleaved in the same run, the fastest of the
rounds; table bits are those of the hardware card. Block codecs have none and read a line with its whole block.
Compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import linepress_suites
from linepress.sources import open_source
from linepress_codecs.codecs.zstd import Zstd
from linepress_codecs.contracts import BlockCodec, LineCodec, Lines, Packed, Tables
from linepress_codecs.layout import to_lines
from linepress_codecs.registry import codecs, make, parse_spec

LEFT_OUT = {"raw", "zero", "repeat", "delta"}
"""No coders of weights: the reference, two flags, and the codec that needs a base."""
OTHERS = ("huffman:tables=4", "tans:streams=8", "planes", "zstd")
DATA = Path(linepress_suites.__file__).parent / "data"
SAMPLES = ("whisper-tiny-bf16.safetensors", "smollm2-135m-instruct-kv-handbook-512.safetensors")
MOST_BYTES = 2 << 20
ROUNDS = 7


def specs() -> list[str]:
    """Every line codec that codes weights or keys, some variants of theirs, and block codecs to compare with."""
    lines = [name for name, cls in codecs().items() if issubclass(cls, LineCodec) and name not in LEFT_OUT]
    return [*lines, *OTHERS]


def lines_of(path: str) -> tuple[str, list[Lines]]:
    """(layout, lines) of the bf16 tensors of a file: of a KV snapshot its keys, channel by channel."""
    tensors = [t for t in open_source(path).tensors() if t.format.name == "bf16" and t.n_bytes >= 1 << 16]
    keys = [t for t in tensors if t.name.startswith("key") or ".key" in t.name]
    layout, lines, raw = "channel" if keys else "row", [], 0
    for tensor in keys or tensors:
        if raw + tensor.n_bytes <= MOST_BYTES:
            stored = tensor.read(0, tensor.n_bytes).view(tensor.format.storage).reshape(tensor.shape)
            lines.append(to_lines(stored, layout, tensor.format))
            raw += tensor.n_bytes
    return layout, lines


def _read_back(codec: LineCodec, packed: list[tuple[Packed, Tables]]) -> None:
    for each in packed:
        codec.decode(*each)


def measure(lines: list[Lines]) -> list[dict[str, Any]]:
    """One row a codec: spec, payload ratio, table bits of the card, decode speed over Zstandard's."""
    reference = Zstd()
    blob = b"".join(part.data.tobytes() for part in lines)
    jobs: list[tuple[dict[str, Any], Callable[[], object]]] = []

    def blocks(codec: BlockCodec) -> tuple[int, Callable[[], object]]:
        parts = [blob[at : at + codec.block] for at in range(0, len(blob), codec.block)]
        codes = [codec.encode(part) for part in parts]
        pairs = [(code, len(part)) for code, part in zip(codes, parts, strict=True)]
        return 8 * sum(map(len, codes)), lambda: [codec.decode(*pair) for pair in pairs]

    for spec in specs():
        codec = make(*parse_spec(spec))
        row: dict[str, Any] = {"codec": spec, "best_s": float("inf"), "kind": codec.kind, "table_bits": 0}
        if isinstance(codec, LineCodec):
            packed = [(codec.encode(part, tables), tables) for part in lines for tables in [codec.fit([part])]]
            bits = sum(int(one.bits.sum(dtype="int64")) for one, _ in packed)
            row["table_bits"] = 8 * codec.card(lines[0].format).table_sram_bytes.value
            jobs.append((row, partial(_read_back, codec, packed)))
        else:
            assert isinstance(codec, BlockCodec)
            bits, decode = blocks(codec)
            jobs.append((row, decode))
        row["ratio"] = 8 * len(blob) / bits
    base = {"best_s": float("inf")}
    jobs.append((base, blocks(reference)[1]))
    for _ in range(ROUNDS):
        for row, decode in jobs:
            begun = time.thread_time()
            decode()
            row["best_s"] = min(row["best_s"], time.thread_time() - begun)
    rows = [row for row, _ in jobs[:-1]]
    for row in rows:
        row["decode_over_zstd1"] = base["best_s"] / row.pop("best_s")
    return sorted(rows, key=lambda r: -float(r["ratio"]))


def draw(panels: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Ratio over table bits; the area of a mark is the decode speed."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(8 * len(panels), 5.5), layout="constrained", squeeze=False)
    for panel, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for i, row in enumerate(rows, 1):
            bits = max(row["table_bits"], 4)
            colour = "tab:blue" if row["kind"] == "line" else "dimgray"
            label = f"{i}  {row['codec']}  {row['ratio']:.3f}, {row['decode_over_zstd1']:.2f}x"
            panel.scatter(bits, row["ratio"], s=30 + 120 * row["decode_over_zstd1"], alpha=0.5, color=colour)
            side = (8, 3) if i % 2 else (-14, -9)
            panel.annotate(str(i), (bits, row["ratio"]), xytext=side, textcoords="offset points", fontsize=8)
            panel.plot([], [], " ", label=label)
        panel.set_xscale("log", base=2)
        panel.set(xlabel="decode table, bits (4 = none)", ylabel="payload ratio", title=title)
        panel.grid(alpha=0.3)
        panel.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False, handlelength=0,
            title="ratio, decode in Zstandard-1 (area)", title_fontsize=7,
        )  # fmt: skip
    figure.savefig(out, dpi=150)


def as_one_table(panels: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown, a row a codec in the order of the first panel: ratio and speed in each, and its decode table."""
    heads = [f"{title}: ratio | decode, Zstandard-1" for title in panels]
    out = [f"| codec | {' | '.join(heads)} | decode table, bits |", "|---|" + "---:|" * (2 * len(panels) + 1)]
    by_codec = [{row["codec"]: row for row in rows} for rows in panels.values()]
    for codec, first in by_codec[0].items():
        cells = [f"{row['ratio']:.3f} | {row['decode_over_zstd1']:.2f}" for row in (each[codec] for each in by_codec)]
        table = f"{first['table_bits']:,.0f}" if first["kind"] == "line" else "–"
        out.append(f"| `{codec}` | {' | '.join(cells)} | {table} |")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.family", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", default=[str(DATA / name) for name in SAMPLES])
    parser.add_argument("--out", type=Path, help="the figure, a PNG, PDF or SVG")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="the rows as a table for docs/codecs.md")
    options = parser.parse_args(arguments)
    panels = {}
    for path in options.files:
        layout, lines = lines_of(path)
        panels[f"{Path(path).stem}, lines by {layout}"] = measure(lines)
    if options.out:
        draw(panels, options.out)
    if options.json:
        print(json.dumps(panels, indent=1))
        return 0
    if options.markdown:
        print("\n".join(as_one_table(panels)))
        return 0
    for title, rows in panels.items():
        print(f"\n{title}\n{'codec':<18} {'ratio':>7} {'table, bits':>12} {'decode, zstd-1':>15}")
        for row in rows:
            print(
                f"{row['codec']:<18} {row['ratio']:7.4f} {row['table_bits']:12,.0f} {row['decode_over_zstd1']:15.2f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
