"""How a tensor becomes lines: the order of its elements in memory before a codec sees them.

Layouts (elements are stored bits; ``per`` = elements in a line)
----------------------------------------------------------------
``row``
    As stored, C order; the tail of the last line is zero padded.
``output``
    A 2-D weight ``[out, in]``: lines of one output row, each row padded to whole lines; channel = the row.
``channel``
    ``[..., tokens, dim]``: a line holds ``per`` consecutive tokens of one channel. All axes before the last two are
    heads; channel id = head * dim + d. Lines are ordered [token block][head][d], so that a page of ``per`` tokens
    is contiguous. A 2-D array is ``[tokens, channels]``: its last axis is the channel (for a weight ``[out, in]``
    that is the input channel; `output` keeps a line inside one output row).
``paged-vllm``
    KV cache in blocks of 16 tokens, vLLM's NHD order ``[block, token, head, dim]`` (FlashAttention backend).
``paged-vllm-k``
    vLLM's classic paged-attention key cache ``[block, head, dim/x, token, x]`` with x = 16 B of elements.
``paged-vllm-v``
    The matching value cache ``[block, head, dim, token]``.
``paged-hf``
    Hugging Face's order, heads outermost, cut into blocks: ``[head, block, token, dim]``.

Channels: every token layout knows the channel of each element (head * dim + d; see `Lines` for how runs and spans say
it). `row` does so for tensors of two axes or more with at least `ROW_TOKENS` tokens, the last axis being the
channel; where heads do not end on a line, the head of a line's first element stands for the whole line.

Partially filled pages: tokens are padded with zeros up to whole blocks (whole lines in `channel`), since that is
what an allocator holds; `Extent.pad_bytes` says how much of the line bytes is such padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES, Geometry, Lines
from linepress_codecs.errors import SpecError, UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tokens import (
    BLOCK_TOKENS,
    RowPlace,
    Tokens,
    key_x,
    page_channels,
    page_tokens,
    row_places,
)

ROW_TOKENS = 16
"""Fewer tokens in `row` have no channels: parameters of about two bytes a channel could not pay."""
ROW_CHANNELS = 1 << 20
"""More channels in `row` are none, which bounds the memory of a fit."""

LAYOUTS: dict[str, str] = {
    "row": "as stored, C order",
    "output": "2-D weights: lines of one output row, rows padded to whole lines",
    "channel": "a line holds consecutive tokens of one channel, ordered [token block][head][channel]",
    "paged-vllm": "blocks of 16 tokens, [block, token, head, dim] (vLLM NHD)",
    "paged-vllm-k": "blocks of 16 tokens, [block, head, dim/x, token, x], x = 16 B (vLLM classic keys)",
    "paged-vllm-v": "blocks of 16 tokens, [block, head, dim, token] (vLLM classic values)",
    "paged-hf": "blocks of 16 tokens, [head, block, token, dim] (Hugging Face order)",
}


@dataclass(frozen=True, slots=True)
class Extent:
    """What a tensor of ``shape`` becomes in a layout.

    Attributes
    ----------
    n_elements : int
        Elements of the tensor (nibbles for packed four-bit formats).
    raw_bytes : int
        Bytes of the tensor as stored.
    n_lines, line_bytes : int
    pad_bytes : int
        Zero bytes added to fill lines and pages: ``n_lines * line_bytes - raw_bytes``. In paged layouts this is
        what the allocator holds beyond the tokens written.
    n_channels : int
        1 where the layout has no channels.
    """

    n_elements: int
    raw_bytes: int
    n_lines: int
    line_bytes: int
    pad_bytes: int
    n_channels: int

    @property
    def allocated_bytes(self) -> int:
        return self.n_lines * self.line_bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a tensor that turns into lines on its own; the lines of all chunks in order are the tensor's.

    Attributes
    ----------
    index : tuple[slice, ...]
        Index into the array of the tensor's shape, or into its flat view where ``flat``.
    flat : bool
        Whether ``index`` counts elements of the flattened (C order) array.
    first_channel, n_channels : int
        To be handed to `to_lines`.
    row : RowPlace | None
        Likewise; where a flat part lies in its tensor.
    first_token : int
        Likewise; the first token of a part of the token axis.
    """

    index: tuple[slice, ...]
    flat: bool
    first_channel: int
    n_channels: int
    row: RowPlace | None = None
    first_token: int = 0

    def lines(
        self,
        part: NDArray[np.generic],
        layout: str,
        fmt: Format,
        line_bytes: int = LINE_BYTES,
        tokens: Tokens | None = None,
    ) -> Lines:
        """Lines of this chunk, given its part of the array and what is known of the tensor's tokens."""
        return to_lines(
            part,
            layout,
            fmt,
            line_bytes,
            first_channel=self.first_channel,
            n_channels=self.n_channels,
            row=self.row,
            first_token=self.first_token,
            tokens=tokens,
        )

    def of(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The chunk's part of the whole array (a view)."""
        return (array.reshape(-1) if self.flat else array)[self.index]


def check_layout(layout: str) -> str:
    """``layout`` itself; raises `SpecError` naming the known ones if there is none of that name."""
    if layout not in LAYOUTS:
        raise SpecError(f"unknown layout {layout!r}: use one of {', '.join(LAYOUTS)}")
    return layout


def stored_bits(array: NDArray[np.generic], fmt: Format) -> NDArray[np.unsignedinteger]:
    """The array as little-endian unsigned integers of the format's stored width, contiguous, bits unchanged.

    Accepts any dtype of the right item size (a big-endian one has its bytes swapped, as its values mean).
    Raises `UnsupportedFormatError` for another item size.
    """
    array = np.asarray(array)
    want = fmt.storage
    if array.dtype.itemsize != want.itemsize:
        raise UnsupportedFormatError(
            f"array of {array.dtype} has {array.dtype.itemsize} B an element but {fmt.name} is stored in "
            f"{want.itemsize} B: view it as {want.name} or name another format"
        )
    shape = array.shape
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        flat = flat.view(np.dtype(f"u{want.itemsize}")).byteswap()
    return flat.view(want).reshape(shape)


def _per_line(fmt: Format, line_bytes: int) -> int:
    if line_bytes not in (32, 64, 128):
        raise SpecError(f"line size {line_bytes} B is not supported: use 32, 64 or 128")
    return line_bytes // fmt.storage.itemsize


def _tokens(shape: Sequence[int], layout: str, fmt: Format) -> tuple[int, int, int]:
    """(heads, tokens, dim) of a tensor in a token layout."""
    if len(shape) < 2:
        raise SpecError(f"layout {layout} needs [..., tokens, dim] but the tensor has shape {list(shape)}: use row")
    if fmt.bits < 8:
        raise UnsupportedFormatError(f"layout {layout} cannot reorder packed {fmt.name} elements: use row")
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def extent(shape: Sequence[int], layout: str, fmt: Format, line_bytes: int = LINE_BYTES) -> Extent:
    """Counts of lines, channels and padding of a tensor of ``shape`` (in stored items) in ``layout``."""
    check_layout(layout)
    per = _per_line(fmt, line_bytes)
    items = math.prod(shape)
    n_channels = 1
    if layout == "row":
        n_lines = -(-items // per)
        place = _row_place(shape, fmt)
        n_channels = items // place.tokens if place else 1
    elif layout == "output":
        rows, columns = _rows(shape)
        n_lines, n_channels = rows * -(-columns // per), max(rows, 1)
    else:
        heads, tokens, dim = _tokens(shape, layout, fmt)
        if layout == "channel":
            n_lines, n_channels = -(-tokens // per) * heads * dim, max(heads * dim, 1)
        else:
            if layout == "paged-vllm-k":
                key_x(fmt, dim)
            n_channels = max(heads * dim, 1)
            blocks = -(-tokens // BLOCK_TOKENS)
            held = blocks * BLOCK_TOKENS * heads * dim
            n_lines = heads * -(-(held // max(heads, 1)) // per) if layout == "paged-hf" else -(-held // per)
    size = fmt.storage.itemsize
    return Extent(
        n_elements=fmt.elements_in(items * size),
        raw_bytes=items * size,
        n_lines=n_lines,
        line_bytes=line_bytes,
        pad_bytes=n_lines * line_bytes - items * size,
        n_channels=n_channels,
    )


def _row_place(shape: Sequence[int], fmt: Format) -> RowPlace | None:
    """Start of a whole tensor in `row`; None if it has no channels."""
    if len(shape) < 2 or fmt.bits < 8 or shape[-2] < ROW_TOKENS:
        return None
    channels = math.prod(shape[:-2]) * shape[-1]
    return RowPlace(0, shape[-2], shape[-1]) if 0 < channels <= ROW_CHANNELS else None


def _rows(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        raise SpecError(f"layout output needs [out, in] but the tensor has shape {list(shape)}: use row")
    return math.prod(shape[:-1]), shape[-1]


def _pad_tokens(bits: NDArray[np.unsignedinteger], tokens: int) -> NDArray[np.unsignedinteger]:
    """[heads, t, dim] with zeros appended along t up to ``tokens``."""
    short = tokens - bits.shape[1]
    return np.pad(bits, ((0, 0), (0, short), (0, 0))) if short else bits


def _as_lines(flat: NDArray[np.unsignedinteger], per: int, line_bytes: int) -> NDArray[np.uint8]:
    flat = np.ascontiguousarray(flat).reshape(-1)
    short = -len(flat) % per
    if short:
        flat = np.concatenate([flat, np.zeros(short, flat.dtype)])
    return flat.view(np.uint8).reshape(-1, line_bytes)


def to_lines(
    array: NDArray[np.generic],
    layout: str,
    fmt: Format,
    line_bytes: int = LINE_BYTES,
    *,
    first_channel: int = 0,
    n_channels: int | None = None,
    row: RowPlace | None = None,
    first_token: int = 0,
    tokens: Tokens | None = None,
) -> Lines:
    """The lines of a tensor, or of one `Chunk` of it.

    Parameters
    ----------
    array : unsigned[...]
        Stored bits in the tensor's shape (any byte order or strides; see `stored_bits`).
    first_channel, n_channels
        For a chunk: the id of its first channel and the channel count of the whole tensor (see `chunks`).
    row
        For a flat chunk: where it starts in a tensor that has channels.
    first_token
        For a chunk: the token of the whole tensor that its first one is.
    tokens
        Positions of the tensor's tokens (0, 1, 2 … unless given) and the rotation of its channels, if known.

    Raises `SpecError` for a layout the shape cannot take, `UnsupportedFormatError` for a wrong item size.
    """
    shape = np.shape(array)
    tokens = tokens or Tokens()
    counts = extent(shape, layout, fmt, line_bytes)
    bits = stored_bits(array, fmt)
    per = _per_line(fmt, line_bytes)
    total = counts.n_channels if n_channels is None else n_channels
    if counts.n_lines == 0:
        return Lines(_as_lines(bits, per, line_bytes), fmt, Geometry(_no_channels(layout), max(total, 1)))
    if layout == "row":
        place = row or _row_place(shape, fmt)
        if place is None:
            return Lines(_as_lines(bits, per, line_bytes), fmt)
        ids, token = row_places(place, counts.n_lines, per)
        plain = Lines(_as_lines(bits, per, line_bytes), fmt, Geometry(ids, total, 1, place.dim))
        return tokens.place(plain, token, place.dim)
    if layout == "output":
        rows, columns = _rows(shape)
        short = -columns % per
        body = np.pad(bits.reshape(rows, columns), ((0, 0), (0, short)))
        ids = np.repeat(np.arange(first_channel, first_channel + rows, dtype=np.uint32), (columns + short) // per)
        return Lines(_as_lines(body, per, line_bytes), fmt, Geometry(ids, total))
    heads, n_tokens, dim = _tokens(shape, layout, fmt)
    body = bits.reshape(heads, n_tokens, dim)
    if layout == "channel":
        blocks = -(-n_tokens // per)
        body = _pad_tokens(body, blocks * per).reshape(heads, blocks, per, dim).transpose(1, 0, 3, 2)
        one_block = np.arange(first_channel, first_channel + heads * dim, dtype=np.uint32)
        plain = Lines(_as_lines(body, per, line_bytes), fmt, Geometry(np.tile(one_block, blocks), total))
        at = first_token + per * (np.arange(len(plain)) // max(heads * dim, 1))
        return tokens.place(plain, at, dim)
    blocks = -(-n_tokens // BLOCK_TOKENS)
    paged = _pad_tokens(body, blocks * BLOCK_TOKENS).reshape(heads, blocks, BLOCK_TOKENS, dim)
    if layout == "paged-hf":
        flat = paged.reshape(heads, -1)
        data = _as_lines(np.pad(flat, ((0, 0), (0, -flat.shape[1] % per))), per, line_bytes)
    else:
        data = _as_lines(_paged(paged, layout, fmt), per, line_bytes)
    ids, run, span = page_channels(layout, fmt, len(data), per, heads, dim)
    plain = Lines(data, fmt, Geometry(ids + np.uint32(first_channel), total, run, span))
    return tokens.place(plain, first_token + page_tokens(layout, fmt, len(data), per, heads, dim), dim)


def _no_channels(layout: str) -> NDArray[np.uint32] | None:
    return np.zeros(0, np.uint32) if layout in ("channel", "output") else None


def _paged(paged: NDArray[np.unsignedinteger], layout: str, fmt: Format) -> NDArray[np.unsignedinteger]:
    """[heads, blocks, 16, dim] in the order of a vLLM layout."""
    heads, blocks, tokens, dim = paged.shape
    if layout == "paged-vllm":
        return paged.transpose(1, 2, 0, 3)
    if layout == "paged-vllm-v":
        return paged.transpose(1, 0, 3, 2)
    x = key_x(fmt, dim)
    return paged.reshape(heads, blocks, tokens, dim // x, x).transpose(1, 0, 3, 2, 4)


def from_lines(
    data: NDArray[np.uint8], shape: Sequence[int], layout: str, fmt: Format
) -> NDArray[np.unsignedinteger]:
    """Inverse of `to_lines` for a whole tensor (or for a chunk, with the chunk's shape): stored bits in ``shape``."""
    line_bytes = int(data.shape[1])
    counts = extent(shape, layout, fmt, line_bytes)
    if len(data) != counts.n_lines:
        raise SpecError(
            f"{len(data)} lines cannot be a tensor {list(shape)} in layout {layout}: it has {counts.n_lines}"
        )
    shape = tuple(shape)
    flat = np.ascontiguousarray(data).reshape(-1).view(fmt.storage)
    items = math.prod(shape)
    if layout == "row" or items == 0:
        return flat[:items].reshape(shape)
    per = _per_line(fmt, line_bytes)
    if layout == "output":
        rows, columns = _rows(shape)
        return np.ascontiguousarray(flat.reshape(rows, -1)[:, :columns]).reshape(shape)
    heads, tokens, dim = _tokens(shape, layout, fmt)
    if layout == "channel":
        body = flat.reshape(-1, heads, dim, per).transpose(1, 0, 3, 2).reshape(heads, -1, dim)
    else:
        blocks = -(-tokens // BLOCK_TOKENS)
        if layout == "paged-hf":
            body = flat.reshape(heads, -1)[:, : blocks * BLOCK_TOKENS * dim].reshape(heads, -1, dim)
        else:
            flat = flat[: blocks * BLOCK_TOKENS * heads * dim]
            if layout == "paged-vllm":
                paged = flat.reshape(blocks, BLOCK_TOKENS, heads, dim).transpose(2, 0, 1, 3)
            elif layout == "paged-vllm-v":
                paged = flat.reshape(blocks, heads, dim, BLOCK_TOKENS).transpose(1, 0, 3, 2)
            else:
                x = key_x(fmt, dim)
                paged = flat.reshape(blocks, heads, dim // x, BLOCK_TOKENS, x).transpose(1, 0, 3, 2, 4)
            body = paged.reshape(heads, -1, dim)
    return np.ascontiguousarray(body[:, :tokens]).reshape(shape)


def chunks(
    shape: Sequence[int], layout: str, fmt: Format, chunk_bytes: int, line_bytes: int = LINE_BYTES
) -> Iterator[Chunk]:
    """Parts of a tensor of about ``chunk_bytes`` bytes (never fewer than one line's or one page's worth).

    ``chunk.lines(chunk.of(array), layout, fmt, line_bytes)`` over all chunks in order equals the lines of the whole
    array. `row` cuts the flat array; `output` cuts rows; `channel` and the vLLM layouts cut the token axis at whole
    blocks (every head, so a reader of the file touches one range a head); `paged-hf` cuts heads, then tokens of one
    head. An empty tensor yields no chunks.
    """
    counts = extent(shape, layout, fmt, line_bytes)
    per = _per_line(fmt, line_bytes)
    size = fmt.storage.itemsize
    items = math.prod(shape)
    if items == 0:
        return
    if layout == "row":
        step = max(chunk_bytes // line_bytes, 1) * per
        for start in range(0, items, step):
            place = _row_place(shape, fmt)
            here = None if place is None else RowPlace(start, place.tokens, place.dim)
            yield Chunk((slice(start, min(start + step, items)),), True, 0, counts.n_channels, here)
        return
    if layout == "output":
        rows, columns = _rows(shape)
        step = max(chunk_bytes // (columns * size), 1)
        if len(shape) != 2:
            yield Chunk(tuple(slice(0, n) for n in shape), False, 0, counts.n_channels)
            return
        for start in range(0, rows, step):
            yield Chunk((slice(start, min(start + step, rows)), slice(0, columns)), False, start, counts.n_channels)
        return
    heads, tokens, dim = _tokens(shape, layout, fmt)
    lead = tuple(slice(0, n) for n in shape[:-2])
    whole_dim = slice(0, dim)
    if layout == "paged-hf" and len(shape) == 3:
        held = -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS * dim * size
        if held <= chunk_bytes:
            step = chunk_bytes // held
            for head in range(0, heads, step):
                part = (slice(head, min(head + step, heads)), slice(0, tokens), whole_dim)
                yield Chunk(part, False, head * dim, counts.n_channels)
            return
        step = _token_step(chunk_bytes, dim * size, BLOCK_TOKENS, BLOCK_TOKENS * dim, per)
        for head in range(heads):
            for start in range(0, tokens, step):
                part = (slice(head, head + 1), slice(start, min(start + step, tokens)), whole_dim)
                yield Chunk(part, False, head * dim, counts.n_channels, first_token=start)
        return
    if layout == "paged-hf":
        yield Chunk((*lead, slice(0, tokens), whole_dim), False, 0, counts.n_channels)
        return
    unit = per if layout == "channel" else BLOCK_TOKENS
    step = _token_step(chunk_bytes, heads * dim * size, unit, unit * heads * dim, per)
    for start in range(0, tokens, step):
        stretch = slice(start, min(start + step, tokens))
        yield Chunk((*lead, stretch, whole_dim), False, 0, counts.n_channels, first_token=start)


def _token_step(chunk_bytes: int, token_bytes: int, unit: int, unit_items: int, per: int) -> int:
    """Tokens in a chunk: whole blocks of ``unit`` tokens that also fill whole lines."""
    blocks = per // math.gcd(unit_items, per)
    step = unit * blocks
    return max(chunk_bytes // (step * token_bytes), 1) * step


def iter_lines(
    array: NDArray[np.generic],
    layout: str,
    fmt: Format,
    chunk_bytes: int = 16 << 20,
    line_bytes: int = LINE_BYTES,
    tokens: Tokens | None = None,
) -> Iterator[Lines]:
    """The lines of an array (in memory or memory-mapped) chunk by chunk."""
    for chunk in chunks(array.shape, layout, fmt, chunk_bytes, line_bytes):
        yield chunk.lines(chunk.of(array), layout, fmt, line_bytes, tokens)
