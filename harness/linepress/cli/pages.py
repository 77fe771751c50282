"""``linepress pages SNAPSHOT``: what codecs make of a KV cache as serving engines hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.errors import EXIT_CASES_FAILED, EXIT_NOTHING_MEASURED, EXIT_OK

if TYPE_CHECKING:
    from linepress.sources import TensorRef

EPILOG = """\b
Examples:
  linepress pages kv.safetensors --contract vllm-0.26 -c context -c zstd:level=3
  linepress pages kv.safetensors --fit other-text.safetensors --contract vllm-0.29:bhlnc --contract lmcache-0.5
  linepress pages kv.safetensors --cast fp16 --contract llama.cpp -c huffman --links
  linepress pages --list

\b
line    a line of 64 B alone, in place: slots of 32, 40, 48 and 64 B
page    a whole page, moved: out of the engine's pool and back
object  the whole snapshot as one object

Exit codes: 0 ok, 1 a page grew under a codec, 2 a codec was not lossless or does not take the snapshot,
3 nothing was measured, 4 usage.
"""


@click.command(name="pages", epilog=EPILOG)
@click.argument("uri", metavar="[SNAPSHOT]", required=False)
@click.option("--contract", "contracts", multiple=True, metavar="NAME", help="Engine's layout; may be repeated.")
@click.option("-c", "--codec", "specs", multiple=True, metavar="SPEC", help="Codec with options; may be repeated.")
@click.option("--fit", "other", metavar="OTHER", help="Snapshot of another text, which tables are fitted on.")
@click.option(
    "--cast",
    default="none",
    show_default=True,
    metavar="C",
    help="Cache in another format: e4m3:scale=tensor, int4:scale=kivi.",
)
@click.option("--layers", metavar="N,…", help="Only these layers.")
@click.option(
    "--block-tokens", type=click.IntRange(1, 1 << 20), help="Tokens of a page; the engine's own if not given."
)
@click.option(
    "--links", is_flag=True, help="Also what pages and lines gain on PCIe, NVLink, UALink, 400G and an SSD."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sample of lines.")
@click.option("--list", "list_them", is_flag=True, help="List the layouts of every engine with their sources.")
@json_option
def command(
    uri: str | None,
    contracts: tuple[str, ...],
    specs: tuple[str, ...],
    other: str | None,
    cast: str,
    layers: str | None,
    block_tokens: int | None,
    links: bool,
    seed: int,
    list_them: bool,
    as_json: bool,
) -> int:
    """Codecs on the pages of serving engines: ratio, worst page, slots, bytes moved, growth and latency.

    The snapshot's tokens are laid as each contract says (its own layout if none is given); every unit is coded,
    decoded and compared. Tables are fitted a layer and side, on the snapshot itself unless --fit names another text.
    """
    from linepress.sources.snapshot.contract import layout_named

    if list_them:
        return _list(as_json)
    if uri is None:
        raise click.UsageError("name a snapshot, or give --list")
    from linepress.api.measured import make_variants, source_of
    from linepress.sources import Selection
    from linepress.stages.measure import offload
    from linepress.stages.measure.pages import coder_rate, lay, measure_pages
    from linepress_codecs.errors import CodecError

    variants = make_variants(specs or ("context", "huffman", "zstd:level=3", "lz4"), (), ())
    try:
        chosen = Selection(layers=tuple(int(part) for part in layers.split(",")) if layers else ())
    except ValueError:
        raise click.BadParameter(f"{layers!r} is not a list of layers such as 0,15") from None
    tensors = _caches(source_of(uri).tensors(), chosen, cast)
    fitted = _caches(source_of(other).tensors(), chosen, cast) if other else tensors
    own = tensors[0].metadata.get("arrangement", "contiguous") if tensors else "contiguous"
    rows: list[dict[str, Any]] = []
    over: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for name in contracts or (own,):
        layout = layout_named(name, "--contract")
        laid = lay(tensors, layout, block_tokens)
        learned = lay(fitted, layout, block_tokens) if other else laid
        for variant in variants:
            codec = variant.codec
            try:
                found = measure_pages(laid, learned, codec, seed=seed)  # type: ignore[arg-type]
            except CodecError as error:
                failed.append({"contract": name, "codec": variant.spec, "error": str(error)})
                continue
            core = coder_rate(laid, learned, codec) if links else None  # type: ignore[arg-type]
            for row in found:
                rows.append(row | {"tables_of": "another text" if other else "own text", "tokens": laid.tokens})
                if links and row["granularity"] != "object":
                    over += offload.rows(row, _card(codec, laid.format, row), core)
    document = {"snapshot": uri, "fit": other, "cast": cast, "rows": rows, "links": over, "failed": failed}
    if as_json:
        print_json(document)
    elif rows:
        from linepress.tables.pages import link_table, page_table
        from linepress.tables.text import show

        console = stdout()
        where = f"tables fitted on {other}" if other else "tables fitted on the same text"
        console.print(f"{uri}: {rows[0]['tokens']} tokens, {where}", markup=False)
        show(page_table(rows), console)
        if over:
            show(link_table(over), console)
    return _verdict(rows, failed)


def _caches(tensors: list[TensorRef], chosen: Any, cast: str) -> list[TensorRef]:
    return [t.with_cast(cast) for t in chosen.of([t for t in tensors if t.kind in ("key", "value")])]


def _card(codec: Any, fmt: Any, row: dict[str, Any]) -> Any:
    """The card of a codec for one unit of the row."""
    if row["line_codec"]:
        return codec.card(fmt)
    from dataclasses import replace

    own: Any = replace(codec, block=min(max(1 << (row["unit_bytes"] - 1).bit_length(), 64), 1 << 20))
    return own.card(fmt)


def _verdict(rows: list[dict[str, Any]], failed: list[dict[str, str]]) -> int:
    console = stderr()
    for case in failed:
        console.print(f"failed: {case['codec']} on {case['contract']}: {case['error']}", markup=False)
    lossy = [row for row in rows if not row["lossless"]]
    for row in lossy:
        console.print(f"NOT LOSSLESS: {row['codec']} on {row['contract']}, {row['granularity']}", markup=False)
    if lossy or failed:
        return EXIT_CASES_FAILED
    if not rows:
        return EXIT_NOTHING_MEASURED
    grown = [row for row in rows if row["granularity"] == "page" and row["grew"]]
    for row in grown:
        said = f"{row['grew']} of {row['units']} pages grew under {row['codec']} on {row['contract']}"
        console.print(f"FAIL: {said}; an engine must keep them as they are", markup=False)
    return 1 if grown else EXIT_OK


def _list(as_json: bool) -> int:
    from linepress.sources.snapshot.contract import layouts

    rows = [
        {
            "contract": x.name,
            "engine": x.engine,
            "versions": x.versions,
            "axes": "; ".join(f"{kind} {' '.join(axes)}" for kind, axes in x.axes.items()),
            "block_tokens": x.block_tokens,
            "what": x.what,
            "source": x.source,
        }
        for x in layouts().values()
    ]
    if as_json:
        print_json(rows)
        return EXIT_OK
    from linepress.tables.model import Column, Row, RowGroup, Table, cell
    from linepress.tables.text import show

    shown = ("contract", "engine", "versions", "axes", "block_tokens", "what")
    body = tuple(Row(tuple(cell(str(row[key] or "")) for key in shown)) for row in rows)
    show(Table("contracts", "Page contracts", tuple(map(Column, shown)), (RowGroup("", body),)), stdout())
    return EXIT_OK
