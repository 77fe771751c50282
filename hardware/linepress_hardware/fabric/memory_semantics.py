"""Loads and stores into a peer's memory against RDMA-style messages, and the rack as one memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.framing import Framing
from linepress_hardware.fabric.network import Network
from linepress_hardware.fabric.parameters import parameter, parameter_ns
from linepress_hardware.fabric.round_trip import alone_ns, payloads
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.topologies import Topology

DECOMPRESS_AT = ("owner", "reader")


def message_framing() -> Framing:
    """Framing of RDMA-style messages (``fabric.toml``, section messages)."""
    return Framing(
        parameter("messages", "payload_max").base,
        parameter("messages", "header").base,
        parameter("messages", "gap").base,
    )


def loads_ns(topology: Topology, size_bytes: float, *, outstanding: int | None = None) -> float:
    """Time to bring `size_bytes` from one peer by loads of the link's largest request.

    The first answer takes a round trip; the rest follow at the link's rate where `outstanding` requests last a round
    trip, else `outstanding` of them a round trip.
    """
    window = int(parameter("memory_semantics", "outstanding").value) if outstanding is None else outstanding
    if window < 1:
        raise ConfigurationError(f"{window} outstanding requests move nothing; give 1 or more")
    if not 0 < size_bytes < float("inf"):
        raise ConfigurationError(f"a transfer of {size_bytes!r} B moves nothing; give a size above 0")
    net = topology.network()
    largest = min(size_bytes, net.framing.payload_max_bytes)
    requests = ceil(size_bytes / largest)
    trip = _trip_ns(net, largest)
    wire_ns = float(net.framing.wire_bytes(largest)) / topology.pair_GBps
    if window * wire_ns >= trip:
        return trip + (requests - 1) * wire_ns
    turns, rest = divmod(requests - 1, window)
    return (turns + 1) * trip + rest * wire_ns


def simulated_loads_ns(topology: Topology, size_bytes: float, *, outstanding: int | None = None) -> float:
    """`loads_ns` measured packet by packet: request i leaves when answer i − outstanding is through the endpoint."""
    window = int(parameter("memory_semantics", "outstanding").value) if outstanding is None else outstanding
    net = topology.network()
    largest = min(size_bytes, net.framing.payload_max_bytes)
    n = ceil(size_bytes / largest)
    endpoint, memory = parameter_ns("endpoint", "endpoint"), parameter_ns("endpoint", "memory")
    there, back = payloads("load", largest)
    ranks = np.arange(n)
    later = ranks[window:]
    turn = np.concatenate([ranks, ranks])
    program = Program(
        np.repeat([0, 1], n),
        np.repeat([1, 0], n),
        np.repeat([there, back], n),
        np.concatenate([ranks, n + later - window]),
        np.concatenate([n + ranks, later]),
        np.concatenate([np.where(ranks < window, 1, 2) * endpoint, np.full(n, memory)]),
        turn=turn,
    )
    return simulate(net, program, packet_bytes=max(there, back)).finish_ns + endpoint


def message_ns(topology: Topology, size_bytes: float, *, overhead_ns: float | None = None) -> float:
    """Time to move `size_bytes` by one RDMA-style message over the same links: software overhead (which holds the
    flight), then the bytes with that protocol's headers."""
    extra = parameter_ns("messages", "overhead") if overhead_ns is None else overhead_ns
    if not 0 < size_bytes < float("inf"):
        raise ConfigurationError(f"a message of {size_bytes!r} B moves nothing; give a size above 0")
    if extra < 0:
        raise ConfigurationError(f"software overhead is {extra!r} ns; give 0 or more")
    return extra + float(message_framing().wire_bytes(size_bytes)) / topology.pair_GBps


def crossover_bytes(
    topology: Topology, *, overhead_ns: float | None = None, outstanding: int | None = None, most: int = 1 << 34
) -> int | None:
    """Smallest whole number of 64 B lines, in bytes, from which a message is faster than loads; None when never up to
    `most`."""

    def loses(lines: int) -> bool:
        size = 64 * lines
        return message_ns(topology, size, overhead_ns=overhead_ns) < loads_ns(topology, size, outstanding=outstanding)

    low, high = 0, 1
    while not loses(high):
        low, high = high, 2 * high
        if 64 * high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loses(middle) else (middle, high)
    return 64 * high


