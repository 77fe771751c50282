"""What a run says: percentiles, histogram, where the bus time went, energy; as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import plan as p
from linepress_hardware.channel.simulate import ChannelRun
from linepress_hardware.dram.results import percentile

LATENCY_EDGES_NS: tuple[float, ...] = tuple(float(x) for x in np.round(10 ** np.linspace(1.0, 5.0, 41), 3))
"""Upper edges of the latency histogram: ten a decade from 10 ns to 100 µs; a last bin holds what lies above."""


@dataclass(frozen=True)
class Latency:
    """Read latency of a run in ns; NaN where nothing was read."""

    mean_ns: float
    p50_ns: float
    p99_ns: float
    p999_ns: float
    histogram: tuple[int, ...]

    @classmethod
    def of(cls, values_ns: NDArray[np.float64]) -> Latency:
        ordered = np.sort(values_ns)
        bins = np.searchsorted(np.array(LATENCY_EDGES_NS), ordered, side="left")
        histogram = np.bincount(bins, minlength=len(LATENCY_EDGES_NS) + 1)
        return cls(
            float(ordered.mean()) if ordered.size else float("nan"),
            percentile(ordered, 0.5),
            percentile(ordered, 0.99),
            percentile(ordered, 0.999),
            tuple(int(c) for c in histogram),
        )


def where_bandwidth_went(run: ChannelRun) -> dict[str, float]:
    """Shares of the data-bus time, adding up to 1: the useful code, padding of atoms, metadata, moves, and each loss.

    ``code`` is coded bytes of the lines; ``padding`` the rest of the atoms fetched or written for them.
    """
    whole = sum(run.memory.bus_time_ns.values())
    if whole <= 0:
        return {}
    kinds = run.plan.bytes_by_kind()
    total = sum(kinds.values())
    data_share = run.memory.bus_time_ns.get("data", 0.0) / whole
    lines = kinds["data_read"] + kinds["data_write"]
    code = min(lines, max(0, int(run.plan.length_bytes[run.served].sum())))
    parts = {
        "code": code,
        "padding": lines - code,
        "metadata": kinds["metadata_read"] + kinds["metadata_write"] + kinds["indirect_read"],
        "read_modify_write": kinds["rmw_read"],
        "moves": kinds["move_read"] + kinds["move_write"],
        "prefetch": kinds["prefetch"],
    }
    out = {name: data_share * size / total if total else 0.0 for name, size in parts.items()}
    for cause, time_ns in run.memory.bus_time_ns.items():
        if cause != "data":
            out[cause] = time_ns / whole
    return out


def metadata_hit_rate(run: ChannelRun) -> float:
    """Hits over look-ups; NaN without look-ups."""
    lookups = run.plan.counters.get("metadata_lookups", 0)
    return run.plan.counters.get("metadata_hits", 0) / lookups if lookups else float("nan")


def metadata_traffic_ratio(run: ChannelRun) -> float:
    """Metadata bytes over all bytes that the channel asked the memory for."""
    kinds = run.plan.bytes_by_kind()
    total = sum(kinds.values())
    return (kinds["metadata_read"] + kinds["metadata_write"]) / total if total else 0.0


def line_buffer_hit_rate(run: ChannelRun) -> float:
    """Atoms served by the line buffer over atoms needed by reads; NaN without a line buffer."""
    lookups = run.plan.counters.get("atom_lookups", 0)
    return run.plan.counters.get("line_buffer_hits", 0) / lookups if lookups else float("nan")


def atoms_per_line(run: ChannelRun) -> float:
    """Atoms moved for the data of an access, metadata aside."""
    n = int(run.served.sum())
    data = np.isin(run.plan.kind, (p.DATA_READ, p.DATA_WRITE, p.PREFETCH, p.INDIRECT_READ))
    return float(run.plan.size_bytes[data].sum()) / run.atom_bytes / n if n else float("nan")


def energy_pJ_per_useful_byte(run: ChannelRun) -> float:
    """Energy of the device over the bytes of the lines served; NaN where the part gives no figures."""
    return run.memory.total_energy_pJ / run.useful_bytes if run.useful_bytes else float("nan")


def phy_pJ_per_useful_byte(run: ChannelRun) -> float:
    """Energy of drivers, receivers and PHY over the same bytes; NaN where the part gives no figure."""
    return run.memory.phy_energy_pJ / run.useful_bytes if run.useful_bytes else float("nan")
