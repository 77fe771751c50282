"""One subject against the plain channel, as a row: converged gains, where bandwidth went, latency, reliability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from linepress_hardware.channel import closed_form, results
from linepress_hardware.channel.ecc import code
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.faults import blast_radius, inject
from linepress_hardware.channel.headline import Headline, Settings, headline
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.placements import dma

FAULTS = {"bit": 1000, "double_bit": 500, "burst": 500, "row": 20, "metadata": 200}
"""Faults injected per row."""


@dataclass(frozen=True)
class Point:
    """What is asked of a study.

    Attributes
    ----------
    workload : str
        Whose latency is reported, at ``load_pct_peak`` % of the pin peak; its gain stands beside the three patterns'.
    packed_bytes_per_line : float
        Bytes in memory a line, metadata and tables counted, for the closed form; a line's own of the plain channel.
    settings : Settings | None
        Of the compressed channel; None: those under which the plain one is fastest.
    coded : bool
        False where the subject is the plain channel itself.
    behind_dma : bool
        A DMA engine fetches and decodes whole tiles.
    ecc_code, value_bytes
        Error-correcting code, and bytes of an element for the blast radius.
    """

    workload: str
    packed_bytes_per_line: float
    load_pct_peak: float
    settings: Settings | None = None
    coded: bool = True
    behind_dma: bool = False
    ecc_code: str = "secded-72-64"
    value_bytes: int = 2


def evaluate(study: Study, point: Point) -> dict[str, Any]:
    """Every column of the table ``channel`` that is simulated or in closed form; raises `HardwareError`."""
    m, config = study.memory, study.config
    return {
        "memory": m.name,
        "mapping": m.mapping or "",
        "policy": m.policy or "",
        "mode": study.subject.mode,
        "peak_GBps": m.peak_GBps,
        "atom_bytes": m.atom_bytes,
        "channels_per_device": m.channels_per_device,
        "decoders": config.decoder_count,
        "decode_latency_ns": config.decode_latency_ns,
        "encode_latency_ns": config.encode_latency_ns,
        "decode_interval_ns": config.decode_interval_ns,
        **_bandwidth(study, point),
        **_latency(study, point),
        **(_dma(study) if point.behind_dma else {}),
        **_reliability(study, point),
    }


def _bandwidth(study: Study, point: Point) -> dict[str, Any]:
    """Converged headlines of the three patterns and of the named workload."""

    def study_at(settings: Settings) -> Study:
        return replace(study, memory=Memory.load(study.memory.name, settings.mapping, settings.policy))

    named = {name: name for name in ("sequential", "random", "mixed")} | {"workload": point.workload}
    measured = {w: headline(study_at, w, point.settings) for w in dict.fromkeys(named.values())}
    best = (measured[name].best.GBps for name in ("sequential", "random"))
    # Where rows bind, the mapping under which random lines were measured decides how many they open.
    closed = study_at(measured["random"].settings).closed_form(point.packed_bytes_per_line, *best)
    row: dict[str, Any] = {}
    for name, workload in named.items():
        row.update(_headline(name, measured[workload]))
    for name, gain in (("sequential", closed.sequential), ("random", closed.random), ("mixed", closed.mixed)):
        row[f"closed_form_gain_{name}"] = gain
    row["converged"] = all(not isnan(h.gain) for h in measured.values())
    row["most_in_flight"] = max(h.most_in_flight for h in measured.values())
    row.update(_where_it_went(study, measured["sequential"], measured["random"]))
    counters = measured["mixed"].run.plan.counters
    for name in ("overflows", "repacks", "page_moves", "read_modify_writes"):
        row[name] = counters.get(name, 0)
    # Rests lie whole in an atom, by design; all other lines at offsets as good as random.
    placed = study.subject.layout.rest_bytes is not None
    length = study.places()[1].astype(np.float64)
    alone = study.atoms_alone() if placed else closed_form.atoms_random_offset(length, study.memory.atom_bytes)
    row["closed_form_atoms_per_line_random"] = float(alone.mean())
    return row


def _headline(name: str, h: Headline) -> dict[str, Any]:
    """Columns of one headline; a gain that has not converged is refused (NaN), its interval still stated."""

    def said(settings: Settings) -> str:
        return " ".join(filter(None, (settings.mapping, settings.policy))) or "default"

    return {
        f"effective_bandwidth_{name}_GBps": h.compressed.GBps,
        f"plain_bandwidth_{name}_GBps": h.best.GBps,
        f"plain_default_bandwidth_{name}_GBps": h.default_plain.GBps,
        f"gain_{name}": h.gain,
        f"gain_{name}_half_width_pct": 100 * h.half_width,
        f"default_gain_{name}": h.default_gain,
        f"default_resource_{name}": h.default_resource,
        f"bytes_saved_{name}": h.bytes_saved_ratio,
        f"resource_{name}": h.resource,
        f"plain_settings_{name}": said(h.best_settings),
        f"settings_{name}": said(h.settings),
        f"accesses_{name}": max(h.compressed.accesses, h.best.accesses),
    }


def _where_it_went(study: Study, sequential: Headline, random: Headline) -> dict[str, Any]:
    row: dict[str, Any] = {
        "atoms_per_line_sequential": results.atoms_per_line(sequential.run),
        "where_bandwidth_went": results.where_bandwidth_went(sequential.run),
        "line_buffer_hit_rate": results.line_buffer_hit_rate(sequential.run),
        "device_bandwidth_sequential_GBps": sequential.compressed.GBps * study.memory.channels_per_device,
        "atoms_per_line_random": results.atoms_per_line(random.run),
        "where_bandwidth_went_random": results.where_bandwidth_went(random.run),
        "metadata_hit_rate_random": results.metadata_hit_rate(random.run),
        "metadata_traffic_ratio_random": results.metadata_traffic_ratio(random.run),
    }
    for part, h in (("", sequential), ("random_", random)):
        row[f"energy_{part}pJ_per_useful_byte"] = results.energy_pJ_per_useful_byte(h.run)
        row[f"plain_energy_{part}pJ_per_useful_byte"] = h.plain.energy_pJ_per_byte
    row["phy_energy_pJ_per_useful_byte"] = results.phy_pJ_per_useful_byte(sequential.run)
    row["plain_phy_energy_pJ_per_useful_byte"] = sequential.plain.phy_pJ_per_byte
    return row


def _latency(study: Study, point: Point) -> dict[str, Any]:
    line_bytes = study.config.line_bytes
    interval_ns = line_bytes / (study.memory.peak_GBps * point.load_pct_peak / 100)
    compressed, plain = study.compressed(point.workload, interval_ns), study.plain(point.workload, interval_ns)
    row: dict[str, Any] = {}
    for prefix, run in (("", compressed), ("plain_", plain)):
        latency = results.Latency.of(run.read_latency_ns)
        row[f"{prefix}latency_mean_ns"] = latency.mean_ns
        row[f"{prefix}latency_p50_ns"] = latency.p50_ns
        row[f"{prefix}latency_p99_ns"] = latency.p99_ns
        row[f"{prefix}latency_p999_ns"] = latency.p999_ns
        row[f"{prefix}latency_histogram"] = list(latency.histogram)
    offered = line_bytes / interval_ns
    row["latency_histogram_ns"] = [*results.LATENCY_EDGES_NS, float("inf")]
    row["load_sustained"] = compressed.bandwidth_GBps >= 0.95 * offered
    row["plain_load_sustained"] = plain.bandwidth_GBps >= 0.95 * offered
    row["metadata_hit_rate"] = results.metadata_hit_rate(compressed)
    row["metadata_traffic_ratio"] = results.metadata_traffic_ratio(compressed)
    row["bytes_on_bus"] = compressed.memory.bus_bytes
    quiet = (study.compressed("random", study.idle_interval_ns), study.plain("random", study.idle_interval_ns))
    row["idle_latency_added_ns"] = float(quiet[0].read_latency_ns.mean() - quiet[1].read_latency_ns.mean())
    row["closed_form_latency_added_ns"] = study.closed_form_latency_added_ns()
    row["closed_form_metadata_hit_rate"] = study.closed_form_hit_rate()
    return row


def _dma(study: Study) -> dict[str, Any]:
    """Columns that mean something else behind a DMA engine: tiles instead of lines."""
    found = dma(study)
    plain_random = study.plain_rate("random").rate.GBps
    return {
        "effective_bandwidth_sequential_GBps": found.tiles_GBps,
        "plain_bandwidth_sequential_GBps": found.plain_tiles_GBps,
        "gain_sequential": found.tiles_GBps / found.plain_tiles_GBps,
        "effective_bandwidth_random_GBps": found.line_GBps,
        "gain_random": found.line_GBps / plain_random,
        "device_bandwidth_sequential_GBps": found.tiles_GBps * study.memory.channels_per_device,
        **{f"{prefix}latency_{name}_ns": None for prefix in ("", "plain_") for name in ("p50", "p99", "p999")},
        "latency_mean_ns": found.tile_latency_mean_ns,
        "plain_latency_mean_ns": found.plain_tile_latency_mean_ns,
        "closed_form_latency_added_ns": found.closed_form_tile_latency_ns - found.plain_tile_latency_mean_ns,
    }


def _reliability(study: Study, point: Point) -> dict[str, Any]:
    chosen = code(point.ecc_code)
    layout = study.subject.layout
    entry = layout.entry_bytes(study.config)
    words = max(1, study.lines * int(layout.length_bytes.sum()) // layout.length_bytes.shape[0] // chosen.data_bytes)
    faults = dict(FAULTS)
    if not entry:
        del faults["metadata"]
    outcome = inject(
        chosen,
        faults,
        granules=words,
        metadata_granules=layout.pages * max(entry, 1) // chosen.data_bytes,
        seed=study.seed,
    )
    totals = outcome.totals()
    _, lines_per_entry = study.metadata_unit()
    start, length = (np.concatenate(column) for column in zip(*layout.extents(), strict=True))
    radius = blast_radius(
        start,
        length,
        chosen,
        value_bytes=point.value_bytes,
        line_bytes=study.config.line_bytes,
        lines_per_metadata_entry=lines_per_entry if entry else 0,
    )
    return {
        "ecc_code": point.ecc_code,
        **{f"ecc_{name}": totals[name] for name in ("injected", "corrected", "detected", "miscorrected", "silent")},
        "blast_radius_values": radius.values if point.coded else radius.plain_values,
        "plain_blast_radius_values": radius.plain_values,
        "blast_radius_metadata_values": radius.metadata_values,
    }
