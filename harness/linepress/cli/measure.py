"""``linepress measure PATH…``: files under codecs, as a table, without Ray and without a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.errors import (
    EXIT_CASES_FAILED,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
    LinepressError,
)
from linepress_codecs.errors import CodecError, SpecError, UnsupportedFormatError

if TYPE_CHECKING:
    from linepress.sources import Selection, Source, TensorRef
    from linepress_codecs.variant import Variant

DEFAULT_CODECS = ("raw", "lz4:block=64KiB", "zstd:level=3:block=64KiB", "huffman")
ROWS_SHOWN = 48
TABLE_COLUMNS = 132
"""Characters a table takes at least; a narrower terminal wraps its lines rather than lose digits."""
COLUMNS = ("raw", "payload ↑", "packed ↑", "bound", "above bound ↓", "lossless", "enc GB/s", "dec GB/s", "size GB/s")

EPILOG = """\b
Examples:
  linepress measure model.safetensors
  linepress measure model.safetensors -c huffman -c zstd:level=3:block=64KiB --json
  linepress measure kv.safetensors -c huffman --layout row --layout channel --packing classes
  linepress measure MODEL_FOLDER --group down_proj --layers 0,15,31 --cast none --cast e4m3:scale=tensor
  linepress measure hf://HuggingFaceTB/SmolLM2-135M@main --max-bytes 64MiB -c huffman
  linepress measure 'synthetic:gauss?shape=4096x4096&sigma=0.02&seed=1&dtype=bf16' -c huffman

\b
payload ratio  raw / coded bits of the lines alone
packed ratio   raw / what lies in memory: lines, tags, offset tables, codec tables
bound          what no codec of the stated class can beat on this tensor

