"""Tokens out of an engine's memory: which slots of which pages were written, and those tokens in order.

A serving engine keeps the cache in pages (blocks) of a few tokens. A page may belong to several sequences (a shared
prefix), to none (free: whatever was left there), and the last page of a sequence is partly filled. `PagedTokens`
shows a layer's pages as ``[kv_heads, tokens, head_dim]``: each physical page once, in the order in which the block
table first names it, free pages and unwritten slots left out. A padded batch is the same with one page a sequence.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.bytes import Bytes, Location, check_range
from linepress.sources.snapshot.contract import Bits, unfold

Table = NDArray[np.int32]

UNUSED, WRITTEN, PADDING = 0, 1, 2
"""Marks of `slot_marks`: a page that no sequence holds, a token, the unwritten rest of a page that one holds."""


@dataclass(frozen=True, slots=True)
class Written:
    """Pages that hold tokens, in order, and which of their slots do.

    Attributes
    ----------
    pages, firsts, counts : bytes
        int32 each, one a page: index of the page, first written slot in it, written slots.
    page_tokens : int
        Slots of a page.
    positions : bytes
        int32, one a page: position of its first written slot in its sequence (the first that names it).
    """

    pages: bytes
    firsts: bytes
    counts: bytes
    page_tokens: int
    positions: bytes

    @classmethod
    def of(cls, pages: Table, firsts: Table, counts: Table, page_tokens: int, positions: Table) -> Written:
        first, second, third, fourth = (np.asarray(a, np.int32).tobytes() for a in (pages, firsts, counts, positions))
        return cls(first, second, third, page_tokens, fourth)

    def token_positions(self) -> bytes:
        """uint32, one a written token: its position in its sequence."""
        counts = self.arrays()[2]
        starts = np.repeat(np.frombuffer(self.positions, np.int32), counts)
        within = np.arange(len(starts)) - np.repeat(np.cumsum(counts) - counts, counts)
        return (starts + within).astype("<u4").tobytes()

    def arrays(self) -> tuple[Table, Table, Table]:
        """(pages, firsts, counts), int32 each."""
        pages, firsts, counts = (np.frombuffer(raw, np.int32) for raw in (self.pages, self.firsts, self.counts))
        return pages, firsts, counts

    @property
    def tokens(self) -> int:
        return int(self.arrays()[2].sum(dtype=np.int64))


def written_pages(
    block_table: Table,
    sequence_tokens: Table,
    n_blocks: int,
    block_tokens: int,
    what: str,
    null_block: int | None = None,
) -> Written:
    """Pages with tokens, each once, from a block table.

    Parameters
    ----------
    block_table : int32[sequences, blocks]
        Page of each run of ``block_tokens`` tokens of each sequence; entries past a sequence's end must be -1.
    sequence_tokens : int32[sequences]
    null_block : int | None
        A block that holds no tokens and may stand in a row many times.

    Raises `SourceError` for a page that does not exist, a sequence longer than its pages or a page named twice by
    one sequence.
    """
    order: dict[int, int] = {}
    position: dict[int, int] = {}
    for row, (pages, tokens) in enumerate(zip(block_table, sequence_tokens, strict=True)):
        n = -(-int(tokens) // block_tokens)
        if tokens < 0 or n > len(pages):
            raise SourceError(
                f"{what}: sequence {row} has {int(tokens)} tokens, which its {len(pages)} blocks of {block_tokens} "
                "cannot hold; export the block table again"
            )
        used = pages[:n]
        if ((used < 0) | (used >= n_blocks)).any() or (pages[n:] != -1).any():
            raise SourceError(
                f"{what}: the block table of sequence {row} must name {n} of {n_blocks} blocks and then -1; "
                "export it again"
            )
        own = used[used != null_block] if null_block is not None else used
        if len(np.unique(own)) != len(own):
            raise SourceError(f"{what}: sequence {row} names a block twice; export the block table again")
        for i, page in enumerate(used.tolist()):
            if page == null_block:
                continue
            order[page] = max(order.get(page, 0), min(block_tokens, int(tokens) - i * block_tokens))
            position.setdefault(page, i * block_tokens)
    if not order:
        raise SourceError(f"{what} holds no tokens; capture a longer prompt")
    pages_used, counts = (np.array(list(side), np.int32) for side in (order.keys(), order.values()))
    positions = np.array(list(position.values()), np.int32)
    return Written.of(pages_used, np.zeros(len(order), np.int32), counts, block_tokens, positions)


def written_rows(sequence_tokens: Table, slots: int, padding: str, what: str, window: bool = False) -> Written:
    """Tokens of a padded batch: each sequence is a page of ``slots`` slots, padded on the ``left`` or ``right``.

    With ``window`` a sequence may have more tokens than slots, which then hold its newest.
    """
    if padding not in ("left", "right"):
        raise SourceError(f"{what}: padding must be left or right in the metadata of a batch, not {padding!r}")
    every = np.asarray(sequence_tokens, np.int32)
    counts = np.minimum(every, slots) if window else every
    if (counts < 0).any() or (counts > slots).any():
        bad = int(np.flatnonzero((counts < 0) | (counts > slots))[0])
        raise SourceError(f"{what}: sequence {bad} has {int(counts[bad])} tokens in {slots} slots; export it again")
    if not counts.any():
        raise SourceError(f"{what} holds no tokens; capture a longer prompt")
    pages = np.flatnonzero(counts).astype(np.int32)
    positions = (every - counts)[pages]
    counts = counts[pages]
    firsts = slots - counts if padding == "left" else np.zeros_like(counts)
    return Written.of(pages, firsts, counts, slots, positions)


def slot_marks(written: Written, n_pages: int) -> NDArray[np.uint8]:
    """uint8[n_pages, page_tokens]: `UNUSED`, `WRITTEN` or `PADDING` for every slot of the cache."""
    marks = np.full((n_pages, written.page_tokens), UNUSED, np.uint8)
    for page, first, count in zip(*written.arrays(), strict=True):
        marks[page] = PADDING
        marks[page, first : first + count] = WRITTEN
    return marks


@dataclass(frozen=True, slots=True)
class PagedTokens:
    """The written tokens of one layer's keys or values, ``[kv_heads, tokens, head_dim]``, gathered on demand.

    ``memory`` is a tensor of ``shape`` items in ``axes``, rows in ``parts`` (see `contract`); ``layer`` and ``side``
    are indices into its axes ``L`` and ``2``, 0 where it has none.
    """

    memory: Location
    written: Written
    axes: tuple[str, ...]
    parts: tuple[int, ...]
    shape: tuple[int, ...]
    layer: int
    side: int
    kv_heads: int
    head_dim: int
    item_bytes: int

    @property
    def n_bytes(self) -> int:
        return self.kv_heads * self.written.tokens * self.head_dim * self.item_bytes

    @property
    def identity(self) -> str:
        how = f"{' '.join(self.axes)}:{self.parts}:{self.layer}:{self.side}"
        return f"{self.memory.identity}|tokens:{how}:{hash_of(self.written)}"

    @property
    def local(self) -> bool:
        return False  # a read gathers pages: cases read a staged copy

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, "cache tensor")
        if start_byte == end_byte:
            return np.empty(0, np.uint8)
        row = self.head_dim * self.item_bytes
        tokens = self.written.tokens
        first_row, end_row = start_byte // row, -(-end_byte // row)
        first_head, end_head = first_row // tokens, -(-end_row // tokens)
        # several heads need every token; a part of one head needs only the pages of its tokens
        low, high = (0, tokens)
        if end_head - first_head == 1:
            low, high = first_row - first_head * tokens, end_row - first_head * tokens
        gathered = self._gather(first_head, end_head, low, high)
        begin = start_byte - (first_head * tokens + low) * row
        return gathered.reshape(-1).view(np.uint8)[begin : begin + end_byte - start_byte].copy()

    def _gather(self, first_head: int, end_head: int, low: int, high: int) -> Bits:
        """Tokens ``low … high`` of heads ``first_head … end_head``: items[heads, tokens, head_dim]."""
        pages, firsts, counts = self.written.arrays()
        ends = np.cumsum(counts, dtype=np.int64)
        out = np.empty((end_head - first_head, high - low, self.head_dim), f"<u{self.item_bytes}")
        begin, stop = int(np.searchsorted(ends, low, "right")), int(np.searchsorted(ends, high, "left")) + 1
        # runs of neighbouring pages are one read each
        breaks = np.flatnonzero(np.diff(pages[begin:stop]) != 1) + 1
        for run in np.split(np.arange(begin, stop), breaks):
            heads = self._pages(int(pages[run[0]]), len(run), first_head, end_head)
            for i, at in enumerate(run):
                start = int(ends[at] - counts[at])
                lo, hi = max(start, low), min(int(ends[at]), high)
                slot = int(firsts[at]) + lo - start
                out[:, lo - low : hi - low] = heads[i, :, slot : slot + hi - lo]
        return out

    def _pages(self, page: int, n: int, first_head: int, end_head: int) -> Bits:
        """Pages ``page … page + n`` as ``[n, heads, slots, head_dim]``, no byte before or behind read."""
        at = next(i for i, axis in enumerate(self.axes) if axis in "BS")
        fixed = {"L": (self.layer,), "2": (self.side,), "H": tuple(range(first_head, end_head))}
        inner = at + 1  # layer and side right after the page are places in it, and the rest is read whole
        while self.axes[inner] in ("L", "2"):
            inner += 1
        items = math.prod(self.shape[inner:])
        steps = [math.prod(self.shape[i + 1 :]) for i in range(inner)]
        outer = [fixed[axis] for axis in self.axes[:at]]
        within = sum(fixed[axis][0] * steps[at + 1 + i] for i, axis in enumerate(self.axes[at + 1 : inner]))
        parts = []
        for index in itertools.product(*outer):
            base = sum(i * step for i, step in zip(index, steps, strict=False))
            if inner == at + 1:
                parts.append(self._read(base + page * steps[at], n * items))
            else:
                parts += [self._read(base + (page + i) * steps[at] + within, items) for i in range(n)]
        taken = tuple(len(part) for part in outer)
        stored = np.concatenate(parts).reshape(*taken, n, *(1,) * (inner - at - 1), *self.shape[inner:])
        whole = unfold(stored, self.axes, self.parts)  # [layers, sides, pages, heads, slots, head_dim]
        heads = whole[self.layer if whole.shape[0] > 1 else 0, self.side if whole.shape[1] > 1 else 0]
        some: NDArray[np.unsignedinteger] = heads if "H" in self.axes[:at] else heads[:, first_head:end_head]
        return some

    def _read(self, first: int, n: int) -> Bits:
        return self.memory.read(first * self.item_bytes, (first + n) * self.item_bytes).view(f"<u{self.item_bytes}")


def hash_of(written: Written) -> str:
    """Short text that changes with the slots written."""
    text = b"|".join((written.pages, written.firsts, written.counts, str(written.page_tokens).encode()))
    return hashlib.sha256(text).hexdigest()[:16]
