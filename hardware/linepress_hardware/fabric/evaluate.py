"""One collective on one fabric: closed form beside the packet simulation, plain and with compressed messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric.collectives import (
    ALL_REDUCE,
    NEEDS_SWITCH,
    PIPELINED,
    CollectiveTime,
    all_reduce,
    all_reduce_bound,
    bucket_all_reduce,
    bus_bandwidth_factor,
    exchange,
)
from linepress_hardware.fabric.network import Network
from linepress_hardware.fabric.parameters import parameter_ns
from linepress_hardware.fabric.schedules import (
    MOST_MESSAGES,
    ONE_WAY,
    all_reduce_program,
    count_messages,
    one_way_program,
    rounds,
)
from linepress_hardware.fabric.simulate import DEFAULT_PACKETS, Program, simulate
from linepress_hardware.fabric.topologies import Topology, near_cube

ALGORITHMS = (*ALL_REDUCE, "bucket")
_COUNTED = ("method", "messages", "packets", "packet_bytes", "deepest_queue_packets", "busiest_link_s")
PLAIN_TOPOLOGIES = ("switch", "mesh", "ring", "torus")


@dataclass(frozen=True)
class Fabric:
    """A network with the two numbers of the latency-bandwidth model.

    Attributes
    ----------
    latency_ns : float
        α: one message of no bytes between neighbours (or through the switch), overhead included.
    bandwidth_GBps : float
        1 / β: all links of an accelerator, one way, before headers.
    reduces : bool
        Whether its switches combine packets; None of a mesh's or torus's do.
    """

    name: str
    network: Network
    latency_ns: float
    bandwidth_GBps: float
    reduces: bool = True
    combine_ns: float = 0.0

    @property
    def kind(self) -> str:
        return "ring" if self.network.kind == "torus" and len(self.network.dims) == 1 else self.network.kind

    @property
    def dims(self) -> tuple[int, ...]:
        return self.network.dims


def plain_fabric(
    kind: str,
    n: int,
    *,
    bandwidth_GBps: float,
    latency_ns: float,
    dims: Sequence[int] = (),
    overhead_ns: float = 0.0,
    buffer_bytes: float | None = None,
) -> Fabric:
    """A fabric of the latency-bandwidth model: α a message, β a byte, no headers.

    Parameters
    ----------
    bandwidth_GBps : float
        An accelerator, one way; a mesh shares it over N − 1 links, a ring over 2, a torus of d dimensions over 2 d.
    latency_ns : float
        α, whatever the way between neighbours or through the switch.
    """
    if kind not in PLAIN_TOPOLOGIES:
        raise ConfigurationError(f"topology {kind!r} is unknown; use one of {', '.join(PLAIN_TOPOLOGIES)}")
    if n < 2:
        raise ConfigurationError(f"{n} accelerators make no fabric; give at least 2")
    if not 0 < bandwidth_GBps < float("inf"):
        raise ConfigurationError(f"bandwidth is {bandwidth_GBps!r} GB/s; give a rate above 0")
    if not 0 <= latency_ns < float("inf"):
        raise ConfigurationError(f"latency is {latency_ns!r} ns; give 0 or more")
    if kind == "switch":
        net = nets.switch(n, link_GBps=bandwidth_GBps, latency_ns=latency_ns / 2)
    elif kind == "mesh":
        net = nets.mesh(n, pair_GBps=bandwidth_GBps / (n - 1), latency_ns=latency_ns)
    else:
        shape = (n,) if kind == "ring" else tuple(dims) or near_cube(n, 2)
        net = nets.torus(shape, link_GBps=bandwidth_GBps / (2 * len(shape)), latency_ns=latency_ns)
        if net.n != n:
            sides = "x".join(map(str, shape))
            raise ConfigurationError(f"a torus of {sides} has {net.n} accelerators, not {n}; make both agree")
    net = net.with_options(overhead_ns=overhead_ns, buffer_bytes=buffer_bytes)
    return Fabric(kind, net, latency_ns + overhead_ns, bandwidth_GBps, kind == "switch")


def fabric_of(topology: Topology, *, overhead_ns: float = 0.0, buffer_bytes: float | None = None) -> Fabric:
    """The fabric of a topology of parts; headers and flits are those of its link.

    `overhead_ns` is what an endpoint spends on each message before it leaves (software, codec).
    """
    net = topology.network(overhead_ns).with_options(buffer_bytes=buffer_bytes)
    hops = net.hops
    forward = (hops - 1) * (float(net.forward_ns[0]) + float(net.floor_ns[0]))
    return Fabric(
        topology.name,
        net,
        overhead_ns + hops * float(net.latency_ns[0]) + forward,
        topology.bandwidth_GBps,
        topology.kind == "switch" and topology.switch is not None and topology.switch.reduces,
        parameter_ns("endpoint", "combine"),
    )


def collective(
    fabric: Fabric,
    size_bytes: float,
    *,
    operation: str = "all_reduce",
    algorithm: str = "ring",
    ratio: float = 1.0,
    codec_ns: float = 0.0,
    run: bool = True,
    max_packets: int = DEFAULT_PACKETS,
) -> dict[str, Any]:
    """One row: plain and compressed time of a collective.

    Parameters
    ----------
    size_bytes : float
        Payload of an accelerator.
    ratio : float
        Raw over wire bytes of the messages; each is coded before and decoded after every hop between accelerators.
    codec_ns : float
        Encode and decode latency, added to each compressed message.
    run : bool
        Simulate as well, unless the messages alone are more than four times `max_packets`.

    Returns
    -------
    dict
        ``time_s``, ``plain_time_s`` (simulated, else closed form), ``closed_form_s``, ``plain_closed_form_s`` (None
        where the fabric has none), ``bound_s`` (never beaten), ``bus_bandwidth_GBps``, ``speedup``, ``method`` and
        what the plain simulation counted.

    Raises
    ------
    ConfigurationError
        An operation, algorithm, N, size, ratio or fabric that does not go together.
    """
    check(fabric, operation, algorithm, size_bytes, ratio)
    plain = _one(fabric, operation, algorithm, size_bytes, run, max_packets)
    if ratio == 1.0 and codec_ns == 0.0:
        packed = plain
    else:
        net = fabric.network.with_options(overhead_ns=fabric.network.overhead_ns + codec_ns)
        coded = Fabric(
            fabric.name, net, fabric.latency_ns + codec_ns, fabric.bandwidth_GBps, fabric.reduces, fabric.combine_ns
        )
        packed = _one(coded, operation, algorithm, size_bytes / ratio, run, max_packets)
    factor = bus_bandwidth_factor(operation, fabric.network.n)
    return {
        "topology": fabric.name,
        "operation": operation,
        "algorithm": algorithm if operation == "all_reduce" else "direct",
        "devices": fabric.network.n,
        "size_bytes": size_bytes,
        "ratio": ratio,
        "time_s": packed["time_s"],
        "plain_time_s": plain["time_s"],
        "closed_form_s": packed["closed_form_s"],
        "plain_closed_form_s": plain["closed_form_s"],
        "bound_s": packed["bound_s"],
        "plain_bound_s": plain["bound_s"],
        "bus_bandwidth_GBps": factor * size_bytes / packed["time_s"] / 1e9,
        "plain_bus_bandwidth_GBps": factor * size_bytes / plain["time_s"] / 1e9,
        "speedup": plain["time_s"] / packed["time_s"],
        **{key: plain[key] for key in _COUNTED},
    }


def check(fabric: Fabric, operation: str, algorithm: str, size_bytes: float, ratio: float = 1.0) -> None:
    """Raise `ConfigurationError` where a collective does not fit its fabric."""
    n = fabric.network.n
    if not 0 < size_bytes < float("inf"):
        raise ConfigurationError(f"size is {size_bytes!r} bytes; give a size above 0")
    if not 0 < ratio < float("inf"):
        raise ConfigurationError(f"the ratio of messages is {ratio!r}; give a finite number above 0")
    if operation == "broadcast" and fabric.kind != "switch":
        raise ConfigurationError(
            f"broadcast is done by a switch here, and a {fabric.kind} has none; use topology switch"
        )
    if operation != "all_reduce":
        one_way_program(operation, 2, 1.0)
        return
    if algorithm not in ALGORITHMS:
        raise ConfigurationError(f"all-reduce algorithm {algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    if algorithm in NEEDS_SWITCH and not (fabric.kind == "switch" and fabric.reduces):
        raise ConfigurationError(
            f"{algorithm} needs switches that reduce, and {fabric.name} has none; use another one"
        )
    if algorithm == "bucket" and fabric.kind not in ("ring", "torus"):
        raise ConfigurationError(
            f"bucket runs along the rings of a torus, not on a {fabric.kind}; use direct or ring"
        )
    if fabric.kind == "torus" and algorithm != "bucket":
        raise ConfigurationError(f"{algorithm} does not fit a torus; use algorithm bucket")
    if algorithm != "bucket":  # the closed form knows which N and partners each algorithm takes
        where = "switch" if fabric.kind == "leaf-spine" else fabric.kind
        all_reduce(algorithm, n, size_bytes, latency_s=0.0, bandwidth_Bps=1.0, topology=where)


def closed_form_s(fabric: Fabric, operation: str, algorithm: str, size_bytes: float) -> float | None:
    """Closed form of a collective, headers included; None where routes share links in ways that no formula here knows
    (leaf–spine, and one-way collectives on a ring or torus)."""
    net, n = fabric.network, fabric.network.n
    if fabric.kind == "leaf-spine" or (operation in ONE_WAY and fabric.kind in ("ring", "torus")):
        return None
    if operation == "all_reduce":
        if algorithm in PIPELINED:
            return _affine(fabric, algorithm, size_bytes).time_s
        parts = rounds(algorithm, n, size_bytes, fabric.dims)
        combine = fabric.combine_ns if algorithm == "in-network" else 0.0
        return (sum(r.times * net.message_ns(r.size_bytes, peers=r.peers) for r in parts) + combine) * 1e-9
    if operation in ONE_WAY:
        return net.message_ns(size_bytes / n, peers=n - 1) * 1e-9
    return (net.message_ns(size_bytes) + (fabric.combine_ns if operation == "broadcast" else 0.0)) * 1e-9


def bound_s(fabric: Fabric, operation: str, algorithm: str, size_bytes: float) -> float:
    """Seconds that nothing beats on this fabric: the closed form where it is exact, else latency and port limits."""
    net, n = fabric.network, fabric.network.n
    if operation == "all_reduce" and algorithm in PIPELINED:
        return all_reduce_bound(
            algorithm,
            n,
            size_bytes,
            latency_s=fabric.latency_ns * 1e-9,
            bandwidth_Bps=_payload_Bps(fabric, size_bytes),
            topology="switch" if fabric.kind == "leaf-spine" else fabric.kind,
        )
    exact = closed_form_s(fabric, operation, algorithm, size_bytes)
    if exact is not None:
        shorter = floor(log2(n)) / ceil(log2(n)) if operation == "all_reduce" and algorithm == "tree" else 1.0
        return exact * shorter
    if operation == "all_reduce":  # a leaf–spine fabric is at best one non-blocking switch
        parts = rounds(algorithm, n, size_bytes, fabric.dims)
        shorter = floor(log2(n)) / ceil(log2(n)) if algorithm == "tree" else 1.0
        return shorter * sum(r.times * net.message_ns(r.size_bytes, peers=r.peers) for r in parts) * 1e-9
    share = exchange(operation, n, size_bytes, latency_s=0.0, bandwidth_Bps=_payload_Bps(fabric, size_bytes))
    return fabric.latency_ns * 1e-9 + share.time_s


def _payload_Bps(fabric: Fabric, size_bytes: float) -> float:
    """Payload rate at the link's best packet: headers can only cost more than this."""
    framing = fabric.network.framing
    best = min(size_bytes, framing.payload_max_bytes)
    return fabric.bandwidth_GBps * 1e9 * framing.efficiency(best)


