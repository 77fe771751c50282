"""Compaction and translation schemes as data: how each lays lines out, what its metadata and SRAM cost.

``data/schemes.toml`` holds every scheme's figures with source and status; its ``rule`` names one of the functions
here that place a tile of coded lines. All take the same lines, so that schemes differ by what they do with them.
What a last-level cache would do for a scheme (gangs of neighbours, clean evictions) is not in these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.files import check_keys, read_toml
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig
from linepress_hardware.channel.page_kernel import PAGE_PACKED, PAGE_RAW, layout_bytes, page_places
from linepress_hardware.channel.translation import StaticLayout
from linepress_hardware.errors import ConfigurationError

Bits = NDArray[np.uint16]
STATUSES = ("seen", "notes", "recalled", "derived", "assumed")
SEED = 11
"""Which lines a predictor misses and which pages are hot, where only the share is published."""
RAW_BITS = 8 * LINE_BYTES


@dataclass(frozen=True)
class Figure:
    """One figure of a scheme: value (a number, or a list of sizes), status and source."""

    value: Any
    status: str
    source: str


@dataclass(frozen=True)
class Published:
    """A result of the publication: ``check`` names the run of ours beside it, ``why`` says why there is none."""

    figure: str
    workload: str
    status: str
    check: str = ""
    why: str = ""


@dataclass(frozen=True)
class Placed:
    """A tile of lines as a scheme lays it out.

    Attributes
    ----------
    layout : StaticLayout
    stored_bytes : float
        Everything that the tile takes: lines, gaps, metadata wherever it lies.
    metadata_bytes : float
        Of it, what only says where lines are, or that they are coded.
    """

    layout: StaticLayout
    stored_bytes: float
    metadata_bytes: float

    @property
    def capacity(self) -> float:
        """Raw bytes over stored bytes."""
        return float(self.layout.start_bytes.shape[0] * LINE_BYTES / self.stored_bytes)

    @property
    def metadata_bytes_per_page(self) -> float:
        """Metadata of 4 KiB of raw lines."""
        return float(self.metadata_bytes * 4096 / (self.layout.start_bytes.shape[0] * LINE_BYTES))


@dataclass(frozen=True)
class Scheme:
    """One entry of ``data/schemes.toml``."""

    name: str
    title: str
    rule: str
    source: str
    packing: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    published: tuple[Published, ...] = ()

    def value(self, name: str, default: float | None = None) -> float:
        """A figure by name; raises `ConfigurationError` where it is missing and there is no default."""
        if name in self.figures:
            return float(self.figures[name].value)
        if default is None:
            raise ConfigurationError(f"scheme {self.name} has no figure {name}; its rule {self.rule} needs it")
        return default

    def config(self, config: ChannelConfig) -> ChannelConfig:
        """The channel with what the scheme's publication says of cache, chunks and decoder, and two blocks of buffer
        where blocks are read whole."""
        values = {
            name: float(self.figures[name].value)
            for name in (
                "metadata_cache_bytes",
                "chunk_bytes",
                "inflation_lines",
                "staging_pages",
                "decode_latency_ns",
            )
            if name in self.figures
        }
        if self.rule == "blocks":
            values["line_buffer_lines"] = 2 * self.value("block_bytes") / LINE_BYTES
        return config.override(values)

    def sram_bytes(self, config: ChannelConfig, *, metadata: bool, coded: bool) -> float:
        """Metadata cache (no tags), line buffer, predictor; the first two only where lines are looked up, coded."""
        cache = config.metadata_cache_bytes if metadata else 0
        return cache + (config.line_buffer_lines * LINE_BYTES if coded else 0) + self.value("sram_bytes", 0.0)

    def place(self, bits: Bits, classes: tuple[int, ...] = ()) -> Placed:
        """Lay out a tile.

        Parameters
        ----------
        bits : uint16[t]
            Coded bits of each line, 512 and more raw; t whole blocks of 128 lines.
        classes : tuple[int, ...]
            Class sizes fitted to these lines, for a scheme that asks for them.

        Raises `ConfigurationError` for a rule that has no layout of its own (packing, store), or a ragged tile.
        """
        rule = RULES.get(self.rule)
        if rule is None:
            raise ConfigurationError(f"scheme {self.name} has the rule {self.rule}, which places nothing by itself")
        if not bits.size or bits.shape[0] % 128:
            raise ConfigurationError(f"a tile of {bits.shape[0]} lines is not whole blocks of 128; give it more")
        return rule(self, bits, classes)

    def class_sizes(self, fitted: tuple[int, ...]) -> tuple[int, ...]:
        """The scheme's classes, or those fitted to the data where it has none."""
        sizes = tuple(int(s) for s in self.figures["class_bytes"].value)
        return sizes or fitted


