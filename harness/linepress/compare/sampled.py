"""Sampled metrics: is a codec slower, and could this pair of runs have told?

Control codecs (block codecs of libraries that this project does not build) ran in both runs between the others, so
their change is the machine's: it is taken away from every other codec's. A change counts when three things hold: the
raw samples reject (stratified Mann–Whitney test), the change lies outside what the spread between tensors, of the
controls and between runs explains (all at a level that keeps the chance of any false alarm in the whole comparison
under ``alpha``), and it is at least the minimum effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from linepress.compare.data import Side
from linepress.compare.noise import Noise, noise
from linepress.compare.options import METRICS, CompareOptions
from linepress.compare.pairs import Pairs, by_variant
from linepress.compare.provenance import Provenance, changed_packages
from linepress.compare.stats import Effect, Location, Reals, blocks, effect, holm, location, rank_test

SLOWER, FASTER, SAME, INCOMPARABLE = "+", "-", "~", "x"
NO_DRIFT = Location(0.0, 0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one variant and metric in both runs, tensors in the order in which they ran.

    Attributes
    ----------
    base, new : float64[tensors, rounds]
        Seconds of each round; as many rounds as both runs have.
    raw_bytes : float64[tensors]
    too_short : int
        Tensors left out because a round of theirs is too short to time.
    """

    variant: str
    metric: str
    base: Reals
    new: Reals
    raw_bytes: Reals
    too_short: int
    control: bool

    @property
    def n(self) -> int:
        return len(self.raw_bytes)

    def differences(self) -> Reals:
        """Log ratio of the fastest rounds, new over base."""
        return np.asarray(np.log(self.new.min(axis=1) / self.base.min(axis=1)), dtype=np.float64)

    def gap(self) -> float:
        """How disturbed the runs were: the larger median of log(second fastest / fastest round)."""
        if self.base.shape[1] < 2:
            return 0.0
        return max(float(np.median(_gaps(side))) for side in (self.base, self.new))

    def rates_GBps(self) -> tuple[float, float]:
        """Bytes of all tensors over the sum of their fastest rounds."""
        total = float(self.raw_bytes.sum()) / 1e9
        return total / float(self.base.min(axis=1).sum()), total / float(self.new.min(axis=1).sum())


@dataclass(frozen=True, slots=True)
class Speed:
    """Verdict on one variant and metric.

    Attributes
    ----------
    mark : str
        ``+`` slower, ``-`` faster, ``~`` not significant, ``x`` not comparable.
    effect : Effect | None
        None where nothing could be computed.
    visible_pct : float | None
        Smallest change that these runs could have shown, percent.
    reason : str
        Why nothing was computed.
    """

    variant: str
    metric: str
    mark: str
    control: bool
    tensors: int
    rounds: int
    base_GBps: float | None = None
    new_GBps: float | None = None
    effect: Effect | None = None
    visible_pct: float | None = None
    reason: str = ""

    def judged(self, min_effect_pct: float) -> bool:
        """Whether a change of twice the smallest effect that matters would have been seen."""
        if self.effect is None or self.control:
            return False
        return self.mark in (SLOWER, FASTER) or (self.visible_pct or math.inf) < 2 * min_effect_pct

    @property
    def factor(self) -> float | None:
        """Time of new over time of base."""
        return None if self.effect is None else math.exp(self.effect.value)


@dataclass(slots=True)
class Sampled:
    """All sampled metrics of a comparison.

    Attributes
    ----------
    speeds : list of Speed
    drift : float | None
        Time factor of the control codecs; None without any.
    controls : int
        Control series it was found from.
    geomean : dict
        Metric -> time factor, geometric mean over the variants that were judged.
    why_not : str
        Why no speed was compared; empty when they were.
    how : str
        How the samples came about, where not by the two runs.
    """

    speeds: list[Speed] = field(default_factory=list)
    drift: float | None = None
    controls: int = 0
    geomean: dict[str, float] = field(default_factory=dict)
    why_not: str = ""
    how: str = ""


def sampled(
    pairs: Pairs, source: Provenance, options: CompareOptions, spread: Mapping[tuple[str, str], float] | None = None
) -> Sampled:
    """Judge every variant and metric; ``spread`` is the standard deviation between earlier runs where known."""
    known = noise()
    all_series = series(pairs, source, known)
    if source.speed:
        why = "; ".join(map(str, source.speed))
        return Sampled([_unjudged(s, INCOMPARABLE, "") for s in all_series], why_not=why)
    enough = [s for s in all_series if s.n >= known.fewest_tensors]
    drift, controls = control_drift([s for s in enough if s.control], known)
    result = Sampled(drift=math.exp(drift.value) if controls else None, controls=controls)
    if controls and abs(drift.value) > known.largest_drift:
        result.why_not = (
            f"control codecs ran {_times(math.exp(drift.value))}: the machine was in another state, run again"
        )
        result.speeds = [_unjudged(s, INCOMPARABLE, "") for s in all_series]
        return result
    rng = np.random.Generator(np.random.PCG64(options.seed))
    effects = {
        (s.variant, s.metric): _judge(s, drift, controls > 0, known, options, rng, (spread or {}))
        for s in enough
        if not s.control
    }
    found = judged(all_series, effects, options)
    found.drift, found.controls = result.drift, result.controls
    return found