def _affine(fabric: Fabric, algorithm: str, size_bytes: float) -> CollectiveTime:
    if algorithm == "bucket":
        return bucket_all_reduce(
            fabric.dims,
            size_bytes,
            latency_s=fabric.latency_ns * 1e-9,
            bandwidth_Bps=_payload_Bps(fabric, size_bytes),
        )
    time = all_reduce(
        algorithm,
        fabric.network.n,
        size_bytes,
        latency_s=fabric.latency_ns * 1e-9,
        bandwidth_Bps=_payload_Bps(fabric, size_bytes),
        topology=fabric.kind,
    )
    combine = 2 * fabric.combine_ns * 1e-9 if algorithm == "in-network-nvls" else 0.0
    return CollectiveTime(time.latency_s + combine, time.transfer_s)


def _one(
    fabric: Fabric, operation: str, algorithm: str, size_bytes: float, run: bool, max_packets: int
) -> dict[str, Any]:
    formula = closed_form_s(fabric, operation, algorithm, size_bytes)
    bound = bound_s(fabric, operation, algorithm, size_bytes)
    row: dict[str, Any] = {
        "closed_form_s": formula,
        "bound_s": bound,
        "method": "closed form",
        "messages": None,
        "packets": None,
        "packet_bytes": None,
        "deepest_queue_packets": None,
        "busiest_link_s": None,
    }
    n = fabric.network.n
    messages = count_messages(algorithm, n) if operation == "all_reduce" else n * (n - 1)
    combined = operation == "all_reduce" and algorithm in NEEDS_SWITCH  # these spread messages over planes themselves
    parts = messages if combined else messages * int(fabric.network.parts(size_bytes / n))
    if not run or parts > min(MOST_MESSAGES, 4 * max_packets):
        row["time_s"] = bound if formula is None else formula
        row["method"] = "bound" if formula is None else "closed form"
        return row
    out = simulate(
        fabric.network,
        _program(fabric, operation, algorithm, size_bytes),
        max_packets=max_packets,
        combine_ns=fabric.combine_ns,
    )
    return row | {
        "time_s": out.finish_ns * 1e-9,
        "method": "simulation",
        "messages": int(out.done_ns.size),
        "packets": out.packets,
        "packet_bytes": out.packet_bytes,
        "deepest_queue_packets": int(out.deepest.max()),
        "busiest_link_s": float(out.busy_ns.max()) * 1e-9,
    }


def _program(fabric: Fabric, operation: str, algorithm: str, size_bytes: float) -> Program:
    net = fabric.network
    planes = int(net.parts(size_bytes))
    shares = net.shares(np.full(planes, size_bytes), np.arange(planes))[0].tolist()
    if operation != "all_reduce":
        return one_way_program(operation, net.n, size_bytes, shares=shares)
    flight = fabric.latency_ns * fabric.bandwidth_GBps
    return all_reduce_program(algorithm, net.n, size_bytes, fabric.dims, flight, planes, shares)
