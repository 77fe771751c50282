"""Switches as data: capacity, ports, latency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from linepress_hardware.catalog.figures import Datum, figure
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class Switch:
    """One switch ASIC."""

    name: str
    title: str
    aliases: tuple[str, ...]
    figures: dict[str, Datum]
    reduces: bool

    @property
    def capacity_Gbps(self) -> float:
        return self.figures["capacity"].base / 1e9

    @property
    def latency_ns(self) -> float:
        """Port to port."""
        return round(self.figures["latency"].base * 1e9, 6)

    def radix(self, port_Gbps: float) -> int:
        """Ports of `port_Gbps` that the switch offers."""
        if not 0 < port_Gbps < float("inf"):
            raise ConfigurationError(f"a port of {port_Gbps!r} Gb/s carries nothing; give a rate above 0")
        fitting = int(self.capacity_Gbps / port_Gbps + 1e-9)
        ports = self.figures.get("ports")
        return fitting if ports is None else min(fitting, int(ports.value))


def parse_switch(text: str, where: str) -> Switch:
    """One data file → `Switch`; every mistake is a `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("name", "title", "capacity", "latency"), ("aliases", "ports", "reduces"))
    figures = {
        "capacity": figure(raw["capacity"], f"{where} capacity", "bits/s"),
        "latency": figure(raw["latency"], f"{where} latency", "seconds"),
    }
    if "ports" in raw:
        figures["ports"] = figure(raw["ports"], f"{where} ports", "count")
    reduces = raw.get("reduces", False)
    if not isinstance(reduces, bool):
        raise ConfigurationError(f"{where} reduces is {reduces!r}; write true or false")
    return Switch(raw["name"], raw["title"], tuple(raw.get("aliases", ())), figures, reduces)


@cache
def switches() -> dict[str, Switch]:
    """All packaged switches by name."""
    return catalog("switches", parse_switch)


def switch(name: str) -> Switch:
    """A packaged switch by name or alias; raises `UnknownPartError` with the nearest names."""
    return lookup(name, switches(), "switch")
