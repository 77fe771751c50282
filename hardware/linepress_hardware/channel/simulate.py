"""One channel from port to memory and back: accesses in, times out, the closed-loop limits of the port kept.

Read: accept → metadata (cache, or one more read of the same channel) → atoms of the line that the line buffer does
not hold → ECC → decoder (raw lines pass by) → order of the ID → R beats. Write: W beats → encoder → metadata → atoms,
with a read first where an atom is covered in part. Writes are posted: B returns when the write queue has taken the
line. All of it happens inside the memory's own loop (`linepress_hardware.dram.port`), so that what returns late holds
back what is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import plan as p
from linepress_hardware.channel.config import ChannelConfig
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.plan import RequestPlan
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.dram.port import LineLoad, LineTimes, PortSpec
from linepress_hardware.dram.results import DramResult


@dataclass(frozen=True)
class Timing:
    """Latencies of the engine for one codec; all zero for the plain channel.

    Attributes
    ----------
    decode_ns, encode_ns : float
        Latency of one line.
    interval_ns, encode_interval_ns : float
        Time between two lines entering one decoder, one encoder.
    metadata_ns : float
        Look-up of a cached entry; 0 where there is no metadata.
    ecc_ns : float
        Syndrome and correction, on every read.
    """

    decode_ns: float
    encode_ns: float
    interval_ns: float
    encode_interval_ns: float
    metadata_ns: float
    ecc_ns: float

    @classmethod
    def compressed(cls, config: ChannelConfig, *, metadata: bool = True) -> Timing:
        """The engine that ``config`` describes; without ``metadata`` there is nothing to look up."""
        return cls(
            config.decode_latency_ns,
            config.encode_latency_ns,
            config.decode_interval_ns,
            config.encode_interval_ns,
            config.metadata_hit_ns if metadata else 0.0,
            config.ecc_decode_ns,
        )

    @classmethod
    def plain(cls, config: ChannelConfig) -> Timing:
        """No engine, no metadata; ECC as in the compressed channel."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, config.ecc_decode_ns)


@dataclass(frozen=True)
class ChannelRun:
    """Times of one run.

    Attributes
    ----------
    accesses : LineStream
    plan : RequestPlan
    memory : DramResult
    offered_ns : float64[n]
        When each access was offered; in a saturated run, a clock before the port took it.
    times : LineTimes
        When each was taken, had its data, and was over: last R beat of a read, B response of a write.
    atom_bytes, line_bytes : int
    """

    accesses: LineStream
    plan: RequestPlan
    memory: DramResult
    offered_ns: NDArray[np.float64]
    times: LineTimes
    atom_bytes: int
    line_bytes: int

    @property
    def done_ns(self) -> NDArray[np.float64]:
        return self.times.done_ns

    @property
    def served(self) -> NDArray[np.bool_]:
        """bool[n]: accesses that were not refused."""
        served: NDArray[np.bool_] = self.plan.failed == 0
        return served

    @property
    def useful_bytes(self) -> int:
        """Bytes of the lines that were served, as the port sees them."""
        return int(self.served.sum()) * self.line_bytes

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


def _port(config: ChannelConfig, timing: Timing) -> PortSpec:
    return PortSpec(
        in_flight=config.axi_outstanding,
        clock_ns=config.axi_clock_ns,
        lookup_ns=timing.metadata_ns,
        decode_ns=timing.decode_ns,
        decode_every_ns=timing.interval_ns,
        decoders=config.decoder_count,
        encode_ns=timing.encode_ns,
        encode_every_ns=timing.encode_interval_ns,
        encoders=config.encoder_count,
        ports=config.axi_ports,
    )


def _waits(
    accesses: LineStream, plan: RequestPlan, timing: Timing
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Which line needs which request, and how long after its end: own data, atoms and metadata of older lines."""
    write = accesses.is_write[plan.access]
    own = np.flatnonzero(((plan.kind == p.DATA_READ) & ~write) | ((plan.kind == p.DATA_WRITE) & write))
    line, request = [plan.access[own]], [own]
    for column in (plan.shared[:, 0], plan.shared[:, 1], plan.metadata):
        has = np.flatnonzero(column >= 0)
        line.append(has)
        request.append(column[has])
    needs = np.concatenate(request)
    extra = np.where(plan.is_write[needs], 0.0, timing.ecc_ns)
    return np.concatenate(line), needs, extra


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
    write = accesses.is_write
    bypass = write | (plan.failed != 0) | (plan.length_bytes == 0)
    if config.bypass_raw:
        bypass = bypass | plan.raw
    whole = np.full(n, config.line_transfer_ns)
    line, request, extra_ns = _waits(accesses, plan, timing)
    load = LineLoad(
        port=_port(config, timing),
        first=np.append(plan.first, plan.requests).astype(np.int64),
        early=(plan.kind != p.DATA_WRITE),
        offered_ns=np.zeros(n) if accesses.arrival_ns is None else accesses.arrival_ns,
        is_write=write,
        bypass=bypass,
        id=accesses.id,
        beats_ns=whole if beats is None else np.asarray(beats * config.axi_clock_ns, np.float64),
        wait_line=line,
        wait_request=request,
        wait_extra_ns=extra_ns,
    )
    delay = np.zeros(3, np.float64)
    delay[p.WAIT_METADATA] = timing.ecc_ns + timing.metadata_ns
    delay[p.WAIT_MERGE] = timing.ecc_ns + timing.decode_ns + timing.encode_ns
    result, times = memory.simulate(plan, load, delay[plan.why])
    # Saturated: an access is offered one clock before it is taken.
    offered = times.taken_ns - config.axi_clock_ns if accesses.arrival_ns is None else accesses.arrival_ns
    return ChannelRun(accesses, plan, result, offered, times, memory.atom_bytes, config.line_bytes)
