"""Closed forms of collectives in the latency-bandwidth model.

A message of s bytes takes α + s β: α seconds a message whatever its size, β seconds a byte one way out of an
accelerator. S is the payload of each accelerator. Sources: Thakur, Rabenseifner & Gropp, Optimization of
Collective Communication Operations in MPICH (2005) for ring, tree, recursive doubling and halving-doubling;
Sanders, Speck & Träff (2009) for the double binary tree; Klenk et al., An In-Network Architecture for
Accelerating Shared-Memory Multiprocessor Collectives (2020) for reduction in the switch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from linepress_hardware.errors import ConfigurationError

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send")
TOPOLOGIES = ("switch", "mesh", "ring")


@dataclass(frozen=True)
class CollectiveTime:
    """Seconds of one collective, split into what latency and what bandwidth ask for."""

    latency_s: float
    transfer_s: float

    @property
    def time_s(self) -> float:
        return self.latency_s + self.transfer_s


def _ring(n: int, S: float) -> tuple[float, float]:
    return 2 * (n - 1), 2 * (n - 1) * S / n


def _tree(n: int, S: float) -> tuple[float, float]:
    rounds = 2 * math.ceil(math.log2(n))
    return rounds, rounds * S


def _double_tree(n: int, S: float) -> tuple[float, float]:
    # The deepest leaf of either tree is ⌈log2 N⌉ hops from its root. The busiest accelerator sends S / 2 to its
    # parent and to each of two children in one tree, S / 2 to its parent in the other; with two or three accelerators
    # nobody has two children and a parent. `conventions.usual_double_tree` counts 2 S there as well.
    return 2 * math.ceil(math.log2(n)), {2: 1.0, 3: 1.5}.get(n, 2.0) * S


def _recursive_doubling(n: int, S: float) -> tuple[float, float]:
    return math.log2(n), math.log2(n) * S


def _halving_doubling(n: int, S: float) -> tuple[float, float]:
    return 2 * math.log2(n), 2 * (n - 1) / n * S


def _direct(n: int, S: float) -> tuple[float, float]:
    return 2, 2 * (n - 1) / n * S


def _one_shot(n: int, S: float) -> tuple[float, float]:
    return 1, (n - 1) * S


def _in_network(n: int, S: float) -> tuple[float, float]:
    return 1, S


def _in_network_nvls(n: int, S: float) -> tuple[float, float]:
    return 2, (n + 1) / n * S


# name -> (α's, bytes through an accelerator's port one way) of (N, S)
ALL_REDUCE: dict[str, Callable[[int, float], tuple[float, float]]] = {
    "ring": _ring,
    "tree": _tree,
    "double-tree": _double_tree,
    "recursive-doubling": _recursive_doubling,
    "halving-doubling": _halving_doubling,
    "direct": _direct,
    "one-shot": _one_shot,
    "in-network": _in_network,
    "in-network-nvls": _in_network_nvls,
}
POWER_OF_TWO = frozenset({"recursive-doubling", "halving-doubling"})
PIPELINED = frozenset({"double-tree", "in-network-nvls"})
NEEDS_SWITCH = frozenset({"in-network", "in-network-nvls"})


def _links_used(algorithm: str, topology: str, n: int) -> float:
    """Share of an accelerator's bandwidth that the algorithm can use at once.

    A direct mesh splits an accelerator's bandwidth over N − 1 links: algorithms that talk to all peers at once
    use all of it, those that talk to one peer only one link. A double tree keeps both directions of its pairs
    busy, a pair that both trees use with twice its half of the data: two links' worth of the 2 S it moves. On a
    physical ring only the ring algorithm has neighbours for partners; each direction has half the bandwidth.
    """
    if topology == "switch" or n == 2:
        return 1.0
    if topology == "mesh":
        if algorithm in ("direct", "one-shot"):
            return 1.0
        return min(1.0, (2.0 if algorithm == "double-tree" else 1.0) / (n - 1))
    return 0.5


def all_reduce(
    algorithm: str,
    n: int,
    size_bytes: float,
    *,
    latency_s: float,
    bandwidth_Bps: float,
    topology: str = "switch",
) -> CollectiveTime:
    """Time of an all-reduce of `size_bytes` an accelerator over `n` accelerators.

    Parameters
    ----------
    latency_s : float
        α, seconds a message.
    bandwidth_Bps : float
        1 / β, bytes a second one way out of an accelerator, all its links together.
    topology : str
        ``switch`` (non-blocking), ``mesh`` (a link to every peer) or ``ring``.

    Raises
    ------
    ConfigurationError
        Unknown algorithm or topology, N the algorithm cannot take, or a size, latency or rate out of range.
    """
    if algorithm not in ALL_REDUCE:
        raise ConfigurationError(f"all-reduce algorithm {algorithm!r} is unknown; use one of {', '.join(ALL_REDUCE)}")
    if topology not in TOPOLOGIES:
        raise ConfigurationError(f"topology {topology!r} is unknown; use one of {', '.join(TOPOLOGIES)}")
    _check(n, size_bytes, latency_s, bandwidth_Bps)
    if n == 1 or size_bytes == 0:
        return CollectiveTime(0.0, 0.0)
    if algorithm in POWER_OF_TWO and n & (n - 1):
        low = 1 << (n.bit_length() - 1)
        raise ConfigurationError(
            f"{algorithm} needs a power of two of accelerators, not {n}; use {low} or {2 * low}, or ring"
        )
    if algorithm in NEEDS_SWITCH and topology != "switch":
        raise ConfigurationError(f"{algorithm} reduces in the switch, and a {topology} has none; use topology switch")
    if topology == "ring" and algorithm != "ring" and n > 2:
        raise ConfigurationError(
            f"{algorithm} has partners that a physical ring does not connect; use algorithm ring or topology switch"
        )
    messages, moved_bytes = ALL_REDUCE[algorithm](n, float(size_bytes))
    share = _links_used(algorithm, topology, n)
    return CollectiveTime(messages * latency_s, moved_bytes / (bandwidth_Bps * share))


def all_reduce_bound(
    algorithm: str,
    n: int,
    size_bytes: float,
    *,
    latency_s: float,
    bandwidth_Bps: float,
    topology: str = "switch",
) -> float:
    """Seconds that no schedule of the algorithm can beat.

    The closed form itself where rounds follow one another; a binomial tree over N that is no power of two has no path
    of ⌈log2 N⌉ hops, only of ⌊log2 N⌋. A pipelined algorithm overlaps latency with transfer, so
    that the sum of both is no bound, only the larger of two paths: the last slice through all hops (double tree: half
    of the data out of a leaf, then up and down; NVLS: sum, then multicast of an N-th), and all bytes of the busiest
    port after one latency.
    """
    time = all_reduce(algorithm, n, size_bytes, latency_s=latency_s, bandwidth_Bps=bandwidth_Bps, topology=topology)
    if algorithm == "tree" and n > 1:
        return time.time_s * math.floor(math.log2(n)) / math.ceil(math.log2(n))
    if algorithm not in PIPELINED or time.time_s == 0:
        return time.time_s
    tail_bytes = size_bytes / 2 if algorithm == "double-tree" else size_bytes / n
    return max(time.latency_s + tail_bytes / bandwidth_Bps, latency_s + time.transfer_s)


def exchange(
    operation: str,
    n: int,
    size_bytes: float,
    *,
    latency_s: float,
    bandwidth_Bps: float,
    topology: str = "switch",
) -> CollectiveTime:
    """Time of the one-way collectives, every peer at once.

    all_gather, reduce_scatter and all_to_all move (N − 1) / N of `size_bytes` (the full payload of an accelerator) in
    one step, on a non-blocking switch or a mesh; broadcast (copied by the switch) and send move all of it. One peer
    of a mesh is reached over one of N − 1 links, a neighbour on a ring over one of two.

    Raises
    ------
    ConfigurationError
        Unknown operation or topology, numbers out of range, a broadcast without a switch, or a collective on a ring,
        where messages share links and only the simulation tells.
    """
    if operation not in OPERATIONS or operation == "all_reduce":
        raise ConfigurationError(f"operation {operation!r} is unknown; use one of {', '.join(OPERATIONS[1:])}")
    if topology not in TOPOLOGIES:
        raise ConfigurationError(f"topology {topology!r} is unknown; use one of {', '.join(TOPOLOGIES)}")
    _check(n, size_bytes, latency_s, bandwidth_Bps)
    if n == 1 or size_bytes == 0:
        return CollectiveTime(0.0, 0.0)
    if operation == "broadcast" and topology != "switch":
        raise ConfigurationError(f"broadcast is a copy by the switch, and a {topology} has none; use topology switch")
    if operation == "send":
        links = {"mesh": n - 1, "ring": 2}.get(topology, 1)
        return CollectiveTime(latency_s, size_bytes * links / bandwidth_Bps)
    if topology == "ring" and n > 2:
        raise ConfigurationError(f"{operation} on a ring has no closed form here; simulate it or use topology switch")
    share = 1.0 if operation == "broadcast" else (n - 1) / n
    return CollectiveTime(latency_s, share * size_bytes / bandwidth_Bps)


def bucket_all_reduce(
    dims: Sequence[int], size_bytes: float, *, latency_s: float, bandwidth_Bps: float
) -> CollectiveTime:
    """All-reduce on a ring or torus by the bucket algorithm, all links in both directions busy.

    The data goes in 2 d parts, each reduce-scattered along the d dimensions in its own order and gathered back:
    2 Σ (kᵢ − 1) messages, and 2 (N − 1) / N S bytes over all links of an accelerator when the dimensions are equal.
    With unequal ones the slowest part counts (Jain & Sabharwal, 2010).

    Parameters
    ----------
    bandwidth_Bps : float
        All 2 d links of an accelerator together, one way.
    """
    n = math.prod(dims)
    _check(n, size_bytes, latency_s, bandwidth_Bps)
    if n == 1 or size_bytes == 0:
        return CollectiveTime(0.0, 0.0)
    d = len(dims)
    worst = 0.0
    for p in range(d):
        part, moved = size_bytes / (2 * d), 0.0
        for i in range(d):
            k = dims[(p + i) % d]
            part /= k
            moved += 2 * (k - 1) * part
        worst = max(worst, moved)
    return CollectiveTime(2 * sum(k - 1 for k in dims) * latency_s, worst * 2 * d / bandwidth_Bps)


def bus_bandwidth_factor(operation: str, n: int) -> float:
    """S / t × factor = bandwidth that the links see (nccl-tests, PERFORMANCE.md)."""
    if operation == "all_reduce":
        return 2 * (n - 1) / n
    return 1.0 if operation in ("broadcast", "send") else (n - 1) / n


def _check(n: int, size_bytes: float, latency_s: float, bandwidth_Bps: float) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ConfigurationError(f"{n!r} accelerators; give a whole number above 0")
    if not 0 <= size_bytes < math.inf:
        raise ConfigurationError(f"size is {size_bytes!r} bytes; give 0 or more")
    if not 0 <= latency_s < math.inf:
        raise ConfigurationError(f"latency is {latency_s!r} s; give 0 or more")
    if not 0 < bandwidth_Bps < math.inf:
        raise ConfigurationError(f"bandwidth is {bandwidth_Bps!r} B/s; give a rate above 0")
