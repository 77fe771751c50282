"""Topologies as data, what they consist of, and the network that the packet simulation runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import ceil, prod
from typing import Any

from linepress_hardware.catalog.figures import STATUSES
from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml, whole
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric.links import Link, link
from linepress_hardware.fabric.parameters import parameter_ns, parameters
from linepress_hardware.fabric.switches import Switch, switch

KINDS = ("mesh", "ring", "torus", "switch", "leaf-spine")
SWITCHED = ("switch", "leaf-spine")
_NEEDED = ("name", "title", "kind", "accelerators", "link", "racks", "medium", "source", "status")
_ALLOWED = (
    "aliases",
    "planes",
    "dims",
    "switch",
    "switches",
    "oversubscription",
    "links_per_pair",
    "note",
    "machine",
)


@dataclass(frozen=True)
class Topology:
    """How many accelerators are wired in which way.

    Attributes
    ----------
    planes : int
        Parallel switch planes; an accelerator has one link to each.
    dims : tuple of int
        Of a torus.
    oversubscription : float
        Leaf down-links over up-links.
    links_per_pair : int
        Parallel links between neighbours of a mesh, ring or torus.
    switches : int | None
        Switches that the product has; None counts those that are needed.
    machine : str
        System of measured collectives (``data/collectives``) that is wired like this; "" where none is.
    """

    name: str
    title: str
    kind: str
    accelerators: int
    link: Link
    switch: Switch | None = None
    planes: int = 1
    dims: tuple[int, ...] = ()
    oversubscription: float = 1.0
    links_per_pair: int = 1
    switches: int | None = None
    racks: int = 1
    medium: str = "copper"
    source: str = ""
    status: str = "unverified"
    aliases: tuple[str, ...] = ()
    note: str = ""
    machine: str = ""

    def __post_init__(self) -> None:
        n = self.accelerators
        if n < 2:
            raise ConfigurationError(f"{self.name} has {n} accelerators; give at least 2")
        if self.kind not in KINDS:
            raise ConfigurationError(f"{self.name} is a {self.kind!r}; use one of {', '.join(KINDS)}")
        if self.medium not in parameters()["media"]:
            raise ConfigurationError(
                f"{self.name} has the medium {self.medium!r}; use one of {', '.join(parameters()['media'])}"
            )
        if self.kind in SWITCHED and self.switch is None:
            raise ConfigurationError(f"{self.name} is a {self.kind} without a switch; name one of data/switches")
        if self.kind == "torus" and prod(self.dims) != n:
            shape = "x".join(map(str, self.dims)) or "none"
            raise ConfigurationError(
                f"{self.name} has dims {shape} for {n} accelerators; give dims whose product is {n}"
            )
        if not self.oversubscription >= 1:
            raise ConfigurationError(f"{self.name} is oversubscribed {self.oversubscription:g} times; give 1 or more")
        if self.kind == "mesh":
            have, need = self.link.links, (n - 1) * self.links_per_pair
            if have is not None and have < need:
                raise ConfigurationError(
                    f"a mesh of {n} needs {need} links an accelerator and {self.link.name} gives {have}; "
                    f"use at most {have // self.links_per_pair + 1} accelerators or topology switch"
                )
        self._check_radix()

    def _check_radix(self) -> None:
        if self.switch is None or self.kind not in SWITCHED:
            return
        n, k = self.accelerators, self.radix
        if self.kind == "switch" and n > k:
            two = self._two_level_limit()
            fix = f"use topology leaf-spine (up to {two})" if n <= two else f"use a switch of {n} ports"
            raise ConfigurationError(
                f"{self.switch.name} has {k} ports of {self.link.rate_Gbps:g} Gb/s and one level of {n} accelerators "
                f"needs {n} ({n * self.link.rate_Gbps / 1e3:g} Tb/s); {fix}"
            )
        if self.kind == "leaf-spine" and n > self._two_level_limit():
            raise ConfigurationError(
                f"two levels of {self.switch.name} with {k} ports hold {self._two_level_limit()} accelerators, "
                f"not {n}; use a switch with more ports or a higher oversubscription"
            )

    def _two_level_limit(self) -> int:
        return self.per_leaf * self.radix

    @property
    def radix(self) -> int:
        """Ports of a switch at the link's rate; 0 without switches."""
        return 0 if self.switch is None else self.switch.radix(self.link.rate_Gbps)

    @property
    def per_leaf(self) -> int:
        """Accelerators a leaf: its down-links, at 1:1 half its ports."""
        up = ceil(self.radix / (1 + self.oversubscription))
        return max(self.radix - up, 1)

    @property
    def up_links(self) -> int:
        """Up-links a leaf."""
        return max(1, ceil(self.per_leaf / self.oversubscription))

    @property
    def leaves(self) -> int:
        """Leaves a plane."""
        return ceil(self.accelerators / self.per_leaf)

    @property
    def spines(self) -> int:
        """Spine switches a plane."""
        return ceil(self.leaves * self.up_links / max(self.radix, 1))

    @property
    def levels(self) -> int:
        """Switch levels."""
        return {"switch": 1, "leaf-spine": 2}.get(self.kind, 0)

    @property
    def most_switches(self) -> int:
        """Switches on the longest path one way: 1 with one level, 3 with two."""
        return max(0, 2 * self.levels - 1)

    @property
    def links_per_accelerator(self) -> int:
        """Ports of an accelerator in use."""
        n = self.accelerators
        if self.kind in SWITCHED:
            return self.planes
        if self.kind == "mesh":
            return (n - 1) * self.links_per_pair
        return 2 * len(self.shape) * self.links_per_pair

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions of a ring or torus."""
        return self.dims if self.kind == "torus" else (self.accelerators,)

    @property
    def bandwidth_GBps(self) -> float:
        """One accelerator, one way, all its links."""
        return self.links_per_accelerator * self.link.rate_GBps

    @property
    def switch_links(self) -> int:
        """Links between switches."""
        return self.planes * self.leaves * self.up_links if self.kind == "leaf-spine" else 0

    @property
    def links(self) -> int:
        """All links, accelerator to accelerator, to switch, and between switches."""
        n = self.accelerators
        if self.kind in SWITCHED:
            return n * self.planes + self.switch_links
        if self.kind == "mesh":
            return n * (n - 1) // 2 * self.links_per_pair
        return n * len(self.shape) * self.links_per_pair

    @property
    def switch_count(self) -> int:
        """Switches: as stated, else as many as the planes need (planes share a switch that has the ports)."""
        if self.switches is not None:
            return self.switches
        if self.kind == "switch":
            return ceil(self.planes / max(1, self.radix // self.accelerators))
        return self.planes * (self.leaves + self.spines) if self.kind == "leaf-spine" else 0

    @property
    def bisection_GBps(self) -> float:
        """Least bandwidth one way between two halves of the accelerators."""
        n, rate = self.accelerators, self.link.rate_GBps * self.links_per_pair
        if self.kind == "switch":
            return n / 2 * self.bandwidth_GBps
        if self.kind == "leaf-spine":
            return n / 2 * self.bandwidth_GBps / self.oversubscription
        if self.kind == "mesh":
            return (n // 2) * (n - n // 2) * rate
        widest = max(self.shape)
        return 2 * n / widest * rate

    def with_accelerators(self, n: int) -> Topology:
        """The same wiring for `n` accelerators; a torus becomes as near to equal dimensions as `n` allows."""
        if n == self.accelerators:
            return self
        dims = near_cube(n, len(self.dims)) if self.kind == "torus" else ()
        return replace(self, accelerators=n, dims=dims, switches=None)

    def network(self, overhead_ns: float = 0.0) -> nets.Network:
        """The channels that the packet simulation runs over."""
        latency, floor, rate = self.link.latency_ns, self.link.floor_ns, self.link.rate_GBps
        forward = 0.0 if self.switch is None else self.switch.latency_ns
        if self.kind == "mesh":
            net = nets.mesh(
                self.accelerators, pair_GBps=rate * self.links_per_pair, latency_ns=latency, floor_ns=floor
            )
        elif self.kind in ("ring", "torus"):
            net = nets.torus(
                self.shape,
                link_GBps=rate * self.links_per_pair,
                latency_ns=latency,
                forward_ns=parameter_ns("endpoint", "endpoint"),
                floor_ns=floor,
            )
        elif self.kind == "switch":
            net = nets.switch(
                self.accelerators,
                planes=self.planes,
                link_GBps=rate,
                latency_ns=latency,
                forward_ns=forward,
                floor_ns=floor,
            )
        else:
            net = nets.leaf_spine(
                self.accelerators,
                per_leaf=self.per_leaf,
                spines=self.up_links,
                planes=self.planes,
                link_GBps=rate,
                latency_ns=latency,
                forward_ns=forward,
                floor_ns=floor,
            )
        return net.with_options(framing=self.link.framing, overhead_ns=overhead_ns)

    def counts(self) -> dict[str, Any]:
        """Links, cables, switches, ports, watts by medium: one flat row.

        A wire pair is one lane one way; watts are those of the links, both ends, at full rate both ways
        (rate × 2 × links × pJ/bit), without the switches' cores.
        """
        bits = 2 * self.links * self.link.rate_Gbps * 1e9
        watts = {name: bits * medium_pJ(name) * 1e-12 for name in parameters()["media"]}
        n = self.accelerators
        return {
            "topology": self.name,
            "kind": self.kind,
            "accelerators": n,
            "racks": self.racks,
            "link": self.link.name,
            "link_Gbps": self.link.rate_Gbps,
            "links_per_accelerator": self.links_per_accelerator,
            "accelerator_GBps": self.bandwidth_GBps,
            "all_accelerators_TBps": n * self.bandwidth_GBps / 1e3,
            "links": self.links,
            "switch_links": self.switch_links,
            "wire_pairs": self.links * self.link.lanes * 2,
            "accelerator_ports": n * self.links_per_accelerator,
            "switch": None if self.switch is None else self.switch.name,
            "switch_radix": self.radix or None,
            "switches": self.switch_count,
            "switch_ports_used": (n * self.planes + 2 * self.switch_links) if self.kind in SWITCHED else 0,
            "levels": self.levels,
            "most_switches_crossed": self.most_switches,
            "pair_GBps": self.pair_GBps,
            "bisection_GBps": self.bisection_GBps,
            "medium": self.medium,
            "link_W": watts[self.medium],
            "link_W_by_medium": watts,
            "source": self.source,
            "status": self.status,
        }

    @property
    def pair_GBps(self) -> float:
        """What one accelerator can send to one other when nobody else sends, over the shortest way."""
        return self.bandwidth_GBps if self.kind in SWITCHED else self.link.rate_GBps * self.links_per_pair


def medium_pJ(name: str) -> float:
    """Energy of a medium, pJ a bit one way, both ends; raises `ConfigurationError` for an unknown one."""
    media = parameters()["media"]
    if name not in media:
        raise ConfigurationError(f"medium {name!r} is unknown; use one of {', '.join(media)}")
    return float(media[name]["energy"]["value"])


def near_cube(n: int, d: int) -> tuple[int, ...]:
    """`n` as a product of `d` factors above 1, as equal as they go.

    Raises
    ------
    ConfigurationError
        `n` has too few factors.
    """
    if d <= 1:
        return (n,)
    for k in sorted((k for k in range(2, n) if n % k == 0), key=lambda k: abs(k - n ** (1 / d))):
        try:
            return tuple(sorted((k, *near_cube(n // k, d - 1)), reverse=True))
        except ConfigurationError:
            continue
    raise ConfigurationError(f"{n} accelerators do not fill a torus of {d} dimensions; use a product of {d} factors")


def parse_topology(text: str, where: str) -> Topology:
    """One data file → `Topology`; every mistake is a `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, _NEEDED, _ALLOWED)
    if raw["status"] not in STATUSES:
        raise ConfigurationError(f"{where} has the status {raw['status']!r}; use one of {', '.join(STATUSES)}")
    over = raw.get("oversubscription", 1.0)
    if isinstance(over, bool) or not isinstance(over, int | float):
        raise ConfigurationError(f"{where} oversubscription is {over!r}; give a number of 1 or more")
    return Topology(
        raw["name"],
        raw["title"],
        raw["kind"],
        whole(raw["accelerators"], f"{where} accelerators", 2),
        link(raw["link"]),
        switch(raw["switch"]) if "switch" in raw else None,
        whole(raw.get("planes", 1), f"{where} planes"),
        tuple(whole(k, f"{where} dims", 2) for k in raw.get("dims", ())),
        float(over),
        whole(raw.get("links_per_pair", 1), f"{where} links_per_pair"),
        whole(raw["switches"], f"{where} switches") if "switches" in raw else None,
        whole(raw["racks"], f"{where} racks"),
        raw["medium"],
        raw["source"],
        raw["status"],
        tuple(raw.get("aliases", ())),
        raw.get("note", ""),
        raw.get("machine", ""),
    )


@cache
def topologies() -> dict[str, Topology]:
    """All packaged topologies by name."""
    return catalog("topologies", parse_topology)


def topology(name: str) -> Topology:
    """A packaged topology by name or alias; raises `UnknownPartError` with the nearest names."""
    return lookup(name, topologies(), "topology")


def custom(
    kind: str,
    accelerators: int,
    *,
    link_name: str = "ualink-800g",
    switch_name: str = "ualink-50t",
    planes: int = 1,
    dims: tuple[int, ...] = (),
    oversubscription: float = 1.0,
    racks: int = 1,
    medium: str = "copper",
) -> Topology:
    """A topology of packaged parts by its kind."""
    if kind not in KINDS:
        raise ConfigurationError(f"topology {kind!r} is unknown; use one of {', '.join(KINDS)} or a packaged name")
    if kind == "torus" and not dims:
        dims = near_cube(accelerators, 2)
    return Topology(
        f"{kind}-{accelerators}",
        f"{accelerators} accelerators, {kind} of {link_name}",
        kind,
        accelerators,
        link(link_name),
        switch(switch_name) if kind in SWITCHED else None,
        planes,
        dims,
        oversubscription,
        racks=racks,
        medium=medium,
        source="asked for on the command line",
        status="unverified",
    )
