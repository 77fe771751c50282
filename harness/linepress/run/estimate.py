"""What a run would cost before it is run: the parts of every case by ``rates.yaml``, at the speed of this machine.

A case costs its passes over the tensor (read, fit, encode, decode, compare, pack), its timed rounds over a sample, a
little whatever its size. What several cases share is paid once for each worker that has cases of a tensor: its hash
where planning has not read it, its bounds, its casts. And each worker loads the compiled kernels of a codec once.
Before the first case Ray and its workers start. Rates are of one machine; `probe` says how much faster or slower this
one is now.
"""

from __future__ import annotations

import hashlib
import statistics
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linepress.cluster.tasks import Task
from linepress.sources import TensorRef
from linepress.stages.measure.coded import TIMED_BYTES
from linepress.suite.yaml12 import parse_yaml
from linepress_codecs.contracts import BlockCodec
from linepress_codecs.variant import Variant

if TYPE_CHECKING:
    from linepress.run.plan import Plan

GB = 1e9
DRAWN = "synthetic:"
PROBE_ROUNDS = 7
PROBE_BYTES = 4 << 20
PROBE_PACKED_BYTES = 1 << 19


@dataclass(frozen=True, slots=True)
class Machine:
    """How fast a machine is: what `probe` found.

    Attributes
    ----------
    hash_s_per_GB : float
        Of sha256 on one core.
    work_s : float
        Of a fixed piece of integer work on one core.
    """

    hash_s_per_GB: float
    work_s: float


def probe(threads: int = 1) -> Machine:
    """Measure for well under a second, with as many threads as cores will be busy: they take each other's time."""
    with ThreadPoolExecutor(threads) as pool:  # zlib and hashlib release the interpreter lock
        found = [one for some in pool.map(lambda _: _probe(), range(threads)) for one in some]
    return Machine(
        statistics.median(hash_s for hash_s, _ in found) * GB / PROBE_BYTES,
        statistics.median(work_s for _, work_s in found),
    )


