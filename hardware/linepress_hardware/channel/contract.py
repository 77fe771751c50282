"""The capacity contract: bytes that a memory compressed inline still accepts after an interrupt, in the worst case.

A threshold (90 %, 97 % of the chunks) interrupts the host; until it has reacted, writes go on. Every write that takes
a chunk brings the first SLVERR nearer, so the adversary takes most chunks a byte written:

*sparse*: one line into each page that nobody has mapped. The page is raw from its first line on, all its chunks.
*grow*: raw lines over compressed ones. A page takes a chunk once its inflation room passes the end of its last one;
pages whose last chunk is nearly full come first.
*fresh*: whole pages of raw lines, the most that a host which fills pages from their start can do.

Each has a closed form, and `attack` runs the same writes through the store. What a host kernel must reserve: the
chunks that its writes take, at the interrupt, until it has stopped them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import workloads
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import ChannelConfig
from linepress_hardware.channel.page_kernel import PAGE_PACKED, line_offset, packed_need
from linepress_hardware.errors import ConfigurationError

ATTACKS = ("sparse", "grow", "fresh")


@dataclass(frozen=True)
class Accepted:
    """One attack from one threshold.

    Attributes
    ----------
    attack : str
    threshold_ratio : float
        Chunks used over chunks at which the interrupt came.
    physical_bytes, free_bytes : int
        Data chunks, and those free at the interrupt.
    accepted_bytes, closed_form_bytes : int
        Bytes of the lines written before the first SLVERR: simulated, and in closed form.
    """

    attack: str
    threshold_ratio: float
    physical_bytes: int
    free_bytes: int
    accepted_bytes: int
    closed_form_bytes: int

    @property
    def free_per_byte(self) -> float:
        """Free physical bytes that the attack takes for each byte written: what the host reserves a byte."""
        return self.free_bytes / self.accepted_bytes if self.accepted_bytes else float("inf")

    def reserve_bytes(self, write_GBps: float, reaction_ns: float) -> float:
        """Free physical bytes that the host must hold back to react within ``reaction_ns`` under this attack."""
        return write_GBps * reaction_ns * self.free_per_byte


def attack(
    name: str,
    threshold_ratio: float,
    coded_bytes: NDArray[np.int32],
    classes: tuple[int, ...],
    physical_bytes: int,
    config: ChannelConfig,
    *,
    atom_bytes: int = 32,
    fixed_slot: int = 0,
) -> Accepted:
    """Fill a store with lines of these sizes (repeated as needed) up to a threshold, then write against it.

    ``physical_bytes`` are data chunks. Raises `ConfigurationError` for an unknown attack, a threshold outside 0 … 1,
    or one that the lines cannot reach.
    """
    if name not in ATTACKS:
        raise ConfigurationError(f"no attack {name!r}: known are {', '.join(ATTACKS)}")
    if not 0 < threshold_ratio < 1:
        raise ConfigurationError(f"a threshold of {threshold_ratio:g} of the chunks must lie between 0 and 1")
    per_page = config.page_bytes // config.line_bytes
    chunks = physical_bytes // config.chunk_bytes
    # A mapped page takes at least a chunk unless it is all zero; the attacks need as many unmapped ones besides.
    pages = 2 * chunks
    # A page whose metadata is evicted may be repacked, which gives chunks back; the worst case is without.
    settings = config.override({"metadata_cache_bytes": max(pages, 64) * config.metadata_entry_bytes})
    store = CompressedStore(
        np.zeros(pages * per_page, np.int32), classes, physical_bytes, settings, atom_bytes, fixed_slot, empty=True
    )
    mapped = _fill(store, coded_bytes, threshold_ratio * chunks)
    free = _free_chunks(store)
    closed, line = _closed_form(name, store, mapped, free)
    every = np.ones(line.shape[0], np.bool_)
    writes = workloads.stream(line, every)
    if name == "fresh":
        writes = replace(writes, append=every)
    plan = store.expand(writes, np.full(line.shape[0], config.line_bytes, np.int32))
    refused = np.flatnonzero(plan.failed)
    if not refused.size:
        raise ConfigurationError(f"the attack {name} ended before the memory of {physical_bytes} B refused a write")
    return Accepted(
        name,
        threshold_ratio,
        chunks * config.chunk_bytes,
        free * config.chunk_bytes,
        int(refused[0]) * config.line_bytes,
        closed * config.line_bytes,
    )


def _fill(store: CompressedStore, coded_bytes: NDArray[np.int32], used: float) -> int:
    """Map pages in order, a few at a time, until ``used`` chunks are taken; returns the pages mapped."""
    per_page = store.config.page_bytes // store.config.line_bytes
    page = 0
    while store.used_bytes < used * store.config.chunk_bytes:
        if page >= store.state.shape[0] // 2:
            raise ConfigurationError("these lines never reach the threshold: they are nearly all zero; give others")
        line = np.arange(page * per_page, (page + 1) * per_page, dtype=np.int64)
        every = np.ones(per_page, np.bool_)
        length = coded_bytes[line % coded_bytes.shape[0]]
        plan = store.expand(replace(workloads.stream(line, every), append=every), length)
        if plan.failed.any():
            raise ConfigurationError("these lines pass the threshold and the end at once; give a larger memory")
        page += 1
    return page


def _free_chunks(store: CompressedStore) -> int:
    return store.physical_chunks - store.used_bytes // store.config.chunk_bytes


def _closed_form(name: str, store: CompressedStore, mapped: int, free: int) -> tuple[int, NDArray[np.int64]]:
    """Lines accepted, and the lines to write in their order (with those that must be refused)."""
    config = store.config
    per_page = config.page_bytes // config.line_bytes
    most = config.page_bytes // config.chunk_bytes
    fits = free // most
    if name == "sparse":
        line = (mapped + np.arange(fits + 1, dtype=np.int64)) * per_page + 1
        return fits, line
    if name == "fresh":
        line = mapped * per_page + np.arange((fits + 1) * per_page, dtype=np.int64)
        # The page that finds no chunks is refused when it is sealed, or with its first line where nothing stages it.
        return fits * per_page + (per_page - 1 if config.staging_pages else 0), line
    cost, order = _growth(store, mapped)
    if cost.shape[0] <= free:
        raise ConfigurationError(
            f"growth alone cannot exhaust this memory: {cost.shape[0]} pages can take a chunk and {free} are free"
        )
    lines = [row[:n] for row, n in zip(order[: free + 1], cost[: free + 1], strict=True)]
    return int(cost[: free + 1].sum()) - 1, np.concatenate(lines)


def _growth(store: CompressedStore, mapped: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Raw lines that make each growing page take a chunk, int64[p], cheapest first, and those lines, int64[p, page].

    A raw page cannot grow, nor one that a rewrite would make smaller on the way.
    """
    per_page = store.config.page_bytes // store.config.line_bytes
    cost, lines = [], []
    for page in range(mapped):
        if store.state[page] != PAGE_PACKED:
            continue
        held = store.sizes[store.slot_class[page]]
        small = np.flatnonzero(held <= store.fixed_slot if store.fixed_slot else held < store.config.line_bytes)
        needed = _lines_to_grow(store, page, small)
        if needed:
            cost.append(needed)
            lines.append(page * per_page + np.resize(small, per_page))
    order = np.argsort(np.array(cost, np.int64), kind="stable")
    return np.array(cost, np.int64)[order], np.array(lines, np.int64).reshape(-1, per_page)[order]


