"""Racks as data, and what follows from them: TB, TB/s, kW, and what a terabyte or a TB/s costs, at any ratio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from linepress_hardware.catalog.accelerators import Accelerator, accelerator
from linepress_hardware.catalog.figures import STATUSES, Datum, figure
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.errors import ConfigurationError

_FIGURES = {
    "systems": "count",
    "chips_per_system": "count",
    "height": "rack units",
    "system_power": "watts",
    "system_price": "USD",
    "system_memory": "bytes",
    "rack_power": "watts",
    "rack_price": "USD",
    "shared_memory": "bytes",
}
_KEYS = frozenset({"name", "title", "accelerator", "note", *_FIGURES})


@dataclass(frozen=True)
class Rack:
    """A rack: `systems` × `chips_per_system` of one accelerator; every other figure is optional."""

    name: str
    title: str
    part: Accelerator
    figures: dict[str, Datum]
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def chips(self) -> int:
        return int(self.figures["systems"].value * self.figures["chips_per_system"].value)

    @property
    def power(self) -> Datum | None:
        """Watts of the rack: its own figure, else systems × system power, else chips × device power (no hosts)."""
        whole = self.figures.get("rack_power")
        if whole is not None:
            return whole
        if "system_power" in self.figures:
            return _times(self.figures["system_power"], self.figures["systems"], "")
        if self.part.power is None:
            return None
        return _times(self.part.power, None, "chips alone, hosts excluded", self.chips)

    @property
    def price(self) -> Datum | None:
        whole = self.figures.get("rack_price")
        if whole is not None:
            return whole
        one = self.figures.get("system_price")
        return None if one is None else _times(one, self.figures["systems"], "")


@dataclass(frozen=True)
class RackChips:
    """How many accelerators a rack takes; None where no rack file has the accelerator."""

    chips: int | None
    status: str


def _times(one: Datum, many: Datum | None, note: str, count: int | None = None) -> Datum:
    factor = many.value if many is not None else float(count or 1)
    status = max((one.status, many.status if many is not None else "sourced"), key=STATUSES.index)
    high = None if one.high is None else one.high * factor
    return Datum(one.value * factor, one.unit, one.source, status, high, one.tier, one.date, note)


def parse_rack(text: str, where: str) -> Rack:
    """One data file → `Rack`; mistakes are `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("name", "title", "accelerator", "systems", "chips_per_system"), _KEYS)
    figures = {key: figure(raw[key], f"{where} {key}", kind) for key, kind in _FIGURES.items() if key in raw}
    for key in ("systems", "chips_per_system"):
        if figures[key].value != int(figures[key].value):
            raise ConfigurationError(f"{where} {key} is {figures[key].value}; give a whole number")
    return Rack(raw["name"], raw["title"], accelerator(raw["accelerator"]), figures, raw.get("note", ""))


@cache
def racks() -> dict[str, Rack]:
    """All packaged racks by name."""
    return catalog("racks", parse_rack)


def rack(name: str) -> Rack:
    """By name; `UnknownPartError` lists the nearest ones."""
    return lookup(name, racks(), "rack", "see linepress list racks")


def chips_per_rack(accelerator_name: str) -> RackChips:
    """Accelerators of this kind in its (first) rack."""
    part = accelerator(accelerator_name)
    for one in racks().values():
        if one.part.name == part.name:
            statuses = (one.figures["systems"].status, one.figures["chips_per_system"].status)
            return RackChips(one.chips, max(statuses, key=STATUSES.index))
    return RackChips(None, "missing")


def _capacities(one: Rack) -> list[tuple[str, float, str]]:
    """(basis, bytes, tier) of a rack's memory, by every way there is to count it."""
    out: list[tuple[str, float, str]] = []
    main = one.part.main
    shared = one.figures.get("shared_memory")
    if shared is not None:
        out.append(("shared store, not multiplied", shared.base, shared.tier or "remote"))
    if "system_memory" in one.figures:
        size = one.figures["system_memory"].base * one.figures["systems"].value
        out.append((f"system figure ({one.figures['system_memory'].status})", size, main.tier))
    chips = main.capacity_bytes * one.chips
    if not any(abs(chips - size) <= 1e-9 * size for _, size, _ in out):
        out.append(
            (f"{main.capacity.value:g} {main.capacity.unit} a chip ({main.capacity.status})", chips, main.tier)
        )
    return out


def derive(one: Rack, ratio: float = 1.0, *, decompressor_keeps_up: bool = True) -> list[dict[str, Any]]:
    """Derived quantities of a rack, one row a way to count its memory.

    Parameters
    ----------
    ratio : float
        Compression ratio of what the memory holds; TB grow by it, W/TB and USD/TB shrink by it.
    decompressor_keeps_up : bool
        Whether bandwidth grows by the ratio too.

    Returns
    -------
    list[dict]
        ``TB``, ``TBps``, ``kW``, ``kUSD``, ``W_per_TB``, ``kW_per_TB``, ``kUSD_per_TB``, ``TBps_per_kW``,
        ``kUSD_per_TBps``, the same at `ratio` as ``effective_*``, and the standing of each figure. A quotient of
        two tiers (``tiers_differ``) is given because the talk's numbers imply it, and marked.

    Raises
    ------
    ConfigurationError
        The ratio is not a positive number.
    """
    if not 0 < ratio < float("inf"):
        raise ConfigurationError(f"ratio is {ratio!r}; give a number above 0 (1 is uncompressed)")
    power, price = one.power, one.price
    rows = []
    rate = one.part.bandwidth_Bps * one.chips / 1e12
    gain = ratio if decompressor_keeps_up else 1.0
    for basis, size, tier in _capacities(one):
        kW = None if power is None else power.base / 1e3
        kUSD = None if price is None else price.base / 1e3
        TB = size / 1e12
        row: dict[str, Any] = {
            "rack": one.name,
            "title": one.title,
            "accelerator": one.part.name,
            "chips": one.chips,
            "memory_basis": basis,
            "tier": tier,
            "bandwidth_tier": one.part.main.tier,
            "tiers_differ": tier != one.part.main.tier,
            **_quotients("", TB, rate, kW, kUSD),
            "ratio": ratio,
            **_quotients("effective_", TB * ratio, rate * gain, kW, kUSD),
            "power_status": None if power is None else power.status,
            "price_status": None if price is None else price.status,
            "power_note": "" if power is None else power.note,
            "note": one.note,
        }
        if power is not None and power.high is not None:
            row["kW_high"] = power.high * (power.base / power.value) / 1e3
        rows.append(row)
    return rows


def _quotients(prefix: str, TB: float, TBps: float, kW: float | None, kUSD: float | None) -> dict[str, float | None]:
    return {
        f"{prefix}TB": TB,
        f"{prefix}TBps": TBps,
        **({} if prefix else {"kW": kW, "kUSD": kUSD}),
        f"{prefix}W_per_TB": None if kW is None else kW * 1e3 / TB,
        f"{prefix}kW_per_TB": None if kW is None else kW / TB,
        f"{prefix}kUSD_per_TB": None if kUSD is None else kUSD / TB,
        f"{prefix}TBps_per_kW": None if kW is None else TBps / kW,
        f"{prefix}kUSD_per_TBps": None if kUSD is None else kUSD / TBps,
    }
