"""Evaluation of one channel case: from a histogram of coded bits to a row of the ``channel`` table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import LinepressError
from linepress.stages.channel.case import ChannelCase
from linepress_codecs.packing import Classes, Packing, Slots, parse_packing, stored_bytes
from linepress_hardware.channel.config import ChannelConfig, default_config
from linepress_hardware.channel.evaluate import WORKLOADS, InlineSpec, Study, Subject
from linepress_hardware.channel.headline import Settings, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.placements import PLACEMENTS
from linepress_hardware.channel.row import Point, evaluate
from linepress_hardware.channel.translation import StaticLayout, plain_layout

TILE_LINES = 65_536
"""Lines of the sample that is placed and tiled over the footprint."""


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
    """Channel parameters for the case's lines, with the codec's card, what the memory keeps in flight, and the case's
    overrides."""
    config = default_config().of_lines(case.line_bytes)
    values: dict[str, float] = {
        "axi_outstanding": max(config.axi_outstanding, memory.outstanding or 0),
        "decode_latency_ns": case.decode_latency_ns,
        "encode_latency_ns": case.encode_latency_ns,
        "decode_interval_ns": case.decode_interval_ns,
    }
    values.update(dict(case.overrides))
    if values.get("line_bytes", case.line_bytes) != case.line_bytes:
        raise ChannelCaseError(
            f"line_bytes = {values['line_bytes']:g} does not go with sizes of {case.line_bytes} B lines; measure the "
            "codec with lines of that size"
        )
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
        layout = plain_layout(bits.shape[0], case.line_bytes)
        return Subject(layout, np.full(bits.shape[0], case.line_bytes, np.int32))
    line_bytes = case.line_bytes
    placed = packing.place(bits, line_bytes)
    pointer: NDArray[np.int64] | None = None
    if isinstance(packing, Slots):
        slot = packing.slot_for(bits, line_bytes)
        exception = stored_bytes(bits, line_bytes) > slot
        if slot < line_bytes and bool(exception.any()):
            # The slot of an exception holds where its raw line lies, so it must be read first.
            pointer = np.where(exception, np.arange(bits.shape[0], dtype=np.int64) * slot, -1)
    coded = stored_bytes(bits, line_bytes).astype(np.int32)
    layout = StaticLayout(
        placed.start_bytes,
        placed.length_bytes,
        max(placed.total_bytes, 1),
        bits.shape[0],
        float(placed.metadata_bytes_per_page),
        page_bytes=placed.page_bytes,
        raw=bits >= 8 * line_bytes,
        pointer_bytes=pointer,
        home_bytes=placed.home_bytes,
        rest_bytes=placed.rest_start_bytes,
        line_bytes=line_bytes,
    )
    inline: InlineSpec | None = None
    if mode == "inline":
        if isinstance(packing, Classes):
            inline = InlineSpec(packing.sizes_for(bits, line_bytes), rule_bytes=packing.atom)
        elif isinstance(packing, Slots):
            slot = packing.slot_for(bits, line_bytes)
            inline = InlineSpec((slot, line_bytes) if slot < line_bytes else (line_bytes,), slot)
    return Subject(layout, coded, inline)


def chosen_settings(case: ChannelCase) -> Settings | None:
    """The mapping and policy that the case names; None where it leaves both to the recorded search."""
    return Settings(case.mapping, case.policy) if case.mapping or case.policy else None


def prepare(case: ChannelCase) -> tuple[Packing | None, NDArray[np.uint16], Study]:
    """The case checked: its packing, the coded bits of the tile, and the study over its memory.

    The memory has the settings under which the plain channel is fastest at the named workload, unless the case names
    its own.
    """
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
    found = None if chosen else plain_at_best(Memory.load(case.memory).name, case.workload, case.line_bytes)
    settings = chosen or (found.settings if found else Settings())
    memory = Memory.load(case.memory, settings.mapping, settings.policy)
    if case.placement == "sram" and memory.kind != "sram":
        raise ChannelCaseError(f"placement sram needs an SRAM, {memory.name} is {memory.kind}; give memory sram")
    config = configuration(case, memory)
    placed = subject(case, bits, packing, mode)
    study = Study(memory, config, placed, case.n_requests, case.seed, case.within_pct / 100)
    return packing, bits, study


def capacity(case: ChannelCase, bits: NDArray[np.uint16], packing: Packing | None, study: Study) -> dict[str, Any]:
    """Bytes of all lines of the histogram, scaled from the tile; tables counted once."""
    lines = int(sum(case.bits_histogram))
    line_bytes = case.line_bytes
    raw = lines * line_bytes
    length = study.subject.layout.length_bytes
    if packing is None:
        packed = raw
        closed = 1.0
    else:
        cost = packing.cost(bits, 0, line_bytes)
        tile_bytes: float = cost.packed_bytes
        if study.inline:
            store = study.store()
            tile_bytes = (store.used_bytes + store.metadata_bytes) * bits.shape[0] / store.lines
        packed = round(tile_bytes * lines / bits.shape[0]) + case.table_bytes
        metadata = study.subject.layout.metadata_bytes_per_page / study.subject.layout.lines_per_page
        if study.inline:
            # Whole chunks a page, and an entry of metadata.
            config = study.config
            pages = np.ceil(
                study.store().page_bytes_needed()[: TILE_LINES * line_bytes // config.page_bytes] / config.chunk_bytes
            )
            data = float(np.minimum(pages, config.page_bytes // config.chunk_bytes).mean()) * config.chunk_bytes
            metadata = config.metadata_entry_bytes * line_bytes / config.page_bytes
            closed = line_bytes / (data * line_bytes / config.page_bytes + metadata + case.table_bytes / lines)
        else:
            closed = line_bytes / (float(length.mean()) + metadata + case.table_bytes / lines)
    return {
        "raw_bytes": raw,
        "packed_bytes": packed,
        "effective_capacity_ratio": raw / packed,
        "closed_form_capacity_ratio": closed,
    }


def channel_case(case: ChannelCase) -> dict[str, Any]:
    """A row of the table ``channel``: `ChannelCase.identity`, `capacity` and `linepress_hardware.channel.row`.

    Raises `HardwareError`, `CodecError` or `LinepressError` with one sentence for a case that means nothing.
    """
    packing, bits, study = prepare(case)
    stored = capacity(case, bits, packing, study)
    point = Point(
        case.workload,
        stored["packed_bytes"] / sum(case.bits_histogram),
        case.load_pct_peak,
        chosen_settings(case),
        coded=packing is not None,
        behind_dma=case.placement == "dma",
        ecc_code=case.ecc_code,
        value_bytes=case.value_bytes,
    )
    spec = "off" if packing is None else packing.spec
    return {**case.identity(), "packing": spec, **stored, **evaluate(study, point)}
