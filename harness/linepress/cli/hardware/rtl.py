"""``linepress rtl``: decoders as hardware: Verilog out, simulation against the Python codec, synthesis."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.errors import EXIT_GATE_FAILED, EXIT_OK, LinepressError

if TYPE_CHECKING:
    from linepress.rtl.check import Check
    from linepress_hardware.rtl.catalog import Design
    from linepress_hardware.rtl.line import LineEngine
    from linepress_hardware.rtl.synthesis.mapped import Mapped

SAMPLE = "whisper-tiny-bf16.safetensors"

EPILOG = """\b
Examples:
  linepress rtl list
  linepress rtl emit window -o window.v
  linepress rtl simulate window model.safetensors --lines 100000 --damaged 10000
  linepress rtl simulate tans:streams=8 --simulator amaranth --lines 100
  linepress rtl synthesise huffman8-64-decoder
  linepress rtl synthesise window --liberty tt.lib.gz --corner ss.lib.gz --wire-ff 1.02 --json

CODEC is a codec with options, as elsewhere, or the name of a design of ``linepress rtl list``.
Needs the extra: pip install 'linepress[rtl]'.
"""

design_options = (
    click.option("--encoder", is_flag=True, help="The encoder, not the decoder."),
    click.option(
        "--format", "fmt", metavar="FORMAT", help="Element format of the lines; bf16 unless the design says."
    ),
)


def _with_design(command: Any) -> Any:
    for option in design_options:
        command = option(command)
    return click.argument("codec", metavar="CODEC")(command)


@click.group("rtl", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Line decoders as RTL: emitted, simulated bit for bit against the codec, synthesised.

    Figures are pre-layout: no placement, no clock tree, no timing of memories, no foundry's process.
    """
    if importlib.util.find_spec("amaranth") is None:
        raise LinepressError(
            "linepress rtl needs the package amaranth and it is not installed: pip install 'linepress[rtl]'"
        )


@command.command("list")
@click.option(
    "--memory", "memories", multiple=True, default=("ddr5", "hbm3e"), show_default=True, metavar="M",
    help="Say how many engines one channel of it needs; may be repeated.",
)  # fmt: skip
@json_option
def list_designs(memories: tuple[str, ...], as_json: bool) -> None:
    """Every design: the codec and format of its lines, clocks, interval, and what was measured of it.

    Clock, area and engines are those of the shipped measurement (ASAP7, typical corner, wires assumed), pre-layout.
    """
    from linepress_codecs.cards.measured import record
    from linepress_hardware.dram import load_part
    from linepress_hardware.rtl.catalog import DESIGNS

    peaks = {name: load_part(name).peak_GBps for name in memories}
    rows = []
    for design in DESIGNS.values():
        measured = record()["designs"].get(design.name, {})
        cycles, interval = (measured["cycles"], measured["interval"]) if measured else _counted(design.make())
        row: dict[str, Any] = {
            "design": design.name, "kind": design.kind, "codec": design.held_against, "format": design.format,
            "cycles": cycles, "interval": interval,
        }  # fmt: skip
        mapped = measured.get("mapped")
        if mapped:
            clock = mapped["timings"][0]["clock_GHz"]
            rate = 64 * clock / interval
            row |= {"GHz": round(clock, 2), "ns": round(cycles / clock, 2), "um2": round(mapped["area_um2"])}
            if not design.addresses:
                needed = {f"for {name}": math.ceil(peak / rate) for name, peak in peaks.items()}
                row |= {"GB/s": round(rate, 1), **needed}
        rows.append({**row, "summary": design.summary})
    if as_json:
        print_json({"designs": rows})
        return
    titles: list[str] = max((list(row) for row in rows), key=len)
    _table(titles, [[row.get(title, "–") for title in titles] for row in rows])


def _counted(engine: LineEngine) -> tuple[int, int]:
    """Clocks and interval of a design that was not measured, by building it."""
    return engine.cycles, engine.interval