Exit codes: 0 ok, 2 some cases failed or were not lossless, 3 nothing was measured, 4 usage, 130 interrupted.
"""


@dataclass
class Outcome:
    """Rows of the cases that were measured, and what became of the others."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Option callback: bytes of a size such as 64MiB."""
    from linepress_codecs.variant import parse_size

    if value is None:
        return None
    try:
        size = parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}", ctx, param) from None
    if size < 1:
        raise click.BadParameter(f"{value!r} is no size; give at least 1B", ctx, param)
    return size


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
@click.option("--tensor", "names", multiple=True, metavar="GLOB", help="Only tensors of these names.")
@click.option("--group", "groups", multiple=True, metavar="G", help="Only tensors of these groups.")
@click.option("--layers", callback=_layers, metavar="N,…", help="Only tensors of these layers.")
@click.option("--max-bytes", callback=_size, metavar="SIZE", help="Take whole tensors of each PATH up to this size.")
@click.option("--repeats", type=click.IntRange(0, 1000), default=3, show_default=True, help="Timed rounds.")
@click.option(
    "--chunk", "chunk_bytes", callback=_size, default="16MiB", show_default=True, help="Bytes held at a time."
)
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
    Every coded line is decoded and compared, outside timing.
    """
    from linepress import environment

    environment.prepare()
    from linepress.sources import Selection

    variants = make_variants(specs or DEFAULT_CODECS, layouts, packings)
    sources = [_open(uri, dtype, split_scales) for uri in uris]
    selection = Selection(names=names, groups=groups, layers=layers, max_bytes=max_bytes)
    tensors = [tensor for source in sources for tensor in _select(source, selection, casts or ("none",))]
    outcome = _run(tensors, variants, packings=packings, repeats=repeats, chunk_bytes=chunk_bytes, seed=seed)
    document = _document(outcome, sources, histogram)
    if as_json:
        print_json(document)
    elif outcome.rows:
        _table(document, show_all)
    _tell(outcome, sources)
    if not outcome.rows:
        return EXIT_CASES_FAILED if outcome.failed else EXIT_NOTHING_MEASURED
    wrong = outcome.failed or any(row["lossless"] is False for row in outcome.rows)
    return EXIT_CASES_FAILED if wrong else EXIT_OK


def make_variants(specs: Sequence[str], layouts: Sequence[str], packings: Sequence[str]) -> list[Variant]:
    """The variants of ``specs``, each in every layout asked for unless it names its own; the first packing is theirs.

    Raises `SpecError` with a valid example for anything unknown.
    """
    from linepress_codecs.contracts import LineCodec
    from linepress_codecs.packing import parse_packing
    from linepress_codecs.registry import parse_spec
    from linepress_codecs.variant import Variant

    for packing in packings:
        parse_packing(packing)
    found: dict[str, Variant] = {}
    for spec in specs:
        name, options = parse_spec(spec)
        for layout in layouts or (None,):
            own = dict(options)
            if layout is not None:
                own.setdefault("layout", layout)
            variant = Variant.of(name, own)
            if packings and "packing" not in options and isinstance(variant.codec, LineCodec):
                variant = Variant.of(name, {**own, "packing": packings[0]})
            found.setdefault(variant.spec, variant)
    return list(found.values())


def _open(uri: str, dtype: str | None, split_scales: bool) -> Source:
    from linepress.sources import open_source

    options: dict[str, Any] = {}
    if dtype is not None:
        options["dtype"] = dtype
    if split_scales:
        options["split"] = True
    return open_source(uri, **options)


def _select(source: Source, selection: Selection, casts: Sequence[str]) -> Iterator[TensorRef]:
    from linepress.errors import SourceError

    everything = source.tensors()
    chosen = selection.of(everything)
    if not chosen:
        groups = ", ".join(sorted({t.group for t in everything})) or "none"
        raise SourceError(
            f"none of the {len(everything)} tensors of {source.uri} is selected; its groups are {groups}: "
            "widen --tensor, --group, --layers or --max-bytes"
        )
    for cast in casts:
        for tensor in chosen:
            yield tensor.with_cast(cast)


def _run(
    tensors: Sequence[TensorRef],
    variants: Sequence[Variant],
    *,
    packings: Sequence[str],
    repeats: int,
    chunk_bytes: int,
    seed: int,
) -> Outcome:
    """Every tensor under every variant; one case that fails does not stop the others."""
    from linepress.run.progress import Progress
    from linepress.stages.measure.case import measure_case

    outcome = Outcome()
    progress = Progress()
    progress.begin("measure", len(tensors) * len(variants), 0)
    try:
        for tensor in tensors:
            for variant in variants:
                case = {"tensor": tensor.name, "codec": variant.spec, "cast": tensor.cast}
                failures = len(outcome.failed)
                try:
                    row = measure_case(
                        tensor, variant, packings=packings, repeats=repeats, chunk_bytes=chunk_bytes, seed=seed
                    )
                    outcome.rows.append(row)
                except (UnsupportedFormatError, SpecError) as error:
                    outcome.skipped.append({**case, "reason": str(error)})
                except (LinepressError, CodecError, OSError) as error:
                    outcome.failed.append({**case, "error_type": type(error).__name__, "error": str(error)})
                progress.advance(len(outcome.failed) == failures, tensor.n_bytes)
    finally:
        progress.end()
    return outcome


def _document(outcome: Outcome, sources: Sequence[Source], histogram: bool) -> dict[str, Any]:
    from linepress.records.totals import totals

    def count(cases: Sequence[dict[str, str]]) -> Counter[tuple[str, str]]:
        return Counter((case["codec"], case["cast"]) for case in cases)

    cases = []
    for row in outcome.rows:
        shown = {**row, "dtype": row["format"], "codec": row["variant"], "codec_id": row["codec"]}
        if not histogram:
            del shown["bits_histogram"]
        cases.append(shown)
    return {
        "cases": cases,
        "totals": totals(outcome.rows, count(outcome.failed), count(outcome.skipped)),
        "failed": outcome.failed,
        "skipped": outcome.skipped,
        "sources": [{**source.provenance(), "skipped": source.skipped()} for source in sources],
    }


def _table(document: dict[str, Any], show_all: bool) -> None:
    cases, found = document["cases"], document["totals"]
    many = len(cases) > ROWS_SHOWN and not show_all
    if not many and len({case["tensor"] for case in cases}) > 1:
        _print_rows("tensor", cases, [f"{case['tensor']} ({case['cast'] or case['dtype']})" for case in cases])
    labels = [f"{t['tensors']} of {t['planned']} tensors" + (f" as {t['cast']}" if t["cast"] else "") for t in found]
    _print_rows("total, byte-weighted", found, labels)
    if many:
        stdout().print(f"{len(cases):,} rows of tensors not shown; --all shows them, --json has everything")


def _print_rows(first: str, rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    from linepress.tables import format as fmt

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    table.add_column("codec", overflow="fold")
    for title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    sampled = False
    for label, row in zip(labels, rows, strict=True):
        sampled |= bool(row["sampled"])
        table.add_row(
            label,
            row["codec"] + ("*" if row["sampled"] else ""),
            fmt.bytes_si(row["raw_bytes"]),
            fmt.ratio(row["payload_ratio"]),
            fmt.ratio(row["packed_ratio"]),
            fmt.ratio(row["bound_ratio"]),
            fmt.percent(row["above_bound_pct"], signed=True),
            {True: "yes", False: "NO", None: fmt.ABSENT}[row["lossless"]],
            *(fmt.significant(row[f"{work}_GBps"]) for work in ("encode", "decode", "measure")),
        )
    console = stdout()
    console.width = max(console.width if console.is_terminal else 200, TABLE_COLUMNS)
    console.print(table)
    if sampled:
        console.print("* blocks under 4 KiB: a seeded sample of them was coded, sizes are scaled")


def _tell(outcome: Outcome, sources: Sequence[Source]) -> None:
    """What was left out and what went wrong, on stderr."""
    console = stderr()
    for source in sources:
        left_out = source.skipped()
        if left_out:
            name, reason = next(iter(left_out.items()))
            console.print(f"{source.uri}: {len(left_out)} tensors left out, first {name}: {reason}", markup=False)
    reasons = Counter((case["codec"], case["reason"]) for case in outcome.skipped)
    for (codec, reason), n in reasons.items():
        console.print(f"skipped {n} × {codec}: {reason}", markup=False)
    for case in outcome.failed:
        console.print(f"failed: {case['codec']} on {case['tensor']}: {case['error']}", markup=False)
    for row in outcome.rows:
        if row["lossless"] is False:
            where = f"{row['variant']} on {row['tensor']}, line {row['mismatch_line']}"
            console.print(f"NOT LOSSLESS: {where}", markup=False)
