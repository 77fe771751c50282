"""``linepress measure PATH…``: files under codecs, as a table, without Ray and without a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from linepress.api.measured import DEFAULT_CODECS, Measured, make_variants, run_cases, select, source_of
from linepress.cli.common import BYTES, json_option, print_json, stderr, stdout
from linepress.errors import (
    EXIT_CASES_FAILED,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
)

if TYPE_CHECKING:
    from linepress.sources import Source, TensorRef
    from linepress_codecs.variant import Variant

ROWS_SHOWN = 48
COLUMNS = ("raw", "codec", "payload", "packed", "bound", "above bound", "lossless", "encode", "decode", "measure")

EPILOG = """\b
Examples:
  linepress measure model.safetensors
  linepress measure model.safetensors -c huffman -c zstd:level=3:block=64KiB --json
  linepress measure kv.safetensors -c huffman --layout row --layout channel --packing classes
  linepress measure MODEL_FOLDER --group down_proj --layers 0,15,31 --cast none --cast e4m3:scale=tensor
  linepress measure FINE_TUNED --base MODEL_FOLDER -c delta -c adaptive
  linepress measure hf://HuggingFaceTB/SmolLM2-135M@main --max-bytes 64MiB -c huffman
  linepress measure 'synthetic:gauss?shape=4096x4096&sigma=0.02&seed=1&dtype=bf16' -c huffman

\b
payload ratio  raw / coded bits of the lines alone
packed ratio   raw / what lies in memory: lines, tags, offset tables, codec tables
bound          what no codec of the stated class can beat on this tensor

Exit codes: 0 ok, 2 some cases failed or were not lossless, 3 nothing was measured, 4 usage, 130 interrupted.
"""


def _layers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Option callback: layers such as 0,15,31."""
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of layers such as 0,15,31", ctx, param) from None


@click.command(name="measure", epilog=EPILOG)
@click.argument("uris", metavar="PATH…", nargs=-1, required=True)
@click.option("-c", "--codec", "specs", multiple=True, metavar="SPEC", help="Codec with options; may be repeated.")
@click.option("--layout", "layouts", multiple=True, metavar="L", help="How tensors become lines; may be repeated.")
@click.option("--packing", "packings", multiple=True, metavar="P", help="How lines lie in memory; may be repeated.")
@click.option(
    "--cast", "casts", multiple=True, metavar="C", help="none, e4m3:scale=tensor, dequant:bf16 …; may be repeated."
)
@click.option("--base", "base_uri", metavar="OLD", help="An older version, given to codecs that code against one.")
@click.option("--tensor", "names", multiple=True, metavar="GLOB", help="Only tensors of these names.")
@click.option("--group", "groups", multiple=True, metavar="G", help="Only tensors of these groups.")
@click.option("--layers", callback=_layers, metavar="N,…", help="Only tensors of these layers.")
@click.option("--max-bytes", type=BYTES, metavar="SIZE", help="Take whole tensors of each PATH up to this size.")
@click.option("--repeats", type=click.IntRange(0, 1000), default=3, show_default=True, help="Timed rounds.")
@click.option("--chunk", "chunk_bytes", type=BYTES, default="16MiB", show_default=True, help="Bytes held at a time.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of samples and spot checks.")
@click.option("--dtype", metavar="FORMAT", help="Element format of .npy files that hold bits.")
@click.option("--split-scales", is_flag=True, help="Scales and quants of GGUF blocks as tensors of their own.")
@click.option("--all", "show_all", is_flag=True, help=f"Show every row, not {ROWS_SHOWN} at most.")
@click.option("--histogram", is_flag=True, help="Keep the histogram of line sizes in --json.")
@json_option
def command(
    uris: tuple[str, ...],
    specs: tuple[str, ...],
    layouts: tuple[str, ...],
    packings: tuple[str, ...],
    casts: tuple[str, ...],
    base_uri: str | None,
    names: tuple[str, ...],
    groups: tuple[str, ...],
    layers: tuple[int, ...],
    max_bytes: int | None,
    repeats: int,
    chunk_bytes: int,
    seed: int,
    dtype: str | None,
    split_scales: bool,
    show_all: bool,
    histogram: bool,
    as_json: bool,
) -> int:
    """Measure files with codecs, bit for bit, as a table; no Ray needed.

    PATH is a .safetensors, .gguf or .npy file, a folder of shards, hf://org/name@revision[/folder] or synthetic:….
    Every coded line is decoded and compared, outside timing. With --base each tensor goes with the one of the same
    name in OLD, which the decoder is taken to hold: codec delta codes the difference.
    """
    from linepress import environment

    environment.prepare()
    from linepress.sources import Selection

    variants = make_variants(specs or DEFAULT_CODECS, layouts, packings)
    options = {name: value for name, value in {"dtype": dtype, "split": split_scales or None}.items() if value}
    sources = [source_of(uri, **options) for uri in uris]
    selection = Selection(names=names, groups=groups, layers=layers, max_bytes=max_bytes)
    base = None if base_uri is None else source_of(base_uri, **options)
    tensors = [tensor for source in sources for tensor in select(source, selection, casts or ("none",), base)]
    if base is not None and not any(variant.codec.codec_id == "delta" for variant in variants):
        stderr().print("--base changes nothing for these codecs; add -c delta")
    outcome = _run(tensors, variants, packings=packings, repeats=repeats, chunk_bytes=chunk_bytes, seed=seed)
    document = _document(outcome, sources, histogram)
    if base is not None:
        document["base"] = base.provenance()
    if as_json:
        print_json(document)
    elif outcome.rows:
        _table(document, show_all)
    _tell(outcome, sources)
    if not outcome.rows:
        return EXIT_CASES_FAILED if outcome.failed else EXIT_NOTHING_MEASURED
    wrong = outcome.failed or any(row["lossless"] is False for row in outcome.rows)
    return EXIT_CASES_FAILED if wrong else EXIT_OK


