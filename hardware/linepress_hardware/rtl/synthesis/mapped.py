"""Synthesis with a liberty file: yosys and abc map the design, OpenSTA times the netlist in every corner."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.emit import module_name, to_rtlil
from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.synthesis.liberty import Liberty
from linepress_hardware.rtl.yosys import run_yosys

ABC_SCRIPT = (
    "strash; balance; if -g -K 6 -C 8; strash; dch -f; if -g -K 6 -C 8; strash; dch -f; map -B 0.9; topo; "
    "buffer -c -N 10; topo; upsize -D {period}; dnsize -D {period}; buffer -c -N 10; upsize -D {period}; "
    "dnsize -D {period}; stime -p\n"
)
"""Balanced for depth twice, mapped for delay, buffered and sized; of seven scripts the shortest critical paths."""
LOAD_FF = 3.0
"""What an output or register is taken to load, for sizing: a flip-flop's pin and its wire."""
FAR_PS = 100_000.0
"""A period that every path meets, so that slack gives the path."""


@dataclass(frozen=True)
class Timing:
    """One netlist under one library.

    Attributes
    ----------
    wire_fF : float
        Added to every input pin.
    register_ps : float
        Longest path from register to register, clock to output and setup included.
    from_memory_ps, to_memory_ps : float | None
        Longest path from a memory's data to a register, setup included, and from a register to a memory's address,
        where the design has memories outside.
    """

    library: str
    corner: str
    wire_fF: float
    register_ps: float
    from_memory_ps: float | None = None
    to_memory_ps: float | None = None

    @property
    def critical_ps(self) -> float:
        return max(self.register_ps, self.to_memory_ps or 0.0)

    @property
    def clock_GHz(self) -> float:
        return 1000.0 / self.critical_ps

    @property
    def memory_ps(self) -> float | None:
        """What is left at this clock for a memory, from the clock's edge to its data."""
        return None if self.from_memory_ps is None else self.critical_ps - self.from_memory_ps


@dataclass(frozen=True)
class Mapped:
    """A design as cells. Areas in µm², those of memories outside not among them; ``tables_um2``: table registers."""

    cells: int
    area_um2: float
    sequential_um2: float
    tables_um2: float
    timings: tuple[Timing, ...]
    synthesis_s: float

    def to_dict(self, cycles: int) -> dict[str, Any]:
        """Plain data, each timing with its clock and the latency of ``cycles`` clocks."""
        timings = [
            {
                **asdict(t),
                "critical_ps": t.critical_ps,
                "clock_GHz": t.clock_GHz,
                "latency_ns": cycles / t.clock_GHz,
                "memory_ps": t.memory_ps,
            }
            for t in self.timings
        ]
        return {**asdict(self), "timings": timings}


def check_timer() -> str:
    """Path of OpenSTA; raises `ConfigurationError` where it is not installed."""
    found = shutil.which("sta")
    if found is None:
        raise ConfigurationError(
            "timing needs OpenSTA's program sta and it is not installed: apt-get install opensta, or leave --liberty "
            "out for logic levels and two-input gates"
        )
    return found


