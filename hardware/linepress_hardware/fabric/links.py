"""Links as data: lanes, rate, latency, framing, each figure with its source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from linepress_hardware.catalog.figures import Datum, figure
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.framing import Framing
from linepress_hardware.fabric.parameters import parameter_ns

_NEEDED = ("name", "title", "family", "lanes", "lane_rate", "phy", "reach", "framing")
_LINE = ("signal_rate", "codeword", "data", "symbol", "correctable")
_FRAMING = ("payload_max", "header", "gap", "granule", "minimum", "cell", "flit", "flit_overhead")


@dataclass(frozen=True)
class LineCode:
    """Forward error correction of a lane: Reed–Solomon codewords of `codeword_bytes` with `data_bytes` of payload.

    `signal_Gbps` is the rate on the wire with the code, `correctable` the wrong symbols (of `symbol_bits`) that a
    codeword survives.
    """

    signal_Gbps: float
    codeword_bytes: float
    data_bytes: float
    symbol_bits: int
    correctable: int

    @property
    def efficiency(self) -> float:
        return self.data_bytes / self.codeword_bytes


@dataclass(frozen=True)
class Link:
    """One link (port): `lanes` lanes each way.

    Attributes
    ----------
    figures : dict of Datum
        Every figure of the file, those of the framing as ``framing.header`` and so on.
    framing : Framing
    line : LineCode | None
        Of a lane; `rate_Gbps` is net of it.
    """

    name: str
    title: str
    family: str
    aliases: tuple[str, ...]
    figures: dict[str, Datum]
    framing: Framing
    line: LineCode | None = None

    @property
    def lanes(self) -> int:
        return int(self.figures["lanes"].value)

    @property
    def links(self) -> int | None:
        """Links that an accelerator has; None where the topology decides."""
        found = self.figures.get("links")
        return None if found is None else int(found.value)

    @property
    def rate_Gbps(self) -> float:
        """Net rate one way, Gb/s."""
        return self.figures["lanes"].value * self.figures["lane_rate"].base / 1e9

    @property
    def rate_GBps(self) -> float:
        """Net rate one way, GB/s."""
        return self.rate_Gbps / 8

    @property
    def phy_ns(self) -> float:
        return round(self.figures["phy"].base * 1e9, 6)

    @property
    def wire_ns(self) -> float:
        """Flight over the cable."""
        return round(self.figures["reach"].base * parameter_ns("endpoint", "wire_per_metre"), 6)

    @property
    def latency_ns(self) -> float:
        """Wire and PHY of one hop."""
        return self.wire_ns + self.phy_ns

    @property
    def floor_ns(self) -> float:
        """Least time of a packet: a flit goes out whole, whatever it carries; without flits the smallest packet."""
        whole = self.framing.flit_bytes or float(self.framing.wire_bytes(1.0))
        return whole / self.rate_GBps

    @property
    def cells_per_flit(self) -> float | None:
        """Transaction cells that fit the payload of a flit; None without cells or flits."""
        cell = self.figures.get("framing.cell")
        return None if cell is None or not self.framing.flit_bytes else self.framing.flit_payload_bytes / cell.value


def parse_link(text: str, where: str) -> Link:
    """One data file → `Link`; every mistake is a `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, _NEEDED, ("aliases", "links", "line"))
    figures = {
        "lanes": figure(raw["lanes"], f"{where} lanes", "count"),
        "lane_rate": figure(raw["lane_rate"], f"{where} lane_rate", "bits/s"),
        "phy": figure(raw["phy"], f"{where} phy", "seconds"),
        "reach": figure(raw["reach"], f"{where} reach", "metres"),
    }
    if "links" in raw:
        figures["links"] = figure(raw["links"], f"{where} links", "count")
    part = raw["framing"]
    check_keys(part, f"{where} framing", ("payload_max", "header"), _FRAMING)
    for key, value in part.items():
        figures[f"framing.{key}"] = figure(value, f"{where} framing.{key}", "bytes")
    for key in ("lanes", "links"):
        if key in figures and figures[key].value != int(figures[key].value):
            raise ConfigurationError(f"{where} {key} is {figures[key].value:g}; give a whole number")
    return Link(
        raw["name"],
        raw["title"],
        raw["family"],
        tuple(raw.get("aliases", ())),
        figures,
        _framing(figures, where),
        _line(raw["line"], figures, where) if "line" in raw else None,
    )


_LINE_UNITS = {"signal_rate": "bits/s", "codeword": "bytes", "data": "bytes"}


def _line(raw: Any, figures: dict[str, Datum], where: str) -> LineCode:
    check_keys(raw, f"{where} line", _LINE, ())
    for key in _LINE:
        figures[f"line.{key}"] = figure(raw[key], f"{where} line.{key}", _LINE_UNITS.get(key, "count"))
    code = LineCode(
        figures["line.signal_rate"].base / 1e9,
        figures["line.codeword"].base,
        figures["line.data"].base,
        int(figures["line.symbol"].value),
        int(figures["line.correctable"].value),
    )
    net, said = code.signal_Gbps * code.efficiency, figures["lane_rate"].base / 1e9
    if abs(net / said - 1) > 1e-3:
        raise ConfigurationError(
            f"{where} lane_rate is {said:g} Gb/s, and {code.signal_Gbps:g} Gb/s x {code.data_bytes:g} / "
            f"{code.codeword_bytes:g} leaves {net:g}; lane_rate is net of the line code, counted once"
        )
    return code


def _framing(figures: dict[str, Datum], where: str) -> Framing:
    def size(key: str) -> float:
        found: Any = figures.get(f"framing.{key}")
        return 0.0 if found is None else float(found.base)

    if (size("flit") > 0) != (size("flit_overhead") > 0):
        raise ConfigurationError(f"{where} framing gives only one of flit and flit_overhead; give both or neither")
    if size("flit") and size("flit_overhead") >= size("flit"):
        raise ConfigurationError(f"{where} framing has no payload in its flit; flit_overhead must be below flit")
    return Framing(
        size("payload_max"),
        size("header"),
        size("gap"),
        size("granule"),
        size("minimum"),
        size("flit"),
        size("flit") - size("flit_overhead"),
    )


@cache
def links() -> dict[str, Link]:
    """All packaged links by name."""
    return catalog("links", parse_link)


def link(name: str) -> Link:
    """A packaged link by name or alias; raises `UnknownPartError` with the nearest names."""
    return lookup(name, links(), "link")
