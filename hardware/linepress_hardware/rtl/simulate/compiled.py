"""Compiled simulation: the design as C++ by verilator or CXXRTL, and one test bench for both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.catalog import Design
from linepress_hardware.rtl.emit import module_name, to_rtlil
from linepress_hardware.rtl.line import LineEncoder
from linepress_hardware.rtl.simulate.vectors import Outcome, Vectors, fitted, words_of
from linepress_hardware.rtl.yosys import cxxrtl_include, run_yosys

BENCH = Path(__file__).with_name("bench.cpp")
VERILATOR, CXXRTL = "verilator", "cxxrtl"


def compiler() -> str | None:
    """The C++ compiler of this machine, None where there is none."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


class CompiledModel:
    """A design built for simulation; a context manager that removes what it built.

    ``passes`` are run by yosys over the flat design before it is written: mutations. Raises `ConfigurationError`
    without a compiler, without verilator where it is asked for, or where a build fails.
    """

    def __init__(self, design: Design, simulator: str, passes: list[str] | None = None) -> None:
        self.simulator = simulator
        found = compiler()
        if found is None:
            raise ConfigurationError(
                f"{simulator} needs a C++ compiler and there is none: install g++, or take --simulator amaranth"
            )
        if simulator == VERILATOR and shutil.which("verilator") is None:
            raise ConfigurationError(
                "verilator is not installed: apt-get install verilator, or take --simulator cxxrtl"
            )
        began = time.perf_counter()
        engine = self.engine = design.make()
        self._place = tempfile.TemporaryDirectory(prefix="linepress-rtl-")
        folder = self.folder = Path(self._place.name)
        (folder / "design.il").write_text(to_rtlil(engine, design.name))
        flat = ["read_rtlil design.il", "proc", "flatten", "opt_clean -purge", *(passes or [])]
        top = module_name(design.name)
        defines = {"LINE_BITS": engine.line_bits, "DATA_BITS": engine.data_bits}
        if isinstance(engine, LineEncoder):
            defines["OUT_SIZE"] = 1
        if passes:
            defines["MUTANTS"] = 1
        level = "-O0" if passes else "-O1"  # mutants see few lines each: the compiler takes longer than they do
        flags = [f"-D{key}={value}" for key, value in defines.items()]
        if simulator == VERILATOR:
            run_yosys([*flat, "write_verilog -noattr design.v"], folder)
            flags += [f"-DDUT=V{top}", f"-DMODEL='\"V{top}.h\"'"]
            self._run(
                ["verilator", "--cc", "design.v", "--top-module", top, "-O3", "--x-assign", "fast", "--x-initial",
                 "fast", "--noassert", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--Mdir", "model", "--exe",
                 str(BENCH), "-CFLAGS", " ".join([level, *flags])],
            )  # fmt: skip
            self._run(["make", "-C", "model", "-f", f"V{top}.mk", f"OPT_FAST={level}", "OPT_SLOW=-O0"])
            self.program = folder / "model" / f"V{top}"
        else:
            run_yosys([*flat, "write_cxxrtl design.cc"], folder)
            names = [f"-DDUT=cxxrtl_design::p_{top.replace('_', '__')}", '-DMODEL="design.cc"', "-DCXXRTL"]
            self._run([found, "-std=c++14", level, "-w", f"-I{folder}", f"-I{cxxrtl_include()}", *flags, *names,
                       str(BENCH), "-o", "bench"])  # fmt: skip
            self.program = folder / "bench"
        self.build_s = time.perf_counter() - began

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line] or [
                "no reason given"
            ]
            raise ConfigurationError(
                f"{self.simulator} could not be built: {Path(command[0]).name}: {reasons[0].strip()}"
            )
        return done.stdout

    def run(self, vectors: Vectors, mutant: int = 0) -> Outcome:
        """Every vector through the model; ``mutant`` picks one of the mutations it was built with."""
        records = np.concatenate(
            [
                fitted(vectors.given, words_of(self.engine.line_bits)),
                vectors.size[:, None],
                fitted(vectors.wanted, words_of(self.engine.data_bits)),
                vectors.wanted_bits[:, None],
                vectors.error[:, None],
            ],
            axis=1,
        ).astype("<u4")
        records.tofile(self.folder / "records.bin")
        np.array(vectors.config, "<u4").tofile(self.folder / "config.bin")
        began = time.perf_counter()
        answer = json.loads(self._run([str(self.program), "records.bin", "config.bin", str(mutant)]))
        ran = time.perf_counter() - began
        given = {"lines": 0, "refused": 0, "cycles_least": 0, "cycles_most": 0, "interval": 0.0, **answer}
        given.pop("reason", None)
        return Outcome(simulator=self.simulator, build_s=self.build_s, run_s=ran, **given)

    def run_all(self, sets: Sequence[Vectors], mutant: int = 0) -> Outcome:
        """Every set of vectors in turn, each with its tables."""
        return reduce(lambda before, now: now.after(before), [self.run(each, mutant) for each in sets])

    def __enter__(self) -> CompiledModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()
