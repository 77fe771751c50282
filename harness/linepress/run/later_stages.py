"""The cases of the stages after ``measure``, made from what was measured before them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from itertools import product
from math import isfinite
from typing import Any

from linepress.cluster.tasks import Task
from linepress.records.pools import Pool
from linepress.records.store import RunStore
from linepress.run.keys import case_key
from linepress.stages.channel.case import ChannelCase
from linepress.stages.fabric import OPERATIONS, TOPOLOGIES, FabricCase
from linepress.stages.system import Scenario, SystemCase
from linepress.suite.model import ScenarioSpec, Suite, SystemSpec
from linepress.suite.yaml12 import unknown
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.formats import format_named
from linepress_codecs.packing import parse_packing
from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.channel.evaluate import WORKLOADS
from linepress_hardware.dram import load_memory
from linepress_hardware.errors import HardwareError
from linepress_hardware.inference.catalog import model as find_model
from linepress_hardware.inference.precision import parse_precision

TARGETS = {
    "channel": "linepress.stages.channel.row:channel_case",
    "fabric": "linepress.stages.fabric:fabric_case",
    "system": "linepress.stages.system:system_case",
}
"""Each takes its case and gives its row: the case's ``identity()``, and figures under the names of the record."""


def wanted(variant: str, patterns: Iterable[str]) -> bool:
    """Whether a variant matches one of the suite's patterns."""
    return any(fnmatchcase(variant, pattern) for pattern in patterns)


def normal(packing: str) -> str:
    """A packing as the record spells it."""
    return packing if packing == "off" else parse_packing(packing).spec


def channel_tasks(suite: Suite, measured: list[Pool]) -> Iterator[Task]:
    """Every pool of line sizes × memory × packing × workload that the suite asks for."""
    spec = suite.model.channel
    if spec is None:
        return
    for pool in measured:
        if pool.codec_kind != "line" or pool.lines == 0 or not wanted(pool.variant, spec.codecs):
            continue
        histogram = tuple(int(count) for count in pool.histogram)
        for memory in spec.memories:
            for packing in spec.packings or suite.model.packings:
                for workload in spec.workloads:
                    case = ChannelCase(
                        memory=memory,
                        packing=normal(packing),
                        workload=workload,
                        codec=pool.variant,
                        data=pool.data,
                        bits_histogram=histogram,
                        line_bytes=pool.line_bytes,
                        table_bytes=pool.table_bytes,
                        decode_latency_ns=pool.decode_latency_ns,
                        encode_latency_ns=pool.encode_latency_ns,
                        decode_interval_ns=pool.interval_ns,
                        seed=suite.model.seeds.channel,
                        n_requests=spec.n_requests,
                        within_pct=spec.within_pct,
                    )
                    if spec.load_pct_peak is not None:
                        case = replace(case, load_pct_peak=spec.load_pct_peak)
                    yield _channel_task(case, pool)


def _channel_task(case: ChannelCase, pool: Pool) -> Task:
    origin = {
        "format": pool.format,
        "cast": pool.cast,
        "sources": sorted(pool.sources),
        "tensors": pool.tensors,
        "lines": pool.lines,
        "payload_ratio": pool.payload_ratio,
        "table_bytes": pool.table_bytes,
    }
    return _task("channel", case, origin, format=pool.format, cast=pool.cast)


def fabric_tasks(suite: Suite, measured: list[Pool]) -> Iterator[Task]:
    """Every ratio measured on the data that the suite names × link × topology × operation × size × devices."""
    spec = suite.model.fabric
    if spec is None:
        return
    packing = normal(spec.packing)
    for pool in measured:
        ratio = pool.total.ratio(packing)
        if (
            pool.data != spec.data
            or pool.codec_kind != "line"
            or ratio is None
            or not wanted(pool.variant, spec.codecs)
        ):
            continue
        for name, topology, operation, size_bytes, devices in product(
            spec.accelerators, spec.topologies, spec.operations, spec.sizes_bytes, spec.devices
        ):
            case = FabricCase(
                accelerator=name,
                topology=topology,
                operation=operation,
                devices=devices,
                size_bytes=size_bytes,
                codec=pool.variant,
                data=pool.data,
                packing=packing,
                ratio=ratio,
                encode_latency_ns=pool.encode_latency_ns,
                decode_latency_ns=pool.decode_latency_ns,
            )
            origin = {"format": pool.format, "cast": pool.cast}
            yield _task("fabric", case, origin, **origin)


