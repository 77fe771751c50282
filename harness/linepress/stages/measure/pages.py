"""A snapshot in an engine's memory, page by page, and what a codec makes of its lines, pages and the whole of it.

Pages are filled with the snapshot's tokens in order; a last page that they do not fill is left out (unless it is the
only one), so that no unwritten slot flatters a ratio. Codecs learn a table a layer and side, from another snapshot
where one is given. A page coded line by line carries the size of each line, `SIZE_BITS` a line; a page whose code is
no shorter goes as it is, which the length that every engine keeps beside a page tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.base import TensorRef
from linepress.sources.rotation import tokens_of
from linepress.sources.snapshot.contract import Bits, Layout, layout_named
from linepress.sources.snapshot.lay import blocks_of, lay_out, plan_blocks
from linepress_codecs.codecs.block import LARGEST_BLOCK
from linepress_codecs.contracts import LINE_BITS, LINE_BYTES, BlockCodec, Geometry, LineCodec, Lines
from linepress_codecs.formats import Format
from linepress_codecs.variant import Variant

SIZE_BITS = 10
"""Bits that tell a line's coded size, 0 to 513 bits."""
SLOTS = (("half", 1, 2), ("five_eighths", 5, 8), ("three_quarters", 3, 4))
"""Slots of fixed size by the share of the page (or of the line) that they hold."""
SAMPLE_LINES = 2048
"""Lines that a block codec codes each on its own, drawn with PCG64(seed)."""
RATE_BYTES, RATE_ROUNDS = 1 << 20, 3
"""Raw bytes of a timed round, and rounds."""
GRANULARITIES = ("line", "page", "object")
Stream = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Laid:
    """A snapshot in an engine's memory.

    Attributes
    ----------
    layout : Layout
    format : Format
    page_bytes, lines_a_page, n_pages, tokens, block_tokens : int
        ``tokens`` are those laid; ``page_bytes`` may end inside the last line.
    data : uint8[n_pages, lines_a_page, 64]
        Each page's bytes in memory order, whatever lies between its pieces left out.
    streams : mapping
        Indices of the lines of ``data`` (flat) by (layer, ``key`` or ``value``), and their `Lines`.
    """

    layout: Layout
    format: Format
    page_bytes: int
    lines_a_page: int
    n_pages: int
    tokens: int
    block_tokens: int
    data: NDArray[np.uint8]
    streams: dict[Stream, tuple[NDArray[np.int64], Lines]]


def lay(tensors: Sequence[TensorRef], layout: Layout, block_tokens: int | None = None) -> Laid:
    """The caches of a snapshot as ``layout`` holds them.

    Parameters
    ----------
    tensors : sequence of TensorRef
        Keys and values as tokens, ``[kv_heads, tokens, head_dim]`` each, all of one shape; others are passed over.
    block_tokens : int | None
        Slots of a page; the engine's own if None.

    Raises `SourceError` where the snapshot does not fit the layout.
    """
    caches = {(t.kind, t.layer or 0): t for t in tensors if t.kind in ("key", "value")}
    shapes = {(t.shape, t.format.name) for t in caches.values()}
    if len(shapes) != 1:
        raise SourceError(
            f"{layout.name} needs key and value caches of one shape and format; "
            f"{'there are none' if not shapes else f'these are of {len(shapes)}, choose layers with --layers'}"
        )
    first = next(iter(caches.values()))
    if len(first.shape) != 3:
        raise SourceError(f"{first.name} has shape {list(first.shape)}; a cache is [kv_heads, tokens, head_dim]")
    itself = first.metadata.get("arrangement") == layout.name
    if not (layout.takes_any or itself or layout.elements == first.format.name):
        raise SourceError(
            f"{layout.name} holds {layout.elements or 'records of mixed types'}, the snapshot {first.format.name}; "
            f"{'add --cast ' + layout.elements if not layout.packed else 'give a snapshot captured from the engine'}"
        )
    _, tokens, _ = first.shape
    block = block_tokens or layout.block_tokens or tokens
    if not layout.paged:
        block = tokens
    kept = tokens - tokens % block if tokens >= block else tokens
    plan = plan_blocks([kept], block_tokens=block)
    pages = {key: blocks_of([_array(t)[:, :kept]], plan) for key, t in caches.items()}
    place = _Places.of(pages, block)
    memory = lay_out(pages, layout)
    where = lay_out({key: place.of_page(key) for key in pages}, layout, first.format.storage.itemsize)
    data = np.concatenate([_by_page(memory[name], layout, name) for name in memory])
    index = np.concatenate([_by_page(where[name], layout, name) for name in memory])
    return _laid(data, index, place, layout, caches, kept)


