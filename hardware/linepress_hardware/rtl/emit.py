"""A design as RTLIL or Verilog."""

from __future__ import annotations

import tempfile
from pathlib import Path

from amaranth.back import rtlil

from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.yosys import run_yosys


def module_name(name: str) -> str:
    """The Verilog module of a design."""
    return "linepress_" + name.replace("-", "_")


def to_rtlil(engine: LineEngine, name: str) -> str:
    return str(rtlil.convert(engine, name=module_name(name), ports=engine.ports(), emit_src=False))


def to_verilog(engine: LineEngine, name: str) -> str:
    """The engine as one flat Verilog module, memories as arrays."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "design.il").write_text(to_rtlil(engine, name))
        run_yosys(
            ["read_rtlil design.il", "proc", "flatten", "opt_clean -purge", "write_verilog -noattr design.v"], folder
        )
        return (folder / "design.v").read_text()
