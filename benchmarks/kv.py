"""What a KV cache's ratio depends on: ``python -m benchmarks.kv [--use S … --fit S] [--write]``.

Payload ratios of a snapshot's lines on vLLM's pages with tables of another text (what a device has) and of its own:
by context length, position, layer and head, and for the same cache in bf16, fp8 and quantised as KIVI does. The
snapshots are what ``linepress capture`` writes; without them the bundled sample of two layers is coded with its own
tables. Rows go to ``benchmarks/results/kv.json``; ``--write`` puts the section into docs/pages.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.sources import TensorRef, open_source
from linepress.sources.casts import KIVI, kivi_beside_bytes
from linepress.sources.snapshot.contract import layout_named
from linepress.stages.measure.pages import Laid, lay
from linepress_codecs.contracts import LINE_BITS, LineCodec
from linepress_codecs.variant import Variant

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "suites/linepress_suites/data/smollm2-135m-instruct-kv-handbook-512.safetensors"
RESULTS = ROOT / "benchmarks/results/kv.json"
PAGE = ROOT / "docs/pages.md"
CONTRACT = "vllm-0.22"
"""Keys and values lie in lines apart whatever their format."""
CASES = (
    ("none", "context"),
    ("none", "huffman"),
    ("e4m3:scale=tensor", "context"),
    ("int8:scale=kivi", "context"),
    ("int4:scale=kivi", "context"),
)
EDGES = (0, 16, 64, 256, 512, 1024, 2048, 4096, 6144)
"""First tokens of the stretches of positions; a page is the finest there is."""
Lines = dict[str, NDArray[np.int64]]
Row = dict[str, Any]


def caches(uri: str, cast: str, layers: Sequence[int]) -> list[TensorRef]:
    """Keys and values of the snapshot through a cast, of these layers (all if none are named)."""
    found = [t for t in open_source(uri).tensors() if t.kind in ("key", "value")]
    return [t.with_cast(cast) for t in found if not layers or t.layer in layers]


def measured(laid: Laid, fitted: Laid, codec: LineCodec, heads: int) -> Lines:
    """One entry a line: coded ``bits``, ``side`` (1 values), ``layer``, ``head``, ``token`` (of its page)."""
    parts = []
    pages = laid.tokens // laid.block_tokens
    for (layer, kind), (at, lines) in laid.streams.items():
        bits = codec.measure(lines, codec.fit([fitted.streams[layer, kind][1]])).astype(np.int64)
        channel, n = lines.geometry.channel, lines.geometry.n_channels
        head = np.zeros(len(at), np.int64) if channel is None else channel.astype(np.int64) * heads // n
        token = at // laid.lines_a_page % pages * laid.block_tokens
        side, number = np.full(len(at), int(kind == "value")), np.full(len(at), layer)
        parts.append(np.stack([bits, side, number, head, token]))
    return dict(zip(("bits", "side", "layer", "head", "token"), np.concatenate(parts, axis=1), strict=True))


def ratios(lines: Lines, where: NDArray[np.bool_]) -> Row:
    """Payload ratios of some lines: keys, values and both."""
    out: Row = {"lines": int(where.sum())}
    for name, side in (
        ("keys", where & (lines["side"] == 0)),
        ("values", where & (lines["side"] == 1)),
        ("both", where),
    ):
        bits = int(lines["bits"][side].sum())
        out[name] = LINE_BITS * int(side.sum()) / bits if bits else None
    return out


def study(use: str, fit: str, cast: str, spec: str, layers: Sequence[int], fine: bool) -> list[Row]:
    """Rows of one snapshot, cast and codec, of tables of ``fit`` (itself: own text); ``fine`` adds its parts."""
    codec = Variant.parse(spec).line_codec
    layout = layout_named(CONTRACT, "contract")
    tensors = caches(use, cast, layers)
    laid = lay(tensors, layout)
    fitted = laid if fit == use else lay(caches(fit, cast, layers), layout)
    began = time.process_time()
    lines = measured(laid, fitted, codec, tensors[0].shape[0])
    every = np.ones(len(lines["bits"]), bool)
    said = tensors[0].stored().metadata
    tokens = int(tensors[0].stored().shape[1])
    common = {
        "text": said.get("text", Path(use).stem),
        "tables": "own text" if fit == use else open_source(fit).tensors()[0].metadata.get("text", Path(fit).stem),
        "cast": cast,
        "codec": spec,
        "tokens": tokens,
        "cpu_s": round(time.process_time() - began, 2),
    }
    whole = ratios(lines, every)
    if KIVI in cast:  # with scales, least values and the newest tokens as they are
        beside = sum(sum(kivi_beside_bytes(t.stored())) for t in tensors)
        codes = sum(t.n_bytes for t in tensors)
        coded = codes / whole["both"]
        whole["with_beside"] = (codes + beside) / (coded + beside)
        whole["against_bf16"] = sum(t.stored().n_bytes for t in tensors) / (coded + beside)
    rows = [{**common, "part": "whole", "at": "", **whole}]
    if not fine:
        return rows
    decoded = int(said.get("decoded_tokens", "0"))
    ends = [*(edge for edge in EDGES if edge < laid.tokens), laid.tokens]
    for low, high in pairwise(ends):
        here = (lines["token"] >= low) & (lines["token"] < high)
        rows.append({**common, "part": "position", "at": f"{low:,} to {high:,}", **ratios(lines, here)})
    if decoded:
        here = lines["token"] >= tokens - decoded
        rows.append(
            {**common, "part": "position", "at": f"last {decoded}, decoded one by one", **ratios(lines, here)}
        )
    for layer in np.unique(lines["layer"]):
        of_layer = lines["layer"] == layer
        rows.append({**common, "part": "layer", "at": str(layer), **ratios(lines, of_layer)})
        rows += [
            {**common, "part": "head", "at": f"{layer}.{head}", **ratios(lines, of_layer & (lines["head"] == head))}
            for head in np.unique(lines["head"])
        ]
    return rows


def section(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    whole = [row for row in rows if row["part"] == "whole"]
    text = [
        "Payload of lines on vLLM's pages; **other text** is the headline, for a device has no tables of the text it",
        "will see. `int8`, `int4`: quantised as KIVI does, the ratio of the codes; *all of it*: with scales, least",
        "values and the newest 128 tokens as they are; *against bf16*: what quantising and coding give together.",
        "",
        "| text | tokens | cache | codec | tables of | keys | values | both | all of it | against bf16 |",
        "|---|---:|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(whole, key=lambda r: (r["cast"] != "none", r["cast"], r["codec"], r["tokens"], r["text"])):
        cast = "bf16" if row["cast"] == "none" else row["cast"].partition(":")[0]
        own = row["tables"] == "own text"
        both = _three(row["both"]) if own else f"**{_three(row['both'])}**"
        said = (
            f"{row['tokens']:,}",
            cast,
            f"`{row['codec']}`",
            row["tables"],
            _three(row["keys"]),
            _three(row["values"]),
        )
        more = (both, _three(row.get("with_beside")), _three(row.get("against_bf16")))
        text.append(f"| {' | '.join((row['text'], *said, *more))} |")
    fine = [row for row in rows if row["part"] != "whole"]
    if not fine:
        return "\n".join(text)
    one = fine[0]
    text += [
        "",
        f"By position: {one['text']}, {one['tokens']:,} tokens in bf16, `{one['codec']}`, tables of {one['tables']}:",
        "",
        "| tokens | keys | values | both |",
        "|---|---:|---:|---:|",
    ]
    text += [
        f"| {row['at']} | {_three(row['keys'])} | {_three(row['values'])} | {_three(row['both'])} |"
        for row in fine
        if row["part"] == "position"
    ]
    heads = [row for row in fine if row["part"] == "head"]
    layers = [row for row in fine if row["part"] == "layer"]
    text += ["", "By layer and head of the same case:", ""]
    n = len(heads) // len(layers)
    numbers = "".join(f" keys {h} |" for h in range(n)) + "".join(f" values {h} |" for h in range(n))
    text += [f"| layer | keys | values |{numbers}", "|---:|---:|---:|" + "---:|" * 2 * n]
    for row in layers:
        own = [head for head in heads if head["at"].split(".")[0] == row["at"]]
        cells = [*(_three(head["keys"]) for head in own), *(_three(head["values"]) for head in own)]
        text.append(f"| {row['at']} | {_three(row['keys'])} | {_three(row['values'])} | {' | '.join(cells)} |")
    return "\n".join(text)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the section, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--use", action="append", help="snapshot to code; the last one is also told by its parts")
    parser.add_argument("--fit", default="", help="snapshot of another text to fit tables on")
    parser.add_argument("--layers", default="", help="only these, such as 0,15")
    parser.add_argument("--write", action="store_true", help=f"replace the section of {PAGE.name}")
    given = parser.parse_args(argv)
    layers = [int(part) for part in given.layers.split(",") if part]
    used = given.use or [str(SAMPLE)]
    rows: list[Row] = []
    for use in used:
        for cast, spec in CASES:
            for fit in dict.fromkeys((given.fit or use, use)):
                rows += study(use, fit, cast, spec, layers, (use, cast, spec) == (used[-1], *CASES[0]) and fit != use)
                sys.stderr.write(f"{Path(use).name} {cast} {spec} {rows[-1]['cpu_s']} s\n")
                RESULTS.parent.mkdir(exist_ok=True)  # after every case: what is measured is kept
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = section(rows)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        marked = f"<!-- kv: begin -->\n{text}\n<!-- kv: end -->"
        PAGE.write_text(re.sub(r"<!-- kv: begin -->.*?<!-- kv: end -->", lambda _: marked, page, flags=re.DOTALL))
    else:
        sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
