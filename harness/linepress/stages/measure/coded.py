"""What coding one tensor gave, whether by lines or by blocks: sizes, verdict, raw timing samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from linepress.errors import EXIT_CASES_FAILED, LinepressError
from linepress_codecs.contracts import Bound


class MeasureError(LinepressError):
    """A codec that broke its contract: sizes that disagree, or a decoder that gives another number of lines."""

    exit_code = EXIT_CASES_FAILED


TIMED_BYTES = 4 << 20
"""Raw bytes that a timed round goes through, about. Both runs of a comparison time the same lines, so a sample takes
nothing from the least effect they show, and `linepress.compare.noise` was calibrated on rounds over 2 MB. At 8 MiB,
three rounds took a third of a case of 25 MB, a common size."""
LEAST_TIMED_BYTES = 2 << 20
"""Fewest raw bytes of a chunk that are timed. The work before takes the tables of this one out of the core's own
caches, so that a stretch begins some 100 µs late. Of `adaptive` on real weights, decoded right after another stretch
was encoded, 1 MiB read 14 to 18 % lower than 8 MiB, 2 MiB 0.5 to 5 %, 4 MiB 1 to 2 % (medians of twelve in turn,
three chunks); decoded once more at once, the same 1 MiB read 0 to 5 % lower."""


@dataclass(slots=True)
class Clock:
    """Seconds of each timed round, summed over the chunks of a tensor."""

    repeats: int
    seconds: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = np.zeros(self.repeats)

    def run(self, repeat: int, work: Callable[[], object]) -> None:
        """Call ``work``, its time added to round ``repeat``."""
        start = perf_counter()
        work()
        self.seconds[repeat] += perf_counter() - start

    def add(self, other: Clock) -> None:
        """Add the rounds of another part of the same tensor."""
        self.seconds += other.seconds

    def samples(self, timed_bytes: int, n_bytes: int) -> list[float]:
        """Seconds of each round as ``n_bytes`` would take them at the rate of the ``timed_bytes`` gone through."""
        return [float(s) * n_bytes / timed_bytes for s in self.seconds] if timed_bytes else []

    def median_rate(self, timed_bytes: int) -> float | None:
        """Median rate over the rounds in 10^9 B/s, None where nothing was timed."""
        middle = float(np.median(self.seconds)) if self.repeats else 0.0
        return timed_bytes / middle / 1e9 if middle > 0 and timed_bytes else None


@dataclass(slots=True)
class Coded:
    """A tensor coded by one codec.

    Attributes
    ----------
    unit_bits : NDArray
        Coded bits of each line (uint16) or block (int64), those of the sample where ``sampled``.
    n_units : int
        Lines or blocks of the whole tensor.
    unit_bytes : int
        Size of a line or block before coding.
    table_bytes : int
    lossless : bool
        Every unit coded came back bit for bit; meaningless unless ``verified``.
    mismatch : int | None
        First line or block that did not.
    timed_bytes : int
        Bytes gone through in each timed round.
    class_bound : Bound | None
        Bound of the codec's own class, where it has one (`linepress_codecs.tans.bound`).
    """

    unit_bits: NDArray[np.uint16] | NDArray[np.int64]
    n_units: int
    unit_bytes: int
    table_bytes: int
    sampled: bool
    verified: bool
    mismatch: int | None
    encode: Clock
    decode: Clock
    measure: Clock | None
    timed_bytes: int
    class_bound: Bound | None = None

    @property
    def payload_bits(self) -> int:
        """Coded bits of the tensor; scaled from the sample where there is one."""
        total = int(self.unit_bits.sum(dtype=np.int64))
        if not self.sampled or not len(self.unit_bits):
            return total
        return round(total * self.n_units / len(self.unit_bits))


def timed_range(n_units: int, unit_bytes: int, number: int, n_chunks: int, seed: int) -> range:
    """Units of chunk ``number`` of ``n_chunks`` to time: all of a small tensor, a seeded stretch of a large one.

    Every line is coded, decoded and compared once, whatever is timed. A round goes through about `TIMED_BYTES` of a
    tensor, spread over its chunks in stretches of `LEAST_TIMED_BYTES` or more.
    """
    every = -(-n_chunks * LEAST_TIMED_BYTES // TIMED_BYTES)
    if number % every:
        return range(0)
    share = TIMED_BYTES // -(-n_chunks // every)
    n = min(n_units, max(share // unit_bytes, 1))
    first = int(np.random.Generator(np.random.PCG64((seed, number, 1))).integers(0, n_units - n + 1))
    return range(first, first + n)


def time_rounds(works: Sequence[tuple[Clock, Callable[[], object]]]) -> None:
    """Run every work once a round, beginning at another one each round, so that none always runs on warm caches.

    Everything must have been compiled and its pages touched before.
    """
    for repeat in range(min(clock.repeats for clock, _ in works)):
        first = repeat % len(works)
        for clock, work in (*works[first:], *works[:first]):
            clock.run(repeat, work)
