"""``linepress channel INPUT``: the compressed memory channel on measured line sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import BYTES, json_option, print_json, stderr, stdout
from linepress.errors import EXIT_CASES_FAILED, EXIT_NOTHING_MEASURED, EXIT_OK, LinepressError

if TYPE_CHECKING:
    from linepress.stages.channel.case import ChannelCase
    from linepress.stages.channel.inputs import LineSizes

EPILOG = """\b
Examples:
  linepress channel runs/smoke-1a2b3c4d
  linepress channel model.safetensors --codec huffman --memory hbm3 --memory ddr5
  linepress channel model.safetensors --codec huffman:line=32 --memory hbm3 --packing stream
  linepress channel sizes.json --memory hbm3 --packing stream --packing classes:set=0/48/64 --json
  linepress channel kv.safetensors -c huffman --layout channel --workload decode --mode inline --packing slots:slot=48
  linepress channel sizes.csv --set axi_outstanding=64 --set metadata_cache_bytes=32768
  linepress channel sizes.json --memory hbm3e --workload decode --mapping RoCoBaRaCh --policy adaptive --queue 128
  linepress channel sizes.json --within 5
  linepress channel sizes.json --memory hbm3 --interleave --within 2
  linepress channel sizes.json --sweep decode_latency_ns --load-curve --blocks --capacity --faults
  linepress channel kv.safetensors -c huffman --packing stream --packing classes:set=auto --leakage
  linepress channel sizes.json --trace accesses.bin --packing stream
  linepress channel sizes.json --memory lpddr5x --schemes all --within 2

\b
sizes.json     a list of line counts by coded bits, or {"344": 1200, "512": 3}
sizes.csv      columns bits,lines
accesses.bin   little-endian uint64 words, byte_address << 1 | is_write
gain x         over the plain channel at its best (mapping, page policy, queues, refresh of a recorded search) on the
               same accesses, ± its 95 % confidence interval
–              not converged: the interval is wider than --within after 4 million accesses, no gain is stated
*              above the bytes saved; the notes name the resource that these free

Exit codes: 0 ok, 2 some cases failed, 3 nothing was measured, 4 usage, 130 interrupted.
"""


def _settings(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Option callback: key=number pairs."""
    found: dict[str, float] = {}
    for text in value:
        key, equals, number = text.partition("=")
        try:
            parsed = float(number)
        except ValueError:
            parsed = float("nan")
        if not (key and equals) or parsed != parsed:
            raise click.BadParameter(f"{text!r} is not key=number, for instance axi_outstanding=64", ctx, param)
        found[key] = parsed
    return tuple(found.items())


