"""One trial: what a point gives, each gain against the plain channel at its best, and whether it beats another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from math import hypot
from typing import Any

from linepress.errors import LinepressError
from linepress.explore.space import Point, area_mm2
from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.row import capacity, prepare
from linepress_codecs.errors import CodecError
from linepress_hardware.channel import results
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.headline import WITH_WRITES, Settings, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.dram import parse_policy
from linepress_hardware.errors import HardwareError

OBJECTIVES = {
    "capacity_ratio": 1,
    "gain_sequential": 1,
    "gain_random": 1,
    "latency_p99_ns": -1,
    "area_mm2": -1,
}
"""What is traded off, and whether more (1) or less (-1) is better."""


@dataclass(frozen=True)
class Trial:
    """A point and what it gives; ``error`` where the point means nothing, and then every figure is NaN.

    Attributes
    ----------
    capacity_ratio : float
        Raw over packed bytes, metadata and tables counted.
    gain_sequential, gain_random : float
        Saturated, against the plain channel at its best.
    half_width_sequential, half_width_random : float
        Relative half-width of the gain's 95 % interval; wider than asked for where 4 million accesses did not do.
    sequential_GBps, random_GBps : float
    latency_p99_ns, plain_latency_p99_ns : float
        Of the workload's reads at the offered load.
    area_mm2 : float
    decoder_count : int
    """

    number: int
    point: Point
    capacity_ratio: float = float("nan")
    gain_sequential: float = float("nan")
    half_width_sequential: float = float("nan")
    gain_random: float = float("nan")
    half_width_random: float = float("nan")
    sequential_GBps: float = float("nan")
    random_GBps: float = float("nan")
    latency_p99_ns: float = float("nan")
    plain_latency_p99_ns: float = float("nan")
    area_mm2: float = float("nan")
    decoder_count: int = 0
    error: str = ""

    @property
    def values(self) -> tuple[float, ...]:
        """The objectives in the order of `OBJECTIVES`."""
        return tuple(float(getattr(self, name)) for name in OBJECTIVES)

    def dominates(self, other: Trial) -> bool:
        """No objective worse, at least one better."""
        signed = [sign * (a - b) for sign, a, b in zip(OBJECTIVES.values(), self.values, other.values, strict=True)]
        return min(signed) >= 0 and max(signed) > 0

    def record(self) -> dict[str, Any]:
        """Plain data for the record: the point's axes beside the figures."""
        found = asdict(self)
        point = found.pop("point")
        return {"trial": found.pop("number"), **point, **found}


def front(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that no other trial on the same memory dominates, in the order of their numbers; of equals the first."""
    first: dict[tuple[str, tuple[float, ...]], Trial] = {}
    for trial in sorted((t for t in trials if not t.error), key=lambda t: t.number):
        first.setdefault((trial.point.memory, trial.values), trial)
    good = list(first.values())
    return [t for t in good if not any(o.point.memory == t.point.memory and o.dominates(t) for o in good)]


def measure(number: int, point: Point, base: ChannelCase) -> Trial:
    """Simulate one point; ``base`` holds line sizes, card, workload, load, seed and run length.

    Runs converge to ``base.within_pct``. What the model or a packing refuses becomes the trial's error.
    """
    overrides = dict(base.overrides) | {
        "metadata_cache_bytes": float(point.metadata_cache_bytes),
        "decoders": float(point.decoders),
    }
    case = replace(base, memory=point.memory, packing=point.packing, overrides=tuple(overrides.items()))
    try:
        return _measure(number, point, case)
    except (LinepressError, CodecError, HardwareError) as error:
        return Trial(number, point, error=str(error))


def _measure(number: int, point: Point, case: ChannelCase) -> Trial:
    packing, bits, study = prepare(case)
    stored = capacity(case, bits, packing, study)
    sequential, wide_sequential, sequential_GBps = _gain(study, "sequential", point.queue)
    random, wide_random, random_GBps = _gain(study, "random", point.queue)
    memory = _with_queue(study.memory.mapping, study.memory.policy, point.queue)
    at_load = replace(study, memory=Memory.load(point.memory, memory.mapping, memory.policy))
    interval_ns = case.line_bytes / (study.memory.peak_GBps * case.load_pct_peak / 100)
    own, plain = at_load.compressed(case.workload, interval_ns), study.plain(case.workload, interval_ns)
    queue = parse_policy(memory.policy).read_queue
    return Trial(
        number,
        point,
        capacity_ratio=float(stored["effective_capacity_ratio"]),
        gain_sequential=sequential,
        half_width_sequential=wide_sequential,
        gain_random=random,
        half_width_random=wide_random,
        sequential_GBps=sequential_GBps,
        random_GBps=random_GBps,
        latency_p99_ns=results.Latency.of(own.read_latency_ns).p99_ns,
        plain_latency_p99_ns=results.Latency.of(plain.read_latency_ns).p99_ns,
        area_mm2=area_mm2(case.codec, study.config, queue, study.memory.atom_bytes),
        decoder_count=study.config.decoder_count,
    )


def _with_queue(mapping: str | None, policy: str | None, queue: int) -> Settings:
    if not queue:
        return Settings(mapping, policy)
    return Settings(mapping, str(replace(parse_policy(policy), read_queue=queue, write_queue=queue)))


def _gain(study: Study, workload: str, queue: int) -> tuple[float, float, float]:
    """Gain over the faster of the plain channel at its best and under the same settings; half-width; own GB/s."""
    searched = f"{workload}+writes" if study.inline and workload in WITH_WRITES else workload
    found = plain_at_best(study.memory.name, searched, study.config.line_bytes)
    known = found.settings if found else Settings()

    def under(settings: Settings) -> Study:
        return replace(study, memory=Memory.load(study.memory.name, settings.mapping, settings.policy))

    settings = _with_queue(known.mapping, known.policy, queue)
    _, own = under(settings).compressed_rate(workload)
    plain = max(
        (under(each).plain_rate(workload).rate for each in dict.fromkeys((known, settings))), key=lambda r: r.GBps
    )
    return own.GBps / plain.GBps, hypot(own.half_width, plain.half_width), own.GBps
