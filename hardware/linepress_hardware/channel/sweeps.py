"""Sensitivity: one parameter at a time, everything else as it was; rows of plain numbers for a table or a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import hypot
from typing import Any

from linepress_hardware.channel import results
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.errors import ConfigurationError

DEFAULT_SWEEPS: dict[str, tuple[float, ...]] = {
    "metadata_cache_bytes": (0, 8192, 32768, 65536, 98304, 262144, 1048576),
    "metadata_prefetch": (0, 1),
    "decode_latency_ns": (0.0, 2.0, 5.8, 17.5, 50.0, 277.0),
    "line_buffer_lines": (0, 2, 16, 64),
    "decoders": (1, 2, 3, 4, 6, 8, 12, 16),
    "axi_outstanding": (16, 64, 128, 256, 512, 1024),
    "axi_data_bits": (256, 512),
    "axi_ports": (1, 2, 4),
    "footprint_bytes": (1 << 22, 1 << 24, 1 << 26, 1 << 28),
    "prefetch_lines": (0, 1, 4),
}
LOADS_PCT: tuple[float, ...] = (1, 2, 5, 10, 15, 20, 30, 40, 60, 80)


def sweep(study: Study, parameter: str, values: Iterable[float]) -> list[dict[str, Any]]:
    """Bandwidths, gains and hit rates at each value of one channel parameter."""
    rows: list[dict[str, Any]] = []
    for value in values:
        at = replace(study, config=study.config.override({parameter: value}))
        row: dict[str, Any] = {
            "parameter": parameter,
            "value": float(value),
            "closed_form_delivery_GBps": at.delivery_limit(),
        }
        for pattern in ("sequential", "random"):
            run, compressed = at.compressed_rate(pattern)
            plain = at.plain_rate(pattern).rate
            row[f"effective_bandwidth_{pattern}_GBps"] = compressed.GBps
            row[f"plain_bandwidth_{pattern}_GBps"] = plain.GBps
            row[f"gain_{pattern}"] = compressed.GBps / plain.GBps
            row[f"gain_{pattern}_half_width_pct"] = 100 * hypot(compressed.half_width, plain.half_width)
            row[f"metadata_hit_rate_{pattern}"] = results.metadata_hit_rate(run)
        rows.append(row)
    return rows


def load_curve(study: Study, pattern: str, loads_pct: Sequence[float] = LOADS_PCT) -> list[dict[str, Any]]:
    """Read latency against offered load, in % of the pin peak, compressed and plain."""
    rows: list[dict[str, Any]] = []
    for load in loads_pct:
        if load <= 0:
            raise ConfigurationError(f"a load of {load:g} % offers nothing; give values above 0")
        line_bytes = study.config.line_bytes
        interval_ns = line_bytes / (study.memory.peak_GBps * load / 100)
        row: dict[str, Any] = {"pattern": pattern, "load_pct_peak": float(load)}
        for prefix, run in (
            ("", study.compressed(pattern, interval_ns)),
            ("plain_", study.plain(pattern, interval_ns)),
        ):
            latency = results.Latency.of(run.read_latency_ns)
            row[f"{prefix}latency_mean_ns"] = latency.mean_ns
            row[f"{prefix}latency_p50_ns"] = latency.p50_ns
            row[f"{prefix}latency_p99_ns"] = latency.p99_ns
            row[f"{prefix}load_sustained"] = run.bandwidth_GBps >= 0.95 * line_bytes / interval_ns
        rows.append(row)
    return rows
