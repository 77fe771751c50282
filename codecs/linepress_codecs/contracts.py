"""The contracts that every codec keeps, and the plain data they exchange.

A codec is a frozen dataclass: its fields are its options (with defaults and a ``help`` text in the field's
metadata), so equality, the printed variant and the case key all derive from one place. Work is done on `Lines`,
an array of 64-byte lines that knows its element format and, where the layout has channels, which channel each
line belongs to.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import Format

LINE_BYTES = 64
LINE_BITS = 8 * LINE_BYTES


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a rotary position embedding turns the channels of a head.

    Channels ``offset`` to ``offset + 2 len(steps)`` of each head turn in pairs; the others do not. Pair i turns by
    ``steps[i]`` at each position.

    Attributes
    ----------
    head_dim : int
        Channels of a head.
    offset : int
        First turning channel.
    interleaved : bool
        Whether pair i is channels (2i, 2i + 1) of the turning part, or (i, i + half of it).
    steps : tuple of int
        Phase steps in 2^-32 turns, 0 to 2^32 - 1.
    """

    head_dim: int
    offset: int
    interleaved: bool
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where lines lie in their tensor: what a decoder is given beside the code, and no part of it.

    Attributes
    ----------
    channel : uint32[n] | None
        Channel of each line's first element, None in layouts without channels.
    n_channels : int
        Number of channels of the whole tensor (1 where ``channel`` is None).
    channel_run : int
        Elements of one channel in a row; 0 means the whole line.
    channel_span : int
        Channels after which the elements of a line start again (a head's, or a token's); 0 means never.
        With f the channel of its first element, element j belongs to channel
        ``f - f % span + (f % span + j // run) % span``.
    position : uint32[n] | None
        Position (token) of each line's first element, where the layout knows tokens. In runs of one channel element j
        is ``j % run`` positions later; otherwise ``(f % span + j) // span`` later.
    head_dim : int
        Channels of a head where ``position`` is known.
    base : uint8[n, line_bytes] | None
        The same lines of an older version of the tensor, which the decoder holds too.
    """

    channel: NDArray[np.uint32] | None = None
    n_channels: int = 1
    channel_run: int = 0
    channel_span: int = 0
    position: NDArray[np.uint32] | None = None
    head_dim: int = 0
    base: NDArray[np.uint8] | None = None

    def __getitem__(self, part: slice | NDArray[np.integer[Any]]) -> Geometry:
        """The geometry of some of the lines: a slice, or the indices of those lines, int[k]."""
        if self.channel is None and self.position is None and self.base is None:
            return self
        return replace(
            self,
            channel=None if self.channel is None else self.channel[part],
            position=None if self.position is None else self.position[part],
            base=None if self.base is None else self.base[part],
        )


NOWHERE = Geometry()
"""Geometry of lines of which nothing but their contents is known."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Consecutive lines of one tensor in one layout.

    Attributes
    ----------
    data : uint8[n, line_bytes]
        C-contiguous line contents, little-endian elements.
    format : Format
        Element format of the bytes.
    geometry : Geometry
        Where the lines lie in the tensor.
    rotation : Rotation | None
        What the model's configuration says of its rotary embedding, if anything: a hint for `LineCodec.fit`, no part
        of the geometry a decoder is given.
    """

    data: NDArray[np.uint8]
    format: Format
    geometry: Geometry = NOWHERE
    rotation: Rotation | None = None

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __getitem__(self, part: slice | NDArray[np.integer[Any]]) -> Lines:
        """Some of the lines: a slice, or the indices of those lines, int[k]."""
        return replace(self, data=self.data[part], geometry=self.geometry[part])

    @property
    def line_bytes(self) -> int:
        return int(self.data.shape[1])


def count_lines(chunks: Iterable[Lines]) -> int:
    """Lines of a tensor given as a re-iterable of chunks: as its ``n_lines`` says, else counted in a pass."""
    known = getattr(chunks, "n_lines", None)
    return sum(len(lines) for lines in chunks) if known is None else int(known)


SAMPLE_LINES = 8192
"""Lines of `ItemCounts.sample`."""


@dataclass(frozen=True, slots=True)
class ItemCounts:
    """The items of a tensor's lines, counted before its tables are fitted.

    Attributes
    ----------
    format : Format
        Of 8 or 16 bits an element.
    line_bytes : int
    items : uint64[2^bits]
        Times that each bit pattern occurs, all-zero lines left out.
    zero_lines : int
        All-zero lines.
    sample : uint8[k, line_bytes]
        The first of every ``ceil(lines / SAMPLE_LINES)`` lines.
    """

    format: Format
    line_bytes: int
    items: NDArray[np.uint64]
    zero_lines: int
    sample: NDArray[np.uint8]


def spread_lines(lines: Lines, before: int, n_lines: int) -> NDArray[np.uint8]:
    """The lines of a chunk, ``before`` others gone, that `ItemCounts.sample` of ``n_lines`` has; a copy."""
    step = max(-(-n_lines // SAMPLE_LINES), 1)
    return lines.data[-before % step :: step].copy()


def item_counts(chunks: Iterable[Lines]) -> ItemCounts | None:
    """What ``item_counts`` of a re-iterable of chunks says, which spares `LineCodec.fit` a pass; None without."""
    return getattr(chunks, "item_counts", None)


@runtime_checkable
class Tables(Protocol):
    """What a codec learned offline from one tensor. ``len(to_bytes())`` counts in the packed ratio."""

    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class NoTables:
    """Tables of a codec that learns nothing: zero bytes."""

    def to_bytes(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Packed:
    """Coded lines as an encoder lays them out for software: every line findable, sizes exact.

    Attributes
    ----------
    payload : uint8[m]
        The code of all lines. A codec may start each line on a byte or word boundary for speed.
    starts : uint64[n]
        Bit offset in ``payload`` at which each line starts.
    bits : uint16[n]
        Coded bits of each line, per-line headers included; equal to ``measure`` on the same lines.
    format : Format
    line_bytes : int
    geometry : Geometry
        As of the `Lines`.
    """

    payload: NDArray[np.uint8]
    starts: NDArray[np.uint64]
    bits: NDArray[np.uint16]
    format: Format
    line_bytes: int = LINE_BYTES
    geometry: Geometry = NOWHERE

    @classmethod
    def of(
        cls, lines: Lines, payload: NDArray[np.uint8], starts: NDArray[np.uint64], bits: NDArray[np.uint16]
    ) -> Packed:
        """The code of ``lines``, with their geometry."""
        return cls(payload, starts, bits, lines.format, lines.line_bytes, lines.geometry)

    def __len__(self) -> int:
        return int(self.bits.shape[0])


STATUSES = ("published", "derived", "estimated", "simulated", "synthesised")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a hardware card with where it comes from.

    ``status`` is one of `STATUSES`: ``published`` (the source states it), ``derived`` (closed form over the codec's
    structure), ``estimated`` (an assumption, stated in ``source``), ``simulated`` (an RTL design that was proven
    equal to the codec) or ``synthesised`` (that design as cells; node, corner and wires in ``source``, pre-layout).
    """

    value: float
    unit: str
    status: str
    source: str


@dataclass(frozen=True, slots=True)
class HardwareCard:
    """What a hardware implementation of the codec costs. Latencies in cycles of ``clock_GHz``.

    ``area_um2`` is the decoder's, without memories; None where no design was synthesised.
    """

    decode_latency_cycles: Figure
    encode_latency_cycles: Figure
    initiation_interval_cycles: Figure
    clock_GHz: Figure
    table_sram_bytes: Figure
    anchors: tuple[Figure, ...] = field(default=())
    area_um2: Figure | None = None

    @property
    def decode_latency_ns(self) -> float:
        return self.decode_latency_cycles.value / self.clock_GHz.value

    @property
    def encode_latency_ns(self) -> float:
        return self.encode_latency_cycles.value / self.clock_GHz.value

    @property
    def engine_GBps(self) -> float:
        """Raw bytes that one decoder gives: a line of 64 B an interval."""
        return LINE_BYTES * self.clock_GHz.value / self.initiation_interval_cycles.value

    def engines_for(self, raw_GBps: float) -> int:
        """Decoders side by side that give ``raw_GBps`` of raw lines."""
        return max(1, math.ceil(raw_GBps / self.engine_GBps - 1e-9))


@dataclass(frozen=True, slots=True)
class Bound:
    """One entropy bound; see `bounds` for the three figures. NaN for an empty tensor."""

    name: str
    bits_per_value: float
    ratio: float
    miller_madow_bits_per_value: float
    with_tables_bits_per_value: float
    contexts: int
    values: int


class ClassBound(Protocol):
    """Accumulates a tensor's chunks, then gives the bound of one codec's class on it."""

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        """Count a chunk; ``bits`` uint16[n] are its coded sizes, which say which lines are zero or raw."""

    def merge(self, other: ClassBound) -> None:
        """Add the counts of another part of the same tensor under the same tables."""

    def bound(self) -> Bound: ...


class Codec(ABC):
    """What line and block codecs share: an identity that derives from a frozen dataclass' fields."""

    codec_id: ClassVar[str]
    kind: ClassVar[str]
    format_version: ClassVar[int]
    """Version of the coded stream; a change of any coded bit raises it (and enters the case key)."""
    summary: ClassVar[str]
    """One sentence for ``linepress list codecs``."""
    source: ClassVar[str]
    """Publication or library that defines the algorithm."""

    def card(self, fmt: Format) -> HardwareCard | None:
        """What an implementation in silicon costs on elements of ``fmt``; None where nothing is known."""
        del fmt
        return None

    def options(self) -> dict[str, Any]:
        """Every option with its resolved value."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    @property
    def spec(self) -> str:
        """``name:key=value`` with the non-default options only, as printed everywhere."""
        parts = [self.codec_id]
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if value != f.default:
                show = f.metadata.get("show", str)
                parts.append(f"{f.name}={show(value)}")
        return ":".join(parts)

    def __str__(self) -> str:
        return self.spec


class LineCodec(Codec):
    """A codec that sees one line at a time; any line decodes without its neighbours.

    Sizes are in bits with per-line headers included. A line that would grow is stored raw: its coded size is
    ``8 * line_bytes`` plus the header that says so, and packings with a per-line tag let the tag say it instead.
    """

    kind: ClassVar[str] = "line"

    def check(self, lines: Lines) -> None:
        """Raise `UnsupportedFormatError` unless this codec takes these lines."""
        if not self.supports(lines.format):
            raise UnsupportedFormatError(f"{self.codec_id} does not take {lines.format.name} elements")

    def supports(self, fmt: Format) -> bool:
        """Whether the codec takes this element format; every format unless overridden."""
        del fmt
        return True

    def class_bound(self, fmt: Format, tables: Tables) -> ClassBound | None:
        """Accumulator of the bound of this codec's own class under ``tables``; see `tans.bound`.

        None (the default) where a class of `bounds` bounds the codec: no contexts beyond one table a tensor.
        """
        del fmt, tables
        return None

    @abstractmethod
    def fit(self, chunks: Iterable[Lines]) -> Tables:
        """Learn tables from one tensor, given as a re-iterable of chunks (a list, or a source read again).

        Memory must not grow with the number of chunks. Must accept no chunks at all and empty chunks.
        """

    @abstractmethod
    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        """Coded bits of each line, uint16[n], without writing the code."""

    @abstractmethod
    def encode(self, lines: Lines, tables: Tables) -> Packed:
        """The code of every line."""

    @abstractmethod
    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        """All lines, uint8[n, line_bytes]; raises `CorruptDataError` where the format can tell."""

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        """Line ``i`` alone, uint8[line_bytes], reading only its own code and the tables.

        Here by `decode` of that line alone; a codec whose decoder wants aligned or padded code has its own way.
        """
        from linepress_codecs.checks import single

        try:
            line: NDArray[np.uint8] = self.decode(single(packed, i), tables)[0]
        except CorruptDataError as error:
            raise error.at(i) from None
        return line

    @abstractmethod
    def tables_from_bytes(self, data: bytes) -> Tables:
        """Inverse of ``Tables.to_bytes``; raises `CorruptDataError` on anything no encoder wrote."""

    @abstractmethod
    def card(self, fmt: Format) -> HardwareCard:
        """Hardware card for one element format."""


class BlockCodec(Codec):
    """A general-purpose library codec over blocks of ``block`` bytes; the reference library does the work."""

    kind: ClassVar[str] = "block"
    block: int

    @abstractmethod
    def encode(self, block: bytes | memoryview) -> bytes:
        """The code of one block."""

    @abstractmethod
    def decode(self, data: bytes | memoryview, n: int) -> bytes:
        """The ``n`` bytes of the block; raises `CorruptDataError` if the code is damaged or gives another length."""
