"""Saturated rates with their confidence interval: batch means, and runs that go on until the interval is small.

The first tenth of a run and everything after the last line was taken are left out. What remains is cut into batches
of whole refresh intervals, so that a batch never holds half a refresh. The half-width is that of the mean of 95 %
confidence (Student's t), and the larger of what the batches and what pairs of batches say: neighbours that move
together make pairs spread more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.results import energy_pJ_per_useful_byte, phy_pJ_per_useful_byte
from linepress_hardware.channel.simulate import ChannelRun

WITHIN = 0.01
"""Largest relative half-width of a gain that is stated, unless another is asked for."""
MOST_ACCESSES = 4_000_000
"""Accesses after which a run is given up as not converged."""
WARM = 0.1
LEAST_BATCHES, BATCHES = 10, 24


@dataclass(frozen=True)
class Rate:
    """A saturated bandwidth.

    Attributes
    ----------
    GBps : float
        Useful bytes a ns in the steady part of the run.
    half_width : float
        Relative half-width of its 95 % confidence interval; infinite for a run too short to tell.
    accesses, batches : int
    span_ns : float
        Length of the steady part.
    """

    GBps: float
    half_width: float
    accesses: int
    batches: int
    span_ns: float


@dataclass(frozen=True)
class Steady:
    """What a converged run leaves behind, without its arrays.

    Attributes
    ----------
    rate : Rate
    lines, useful_bytes, bus_bytes : int
        Lines served, their bytes at the port, bytes on the bus.
    bus_time_ns : dict[str, float]
        Of the whole run, as in `linepress_hardware.dram.results.DramResult`.
    energy_pJ_per_byte, phy_pJ_per_byte : float
        Device and interface, over the useful bytes.
    most_in_flight : int
    """

    rate: Rate
    lines: int
    useful_bytes: int
    bus_bytes: int
    bus_time_ns: dict[str, float]
    energy_pJ_per_byte: float
    phy_pJ_per_byte: float
    most_in_flight: int

    @classmethod
    def of(cls, run: ChannelRun, rate: Rate) -> Steady:
        memory = run.memory
        return cls(
            rate,
            int(run.served.sum()),
            run.useful_bytes,
            run.bus_bytes,
            dict(memory.bus_time_ns),
            energy_pJ_per_useful_byte(run),
            phy_pJ_per_useful_byte(run),
            run.times.most_in_flight,
        )


def students_t(degrees: int) -> float:
    """Two-sided 95 % quantile (Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5; within 0.3 % from 8 on)."""
    z = 1.959964
    g1, g2 = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + g1 / degrees + g2 / degrees**2


def half_width(batches: NDArray[np.float64]) -> float:
    """Relative 95 % half-width of the mean of ``batches``, the larger of batches and pairs; float64[b], b ≥ 4."""
    pairs = batches[: batches.shape[0] // 2 * 2].reshape(-1, 2).mean(axis=1)
    mean = float(batches.mean())
    if mean <= 0:
        return inf
    return max(
        students_t(x.shape[0] - 1) * float(x.std(ddof=1)) / float(np.sqrt(x.shape[0])) / mean
        for x in (batches, pairs)
    )


def rate(run: ChannelRun, period_ns: float) -> Rate:
    """The steady rate of a saturated run, by batches of whole periods."""
    done = np.sort(run.done_ns[run.served])
    n = len(run.accesses)
    nothing = Rate(run.bandwidth_GBps, inf, n, 0, 0.0)
    if not done.size:
        return nothing
    end = float(run.times.taken_ns.max())
    begin = float(done[0]) + WARM * (end - float(done[0]))
    periods = int((end - begin) // period_ns)
    if periods < LEAST_BATCHES:
        return nothing
    each = max(1, periods // BATCHES)
    batches = periods // each
    begin = end - batches * each * period_ns
    edges = np.searchsorted(done, begin + np.arange(batches + 1) * (each * period_ns))
    rates = np.diff(edges) * run.line_bytes / (each * period_ns)
    return Rate(float(rates.mean()), half_width(rates), n, batches, batches * each * period_ns)


def settle(
    run_of: Callable[[int], ChannelRun],
    period_ns: float,
    accesses: int,
    *,
    within: float = WITHIN,
    most: int = MOST_ACCESSES,
) -> tuple[ChannelRun, Rate]:
    """Longer and longer runs of ``run_of(accesses)`` until the quotient of two such rates is known ``within`` that
    half-width, or ``most`` accesses did not do."""
    target = within / sqrt(2)
    while True:
        run = run_of(accesses)
        found = rate(run, period_ns)
        if found.half_width <= target or accesses >= most:
            return run, found
        wanted = 4.0 if found.half_width == inf else 1.3 * (found.half_width / target) ** 2
        accesses = min(most, int(accesses * min(6.0, max(1.5, wanted))))
