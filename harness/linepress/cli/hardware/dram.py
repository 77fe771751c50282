"""``linepress dram``: simulate one memory channel and say where its bandwidth went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.errors import EXIT_GATE_FAILED, LinepressError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from linepress_hardware.dram import DramResult, Part, SimplePart, Trace

CAUSES = {
    "data": "data on the wires",
    "idle": "no request there",
    "queue_full": "request refused, queue full of others",
    "refresh": "refresh",
    "turnaround": "read/write turnaround, rank switch",
    "activation_window": "activate waits for others (tRRD, tFAW)",
    "row_activation": "precharge, activate and tRCD exposed",
    "bank_group": "column spacing in a bank group (tCCD_L)",
    "scheduling": "command bus and order",
}


@click.command("dram", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("part", required=False)
@click.option("--pattern", "pattern_name", metavar="NAME", help="Requests by name; --list shows them.")
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Requests from a file: little-endian uint64 words, byte_address << 1 | is_write, or the text of Ramulator "
    "(LD 0x1240) or DRAMsim3 (0x1240 READ 100).",
)
@click.option(
    "--mapping", metavar="M", help="Address mapping by name, or fields as in co:2,pc,rk,bg,ba,co,ro/bg0^ro0."
)
@click.option("--policy", metavar="P", help="open, closed or adaptive, with :key=value, as in open:read_queue=64.")
@click.option(
    "--requests", type=click.IntRange(min=1), metavar="N", help="How many; 65,536 for a pattern, all of a file."
)
@click.option(
    "--interval-ns", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Open loop: one every X ns."
)
@click.option("--window", type=click.IntRange(min=1), metavar="N", help="Closed loop: at most N requests in flight.")
@click.option("--no-refresh", is_flag=True, help="Leave refresh out.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a timing (ns) or count: tFAW=20."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of a random pattern.")
@click.option("--channels", type=click.IntRange(min=1), default=1, help="Scale to N independent channels.")
@click.option(
    "--check", is_flag=True, help="Check every command of the run against every timing rule; exit 1 if broken."
)
@click.option(
    "--against",
    metavar="FILE",
    help="Measured bandwidth-latency curves (CSV) beside the model's; 'packaged' for those that come with linepress.",
)
@click.option("--system", metavar="TEXT", help="With --against: only systems whose name contains this.")
@click.option(
    "--read-pct-is",
    type=click.Choice(["bus", "program"]),
    help="With --against: what read_pct means, the share of reads on the bus or of loads in the program.",
)
@click.option(
    "--in-flight", type=click.IntRange(min=1), metavar="N", help="With --against: lines in flight a channel."
)
@click.option(
    "--shares", type=click.IntRange(1, 100), default=6, show_default=True, help="With --against: read shares."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --against: draw the curves side by side (.svg, .png, .pdf).",
)
@click.option(
    "--window-counts",
    type=click.Choice(["atoms", "requests"]),
    default="atoms",
    show_default=True,
    help="What --window counts: the atoms of N requests, each freeing its own place, or whole requests.",
)
@click.option("--show", is_flag=True, help="Print the part: organisation and timings with their sources; no run.")
@click.option("--list", "list_all", is_flag=True, help="Print memories, mappings and patterns; no run.")
@json_option
def command(
    part: str | None,
    pattern_name: str | None,
    trace_file: Path | None,
    mapping: str | None,
    policy: str | None,
    requests: int | None,
    interval_ns: float | None,
    window: int | None,
    no_refresh: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    channels: int,
    check: bool,
    against: str | None,
    system: str | None,
    read_pct_is: str | None,
    in_flight: int | None,
    shares: int,
    plot: Path | None,
    window_counts: str,
    show: bool,
    list_all: bool,
    as_json: bool,
) -> int:
    """Simulate one channel of the memory PART, command by command.

    \b
    Examples:
      linepress dram --list
      linepress dram hbm3 --pattern seq
      linepress dram ddr5 --pattern rand --interval-ns 20 --json
      linepress dram hbm4 --pattern rw70 --mapping RoBaRaCoCh --policy closed
      linepress dram lpddr5 --trace requests.bin --window 16
      linepress dram hbm3 --pattern rand --set tFAW=10 --check
      linepress dram --against packaged
      linepress dram --against curves.csv --system EPYC --set ranks=1 --plot curves.svg

    Requests are 64 bytes. Without --interval-ns and --window each is offered as soon as the one before is accepted.
    Latency runs from acceptance by the controller to the last data; it has no PHY, fabric or port in it.
    """
    from linepress_hardware import dram

    if list_all:
        return _list(as_json)
    if against is not None:
        from linepress.cli.hardware.dram_against import against as compare

        return compare(
            against,
            system=system,
            read_pct_is=read_pct_is,
            overrides=_overrides(overrides),
            mapping=mapping,
            policy=policy,
            in_flight=in_flight,
            shares=shares,
            lines=requests or 30_000,
            seed=1 if seed is None else seed,
            plot=plot,
            as_json=as_json,
        )
    if part is None:
        raise LinepressError(f"name a memory: {', '.join(dram.memory_names())}, or a .toml file")
    memory = dram.load_memory(part, _overrides(overrides))
    if show:
        return _show(memory, as_json)
    if (pattern_name is None) == (trace_file is None):
        raise LinepressError("give either --pattern NAME or --trace FILE")
    if interval_ns is not None and window is not None:
        raise LinepressError("--interval-ns (open loop) and --window (closed loop) exclude each other; keep one")
    trace = _trace(memory, pattern_name, trace_file, requests, seed)
    is_dram = isinstance(memory, dram.Part)
    if no_refresh:
        policy = f"{policy or 'open'}:refresh=none" if is_dram else policy
    if check and not is_dram:
        raise LinepressError(f"{memory.name} has no command log to check; leave --check out")
    dram.simulate(memory, trace.address_bytes[:1])  # so that the speed below has no compilation in it
    result = dram.simulate(
        memory,
        trace.address_bytes,
        trace.is_write,
        _arrival(interval_ns, len(trace)),
        mapping=mapping,
        policy=policy,
        window=window,
        window_counts=window_counts,
        log=check,
    )
    violations = []
    if check and isinstance(memory, dram.Part) and result.log is not None:
        violations = dram.check_log(memory, result.log, dram.parse_policy(policy))
    document = _document(memory, result, pattern_name or str(trace_file), channels)
    if check:
        document["violations"] = [f"tick {v.tick} {v.command}: {v.what}" for v in violations]
    if as_json:
        print_json(document)
    else:
        _print(memory, result, document)
    if violations:
        stderr().print(f"{len(violations)} rules broken, first: {document['violations'][0]}")
        return EXIT_GATE_FAILED
    return 0


def _overrides(texts: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not equals or number != number:
            raise LinepressError(f"--set {text!r} is not KEY=NUMBER, as in --set tFAW=20")
        if key in found:
            raise LinepressError(f"--set gives {key} twice; keep one")
        found[key] = number
    return found


def _trace(
    memory: Part | SimplePart, name: str | None, file: Path | None, requests: int | None, seed: int | None
) -> Trace:
    from linepress_hardware import dram

    if name is not None:
        footprint = min(memory.capacity_bytes, 1 << 28)
        return dram.pattern(name, requests or 65536, seed=seed, footprint_bytes=footprint)
    if seed is not None:
        raise LinepressError("--seed belongs to --pattern; a trace file has its order already")
    assert file is not None
    trace = dram.from_file(file.read_bytes())
    if requests is not None and requests > len(trace):
        raise LinepressError(f"{file} holds {len(trace)} requests, fewer than --requests {requests}")
    n = requests or len(trace)
    return dram.Trace(trace.address_bytes[:n], trace.is_write[:n])


def _arrival(interval_ns: float | None, n: int) -> NDArray[np.float64] | None:
    import numpy as np

    return None if interval_ns is None else np.arange(n, dtype=np.float64) * interval_ns


def _document(memory: Part | SimplePart, result: DramResult, requests: str, channels: int) -> dict[str, Any]:
    """The JSON document: the run's summary, the speed of the engine, and N channels where asked."""
    speed = result.n_requests / result.seconds if result.seconds > 0 else None
    document = result.summary() | {"requests": requests, "requests_per_s": speed, "engine_s": result.seconds}
    document["channels"] = channels
    document["bandwidth_all_channels_GBps"] = channels * result.bandwidth_GBps
    document["channels_per_device"] = memory.channels_per_device
    return document


