"""The last nights of a suite, figure by figure, with the nights at which a figure stepped to another level.

Exact figures step whenever they change. Speeds are noisy: their log, relative to the control codecs, is cut into
levels by minimising the sum of absolute deviations plus a price for each step (the L1 Potts functional; Friedrich et
al. 2008), robust against single odd nights. A level lasts two nights or more, so a step is reported on its second
night; the comparison of the last night with its baseline does not wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from linepress.compare.nights import EXACT_FIGURES, Night
from linepress.compare.noise import noise
from linepress.compare.spread import log_speeds, sigma
from linepress.compare.stats import Reals

STEP_PRICE = 5.0
"""Price of a step in standard deviations, times the log of the number of nights: under 1 % of steady series of 30
nights, Gaussian or with one night in ten off by five deviations, show a step (``tests/harness/compare``)."""
SHORTEST_LEVEL = 2
HISTORY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level at ``night`` (index of the first night of the new level)."""

    night: int
    run: str
    before: float
    after: float

    @property
    def change_pct(self) -> float:
        return 100 * (self.after / self.before - 1) if self.before else math.inf


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over the nights; None where a night lacks it. Speeds are as measured, in 10^9 B/s."""

    data: str
    variant: str
    figure: str
    exact: bool
    values: tuple[float | None, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class History:
    """Nights, the oldest first, and every figure over them."""

    nights: tuple[Night, ...]
    lines: tuple[Line, ...]

    def document(self) -> dict[str, Any]:
        """As plain data, for ``history.json`` and the report."""
        return {
            "history_version": HISTORY_VERSION,
            "nights": [
                {k: v for k, v in asdict(night).items() if k not in ("figures", "path")} for night in self.nights
            ],
            "lines": [
                {**asdict(line), "steps": [{**asdict(s), "change_pct": s.change_pct} for s in line.steps]}
                for line in self.lines
            ],
        }


def history(found: Sequence[Night], min_effect_pct: float = 3.0) -> History:
    """Every figure over the nights; steps of speeds smaller than ``min_effect_pct`` are left out."""
    speeds = log_speeds(found)
    lines = []
    for key in dict.fromkeys(key for night in found for key in night.figures):
        data, variant, figure = key.split("|")
        values = tuple(night.figures.get(key) for night in found)
        exact = figure in EXACT_FIGURES
        steps = exact_steps(found, values) if exact else _speed_steps(found, speeds.get(key), values, min_effect_pct)
        lines.append(Line(data, variant, figure, exact, values, tuple(steps)))
    return History(tuple(found), tuple(lines))


def exact_steps(found: Sequence[Night], values: Sequence[float | None]) -> list[Step]:
    """Every change from one night to the next that has the figure."""
    steps: list[Step] = []
    last: float | None = None
    for i, value in enumerate(values):
        if value is None:
            continue
        if last is not None and not math.isclose(value, last, rel_tol=1e-9):
            steps.append(Step(i, found[i].run, last, value))
        last = value
    return steps


def _speed_steps(
    found: Sequence[Night], logs: Reals | None, values: Sequence[float | None], min_effect_pct: float
) -> list[Step]:
    """None where no round of any night was long enough to judge."""
    return [] if logs is None else speed_steps(found, logs, values, min_effect_pct)


def speed_steps(
    found: Sequence[Night], logs: Reals, values: Sequence[float | None], min_effect_pct: float
) -> list[Step]:
    """Steps of one speed; levels are medians of the rates as measured."""
    have = np.flatnonzero(~np.isnan(logs))
    cuts = levels(logs[have])
    steps = []
    edges = [0, *cuts, len(have)]
    for k, cut in enumerate(cuts):
        before, after = have[edges[k] : cut], have[cut : edges[k + 2]]
        change = float(np.median(logs[after]) - np.median(logs[before]))
        if 100 * math.expm1(abs(change)) < min_effect_pct:
            continue
        rates = [v for i in before if (v := values[i]) is not None]
        level = float(np.median(rates))
        # The step is the one relative to the controls; the machine's own drift is not the codec's.
        steps.append(Step(int(have[cut]), found[int(have[cut])].run, level, level * math.exp(change)))
    return steps


def levels(values: Reals) -> list[int]:
    """Indices at which a new level begins, by dynamic programming over all segmentations."""
    n = len(values)
    if n < 2 * SHORTEST_LEVEL:
        return []
    price = STEP_PRICE * max(sigma(values), noise().floor) * math.log(n)
    cost = _costs(values)
    best = np.full(n + 1, np.inf)
    best[0] = -price
    start = np.zeros(n + 1, dtype=np.int64)
    for end in range(SHORTEST_LEVEL, n + 1):
        begins = np.arange(0, end - SHORTEST_LEVEL + 1)
        totals = best[begins] + price + cost[begins, end]
        start[end] = begins[int(np.argmin(totals))]
        best[end] = totals.min()
    cuts = []
    end = n
    while start[end] > 0:
        end = int(start[end])
        cuts.append(end)
    return cuts[::-1]


def _costs(values: Reals) -> Reals:
    """``cost[i, j]``: sum of absolute deviations of ``values[i:j]`` from their median."""
    n = len(values)
    cost = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(i + 1, n + 1):
            piece = values[i:j]
            cost[i, j] = float(np.abs(piece - np.median(piece)).sum())
    return cost