def need_bytes(bits: Bits) -> NDArray[np.int64]:
    """Whole bytes of each coded line, at most 64, int64[t]; nothing for a line that its flag tells (4 bits)."""
    return np.where(bits <= 4, 0, np.minimum(-(-bits.astype(np.int64) // 8), LINE_BYTES))


def _missed(t: int, share: float) -> NDArray[np.bool_]:
    """``share`` of t lines, bool[t], the same ones every time."""
    chosen = np.zeros(t, np.bool_)
    count = round(share * t)
    chosen[np.random.Generator(np.random.PCG64(SEED)).permutation(t)[:count]] = True
    return chosen


def _pages(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """LCP: the smallest page size that holds slots, metadata and raw exceptions; of its slots the least bytes."""
    page_bytes, own = int(scheme.value("page_bytes")), int(scheme.value("metadata_bytes"))
    need = need_bytes(bits).reshape(-1, page_bytes // LINE_BYTES)
    pages, per_page = need.shape
    sizes = np.arange(LINE_BYTES, dtype=np.int64)
    over = (need[:, :, None] > sizes).sum(axis=1)
    wants = per_page * sizes + own + LINE_BYTES * over
    slot = wants.argmin(axis=1)
    want = wants.min(axis=1)
    held = np.full(pages, page_bytes, np.int64)
    size = page_bytes // 2
    while size >= scheme.value("least_page_bytes"):
        held[want <= size] = size
        size //= 2
    raw = held == page_bytes
    base = np.cumsum(held) - held
    column = np.arange(per_page, dtype=np.int64)
    misfit = (need > slot[:, None]) & ~raw[:, None]
    rank = np.cumsum(misfit, axis=1) - 1
    end = base + per_page * slot
    start = base[:, None] + column * np.where(raw, LINE_BYTES, slot)[:, None]
    start = np.where(misfit, (end + own)[:, None] + LINE_BYTES * rank, start)
    length = np.where(misfit | raw[:, None], LINE_BYTES, slot[:, None])
    layout = StaticLayout(
        start.reshape(-1),
        length.reshape(-1).astype(np.int32),
        int(held.sum()),
        bits.shape[0],
        float(own),
        page_bytes=page_bytes,
        raw=(length == LINE_BYTES).reshape(-1),
        header_bytes=np.where(raw, -1, end),
    )
    if bool(raw.all()):
        return _plain(bits)
    return Placed(layout, float(held.sum()), float(own * (~raw).sum()))


def _plain(bits: Bits, metadata_bytes: float = 0.0) -> Placed:
    """Every line raw in its own place."""
    t = bits.shape[0]
    start = np.arange(t, dtype=np.int64) * LINE_BYTES
    layout = StaticLayout(start, np.full(t, LINE_BYTES, np.int32), t * LINE_BYTES, t, 0.0)
    return Placed(layout, t * LINE_BYTES + metadata_bytes, metadata_bytes)


def _chunks(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """Compresso at rest: classes, the largest first, in whole chunks; a page that needs all chunks is raw."""
    page_bytes, chunk = int(scheme.value("page_bytes")), int(scheme.value("chunk_bytes"))
    own, rule = scheme.value("metadata_bytes"), int(scheme.value("rule_bytes"))
    sizes = np.array(scheme.class_sizes(classes), np.int64)
    per_page = page_bytes // LINE_BYTES
    line_class = np.searchsorted(sizes, need_bytes(bits)).astype(np.uint8).reshape(-1, per_page)
    wanted = layout_bytes(line_class, sizes, rule, 0)
    chunks = np.minimum(-(-wanted // chunk), page_bytes // chunk)
    raw = chunks == page_bytes // chunk
    state = np.where(raw, PAGE_RAW, PAGE_PACKED).astype(np.uint8)
    nobody = np.full((len(chunks), 1), -1, np.int8)
    start, length = page_places(line_class, state, nobody, sizes, rule, 0)
    held = chunks * chunk
    start += (np.cumsum(held) - held)[:, None]
    layout = StaticLayout(
        start.reshape(-1), length.reshape(-1), int(held.sum()), bits.shape[0], own, page_bytes=page_bytes,
        raw=(length == LINE_BYTES).reshape(-1),
    )  # fmt: skip
    return Placed(layout, float(held.sum()) + own * len(chunks), own * len(chunks))


def _quads(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """CRAM: lines 0 to 3 in slot 0 where their code fits, else 0 and 1 in slot 0, 2 and 3 in slot 2, else home.

    A mispredicted read looks at another of its places first; the first line of a quad has one place only.
    """
    most = scheme.value("payload_bytes")
    need = need_bytes(bits).reshape(-1, 4)
    all_four = need.sum(axis=1) <= most
    slot = np.tile(np.arange(4, dtype=np.int64), (len(need), 1))
    for low in (0, 2):
        fits = need[:, low : low + 2].sum(axis=1) <= most
        slot[fits, low + 1] = low
    slot[all_four] = 0
    home = np.arange(len(bits), dtype=np.int64)
    place = (home // 4 * 4 + slot.reshape(-1)) * LINE_BYTES
    shared = np.zeros((len(need), 4), np.bool_)
    shared[:, 1:] = slot[:, 1:] != np.arange(1, 4)
    if not shared.any():  # the table of last outcomes then only ever says home
        return _plain(bits)
    # Two lines packed in one slot are both coded, the one that is at home too.
    packed = shared.copy()
    packed[:, :3] |= shared[:, 1:] & (slot[:, 1:] == np.arange(3))
    packed[all_four] = True
    pointer = np.full(len(bits), -1, np.int64)
    apart = np.flatnonzero(place != home * LINE_BYTES)
    wrong = min(1.0, (1 - scheme.value("predictor_share")) * len(bits) / len(apart))
    missed = apart[_missed(len(apart), wrong)]
    pointer[missed] = home[missed] * LINE_BYTES
    t = len(bits)
    layout = StaticLayout(
        place, np.full(t, LINE_BYTES, np.int32), t * LINE_BYTES, t, 0.0, raw=~packed.reshape(-1),
        pointer_bytes=pointer,
    )  # fmt: skip
    return Placed(layout, t * LINE_BYTES, 0.0)


def _halves(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """Attaché: a short line in half of its place, odd lines in the second half; the predictor says how much to read.

    A short line taken for raw is read whole; a raw one taken for short gets its second half late, which costs no
    bandwidth and is not in the latency here. A raw line that looks like a packed one reads its displaced bit.
    """
    t = len(bits)
    short = need_bytes(bits) <= scheme.value("payload_bytes")
    displaced = scheme.value("displaced_share") * t * LINE_BYTES
    if not short.any():
        return _plain(bits, displaced)
    half = LINE_BYTES // 2
    seen = short & ~_missed(t, 1 - scheme.value("predictor_share"))
    line = np.arange(t, dtype=np.int64)
    start = line * LINE_BYTES + np.where(seen & (line % 2 == 1), half, 0)
    collide = np.flatnonzero(~short)
    collide = collide[_missed(len(collide), scheme.value("collision_share"))]
    pointer = np.full(t, -1, np.int64)
    pointer[collide] = t * LINE_BYTES
    layout = StaticLayout(
        start,
        np.where(seen, half, LINE_BYTES).astype(np.int32),
        t * LINE_BYTES + int(np.ceil(displaced)),
        t,
        0.0,
        raw=~short,
        pointer_bytes=pointer if collide.size else None,
    )
    return Placed(layout, t * LINE_BYTES + displaced, displaced)


def _bursts(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """MemZip: whole bursts at the line's own place, the sizes of a row's lines at its front."""
    page_bytes, own = int(scheme.value("page_bytes")), int(scheme.value("metadata_bytes"))
    burst = int(scheme.value("burst_bytes"))
    per_page = page_bytes // LINE_BYTES
    length = -(-need_bytes(bits) // burst) * burst
    page = np.arange(len(bits), dtype=np.int64) // per_page
    start = np.arange(len(bits), dtype=np.int64) * LINE_BYTES + own * (page + 1)
    pages = int(page[-1]) + 1
    stored = pages * (page_bytes + own)
    layout = StaticLayout(
        start,
        length.astype(np.int32),
        stored,
        len(bits),
        float(own),
        page_bytes=page_bytes,
        raw=length == LINE_BYTES,
        header_bytes=np.arange(pages, dtype=np.int64) * (page_bytes + own),
    )
    return Placed(layout, float(stored), float(own * pages))


def _blocks(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """Blocks coded together: the sum of their lines' code, read whole; a share of them, hot ones, raw in place."""
    block, granule = int(scheme.value("block_bytes")), int(scheme.value("granule_bytes"))
    per_block = block // LINE_BYTES
    coded = np.minimum(bits.astype(np.int64), RAW_BITS).reshape(-1, per_block).sum(axis=1)
    size = -(-coded // (8 * granule)) * granule
    raw = _missed(len(size), scheme.value("raw_share")) | (size >= block)
    held = np.where(raw, block, size)
    base = np.cumsum(held) - held
    column = np.arange(per_block, dtype=np.int64) * LINE_BYTES
    start = base[:, None] + np.where(raw[:, None], column, 0)
    length = np.where(raw[:, None], LINE_BYTES, held[:, None] + 0 * column)
    own, long = scheme.value("metadata_bytes"), scheme.value("long_bytes", 0.0)
    metadata = (own + long) * len(size) + scheme.value("recency_share", 0.0) * float(held.sum())
    # A long entry is read before a coded block; they lie together at the end of the tile.
    entries = -(-int(np.ceil(long * len(size))) // LINE_BYTES) * LINE_BYTES
    pointer: NDArray[np.int64] | None = None
    if long:
        at = int(held.sum()) + (np.arange(len(size)) * long).astype(np.int64)
        pointer = np.where(np.repeat(raw, per_block), -1, np.repeat(at, per_block))
    layout = StaticLayout(
        start.reshape(-1),
        length.reshape(-1).astype(np.int32),
        int(held.sum()) + entries,
        len(bits),
        own,
        page_bytes=block,
        raw=np.repeat(raw, per_block),
        pointer_bytes=pointer,
        hidden_share=scheme.value("hidden_share", 0.0),
        most_bytes=block,
    )
    lost = scheme.value("loss_share") * float(held[~raw].sum())
    return Placed(layout, float(held.sum()) + metadata + lost, metadata)


def cell_geometry(bits: Bits, flag_bits: int, cell_bytes: int = 0) -> tuple[int, int]:
    """(bytes of a cell, bytes read of a line) with the least space for pairs of these lines; ``cell_bytes`` fixes the
    first.

    Nobody knows a line's size before it is read, so every reader takes the same bytes from its end of the cell: of
    all windows the one with the fewest atoms of 32 B a line, a longer line costing its pair's place elsewhere.
    """
    size = np.minimum(bits.astype(np.int64), RAW_BITS).reshape(-1, 2) + flag_bits
    pairs = len(size)
    # Pairs by whole bytes of both lines and of the longer one; summed up, those that fit a cell and a window.
    both, longer = -(-size.sum(axis=1) // 8), -(-size.max(axis=1) // 8)
    table = np.zeros((int(both.max()) + 1, int(longer.max()) + 1), np.int64)
    np.add.at(table, (both, longer), 1)
    fits = table.cumsum(axis=0).cumsum(axis=1)

    def away(cell: int, window: int) -> int:
        return pairs - int(fits[min(cell, fits.shape[0] - 1), min(window, fits.shape[1] - 1)])

    found = []
    for cell in (cell_bytes,) if cell_bytes else range(2, 2 * LINE_BYTES):
        tried = []
        for window in range(1, min(cell, LINE_BYTES) + 1):
            begins = np.arange(32, dtype=np.int64)[:, None] * cell + np.array([0, cell - window])
            atoms = float(((begins + window - 1) // 32 - begins // 32 + 1).mean())
            # A line of a pair elsewhere costs one atom for where, and its own.
            out = away(cell, window)
            tried.append((atoms + out / pairs * (1 + LINE_BYTES / 32 - atoms), window, out))
        atoms, window, out = min(tried)
        found.append((cell * pairs + 2 * LINE_BYTES * out, atoms, cell, window))
    _, _, cell, window = min(found)
    return cell, window


def _cells(scheme: Scheme, bits: Bits, classes: tuple[int, ...]) -> Placed:
    """Lines 2k and 2k + 1 from both ends of cell k; a pair that does not fit lies raw behind all cells, and its cell
    holds where. Address = k × cell: no metadata, no SRAM."""
    flag = int(scheme.value("flag_bits"))
    cell, window = cell_geometry(bits, flag, int(scheme.value("cell_bytes")))
    size = np.minimum(bits.astype(np.int64), RAW_BITS).reshape(-1, 2) + flag
    out = (size.sum(axis=1) > 8 * cell) | (size.max(axis=1) > 8 * window)
    pairs = len(size)
    if pairs * cell + 2 * LINE_BYTES * int(out.sum()) >= len(bits) * LINE_BYTES:
        return _plain(bits)
    base = np.arange(pairs, dtype=np.int64) * cell
    overflow = -(-pairs * cell // LINE_BYTES) * LINE_BYTES
    start = base[:, None] + np.array([0, cell - window])
    pointer = np.where(out[:, None], base[:, None], -1) + np.zeros((1, 2), np.int64)
    start[out] = overflow + 2 * LINE_BYTES * np.arange(int(out.sum()))[:, None] + np.array([0, LINE_BYTES])
    length = np.where(out[:, None], LINE_BYTES, window) + np.zeros((1, 2), np.int64)
    total = overflow + 2 * LINE_BYTES * int(out.sum())
    layout = StaticLayout(
        start.reshape(-1),
        length.reshape(-1).astype(np.int32),
        total,
        len(bits),
        0.0,
        raw=np.repeat(out, 2),
        pointer_bytes=pointer.reshape(-1),
    )
    return Placed(layout, float(total), 2 * flag * pairs / 8)


RULES: dict[str, Callable[[Scheme, Bits, tuple[int, ...]], Placed]] = {
    "pages": _pages,
    "chunks": _chunks,
    "quads": _quads,
    "halves": _halves,
    "bursts": _bursts,
    "blocks": _blocks,
    "cells": _cells,
}
ELSEWHERE = ("packing", "store")
"""Rules that others place: a packing of the codecs, and the inline store."""


@lru_cache(maxsize=1)
def schemes() -> dict[str, Scheme]:
    """Every scheme of ``data/schemes.toml`` by name, in the file's order."""
    text = (files("linepress_hardware") / "data" / "schemes.toml").read_text(encoding="utf-8")
    return {name: parse_scheme(name, raw) for name, raw in read_toml(text, "schemes.toml").items()}


def parse_scheme(name: str, raw: Mapping[str, Any]) -> Scheme:
    """One checked entry; raises `ConfigurationError` naming what is wrong."""
    where = f"schemes.toml: {name}"
    check_keys(raw, where, ("title", "rule", "source"), ("packing", "figures", "published"))
    if raw["rule"] not in (*RULES, *ELSEWHERE):
        known = ", ".join((*RULES, *ELSEWHERE))
        raise ConfigurationError(f"{where} has the unknown rule {raw['rule']!r}; use one of {known}")
    figures = {}
    for key, entry in raw.get("figures", {}).items():
        check_keys(entry, f"{where} {key}", ("status", "source"), ("value",))
        figures[key] = Figure(entry["value"], _status(entry["status"], f"{where} {key}"), entry["source"])
    published = []
    for entry in raw.get("published", []):
        check_keys(entry, f"{where} published", ("figure", "workload", "status"), ("check", "why"))
        if bool(entry.get("check")) == bool(entry.get("why")):
            raise ConfigurationError(f"{where}: {entry['figure']} needs either a check or a reason why there is none")
        published.append(Published(**{**entry, "status": _status(entry["status"], where)}))
    return Scheme(name, raw["title"], raw["rule"], raw["source"], raw.get("packing", ""), figures, tuple(published))


def _status(text: str, where: str) -> str:
    if text not in STATUSES:
        raise ConfigurationError(f"{where} has the unknown status {text!r}; use one of {', '.join(STATUSES)}")
    return text
