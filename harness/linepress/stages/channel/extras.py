"""What ``linepress channel`` can add to a case: sweeps, load curves, block codecs, capacity, and recorded traces."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.row import prepare
from linepress_codecs.packing import stored_bytes
from linepress_hardware.channel import results, sweeps
from linepress_hardware.channel.block_baseline import BlockCodec, block_baseline
from linepress_hardware.channel.capacity import fill
from linepress_hardware.channel.contract import ATTACKS, attack
from linepress_hardware.channel.ecc import code
from linepress_hardware.channel.evaluate import InlineSpec, Study
from linepress_hardware.channel.fault_study import as_rows, fault_study
from linepress_hardware.channel.interleave import GRANULES_BYTES, interleaved
from linepress_hardware.channel.leakage import leakage, padding_price
from linepress_hardware.channel.row import FAULTS
from linepress_hardware.channel.workloads import trace_stream
from linepress_hardware.errors import ConfigurationError

FILL_BYTES = 16 << 20
"""Physical bytes of the device that the capacity run fills."""
BLOCKS = (65536, 4096)
TIMED_READS = 40_000
"""Lone reads whose latency an observer of time sees."""
LEAK_BITS = (0.1, 0.0)
"""Bits a line that padding may leave, for its price."""


def sweep_rows(case: ChannelCase, parameter: str) -> list[dict[str, Any]]:
    """The case at each value of one parameter of `sweeps.DEFAULT_SWEEPS`."""
    values = sweeps.DEFAULT_SWEEPS.get(parameter)
    if values is None:
        raise ConfigurationError(f"no sweep of {parameter!r}: known are {', '.join(sweeps.DEFAULT_SWEEPS)}")
    _, _, study = prepare(case)
    return sweeps.sweep(study, parameter, values)


def load_rows(case: ChannelCase) -> list[dict[str, Any]]:
    """Latency against load for the case's workload."""
    _, _, study = prepare(case)
    return sweeps.load_curve(study, case.workload)


def block_rows(case: ChannelCase) -> list[dict[str, Any]]:
    """A 64 KiB and a 4 KiB block codec on the case's memory, beside the line engine's idle read."""
    _, _, study = prepare(case)
    rows = []
    for block_bytes in BLOCKS:
        found = block_baseline(study.memory, BlockCodec.default(block_bytes), study.config, seed=case.seed)
        rows.append({"block_bytes": block_bytes, **asdict(found)})
    return rows


def interleave_rows(case: ChannelCase) -> list[dict[str, Any]]:
    """Random pages on a device of several channels, by the granule of its interleaving."""
    _, _, study = prepare(case)
    return [asdict(interleaved(study, granule, case.load_pct_peak)) for granule in GRANULES_BYTES]


def capacity_row(case: ChannelCase) -> dict[str, Any]:
    """Fill an over-subscribed device with lines of the case; classes of four sizes where its packing has none."""
    spec, coded, study = _written(case)
    found = fill(
        coded,
        spec.classes,
        FILL_BYTES,
        study.config,
        atom_bytes=study.memory.atom_bytes,
        fixed_slot=spec.fixed_slot,
    )
    return {"classes": "/".join(map(str, spec.classes)), **asdict(found)}


