"""The RTL designs, measured: equality with the Python codecs, mutants, two-input gates, cells and clocks.

    python -m benchmarks.rtl [DESIGN ...] [--part simulate|mutants|gates|cells ...] [--files F ...] [--lines N]
                             [--damaged N] [--liberty TT.lib --corner SS.lib --wire-ff 1.02] [--write] [--markdown]

Results go to ``benchmarks/results/rtl.json``. ``--write`` takes them into ``linepress_codecs/cards/measured.json``,
which the hardware cards are made from; parts that were not run stay as they are there. Cells need a liberty file,
which is not part of linepress. Simulations want verilator or at least a C++ compiler.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from linepress.errors import LinepressError
from linepress.rtl.check import check, vector_sets
from linepress.rtl.lines import sample
from linepress.sources import open_source
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import format_named
from linepress_hardware.errors import HardwareError
from linepress_hardware.rtl.catalog import DESIGNS, Design, design
from linepress_hardware.rtl.simulate.compiled import CompiledModel
from linepress_hardware.rtl.simulate.mutants import mutants_of, passes_of
from linepress_hardware.rtl.simulate.run import pick_simulator
from linepress_hardware.rtl.synthesis.generic import to_gates
from linepress_hardware.rtl.synthesis.liberty import Liberty, read_liberty
from linepress_hardware.rtl.synthesis.mapped import synthesise

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "rtl.json"
MEASURED = ROOT / "codecs" / "linepress_codecs" / "cards" / "measured.json"
SAMPLE = ROOT / "suites" / "linepress_suites" / "data" / "whisper-tiny-bf16.safetensors"
PARTS = ("simulate", "mutants", "gates", "cells")
OTHERS = 12
"""Inverted bits among the mutants of a design, beside its dropped checks."""
SEED = 1


def tools() -> dict[str, str]:
    """Versions of what the figures come from."""
    found = {name: importlib.metadata.version(name) for name in ("amaranth", "pyosys")}
    for program, pattern in (("verilator", r"Verilator ([\d.]+)"), ("sta", r"([\d.]+)"), ("g++", r"(\d+\.\d+\.\d+)")):
        if shutil.which(program):
            flag = "-version" if program == "sta" else "--version"
            said = subprocess.run([program, flag], capture_output=True, text=True, check=False).stdout
            match = re.search(pattern, said)
            found[program] = match[1] if match else "?"
    return found


def _lines(chosen: Design, files: Sequence[Path], most: int) -> Any:
    tensors = [t for path in files for t in open_source(str(path)).tensors()]
    if chosen.format != "bf16":
        tensors = [t.with_cast(f"{chosen.format}:scale=tensor") for t in tensors if t.stored_format == "bf16"]
    return sample(tensors, format_named(chosen.format), most, np.random.default_rng(SEED))


def simulated(chosen: Design, files: Sequence[Path], lines: int, damaged: int) -> dict[str, Any]:
    shown = check(chosen, _lines(chosen, files, lines), damaged, pick_simulator(lines), SEED)
    row = shown.to_dict()
    row.update(row.pop("outcome"))
    row["files"] = [path.name for path in files]
    return row


def mutated(chosen: Design, files: Sequence[Path], lines: int, damaged: int) -> dict[str, Any]:
    """How many mutants the vectors notice, by name those that they do not."""
    mutants = mutants_of(chosen.make(), chosen.name, OTHERS, SEED)
    sets, _ = vector_sets(chosen, _lines(chosen, files, lines), damaged, SEED)
    with CompiledModel(chosen, pick_simulator(lines), passes_of(mutants, chosen.name)) as model:
        plain = model.run_all(sets).differ
        # A mutant is caught by the first set of vectors that differs.
        runs = ((model.run(each, i + 1).differ for each in sets) for i in range(len(mutants)))
        differ = [next(filter(None, found), 0) for found in runs]
    return {
        "unchanged_differ": plain,
        "mutants": len(mutants),
        "caught": sum(d > 0 for d in differ),
        "checks_dropped": sum(each.mode == "const0" for each in mutants),
        "missed": [each.label for each, d in zip(mutants, differ, strict=True) if d == 0],
        "lines_that_differ": {each.label: d for each, d in zip(mutants, differ, strict=True)},
    }


def markdown(record: dict[str, Any]) -> str:
    """The table of hardware/MODEL.md: clocks, cells, and clock and latency in every corner."""
    lines = [
        (
            "| design | clocks | interval | gates, levels | cells | µm² | ps: wires / none / slow | GHz, wires | "
            "ns: wires / slow | GB/s an engine | lines, none differs | mutants caught |"
        ),
        "|---|---:|---:|---|---:|---:|---|---:|---|---:|---:|---|",
    ]
    for name, row in record["designs"].items():
        generic, mapped, shown, mutation = (row.get(k) for k in ("generic", "mapped", "simulation", "mutation"))
        most = max(row["cycles"], shown["cycles_most"] if shown else 0)
        clocks = f"{row['cycles']}–{most:,}" if most > row["cycles"] else row["cycles"]
        cells = [f"`{name}`", clocks, f"{shown['interval']:.3g}" if shown else row["interval"]]
        cells.append(f"{generic['gates']:,}, {generic['levels']}" if generic else "–")
        if mapped:
            wires, none, slow = mapped["timings"]
            cells += [
                f"{mapped['cells']:,}",
                f"{mapped['area_um2']:,.0f}",
                " / ".join(f"{t['critical_ps']:.0f}" for t in (wires, none, slow)),
                f"{wires['clock_GHz']:.2f}",
                f"{most / wires['clock_GHz']:.2f} / {most / slow['clock_GHz']:.1f}",
                "–" if DESIGNS[name].addresses else f"{64 * wires['clock_GHz'] / row['interval']:.0f}",
            ]
        else:
            cells += ["–"] * 6
        cells.append(f"{shown['lines']:,}" if shown else "–")
        cells.append(f"{mutation['caught']} of {mutation['mutants']}" if mutation else "–")
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rtl", description=__doc__.splitlines()[0])
    parser.add_argument("designs", nargs="*", metavar="DESIGN")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--files", type=Path, nargs="+", default=[SAMPLE])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--damaged", type=int, default=4_000)
    parser.add_argument("--liberty", type=Path)
    parser.add_argument("--corner", type=Path, action="append", default=[])
    parser.add_argument("--wire-ff", type=float, default=0.0)
    parser.add_argument("--period-ps", type=float, default=400.0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="print the table of measured.json and end")
    args = parser.parse_args(argv)
    if args.markdown:
        sys.stdout.write(markdown(json.loads(MEASURED.read_text())))
        return 0
    parts = args.part or [part for part in PARTS if part != "cells" or args.liberty]
    target = MEASURED if args.write else RESULTS
    target.parent.mkdir(parents=True, exist_ok=True)
    wrong = False
    try:
        libraries = [read_liberty(path) for path in (args.liberty, *args.corner) if path]
        for name in args.designs or DESIGNS:
            chosen = design(name)
            engine = chosen.make()
            head = {
                "cycles": engine.cycles,
                "interval": engine.interval,
                "codec": chosen.held_against,
                "format": chosen.format,
            }
            if "simulate" in parts:
                shown = simulated(chosen, args.files, args.lines, args.damaged)
                wrong |= shown["differ"] > 0
                _store(target, name, {**head, "simulation": shown})
                _say(f"{name}: {shown['lines']:,} lines, {shown['differ']} differ")
            if "mutants" in parts:
                mutation = mutated(chosen, args.files, args.lines, args.damaged)
                wrong |= bool(mutation["missed"])
                _store(target, name, {**head, "mutation": mutation})
                _say(f"{name}: {mutation['caught']} of {mutation['mutants']} mutants caught {mutation['missed']}")
            if "gates" in parts:
                generic = to_gates(chosen.synthesised(), name)
                _store(target, name, {**head, "generic": asdict(generic)})
                _say(f"{name}: {generic.gates:,} gates, {generic.levels} levels")
            if "cells" in parts:
                first, *others = libraries
                mapped = synthesise(chosen.synthesised(), name, first, args.wire_ff, others, args.period_ps)
                mapped_row = {**mapped.to_dict(engine.cycles), "period_ps": args.period_ps}
                _store(target, name, {**head, "mapped": mapped_row}, libraries)
                clock = mapped.timings[0].clock_GHz
                _say(f"{name}: {mapped.cells:,} cells, {mapped.area_um2:,.0f} µm², {clock:.2f} GHz")
    except (LinepressError, HardwareError, CodecError) as error:
        _say(str(error))
        return 1
    return 1 if wrong else 0


def _store(target: Path, name: str, parts: dict[str, Any], libraries: Sequence[Liberty] = ()) -> None:
    """Take ``parts`` of a design into the file, read afresh: several benchmarks may run side by side."""
    record: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {"designs": {}}
    record["tools"] = {**record.get("tools", {}), **tools()}
    known = record.setdefault("libraries", {})
    known.update({each.name: {"corner": each.corner, "sha256": each.sha256} for each in libraries})
    record["designs"].setdefault(name, {}).update(parts)
    record["designs"] = {key: record["designs"][key] for key in DESIGNS if key in record["designs"]}
    target.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