@dataclass(frozen=True, slots=True)
class _Places:
    """Numbers for every item of the caches, from which its layer, side, page, head, slot and channel are told."""

    keys: tuple[tuple[str, int], ...]
    shape: tuple[int, ...]
    block: int

    @classmethod
    def of(cls, pages: dict[tuple[str, int], Bits], block: int) -> _Places:
        return cls(tuple(pages), next(iter(pages.values())).shape, block)

    def of_page(self, key: tuple[str, int]) -> NDArray[np.unsignedinteger]:
        """uint64[pages, heads, slots, dim]: number of each item."""
        n = math.prod(self.shape)
        start = self.keys.index(key) * n
        return np.arange(start, start + n, dtype=np.uint64).reshape(self.shape)

    def told(self, number: NDArray[np.uint64]) -> tuple[NDArray[np.int64], ...]:
        """(cache, page, head, slot, channel within the head) of items."""
        return np.unravel_index(number.astype(np.int64), (len(self.keys), *self.shape))


def _array(tensor: TensorRef) -> Bits:
    return tensor.read(0, tensor.n_bytes).view(tensor.format.storage).reshape(tensor.shape)


def _by_page(tensor: Bits, layout: Layout, name: str) -> Bits:
    """[pages, items] of one tensor: what belongs to one page (of one layer, or of all), in memory order."""
    axes = layout.axes[name.split("_")[0]]
    front = [i for i, axis in enumerate(axes) if axis in "BS" or (axis == "L" and not layout.whole_pages)]
    rest = [i for i in range(len(axes)) if i not in front]
    n = math.prod(tensor.shape[i] for i in front)
    return np.ascontiguousarray(tensor.transpose(front + rest)).reshape(n, -1)


def _laid(
    data: Bits,
    index: NDArray[np.unsignedinteger],
    place: _Places,
    layout: Layout,
    caches: dict[tuple[str, int], TensorRef],
    tokens: int,
) -> Laid:
    n_pages, items = data.shape
    per = LINE_BYTES // data.dtype.itemsize
    short = -items % per
    # the end of a page that does not fill its last line repeats the last item's place, and is zero
    lines = np.pad(data, ((0, 0), (0, short))).view(np.uint8).reshape(n_pages, -1, LINE_BYTES)
    firsts = index[:, ::per].astype(np.uint64)
    cache, page, head, slot, dim = place.told(firsts.reshape(-1))
    heads, width = place.shape[1], place.shape[3]
    run, span, positioned = _geometry(index[0], place, per)
    channel = (head * width + dim).astype(np.uint32)
    position = page * place.block + slot
    flat = lines.reshape(-1, LINE_BYTES)
    streams: dict[Stream, tuple[NDArray[np.int64], Lines]] = {}
    for number, (kind, layer) in enumerate(place.keys):
        at = np.flatnonzero(cache == number)
        tensor = caches[kind, layer]
        part = Lines(np.ascontiguousarray(flat[at]), tensor.format)
        if span:
            part = replace(part, geometry=Geometry(channel[at], heads * width, run, span))
            if positioned:
                known = tokens_of(kind, tensor.shape, tensor.metadata, tensor.positions)
                part = known.place(part, position[at], width)
        streams[layer, kind] = (at, part)
    some = next(iter(caches.values()))
    page_bytes = items * data.dtype.itemsize
    return Laid(
        layout, some.format, page_bytes, lines.shape[1], n_pages, tokens, place.block, lines, streams
    )  # fmt: skip