def _probe() -> list[tuple[float, float]]:
    data = bytes(range(256)) * (PROBE_BYTES // 256)
    mixed = hashlib.shake_128(b"probe").digest(PROBE_PACKED_BYTES)
    found = []
    for _ in range(PROBE_ROUNDS):
        begun_s = time.perf_counter()
        hashlib.sha256(data).digest()
        hashed_s = time.perf_counter()
        zlib.compress(mixed, 1)
        found.append((hashed_s - begun_s, time.perf_counter() - hashed_s))
    return found


@dataclass(frozen=True, slots=True)
class VariantRate:
    """Cost of a variant on one core.

    Attributes
    ----------
    load_s : float
        Of a worker's first case: its compiled kernels.
    case_s : float
        Of a case whatever its size.
    pass_s_per_GB : float
        Of everything that goes over the whole tensor, without hash, bounds and further packings.
    round_s_per_GB : float
        Of one timed round over the bytes that are timed.
    """

    load_s: float
    case_s: float
    pass_s_per_GB: float
    round_s_per_GB: float


@dataclass(frozen=True, slots=True)
class Rates:
    """``rates.yaml``: variant and element width -> cost; seconds a GB of bounds, casts and packings; ``start_s`` of
    the wall to start a local Ray with its workers and to end it."""

    work_s: float
    start_s: float
    bounds: Mapping[str, float]
    staging: Mapping[str, float]
    packings: Mapping[str, float]
    variants: Mapping[str, Mapping[str, VariantRate]]

    def of(self, variant: str, width: str) -> tuple[VariantRate, bool]:
        """Of a variant: its own, else the slowest of its codec; and False where even that is the slowest of all."""
        if variant in self.variants:
            return self.variants[variant][width], True
        codec = variant.partition(":")[0]
        related = [found for name, found in self.variants.items() if name.partition(":")[0] == codec]
        some = related or list(self.variants.values())
        return max((found[width] for found in some), key=lambda rate: rate.pass_s_per_GB), bool(related)

    def packing_s(self, packings: Sequence[str], own: str, n_bytes: int) -> float:
        """Seconds of the packings beside the variant's own."""
        kinds = [spec.partition(":")[0] for spec in dict.fromkeys(packings) if spec != own]
        worst = max(self.packings.values())
        return sum(self.packings.get(kind, worst) for kind in kinds) * n_bytes / GB

    def staging_s(self, name: str, n_bytes: int) -> float:
        """Seconds to cast or draw so many stored bytes: the cast's rate, else the slowest of its target, of all."""
        if name in self.staging:
            return self.staging[name] * n_bytes / GB
        related = [cost for known, cost in self.staging.items() if known.partition(":")[0] == name.partition(":")[0]]
        return max(related or self.staging.values()) * n_bytes / GB


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time of the measure stage.

    Attributes
    ----------
    cases, n_bytes
        Cases, and the raw bytes that they go through (a tensor counts once for each of its cases).
    core_s
        Seconds of one core over all cases, on this machine.
    longest_s
        Seconds of the longest group, which one worker does alone.
    guessed : int
        Cases of codecs without a rate of their own, taken at the slowest known one.
    start_s
        Of the wall, before the first case and after the last.
    """

    cases: int
    n_bytes: int
    core_s: float
    longest_s: float
    guessed: int
    start_s: float

    def wall_s(self, cores: int) -> float:
        """Seconds on so many cores, with Ray's start and end."""
        return self.start_s + max(self.core_s / max(cores, 1), self.longest_s)


@lru_cache(maxsize=1)
def rates() -> Rates:
    """The packaged figures."""
    text = (files("linepress.run") / "rates.yaml").read_text(encoding="utf-8")
    return parse_rates(parse_yaml(text, Path("rates.yaml")).data)


def parse_rates(data: Mapping[str, Any]) -> Rates:
    """``rates.yaml`` as read."""
    variants = {
        str(name): {width: VariantRate(*map(float, figures)) for width, figures in widths.items()}
        for name, widths in data["variants"].items()
    }
    bounds, staging, packings = (data[f"{name}_s_per_GB"] for name in ("bounds", "staging", "packings"))
    return Rates(float(data["work_s"]), float(data["start_s"]), bounds, staging, packings, variants)


def case_s(spec: str, variant: Variant, tensor: TensorRef, repeats: int, packings: Sequence[str]) -> float:
    """Seconds of one core that a case takes by itself on the machine of the rates: its weight among others."""
    return _alone(spec, variant, tensor, repeats, packings)[0]


def estimate_plan(plan: Plan, done: Mapping[str, str], cores: int) -> Estimate:
    """Time of what is left of a plan, on this machine as it is now."""
    from linepress.cluster.fanout import groups
    from linepress.stages.measure.bounds import KnownBounds

    @lru_cache(maxsize=1)
    def known(content: str, tensor: TensorRef, layout: str, line_bytes: int) -> bool:
        return bool(content) and KnownBounds(content, tensor, layout, line_bytes).bounds is not None

    tasks = list(plan.tasks(done))
    remembered = {
        task.key
        for task in tasks
        if known(task.content_sha256, task.arguments[0], task.arguments[1].layout, task.arguments[1].line_bytes)
    }
    return estimate(groups(tasks), cores, probe(cores), remembered)


def estimate(
    groups: Iterable[Sequence[Task]], cores: int, machine: Machine, remembered: Collection[str] = ()
) -> Estimate:
    """Time of measure tasks in the groups in which they go to ``cores`` workers.

    ``remembered`` holds the keys of cases whose content has its bounds counted already.
    """
    known = rates()
    speed = machine.work_s / known.work_s
    number = n_bytes = guessed = 0
    core_s = longest_s = 0.0
    # What the first case on a worker does for those after it: its seconds, and in how many groups it occurs.
    shared: dict[str, tuple[float, int]] = {}
    for group in groups:
        own_s, wanted = 0.0, dict[str, float]()
        for task in group:
            tensor, variant = task.arguments
            spec = str(task.identity["variant"])
            repeats, packings = task.options.get("repeats", 0), task.options.get("packings", ())
            alone_s, has_own = _alone(spec, variant, tensor, repeats, packings)
            number, n_bytes, guessed = number + 1, n_bytes + task.n_bytes, guessed + (not has_own)
            own_s += speed * alone_s
            wanted |= {name: speed * seconds for name, seconds in _shared(spec, variant, tensor, known)}
            if task.key in remembered:
                wanted.pop(f"bounds {tensor.identity} {variant.layout}", None)
            stored = tensor.stored()
            if not task.content_sha256 and not stored.uri.startswith(DRAWN):  # else planning has hashed it
                wanted[f"hash {stored.identity}"] = machine.hash_s_per_GB * stored.n_bytes / GB
        for name, seconds in wanted.items():
            shared[name] = seconds, shared.get(name, (0.0, 0))[1] + 1
        core_s += own_s
        workers = len(group[0].split.parts) if group[0].split is not None else 1
        longest_s = max(longest_s, own_s / workers + sum(wanted.values()))
    core_s += sum(seconds * _workers(count, cores) for seconds, count in shared.values())
    return Estimate(number, n_bytes, core_s, longest_s, guessed, speed * known.start_s if number else 0.0)


def _alone(
    spec: str, variant: Variant, tensor: TensorRef, repeats: int, packings: Sequence[str]
) -> tuple[float, bool]:
    known, n_bytes = rates(), tensor.n_bytes
    rate, has_own = known.of(spec, _width(tensor))
    timed = rate.round_s_per_GB * repeats * min(n_bytes, TIMED_BYTES)
    is_block = isinstance(variant.codec, BlockCodec)
    packed_s = 0.0 if is_block else known.packing_s(packings, variant.packing.spec, n_bytes)
    return rate.case_s + (rate.pass_s_per_GB * n_bytes + timed) / GB + packed_s, has_own


def _shared(spec: str, variant: Variant, tensor: TensorRef, known: Rates) -> Iterator[tuple[str, float]]:
    stored, width = tensor.stored(), _width(tensor)
    yield f"kernels {spec} {width}", known.of(spec, width)[0].load_s
    yield f"bounds {tensor.identity} {variant.layout}", known.bounds[width] * tensor.n_bytes / GB
    if stored.uri.startswith(DRAWN):
        yield f"draw {stored.identity}", known.staging_s("synthetic", stored.n_bytes)
    if tensor.cast:
        yield f"cast {tensor.identity}", known.staging_s(tensor.cast, stored.n_bytes)


def _workers(groups: int, cores: int) -> float:
    """Workers, of ``cores``, that groups sent to whichever is free come to, on average."""
    return cores * (1.0 - (1.0 - 1.0 / max(cores, 1)) ** groups)


def _width(tensor: TensorRef) -> str:
    """Which rates a tensor has: those of single bytes, or of wider elements."""
    return "1" if tensor.format.storage.itemsize == 1 else "2"
