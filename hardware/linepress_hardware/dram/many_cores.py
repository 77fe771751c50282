"""Many cores' streams on one memory channel, and a pointer chase beside them: the load of measured machines.

Every core but one reads one array and stores into another in address order. A store reads its line first (write
allocate) and writes it back later, so that a share s of reads on the bus is (1 - s)/s write-backs a fetch. Lines are
interleaved over the channels and pages lie anywhere, so a stream is sequential for a page's share of one channel and
then jumps. The last core chases pointers: one random read after the other, which is the latency that is reported.

The load goes through a port: so many lines in flight a channel, each held from the request until the line is back
across the machine's fabric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.policy import Policy
from linepress_hardware.dram.port import LineLoad, PortSpec
from linepress_hardware.dram.simulate import simulate, simulate_lines
from linepress_hardware.errors import ConfigurationError

CHASE_GAP_NS = 150.0
"""Between two reads of the chase: about the load-to-use latency of a machine less that of the memory."""
INSIDE = (0.15, 0.85)
"""Quantiles of the ends of lines between which a run is taken to be steady."""


@dataclass(frozen=True)
class Cores:
    """The machine as one channel sees it.

    Attributes
    ----------
    streams : int
        Cores that stream; each has a load and a store stream.
    channels : int
        Channels of the machine, over which lines are interleaved.
    in_flight : int
        Lines in flight on one channel.
    fabric_ns : float
        Part of a line's time outside the memory: cores, caches, mesh, and back.
    together : int
        Neighbouring lines that a stream asks this channel for at once: what a prefetcher pairs, as far as the
        interleaving leaves it on one channel.
    page_bytes, line_bytes : int
    """

    streams: int
    channels: int
    in_flight: int
    fabric_ns: float = 0.0
    together: int = 1
    page_bytes: int = 2 << 20
    line_bytes: int = 64

    def __post_init__(self) -> None:
        if min(self.streams, self.channels, self.in_flight, self.together, self.page_bytes, self.line_bytes) < 1:
            raise ConfigurationError("a machine needs at least one core, channel, line in flight, page and line byte")


@dataclass(frozen=True)
class Loaded:
    """One point of a curve: bytes on the bus a ns, and the mean latency of the chase in the memory."""

    bandwidth_GBps: float
    latency_ns: float
    chased: int


def loaded(
    part: Part,
    cores: Cores,
    read_share: float,
    interval_ns: float,
    *,
    mapping: str | None = None,
    policy: Policy | None = None,
    lines: int = 30_000,
    seed: int = 1,
) -> Loaded:
    """Bandwidth and latency of one channel when a line is fetched every ``interval_ns`` (0: as fast as it goes).

    ``read_share`` is the share of reads on the bus, 0.5 … 1.
    """
    if not 0.5 <= read_share <= 1:
        raise ConfigurationError(
            f"a share of reads of {read_share:g} cannot be on the bus: every store reads its line first; 0.5 to 1"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    fetch, back, stored = _streams(part, cores, 1 / read_share - 1, lines, rng)
    n = lines
    writes = np.flatnonzero(stored)
    m = n + writes.shape[0]
    # Requests of a line: its fetch, then the write-back of an older line of the stream.
    first = np.arange(n + 1) + np.concatenate(([0], np.cumsum(stored)))
    address = np.empty(m, np.uint64)
    is_write = np.zeros(m, np.bool_)
    after = np.full(m, -1, np.int64)
    address[first[:-1]] = fetch
    at = first[:-1][writes] + 1
    address[at], is_write[at], after[at] = back[writes], True, first[:-1][writes]
    load = LineLoad(
        port=PortSpec(in_flight=cores.in_flight, clock_ns=0.0, decode_ns=cores.fabric_ns),
        first=first,
        early=np.ones(m, np.bool_),
        offered_ns=np.asarray(np.arange(n) // cores.together * (cores.together * interval_ns), np.float64),
        is_write=np.zeros(n, np.bool_),
        bypass=np.zeros(n, np.bool_),
        id=np.arange(n, dtype=np.int32),  # every line returns on its own
        beats_ns=np.zeros(n),
        wait_line=np.arange(n),
        wait_request=first[:-1].astype(np.int64),
        wait_extra_ns=np.zeros(n),
    )
    span_ns = n * max(interval_ns, cores.line_bytes / part.peak_GBps)
    hops = int(np.clip(2 * span_ns / CHASE_GAP_NS, 200, 4000))
    chase = rng.integers(0, part.capacity_bytes // cores.line_bytes, hops).astype(np.uint64)
    result, _ = simulate_lines(
        part,
        load,
        np.concatenate((address, chase * np.uint64(cores.line_bytes))),
        np.concatenate((is_write, np.zeros(hops, np.bool_))),
        mapping=mapping,
        policy=policy,
        request_bytes=cores.line_bytes,
        after=np.concatenate((after, [-1], np.arange(hops - 1) + m)),
        after_delay_ns=np.concatenate((np.zeros(m), np.full(hops, CHASE_GAP_NS))),
    )
    end = result.finish_ns[:m]
    low, high = np.quantile(end, INSIDE)
    moved = cores.line_bytes * int(((end > low) & (end <= high)).sum())
    chased = slice(m, None)
    inside = (result.finish_ns[chased] > low) & (result.finish_ns[chased] <= high)
    waits = (result.finish_ns - result.arrival_ns)[chased][inside]
    return Loaded(moved / float(high - low), float(waits.mean()) if waits.size else float("nan"), int(inside.sum()))


def idle_ns(part: Part, *, mapping: str | None = None, policy: Policy | None = None, line_bytes: int = 64) -> float:
    """Mean latency of the chase alone, refreshes met included."""
    hops = 2000
    rng = np.random.Generator(np.random.PCG64(0))
    address = rng.integers(0, part.capacity_bytes // line_bytes, hops).astype(np.uint64) * np.uint64(line_bytes)
    result = simulate(
        part,
        address,
        arrival_ns=np.zeros(hops),
        after=np.arange(hops) - 1,
        after_delay_ns=400.0,
        mapping=mapping,
        policy=policy,
        request_bytes=line_bytes,
    )
    return float(result.arrival_latency_ns.mean())


def _streams(
    part: Part, cores: Cores, stores: float, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Bytes fetched, bytes written back by the same turn, and whether the turn stores; cores take turns at random."""
    chunk = max(1, cores.page_bytes // cores.channels // cores.line_bytes)
    chunks = part.capacity_bytes // cores.line_bytes // chunk
    turns = -(-n // cores.together)
    rounds = -(-turns // cores.streams)
    core = np.concatenate([rng.permutation(cores.streams) for _ in range(rounds)])[:turns]
    core = np.repeat(core, cores.together)[:n]
    stored = np.repeat(rng.random(turns) < stores, cores.together)[:n]
    stream = core * 2 + stored
    order = np.argsort(stream, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(stream[order]) != 0])
    position = np.empty(n, np.int64)
    position[order] = np.arange(n) - np.repeat(begins, np.diff(np.r_[begins, n]))

    def lines() -> NDArray[np.uint64]:
        pages = rng.integers(0, chunks, (2 * cores.streams, int(position.max()) // chunk + 2))
        p = position + rng.integers(0, chunk, 2 * cores.streams)[stream]
        line = pages[stream, p // chunk] * chunk + p % chunk
        return np.asarray(line.astype(np.uint64) * np.uint64(cores.line_bytes), np.uint64)

    return lines(), lines(), stored