def _trip_ns(net: Network, size_bytes: float) -> float:
    return alone_ns(net, "load", size_bytes, parameter_ns("endpoint", "endpoint"), parameter_ns("endpoint", "memory"))


@dataclass(frozen=True)
class Pool:
    """Memory of all accelerators of a fabric as one.

    Attributes
    ----------
    local_GBps : float
        Bandwidth of an accelerator's own memory.
    local_ns : float
        Latency of a local read.
    ratio : float
        Raw over stored bytes of what is read.
    link_ratio : float
        Raw over sent bytes when lines cross the links compressed (packed in requests, so at most the packed ratio).
    decode_ns : float
        Latency of a decompressor.
    decompress_at : str
        ``owner``: at the memory that holds the line, links carry raw bytes; ``reader``: links carry coded bytes.
    """

    local_GBps: float
    local_ns: float
    ratio: float = 1.0
    link_ratio: float = 1.0
    decode_ns: float = 0.0
    decompress_at: str = "owner"


def pooled_memory(topology: Topology, pool: Pool, remote_share: float | None = None) -> dict[str, Any]:
    """Reads spread over the memories of a rack: bandwidth and latency an accelerator sees.

    Parameters
    ----------
    remote_share : float | None
        Share of reads that go to peers; None: pages lie evenly over all, (N − 1) / N.

    Returns
    -------
    dict
        ``effective_GBps`` of raw bytes, what bounds it (``memory`` or ``links``), the same without compression,
        ``gain``, mean latency, and ``balanced_remote_share``, from which on the links are the bound.
    """
    n = topology.accelerators
    share = (n - 1) / n if remote_share is None else remote_share
    if not 0 <= share <= 1:
        raise ConfigurationError(f"remote share is {share!r}; give 0 to 1")
    if pool.decompress_at not in DECOMPRESS_AT:
        raise ConfigurationError(f"decompressed at {pool.decompress_at!r}; use one of {', '.join(DECOMPRESS_AT)}")
    for name, value in (
        ("ratio", pool.ratio),
        ("link ratio", pool.link_ratio),
        ("local bandwidth", pool.local_GBps),
    ):
        if not 0 < value < float("inf"):
            raise ConfigurationError(f"{name} is {value!r}; give a finite number above 0")
    framing = topology.link.framing
    request = min(256.0, framing.payload_max_bytes)
    payload_GBps = topology.bandwidth_GBps * framing.efficiency(request)
    on_link = pool.link_ratio if pool.decompress_at == "reader" else 1.0
    memory, links = pool.local_GBps * pool.ratio, payload_GBps * on_link
    plain = _bounded(pool.local_GBps, payload_GBps, share)
    packed = _bounded(memory, links, share)
    trip = _trip_ns(topology.network(), request)
    return {
        "topology": topology.name,
        "accelerators": n,
        "remote_share": share,
        "decompress_at": pool.decompress_at,
        "ratio": pool.ratio,
        "link_ratio": on_link,
        "link_payload_GBps": payload_GBps,
        "effective_GBps": packed[0],
        "bound_by": packed[1],
        "plain_effective_GBps": plain[0],
        "plain_bound_by": plain[1],
        "gain": packed[0] / plain[0],
        "mean_latency_ns": (1 - share) * pool.local_ns + share * trip + pool.decode_ns,
        "plain_mean_latency_ns": (1 - share) * pool.local_ns + share * trip,
        "remote_latency_ns": trip,
        "balanced_remote_share": min(1.0, links / memory),
    }


def _bounded(memory_GBps: float, link_GBps: float, share: float) -> tuple[float, str]:
    """Every memory serves as much as its accelerator reads (evenly spread); links carry the remote share."""
    if share * memory_GBps > link_GBps:
        return link_GBps / share, "links"
    return memory_GBps, "memory"
