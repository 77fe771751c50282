"""Synthesis by yosys alone: two-input gates and logic levels, to hold one variant of a codec against another."""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from linepress_hardware.rtl.emit import module_name, to_rtlil
from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.yosys import run_yosys

GATES = "AND,NAND,OR,NOR,XOR,XNOR,ANDNOT,ORNOT"
ABC_SCRIPT = "strash; ifraig; balance; if -g -K 6; strash; dch -f; map -B 0.9; topo\n"


@dataclass(frozen=True)
class Generic:
    """A design in two-input gates.

    Attributes
    ----------
    gates : int
        Two-input gates and inverters.
    flip_flops : int
    levels : int
        Most gates between two registers, the tables' registers and the ports among them.
    """

    gates: int
    flip_flops: int
    levels: int
    synthesis_s: float


def to_gates(engine: LineEngine, name: str) -> Generic:
    """Map ``engine`` to two-input gates; memories outside are left out."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="linepress-rtl-") as place:
        folder = Path(place)
        (folder / "design.il").write_text(to_rtlil(engine, name))
        (folder / "script.abc").write_text(ABC_SCRIPT)
        run_yosys(
            [
                "read_rtlil design.il",
                f"synth -flatten -noabc -top {module_name(name)}",
                "dfflegalize -cell $_DFF_P_ 01",
                f"abc -g {GATES} -script script.abc",
                "opt_clean -purge",
                "tee -q -o stat.json stat -json",
                "tee -q -o levels.txt ltp -noff",
            ],
            folder,
        )
        (module,) = json.loads((folder / "stat.json").read_text())["modules"].values()
        found = re.search(r"length=(\d+)", (folder / "levels.txt").read_text())
    kinds = module["num_cells_by_type"]
    flip_flops = sum(n for kind, n in kinds.items() if "DFF" in kind)
    gates = sum(n for kind, n in kinds.items() if kind.startswith("$_") and "DFF" not in kind)
    return Generic(gates, flip_flops, int(found[1]) if found else 0, time.perf_counter() - began)