def _lines_to_grow(store: CompressedStore, page: int, small: NDArray[np.int64]) -> int:
    """Which of the raw lines over ``small``, in their order, makes the page take a chunk; 0 for none."""
    config, rule, slot = store.config, store.rule_bytes, store.fixed_slot
    most, chunk = config.page_bytes // config.chunk_bytes, config.chunk_bytes
    have = int(store.n_chunks[page])
    row = store.actual[page].copy()
    end = -(-int(line_offset(store.slot_class[page], store.sizes, rule, slot, -1)) // rule) * rule
    room = int((store.inflated[page] >= 0).sum())
    for count, k in enumerate(small.tolist(), 1):
        row[k] = store.sizes.shape[0] - 1
        want = -(-(end + config.line_bytes * (room + 1)) // chunk)
        if room < config.inflation_lines and want < most:
            room += 1
            if want > have:
                return count
            continue
        need = int(packed_need(row, store.sizes, rule, slot, config.inflation_lines))
        want = most if need < 0 else min(most, -(-need // chunk))
        if want != have:
            return count if want > have else 0
        # Rewritten in the chunks it has: everything in place, the inflation room empty but for exceptions of a slot.
        end = -(-int(line_offset(row, store.sizes, rule, slot, -1)) // rule) * rule
        room = int((store.sizes[row] > slot).sum()) if slot else 0
    return 0
