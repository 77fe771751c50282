"""Mutants of a design: one gate changed, to show that the vectors would notice.

All of them are built into one model, which has an input that picks one (yosys' ``mutate``).
"""

from __future__ import annotations

import random
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from linepress_hardware.rtl.emit import module_name, to_rtlil
from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.yosys import run_yosys

MUTANT_BITS = 6
"""Width of the input ``mutant``; 0 selects none."""
CHECK = "check_"
"""Nets of this prefix each say that a line is refused; a mutant of every one of them never says so."""
WIDEST = 24
"""Widest net of which a bit is inverted: inner steps of shifters are wider, and nobody reads all of their bits. Where
there are too few, two bits of each wider one."""
_UNSEEN = re.compile(r"\\(core\.)?(config\.|cfg_|rst|clk)")
_CELL = re.compile(r"^  cell (\$\w+) (\S+)\n((?:    .*\n)*?)  end\n", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """``net`` is stuck at 0 (a check that was dropped), or its bit is inverted."""

    net: str
    cell: str
    bit: int
    mode: str

    @property
    def label(self) -> str:
        return f"{self.net} dropped" if self.mode == "const0" else f"{self.net} bit {self.bit} inverted"


def mutants_of(engine: LineEngine, name: str, others: int, seed: int) -> list[Mutant]:
    """Every check dropped, then ``others`` bits of named nets inverted, drawn by ``seed``; at most 63 in all."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "design.il").write_text(to_rtlil(engine, name))
        run_yosys(["read_rtlil design.il", "proc", "flatten", "opt_clean -purge", "write_rtlil flat.il"], folder)
        text = (folder / "flat.il").read_text()
    checks, rest, wide = [], [], []
    for kind, cell, body in _CELL.findall(text):
        driven = re.search(r"    connect \\Y \\([\w.]+)\n", body)
        if driven is None or kind in ("$dff", "$sdff") or _UNSEEN.search(body):
            continue
        width = int(re.search(r"\\Y_WIDTH (\d+)", body)[1]) if "\\Y_WIDTH" in body else 1  # type: ignore[index]
        width = int(re.search(r"\\WIDTH (\d+)", body)[1]) if kind == "$mux" else width  # type: ignore[index]
        net = driven[1]
        if width > WIDEST:
            wide.append((net, cell, width))
        elif net.split(".")[-1].startswith(CHECK):
            checks.append(Mutant(net, cell, 0, "const0"))
        else:
            rest.append((net, cell, width))
    draw = random.Random(seed)
    rest += 2 * wide if len(rest) < others else []
    picked = draw.sample(sorted(rest), min(others, len(rest)))
    return [*checks, *(Mutant(net, cell, draw.randrange(width), "inv") for net, cell, width in picked)]


def passes_of(mutants: list[Mutant], name: str) -> list[str]:
    """Yosys passes that build ``mutants`` into the flat design; mutant i + 1 is ``mutants[i]``."""
    return [
        f"mutate -mode {each.mode} -module {module_name(name)} -cell {each.cell} -port \\Y -portbit {each.bit} "
        f"-ctrl mutant {MUTANT_BITS} {i + 1}"
        for i, each in enumerate(mutants)
    ]
