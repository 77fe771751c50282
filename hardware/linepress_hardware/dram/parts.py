"""Memory parts from data files: organisation, timings in ns with a source beside each figure, energy.

A part is one TOML file in ``linepress_hardware/data/memories`` (or any path given to `load_part`); `MODEL.md` says
how to add one. Nanoseconds become clocks here and nowhere else.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from linepress_hardware.catalog.files import read_toml, texts
from linepress_hardware.dram.standards import STANDARDS, Rule, Standard, rules
from linepress_hardware.errors import ConfigurationError, UnknownPartError

REQUIRED = (
    "BL CL CWL RCDRD RCDWR RP RAS RC WR RTP CCDS CCDL RRDS RRDL WTRS WTRL RTW RFCab REFI".split()  # noqa: SIM905
)
# Timings that a file may leave out, and what they then are: another timing's name, or a number of clocks.
DEFAULTS: dict[str, str | int] = {
    "BL_long": "BL",
    "RPab": "RP",
    "CCDS_WR": "CCDS",
    "CCDL_WR": "CCDL",
    "CCDR": "CCDS",
    "FAW": 0,
    "AW32": 0,
    "CS": 0,
    "RTW_other": 0,
    "PPD": 0,
    "RPD": 0,
    "RDREF": 0,
    "RFCpb": "RFCab",
    "RREFD": "RRDS",
    "REFB2REFB": "RREFD",
    "REFIpb": 0,
    "AAD": 0,
    "WCKPST": 0,
    "RL_extra": 0,
}
ROUND_DOWN = ("REFI", "REFIpb")  # a refresh may come early, not late; every other timing is a minimum
_ORGANISATION = (
    "pseudo_channels ranks bank_groups banks_per_group rows row_bytes atom_bytes channels_per_device".split()  # noqa: SIM905
)
_ENERGY = ("activate_pJ", "read_pJ_per_bit", "write_pJ_per_bit", "phy_pJ_per_bit", "refresh_pJ", "background_mW")


@dataclass(frozen=True, slots=True)
class Specification:
    """One number of a data file with its unit and where it comes from.

    ``status`` is ``preset`` (a public simulator's preset; the standard's own text was not consulted), ``published``,
    ``derived``, ``estimated`` or ``unverified``.
    """

    name: str
    value: float
    unit: str
    source: str
    status: str


@dataclass(frozen=True, slots=True)
class Part:
    """One channel of a memory technology, ready to simulate. Times in ns, ``ck`` in clocks.

    Raises nothing; `load_part` and `part_from_document` check.
    """

    name: str
    title: str
    standard: Standard
    tck_ns: float
    pseudo_channels: int
    ranks: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes: int
    atom_bytes: int
    channels_per_device: int
    default_mapping: str
    ck: dict[str, int]
    energy: dict[str, float]
    figures: tuple[Specification, ...] = field(repr=False, default=())

    @property
    def ticks_per_ck(self) -> int:
        return 2 if self.standard.half_clock else 1

    @property
    def tick_ns(self) -> float:
        return self.tck_ns / self.ticks_per_ck

    @property
    def banks(self) -> int:
        """Banks of the channel over all pseudo channels and ranks."""
        return self.pseudo_channels * self.ranks * self.bank_groups * self.banks_per_group

    @property
    def scopes(self) -> int:
        """Parts of the channel that refresh, activate and turn around apart: channel, pseudo channels or ranks."""
        return {0: 1, 1: self.pseudo_channels, 2: self.pseudo_channels * self.ranks}[self.standard.scope]

    @property
    def bank_refresh_ck(self) -> int:
        """Clocks between two refreshes of single banks of a scope: tREFIpb, or tREFI over its banks."""
        return self.ck["REFIpb"] or max(1, self.ck["REFI"] // (self.banks // self.scopes))

    @property
    def capacity_bytes(self) -> int:
        """Bytes behind one channel."""
        return self.banks * self.rows * self.row_bytes

    @property
    def data_buses(self) -> int:
        return self.pseudo_channels

    @property
    def peak_GBps(self) -> float:
        """Pin bandwidth of the channel: one atom a burst on every pseudo channel."""
        return self.atom_bytes * self.pseudo_channels / (self.ck["BL"] * self.tck_ns)

    @property
    def read_latency_ticks(self) -> int:
        """Read command to last data of the atom."""
        return (self.ck["CL"] + self.ck["BL"] + self.ck["RL_extra"]) * self.ticks_per_ck

    def ns(self, timing: str) -> float:
        """A timing as used, rounded to clocks, in ns."""
        return self.ck[timing] * self.tck_ns

    def rules(self) -> list[Rule]:
        """Every command spacing of this part, in ticks."""
        return rules(self.standard, self.ck, self.ticks_per_ck)


def part_names() -> list[str]:
    """Names of the packaged DRAM parts."""
    return sorted(n for n, d in _packaged().items() if d.get("kind", "dram") == "dram")


def simple_names() -> list[str]:
    """Names of the packaged memories with an engine of their own (SRAM, HBF)."""
    return sorted(n for n, d in _packaged().items() if d.get("kind", "dram") != "dram")


def memory_names() -> list[str]:
    """Names of every packaged memory: DRAM parts first, then those with an engine of their own."""
    return [*part_names(), *simple_names()]


def document(name: str) -> dict[str, Any]:
    """The raw data file of a packaged memory; raises `UnknownPartError`."""
    key = name.lower()
    known = _packaged()
    if key not in known:
        raise UnknownPartError(
            f"unknown memory {name!r}: known are {', '.join(sorted(known))}, or a path to a .toml file"
        )
    return known[key]


def load_part(name: str, overrides: Mapping[str, float] | None = None) -> Part:
    """The part of this name (case does not matter) or of this ``.toml`` path.

    ``overrides`` replaces timings (names with or without a leading t, in ns) and the organisation's counts, as in
    ``{"tFAW": 20.0, "ranks": 1}``. Raises `UnknownPartError` and `ConfigurationError`.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UnknownPartError(
                f"{name}: no such part file; give one of {', '.join(part_names())} or an existing path"
            )
        try:
            doc = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name} is not TOML ({error}); copy a packaged part and edit it") from None
    else:
        doc = document(name)
    if doc.get("kind", "dram") != "dram":
        raise ConfigurationError(
            f"{name} is {doc['kind']}, not DRAM: use linepress_hardware.dram.simulate, which picks its engine"
        )
    return part_from_document(doc, overrides)


