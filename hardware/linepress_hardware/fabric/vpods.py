"""vPods, parts of a fabric given to jobs: where they lie, what bandwidth they keep, how a fabric fragments."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.topologies import Topology

POLICIES = ("any", "leaf", "block")


@dataclass(frozen=True)
class Job:
    """A job: when it asks for how many accelerators, and for how long it runs."""

    arrival_s: float
    size: int
    duration_s: float


def usable_bandwidth_GBps(topology: Topology, members: int) -> float:
    """What an accelerator of a vPod of `members` can use inside it, one way.

    A switch gives all of it; a mesh only the links to members, B (m − 1) / (N − 1); a block of a torus keeps its
    links (the wrap-around ones only where the block spans a whole dimension); between leaves 1 / oversubscription.
    """
    n = topology.accelerators
    if not 1 <= members <= n:
        raise ConfigurationError(f"a vPod of {members} in a fabric of {n}; give 1 to {n}")
    if members == 1:
        return 0.0
    if topology.kind == "mesh":
        return topology.bandwidth_GBps * (members - 1) / (n - 1)
    if topology.kind == "leaf-spine" and members > topology.per_leaf:
        return topology.bandwidth_GBps / topology.oversubscription
    if topology.kind in ("ring", "torus"):
        block = block_shape(topology.shape, members)
        if block is None:
            raise ConfigurationError(
                f"no block of {topology.name} has {members} accelerators; use a product of sides"
            )
        rate = topology.link.rate_GBps * topology.links_per_pair
        # Links of a block along a dimension of k: k (k − 1 to be a chain) of the k; a chain's mean is 2 (b − 1) / b.
        return sum(
            2.0 * rate if b == k and k > 1 else 2.0 * rate * (b - 1) / b
            for b, k in zip(block, topology.shape, strict=True)
        )
    return topology.bandwidth_GBps


def bisection_GBps(topology: Topology, members: int) -> float:
    """Bandwidth one way between two halves of a vPod: m B / 2 behind a non-blocking switch, (m / 2)² mesh links."""
    half = members // 2
    if topology.kind == "mesh":
        return half * (members - half) * topology.link.rate_GBps * topology.links_per_pair
    if topology.kind in ("ring", "torus"):
        block = block_shape(topology.shape, members)
        if block is None:
            raise ConfigurationError(
                f"no block of {topology.name} has {members} accelerators; use a product of sides"
            )
        widest = max(range(len(block)), key=lambda i: block[i])
        whole = block[widest] == topology.shape[widest]
        lines = members // block[widest]
        return lines * (2 if whole else 1) * topology.link.rate_GBps * topology.links_per_pair
    return members / 2 * usable_bandwidth_GBps(topology, members)


def block_shape(shape: Sequence[int], members: int) -> tuple[int, ...] | None:
    """Sides of the most cubic block of `members` that fits `shape`; None when there is none."""
    fitting = [sides for sides in product(*(range(1, k + 1) for k in shape)) if int(np.prod(sides)) == members]
    return min(fitting, key=lambda sides: (max(sides), sides), default=None)


def isolated(topology: Topology, pods: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Whether pods share channels: routes of all pairs inside each pod, held against those of the others.

    Returns
    -------
    dict
        ``isolated``, ``shared_channels`` (channels that two pods use), ``channels_used``.
    """
    flat = [member for pod in pods for member in pod]
    if len(set(flat)) != len(flat):
        raise ConfigurationError("an accelerator is in two vPods; give each to one")
    if flat and (min(flat) < 0 or max(flat) >= topology.accelerators):
        raise ConfigurationError(f"a vPod names an accelerator outside 0 … {topology.accelerators - 1}")
    net = topology.network()
    owner: dict[int, int] = {}
    shared: set[int] = set()
    for number, pod in enumerate(pods):
        pairs = [(a, b) for a in pod for b in pod if a != b]
        if not pairs:
            continue
        src, dst = (np.array(ends, np.int64) for ends in zip(*pairs, strict=True))
        used: set[int] = set()
        for plane in range(net.planes):
            queues = net.route(src, dst, np.full(src.size, plane))
            used |= set((queues[queues >= 0] // net.virtual).tolist())
        for channel in used:
            if owner.setdefault(channel, number) != number:
                shared.add(channel)
    return {"isolated": not shared, "shared_channels": len(shared), "channels_used": len(owner)}


def job_stream(
    jobs: int, *, seed: int, sizes: Sequence[int] = (2, 4, 8, 16), load: float = 0.9, accelerators: int = 64
) -> list[Job]:
    """Poisson arrivals, sizes drawn evenly from `sizes`, exponential durations of 1 h mean, such that the jobs ask
    for `load` of `accelerators` on average."""
    if jobs < 1 or not sizes or min(sizes) < 1 or not load > 0:
        raise ConfigurationError(
            f"{jobs} jobs of sizes {list(sizes)} at load {load}; give 1 or more of each, above 0"
        )
    random = np.random.Generator(np.random.PCG64(seed))
    size = random.choice(np.asarray(sizes), jobs)
    duration_s = random.exponential(3600.0, jobs)
    arrival_s = np.cumsum(random.exponential(float(np.mean(sizes)) * 3600.0 / (load * accelerators), jobs))
    return [Job(float(a), int(m), float(d)) for a, m, d in zip(arrival_s, size, duration_s, strict=True)]


class _Places:
    """Free accelerators and where a job of a size can go under a policy."""

    def __init__(self, topology: Topology, policy: str) -> None:
        self.topology = topology
        self.policy = policy
        self.free = np.ones(topology.accelerators, np.bool_)

    def find(self, size: int) -> np.ndarray | None:
        if size > int(self.free.sum()):
            return None
        if self.policy == "any":
            return np.flatnonzero(self.free)[:size]
        return self._leaf(size) if self.policy == "leaf" else self._block(size)

    def _leaf(self, size: int) -> np.ndarray | None:
        """All of it under one leaf, the one that is left fullest."""
        per = self.topology.per_leaf
        best: np.ndarray | None = None
        least = per + 1
        for at in range(0, self.topology.accelerators, per):
            here = at + np.flatnonzero(self.free[at : at + per])
            if size <= here.size < least:
                best, least = here[:size], here.size
        return best

    def _block(self, size: int) -> np.ndarray | None:
        """The first free block of the torus with the most cubic sides, in any orientation."""
        shape = self.topology.shape
        grid = self.free.reshape(shape)
        ids = np.arange(self.topology.accelerators).reshape(shape)
        sides = block_shape(shape, size)
        if sides is None:
            return None
        for turned in sorted({p for p in product(sides, repeat=len(sides)) if sorted(p) == sorted(sides)}):
            for corner in product(*(range(k - b + 1) for k, b in zip(shape, turned, strict=True))):
                at = tuple(slice(c, c + b) for c, b in zip(corner, turned, strict=True))
                if grid[at].all():
                    return ids[at].ravel()
        return None


def default_policy(topology: Topology) -> str:
    """Any subset behind one switch or on a mesh, one leaf of a leaf–spine fabric, a block of a ring or torus."""
    return {"leaf-spine": "leaf", "ring": "block", "torus": "block"}.get(topology.kind, "any")


def run_stream(topology: Topology, jobs: Sequence[Job], policy: str | None = None) -> dict[str, Any]:
    """Serve jobs first come, first served.

    Returns
    -------
    dict
        ``utilisation`` (accelerator-hours used over offered until the last start), ``mean_wait_s``, ``p99_wait_s``,
        ``fragmented_share``: share of that time in which the first job in the queue had enough free accelerators but
        no place, ``stranded_accelerators``: free ones in those times on average, ``refused`` jobs that fit no empty
        fabric either.
    """
    chosen = policy or default_policy(topology)
    if chosen not in POLICIES:
        raise ConfigurationError(f"policy {chosen!r} is unknown; use one of {', '.join(POLICIES)}")
    if chosen == "leaf" and topology.kind != "leaf-spine":
        raise ConfigurationError(f"policy leaf needs leaves, and a {topology.kind} has none; use any or block")
    if chosen == "block" and topology.kind not in ("ring", "torus"):
        raise ConfigurationError(f"policy block needs a torus, not a {topology.kind}; use any")
    places = _Places(topology, chosen)
    empty = _Places(topology, chosen)
    fits = {size: empty.find(size) is not None for size in {job.size for job in jobs}}
    coming = deque(job for job in sorted(jobs, key=lambda job: job.arrival_s) if fits[job.size])
    refused = len(jobs) - len(coming)
    waiting: deque[Job] = deque()
    running: list[tuple[float, int, np.ndarray]] = []
    waits: list[float] = []
    now, busy, blocked_s, stranded, started, number = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    while coming or waiting:
        while waiting:
            spot = places.find(waiting[0].size)
            if spot is None:
                break
            job = waiting.popleft()
            places.free[spot] = False
            waits.append(now - job.arrival_s)
            started = now
            heapq.heappush(running, (now + job.duration_s, number, spot))
            number += 1
        if not coming and not waiting:
            break
        following = min(coming[0].arrival_s if coming else float("inf"), running[0][0] if running else float("inf"))
        free = int(places.free.sum())
        busy += (topology.accelerators - free) * (following - now)
        if waiting and free >= waiting[0].size:
            blocked_s += following - now
            stranded += free * (following - now)
        now = following
        while running and running[0][0] <= now:
            places.free[heapq.heappop(running)[2]] = True
        while coming and coming[0].arrival_s <= now:
            waiting.append(coming.popleft())
    span = max(started, 1e-12)
    return {
        "topology": topology.name,
        "policy": chosen,
        "accelerators": topology.accelerators,
        "jobs": len(jobs),
        "refused": refused,
        "utilisation": min(1.0, busy / (span * topology.accelerators)),
        "mean_wait_s": float(np.mean(waits)) if waits else 0.0,
        "p99_wait_s": float(np.percentile(waits, 99)) if waits else 0.0,
        "fragmented_share": blocked_s / span,
        "stranded_accelerators": stranded / blocked_s if blocked_s else 0.0,
    }
