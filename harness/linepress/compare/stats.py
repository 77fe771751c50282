"""The statistics of sampled metrics, on plain arrays.

The unit of observation is a tensor, whose log time in a run is that of its fastest round: noise on a shared machine
only adds time, so the fastest round is the least disturbed one (Chen and Revels, "Robust benchmarking in noisy
environments", 2016). Rounds of one tensor share what the machine was doing, and all tensors of a run share the state
of the machine in that run, so neither rounds nor tensors alone give the spread of a difference between runs. Its
variance has three parts: between tensors (Yuen's standard error of a trimmed mean), of the drift estimated from
control codecs, and between runs (`linepress.compare.noise`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

TRIM = 0.2
"""Share cut from each end of a trimmed mean; Wilcox, "Introduction to Robust Estimation", recommends 20 %."""

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Location:
    """A trimmed mean with its standard error and degrees of freedom."""

    value: float
    error: float
    dof: float


def location(values: Reals) -> Location:
    """20 % trimmed mean with Yuen's standard error (Yuen 1974); needs two values or more."""
    n = len(values)
    cut = int(TRIM * n)
    ordered = np.sort(values)
    kept = n - 2 * cut
    winsorised = np.clip(ordered, ordered[cut], ordered[n - 1 - cut])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    return Location(float(ordered[cut : n - cut].mean()), math.sqrt(squares / (kept * (kept - 1))), kept - 1.0)


def blocks(values: Reals, most: int) -> Reals:
    """Values in the order in which they ran, gathered into at most ``most`` blocks: the median of each."""
    if len(values) <= most:
        return values
    return np.array([float(np.median(piece)) for piece in np.array_split(values, most)])


def rank_test(base: Reals, new: Reals) -> float:
    """Two-sided p of the Mann–Whitney test stratified by row (van Elteren 1960, equal weights as strata are equal).

    Parameters
    ----------
    base, new : float64[tensors, rounds]
        Raw samples; a row of ``base`` and the same row of ``new`` are one stratum.
    """
    n, rounds = base.shape
    if n == 1:
        return float(stats.mannwhitneyu(base[0], new[0], alternative="two-sided").pvalue)
    above = sum(float(np.count_nonzero(new[:, [i]] > base)) for i in range(rounds))
    equal = sum(float(np.count_nonzero(new[:, [i]] == base)) for i in range(rounds))
    deviation = above + equal / 2 - n * rounds * rounds / 2
    variance = n * rounds * rounds * (2 * rounds + 1) / 12
    return float(2 * stats.norm.sf(max(abs(deviation) - 0.5, 0.0) / math.sqrt(variance)))


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference of log times, new minus base: positive is slower.

    Attributes
    ----------
    value : float
    error : float
        Standard error with all three parts.
    p : float
        The larger p of the rank test on raw samples and of the t test with that error: both must reject.
    low, high : float
        Bootstrap interval of 95 %.
    dof : float
    """

    value: float
    error: float
    p: float
    low: float
    high: float
    dof: float

    def visible(self, alpha: float) -> float:
        """Smallest change that this error lets through at level ``alpha``, log units."""
        return visible(self.error, self.dof, alpha)


def visible(error: float, dof: float, alpha: float) -> float:
    """Smallest change that a two-sided t test at level ``alpha`` lets through, in the unit of ``error``."""
    return float(stats.t.isf(alpha / 2, dof)) * error


def combined(*parts: Location) -> tuple[float, float]:
    """Standard error of a sum of independent parts, and its degrees of freedom (Satterthwaite 1946)."""
    variance = sum(part.error**2 for part in parts)
    spread = sum(part.error**4 / max(part.dof, 1.0) for part in parts)
    return math.sqrt(variance), variance**2 / spread if spread else parts[-1].dof


def effect(
    differences: Reals,
    p_rank: float,
    *,
    drift: Location,
    between_runs: float,
    between_dof: float,
    rng: np.random.Generator,
    resamples: int,
) -> Effect:
    """The effect of one codec's one metric.

    Parameters
    ----------
    differences : float64[n]
        Differences of blocks of tensors, in time order, drift not yet taken away.
    p_rank : float
        Of the rank test.
    drift : Location
        Of the control codecs; zeros where there are none.
    between_runs : float
        Standard deviation of one run's log time.
    between_dof : float
        Degrees of freedom of that figure.
    rng, resamples
        Of the bootstrap: blocks are drawn with replacement, the drift and the state of both runs are drawn anew.
    """
    own = location(differences)
    value = own.value - drift.value
    error, dof = combined(own, drift, Location(value, math.sqrt(2) * between_runs, between_dof))
    p_between = float(2 * stats.t.sf(abs(value) / error, dof)) if error else float(value == 0)
    low, high = _interval(differences, own, drift, between_runs, between_dof, rng, resamples)
    return Effect(value, error, max(p_rank, p_between), low, high, dof)


def _interval(
    differences: Reals,
    own: Location,
    drift: Location,
    between_runs: float,
    between_dof: float,
    rng: np.random.Generator,
    resamples: int,
) -> tuple[float, float]:
    n = len(differences)
    drawn = np.sort(differences[rng.integers(0, n, (resamples, n))], axis=1)
    cut = int(TRIM * n)
    centres = drawn[:, cut : n - cut].mean(axis=1)
    # A bootstrap over n blocks sees (n - 1) / n of their variance.
    centres = own.value + (centres - own.value) * math.sqrt(n / (n - 1))
    centres += math.sqrt(2) * between_runs * rng.standard_t(between_dof, resamples)
    centres -= drift.value
    if drift.error > 0:
        centres -= drift.error * rng.standard_t(max(drift.dof, 1.0), resamples)
    low, high = np.quantile(centres, [0.025, 0.975])
    return float(low), float(high)


def holm(p: Reals, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure rejects at family-wise level ``alpha`` (Holm 1979)."""
    m = len(p)
    order = np.argsort(p, kind="stable")
    passed = p[order] <= alpha / (m - np.arange(m))
    rejected = np.zeros(m, dtype=bool)
    rejected[order[: m if passed.all() else int(np.argmin(passed))]] = True
    return rejected
