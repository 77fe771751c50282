"""Evaluation of one channel case: from a histogram of coded bits to a row of the ``channel`` table."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import LinepressError
from linepress.stages.channel.case import ChannelCase
from linepress_codecs.packing import Classes, Packing, Slots, parse_packing, stored_bytes
from linepress_hardware.channel import closed_form, results
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig, default_config
from linepress_hardware.channel.ecc import code
from linepress_hardware.channel.evaluate import WORKLOADS, InlineSpec, Study, Subject
from linepress_hardware.channel.faults import blast_radius, inject
from linepress_hardware.channel.headline import Headline, Settings, headline, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.placements import PLACEMENTS, dma
from linepress_hardware.channel.translation import StaticLayout, plain_layout

TILE_LINES = 65_536
"""Lines of the sample that is placed and tiled over the footprint: 4 MiB."""

FAULTS = {"bit": 1000, "double_bit": 500, "burst": 500, "row": 20, "metadata": 200}
"""Faults injected per case."""


class ChannelCaseError(LinepressError):
    """A case that means nothing: no lines, an unknown workload, writes into a packing that cannot take them."""


def spread(histogram: tuple[int, ...] | NDArray[np.int64], n: int, seed: int) -> NDArray[np.uint16]:
    """``n`` coded sizes in bits in the histogram's proportions (largest remainders), in seeded order, uint16[n]."""
    counts = np.asarray(histogram, dtype=np.int64)
    total = int(counts.sum())
    if counts.ndim != 1 or total <= 0 or int(counts.min(initial=0)) < 0:
        raise ChannelCaseError("the histogram of coded bits counts no line; give counts of 0 or more by coded bits")
    if counts.shape[0] > 65_536:
        raise ChannelCaseError(
            f"the histogram reaches {counts.shape[0] - 1} bits a line; entry b counts lines of b bits"
        )
    share = counts * (n / total)
    whole = np.floor(share).astype(np.int64)
    short = n - int(whole.sum())
    whole[np.argsort(-(share - whole), kind="stable")[:short]] += 1
    bits = np.repeat(np.arange(counts.shape[0]), whole).astype(np.uint16)
    np.random.Generator(np.random.PCG64(seed)).shuffle(bits)
    return bits


def configuration(case: ChannelCase, memory: Memory) -> ChannelConfig:
    """Channel parameters with the codec's card, what the memory keeps in flight, and the case's overrides."""
    config = default_config()
    values: dict[str, float] = {
        "axi_outstanding": max(config.axi_outstanding, memory.outstanding or 0),
        "decode_latency_ns": case.decode_latency_ns,
        "encode_latency_ns": case.encode_latency_ns,
        "decode_interval_ns": case.decode_interval_ns,
    }
    values.update(dict(case.overrides))
    return config.override(values)


def mode_of(case: ChannelCase, packing: Packing | None) -> str:
    """``offline`` or ``inline``; ``auto`` takes inline for KV where the packing can take writes."""
    if case.mode not in ("auto", "offline", "inline"):
        raise ChannelCaseError(f"mode {case.mode!r} is not one of auto, offline, inline")
    takes_writes = isinstance(packing, Classes | Slots)
    if case.mode == "inline" and packing is not None and not takes_writes:
        raise ChannelCaseError(
            f"packing {packing} leaves no room for a line that changes its size; inline writes need classes or slots"
        )
    if case.mode == "auto":
        return "inline" if case.data.startswith("kv") and takes_writes else "offline"
    return case.mode


def subject(case: ChannelCase, bits: NDArray[np.uint16], packing: Packing | None, mode: str) -> Subject:
    """The placed tile as plain arrays for the hardware model."""
    if packing is None:
        layout = plain_layout(bits.shape[0])
        return Subject(layout, np.full(bits.shape[0], LINE_BYTES, np.int32))
    placed = packing.place(bits)
    pointer: NDArray[np.int64] | None = None
    if isinstance(packing, Slots):
        slot = packing.slot_for(bits)
        exception = stored_bytes(bits, LINE_BYTES) > slot
        if slot < LINE_BYTES and bool(exception.any()):
            # The slot of an exception holds where its raw line lies, so it must be read first.
            pointer = np.where(exception, np.arange(bits.shape[0], dtype=np.int64) * slot, -1)
    coded = stored_bytes(bits, LINE_BYTES).astype(np.int32)
    layout = StaticLayout(
        placed.start_bytes,
        placed.length_bytes,
        max(placed.total_bytes, 1),
        bits.shape[0],
        float(placed.metadata_bytes_per_page),
        page_bytes=placed.page_bytes,
        raw=bits >= 8 * LINE_BYTES,
        pointer_bytes=pointer,
        home_bytes=placed.home_bytes,
        rest_bytes=placed.rest_start_bytes,
    )
    inline: InlineSpec | None = None
    if mode == "inline":
        if isinstance(packing, Classes):
            inline = InlineSpec(packing.sizes_for(bits), rule_bytes=packing.atom)
        elif isinstance(packing, Slots):
            slot = packing.slot_for(bits)
            inline = InlineSpec((slot, LINE_BYTES) if slot < LINE_BYTES else (LINE_BYTES,), slot)
    return Subject(layout, coded, inline)