@command.command("emit")
@_with_design
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; else standard output."
)
@click.option("--core", is_flag=True, help="Without the memories that lie outside in synthesis.")
def emit(codec: str, encoder: bool, fmt: str | None, output: Path | None, core: bool) -> None:
    """One flat Verilog module of a design, for your own flow."""
    from linepress_hardware.rtl.emit import to_verilog

    design = _design(codec, encoder, fmt)
    text = to_verilog(design.synthesised() if core else design.make(), design.name)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise LinepressError(f"{output} cannot be written ({error.strerror}): give another --output") from None
    stderr().print(f"{design.name}: {len(text.splitlines()):,} lines of Verilog in {output}", markup=False)


@command.command("simulate")
@_with_design
@click.argument("uris", metavar="[PATH]…", nargs=-1)
@click.option(
    "--lines", type=click.IntRange(1), default=20_000, show_default=True, help="Real lines, a seeded sample."
)
@click.option("--damaged", type=click.IntRange(0), default=2_000, show_default=True, help="Damaged lines.")
@click.option(
    "--simulator",
    type=click.Choice(["auto", "verilator", "cxxrtl", "amaranth"]),
    default="auto",
    show_default=True,
    help="auto: the fastest that this machine has; amaranth needs no compiler.",
)
@click.option("--tensor", "names", multiple=True, metavar="GLOB", help="Only tensors of these names.")
@click.option("--cast", metavar="C", help="Cast first, as in e4m3:scale=tensor.")
@click.option("--dtype", metavar="FORMAT", help="Element format of .npy files that hold bits.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sample and the damage.")
@json_option
def simulate(
    codec: str,
    encoder: bool,
    fmt: str | None,
    uris: tuple[str, ...],
    lines: int,
    damaged: int,
    simulator: str,
    names: tuple[str, ...],
    cast: str | None,
    dtype: str | None,
    seed: int,
    as_json: bool,
) -> int:
    """A design against the Python codec over lines of files: data bit for bit, error flag by error flag.

    PATH as for ``linepress measure``; without one, the bundled sample of whisper-tiny. Tables are fitted on the
    lines, and some lines run under other tables too. Zero lines, noise and odd elements are added, random bits lie
    behind each line, and half of the lines come with pauses. Exit 1 if a line differs.
    """
    import numpy as np

    from linepress.rtl.check import check
    from linepress.rtl.lines import sample
    from linepress.sources import Selection, open_source
    from linepress_codecs.formats import format_named
    from linepress_hardware.rtl.simulate.run import pick_simulator

    design = _design(codec, encoder, fmt)
    sources = [open_source(uri, **({"dtype": dtype} if dtype else {})) for uri in uris or (_bundled(),)]
    selection = Selection(names=names)
    tensors = [t.with_cast(cast or "") for source in sources for t in selection.of(source.tensors())]
    real = sample(tensors, format_named(design.format), lines, np.random.default_rng(seed))
    picked = pick_simulator(len(real) + damaged) if simulator == "auto" else simulator
    stderr().print(f"{design.name}: {len(real):,} lines in {picked}", markup=False)
    shown = check(design, real, damaged, picked, seed)
    if as_json:
        print_json(shown.to_dict())
    else:
        _print_check(shown)
    return EXIT_GATE_FAILED if shown.outcome.differ else EXIT_OK


