"""The spread of speeds between earlier runs of the same code: what one night differs from the next for no reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from linepress.compare.nights import ALL_DATA, Night, nights
from linepress.compare.stats import Reals
from linepress.records.place import RunPlace

FEWEST_RUNS = 6
MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation for a normal distribution."""


def spread_between_runs(paths: Sequence[RunPlace], exclude: Sequence[RunPlace] = ()) -> dict[tuple[str, str], float]:
    """(variant, metric) -> standard deviation of log time of one run, the machine's drift taken away.

    Empty with fewer than `FEWEST_RUNS` runs.
    """
    left_out = {str(path.resolve()) for path in exclude}
    return spread_of(nights([path for path in paths if str(path.resolve()) not in left_out]))


def spread_of(found: Sequence[Night]) -> dict[tuple[str, str], float]:
    """`spread_between_runs` of runs that are reduced already."""
    if len(found) < FEWEST_RUNS:
        return {}
    result = {}
    for key, values in log_speeds(found).items():
        data, variant, figure = key.split("|")
        known = values[~np.isnan(values)]
        if data == ALL_DATA and len(known) >= FEWEST_RUNS:
            result[variant, figure.removesuffix("_GBps")] = sigma(known)
    return result


def sigma(values: Reals) -> float:
    """Standard deviation about a level that may step, from the median of the successive differences."""
    differences = np.abs(np.diff(values))
    return float(MAD_TO_SIGMA * np.median(differences) / math.sqrt(2)) if len(differences) else 0.0


def log_speeds(found: Sequence[Night]) -> Mapping[str, Reals]:
    """Log rate of every speed figure, night by night, relative to the control codecs where there are any."""
    keys = dict.fromkeys(k for night in found for k in night.fastest)
    # One suite in all nights either has controls or has none; a night without them cannot be set beside the others.
    relative = any(night.machine_GBps for night in found)
    result = {}
    for key in keys:
        values = []
        for night in found:
            rate, machine = night.fastest.get(key), night.machine_GBps
            usable = rate is not None and rate > 0 and (bool(machine) or not relative)
            values.append(
                math.log(rate / (machine if relative and machine else 1.0)) if usable and rate else math.nan
            )
        result[key] = np.array(values, dtype=np.float64)
    return result
