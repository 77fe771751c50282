"""One channel from port to memory and back: accesses in, times out, the closed-loop limits of the port kept.

Read: accept → metadata (cache, or one more read of the same channel) → atoms of the line that the line buffer does
not hold → ECC → decoder (raw lines pass by) → order of the ID → R beats. Write: W beats → encoder → metadata → atoms,
with a read first where an atom is covered in part. Writes are posted: B returns when the line is placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import plan as p
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig
from linepress_hardware.channel.engine import decode_lines, return_lines
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.plan import RequestPlan
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.dram.results import DramResult


@dataclass(frozen=True)
class Timing:
    """Latencies of the engine for one codec; all zero for the plain channel.

    Attributes
    ----------
    decode_ns, encode_ns : float
        Latency of one line.
    interval_ns : float
        Time between two lines entering one pipeline.
    metadata_ns : float
        Look-up of a cached entry; 0 where there is no metadata.
    ecc_ns : float
        Syndrome and correction, on every read.
    """

    decode_ns: float
    encode_ns: float
    interval_ns: float
    metadata_ns: float
    ecc_ns: float

    @classmethod
    def compressed(cls, config: ChannelConfig, *, metadata: bool = True) -> Timing:
        """The engine that ``config`` describes; without ``metadata`` there is nothing to look up."""
        return cls(
            config.decode_latency_ns,
            config.encode_latency_ns,
            config.decode_interval_ns,
            config.metadata_hit_ns if metadata else 0.0,
            config.ecc_decode_ns,
        )

    @classmethod
    def plain(cls, config: ChannelConfig) -> Timing:
        """No engine, no metadata; ECC as in the compressed channel."""
        return cls(0.0, 0.0, 0.0, 0.0, config.ecc_decode_ns)


@dataclass(frozen=True)
class ChannelRun:
    """Times of one run.

    Attributes
    ----------
    accesses : LineStream
    plan : RequestPlan
    memory : DramResult
    offered_ns : float64[n]
        When each access was offered; in a saturated run, when the port took it.
    data_ns : float64[n]
        When its last atom reached the engine (writes: when the line was placed).
    done_ns : float64[n]
        Last R beat of a read; B response of a write.
    atom_bytes : int
    """

    accesses: LineStream
    plan: RequestPlan
    memory: DramResult
    offered_ns: NDArray[np.float64]
    data_ns: NDArray[np.float64]
    done_ns: NDArray[np.float64]
    atom_bytes: int

    @property
    def served(self) -> NDArray[np.bool_]:
        """bool[n]: accesses that were not refused."""
        served: NDArray[np.bool_] = self.plan.failed == 0
        return served

    @property
    def useful_bytes(self) -> int:
        """Bytes of the lines that were served, as the port sees them."""
        return int(self.served.sum()) * LINE_BYTES

    @property
    def sim_time_ns(self) -> float:
        """First offer to the last response or last memory command."""
        if not len(self.accesses):
            return 0.0
        end = max(float(self.done_ns[self.served].max(initial=0.0)), float(self.memory.sim_time_ns))
        return end - float(self.offered_ns.min())

    @property
    def bandwidth_GBps(self) -> float:
        """Useful bytes over the run."""
        return self.useful_bytes / self.sim_time_ns if self.sim_time_ns > 0 else 0.0

    @property
    def read_latency_ns(self) -> NDArray[np.float64]:
        """float64[reads]: offer to last R beat of the reads that were served."""
        reads = self.served & ~self.accesses.is_write
        return (self.done_ns - self.offered_ns)[reads]

    @property
    def bus_bytes(self) -> int:
        """Bytes that translation asked the memory for: atoms × atom size."""
        return int(self.plan.size_bytes.sum())


def _delays(plan: RequestPlan, timing: Timing, config: ChannelConfig) -> NDArray[np.float64]:
    """Time between the end of the request waited for and the earliest issue, float64[m]."""
    turnaround = timing.ecc_ns + timing.decode_ns + config.line_transfer_ns + timing.metadata_ns
    table = np.zeros(4, np.float64)
    table[p.WAIT_PORT] = turnaround
    table[p.WAIT_METADATA] = timing.ecc_ns + timing.metadata_ns
    table[p.WAIT_MERGE] = timing.ecc_ns + timing.decode_ns + timing.encode_ns
    return table[plan.why]


def run(
    accesses: LineStream,
    plan: RequestPlan,
    memory: Memory,
    config: ChannelConfig,
    timing: Timing,
    *,
    beats: NDArray[np.int32] | None = None,
) -> ChannelRun:
    """Simulate a translated stream; the plan must come from the same accesses.

    ``beats`` int32[n] are the data beats of each access on R or W; None: a whole line at full width.
    """
    n = len(accesses)
    offered = np.zeros(n) if accesses.arrival_ns is None else accesses.arrival_ns
    write = accesses.is_write
    # One address a clock on AR and AW together: the k-th may not be accepted before k clocks after any earlier one.
    clocks = np.arange(1, n + 1) * config.axi_clock_ns
    accepted = np.asarray(clocks + np.maximum.accumulate(offered - clocks + config.axi_clock_ns), np.float64)
    looked_up: NDArray[np.float64] = accepted + timing.metadata_ns
    result = memory.simulate(plan, looked_up[plan.access], _delays(plan, timing, config))
    finish = result.finish_ns
    whole = np.full(n, config.line_transfer_ns)
    transfer = whole if beats is None else np.asarray(beats * config.axi_clock_ns, np.float64)
    data: NDArray[np.float64] = looked_up + np.where(write, transfer + timing.encode_ns, 0.0)
    for_read = (plan.kind == p.DATA_READ) & ~write[plan.access]
    np.maximum.at(data, plan.access[for_read], finish[for_read])
    for column, extra_ns in ((plan.shared[:, 0], 0.0), (plan.shared[:, 1], 0.0), (plan.metadata, timing.ecc_ns)):
        has = column >= 0
        data[has] = np.maximum(data[has], finish[column[has]] + extra_ns)
    return _respond(accesses, plan, result, offered, data, transfer, config, timing, memory.atom_bytes)


def _respond(
    accesses: LineStream,
    plan: RequestPlan,
    result: DramResult,
    offered: NDArray[np.float64],
    data: NDArray[np.float64],
    transfer: NDArray[np.float64],
    config: ChannelConfig,
    timing: Timing,
    atom_bytes: int,
) -> ChannelRun:
    write = accesses.is_write
    bypass = write | (plan.failed != 0) | (plan.length_bytes == 0)
    if config.bypass_raw:
        bypass = bypass | plan.raw
    decoded = decode_lines(
        data + np.where(plan.length_bytes > 0, timing.ecc_ns, 0.0),
        bypass,
        latency_ns=timing.decode_ns,
        interval_ns=timing.interval_ns,
        engines=config.decoder_count,
    )
    done = data.copy()
    reads = np.flatnonzero(~write)
    done[reads] = return_lines(decoded[reads], accesses.id[reads], transfer[reads])
    writes = np.flatnonzero(write)
    done[writes] = return_lines(data[writes], accesses.id[writes], np.full(writes.shape[0], config.axi_clock_ns))
    started = offered
    if accesses.arrival_ns is None:
        # Saturated: an access exists from the moment the memory took its first request (or it was decided without).
        started = np.minimum(data, done)
        has = plan.last > plan.first
        started[has] = np.minimum(started[has], result.start_ns[plan.first[has]])
    return ChannelRun(accesses, plan, result, started, data, done, atom_bytes)
