"""Capacity that is promised before it is known: thresholds, and where it ends.

The device advertises `over_subscription_ratio` × physical bytes (CXL and OCP tiered-memory practice: an address space
larger than the memory, interrupts at thresholds, an error when a write finds no room). The host here fills fresh
pages in order until the first write is refused or everything advertised is full.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import workloads
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import ChannelConfig
from linepress_hardware.channel.page_kernel import layout_bytes
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class CapacityReport:
    """Raw bytes at which each event came; None for one that did not.

    Attributes
    ----------
    physical_bytes : int
        Chunks and metadata together.
    advertised_bytes : int
    warning_at_bytes, critical_at_bytes : int | None
        Raw bytes written when the threshold was first reached.
    refused_at_bytes : int | None
        Raw bytes written when the first write was refused (SLVERR at the port).
    held_bytes : int
        Raw bytes held at the end.
    effective_ratio : float
        held / physical.
    closed_form_held_bytes : int
        Pages whose chunks, added up in order, fit.
    """

    physical_bytes: int
    advertised_bytes: int
    warning_at_bytes: int | None
    critical_at_bytes: int | None
    refused_at_bytes: int | None
    held_bytes: int
    effective_ratio: float
    closed_form_held_bytes: int


def fill(
    coded_bytes: NDArray[np.int32],
    classes: tuple[int, ...],
    physical_bytes: int,
    config: ChannelConfig,
    *,
    atom_bytes: int = 32,
    fixed_slot: int = 0,
) -> CapacityReport:
    """Fill a device with lines of these sizes (repeated as needed) until it refuses or is full."""
    per_page = config.page_bytes // config.line_bytes
    advertised_pages = max(1, int(physical_bytes * config.over_subscription_ratio) // config.page_bytes)
    lines = advertised_pages * per_page
    chunk_bytes = physical_bytes - advertised_pages * config.metadata_entry_bytes
    if chunk_bytes < config.chunk_bytes:
        raise ConfigurationError(
            f"{physical_bytes} B of memory hold no data beside {advertised_pages} metadata entries; give more"
        )
    store = CompressedStore(
        np.zeros(lines, np.int32), classes, chunk_bytes, config, atom_bytes, fixed_slot, empty=True
    )
    line = np.arange(lines, dtype=np.int64)
    every = np.ones(lines, np.bool_)
    writes = replace(workloads.stream(line, every), append=every)
    length = coded_bytes[line % coded_bytes.shape[0]]
    plan = store.expand(writes, length)
    refused = np.flatnonzero(plan.failed)
    held_pages = advertised_pages if not refused.size else int(line[refused[0]]) // per_page

    def at(name: str) -> int | None:
        access = plan.counters[name]
        return None if access < 0 else (access + 1) * config.line_bytes

    sizes = np.array(classes, np.int64)
    actual = np.searchsorted(sizes, np.minimum(length, config.line_bytes)).astype(np.uint8).reshape(-1, per_page)
    most = config.page_bytes // config.chunk_bytes
    need = layout_bytes(actual, sizes, atom_bytes, fixed_slot)
    if fixed_slot:
        exceptions = (sizes[actual] > fixed_slot).sum(axis=1)
        padded = -(-need // atom_bytes) * atom_bytes + config.line_bytes * exceptions
        need = np.where(exceptions > config.inflation_lines, config.page_bytes, np.where(exceptions, padded, need))
    chunks = np.minimum(-(-need // config.chunk_bytes), most)
    closed = int(np.searchsorted(np.cumsum(chunks), store.physical_chunks, side="right"))
    return CapacityReport(
        physical_bytes=physical_bytes,
        advertised_bytes=advertised_pages * config.page_bytes,
        warning_at_bytes=at("warning_at"),
        critical_at_bytes=at("critical_at"),
        refused_at_bytes=int(refused[0]) * config.line_bytes if refused.size else None,
        held_bytes=held_pages * config.page_bytes,
        effective_ratio=held_pages * config.page_bytes / physical_bytes,
        closed_form_held_bytes=min(closed, advertised_pages) * config.page_bytes,
    )
