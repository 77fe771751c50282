"""A figure with its unit, tier, source and standing; the one place where units are converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from linepress_hardware.errors import ConfigurationError

STATUSES = ("sourced", "seed", "unverified")
TIERS = ("SRAM", "HBM", "GDDR", "LPDDR", "DDR", "flash", "remote")

# unit -> (dimension, factor to the dimension's base unit)
UNITS: dict[str, tuple[str, float]] = {
    "B": ("bytes", 1.0),
    "MB": ("bytes", 1e6),
    "GB": ("bytes", 1e9),
    "TB": ("bytes", 1e12),
    "MiB": ("bytes", 2.0**20),
    "GiB": ("bytes", 2.0**30),
    "B/s": ("bytes/s", 1.0),
    "GB/s": ("bytes/s", 1e9),
    "TB/s": ("bytes/s", 1e12),
    "PB/s": ("bytes/s", 1e15),
    "Gb/s": ("bits/s", 1e9),
    "Tb/s": ("bits/s", 1e12),
    "pJ/bit": ("J/bit", 1e-12),
    "m": ("metres", 1.0),
    "Top/s": ("op/s", 1e12),
    "Pop/s": ("op/s", 1e15),
    "W": ("watts", 1.0),
    "kW": ("watts", 1e3),
    "USD": ("USD", 1.0),
    "kUSD": ("USD", 1e3),
    "MUSD": ("USD", 1e6),
    "USD/kWh": ("USD/kWh", 1.0),
    "ns": ("seconds", 1e-9),
    "us": ("seconds", 1e-6),
    "s": ("seconds", 1.0),
    "years": ("years", 1.0),
    "share": ("share", 1.0),
    "ratio": ("ratio", 1.0),
    "count": ("count", 1.0),
    "cores": ("count", 1.0),
    "U": ("rack units", 1.0),
    "mm2": ("mm2", 1.0),
}
_KEYS = frozenset({"value", "high", "unit", "source", "status", "tier", "date", "note"})


@dataclass(frozen=True)
class Datum:
    """One published number.

    Attributes
    ----------
    value, high : float
        In `unit`; `high` is set for a range (``1.2–1,200 TB``).
    status : str
        ``sourced`` (a public document says so), ``seed`` (the talk says so), ``unverified`` (recalled or third-hand).
    """

    value: float
    unit: str
    source: str
    status: str
    high: float | None = None
    tier: str = ""
    date: str = ""
    note: str = ""

    @property
    def base(self) -> float:
        """The value in base units: bytes, bytes/s, op/s, watts, USD, seconds, count."""
        return self.value * UNITS[self.unit][1]

    @property
    def dimension(self) -> str:
        return UNITS[self.unit][0]

    def as_dict(self) -> dict[str, Any]:
        """Plain keys and values, empty ones left out."""
        return {k: v for k, v in self.__dict__.items() if v not in ("", None)}


def figure(raw: Any, where: str, dimension: str) -> Datum:
    """Check a table ``{value, unit, source, status, …}`` of a data file.

    Raises
    ------
    ConfigurationError
        A key is missing or unknown, the unit is unknown or measures something else, the value is not positive.
    """
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f'{where} is {raw!r}; write {{ value = 1, unit = "GB", source = "…", status = "…" }}'
        )
    unknown = sorted(set(raw) - _KEYS)
    if unknown:
        raise ConfigurationError(f"{where} has the unknown key {unknown[0]!r}; use {', '.join(sorted(_KEYS))}")
    for key in ("value", "unit", "source", "status"):
        if key not in raw:
            raise ConfigurationError(f"{where} has no {key}; every figure needs value, unit, source and status")
    if raw["unit"] not in UNITS:
        fitting = [unit for unit, (kind, _) in UNITS.items() if kind == dimension]
        raise ConfigurationError(f"{where} has the unknown unit {raw['unit']!r}; use one of {', '.join(fitting)}")
    if UNITS[raw["unit"]][0] != dimension:
        fitting = [unit for unit, (kind, _) in UNITS.items() if kind == dimension]
        raise ConfigurationError(f"{where} is in {raw['unit']}, which is no {dimension}; use {', '.join(fitting)}")
    if raw["status"] not in STATUSES:
        raise ConfigurationError(f"{where} has the status {raw['status']!r}; use one of {', '.join(STATUSES)}")
    if not raw["source"]:
        raise ConfigurationError(f"{where} has an empty source; say where the number comes from")
    value, high = raw["value"], raw.get("high")
    for number in (value, high):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
            raise ConfigurationError(f"{where} is {number!r} {raw['unit']}; give a number above 0")
    if high is not None and high < value:
        raise ConfigurationError(f"{where} runs from {value} to {high}; the high end must not be below the low end")
    if raw.get("tier", "") not in ("", *TIERS):
        raise ConfigurationError(f"{where} has the tier {raw['tier']!r}; use one of {', '.join(TIERS)}")
    return Datum(
        float(value),
        raw["unit"],
        raw["source"],
        raw["status"],
        None if high is None else float(high),
        raw.get("tier", ""),
        raw.get("date", ""),
        raw.get("note", ""),
    )