def _print(memory: Part | SimplePart, result: DramResult, d: dict[str, Any]) -> None:
    from linepress_hardware.dram import Part

    out = stdout()
    out.print(f"{memory.name}   {memory.title}   one channel, {memory.capacity_bytes / 2**30:g} GiB")
    out.print(f"mapping {result.mapping}   policy {result.policy}   {d['requests']}, {result.n_requests:,} requests")
    out.print()
    out.print(f"peak       {result.peak_GBps:10.2f} GB/s")
    out.print(f"achieved   {result.bandwidth_GBps:10.2f} GB/s   {result.bandwidth_pct_peak:.1f} % of peak ↑")
    if d["channels"] > 1:
        out.print(f"{d['channels']} channels {d['bandwidth_all_channels_GBps']:9.2f} GB/s   independent channels")
    causes = CAUSES if isinstance(memory, Part) else CAUSES | {"row_activation": "bank access, page read or program"}
    out.print("where the data bus time went, % of it")
    for cause, percent in d["bus_time_pct"].items():
        if percent >= 0.05 or cause == "data":
            out.print(f"  {percent:6.1f}   {causes[cause]}")
    if d["read_latency_mean_ns"] == d["read_latency_mean_ns"]:
        out.print("read latency ↓, ns, acceptance to last data")
        names = ("min", "p50", "mean", "p90", "p99", "p999", "max")
        out.print("  " + "   ".join(f"{n} {d[f'read_latency_{n}_ns']:.1f}" for n in names))
    out.print(f"row hits   {100 * result.row_hit_rate:9.1f} %   commands {_counts(result.commands)}")
    if result.energy_pJ:
        parts = ", ".join(f"{k} {v / result.bytes / 8:.2f}" for k, v in result.energy_pJ.items())
        out.print(f"energy     {d['energy_pJ_per_bit']:10.2f} pJ/bit asked for, device ({parts}); sources: --show")
    speed = d["requests_per_s"]
    out.print(
        f"simulated  {result.sim_time_ns / 1e3:10.1f} µs" + (f"   {speed / 1e6:.2f} M requests/s" if speed else "")
    )