def _run(tensors: Sequence[TensorRef], variants: Sequence[Variant], **options: Any) -> Measured:
    from linepress.run.progress import Progress

    progress = Progress()
    progress.begin("measure", len(tensors) * len(variants), 0)
    try:
        return run_cases(tensors, variants, advance=progress.advance, **options)
    finally:
        progress.end()


def _document(outcome: Measured, sources: Sequence[Source], histogram: bool) -> dict[str, Any]:
    cases = []
    for row in outcome.rows:
        shown = {**row, "dtype": row["format"], "codec": row["variant"], "codec_id": row["codec"]}
        if not histogram:
            del shown["bits_histogram"]
        cases.append(shown)
    return {
        "cases": cases,
        "totals": outcome.headline(),
        "failed": outcome.failed,
        "skipped": outcome.skipped,
        "sources": [
            {**source.provenance(), "skipped": source.skipped(), "left_out": source.left_out()} for source in sources
        ],
    }


def _table(document: dict[str, Any], show_all: bool) -> None:
    from linepress.tables.ratios import headline_table
    from linepress.tables.text import show

    cases, totals = document["cases"], document["totals"]
    many = len(cases) > ROWS_SHOWN and not show_all
    console = stdout()
    if not many and len({case["tensor"] for case in cases}) > 1:
        show(headline_table({"": [_case_line(case) for case in cases]}, ("tensor", *COLUMNS)), console)
    show(headline_table({"total, byte-weighted": totals}, ("data", *COLUMNS, "ok/plan")), console)
    if many:
        console.print(f"{len(cases):,} rows of tensors not shown; --all shows them, --json has everything")


def _case_line(case: dict[str, Any]) -> dict[str, Any]:
    """One tensor as a line of the headline."""
    return case | {
        "variant": case["codec"],
        "bound": case["bound_name"],
        "ok": int(case["lossless"] is not None),
        "planned": 1,
        "lossless": int(case["lossless"] is True),
    }


def _tell(outcome: Measured, sources: Sequence[Source]) -> None:
    """What was left out and what went wrong, on stderr."""
    console = stderr()
    for source in sources:
        left_out = source.skipped()
        if left_out:
            name, reason = next(iter(left_out.items()))
            console.print(f"{source.uri}: {len(left_out)} tensors left out, first {name}: {reason}", markup=False)
        for name, reason in source.left_out().items():
            console.print(f"{source.uri}: {name} is not read: {reason}", markup=False)
    reasons = Counter((case["codec"], case["reason"]) for case in outcome.skipped)
    for (codec, reason), n in reasons.items():
        console.print(f"skipped {n} × {codec}: {reason}", markup=False)
    for case in outcome.failed:
        console.print(f"failed: {case['codec']} on {case['tensor']}: {case['error']}", markup=False)
    for row in outcome.rows:
        if row["lossless"] is False:
            where = f"{row['variant']} on {row['tensor']}, line {row['mismatch_line']}"
            console.print(f"NOT LOSSLESS: {where}", markup=False)
