"""One way in: a design and vectors, in the simulator that this machine has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.catalog import Design
from linepress_hardware.rtl.simulate.compiled import CXXRTL, VERILATOR, CompiledModel, compiler
from linepress_hardware.rtl.simulate.interpreted import AMARANTH, interpret
from linepress_hardware.rtl.simulate.vectors import Outcome, Vectors

SIMULATORS = (VERILATOR, CXXRTL, AMARANTH)
FEW_LINES = 300
"""Below this Amaranth's own simulator is done before a model is compiled."""


def pick_simulator(lines: int) -> str:
    """verilator with a compiler, CXXRTL without verilator, Amaranth's own without a compiler or for few lines."""
    if compiler() is None or lines <= FEW_LINES:
        return AMARANTH
    return VERILATOR if shutil.which("verilator") else CXXRTL


def simulate(design: Design, sets: Sequence[Vectors], simulator: str) -> Outcome:
    """Every set of vectors, each with its tables, through the whole engine of ``design``."""
    if simulator == AMARANTH:
        return interpret(design.make(), sets)
    if simulator not in SIMULATORS:
        raise ConfigurationError(f"no simulator is called {simulator!r}; there are {', '.join(SIMULATORS)}")
    with CompiledModel(design, simulator) as model:
        return model.run_all(sets)