@command.command("synthesise")
@_with_design
@click.option("--liberty", type=click.Path(path_type=Path), metavar="FILE", help="Standard cells, .lib or .lib.gz.")
@click.option(
    "--corner", "corners", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
    help="Time the same netlist with these too; may be repeated.",
)  # fmt: skip
@click.option(
    "--wire-ff", "wire_fF", type=click.FloatRange(0, 1000), default=0.0, show_default=True,
    help="Wire taken to lead to each input pin, fF: an assumption, stated with the result.",
)  # fmt: skip
@click.option(
    "--period-ps", type=click.FloatRange(1, 1e6), default=400.0, show_default=True, help="What gates are sized for."
)
@json_option
def synthesise(
    codec: str,
    encoder: bool,
    fmt: str | None,
    liberty: Path | None,
    corners: tuple[Path, ...],
    wire_fF: float,
    period_ps: float,
    as_json: bool,
) -> None:
    """Area, clock and latency with a liberty file (yosys, abc, OpenSTA); levels and two-input gates without one."""
    design = _design(codec, encoder, fmt)
    engine = design.make()
    head = {"design": design.name, "cycles": engine.cycles, "interval": engine.interval, "outside": design.outside}
    if liberty is None:
        if corners or wire_fF:
            raise LinepressError("--corner and --wire-ff need a library to start from: give --liberty FILE")
        from linepress_hardware.rtl.synthesis.generic import to_gates

        generic = asdict(to_gates(design.synthesised(), design.name))
        if as_json:
            print_json({**head, **generic})
        else:
            _table(
                ("design", "cycles", "levels", "two-input gates", "flip-flops"),
                [
                    [
                        design.name,
                        engine.cycles,
                        generic["levels"],
                        f"{generic['gates']:,}",
                        f"{generic['flip_flops']:,}",
                    ]
                ],
            )
        return
    from linepress_hardware.rtl.synthesis.liberty import read_liberty
    from linepress_hardware.rtl.synthesis.mapped import synthesise as to_cells

    library, others = read_liberty(liberty), [read_liberty(path) for path in corners]
    stderr().print(f"{design.name}: mapping to {library.name}; up to some minutes", markup=False)
    mapped = to_cells(design.synthesised(), design.name, library, wire_fF, others, period_ps)
    if as_json:
        print_json({**head, "library": library.name, "sha256": library.sha256, **mapped.to_dict(engine.cycles)})
    else:
        _print_mapped(design, mapped, engine.cycles, engine.interval)


def _design(codec: str, encoder: bool, fmt: str | None) -> Design:
    """The design of a name or codec specification."""
    from linepress_codecs.registry import codecs, make, parse_spec
    from linepress_hardware.rtl.catalog import DECODER, DESIGNS, ENCODER, design, designs_of

    named = codec in DESIGNS and not encoder and fmt in (None, DESIGNS[codec].format)
    if named or codec.split(":")[0] not in codecs():
        return design(codec)
    spec = make(*parse_spec(codec)).spec
    return designs_of(spec, fmt or "bf16", ENCODER if encoder else DECODER)[0]


def _bundled() -> str:
    from importlib.resources import files

    return str(files("linepress_suites") / "data" / SAMPLE)


def _print_check(shown: Check) -> None:
    out = shown.outcome
    verdict = "equal" if not out.differ else f"{out.differ:,} DIFFER, the first is line {out.first}"
    stdout().print(
        f"{shown.design} against {shown.codec}: {out.lines:,} lines ({shown.real:,} real, {shown.corner:,} corner, "
        f"{shown.damaged:,} damaged of which {shown.refused:,} refused): {verdict}\n"
        f"latency {out.cycles_least} to {out.cycles_most} clocks, a line every {out.interval:.2f} clocks; "
        f"{out.simulator}: built in {out.build_s:.0f} s, {out.lines / max(out.run_s, 1e-9):,.0f} lines/s",
        markup=False,
    )


def _print_mapped(design: Design, mapped: Mapped, cycles: int, interval: int) -> None:
    rows = [
        [
            f"{t.library}, {t.corner}", f"{t.wire_fF:g} fF a pin" if t.wire_fF else "none", f"{t.critical_ps:.0f}",
            f"{t.clock_GHz:.2f}", f"{cycles / t.clock_GHz:.2f}", f"{64 * t.clock_GHz / interval:.0f}",
            "–" if t.memory_ps is None else f"{t.memory_ps:.0f}",
        ]
        for t in mapped.timings
    ]  # fmt: skip
    stdout().print(
        f"{design.name}: {mapped.cells:,} cells, {mapped.area_um2:,.0f} µm², of it flip-flops "
        f"{mapped.sequential_um2:,.0f}, tables {mapped.tables_um2:,.0f}"
        + (f"; outside: {design.outside}" if design.outside else ""),
        markup=False,
    )
    _table(
        (
            "library",
            "wires",
            "critical ps",
            "clock GHz",
            f"{cycles} clocks, ns",
            "GB/s an engine",
            "left for memory, ps",
        ),
        rows,
    )
    stdout().print("pre-layout: no placement, clock tree or memory is in these figures", markup=False)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = stdout()
    console.width = max(console.width if console.is_terminal else 160, 110)
    console.print(table)