@click.command(name="channel", epilog=EPILOG)
@click.argument("source", metavar="INPUT")
@click.option(
    "-c", "--codec", "codecs", multiple=True, metavar="SPEC", help="Code the tensors of INPUT with this codec."
)
@click.option("--layout", metavar="L", help="How tensors become lines (row, channel, …).")
@click.option("--max-bytes", type=BYTES, metavar="SIZE", help="Take whole tensors of INPUT up to this size.")
@click.option("--data", type=click.Choice(["weights", "kv"]), help="What the lines are; decides the mode.")
@click.option(
    "--memory", "memories", multiple=True, metavar="PART", help="Memory part (default hbm3); may be repeated."
)
@click.option(
    "--packing",
    "packings",
    multiple=True,
    metavar="P",
    help="Packing (default stream, classes:set=auto); 'off' is the plain channel.",
)
@click.option(
    "--workload", "workloads", multiple=True, metavar="W", help="Pattern whose latency is reported (default random)."
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "offline", "inline"]),
    default="auto",
    show_default=True,
    help="Compressed once and read-only, or both ways.",
)
@click.option("--placement", default="controller", show_default=True, help="controller, sram or dma.")
@click.option(
    "--mapping",
    metavar="M",
    help="Address mapping of the compressed channel (default: the plain one's best).",
)
@click.option(
    "--policy",
    metavar="P",
    help="Its controller: open, closed, adaptive, timeout, with :key=value, as in open:refresh=per_bank.",
)
@click.option("--queue", type=click.IntRange(1, 4096), metavar="N", help="Entries of its two queues, in atoms.")
@click.option(
    "--load-pct", type=float, default=10.0, show_default=True, help="Offered load of the latency run, % of pin peak."
)
@click.option(
    "--requests",
    type=click.IntRange(100, 10_000_000),
    default=20_000,
    show_default=True,
    help="Accesses of the latency run; saturated runs take at least as many, and go on until --within is reached.",
)
@click.option(
    "--within",
    type=click.FloatRange(0, 50, min_open=True),
    default=1.0,
    show_default=True,
    metavar="PCT",
    help="Largest half-width of a gain's 95 % confidence interval, in %.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of line order, workload and faults."
)
@click.option("--ecc", default="secded-72-64", show_default=True, help="secded-72-64, rs-34-32 or rs-36-32.")
@click.option("--decode-ns", type=click.FloatRange(0), help="Decode latency instead of the hardware card's.")
@click.option(
    "--set", "settings", multiple=True, callback=_settings, metavar="KEY=N", help="A parameter of data/channel.toml."
)
@click.option("--sweep", "sweeps", multiple=True, metavar="KEY", help="Vary one parameter (of the first case).")
@click.option("--load-curve", is_flag=True, help="Latency against load (of the first case).")
@click.option("--blocks", is_flag=True, help="A 64 KiB and a 4 KiB block codec in the same place.")
@click.option(
    "--interleave",
    is_flag=True,
    help="Random pages on a device of several channels, by its interleaving (first case).",
)
@click.option("--capacity", is_flag=True, help="Fill a device until it refuses; attack its thresholds.")
@click.option("--leakage", is_flag=True, help="Bits a line that sizes and atoms give away, and what padding costs.")
@click.option("--faults", is_flag=True, help="Damage the memory and read all of it through the port (first case).")
@click.option(
    "--schemes",
    "scheme_names",
    multiple=True,
    metavar="NAME",
    help="Instead: compaction and translation schemes side by side (all, or names; an unknown one lists them).",
)
@click.option(
    "--trace", "trace", type=click.Path(path_type=Path), help="Replay a recorded trace (on the first case)."
)
@json_option
def command(
    source: str,
    codecs: tuple[str, ...],
    layout: str | None,
    max_bytes: int | None,
    data: str | None,
    memories: tuple[str, ...],
    packings: tuple[str, ...],
    workloads: tuple[str, ...],
    mode: str,
    placement: str,
    mapping: str | None,
    policy: str | None,
    queue: int | None,
    load_pct: float,
    requests: int,
    within: float,
    seed: int,
    ecc: str,
    decode_ns: float | None,
    settings: tuple[tuple[str, float], ...],
    sweeps: tuple[str, ...],
    load_curve: bool,
    blocks: bool,
    interleave: bool,
    capacity: bool,
    leakage: bool,
    faults: bool,
    scheme_names: tuple[str, ...],
    trace: Path | None,
    as_json: bool,
) -> int:
    """Simulate a compressed memory channel, beside the plain channel and the closed forms.

    INPUT is a histogram of coded line sizes (.json or .csv), a run folder, or a tensor file or hub repository
    together with --codec.
    """
    from linepress import environment

    environment.prepare()
    from linepress.stages.channel import extras as extras
    from linepress.stages.channel.case import ChannelCase
    from linepress.stages.channel.inputs import case_of
    from linepress.stages.channel.row import channel_case
    from linepress.tables.ratios import listed
    from linepress_codecs.errors import CodecError
    from linepress_hardware.errors import HardwareError

    sizes = line_sizes(source, codecs, layout, max_bytes, data)
    base = ChannelCase(
        memory=(memories or ("hbm3",))[0],
        packing=(packings or ("stream",))[0],
        workload=(workloads or ("random",))[0],
        codec="",
        data="",
        bits_histogram=(),
        seed=seed,
        n_requests=requests,
        mode=mode,
        placement=placement,
        load_pct_peak=load_pct,
        mapping=mapping,
        policy=_policy(policy, queue),
        within_pct=within,
        ecc_code=ecc,
        overrides=settings,
    )
    if scheme_names:
        bases = [replace(case_of(base, found, decode_ns), memory=m) for found in sizes for m in memories or ("hbm3",)]
        return _schemes(bases, scheme_names, as_json)
    cases = [
        (replace(case_of(base, found, decode_ns), memory=memory, packing=packing, workload=workload), found)
        for found in sizes
        for memory in memories or ("hbm3",)
        for packing in packings or ("stream", "classes:set=auto")
        for workload in workloads or ("random",)
    ]
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for case, found in cases:
        try:
            rows.append({"format": found.format, "cast": found.cast, **channel_case(case)})
        except (LinepressError, HardwareError, CodecError) as error:
            if len(cases) == 1:
                raise
            failed.append({"memory": case.memory, "packing": case.packing, "codec": case.codec, "error": str(error)})
    document: dict[str, Any] = {"rows": rows, "failed": failed}
    if rows:
        first = cases[0][0]
        if sweeps:
            document["sweeps"] = [row for key in sweeps for row in extras.sweep_rows(first, key)]
        if load_curve:
            document["load_curve"] = extras.load_rows(first)
        if blocks:
            document["block_baseline"] = extras.block_rows(first)
        if interleave:
            document["interleave"] = extras.interleave_rows(first)
        if capacity:
            document["capacity"] = extras.capacity_row(first)
            document["contract"] = extras.contract_rows(first)
        if leakage:
            document["leakage"] = [extras.leakage_row(case) for case in {c.packing: c for c, _ in cases}.values()]
        if faults:
            document["faults"] = extras.fault_rows(first)
        if trace is not None:
            document["trace"] = extras.trace_row(first, trace)
    if as_json:
        print_json(document)
    else:
        _print(document)
    for reason in dict.fromkeys(failure["error"] for failure in failed):
        of = [f"{case['codec']} {case['packing']} {case['memory']}" for case in failed if case["error"] == reason]
        cases_said = "1 case" if len(of) == 1 else f"{len(of)} cases"
        stderr().print(f"failed, {cases_said} of {len(cases)}: {reason} ({listed(of, 3)})", markup=False)
    if not rows:
        return EXIT_NOTHING_MEASURED
    return EXIT_CASES_FAILED if failed else EXIT_OK