def _counts(commands: dict[str, int]) -> str:
    return ", ".join(f"{k} {v:,}" for k, v in commands.items())


def _list(as_json: bool) -> int:
    from linepress_hardware import dram
    from linepress_hardware.dram.mapping import NAMED

    memories = {n: dram.load_memory(n) for n in dram.memory_names()}
    texts = {
        "mappings": {n: text for n, (_, text) in NAMED.items()},
        "patterns": {n: p.help for n, p in dram.PATTERNS.items()},
    }
    document: dict[str, Any] = {
        "memories": {
            n: {"title": m.title, "peak_GBps": m.peak_GBps, "channels_per_device": m.channels_per_device}
            for n, m in memories.items()
        },
        **texts,
    }
    if as_json:
        print_json(document)
        return 0
    out = stdout()
    out.print("memories: name, peak of one channel, channels a device")
    for n, m in memories.items():
        out.print(f"  {n:10} {m.peak_GBps:8.2f} GB/s  × {m.channels_per_device:<3} {m.title}")
    for section in ("mappings", "patterns"):
        out.print(section)
        for n, text in texts[section].items():
            out.print(f"  {n:12} {text}")
    return 0


def _show(memory: Part | SimplePart, as_json: bool) -> int:
    from linepress_hardware import dram

    clocks = memory.ck if isinstance(memory, dram.Part) else {}
    rows = [
        {
            "name": f.name,
            "value": f.value,
            "unit": f.unit,
            "clocks": clocks.get(f.name),
            "status": f.status,
            "source": f.source,
        }
        for f in memory.figures
    ]
    if as_json:
        print_json({"part": memory.name, "title": memory.title, "peak_GBps": memory.peak_GBps, "figures": rows})
        return 0
    out = stdout()
    out.print(f"{memory.name}   {memory.title}   peak {memory.peak_GBps:.2f} GB/s a channel")
    for row in rows:
        clock = "" if row["clocks"] is None else f"{row['clocks']} CK"
        out.print(
            f"  {row['name']:22} {row['value']:12g} {row['unit']:6} {clock:>9}  {row['status']:11} {row['source']}"
        )
    return 0
