"""Accelerators as data: memory tiers, peaks, power, price, link, each figure with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from linepress_hardware.catalog.figures import TIERS, Datum, figure
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.errors import ConfigurationError

_KEYS = frozenset({"name", "title", "aliases", "memory", "peak", "power", "price", "link", "reference", "note"})
_SCOPES = ("device", "system", "rack", "shared")


@dataclass(frozen=True)
class MemoryTier:
    """One level of an accelerator's memory.

    `scope` says whom it belongs to: a ``device``, a ``system``, a ``rack``, or ``shared`` by a cluster (then
    it is never multiplied by the number of devices).
    """

    tier: str
    kind: str
    scope: str
    capacity: Datum
    bandwidth: Datum | None

    @property
    def capacity_bytes(self) -> float:
        return self.capacity.base

    @property
    def bandwidth_Bps(self) -> float | None:
        return None if self.bandwidth is None else self.bandwidth.base

    @property
    def is_cache(self) -> bool:
        """A cache of the tier before it: nothing is placed there, but what was just read may be found there."""
        return self.kind == "L2 cache"


@dataclass(frozen=True)
class Link:
    """The scale-up link of a device: all its lanes together, one way."""

    name: str
    bandwidth: Datum
    latency: Datum
    launch: Datum
    algorithm: str
    domain: Datum


@dataclass(frozen=True)
class ReferenceDevice:
    """What the published roofline tool believes of the device."""

    name: str
    bandwidth_Bps: float
    peak_16_ops: float
    peak_8_ops: float | None
    on_chip_bytes: float | None
    source: str


@dataclass(frozen=True)
class Accelerator:
    """An accelerator. `main` is the tier that weights and KV stream from, the first one in its file."""

    name: str
    title: str
    aliases: tuple[str, ...]
    memory: tuple[MemoryTier, ...]
    peak: Mapping[int, Datum]
    power: Datum | None
    price: Datum | None
    link: Link | None
    reference: ReferenceDevice | None
    note: str = field(default="")

    @property
    def main(self) -> MemoryTier:
        return self.memory[0]

    @property
    def capacity_bytes(self) -> float:
        return self.main.capacity_bytes

    @property
    def cache_bytes(self) -> float:
        """Bytes of the last-level cache, 0 where the data file gives none."""
        return sum(level.capacity_bytes for level in self.memory if level.is_cache)

    @property
    def bandwidth_Bps(self) -> float:
        if self.main.bandwidth is None:
            raise ConfigurationError(f"{self.name}: the first memory tier has no bandwidth; add it to its data file")
        return self.main.bandwidth.base

    def peak_ops(self, bits: float) -> float:
        """Peak op/s of a matrix product whose wider operand has `bits` bits: the narrowest published peak that fits.

        Where the figure has a high end (clocks beyond the data sheet's were measured) that one, so that the roofline
        stays a bound.

        Raises
        ------
        ConfigurationError
            No published peak is as wide as `bits`.
        """
        fitting = [width for width in self.peak if width >= bits]
        if not fitting:
            widths = ", ".join(f"{width} bits" for width in sorted(self.peak))
            raise ConfigurationError(
                f"{self.name} has no published peak for {bits:g}-bit operands (only {widths}); "
                f"use a narrower precision, for instance w8a8kv8"
            )
        found = self.peak[min(fitting)]
        return found.base if found.high is None else found.base * found.high / found.value


def parse_accelerator(text: str, where: str) -> Accelerator:
    """One data file → `Accelerator`; every mistake is a `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("name", "title", "memory", "peak"), _KEYS)
    tiers = tuple(_tier(tier, f"{where} memory[{i}]") for i, tier in enumerate(raw["memory"]))
    peak: dict[int, Datum] = {}
    for key, value in raw["peak"].items():
        if not key.startswith("bits_") or not key[5:].isdigit():
            raise ConfigurationError(f"{where} peak has the unknown key {key!r}; use bits_16, bits_8 or bits_4")
        peak[int(key[5:])] = figure(value, f"{where} peak.{key}", "op/s")
    return Accelerator(
        name=raw["name"],
        title=raw["title"],
        aliases=tuple(raw.get("aliases", ())),
        memory=tiers,
        peak=peak,
        power=_optional(raw.get("power"), f"{where} power", "watts"),
        price=_optional(raw.get("price"), f"{where} price", "USD"),
        link=_link(raw["link"], f"{where} link") if "link" in raw else None,
        reference=_reference(raw["reference"], f"{where} reference") if "reference" in raw else None,
        note=raw.get("note", ""),
    )


def _optional(raw: Any, where: str, dimension: str) -> Datum | None:
    return None if raw is None else figure(raw, where, dimension)


def _tier(raw: Mapping[str, Any], where: str) -> MemoryTier:
    if raw.get("tier") not in TIERS:
        raise ConfigurationError(f"{where} has the tier {raw.get('tier')!r}; use one of {', '.join(TIERS)}")
    scope = raw.get("scope", "device")
    if scope not in _SCOPES:
        raise ConfigurationError(f"{where} has the scope {scope!r}; use one of {', '.join(_SCOPES)}")
    bandwidth = _optional(raw.get("bandwidth"), f"{where} bandwidth", "bytes/s")
    capacity = figure(raw.get("capacity"), f"{where} capacity", "bytes")
    return MemoryTier(raw["tier"], raw.get("kind", raw["tier"]), scope, capacity, bandwidth)


def _link(raw: Mapping[str, Any], where: str) -> Link:
    return Link(
        raw["name"],
        figure(raw.get("bandwidth"), f"{where} bandwidth", "bytes/s"),
        figure(raw.get("latency"), f"{where} latency", "seconds"),
        figure(raw.get("launch"), f"{where} launch", "seconds"),
        raw.get("algorithm", "ring"),
        figure(raw.get("domain"), f"{where} domain", "count"),
    )


def _reference(raw: Mapping[str, Any], where: str) -> ReferenceDevice:
    for key in ("name", "bandwidth_GBps", "peak_16_Tops", "source"):
        if key not in raw:
            raise ConfigurationError(f"{where} has no {key}")
    peak_8 = raw.get("peak_8_Tops")
    return ReferenceDevice(
        raw["name"],
        raw["bandwidth_GBps"] * 1e9,
        raw["peak_16_Tops"] * 1e12,
        None if peak_8 is None else peak_8 * 1e12,
        raw.get("on_chip_bytes"),
        raw["source"],
    )


@cache
def accelerators() -> dict[str, Accelerator]:
    """All packaged accelerators by name, in order of their file names."""
    return catalog("accelerators", parse_accelerator)


def accelerator(name: str) -> Accelerator:
    """By name or alias, case and ``_``/``-``/blank not minded.

    Raises
    ------
    UnknownPartError
        No data file has the name; the message lists the nearest ones.
    """
    return lookup(name, accelerators(), "accelerator", "see linepress list accelerators")