def _schemes(bases: list[ChannelCase], names: tuple[str, ...], as_json: bool) -> int:
    """The tables of `linepress.stages.channel.schemes` instead of the cases."""
    from linepress.stages.channel.schemes import chosen_schemes, published_rows, scheme_rows, verdict
    from linepress.tables.schemes import published_table, scheme_table
    from linepress.tables.text import show

    chosen = chosen_schemes(names)
    rows = [row for base in bases for row in scheme_rows(base, chosen)]
    published = published_rows(bases[0], chosen)
    said = verdict(rows)
    if as_json:
        print_json({"schemes": rows, "published": published, "verdict": said})
        return EXIT_OK
    out = stdout()
    for table in [scheme_table(rows), *([published_table(published)] if published else [])]:
        out.print(table.caption, style="bold", markup=False)
        show(table, out)
        out.print()
    for sentence in said:
        out.print(sentence, markup=False, highlight=False)
    return EXIT_OK


def _policy(policy: str | None, queue: int | None) -> str | None:
    """The policy with both queues set, checked; None where neither option is given."""
    from linepress_hardware.dram import parse_policy

    if queue is None:
        return policy if policy is None else str(parse_policy(policy))
    return str(replace(parse_policy(policy), read_queue=queue, write_queue=queue))


def line_sizes(
    source: str, codecs: tuple[str, ...], layout: str | None, max_bytes: int | None, data: str | None
) -> list[LineSizes]:
    from linepress.records.place import StorePath, place_of
    from linepress.stages.channel.inputs import from_histogram, from_run, from_tensors

    path = place_of(source)
    if codecs:
        found = from_tensors(source, codecs, layout=layout, max_bytes=max_bytes)
    elif isinstance(path, StorePath) or (path / "manifest.json").is_file():
        found = from_run(path)
    elif path.suffix.lower() in (".json", ".csv"):
        found = [from_histogram(path)]
    else:
        raise LinepressError(
            f"{source}: neither a histogram (.json, .csv) nor a run folder; for a tensor file add --codec huffman"
        )
    return found if data is None else [replace(sizes, data=data) for sizes in found]


def _print(document: dict[str, Any]) -> None:
    from linepress.tables.channel import channel_notes, channel_tables, extra_tables
    from linepress.tables.text import show

    rows = document["rows"]
    out = stdout()
    for table in [*(channel_tables(rows) if rows else []), *extra_tables(document)]:
        out.print(table.caption, style="bold", markup=False)
        show(table, out)
        out.print()
    for note in channel_notes(rows) if rows else []:
        out.print(note, markup=False)