def part_from_document(doc: Mapping[str, Any], overrides: Mapping[str, float] | None = None) -> Part:
    """Build and check a part from a parsed data file; raises `ConfigurationError` naming key and value."""
    name = str(doc.get("name", "(unnamed part)"))
    unknown = set(doc) - {
        "name",
        "title",
        "kind",
        "standard",
        "tCK",
        "mapping",
        "sources",
        "organisation",
        "timing",
        "energy",
    }
    if unknown:
        raise ConfigurationError(
            f"part {name}: unknown key {sorted(unknown)[0]!r}; compare with a packaged part file"
        )
    standard = STANDARDS.get(str(doc.get("standard")))
    if standard is None:
        raise ConfigurationError(
            f"part {name}: standard {doc.get('standard')!r} is not one of {', '.join(STANDARDS)}"
        )
    overrides = _normalised(name, overrides or {})
    figures: list[Specification] = []
    sources = doc.get("sources", {})

    def read(section: str, key: str, entry: Any, unit: str) -> float:
        if not isinstance(entry, dict) or not isinstance(entry.get(unit), int | float):
            raise ConfigurationError(
                f"part {name}: {section}.{key} must be a table with {unit} and source, got {entry!r}"
            )
        source = entry.get("source")
        if source not in sources:
            raise ConfigurationError(
                f"part {name}: {section}.{key} needs a source that [sources] lists, got {source!r}"
            )
        value = float(entry[unit])
        if not math.isfinite(value) or value < 0:
            raise ConfigurationError(f"part {name}: {section}.{key} = {value} must be a finite number ≥ 0")
        figures.append(Specification(key, value, unit, str(sources[source]), str(entry.get("status", "preset"))))
        return value

    tck_ns = read("", "tCK", doc.get("tCK"), "ns")
    if tck_ns <= 0:
        raise ConfigurationError(f"part {name}: tCK must be above 0 ns")
    organisation: dict[str, int] = {}
    for key in _ORGANISATION:
        entry = doc.get("organisation", {}).get(key)
        value = overrides.pop(key) if key in overrides else read("organisation", key, entry, "value")
        if value != int(value) or value < 1 or int(value) & (int(value) - 1):
            raise ConfigurationError(
                f"part {name}: {key} = {value:g} must be a power of two (addresses are mapped by bits)"
            )
        organisation[key] = int(value)

    clocks: dict[str, int] = {}
    timing = doc.get("timing", {})
    for key, entry in timing.items():
        if key not in REQUIRED and key not in DEFAULTS:
            raise ConfigurationError(
                f"part {name}: unknown timing {key!r}; known are {', '.join([*REQUIRED, *DEFAULTS])}"
            )
        units = [u for u in ("ns", "ck") if isinstance(entry, dict) and u in entry]
        if not units:
            raise ConfigurationError(
                f"part {name}: timing.{key} must give ns, ck or both (the larger counts), got {entry!r}"
            )
        values = {u: read("timing", key, entry, u) for u in units}
        clocks[key] = _clocks(key, values, tck_ns)
    for key, ns in overrides.items():
        if not math.isfinite(ns) or ns < 0:
            raise ConfigurationError(f"part {name}: override t{key} = {ns} ns must be a finite number ≥ 0")
        clocks[key] = _clocks(key, {"ns": ns}, tck_ns)
    missing = [k for k in REQUIRED if k not in clocks]
    if missing:
        raise ConfigurationError(f"part {name}: timing {missing[0]} is missing; add it with ns or ck and a source")
    for key, default in DEFAULTS.items():
        if key not in clocks:
            clocks[key] = clocks[default] if isinstance(default, str) else default
    energy = {}
    for key, entry in doc.get("energy", {}).items():
        if key not in _ENERGY:
            raise ConfigurationError(f"part {name}: unknown energy figure {key!r}; known are {', '.join(_ENERGY)}")
        energy[key] = read("energy", key, entry, "value")
        if not isinstance(entry.get("includes"), str) or not entry["includes"]:
            raise ConfigurationError(f'part {name}: energy.{key} must say what it includes, as in includes = "…"')
        figures[-1] = replace(figures[-1], source=f"{figures[-1].source}; includes: {entry['includes']}")
    part = Part(
        name=name,
        title=str(doc.get("title", name)),
        standard=standard,
        tck_ns=tck_ns,
        default_mapping=str(doc.get("mapping", "MOP4CLXOR")),
        ck=clocks,
        energy=energy,
        figures=tuple(figures),
        **organisation,
    )
    _check(part)
    return part