def _geometry(index: NDArray[np.unsignedinteger], place: _Places, per: int) -> tuple[int, int, bool]:
    """(run, span, whether positions hold) of a page's lines as `Lines` says them; span 0 where it cannot.

    Tried and held against the place of every item of the page, not derived: a layout from a data file need not be one
    that lines can describe.
    """
    whole = index[: len(index) - len(index) % per].reshape(-1, per)
    if not len(whole):
        return 0, 0, False
    cache, _, head, slot, dim = (side.reshape(whole.shape) for side in place.told(whole.reshape(-1)))
    width, block = place.shape[3], place.shape[2]
    channel, j = head * width + dim, np.arange(per)
    if (cache != cache[:, :1]).any():
        return 0, 0, False
    first = channel[:, :1]
    x = int(np.argmax(channel[0] != first[0] + j)) or per
    for run, span in ((1, place.shape[1] * width), (1, width), (1, x), (min(block, per), place.shape[1] * width)):
        if not (channel == first - first % span + (first % span + j // run) % span).all():
            continue
        later = j % run if run > 1 else (first % span + j) // span
        return run, span, bool((slot == slot[:, :1] + later).all())
    return 0, 0, False


def pages_case(uri: str, fit: str, contract: str, codec: str, granularity: str, seed: int) -> dict[str, Any]:
    """A row of the table ``pages``; see `linepress.run.pages_stage`."""
    layout = layout_named(contract, "contract")
    laid = lay(open_source(uri).tensors(), layout)
    fitted = lay(open_source(fit).tensors(), layout) if fit else laid
    rows = measure_pages(laid, fitted, Variant.parse(codec).codec, seed=seed)  # type: ignore[arg-type]
    row = next(row for row in rows if row["granularity"] == granularity)
    return {key: value for key, value in row.items() if key != "line_codec"}


def measure_pages(laid: Laid, fitted: Laid, codec: LineCodec | BlockCodec, *, seed: int = 0) -> list[dict[str, Any]]:
    """What ``codec`` makes of a snapshot's lines, pages and whole: one row each, see `GRANULARITIES`.

    ``fitted`` is what tables are learned from, ``laid`` itself or another text in the same layout; then rows of a
    line codec say beside it what tables of ``laid`` itself would give.
    """
    if isinstance(codec, LineCodec):
        rows = _by_lines(laid, fitted, codec)
        if fitted is not laid:
            for row, own in zip(rows, _by_lines(laid, laid, codec), strict=True):
                row["own_text_ratio"] = own["ratio"]
        return rows
    return _by_blocks(laid, codec, seed)


def coder_rate(laid: Laid, fitted: Laid, codec: LineCodec | BlockCodec) -> tuple[float, float]:
    """(encode, decode) raw GB/s of one core on pages, median of `RATE_ROUNDS` after one that compiles.

    Processor time, so that other work on the machine does not count; `RATE_BYTES` or a layer's keys are gone through.
    """
    work: list[tuple[Callable[[], object], Callable[[], object]]] = []
    n_bytes = 0
    if isinstance(codec, LineCodec):
        for stream, (_, lines) in laid.streams.items():
            tables = codec.fit([fitted.streams[stream][1]])
            packed = codec.encode(lines, tables)
            work.append((partial(codec.encode, lines, tables), partial(codec.decode, packed, tables)))
            n_bytes += lines.data.nbytes
            if n_bytes >= RATE_BYTES:
                break
    else:
        for page in laid.data:
            raw = bytes(page.reshape(-1)[: min(laid.page_bytes, LARGEST_BLOCK)])
            own = _with_block(codec, len(raw))
            work.append((partial(own.encode, raw), partial(own.decode, own.encode(raw), len(raw))))
            n_bytes += len(raw)
            if n_bytes >= RATE_BYTES:
                break
    seconds = np.empty((RATE_ROUNDS + 1, 2))
    for rounds in seconds:
        for direction in (0, 1):
            began = process_time()
            for both in work:
                both[direction]()
            rounds[direction] = process_time() - began
    encode, decode = n_bytes / np.median(seconds[1:], axis=0) / 1e9
    return float(encode), float(decode)


def _with_block(codec: BlockCodec, n_bytes: int) -> BlockCodec:
    """The codec with blocks as large as ``n_bytes`` asks, or the largest."""
    block = min(max(1 << (n_bytes - 1).bit_length(), LINE_BYTES), LARGEST_BLOCK)
    return replace(codec, block=block)  # type: ignore[type-var]


def _by_lines(laid: Laid, fitted: Laid, codec: LineCodec) -> list[dict[str, Any]]:
    if not set(fitted.streams) >= set(laid.streams):
        raise SourceError("the text to fit on lacks layers of the snapshot; capture the same ones")
    bits = np.zeros(laid.n_pages * laid.lines_a_page, np.int64)
    table_bytes, right = 0, True
    sides = {"key": [0, 0], "value": [0, 0]}
    for stream, (at, lines) in laid.streams.items():
        codec.check(lines)
        tables = codec.fit([fitted.streams[stream][1]])
        stored = tables.to_bytes()
        packed = codec.encode(lines, tables)
        right &= bool(np.array_equal(codec.decode(packed, codec.tables_from_bytes(stored)), lines.data))
        bits[at] = packed.bits
        table_bytes += len(stored)
        sides[stream[1]][0] += LINE_BITS * len(lines)
        sides[stream[1]][1] += int(packed.bits.sum(dtype=np.int64))
    per_page = bits.reshape(laid.n_pages, laid.lines_a_page)
    line_bytes = -(-np.minimum(bits, LINE_BITS) // 8)
    pages = -(-(per_page.sum(axis=1) + SIZE_BITS * laid.lines_a_page) // 8)
    card = codec.card(laid.format)
    step = card.initiation_interval_cycles.value / card.clock_GHz.value
    more = (laid.lines_a_page - 1) * step
    common: dict[str, Any] = {"lossless": right, "table_bytes": table_bytes, "sampled": False}
    common |= {f"{side}_ratio": raw / coded if coded else None for side, (raw, coded) in sides.items()}
    latency = (card.encode_latency_ns, card.decode_latency_ns)
    whole = int(np.minimum(pages, laid.page_bytes).sum()) + table_bytes
    payload = int(bits.sum()) / 8
    return [
        _row(laid, codec, "line", line_bytes, LINE_BYTES, 0, latency, common, payload_bytes=payload),
        _row(laid, codec, "page", pages, laid.page_bytes, None, tuple(ns + more for ns in latency), common),
        _row(laid, codec, "object", np.array([whole]), laid.n_pages * laid.page_bytes, None, (None, None), common),
    ]


def _by_blocks(laid: Laid, codec: BlockCodec, seed: int) -> list[dict[str, Any]]:
    flat = laid.data.reshape(-1, LINE_BYTES)
    rng = np.random.Generator(np.random.PCG64(seed))
    some = np.sort(rng.choice(len(flat), min(SAMPLE_LINES, len(flat)), replace=False))
    pages = [page.reshape(-1)[: laid.page_bytes] for page in laid.data]
    units: dict[str, Iterable[NDArray[np.uint8]]] = {
        "line": flat[some],
        "page": pages,
        "object": [np.concatenate(pages)],
    }
    rows = []
    for granularity, parts in units.items():
        sizes: list[int] = []
        right = True
        latency: tuple[float | None, float | None] = (None, None)
        for part in parts:
            size, same, latency = _coded(codec, part)
            sizes.append(size)
            right &= same
        common = {"lossless": right, "table_bytes": 0, "sampled": granularity == "line" and len(some) < len(flat)}
        raw = {"line": LINE_BYTES, "page": laid.page_bytes, "object": laid.n_pages * laid.page_bytes}[granularity]
        rows.append(_row(laid, codec, granularity, np.array(sizes), raw, None, latency, common))
    return rows


def _coded(codec: BlockCodec, part: NDArray[np.uint8]) -> tuple[int, bool, tuple[float | None, float | None]]:
    """Bytes of one unit in blocks as large as it, or of the largest; whether it came back; latencies of one block."""
    own = _with_block(codec, part.nbytes)
    block = own.block
    size, right = 0, True
    for start in range(0, part.nbytes, block):
        raw = bytes(part[start : start + block])
        code = own.encode(raw)
        right &= own.decode(code, len(raw)) == raw
        size += len(code)
    card = own.card(None) if part.nbytes <= block else None  # type: ignore[arg-type]
    return size, right, (None, None) if card is None else (card.encode_latency_ns, card.decode_latency_ns)


def _row(
    laid: Laid,
    codec: LineCodec | BlockCodec,
    granularity: str,
    sizes: NDArray[np.integer],
    unit_bytes: int,
    grew: int | None,
    latency: tuple[float | None, ...],
    common: dict[str, Any],
    payload_bytes: float | None = None,
) -> dict[str, Any]:
    """One row. ``sizes`` are coded bytes of each unit before units that do not shrink go as they are."""
    kept = np.minimum(sizes, unit_bytes)
    raw = unit_bytes * len(sizes)
    # what a page costs to move: whole lines of it, or every line of it in the smallest slot that holds it
    if granularity == "line":
        slots = np.array([unit_bytes * n // d for _, n, d in SLOTS] + [unit_bytes])
        moved = float(slots[np.searchsorted(slots, kept)].mean()) * laid.lines_a_page
    elif granularity == "page":
        moved = float((-(-kept // LINE_BYTES) * LINE_BYTES).mean())
    else:
        moved = float(kept.sum()) / laid.n_pages
    return {
        "contract": laid.layout.name,
        "engine": laid.layout.engine,
        "codec": codec.spec,
        "line_codec": isinstance(codec, LineCodec),
        "granularity": granularity,
        "units": len(sizes),
        "unit_bytes": unit_bytes,
        "page_bytes": laid.page_bytes,
        "ratio": raw / (payload_bytes if payload_bytes is not None else float(kept.sum())),
        "own_text_ratio": None,
        "worst_ratio": unit_bytes / float(kept.max()) if kept.max() else None,
        **{f"fits_{name}": float((kept * d <= unit_bytes * n).mean()) for name, n, d in SLOTS},
        "moved_bytes": 2 * moved,
        "grew": int((sizes > unit_bytes).sum()) if grew is None else grew,
        "encode_ns": latency[0],
        "decode_ns": latency[1],
        "key_ratio": None,
        "value_ratio": None,
        **common,
    }
