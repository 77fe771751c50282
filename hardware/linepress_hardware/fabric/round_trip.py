"""Round trips of remote memory accesses: closed form, what scale allows it, and the tail under load by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.links import Link
from linepress_hardware.fabric.network import Floats, Ints, Network
from linepress_hardware.fabric.parameters import parameter, parameter_ns
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.switches import Switch
from linepress_hardware.fabric.topologies import Topology, custom

OPERATIONS = ("load", "store", "atomic")
WARM_SHARE = 0.1


@dataclass(frozen=True)
class RoundTrip:
    """Terms of RTT = 2 (k t_switch + (k + 1)(t_wire + t_phy + t_serial)) + 2 t_endpoint + t_memory, all ns.

    `request_serial_ns` and `answer_serial_ns` replace t_serial on the last hop of each way: a message longer than a
    flit arrives when its last byte does.
    """

    switches: int
    switch_ns: float
    wire_ns: float
    phy_ns: float
    serial_ns: float
    request_serial_ns: float
    answer_serial_ns: float
    endpoint_ns: float
    memory_ns: float

    @property
    def one_way_ns(self) -> float:
        """Flight of the request without its endpoint."""
        k = self.switches
        return (
            k * self.switch_ns
            + (k + 1) * (self.wire_ns + self.phy_ns)
            + k * self.serial_ns
            + max(self.serial_ns, self.request_serial_ns)
        )

    @property
    def total_ns(self) -> float:
        k = self.switches
        both = 2 * (k * self.switch_ns + (k + 1) * (self.wire_ns + self.phy_ns) + k * self.serial_ns)
        ends = max(self.serial_ns, self.request_serial_ns) + max(self.serial_ns, self.answer_serial_ns)
        return both + ends + 2 * self.endpoint_ns + self.memory_ns

    def as_dict(self) -> dict[str, float]:
        """Terms and total."""
        return {**self.__dict__, "rtt_ns": self.total_ns}


def payloads(operation: str, size_bytes: float) -> tuple[float, float]:
    """Payload bytes of request and answer: a load brings data back, a store takes it there, an atomic does both.

    The other side is an address or an acknowledgement (``fabric.toml``); headers come with the link's framing.
    """
    if operation not in OPERATIONS:
        raise ConfigurationError(f"operation {operation!r} is unknown; use one of {', '.join(OPERATIONS)}")
    if not 0 < size_bytes < float("inf"):
        raise ConfigurationError(f"an access of {size_bytes!r} B moves nothing; give a size above 0, for instance 64")
    small = parameter("memory_semantics", "request").base
    return {
        "load": (small, size_bytes),
        "store": (size_bytes, small),
        "atomic": (size_bytes, size_bytes),
    }[operation]


def round_trip(
    link: Link,
    switch: Switch | None = None,
    levels: int = 1,
    *,
    operation: str = "load",
    size_bytes: float = 64,
    endpoint_ns: float | None = None,
    memory_ns: float | None = None,
    added_ns: float = 0.0,
) -> RoundTrip:
    """Round trip alone in the fabric.

    Parameters
    ----------
    levels : int
        Switch levels: 0 a direct link, 1 one switch (k = 1), 2 leaf–spine (k = 3).
    endpoint_ns, memory_ns : float | None
        None takes ``fabric.toml``.
    added_ns : float
        Further time at the memory, for instance a decompressor's.
    """
    if levels < 0 or (levels and switch is None):
        raise ConfigurationError(f"{levels} switch levels without a switch; give 0 levels or name a switch")
    request, answer = (float(link.framing.wire_bytes(b)) / link.rate_GBps for b in payloads(operation, size_bytes))
    return RoundTrip(
        max(0, 2 * levels - 1),
        switch.latency_ns if switch is not None and levels else 0.0,
        link.wire_ns,
        link.phy_ns,
        link.floor_ns,
        request,
        answer,
        parameter_ns("endpoint", "endpoint") if endpoint_ns is None else endpoint_ns,
        (parameter_ns("endpoint", "memory") if memory_ns is None else memory_ns) + added_ns,
    )


def levels_needed(accelerators: int, radix: int) -> int:
    """Fewest switch levels of `radix` ports at 1:1 that connect `accelerators`: (k / 2)^(L − 1) × k endpoints.

    Raises
    ------
    ConfigurationError
        Fewer than two accelerators, or a switch of fewer than four ports where one level does not do.
    """
    if accelerators < 2:
        raise ConfigurationError(f"{accelerators} accelerators need no switch; give at least 2")
    levels, reach = 1, radix
    while reach < accelerators:
        if radix < 4:
            raise ConfigurationError(
                f"switches of {radix} ports do not connect {accelerators} accelerators; use 4 ports or more"
            )
        levels, reach = levels + 1, reach * radix // 2
    return levels


def scale_against_round_trip(
    accelerators: int, link: Link, switch: Switch, *, limit_ns: float = 1000.0, size_bytes: float = 64
) -> dict[str, Any]:
    """Whether `accelerators` and a round trip below `limit_ns` hold together: levels needed, round trip with them and
    with one level, and the switch that one level would take."""
    radix = switch.radix(link.rate_Gbps)
    levels = levels_needed(accelerators, radix)
    rtt = round_trip(link, switch, levels, size_bytes=size_bytes).total_ns
    one = round_trip(link, switch, 1, size_bytes=size_bytes).total_ns
    return {
        "accelerators": accelerators,
        "link": link.name,
        "switch": switch.name,
        "radix": radix,
        "levels_needed": levels,
        "switches_crossed": 2 * levels - 1,
        "rtt_ns": rtt,
        "rtt_one_level_ns": one,
        "limit_ns": limit_ns,
        "below_limit": rtt < limit_ns,
        "below_limit_with_one_level": one < limit_ns,
        "radix_for_one_level": accelerators,
        "switch_Tbps_for_one_level": accelerators * link.rate_Gbps / 1e3,
        "most_accelerators_below_limit": radix if one < limit_ns else 0,
    }


def loaded_round_trips(
    topology: Topology,
    load: float,
    *,
    operation: str = "load",
    size_bytes: float = 64,
    requests: int = 100_000,
    seed: int = 1,
    endpoint_ns: float | None = None,
    memory_ns: float | None = None,
    added_ns: float = 0.0,
    hot_share: float = 0.0,
) -> dict[str, Any]:
    """Round trips of accesses to random peers, Poisson arrivals, measured packet by packet.

    Parameters
    ----------
    load : float
        Wire bytes of requests and answers over what an accelerator's links carry one way, above 0: everyone asks and
        answers, so both go each way.
    hot_share : float
        Share of accesses that go to accelerator 0 (incast).

    Returns
    -------
    dict
        ``closed_form_ns`` and ``closed_form_mean_ns`` (median and mean of what the same accesses take unloaded, each
        over its own distance), ``closed_form_nearest_ns`` (unloaded, to the nearest peer),
        ``min/mean/p50/p99/p999/max_ns``, ``delivered_GBps`` of payload an accelerator between the 20th and 80th
        percentile of the answers, ``link_utilisation`` of the busiest channel over the whole run, packets, deepest
        queue. The first tenth of the requests warms up. At high load the tail still grows with the length of the run.
    """
    if not 0 < load < float("inf"):
        raise ConfigurationError(f"load {load!r} sends nothing; give a share of the link above 0, for instance 0.5")
    if not 0 <= hot_share <= 1:
        raise ConfigurationError(f"share of hot accesses is {hot_share!r}; give 0 to 1")
    if requests < 100:
        raise ConfigurationError(f"{requests} requests give no tail; use 100 or more")
    net = topology.network()
    wait = parameter_ns("endpoint", "endpoint") if endpoint_ns is None else endpoint_ns
    memory = (parameter_ns("endpoint", "memory") if memory_ns is None else memory_ns) + added_ns
    there, back = payloads(operation, size_bytes)
    each_way = float(net.framing.wire_bytes(there) + net.framing.wire_bytes(back))
    gap_ns = each_way / (topology.bandwidth_GBps * load) / net.n
    random = np.random.Generator(np.random.PCG64(seed))
    at = np.cumsum(random.exponential(gap_ns, requests))
    src = random.integers(0, net.n, requests)
    dst = (src + random.integers(1, net.n, requests)) % net.n
    hot = (random.random(requests) < hot_share) & (src != 0)
    dst[hot] = 0
    program = _accesses(src, dst, at, there, back, wait, memory)
    out = simulate(net, program, packet_bytes=max(there, back, 1.0))
    back_ns = out.done_ns[requests:] + wait
    trip = back_ns - at
    warm = int(requests * WARM_SHARE)
    counted = trip[warm:]
    alone = _alone_by_distance(net, src[warm:], dst[warm:], operation, size_bytes, wait, memory)
    early, late = np.percentile(back_ns, [20, 80])
    quantiles = np.percentile(counted, [50, 99, 99.9])
    return {
        "topology": topology.name,
        "operation": operation,
        "size_bytes": size_bytes,
        "load": load,
        "accelerators": net.n,
        "requests": requests,
        "seed": seed,
        "hot_share": hot_share,
        "closed_form_ns": float(np.median(alone)),
        "closed_form_mean_ns": float(alone.mean()),
        "closed_form_nearest_ns": alone_ns(net, operation, size_bytes, wait, memory),
        "min_ns": float(counted.min()),
        "mean_ns": float(counted.mean()),
        "p50_ns": float(quantiles[0]),
        "p99_ns": float(quantiles[1]),
        "p999_ns": float(quantiles[2]),
        "max_ns": float(counted.max()),
        "delivered_GBps": 0.6 * requests * size_bytes / float(late - early) / net.n,
        "link_utilisation": float(out.busy_ns.max() / out.finish_ns),
        "packets": out.packets,
        "packet_hops": out.packet_hops,
        "deepest_queue_packets": int(out.deepest.max()),
        "credit_stalls": out.credit_stalls,
    }


def alone_ns(net: Network, operation: str, size_bytes: float, endpoint_ns: float, memory_ns: float) -> float:
    """Unloaded round trip to the nearest peer: one switch, or one link of a mesh or torus."""
    there, back = payloads(operation, size_bytes)
    return net.message_ns(there) + net.message_ns(back) + 2 * endpoint_ns + memory_ns


def _alone_by_distance(
    net: Network, src: Ints, dst: Ints, operation: str, size_bytes: float, endpoint_ns: float, memory_ns: float
) -> Floats:
    """Unloaded round trips, float64[m]: peers of another leaf, or across a torus, are more channels away."""
    there, back = payloads(operation, size_bytes)
    hops = (net.route(src, dst, np.zeros_like(src)) >= 0).sum(axis=1)
    by_hops = np.zeros(int(hops.max()) + 1)
    for h in np.unique(hops):
        by_hops[h] = net.message_ns(there, int(h)) + net.message_ns(back, int(h)) + 2 * endpoint_ns + memory_ns
    return np.asarray(by_hops[hops], np.float64)


def _accesses(
    src: Ints, dst: Ints, at_ns: Floats, there: float, back: float, endpoint_ns: float, memory_ns: float
) -> Program:
    """Requests that leave an endpoint's time after `at_ns`, and answers that leave when memory has served them.

    The endpoint's time of the answer's arrival is added by the caller."""
    n = src.size
    release = np.concatenate([at_ns + endpoint_ns, np.full(n, memory_ns)])
    return Program(
        np.concatenate([src, dst]),
        np.concatenate([dst, src]),
        np.concatenate([np.full(n, there), np.full(n, back)]),
        np.arange(n),
        np.arange(n, 2 * n),
        release,
    )


def incast(
    topology: Topology, senders: int, size_bytes: float, *, victim: bool = True, buffer_bytes: float | None = None
) -> dict[str, Any]:
    """`senders` accelerators send `size_bytes` to accelerator 0 at once; a bystander flow shows how far congestion
    spreads.

    With `victim`, sender 1 also sends one packet to the last accelerator right behind its share: its delay is what
    the full buffers of the hot port do to traffic that does not go there.
    """
    n = topology.accelerators
    if not 1 <= senders < n:
        raise ConfigurationError(f"{senders} senders to one of {n} accelerators; give 1 to {n - 1}")
    net = topology.network().with_options(buffer_bytes=buffer_bytes)
    src = np.arange(1, senders + 1)
    dst = np.zeros(senders, np.int64)
    size = np.full(senders, float(size_bytes))
    small = min(size_bytes, net.framing.payload_max_bytes)
    watched = victim and n > 2
    if watched:
        src, dst, size = np.append(src, 1), np.append(dst, n - 1), np.append(size, small)
    out = simulate(net, Program(src, dst, size))
    wire_GBps = topology.bandwidth_GBps * float(size_bytes / net.framing.wire_bytes(size_bytes))
    first, last = net.message_ns(size_bytes), float(out.done_ns[:senders].max())
    return {
        "topology": topology.name,
        "senders": senders,
        "size_bytes": size_bytes,
        "alone_ns": first,
        "closed_form_ns": first + (senders - 1) * size_bytes / wire_GBps,
        "last_ns": last,
        "first_ns": float(out.done_ns[:senders].min()),
        "victim_ns": float(out.latency_ns[-1]) if watched else None,
        "victim_alone_ns": net.message_ns(small) if watched else None,
        "deepest_queue_packets": int(out.deepest.max()),
        "credit_stalls": out.credit_stalls,
        "packets": out.packets,
    }


def default_topology(link_name: str, switch_name: str, levels: int, accelerators: int | None) -> Topology:
    """A topology of the wanted levels: direct mesh, one switch, or leaf–spine."""
    if levels not in (0, 1, 2):
        raise ConfigurationError(f"{levels} switch levels cannot be simulated; use 0, 1 or 2")
    kind = ("mesh", "switch", "leaf-spine")[levels]
    n = accelerators or (8, 64, 128)[levels]
    return custom(kind, n, link_name=link_name, switch_name=switch_name)


__all__ = [
    "OPERATIONS",
    "RoundTrip",
    "alone_ns",
    "default_topology",
    "incast",
    "levels_needed",
    "loaded_round_trips",
    "payloads",
    "round_trip",
    "scale_against_round_trip",
]