def synthesise(
    engine: LineEngine, name: str, library: Liberty, wire_fF: float, corners: Sequence[Liberty], period_ps: float
) -> Mapped:
    """Map ``engine`` to ``library`` with ``wire_fF`` on each pin, sized for ``period_ps``.

    The one netlist is timed with the wires, without them, and with the wires in each of ``corners``.
    """
    check_timer()
    began = time.perf_counter()
    top = module_name(name)
    with tempfile.TemporaryDirectory(prefix="linepress-rtl-") as place:
        folder = Path(place)
        (folder / "design.il").write_text(to_rtlil(engine, name))
        (folder / "cells.lib").write_text(library.with_wires(wire_fF))
        # Without a cell that drives them, abc leaves outputs of registers unbuffered whatever they drive.
        (folder / "cells.constr").write_text(f"set_driving_cell {library.buffer()}\nset_load {LOAD_FF}\n")
        (folder / "script.abc").write_text(ABC_SCRIPT.format(period=period_ps))
        run_yosys(
            [
                "read_rtlil design.il",
                f"hierarchy -check -top {top}",
                "setattr -mod -set keep_hierarchy 1 *.config",
                *("proc", "flatten", "opt -full", "wreduce", "alumacc", "share", "opt"),
                *("memory -nomap", "memory_map", "opt -full", "techmap", "opt -fast", "opt_clean"),
                "dfflibmap -liberty cells.lib",
                "opt",
                f"abc -liberty cells.lib -constr cells.constr -D {period_ps} -script script.abc",
                *("opt_clean -purge", "setundef -zero", "splitnets -ports", "splitnets", "opt_clean -purge"),
                "tee -q -o stat.json stat -json -liberty cells.lib",
                "write_verilog -noattr -noexpr -nohex -nodec netlist.v",
            ],
            folder,
        )
        took = time.perf_counter() - began
        modules = json.loads((folder / "stat.json").read_text())["modules"]
        outside = any(port.name.startswith("rd_data") for port in engine.ports())
        kinds = [(library, wire_fF), *([(library, 0.0)] if wire_fF else []), *((each, wire_fF) for each in corners)]
        timings = tuple(_time(folder, top, each, wire, outside) for each, wire in kinds)
    return _mapped(modules, timings, took)


def _mapped(modules: dict[str, dict[str, Any]], timings: tuple[Timing, ...], took: float) -> Mapped:
    """Sums over the modules of yosys' statistics, each of which counts its own cells."""

    def total(key: str, tables_only: bool = False) -> float:
        picked = [m for name, m in modules.items() if not tables_only or name.endswith(".config")]
        return sum(float(m.get(key) or 0.0) for m in picked)

    cells = sum(
        int(n) for m in modules.values() for kind, n in m["num_cells_by_type"].items() if not kind.endswith(".config")
    )
    return Mapped(cells, total("area"), total("sequential_area"), total("area", tables_only=True), timings, took)


def _time(folder: Path, top: str, library: Liberty, wire_fF: float, outside: bool) -> Timing:
    """Longest paths of the netlist in ``folder`` under one library."""
    (folder / "timed.lib").write_text(library.with_wires(wire_fF))
    longest = "report_checks -path_delay max -digits 4"
    registers = "[all_registers -clock_pins]", "[all_registers -data_pins]"
    script = [
        "read_liberty timed.lib",
        "read_verilog netlist.v",
        f"link_design {top}",
        f"create_clock -name clk -period {FAR_PS / library.ps} [get_ports clk]",
        f"set_input_transition {20 / library.ps} [all_inputs]",
        "set_false_path -from [get_cells config/*]",
        f'puts "PATH register"; {longest} -from {registers[0]} -to {registers[1]}',
    ]
    if outside:
        script += [
            "set_input_delay 0 -clock clk [get_ports rd_data*]",
            "set_output_delay 0 -clock clk [get_ports rd_addr*]",
            f'puts "PATH from_memory"; {longest} -from [get_ports rd_data*] -to {registers[1]}',
            f'puts "PATH to_memory"; {longest} -from {registers[0]} -to [get_ports rd_addr*]',
        ]
    (folder / "timing.tcl").write_text("\n".join([*script, "exit", ""]))
    done = subprocess.run(["sta", "-exit", "timing.tcl"], cwd=folder, capture_output=True, text=True, check=False)
    paths = {}
    for block in done.stdout.split("PATH ")[1:]:
        slack = re.search(r"(-?[\d.]+)\s+slack", block)
        if slack:
            paths[block.split()[0]] = FAR_PS - float(slack[1]) * library.ps
    if "register" not in paths:
        reasons = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line] or ["no path found"]
        raise ConfigurationError(f"OpenSTA cannot time {top} with {library.name}: {reasons[0].strip()}")
    return Timing(
        library.name, library.corner, wire_fF, paths["register"], paths.get("from_memory"), paths.get("to_memory")
    )