def _clocks(key: str, values: Mapping[str, float], tck_ns: float) -> int:
    """Clocks of a timing given in ns, clocks or both; 1e-6 of a clock forgives the decimal form of tCK."""
    from_ns = values.get("ns", 0.0) / tck_ns
    rounded = math.floor(from_ns + 1e-6) if key in ROUND_DOWN else math.ceil(from_ns - 1e-6)
    return max(rounded, math.ceil(values.get("ck", 0.0)))


def _normalised(name: str, overrides: Mapping[str, float]) -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in overrides.items():
        bare = re.sub(r"^t(?=[A-Z])", "", key)
        if bare not in REQUIRED and bare not in DEFAULTS and bare not in _ORGANISATION:
            known = ", ".join([*("t" + k for k in REQUIRED), *("t" + k for k in DEFAULTS), *_ORGANISATION])
            raise ConfigurationError(f"part {name} has no override {key!r}: known are {known}")
        try:
            out[bare] = float(value)
        except (TypeError, ValueError):
            raise ConfigurationError(f"part {name}: override {key} = {value!r} is not a number") from None
    return out


def _check(part: Part) -> None:
    """Timings that contradict each other, each with the sentence that says which."""
    ck, name = part.ck, part.name

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise ConfigurationError(f"part {name}: {what}; correct the timings")

    for key in REQUIRED:
        need(ck[key] > 0, f"t{key} rounds to 0 clocks")
    # One clock of slack: RC, RAS and RP are each rounded up on their own.
    need(
        ck["RC"] + 1 >= ck["RAS"] + ck["RP"],
        f"tRC {part.ns('RC'):g} ns is below tRAS + tRP {part.ns('RAS') + part.ns('RP'):g} ns",
    )
    need(ck["RAS"] >= ck["RCDRD"], f"tRAS {part.ns('RAS'):g} ns is below tRCDRD {part.ns('RCDRD'):g} ns")
    need(
        ck["CCDS"] >= ck["BL"],
        f"tCCDS {ck['CCDS']} clocks is below the burst of {ck['BL']}, so that data would collide",
    )
    need(ck["CCDL"] >= ck["CCDS"], f"tCCDL {ck['CCDL']} clocks is below tCCDS {ck['CCDS']}")
    need(ck["RRDL"] >= ck["RRDS"], f"tRRDL {ck['RRDL']} clocks is below tRRDS {ck['RRDS']}")
    need(ck["WTRL"] >= ck["WTRS"], f"tWTRL {ck['WTRL']} clocks is below tWTRS {ck['WTRS']}")
    need(not ck["FAW"] or ck["FAW"] >= ck["RRDS"], f"tFAW {ck['FAW']} clocks is below tRRDS {ck['RRDS']}")
    need(ck["RTW"] + ck["CWL"] >= ck["CL"] or ck["RTW"] >= ck["BL"], "tRTW lets write data overlap read data")
    refresh = ck["RFCab"] + ck["RP"] + ck["RC"]
    need(
        ck["REFI"] > refresh,
        f"tREFI {part.ns('REFI'):g} ns leaves no time beside tRFCab + tRP + tRC {refresh * part.tck_ns:g} ns",
    )
    need(not part.standard.split_activate or ck["AAD"] > 0, "a split activate needs tAAD")
    need(
        part.row_bytes >= part.atom_bytes,
        f"a row of {part.row_bytes} B is smaller than an atom of {part.atom_bytes} B",
    )


@cache
def _packaged() -> dict[str, dict[str, Any]]:
    documents = [read_toml(text, where) for where, text in texts("memories")]
    return {str(doc["name"]): doc for doc in documents}
