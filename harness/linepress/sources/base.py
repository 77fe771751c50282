"""The two things every source hands on: `TensorRef`, one array that reads itself, and `Source`, a set of them."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice, product
from operator import mul

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.bytes import Bytes, Location, check_range
from linepress.sources.casts import Cast, cast_range
from linepress.sources.rotation import tokens_of
from linepress_codecs.contracts import LINE_BYTES, ItemCounts, Lines
from linepress_codecs.formats import Format, format_named
from linepress_codecs.layout import Chunk, chunks, extent

HASH_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class TensorRef:
    """One tensor of a source: a few hundred bytes that travel to a worker, which then reads the tensor's own bytes.

    Attributes
    ----------
    uri : str
        The source as the user named it.
    revision : str
        40-hex commit for the hub, ``sha256:…`` of the header for a file (its bytes are covered by
        `content_sha256`), the resolved parameters for synthetic tensors.
    name : str
    stored_format : str
        Name of the element format as stored (`linepress_codecs.formats`).
    shape : tuple of int
        Shape in stored units (bytes for packed four-bit formats), row-major, last axis fastest.
    location : Location
        Where the bytes lie.
    group, layer, kind
        As `linepress.sources.groups.Place`.
    notes : tuple of (key, value)
        What the source says about it: ``keys=post-RoPE``, ``weights=GGUF dequantised…``, ``tokens=512``.
    cast : str
        Resolved cast (``e4m3:scale=tensor``), empty for the bytes as stored.
    stored_shape : tuple of int
        Shape in stored units where the cast changes it (``dequant:bf16``: blocks to values); else empty.
    positions : bytes
        uint32 position of each token in its sequence, where a cache holds several sequences; else empty.
    base : TensorRef | None
        An older version of the tensor, whose lines go with its own.
    """

    uri: str
    revision: str
    name: str
    stored_format: str
    shape: tuple[int, ...]
    location: Location
    group: str
    layer: int | None
    kind: str
    notes: tuple[tuple[str, str], ...] = ()
    cast: str = ""
    stored_shape: tuple[int, ...] = ()
    positions: bytes = b""
    base: TensorRef | None = None

    def __post_init__(self) -> None:
        stored = format_named(self.stored_format)
        if math.prod(self.stored_shape or self.shape) * stored.storage.itemsize != self.location.n_bytes:
            raise SourceError(
                f"tensor {self.name!r}: shape {list(self.shape)} of {self.stored_format} does not fill "
                f"{self.location.n_bytes} B"
            )

    @property
    def format(self) -> Format:
        """Element format of the bytes that `read` gives (the cast's, where there is one)."""
        return format_named(Cast.parse(self.cast).target if self.cast else self.stored_format)

    @property
    def n_elements(self) -> int:
        """Number of elements (two to a byte for packed four-bit formats)."""
        return self.format.elements_in(self.n_bytes)

    @property
    def n_bytes(self) -> int:
        """Bytes that `read` can give, after the cast."""
        return math.prod(self.shape) * self.format.storage.itemsize

    @property
    def metadata(self) -> dict[str, str]:
        """`notes` as a dict."""
        return dict(self.notes)

    @property
    def identity(self) -> str:
        """Key for caches: changes whenever the stored bytes, their meaning or the cast may have changed."""
        own = f"{self.location.identity}|{self.stored_format}|{list(self.shape)}|{self.cast}"
        return f"{own}|against {self.base.identity}" if self.base else own

    @property
    def local(self) -> bool:
        """Whether reading twice is cheap: a plain file, no cast."""
        return self.location.local and not self.cast

    def with_cast(self, spec: str) -> TensorRef:
        """The same tensor read through a cast; raises `SourceError` if the cast does not take its format."""
        stored = self.stored()
        if not spec or spec == "none":
            return stored
        cast = Cast.parse(spec)
        shape = cast.shape_of(stored)
        return replace(
            stored,
            cast=cast.spec,
            shape=shape,
            stored_shape=() if shape == stored.shape else stored.shape,
            base=self.base.with_cast(spec) if self.base else None,
        )

    def against(self, base: TensorRef) -> TensorRef:
        """The same tensor with ``base`` as its older version; raises `SourceError` where they are not alike."""
        if (base.format.name, base.shape) != (self.format.name, self.shape):
            raise SourceError(
                f"tensor {self.name!r} is {self.format.name} {list(self.shape)} but that of the base is "
                f"{base.format.name} {list(base.shape)}: give a version of the same model in the same format"
            )
        return replace(self, base=base)

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        """Bytes ``start_byte … end_byte`` (after the cast; whole elements if there is one), uint8, writable."""
        check_range(start_byte, end_byte, self.n_bytes, self.name)
        if self.cast:
            return cast_range(self.stored(), Cast.parse(self.cast), start_byte, end_byte)
        return self.location.read(start_byte, end_byte)

    def stored(self) -> TensorRef:
        """The same tensor without a cast."""
        return replace(self, cast="", shape=self.stored_shape or self.shape, stored_shape=()) if self.cast else self

    def chunks(
        self, chunk_bytes: int, layout: str = "row", multiple_bytes: int = 64
    ) -> Iterator[NDArray[np.unsignedinteger]]:
        """The tensor in parts of about ``chunk_bytes`` bytes, arrays of stored unsigned bits.

        The parts are those of ``linepress_codecs.layout.chunks``: their lines, one after the other, are the lines of
        the whole tensor (`lines` makes them). ``multiple_bytes`` rounds the parts of the row layout to a multiple of
        a codec's block. Never holds more than one part.
        """
        for chunk in chunks(self.shape, layout, self.format, whole_blocks(chunk_bytes, multiple_bytes)):
            yield read_part(self, chunk)

    def lines(
        self,
        chunk_bytes: int,
        layout: str = "row",
        line_bytes: int = LINE_BYTES,
        multiple_bytes: int = 64,
        first_chunk: int = 0,
        end_chunk: int | None = None,
    ) -> Iterator[Lines]:
        """The tensor's lines in ``layout``, part by part; `LineStream` is the re-iterable form.

        ``first_chunk`` … ``end_chunk`` takes these parts only; the others are not read.
        """
        step = whole_blocks(chunk_bytes, multiple_bytes)
        tokens = tokens_of(self.kind, self.shape, self.metadata, self.positions)
        every = chunks(self.shape, layout, self.format, step, line_bytes)
        for chunk in islice(every, first_chunk, end_chunk):
            lines = chunk.lines(read_part(self, chunk), layout, self.format, line_bytes, tokens)
            if self.base is not None:
                old = chunk.lines(read_part(self.base, chunk), layout, self.format, line_bytes)
                lines = replace(lines, geometry=replace(lines.geometry, base=old.data))
            yield lines

    def content_sha256(self) -> str:
        """sha256 of the bytes as stored (before any cast), streamed."""
        digest = hashlib.sha256()
        stored = self.stored()
        for start in range(0, stored.n_bytes, HASH_CHUNK_BYTES):
            digest.update(stored.read(start, min(start + HASH_CHUNK_BYTES, stored.n_bytes)).data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class LineStream:
    """A tensor's lines as a re-iterable of bounded parts, as ``LineCodec.fit`` takes them; each pass reads again.

    ``first_chunk`` … ``end_chunk`` leaves the others out (None: to the end); ``item_counts`` is what was counted of
    all lines before, if anything was.
    """

    tensor: TensorRef
    chunk_bytes: int
    layout: str = "row"
    line_bytes: int = LINE_BYTES
    multiple_bytes: int = 64
    first_chunk: int = 0
    end_chunk: int | None = None
    item_counts: ItemCounts | None = None

    @property
    def n_chunks(self) -> int:
        """Parts of the whole tensor, whichever of them this stream takes."""
        step = whole_blocks(self.chunk_bytes, self.multiple_bytes)
        return sum(1 for _ in chunks(self.tensor.shape, self.layout, self.tensor.format, step, self.line_bytes))

    @property
    def n_lines(self) -> int | None:
        """Lines of the whole tensor, which `linepress_codecs.contracts.count_lines` need not read; None of a part."""
        if self.first_chunk or self.end_chunk is not None:
            return None
        return extent(self.tensor.shape, self.layout, self.tensor.format, self.line_bytes).n_lines

    def __iter__(self) -> Iterator[Lines]:
        return self.tensor.lines(
            self.chunk_bytes,
            self.layout,
            self.line_bytes,
            self.multiple_bytes,
            self.first_chunk,
            self.end_chunk,
        )


def whole_blocks(chunk_bytes: int, multiple_bytes: int) -> int:
    """``chunk_bytes`` rounded down to a multiple of ``multiple_bytes``, at least one multiple."""
    return max(chunk_bytes // multiple_bytes, 1) * multiple_bytes


def read_part(tensor: TensorRef, chunk: Chunk) -> NDArray[np.unsignedinteger]:
    """The part of ``tensor`` that ``chunk`` names, stored bits in the part's shape; one read a contiguous run."""
    storage = tensor.format.storage
    width = storage.itemsize
    shape = (math.prod(tensor.shape),) if chunk.flat else tensor.shape
    counts = tuple(part.stop - part.start for part in chunk.index)
    split = len(shape)  # axes from `split` on are taken whole: one run covers them and the axis before
    while split > 0 and counts[split - 1] == shape[split - 1]:
        split -= 1
    inner = math.prod(shape[split:]) * width
    if split == 0:
        return tensor.read(0, inner).view(storage).reshape(shape)
    last = chunk.index[split - 1]
    run = counts[split - 1] * inner
    strides = [math.prod(shape[axis + 1 :]) * width for axis in range(split - 1)]
    outer = (range(part.start, part.stop) for part in chunk.index[: split - 1])
    starts = [sum(map(mul, index, strides)) + last.start * inner for index in product(*outer)]
    if len(starts) == 1:
        return tensor.read(starts[0], starts[0] + run).view(storage).reshape(counts)
    out = np.empty(math.prod(counts) * width, dtype=np.uint8)
    for i, start in enumerate(starts):
        out[i * run : (i + 1) * run] = tensor.read(start, start + run)
    return out.view(storage).reshape(counts)


class Source(ABC):
    """Where tensors come from. Opening reads headers only."""

    uri: str
    revision: str

    @abstractmethod
    def tensors(self) -> list[TensorRef]:
        """Every tensor whose format linepress knows, in stored order."""

    @abstractmethod
    def provenance(self) -> dict[str, object]:
        """What a record must say about the source: uri, revision, kind, files with sizes and hashes, header notes."""

    def skipped(self) -> dict[str, str]:
        """Tensors that cannot be measured, by name, with the reason."""
        return {}

    def left_out(self) -> dict[str, str]:
        """Files beside those read that hold weights too, by name, with the reason why they are not read."""
        return {}

    def tensor(self, name: str) -> TensorRef:
        """The tensor called ``name``; raises `SourceError` naming some that exist."""
        for tensor in self.tensors():
            if tensor.name == name:
                return tensor
        some = ", ".join(t.name for t in self.tensors()[:3])
        raise SourceError(f"{self.uri} has no tensor {name!r}: it has {some}, …")

    def as_base_of(self, newer: list[TensorRef]) -> list[TensorRef]:
        """``newer``, each against its namesake here; raises `SourceError` where one has none alike."""
        old = {tensor.name: tensor for tensor in self.tensors()}
        missing = [tensor.name for tensor in newer if tensor.name not in old]
        if missing:
            raise SourceError(
                f"{self.uri} has no tensor {missing[0]!r} ({len(missing)} of {len(newer)} are missing): give a "
                "version of the same model as the base, or select only tensors that it has"
            )
        return [tensor.against(old[tensor.name]) for tensor in newer]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tensors of a source to take; every condition given must hold.

    Attributes
    ----------
    names : tuple of str
        Shell patterns on the tensor's name; empty takes all.
    groups : tuple of str
    layers : tuple of int
    kinds : tuple of str
    max_bytes : int | None
        Budget over the whole selection: tensors are taken in stored order while they fit; one that does not fit is
        passed over whole, never cut.
    """

    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    max_bytes: int | None = None

    def of(self, tensors: list[TensorRef]) -> list[TensorRef]:
        """The selected tensors, order kept."""
        chosen = [t for t in tensors if self._takes(t)]
        if self.max_bytes is None:
            return chosen
        within: list[TensorRef] = []
        left = self.max_bytes
        for tensor in chosen:
            if tensor.n_bytes <= left:
                within.append(tensor)
                left -= tensor.n_bytes
        return within

    def _takes(self, t: TensorRef) -> bool:
        return (
            (not self.names or any(fnmatchcase(t.name, pattern) for pattern in self.names))
            and (not self.groups or t.group in self.groups)
            and (not self.layers or t.layer in self.layers)
            and (not self.kinds or t.kind in self.kinds)
        )


def notes_of(metadata: Mapping[str, str], keep: int = 32, width: int = 200) -> tuple[tuple[str, str], ...]:
    """Header metadata as `TensorRef.notes`: sorted, at most ``keep`` entries of ``width`` characters."""
    return tuple((key[:width], value[:width]) for key, value in sorted(metadata.items())[:keep])