def judged(all_series: list[Series], effects: Mapping[tuple[str, str], Effect], options: CompareOptions) -> Sampled:
    """Verdicts on all series, the effects of those that could be judged taken together."""
    known = noise()
    result = Sampled()
    rejected = holm(np.array([e.p for e in effects.values()]), options.alpha) if effects else np.empty(0, bool)
    alarms = dict(zip(effects, map(bool, rejected), strict=True))
    level = options.alpha / max(len(effects), 1)
    for s in all_series:
        result.speeds.append(_speed(s, effects, alarms, level, known, options))
    for metric in METRICS:
        own = [e.value for (_, name), e in effects.items() if name == metric]
        if own:
            result.geomean[metric] = math.exp(sum(own) / len(own))
    return result


def series(pairs: Pairs, source: Provenance, known: Noise) -> list[Series]:
    """Samples of every variant and metric that both runs have."""
    chosen = np.flatnonzero(pairs.comparable)
    if not len(chosen):
        return []
    base, new = pairs.base_side, pairs.new_side
    started = new.table["started_at"].cast("int64").fill_null(0).to_numpy()
    chosen = chosen[np.argsort(started[pairs.new[chosen]], kind="stable")]
    moved = changed_packages(source)
    codecs, raw_bytes = new.text("codec"), new.real("raw_bytes")
    found = []
    for variant, at in by_variant(new, pairs.new[chosen]).items():
        rows_base, rows_new = pairs.base[chosen[at]], pairs.new[chosen[at]]
        packages = known.controls.get(str(codecs[rows_new[0]]))
        control = packages is not None and not moved.intersection(packages)
        for metric in METRICS:
            one = _series(variant, metric, base, new, rows_base, rows_new, raw_bytes, control, known)
            if one is not None:
                found.append(one)
    return found


def _series(
    variant: str,
    metric: str,
    base: Side,
    new: Side,
    rows_base: NDArray[np.int64],
    rows_new: NDArray[np.int64],
    raw_bytes: Reals,
    control: bool,
    known: Noise,
) -> Series | None:
    a, b = base.samples[metric], new.samples[metric]
    counts = np.minimum(a.lengths()[rows_base], b.lengths()[rows_new])
    timed = counts > 0
    if not timed.any():
        return None
    # As many rounds on both sides: the fastest of more rounds is faster.
    rounds = int(counts[timed].min())
    before, after = a.first(rows_base[timed], rounds), b.first(rows_new[timed], rounds)
    long_enough = np.minimum(before.min(axis=1), after.min(axis=1)) >= known.shortest_round_s
    return Series(
        variant,
        metric,
        before[long_enough],
        after[long_enough],
        raw_bytes[rows_new[timed]][long_enough],
        int(np.count_nonzero(~long_enough)),
        control,
    )


def control_drift(controls: list[Series], known: Noise) -> tuple[Location, int]:
    """Log time of the machine, new over base, from the control series; how many there were."""
    if not controls:
        return NO_DRIFT, 0
    found = [location(blocks(s.differences(), known.most_blocks)) for s in controls]
    values = np.array([one.value for one in found])
    errors = np.array([one.error for one in found])
    n = len(found)
    own = math.sqrt(float((errors**2).sum())) / n
    among = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    # Controls that disagree say less than their own errors promise.
    return Location(float(np.mean(values)), max(own, among), sum(one.dof for one in found)), n


def _judge(
    s: Series,
    drift: Location,
    controlled: bool,
    known: Noise,
    options: CompareOptions,
    rng: np.random.Generator,
    spread: Mapping[tuple[str, str], float],
) -> Effect:
    return effect(
        blocks(s.differences(), known.most_blocks),
        rank_test(s.base, s.new * math.exp(-drift.value)),
        drift=drift,
        between_runs=known.between_runs(s.gap(), controlled, spread.get((s.variant, s.metric), 0.0)),
        between_dof=known.dof,
        rng=rng,
        resamples=options.resamples,
    )


def _speed(
    s: Series,
    effects: Mapping[tuple[str, str], Effect],
    alarms: Mapping[tuple[str, str], bool],
    level: float,
    known: Noise,
    options: CompareOptions,
) -> Speed:
    if s.n < known.fewest_tensors:
        short = f", {s.too_short} too short to time (< {1e3 * known.shortest_round_s:g} ms)" if s.too_short else ""
        return _unjudged(s, SAME, f"{s.n} tensors to judge by, {known.fewest_tensors} needed{short}")
    before, after = s.rates_GBps()
    if s.control:
        return Speed(s.variant, s.metric, SAME, True, s.n, s.base.shape[1], before, after)
    key = (s.variant, s.metric)
    found = effects[key]
    counts = alarms[key] and abs(math.expm1(abs(found.value))) >= options.min_effect_pct / 100
    mark = SAME if not counts else SLOWER if found.value > 0 else FASTER
    visible = 100 * math.expm1(found.visible(level))
    return Speed(s.variant, s.metric, mark, False, s.n, s.base.shape[1], before, after, found, visible)


def _unjudged(s: Series, mark: str, reason: str) -> Speed:
    before, after = s.rates_GBps() if s.n else (None, None)
    return Speed(s.variant, s.metric, mark, s.control, s.n, s.base.shape[1], before, after, reason=reason)


def _gaps(samples: Reals) -> Reals:
    ordered = np.partition(samples, 1, axis=1)
    return np.asarray(np.log(ordered[:, 1] / ordered[:, 0]), dtype=np.float64)


def _times(factor: float) -> str:
    return f"{factor:.2f}x slower" if factor >= 1 else f"{1 / factor:.2f}x faster"
