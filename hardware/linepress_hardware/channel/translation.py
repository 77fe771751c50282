"""Read-only compressed memory: lines placed offline, found through per-page metadata and a metadata cache.

Physical layout: the data of all lines from address 0, one tile after another, then the metadata of all pages. A
*tile* is the placement of a sample of lines; tiling it gives footprints of gigabytes from a few megabytes of arrays.
The plain channel is the same translation with raw lines in place, no metadata and, unless a memory moves more than a
line at once, no line buffer. A layout whose
pages carry their metadata themselves (`StaticLayout.header_bytes`) reads it from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig
from linepress_hardware.channel.metadata_cache import MetadataCache, holds, lookup, victim, warm
from linepress_hardware.channel.plan import RequestBuffers, RequestPlan
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.errors import ConfigurationError

HIDDEN_SEED = 7
"""Which accesses find their metadata in the page walk, where only the share is published."""


@dataclass(frozen=True)
class StaticLayout:
    """Where lines lie when they were compressed once.

    Attributes
    ----------
    start_bytes : int64[t]
        Byte offset of each line of a tile.
    length_bytes : int32[t]
        Coded bytes of each line; 0 for the zero class.
    tile_bytes : int
        Bytes of a tile, data only.
    lines : int
        Logical lines of the footprint.
    metadata_bytes_per_page : float
        Metadata of one page; 0 for none. A cache entry holds the metadata of as many pages as fit whole, or one page
        takes several entries; entries are fetched whole.
    page_bytes : int
    raw : bool[t] | None
        Lines stored raw, which may bypass the decoder; None: those of ``line_bytes``.
    pointer_bytes : int64[t] | None
        Offset of what must be read first to learn where the line lies (the slot of an exception), -1 for a line
        found without; None: no line needs it.
    home_bytes : int
        Where not 0: a line has so many bytes at its start, found without metadata, and the rest at ``rest_bytes``.
    rest_bytes : int64[t] | None
        Offset of the rest of each line.
    header_bytes : int64[pages of a tile] | None
        Offset of each page's metadata in the tile, -1 for a page that needs none; None: all of it lies behind the
        data.
    hidden_share : float
        Share of the metadata misses that cost no read, since the page walk brought the entry.
    most_bytes : int
        Most bytes that are read for one line: a block's, where lines are coded together; 0 for a line and 2 bytes.
        Bit granules put a line of up to 64 B into 65 bytes of memory; a raw line in a pair keeps its header.
    line_bytes : int
    """

    start_bytes: NDArray[np.int64]
    length_bytes: NDArray[np.int32]
    tile_bytes: int
    lines: int
    metadata_bytes_per_page: float
    page_bytes: int = 4096
    raw: NDArray[np.bool_] | None = None
    pointer_bytes: NDArray[np.int64] | None = None
    home_bytes: int = 0
    rest_bytes: NDArray[np.int64] | None = None
    header_bytes: NDArray[np.int64] | None = None
    hidden_share: float = 0.0
    most_bytes: int = 0
    line_bytes: int = LINE_BYTES

    def __post_init__(self) -> None:
        start, length = self.start_bytes, self.length_bytes
        if start.shape != length.shape or start.ndim != 1 or not start.size:
            raise ConfigurationError("a layout needs one start and one length per line, and at least one line")
        if self.lines <= 0 or self.page_bytes % self.line_bytes:
            raise ConfigurationError(f"a layout of {self.lines} lines in pages of {self.page_bytes} B holds nothing")
        if (self.home_bytes > 0) != (self.rest_bytes is not None):
            raise ConfigurationError("a layout with home bytes needs the places of the rests, and the reverse")
        for at, n in self.extents():
            if int(at[n > 0].min(initial=0)) < 0 or int((at + n)[n > 0].max(initial=0)) > self.tile_bytes:
                raise ConfigurationError(
                    f"a line lies outside its tile of {self.tile_bytes} B; check starts and lengths"
                )
        if int(length.min()) < 0 or int(length.max()) > self.widest_bytes:
            raise ConfigurationError(
                f"a coded line of {int(length.max())} B exceeds {self.line_bytes} B; store it raw"
            )
        if self.header_bytes is not None and self.header_bytes.shape[0] * self.lines_per_page != start.shape[0]:
            raise ConfigurationError(
                f"{self.header_bytes.shape[0]} headers for a tile of {start.shape[0]} lines; give one a page"
            )
        for other in (self.raw, self.pointer_bytes, self.rest_bytes):
            if other is not None and other.shape != start.shape:
                raise ConfigurationError("raw flags and pointers of a layout need one entry per line of the tile")

    def extents(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
        """(starts, lengths) of the parts that lines lie in: one, or the home and the rest."""
        length = self.length_bytes.astype(np.int64)
        if self.rest_bytes is None:
            return ((self.start_bytes, length),)
        home = np.minimum(length, self.home_bytes)
        return ((self.start_bytes, home), (self.rest_bytes, length - home))

    @property
    def widest_bytes(self) -> int:
        """Most bytes that are read for one line."""
        return self.most_bytes or self.line_bytes + 2

    @property
    def plain(self) -> bool:
        """Raw lines in place, nothing to look up: what compression switched off leaves."""
        t = self.start_bytes.shape[0]
        in_place = np.array_equal(self.start_bytes, np.arange(t, dtype=np.int64) * self.line_bytes)
        whole = bool((self.length_bytes == self.line_bytes).all())
        return self.metadata_bytes_per_page <= 0 and in_place and whole

    @property
    def metadata_share(self) -> float:
        """Share of the metadata misses that cost a read: not of pages that need none, nor of hidden ones."""
        needed = 1.0 if self.header_bytes is None else float((self.header_bytes >= 0).mean())
        return needed * (1.0 - self.hidden_share)

    @property
    def lines_per_page(self) -> int:
        return self.page_bytes // self.line_bytes

    @property
    def pages(self) -> int:
        return -(-self.lines // self.lines_per_page)

    def tile_stride_bytes(self, atom_bytes: int) -> int:
        """Distance between two tiles: whole atoms."""
        return -(-self.tile_bytes // atom_bytes) * atom_bytes

    def entry_bytes(self, config: ChannelConfig) -> int:
        """Bytes fetched on a metadata miss: whole cache entries, 0 where the packing needs none."""
        if self.metadata_bytes_per_page <= 0:
            return 0
        entry = config.metadata_entry_bytes
        return -(-math.ceil(self.metadata_bytes_per_page) // entry) * entry

    def pages_per_entry(self, config: ChannelConfig) -> int:
        """Pages that one fetched entry tells about."""
        if self.metadata_bytes_per_page <= 0 or self.header_bytes is not None:
            return 1
        return max(1, int(config.metadata_entry_bytes / self.metadata_bytes_per_page))

    def metadata_base_bytes(self, atom_bytes: int, config: ChannelConfig) -> int:
        tiles = -(-self.lines // int(self.start_bytes.shape[0]))
        entry = max(self.entry_bytes(config), atom_bytes)
        return -(-tiles * self.tile_stride_bytes(atom_bytes) // entry) * entry

    def total_bytes(self, atom_bytes: int, config: ChannelConfig) -> int:
        """End of the metadata: what must fit in the part."""
        if self.header_bytes is not None:
            return self.metadata_base_bytes(atom_bytes, config)
        entries = -(-self.pages // self.pages_per_entry(config))
        return self.metadata_base_bytes(atom_bytes, config) + entries * self.entry_bytes(config)


def plain_layout(lines: int, line_bytes: int = LINE_BYTES) -> StaticLayout:
    """Lines where they are, raw, no metadata."""
    tile = 64
    start = np.arange(tile, dtype=np.int64) * line_bytes
    length = np.full(tile, line_bytes, np.int32)
    return StaticLayout(start, length, tile * line_bytes, lines, 0.0, line_bytes=line_bytes)


@njit(cache=True)
def _expand(  # type: ignore[no-untyped-def]
    line, is_write, partial, start, length, pointer, home, rest, stride, lines, lines_per_entry, atom,
    metadata_base, entry_bytes, header, hidden,
    tag, stamp, pending, ahead, prefetch_entries, buffer_atom, buffer_request, buffer_stamp, prefetch,
    address, size, write, after, why, kind, access, first, last, shared, metadata, out_length, failed, counters,
):  # fmt: skip
    tile = start.shape[0]
    slots = buffer_atom.shape[0]
    headers = header.shape[0]
    entries = (lines + lines_per_entry - 1) // lines_per_entry
    m = 0
    for i in range(line.shape[0]):
        first[i] = m
        metadata[i] = -1
        shared[i, 0] = -1
        shared[i, 1] = -1
        here = line[i]
        if here < 0 or here >= lines:
            failed[i] = 3
        elif is_write[i] and entry_bytes > 0:
            failed[i] = 2
        if failed[i] != 0:
            last[i] = m
            continue
        depends = -1
        reason = 0
        page = here // lines_per_entry  # numbered by metadata entry
        if entry_bytes > 0 and (headers == 0 or header[page % headers] >= 0):
            counters[0] += 1
            way = lookup(tag, stamp, page, i)
            onward = False
            if way >= 0:
                s = page % tag.shape[0]
                counters[1] += 1
                onward = ahead[s, way] != 0
                ahead[s, way] = 0
                if pending[s, way] >= 0:  # perhaps still on its way
                    depends = pending[s, way]
                    reason = 1
                    metadata[i] = depends
            for target in (page, page + 1):
                if target == page:
                    if way >= 0:
                        continue
                    onward = page > 0 and holds(tag, page - 1)
                    if hidden.shape[0] > 0 and hidden[i]:
                        continue
                elif (
                    not (onward and prefetch_entries)
                    or target >= entries
                    or holds(tag, target)
                    or (headers > 0 and header[target % headers] < 0)
                ):
                    continue
                if headers > 0:
                    address[m] = np.uint64((target // headers) * stride + header[target % headers])
                else:
                    address[m] = np.uint64(metadata_base + target * entry_bytes)
                size[m] = (entry_bytes + atom - 1) // atom * atom
                write[m] = False
                after[m] = -1
                why[m] = 0
                kind[m] = 2
                access[m] = i
                if target == page:
                    depends = m
                    reason = 1
                    metadata[i] = m
                free = victim(tag, stamp, target)
                if free >= 0:
                    s = target % tag.shape[0]
                    tag[s, free] = target
                    stamp[s, free] = i
                    pending[s, free] = m
                    ahead[s, free] = target != page
                m += 1
        out_length[i] = length[here % tile]
        if pointer.shape[0] > 0 and pointer[here % tile] >= 0:
            slot = (here // tile) * stride + pointer[here % tile]
            address[m] = np.uint64(slot // atom * atom)
            size[m] = atom
            write[m] = False
            after[m] = depends
            why[m] = reason
            kind[m] = 8
            access[m] = i
            depends = m
            reason = 1
            m += 1
        for step in range(1 + prefetch):
            target = here + step
            if target >= lines or target // lines_per_entry != page:
                break  # a prefetch does not look up another entry
            for part in range(2 if home > 0 else 1):
                n, base = length[target % tile], start[target % tile]
                wait, wait_reason = depends, reason
                if home > 0 and part == 0:
                    # The home needs no metadata, only its turn.
                    n, wait, wait_reason = min(n, home), -1, 0
                elif home > 0:
                    n, base = n - home, rest[target % tile]
                if n <= 0:
                    continue
                base += (target // tile) * stride
                a1 = (base + n - 1) // atom
                open_run = False
                for a in range(base // atom, a1 + 1):
                    hit = -1
                    if slots > 0:
                        if step == 0:
                            counters[2] += 1
                        for b in range(slots):
                            if buffer_atom[b] == a:
                                hit = b
                                break
                    if hit >= 0:
                        open_run = False
                        buffer_stamp[hit] = m + i
                        if step == 0:
                            counters[3] += 1
                            if shared[i, 0] < 0:
                                shared[i, 0] = buffer_request[hit]
                            else:
                                shared[i, 1] = buffer_request[hit]
                        continue
                    if open_run:
                        size[m - 1] += atom
                        if partial[i] and is_write[i]:
                            size[m - 2] += atom
                    else:
                        if is_write[i] and partial[i]:
                            # ECC words and masked bytes do not go together: read, merge, write back.
                            address[m] = np.uint64(a * atom)
                            size[m] = atom
                            write[m] = False
                            after[m] = wait
                            why[m] = wait_reason
                            kind[m] = 4
                            access[m] = i
                            m += 1
                        address[m] = np.uint64(a * atom)
                        size[m] = atom
                        write[m] = is_write[i]
                        access[m] = i
                        if is_write[i] and partial[i]:
                            after[m] = m - 1
                            why[m] = 2
                        else:
                            after[m] = wait
                            why[m] = wait_reason
                        kind[m] = 7 if step > 0 else (1 if is_write[i] else 0)
                        m += 1
                        open_run = True
                    if slots > 0:
                        oldest = 0
                        for b in range(slots):
                            if buffer_stamp[b] < buffer_stamp[oldest]:
                                oldest = b
                        buffer_atom[oldest] = a
                        buffer_request[oldest] = m - 1
                        buffer_stamp[oldest] = m + i
        last[i] = m
    return m


def expand_static(
    accesses: LineStream,
    layout: StaticLayout,
    *,
    atom_bytes: int,
    config: ChannelConfig,
    line_buffer: bool = True,
    before: LineStream | None = None,
) -> RequestPlan:
    """Memory requests of ``accesses`` over a read-only layout.

    ``before`` are past accesses that left their entries in the metadata cache. Writes to a layout with metadata are
    refused (`REFUSED_READ_ONLY`), lines outside it are unmapped. The line buffer serves raw lines in place only where
    the memory moves several at once.

    Raises `ConfigurationError` for a layout of lines of another size than the channel's, and for writes of lines
    shorter than what the memory moves at once.
    """
    if layout.line_bytes != config.line_bytes:
        raise ConfigurationError(
            f"a layout of {layout.line_bytes} B lines does not go with a channel of {config.line_bytes} B lines; "
            "give both the same"
        )
    if layout.line_bytes % atom_bytes and accesses.is_write.any():
        raise ConfigurationError(
            f"the memory moves {atom_bytes} B at once, more than a line of {layout.line_bytes} B, and each write "
            "would first read its neighbours; leave out the writes, or take lines of at least that size"
        )
    n = len(accesses)
    entry = layout.entry_bytes(config)
    kept = line_buffer and not (layout.plain and layout.line_bytes % atom_bytes == 0)
    slots = config.line_buffer_lines * layout.line_bytes // atom_bytes if kept else 0
    prefetch = config.prefetch_lines if slots else 0
    most = n * (3 + 2 * (layout.widest_bytes // atom_bytes + 2) * (1 + prefetch))
    cache = MetadataCache.of(config, entry)
    lines_per_entry = layout.lines_per_page * layout.pages_per_entry(config)
    if before is not None and entry:
        warm(cache.tag, cache.stamp, before.line, lines_per_entry)
    pointer = np.empty(0, np.int64) if layout.pointer_bytes is None else layout.pointer_bytes
    rest = np.empty(0, np.int64) if layout.rest_bytes is None else layout.rest_bytes
    header = np.empty(0, np.int64) if layout.header_bytes is None else layout.header_bytes
    hidden = np.empty(0, np.bool_)
    if layout.hidden_share > 0:
        hidden = np.random.Generator(np.random.PCG64(HIDDEN_SEED)).random(n) < layout.hidden_share
    buffers = RequestBuffers.of(most, n)
    counters = np.zeros(4, np.int64)
    m = _expand(  # type: ignore[call-arg]
        accesses.line, accesses.is_write, accesses.partial, layout.start_bytes, layout.length_bytes,
        pointer, layout.home_bytes, rest, layout.tile_stride_bytes(atom_bytes), layout.lines,
        lines_per_entry, atom_bytes,
        layout.metadata_base_bytes(atom_bytes, config), entry, header, hidden,
        cache.tag, cache.stamp, cache.pending, cache.ahead,
        config.metadata_prefetch,
        np.full(slots, -1, np.int64), np.full(slots, -1, np.int64), np.full(slots, -1, np.int64), prefetch,
        *buffers.arrays(), counters,
    )  # fmt: skip
    names = ("metadata_lookups", "metadata_hits", "atom_lookups", "line_buffer_hits")
    raw = None if layout.raw is None else layout.raw[accesses.line % layout.start_bytes.shape[0]]
    return buffers.plan(int(m), dict(zip(names, counters.tolist(), strict=True)), layout.line_bytes, raw)