def evaluate(case: ChannelCase) -> dict[str, Any]:
    """One row of the ``channel`` table; see `linepress.stages.channel.case.CHANNEL_COLUMNS`."""
    packing, bits, study = prepare(case)
    row = _identity(case, packing, study)
    row.update(capacity(case, bits, packing, study))
    row.update(_bandwidth(case, study, float(row["packed_bytes"]) / float(row["lines"])))
    row.update(_latency(case, study))
    if case.placement == "dma":
        row.update(_dma(study))
    row.update(_reliability(case, study))
    return row


def chosen_settings(case: ChannelCase) -> Settings | None:
    """The mapping and policy that the case names; None where it leaves both to the recorded search."""
    return Settings(case.mapping, case.policy) if case.mapping or case.policy else None


def prepare(case: ChannelCase) -> tuple[Packing | None, NDArray[np.uint16], Study]:
    """The case checked: its packing, the coded bits of the tile, and the study over its memory.

    The memory has the settings under which the plain channel is fastest at the named workload, unless the case names
    its own.
    """
    if case.line_bytes != LINE_BYTES:
        raise ChannelCaseError(
            f"the channel serves lines of {LINE_BYTES} B, not {case.line_bytes}; measure with 64 B lines"
        )
    if case.workload not in WORKLOADS:
        raise ChannelCaseError(f"unknown workload {case.workload!r}: known are {', '.join(WORKLOADS)}")
    if not 0 < case.load_pct_peak <= 1000:
        raise ChannelCaseError(f"load_pct_peak = {case.load_pct_peak:g} must be above 0 %")
    if case.placement not in PLACEMENTS:
        raise ChannelCaseError(f"placement {case.placement!r} is not one of {', '.join(PLACEMENTS)}")
    packing = None if case.packing == "off" else parse_packing(case.packing)
    bits = spread(case.bits_histogram, TILE_LINES, case.seed)
    mode = mode_of(case, packing)
    chosen = chosen_settings(case)
    found = None if chosen else plain_at_best(Memory.load(case.memory).name, case.workload)
    settings = chosen or (found.settings if found else Settings())
    memory = Memory.load(case.memory, settings.mapping, settings.policy)
    if case.placement == "sram" and memory.kind != "sram":
        raise ChannelCaseError(f"placement sram needs an SRAM, {memory.name} is {memory.kind}; give memory sram")
    config = configuration(case, memory)
    placed = subject(case, bits, packing, mode)
    study = Study(memory, config, placed, case.n_requests, case.seed, case.within_pct / 100)
    return packing, bits, study


def _identity(case: ChannelCase, packing: Packing | None, study: Study) -> dict[str, Any]:
    m = study.memory
    return {
        "workload": case.workload,
        "memory": m.name,
        "mapping": study.memory.mapping or "",
        "policy": study.memory.policy or "",
        "packing": "off" if packing is None else packing.spec,
        "codec": case.codec,
        "data": case.data,
        "placement": case.placement,
        "mode": study.subject.mode,
        "line_bytes": case.line_bytes,
        "lines": int(sum(case.bits_histogram)),
        "n_requests": case.n_requests,
        "seed": case.seed,
        "load_pct_peak": case.load_pct_peak,
        "peak_GBps": m.peak_GBps,
        "atom_bytes": m.atom_bytes,
        "channels_per_device": m.channels_per_device,
        "decoders": study.config.decoder_count,
        "decode_latency_ns": study.config.decode_latency_ns,
        "encode_latency_ns": study.config.encode_latency_ns,
        "decode_interval_ns": study.config.decode_interval_ns,
    }