@dataclass(frozen=True)
class _Gain:
    sequential: float
    memory: str


def system_tasks(suite: Suite, measured: list[Pool], store: RunStore) -> Iterator[Task]:
    """Every weight pool × packing × model × accelerator × scenario that the suite asks for.

    Ratios are the measured packed ratios, gains those of the channel stage for the same lines, packing and memory.
    A pool goes with the scenarios whose weights have as many bits as its elements. KV comes from the same variant
    where it was measured on KV, else from the best variant of the same codec, else it is not compressed.
    """
    spec = suite.model.system
    if spec is None:
        return
    gains = _gains(store)
    scenarios = [_scenario(suite, number, entry) for number, entry in enumerate(spec.scenarios)]
    weights = [pool for pool in measured if pool.data == "weights" and _usable(pool, spec)]
    for pool in weights:
        for packing in map(normal, spec.packings or suite.model.packings):
            ratio = pool.total.ratio(packing)
            if ratio is None:
                continue
            kv = _kv_beside(pool, measured, packing)
            for name in spec.accelerators:
                memory = spec.memory or memory_of(name, _memories(suite))
                gain = gains.get((pool.variant, "weights", pool.format, pool.cast, packing, memory))
                kv_gain = kv and gains.get((kv.variant, "kv", kv.format, kv.cast, packing, memory))
                for model in spec.models:
                    for scenario in scenarios:
                        if _weight_bits(scenario) != format_named(pool.format).bits:
                            continue
                        case = SystemCase(
                            model=model,
                            accelerator=name,
                            scenario=scenario,
                            codec=pool.variant,
                            weight_ratio=ratio,
                            weight_ratio_by_group=_ratios(pool.by_group, packing),
                            kv_ratio=(kv.total.ratio(packing) if kv else None) or 1.0,
                            key_ratio=kv.by_kind["key"].ratio(packing) if kv else None,
                            value_ratio=kv.by_kind["value"].ratio(packing) if kv else None,
                            channel_gain_sequential=gain.sequential if gain else None,
                            channel_gain_kv=kv_gain.sequential if kv_gain else None,
                            decode_latency_ns=pool.decode_latency_ns,
                            engine_GBps=LINE_BYTES / pool.interval_ns if pool.interval_ns > 0 else None,
                            memory=memory,
                            packing=packing,
                            seed=suite.model.seeds.system,
                        )
                        yield _system_task(case, pool, kv)


def _system_task(case: SystemCase, pool: Pool, kv: Pool | None) -> Task:
    origin = {
        "format": pool.format,
        "cast": pool.cast,
        "weight_sources": sorted(pool.sources),
        "kv_codec": kv.variant if kv else "",
        "kv_format": kv.format if kv else "",
        "gain_measured": case.channel_gain_sequential is not None,
    }
    return _task("system", case, origin, format=pool.format, cast=pool.cast, kv=origin["kv_codec"])


def _task(stage: str, case: ChannelCase | FabricCase | SystemCase, origin: Mapping[str, Any], **key: Any) -> Task:
    """The case on its way to a worker; ``origin`` says which measurement it comes from, ``key`` what of it counts."""
    return Task(
        key=case_key(stage, case=asdict(case), **key),
        stage=stage,
        target=TARGETS[stage],
        arguments=(case,),
        identity={**origin, **case.identity()},
    )