def contract_rows(case: ChannelCase) -> list[dict[str, Any]]:
    """What the same device accepts after each interrupt under each attack, and what the host reserves a byte."""
    spec, coded, study = _written(case)
    rows = []
    for threshold in (study.config.capacity_warning_ratio, study.config.capacity_critical_ratio):
        for name in ATTACKS:
            try:
                found = attack(
                    name,
                    threshold,
                    coded,
                    spec.classes,
                    FILL_BYTES,
                    study.config,
                    atom_bytes=study.memory.atom_bytes,
                    fixed_slot=spec.fixed_slot,
                )
            except ConfigurationError as error:
                rows.append({"attack": name, "threshold_ratio": threshold, "note": str(error)})
                continue
            rows.append({**asdict(found), "reserve_per_byte": found.free_per_byte})
    # A table has one set of columns; an attack that cannot end has no figures.
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def leakage_row(case: ChannelCase) -> dict[str, Any]:
    """Bits a line that an observer of sizes, atoms or time learns under the case's packing; the price of padding."""
    packing, bits, study = prepare(case)
    atoms, pointer = study.atoms_alone(), study.subject.layout.pointer_bytes
    if pointer is not None and not study.inline:
        atoms = atoms + (pointer >= 0)
    # The plain layout repeats sooner than the tile of sizes.
    stored = np.resize(study.places()[1], bits.shape)
    quiet = replace(study, n=TIMED_READS).compressed("random", study.idle_interval_ns)
    timed = bits.astype(np.int64)[quiet.accesses.line % bits.shape[0]]
    clocks = np.rint(quiet.read_latency_ns / study.config.axi_clock_ns).astype(np.int64)
    # Reads that a refresh held up may take any time; they say little and count as one.
    clocks = np.minimum(clocks, np.int64(np.quantile(clocks, 0.9)))
    found = leakage(bits.astype(np.int64), stored, np.resize(atoms, bits.shape), timed, clocks)
    row: dict[str, Any] = {"packing": "off" if packing is None else packing.spec, **asdict(found)}
    for most in LEAK_BITS:
        slot, leak, capacity = padding_price(stored_bytes(bits, case.line_bytes), most, case.line_bytes)
        row[f"padded_to_{most:g}_bit"] = f"slot {slot} B: {leak:.3f} bit, capacity {capacity:.3f}"
    return row


def _written(case: ChannelCase) -> tuple[InlineSpec, NDArray[np.int32], Study]:
    """The case as a store that is written: its classes or slot, coded bytes of its lines, and the study."""
    _, bits, study = prepare(case)
    spec = study.subject.inline
    if spec is None:
        from linepress_codecs.packing import Classes

        spec = InlineSpec(Classes(set=()).sizes_for(bits, case.line_bytes))
    return spec, stored_bytes(bits, case.line_bytes).astype(np.int32), study


def fault_rows(case: ChannelCase) -> list[dict[str, Any]]:
    """Every line of a damaged sample read through the port, compressed and plain."""
    _, _, study = prepare(case)
    found = fault_study(study, code(case.ecc_code), FAULTS, value_bytes=case.value_bytes, seed=case.seed)
    return as_rows(found)


def trace_row(case: ChannelCase, path: Path) -> dict[str, Any]:
    """A recorded trace through the case's channel and the plain one, as fast as the port takes it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    _, _, study = prepare(case)
    stream = trace_stream(raw, study.config.axi_ids, case.line_bytes)
    outside = int((stream.line >= study.lines).sum())
    if outside:
        raise ConfigurationError(
            f"{path}: {outside} of {len(stream)} accesses lie outside the footprint of "
            f"{study.lines * case.line_bytes:,} B; raise it with --set footprint_bytes=…"
        )
    compressed, plain = study.over(stream), study.plain_over(stream)
    latency, before = results.Latency.of(compressed.read_latency_ns), results.Latency.of(plain.read_latency_ns)
    return {
        "accesses": len(stream),
        "writes": int(stream.is_write.sum()),
        "refused": int((~compressed.served).sum()),
        "effective_bandwidth_GBps": compressed.bandwidth_GBps,
        "plain_bandwidth_GBps": plain.bandwidth_GBps,
        "gain": compressed.bandwidth_GBps / plain.bandwidth_GBps,
        "latency_mean_ns": latency.mean_ns,
        "latency_p99_ns": latency.p99_ns,
        "plain_latency_mean_ns": before.mean_ns,
        "plain_latency_p99_ns": before.p99_ns,
        "metadata_hit_rate": results.metadata_hit_rate(compressed),
        "overflows": compressed.plan.counters.get("overflows", 0),
    }
