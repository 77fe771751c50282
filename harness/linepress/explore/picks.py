"""The two or three configurations of a front that an architect should look at, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linepress.explore.trial import OBJECTIVES, Trial

KEEPS_RANDOM = 0.95
"""Share of the plain channel's random bandwidth below which a general-purpose memory notices."""


@dataclass(frozen=True)
class Pick:
    trial: Trial
    why: str


def picks(front: Sequence[Trial], default: Trial) -> list[Pick]:
    """Of one memory's front: the knee, the most capacity that keeps random lines, and the most capacity.

    The knee is the trial nearest to the best of every objective, each scaled to its range over the front. Where no
    trial keeps `KEEPS_RANDOM` of the plain channel's random bandwidth, the one that keeps most takes that place and
    says so.
    """
    if not front:
        return []
    found = [Pick(_knee(front), "nearest to the best of all five at once (each scaled to its range over the front)")]
    keeping = [t for t in front if t.gain_random >= KEEPS_RANDOM]
    if keeping:
        best = max(keeping, key=lambda t: (t.capacity_ratio, t.gain_random))
        most = max(t.capacity_ratio for t in front)
        why = (
            f"most capacity of those that keep {KEEPS_RANDOM:g} of plain's random bandwidth; it costs "
            f"{100 * (1 - best.capacity_ratio / most):.1f} % of the front's capacity"
            f"{', all that compression buys' if best.capacity_ratio <= 1 else ''}"
        )
    else:
        best = max(front, key=lambda t: (t.gain_random, t.capacity_ratio))
        why = f"no point keeps {KEEPS_RANDOM:g} of plain's random bandwidth; this one keeps most"
    found.append(Pick(best, why))
    found.append(Pick(max(front, key=lambda t: (t.capacity_ratio, -t.area_mm2)), "most capacity, at least area"))
    merged: dict[int, Pick] = {}
    for pick in found:
        known = merged.get(pick.trial.number)
        merged[pick.trial.number] = Pick(pick.trial, f"{known.why}; {pick.why}" if known else pick.why)
    return [Pick(p.trial, f"{p.why}. {_beside(p.trial, default)}") for p in merged.values()]


def _knee(front: Sequence[Trial]) -> Trial:
    values = np.array([t.values for t in front]) * np.array(list(OBJECTIVES.values()), np.float64)
    span = np.ptp(values, axis=0)
    short = (values.max(axis=0) - values) / np.where(span > 0, span, 1.0)
    return front[int(np.argmin((short**2).sum(axis=1)))]


def _beside(trial: Trial, default: Trial) -> str:
    """The trial against the default configuration, in one sentence."""
    if trial.number == default.number:
        return "It is the default."
    if default.error:
        return f"The default is refused here: {default.error}"
    more = ", ".join(
        f"{name} {100 * (a / b - 1):+.1f} %"
        for name, a, b in (
            ("capacity", trial.capacity_ratio, default.capacity_ratio),
            ("sequential", trial.gain_sequential, default.gain_sequential),
            ("random", trial.gain_random, default.gain_random),
            ("p99", trial.latency_p99_ns, default.latency_p99_ns),
            ("area", trial.area_mm2, default.area_mm2),
        )
    )
    return f"Against the default: {more}{'; it dominates it' if trial.dominates(default) else ''}."
