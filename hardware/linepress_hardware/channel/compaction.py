"""Memory compressed inline both ways: pages of chunks, lines that change size, inflation room, repacking, capacity.

A page of 4 KiB is up to 8 chunks of 512 B anywhere in memory (Compresso, MICRO'18). In it the largest class comes
first, each class in line order, and a line starts on the next atom where it would otherwise touch more than
ceil(class / atom) atoms; behind them lies the inflation room, whole raw lines. With ``fixed_slot`` every line has a
slot of that size instead and exceptions take the inflation room (LCP, MICRO'13).

A write whose line still fits its place goes there. A larger line moves to the inflation room; when that is full, or
chunks run out within the page, the page is rewritten with current classes; a page that needs 8 chunks is left raw.
A fresh page (`LineStream.append`) collects in staging SRAM and is packed once, when its last line arrives. When the
metadata cache evicts a changed page that a rewrite would shrink by a chunk, the page is rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.compaction_kernel import expand_inline
from linepress_hardware.channel.config import ChannelConfig
from linepress_hardware.channel.metadata_cache import MetadataCache, warm
from linepress_hardware.channel.page_kernel import (
    C_CRITICAL,
    C_FREE,
    C_NAMES,
    C_WARN,
    PAGE_EMPTY,
    PAGE_PACKED,
    layout_bytes,
    page_places,
    populate,
)
from linepress_hardware.channel.plan import RequestBuffers, RequestPlan
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.errors import ConfigurationError


class CapacityError(ConfigurationError):
    """The lines do not fit in the physical memory; says how many bytes are missing."""


@dataclass
class CompressedStore:
    """State of the inline-compressed memory of one channel.

    Parameters
    ----------
    length_bytes : int32[lines]
        Coded bytes of each line at the start; rounded up to a class.
    classes : tuple[int, ...]
        Class sizes in bytes, ascending, the last one a raw line's.
    capacity_bytes : int
        Physical bytes for data (metadata lies behind).
    config : ChannelConfig
    atom_bytes : int
    fixed_slot : int
        0, or the slot size of every line.
    rule_bytes : int
        Atom of the placement rule; 0: that of the memory. A packing made for 32 B atoms keeps its layout on a memory
        of 64 B atoms.
    empty : bool
        Start with no page mapped: ``length_bytes`` then only says how many lines there are.

    Raises `CapacityError` where the lines do not fit at the start.
    """

    length_bytes: NDArray[np.int32]
    classes: tuple[int, ...]
    capacity_bytes: int
    config: ChannelConfig
    atom_bytes: int
    fixed_slot: int = 0
    empty: bool = False
    rule_bytes: int = 0
    sizes: NDArray[np.int64] = field(init=False)
    slot_class: NDArray[np.uint8] = field(init=False)
    actual: NDArray[np.uint8] = field(init=False)
    state: NDArray[np.uint8] = field(init=False)
    inflated: NDArray[np.int16] = field(init=False)
    chunks: NDArray[np.int32] = field(init=False)
    n_chunks: NDArray[np.int32] = field(init=False)
    written: NDArray[np.int32] = field(init=False)
    free: NDArray[np.int32] = field(init=False)
    cache: MetadataCache = field(init=False)
    counters: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        config, classes = self.config, self.classes
        if list(classes) != sorted(set(classes)) or not classes or classes[-1] != config.line_bytes or classes[0] < 0:
            raise ConfigurationError(
                f"line classes {classes} must be ascending sizes that end in {config.line_bytes} B"
            )
        if self.fixed_slot and self.fixed_slot not in classes:
            raise ConfigurationError(f"the slot of {self.fixed_slot} B must be one of the classes {classes}")
        if config.line_bytes % self.atom_bytes:
            raise ConfigurationError(
                f"the memory moves {self.atom_bytes} B at once, more than a line of {config.line_bytes} B, and each "
                "write would first read its neighbours; compress offline, or in lines of at least that size"
            )
        if config.chunk_bytes % self.atom_bytes:
            raise ConfigurationError(f"a chunk of {config.chunk_bytes} B is not whole atoms of {self.atom_bytes} B")
        if self.length_bytes.min(initial=0) < 0 or self.length_bytes.max(initial=0) > config.line_bytes + 1:
            raise ConfigurationError(f"coded lines must lie in 0 … {config.line_bytes} B; store longer ones raw")
        self.rule_bytes = self.rule_bytes or self.atom_bytes
        if config.page_bytes % self.rule_bytes:
            raise ConfigurationError(f"a placement rule of {self.rule_bytes} B does not divide a page")
        per_page = config.page_bytes // config.line_bytes
        n = self.length_bytes.shape[0]
        pages = -(-n // per_page)
        if n == 0:
            raise ConfigurationError("a store of no lines; give at least one")
        self.sizes = np.array(classes, dtype=np.int64)
        padded = np.zeros(pages * per_page, np.int32)
        padded[:n] = np.minimum(self.length_bytes, config.line_bytes)
        if self.empty:
            padded[:] = 0
        self.actual = np.searchsorted(self.sizes, padded).astype(np.uint8).reshape(pages, per_page)
        self.slot_class = self.actual.copy()
        self.state = np.full(pages, PAGE_EMPTY if self.empty else PAGE_PACKED, np.uint8)
        self.inflated = np.full((pages, max(1, config.inflation_lines)), -1, np.int16)
        most = config.page_bytes // config.chunk_bytes
        self.chunks = np.full((pages, most), -1, np.int32)
        self.n_chunks = np.zeros(pages, np.int32)
        self.written = np.full(pages, per_page, np.int32)
        total = self.capacity_bytes // config.chunk_bytes
        self.free = np.arange(total - 1, -1, -1, dtype=np.int32)
        self.cache = MetadataCache.of(config)
        self.counters = np.zeros(len(C_NAMES), np.int64)
        self.counters[C_FREE] = total
        self.counters[C_WARN] = self.counters[C_CRITICAL] = -1
        short = 0 if self.empty else populate(
            self.slot_class, self.actual, self.sizes, self.state, self.inflated, self.chunks, self.n_chunks,
            self.free, self.counters, self.rule_bytes, config.chunk_bytes, self.fixed_slot, config.inflation_lines,
        )  # fmt: skip
        if short:
            raise CapacityError(
                f"{n} lines need {short * config.chunk_bytes:,} B more than the {self.capacity_bytes:,} B of this "
                "memory; store fewer lines or give it more capacity"
            )

    @property
    def pages(self) -> int:
        return int(self.state.shape[0])

    @property
    def lines(self) -> int:
        return int(self.length_bytes.shape[0])

    @property
    def physical_chunks(self) -> int:
        return int(self.free.shape[0])

    @property
    def used_bytes(self) -> int:
        """Bytes of allocated chunks."""
        return (self.physical_chunks - int(self.counters[C_FREE])) * self.config.chunk_bytes

    @property
    def metadata_bytes(self) -> int:
        return self.pages * self.config.metadata_entry_bytes

    @property
    def capacity_ratio(self) -> float:
        """Raw bytes of the pages over allocated chunks and metadata."""
        return self.pages * self.config.page_bytes / (self.used_bytes + self.metadata_bytes)

    @property
    def metadata_base_bytes(self) -> int:
        entry = self.config.metadata_entry_bytes
        return -(-self.physical_chunks * self.config.chunk_bytes // entry) * entry

    def page_bytes_needed(self) -> NDArray[np.int64]:
        """int64[pages]: bytes of each page's lines at their current classes, without inflation."""
        needed: NDArray[np.int64] = layout_bytes(self.actual, self.sizes, self.rule_bytes, self.fixed_slot)
        return needed

    def placement(self, pages: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Start and length of the lines of the first pages as they lie now, one page behind the other."""
        count = min(pages, self.pages)
        start, length = page_places(
            self.slot_class[:count], self.state[:count], self.inflated[:count], self.sizes, self.rule_bytes,
            self.fixed_slot,
        )  # fmt: skip
        base = np.arange(count, dtype=np.int64)[:, None] * self.config.page_bytes
        return (start + base).reshape(-1), length.reshape(-1)

    def warm(self, accesses: LineStream) -> None:
        """Leave the metadata cache as these reads would."""
        warm(self.cache.tag, self.cache.stamp, accesses.line, self.config.page_bytes // self.config.line_bytes)

    def expand(self, accesses: LineStream, write_length: NDArray[np.int32]) -> RequestPlan:
        """Memory requests of ``accesses``, the state moving on.

        Parameters
        ----------
        accesses : LineStream
        write_length : int32[n]
            Coded bytes of the line that each write brings (0 for WriteZero); ignored for reads.

        A write that finds no free chunk is refused (`REFUSED_CAPACITY`) and leaves everything as it was. The plan's
        counters are those of this call, with ``warning_at`` and ``critical_at`` (access at which the threshold was
        first passed since the store was made, -1 never).
        """
        config = self.config
        n = len(accesses)
        if write_length.shape[0] != n:
            raise ConfigurationError(f"{n} accesses but {write_length.shape[0]} write lengths; give one each")
        before = self.counters.copy()
        slots = config.line_buffer_lines * config.line_bytes // self.atom_bytes
        per_page = config.page_bytes // config.line_bytes
        page_atoms = config.page_bytes // self.atom_bytes
        # Worst case: every access rewrites a few pages. Far less is touched, and untouched memory costs nothing.
        margin = 8 * page_atoms + 32
        most = margin + min(n * margin, n * 32 + 4_000_000)
        append = accesses.append if accesses.append is not None else np.zeros(n, np.bool_)
        length = np.where(accesses.zero, 0, np.minimum(write_length, config.line_bytes))
        new_class = np.searchsorted(self.sizes, length).astype(np.uint8)
        thresholds = (
            np.array([config.capacity_warning_ratio, config.capacity_critical_ratio], np.float64)
            * self.physical_chunks
        )
        buffers = RequestBuffers.of(most, n)
        m = expand_inline(
            accesses.line, accesses.is_write, accesses.partial, append, new_class, self.lines, per_page,
            self.slot_class, self.actual, self.sizes, self.state, self.inflated, self.chunks, self.n_chunks,
            self.written, self.free, self.counters, self.rule_bytes, self.atom_bytes, config.chunk_bytes,
            self.fixed_slot,
            config.inflation_lines, config.staging_pages, self.metadata_base_bytes, config.metadata_entry_bytes,
            self.cache.tag, self.cache.stamp, self.cache.dirty, self.cache.pending, self.cache.ahead,
            config.metadata_prefetch,
            np.full(slots, -1, np.int64), np.full(slots, -1, np.int64), np.full(slots, -1, np.int64), thresholds,
            *buffers.arrays(),
        )  # fmt: skip
        if m < 0:
            raise ConfigurationError(
                "the writes of this stream rewrite more pages than the buffers hold; split the stream into parts"
            )
        self.cache.pending.fill(-1)  # request numbers start anew in the next call
        moved = self.counters - before
        for k, name in enumerate(C_NAMES):
            if name in ("free_chunks", "warning_at", "critical_at"):
                moved[k] = self.counters[k]
        return buffers.plan(int(m), dict(zip(C_NAMES, moved.tolist(), strict=True)), config.line_bytes)
