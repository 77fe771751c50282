"""Which of the hot loops' forms this machine runs: AVX-512, AVX2 or portable.

A form is chosen once, from the features that Numba compiles for. ``LINEPRESS_TARGET`` = ``avx512``, ``avx2`` or
``portable`` forces a lower one for a whole process, instructions included (as on the oldest processor that has it);
`forced` takes another form on this machine's instructions for a while, which is how one machine tests them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm
from numba.core import config as _config

from linepress_codecs.errors import SpecError

VARIABLE = "LINEPRESS_TARGET"
config: Any = _config
"""Numba fills this module at run time; its stubs know nothing of it."""
SLOW_BIT_MOVES = ("znver1", "znver2")
"""Processors whose pdep and pext take a cycle or more a bit (microcode; AMD, Software Optimization Guide 17h)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A form of the kernels.

    Attributes
    ----------
    name : str
    lanes : int
        Lines in the lanes of vector registers; 0 where registers hold one line's word.
    bit_moves : bool
        Whether pdep and pext are there and fast.
    cpu : str
        LLVM's name of the oldest processor with these instructions.
    """

    name: str
    lanes: int
    bit_moves: bool
    cpu: str


TARGETS = {
    target.name: target
    for target in (
        Target("avx512", 32, True, "skylake-avx512"),
        Target("avx2", 16, True, "haswell"),
        Target("portable", 0, False, "x86-64"),
    )
}


def _named(name: str) -> Target:
    if name not in TARGETS:
        raise SpecError(f"{VARIABLE}={name} is not a target: use one of {', '.join(TARGETS)}")
    return TARGETS[name]


@lru_cache(maxsize=1)
def _chosen() -> Target:
    features = {name for name, there in llvm.get_host_cpu_features().items() if there}
    if config.CPU_NAME or config.CPU_FEATURES:  # Numba was told what to compile for: believe nothing of the host
        features = {part[1:] for part in (config.CPU_FEATURES or "").split(",") if part.startswith("+")}
    wide = {"avx512f", "avx512dq", "avx512vl", "avx512bw"} <= features
    best = TARGETS["avx512" if wide else "avx2"]
    if not {"avx2", "bmi2"} <= features or llvm.get_host_cpu_name() in SLOW_BIT_MOVES:
        best = TARGETS["portable"]
    return best


_GATHER = """
declare <8 x i32> @llvm.masked.gather.v8i32.v8p0(<8 x ptr>, i32, <8 x i1>, <8 x i32>)
define <8 x i32> @gather(ptr %base, <8 x i32> %index) {
  %from = getelementptr i32, ptr %base, <8 x i32> %index
  %all = call <8 x i32> @llvm.masked.gather.v8i32.v8p0(
    <8 x ptr> %from, i32 4, <8 x i1> splat (i1 true), <8 x i32> poison)
  ret <8 x i32> %all
}
"""


def _fast_gathers() -> bool:
    """Whether LLVM's model of this processor has the gathers of AVX2 faster than loads one by one (Intel from Skylake
    on; no AMD)."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features="-avx512f", opt=2
    )
    return "vpgather" in machine.emit_assembly(llvm.parse_assembly(_GATHER))


def _forced_by_variable() -> Target | None:
    """The target of `VARIABLE`, with Numba told to compile for it."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    target = _named(name)
    if llvm.get_default_triple().startswith("x86_64"):
        # An older processor's instructions, this one's speed of gathers: a run in native code decides by it too.
        config.CPU_NAME, config.CPU_FEATURES = target.cpu, "+fast-gather" if _fast_gathers() else ""
    return target


_now = _forced_by_variable()


def target() -> Target:
    """The form in use."""
    return _now or _chosen()


@contextmanager
def forced(name: str) -> Iterator[Target]:
    """Use another form of the kernels, in this process, until the end of the block."""
    global _now
    before, _now = _now, _named(name)
    try:
        yield _now
    finally:
        _now = before
