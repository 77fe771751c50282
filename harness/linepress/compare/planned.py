"""How long this machine must time two installations in turn to show a change of a given size.

A pilot times one installation against itself (`linepress.compare.retime`), which gives the spread of its differences
and the time of a session. What more sessions would show follows from the comparison's own statistics: the variance
between tensors falls with their number, that between processes with the sessions, and the level is Holm's first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import polygamma

from linepress.compare.data import Side
from linepress.compare.noise import noise
from linepress.compare.options import CompareOptions
from linepress.compare.pairs import pair
from linepress.compare.provenance import provenance
from linepress.compare.retime import RetimeError, RetimePlan, between_processes, requests, this_python, timed_in_turn
from linepress.compare.sampled import Series, series
from linepress.compare.stats import TRIM, Location, Reals, combined, location, visible

PILOT = RetimePlan(sessions=5)
"""So that a fifth of the differences of six tensors is a whole number, as it about is of many."""
MOST_SESSIONS = 100_000


@dataclass(frozen=True, slots=True)
class TimePlan:
    """What it takes to show a change.

    Attributes
    ----------
    change_pct, alpha : float
        The change, and the chance of any false alarm in the whole comparison.
    sessions : int
        Sessions of `linepress.compare.retime` that show it in every speed.
    rounds : int
        Rounds of a case on each side in all of them.
    seconds : float
        What they take on this machine.
    series : int
        Speeds judged together.
    noisiest : tuple of str
        Variant and metric that need most.
    default_sessions, default_pct
        What a comparison without ``--sessions`` shows.
    recorded_pct, silent_pct : float | None
        Least change that two recorded runs show, as busy as the run and on a silent machine; no rounds help there.
    """

    change_pct: float
    alpha: float
    sessions: int
    rounds: int
    seconds: float
    series: int
    noisiest: tuple[str, str]
    default_sessions: int
    default_pct: float
    recorded_pct: float | None
    silent_pct: float | None


def plan_time(side: Side, options: CompareOptions, say: Callable[[str], None] = lambda text: None) -> TimePlan:
    """Time the cases of a run against themselves here, and say how long they must be timed.

    Raises `RetimeError` where they cannot be timed or are too few.
    """
    pairs = pair(side, side)
    cases = requests(pairs, PILOT)
    start_s = time.monotonic()
    pilot = timed_in_turn(cases, options.retime or this_python(), this_python(), PILOT, say)
    session_s = (time.monotonic() - start_s) / PILOT.sessions
    needed = sessions_needed(pilot, PILOT.sessions, options)
    recorded = [one for one in series(pairs, provenance(side, side, True), noise()) if not one.control]
    return replace(
        needed,
        seconds=needed.sessions * session_s,
        recorded_pct=_recorded_pct(recorded, options, max((one.gap() for one in recorded), default=0.0)),
        silent_pct=_recorded_pct(recorded, options, 0.0),
    )


def sessions_needed(pilot: Sequence[Series], sessions: int, options: CompareOptions) -> TimePlan:
    """The plan that ``sessions`` sessions of equal code lead to, its time left out."""
    enough = [one for one in pilot if one.n >= noise().fewest_tensors]
    if not enough:
        raise RetimeError(
            f"--plan: no codec has {noise().fewest_tensors} tensors that take {1e3 * noise().shortest_round_s:g} ms "
            "a round; give a run over larger or more tensors"
        )
    own = [location(one.differences()) for one in enough]
    single = np.array([found.error**2 / _share(one.n) for found, one in zip(own, enough, strict=True)])
    variances = _shrunk(single, np.array([found.dof for found in own]))
    level = options.alpha / len(enough)

    def shown(which: int, count: int) -> float:
        """Least change of one series after so many sessions, log units."""
        n = max(round(enough[which].n / sessions * count), 2)
        tensors = Location(0.0, math.sqrt(variances[which] * _share(n)), n - 2 * int(TRIM * n) - 1.0)
        processes = Location(0.0, math.sqrt(2) * between_processes(count), noise().dof)
        return visible(*combined(tensors, processes), level)

    worst = max(range(len(enough)), key=lambda which: shown(which, sessions))
    wanted = math.log1p(options.min_effect_pct / 100)
    low, high = 1, MOST_SESSIONS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(worst, middle) <= wanted else (middle + 1, high)
    usual = RetimePlan()
    return TimePlan(
        change_pct=options.min_effect_pct,
        alpha=options.alpha,
        sessions=low,
        rounds=low * usual.turns * usual.rounds,
        seconds=math.nan,
        series=len(enough),
        noisiest=(enough[worst].variant, enough[worst].metric),
        default_sessions=usual.sessions,
        default_pct=100 * math.expm1(shown(worst, usual.sessions)),
        recorded_pct=None,
        silent_pct=None,
    )


def _share(n: int) -> float:
    """Yuen's squared error of the trimmed mean of n differences, in variances of one; squares grow with n - 1."""
    kept = n - 2 * int(TRIM * n)
    return (n - 1) / (kept * max(kept - 1, 1))


def _shrunk(variances: Reals, dof: Reals) -> Reals:
    """Variances of a family, float64[n], each drawn towards what all have in common by as much as it is uncertain.

    The largest of many estimates is too large by its luck; empirical Bayes on the log variances (Smyth 2004) takes
    that away.
    """
    variances = np.maximum(variances, np.finfo(float).tiny)
    logs = np.log(variances)
    luck = polygamma(1, dof / 2)
    real = max(float(logs.var(ddof=1) - luck.mean()), 0.0) if len(logs) > 1 else math.inf
    weight = np.ones_like(logs) if math.isinf(real) else real / (real + luck)
    common = math.log(float(np.average(variances, weights=dof)))
    return np.asarray(np.exp(weight * logs + (1 - weight) * common))


def _recorded_pct(recorded: Sequence[Series], options: CompareOptions, gap: float) -> float | None:
    """Least change that two recorded runs show, percent: the spread between runs alone, whatever the rounds."""
    if not recorded:
        return None
    known = noise()
    error = math.sqrt(2) * known.between_runs(gap, True)
    return 100 * math.expm1(visible(error, known.dof, options.alpha / len(recorded)))


def as_text(found: TimePlan, run: str) -> str:
    """In words, the answer first."""
    variant, metric = found.noisiest
    asked = (
        f"to show a change of {found.change_pct:g} % in each of {found.series} speeds, with {100 * found.alpha:g} % "
        f"chance of any false alarm: {found.sessions} sessions, {found.rounds} rounds a case and side, about "
        f"{found.seconds / 60:.3g} min here"
    )
    usual = f"{found.default_sessions} sessions, the default, show {found.default_pct:.2g} %"
    lines = [
        asked,
        f"linepress compare {run} NEW --retime PYTHON --sessions {found.sessions}",
        f"noisiest: {variant} {metric}; {usual}",
    ]
    if found.recorded_pct is not None and found.silent_pct is not None:
        lines.append(
            f"two recorded runs as busy as this one show no less than {found.recorded_pct:.2g} %, and "
            f"{found.silent_pct:.2g} % on a silent machine, however many rounds: what differs between runs stays"
        )
    return "\n".join(lines) + "\n"