def _usable(pool: Pool, spec: SystemSpec) -> bool:
    return pool.codec_kind == "line" and wanted(pool.variant, spec.codecs)


def _ratios(groups: Mapping[str, Any], packing: str) -> dict[str, float]:
    found = {name: part.ratio(packing) for name, part in sorted(groups.items())}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def _kv_beside(pool: Pool, measured: list[Pool], packing: str) -> Pool | None:
    kv = [other for other in measured if other.data == "kv" and other.codec == pool.codec]
    same = [other for other in kv if other.variant == pool.variant]
    best = same or sorted(kv, key=lambda other: -(other.total.ratio(packing) or 0.0))
    return best[0] if best else None


def _gains(store: RunStore) -> dict[tuple[str, str, str, str, str, str], _Gain]:
    columns = ["status", "codec", "data", "format", "cast", "packing", "memory", "gain_sequential"]
    return {
        (row["codec"], row["data"], row["format"], row["cast"] or "", row["packing"], row["memory"]): _Gain(
            row["gain_sequential"], row["memory"]
        )
        for row in store.rows("channel", columns)
        if row["status"] == "ok" and row["gain_sequential"] is not None and isfinite(row["gain_sequential"])
    }


def _memories(suite: Suite) -> list[str]:
    return list(suite.model.channel.memories) if suite.model.channel is not None else []


def memory_of(accelerator_name: str, memories: list[str]) -> str:
    """The channel-stage memory that stands for an accelerator's own: of its kind, else the nearest kind by name, else
    the first; empty without a channel stage."""
    if not memories:
        return ""
    kind = _letters(accelerator(accelerator_name).main.kind)
    exact = [memory for memory in memories if _letters(memory) == kind]
    longest = sorted(memories, key=lambda memory: -_shared(_letters(memory), kind))
    return exact[0] if exact else longest[0]


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _shared(one: str, other: str) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def _weight_bits(scenario: Scenario) -> float:
    return parse_precision(scenario.precision).weight_bits


def _scenario(suite: Suite, number: int, entry: ScenarioSpec) -> Scenario:
    known = [f.name for f in fields(Scenario)]
    values = dict(entry.model_dump())
    place: tuple[str | int, ...] = ("system", "scenarios", number)
    for key in values:
        if key not in known:
            raise suite.at((*place, key), unknown("key", key, known))
    try:
        return Scenario(**values)
    except (TypeError, ValueError) as error:
        raise suite.at(place, str(error)) from None


def check_later_stages(suite: Suite) -> None:
    """Raise with file and line, before anything is measured, for names that the later stages would not know."""
    channel, system = suite.model.channel, suite.model.system
    if channel is not None:
        for number, memory in enumerate(channel.memories):
            _known(suite, ("channel", "memories", number), load_memory, memory)
        for number, workload in enumerate(channel.workloads):
            if workload not in WORKLOADS:
                raise suite.at(("channel", "workloads", number), unknown("workload", workload, list(WORKLOADS)))
    if system is not None:
        for number, entry in enumerate(system.scenarios):
            _scenario(suite, number, entry)
        for number, name in enumerate(system.accelerators):
            _known(suite, ("system", "accelerators", number), accelerator, name)
        for number, name in enumerate(system.models):
            _known(suite, ("system", "models", number), find_model, name)

    fabric = suite.model.fabric
    if fabric is not None:
        for number, name in enumerate(fabric.accelerators):
            _known(suite, ("fabric", "accelerators", number), accelerator, name)
        for key, words in (("topologies", TOPOLOGIES), ("operations", OPERATIONS)):
            for number, word in enumerate(getattr(fabric, key)):
                if word not in words:
                    raise suite.at(("fabric", key, number), unknown("value", word, list(words)))


def _known(suite: Suite, place: tuple[str | int, ...], find: Callable[[str], object], name: str) -> None:
    try:
        find(name)
    except HardwareError as error:
        raise suite.at(place, str(error)) from None
