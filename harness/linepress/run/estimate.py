"""What a run would cost before it is run: core-hours from bytes and the rates in ``rates.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from linepress.suite.yaml12 import parse_yaml

CASE_S = 0.0004
"""Of the driver and the worker for a case whatever its size (`benchmarks.scale overhead`, and recording it)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time of some cases on one core.

    Attributes
    ----------
    cases, n_bytes
        Cases, and the raw bytes that they go through (a tensor counts once for each of its cases).
    core_s
        Seconds of one core.
    guessed : int
        Cases of codecs without a rate of their own, taken at the slowest known one.
    """

    cases: int
    n_bytes: int
    core_s: float
    guessed: int

    def wall_s(self, cores: int) -> float:
        """Seconds on so many cores, all busy to the end."""
        return self.core_s / max(cores, 1)


@lru_cache(maxsize=1)
def rates() -> dict[str, float]:
    """GB/s of a core by variant."""
    text = (files("linepress.run") / "rates.yaml").read_text(encoding="utf-8")
    return {str(name): float(rate) for name, rate in parse_yaml(text, Path("rates.yaml")).data.items()}


def rate_of(variant: str, codec: str) -> tuple[float, bool]:
    """GB/s of a variant: its own, else the slowest of its codec; and False where even that is the slowest of all."""
    known = rates()
    if variant in known:
        return known[variant], True
    related = [rate for name, rate in known.items() if name.split(":")[0] == codec]
    return (min(related), True) if related else (min(known.values()), False)


def case_s(variant: str, codec: str, n_bytes: int) -> float:
    """Seconds of one core for a case."""
    return CASE_S + n_bytes / (rate_of(variant, codec)[0] * 1e9)


def estimate(cases: Iterable[tuple[str, str, int]], repeats: int = 1) -> Estimate:
    """Time of ``(variant, codec, bytes)`` cases; timed rounds beyond the first are counted as whole passes, which is
    more than they cost."""
    number = n_bytes = guessed = 0
    core_s = 0.0
    for variant, codec, size in cases:
        rate, own = rate_of(variant, codec)
        number += 1
        n_bytes += size
        guessed += not own
        core_s += CASE_S + max(repeats, 1) * size / (rate * 1e9)
    return Estimate(number, n_bytes, core_s, guessed)
