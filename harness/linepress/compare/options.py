"""What a comparison may be told; the defaults are the calibrated ones (``docs/compare.md``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from linepress.records.place import RunPlace

METRICS = ("encode", "decode", "measure")
"""Sampled metrics: each has raw samples ``<metric>_s`` in the table ``measure``."""

SESSIONS = 6
"""Pairs of new processes that a retiming takes unless told."""


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """How to compare two runs.

    Attributes
    ----------
    min_effect_pct : float
        Change of speed below which nothing is said, in percent.
    alpha : float
        Probability of one or more false alarms in a whole comparison of equal code (Holm over all sampled metrics).
    allow_growth_pct : float
        Growth of an exact figure (bytes, model time) that does not fail the gate, in percent.
    hosts_alike : bool
        Take the user's word that the hosts of both runs are the same hardware, for clusters whose nodes change.
    strict : bool
        A speed that cannot be judged is a reason not to pass (exit code 2).
    seed : int
        Of the bootstrap.
    resamples : int
        Bootstrap replicates.
    history : sequence of RunPlace
        Earlier runs of the same suite, from which the spread between runs is estimated.
    retime : str
        Interpreter of the installation that made the base run: speeds are then timed anew, in turn with this one.
    sessions : int
        Pairs of new processes that ``retime`` takes.
    """

    min_effect_pct: float = 3.0
    alpha: float = 0.01
    allow_growth_pct: float = 0.0
    hosts_alike: bool = False
    strict: bool = False
    seed: int = 1
    resamples: int = 4000
    history: Sequence[RunPlace] = field(default_factory=tuple)
    retime: str = ""
    sessions: int = SESSIONS
