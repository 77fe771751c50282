"""What a simulation of one memory channel returns, with units in every name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMMANDS = ("ACT", "PRE", "PREA", "RD", "WR", "RDA", "WRA", "REFA", "REFB", "ACT2", "CAS")
"""Command names in the order of the engine's command numbers."""

LOSS_CAUSES = (
    "idle",
    "queue_full",
    "refresh",
    "turnaround",
    "activation_window",
    "row_activation",
    "bank_group",
    "scheduling",
)
"""Why a data bus carried nothing, in the order in which a gap is attributed (see `DramResult.bus_time_ns`)."""


@dataclass(frozen=True, slots=True)
class CommandLog:
    """Every command the controller issued, in order of issue.

    Attributes
    ----------
    tick : int64[m]
        Time of issue in ticks of the part.
    command : int8[m]
        Index into `COMMANDS`.
    bank : int32[m]
        Flat bank number (pseudo channel, rank, group, bank; most significant first); for PREA and REFA the first
        bank of the scope they act on.
    row : int64[m]
        Row that ACT opens or RD/WR accesses, -1 for commands without one.
    """

    tick: NDArray[np.int64]
    command: NDArray[np.int8]
    bank: NDArray[np.int32]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.tick.shape[0])


@dataclass(frozen=True, slots=True)
class DramResult:
    """One run of one channel.

    Attributes
    ----------
    part, mapping, policy : str
        What was simulated, printable.
    start_ns : float64[n]
        When the controller accepted the first atom of each request.
    finish_ns : float64[n]
        When the last data of a read reached the controller; when the last write command of a write issued (writes
        are posted).
    arrival_ns : float64[n]
        When each request was offered; equal to ``start_ns`` where requests are offered as fast as they are taken.
    is_write : bool[n]
    bytes : int64
        Bytes asked for. ``bus_bytes`` counts whole atoms moved over the data bus (forwarded reads and coalesced
        writes move none).
    sim_time_ns : float
        Start of the run to completion of the last request.
    peak_GBps : float
        Pin bandwidth of the channel.
    row_hits, atoms : int
        Atoms served without an activate or precharge of their own, and all atoms.
    commands : dict[str, int]
        Count by command name.
    bus_time_ns : dict[str, float]
        Data-bus time, summed over the pseudo channels: ``data`` plus one entry per `LOSS_CAUSES`; the entries add up
        to ``buses × sim_time_ns`` (to the end of the last burst, if a posted write is still on the wires).
    energy_pJ : dict[str, float]
        By kind of command; kinds without a figure in the part's file are left out (`energy.energy_pJ`).
    seconds : float
        CPU time of the engine, for speed reports (compilation included, where the call had to compile).
    """

    part: str
    mapping: str
    policy: str
    start_ns: NDArray[np.float64]
    finish_ns: NDArray[np.float64]
    arrival_ns: NDArray[np.float64]
    is_write: NDArray[np.bool_]
    bytes: int
    bus_bytes: int
    sim_time_ns: float
    peak_GBps: float
    row_hits: int
    atoms: int
    forwarded_atoms: int
    coalesced_atoms: int
    commands: dict[str, int]
    bus_time_ns: dict[str, float]
    energy_pJ: dict[str, float]
    log: CommandLog | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def n_requests(self) -> int:
        return int(self.start_ns.shape[0])

    @property
    def latency_ns(self) -> NDArray[np.float64]:
        """float64[n]: acceptance to completion of each request."""
        return self.finish_ns - self.start_ns

    @property
    def arrival_latency_ns(self) -> NDArray[np.float64]:
        """float64[n]: offer to completion, waiting before acceptance included."""
        return self.finish_ns - self.arrival_ns

    @property
    def read_latency_ns(self) -> NDArray[np.float64]:
        """float64[reads]: acceptance to completion of the reads, in request order."""
        return self.latency_ns[~self.is_write]

    @property
    def bandwidth_GBps(self) -> float:
        """Requested bytes, reads plus writes, over the run; 0 for an empty run."""
        return self.bytes / self.sim_time_ns if self.sim_time_ns > 0 else 0.0

    @property
    def bandwidth_pct_peak(self) -> float:
        return 100.0 * self.bandwidth_GBps / self.peak_GBps

    @property
    def row_hit_rate(self) -> float:
        return self.row_hits / self.atoms if self.atoms else float("nan")

    @property
    def total_energy_pJ(self) -> float:
        """Of the device; `energy_pJ` has the interface apart, as ``phy``."""
        return float(sum(v for k, v in self.energy_pJ.items() if k != "phy"))

    @property
    def phy_energy_pJ(self) -> float:
        """Drivers, receivers and PHY of both ends; NaN where the part gives no figure."""
        return self.energy_pJ.get("phy", float("nan"))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a table or JSON; read latencies are NaN in a run without reads."""
        reads = np.sort(self.read_latency_ns)
        return {
            "part": self.part,
            "mapping": self.mapping,
            "policy": self.policy,
            "n_requests": self.n_requests,
            "n_writes": int(self.is_write.sum()),
            "sim_time_ns": self.sim_time_ns,
            "peak_GBps": self.peak_GBps,
            "bandwidth_GBps": self.bandwidth_GBps,
            "bandwidth_pct_peak": self.bandwidth_pct_peak,
            "read_latency_mean_ns": float(reads.mean()) if reads.size else float("nan"),
            **{f"read_latency_{name}_ns": percentile(reads, p) for name, p in PERCENTILES.items()},
            "arrival_latency_mean_ns": _mean(self.arrival_latency_ns[~self.is_write]),
            "row_hit_rate": self.row_hit_rate,
            "commands": dict(self.commands),
            "bus_time_pct": self.bus_time_pct(),
            "energy_pJ": dict(self.energy_pJ),
            "energy_pJ_per_bit": self.total_energy_pJ / (8 * self.bytes) if self.bytes else float("nan"),
            "phy_energy_pJ_per_bit": self.phy_energy_pJ / (8 * self.bytes) if self.bytes else float("nan"),
            "bytes": self.bytes,
            "bus_bytes": self.bus_bytes,
            **self.extra,
        }

    def bus_time_pct(self) -> dict[str, float]:
        """`bus_time_ns` as shares of the whole, in percent."""
        whole = sum(self.bus_time_ns.values())
        return {k: 100.0 * v / whole if whole else float("nan") for k, v in self.bus_time_ns.items()}


PERCENTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def percentile(ordered: NDArray[np.float64], p: float) -> float:
    """Element floor(p·n) of ascending values (the last for p = 1), the rule of the reference rows; NaN if empty."""
    n = ordered.shape[0]
    return float(ordered[min(n - 1, int(p * n))]) if n else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