def capacity(case: ChannelCase, bits: NDArray[np.uint16], packing: Packing | None, study: Study) -> dict[str, Any]:
    """Bytes of all lines of the histogram, scaled from the tile; tables counted once."""
    lines = int(sum(case.bits_histogram))
    raw = lines * LINE_BYTES
    length = study.subject.layout.length_bytes
    if packing is None:
        packed = raw
        closed = 1.0
    else:
        cost = packing.cost(bits, 0)
        tile_bytes: float = cost.packed_bytes
        if study.inline:
            store = study.store()
            tile_bytes = (store.used_bytes + store.metadata_bytes) * bits.shape[0] / store.lines
        packed = round(tile_bytes * lines / bits.shape[0]) + case.table_bytes
        metadata = study.subject.layout.metadata_bytes_per_page / study.subject.layout.lines_per_page
        if study.inline:
            # Whole chunks a page, and a 64 B entry of metadata.
            config = study.config
            pages = np.ceil(study.store().page_bytes_needed()[: TILE_LINES // 64] / config.chunk_bytes)
            data = float(np.minimum(pages, config.page_bytes // config.chunk_bytes).mean()) * config.chunk_bytes
            metadata = config.metadata_entry_bytes * LINE_BYTES / config.page_bytes
            closed = LINE_BYTES / (data * LINE_BYTES / config.page_bytes + metadata + case.table_bytes / lines)
        else:
            closed = LINE_BYTES / (float(length.mean()) + metadata + case.table_bytes / lines)
    return {
        "raw_bytes": raw,
        "packed_bytes": packed,
        "effective_capacity_ratio": raw / packed,
        "closed_form_capacity_ratio": closed,
    }


def _bandwidth(case: ChannelCase, study: Study, packed_bytes_per_line: float) -> dict[str, Any]:
    """Converged headlines of the three patterns and of the named workload."""

    def study_at(settings: Settings) -> Study:
        return replace(study, memory=Memory.load(case.memory, settings.mapping, settings.policy))

    named = {name: name for name in ("sequential", "random", "mixed")} | {"workload": case.workload}
    measured = {w: headline(study_at, w, chosen_settings(case)) for w in dict.fromkeys(named.values())}
    closed = study_at(measured["random"].settings).closed_form(
        packed_bytes_per_line, measured["sequential"].best.GBps, measured["random"].best.GBps
    )
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


def _latency(case: ChannelCase, study: Study) -> dict[str, Any]:
    interval_ns = LINE_BYTES / (study.memory.peak_GBps * case.load_pct_peak / 100)
    compressed, plain = study.compressed(case.workload, interval_ns), study.plain(case.workload, interval_ns)
    row: dict[str, Any] = {}
    for prefix, run in (("", compressed), ("plain_", plain)):
        latency = results.Latency.of(run.read_latency_ns)
        row[f"{prefix}latency_mean_ns"] = latency.mean_ns
        row[f"{prefix}latency_p50_ns"] = latency.p50_ns
        row[f"{prefix}latency_p99_ns"] = latency.p99_ns
        row[f"{prefix}latency_p999_ns"] = latency.p999_ns
        row[f"{prefix}latency_histogram"] = list(latency.histogram)
    offered = LINE_BYTES / interval_ns
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


def _reliability(case: ChannelCase, study: Study) -> dict[str, Any]:
    chosen = code(case.ecc_code)
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
        seed=case.seed,
    )
    totals = outcome.totals()
    _, lines_per_entry = study.metadata_unit()
    start, length = (np.concatenate(column) for column in zip(*layout.extents(), strict=True))
    radius = blast_radius(
        start,
        length,
        chosen,
        value_bytes=case.value_bytes,
        lines_per_metadata_entry=lines_per_entry if entry else 0,
    )
    return {
        "ecc_code": case.ecc_code,
        **{f"ecc_{name}": totals[name] for name in ("injected", "corrected", "detected", "miscorrected", "silent")},
        "blast_radius_values": radius.values if case.packing != "off" else radius.plain_values,
        "plain_blast_radius_values": radius.plain_values,
        "blast_radius_metadata_values": radius.metadata_values,
    }


def channel_case(case: ChannelCase) -> list[dict[str, Any]]:
    """Rows of the ``channel`` table for one case; columns as in `CHANNEL_COLUMNS`.

    Raises `HardwareError`, `CodecError` or `LinepressError` with one sentence for a case that means nothing.
    """
    return [evaluate(case)]
