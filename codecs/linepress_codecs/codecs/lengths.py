"""``dual`` and ``quad``: bytes in a few code lengths told by a prefix, so that a decoder needs no code tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from typing import ClassVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.anchors import HUFFMAN_ANCHORS
from linepress_codecs.checks import check_geometry, check_index, check_tables_type, checked_single
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans.engine import apart, line_words, raise_problem
from linepress_codecs.tans.kernels import BAD_END, BAD_VALUE, OK, U0, U1, U6, U63, emit, low_bits, read64

ZERO_BITS = RAW_BITS = 2
"""Bits of the head of a line that is not coded; a coded line's is one bit."""
CODES_A_CYCLE = 8


@njit(cache=True)
def _encode(data, code, length, bits, words, starts):  # type: ignore[no-untyped-def]
    """Write lines uint8[n, m] of the sizes ``bits``; code and length uint64[256]. Returns the bits used."""
    cursor = U0
    for i in range(data.shape[0]):
        starts[i] = cursor
        word, s, held = cursor >> U6, U0, U0
        if bits[i] == 2:
            emit(words, word, s, held, np.uint64(2), np.uint64(2))
        elif bits[i] == 8 * data.shape[1] + 2:
            word, s, held = emit(words, word, s, held, U0, np.uint64(2))
            for j in range(data.shape[1]):
                word, s, held = emit(words, word, s, held, np.uint64(data[i, j]), np.uint64(8))
        else:
            word, s, held = emit(words, word, s, held, U1, U1)
            for j in range(data.shape[1]):
                word, s, held = emit(words, word, s, held, code[data[i, j]], length[data[i, j]])
        cursor = (cursor + np.uint64(bits[i]) + U63) & ~U63
    return cursor


@njit(cache=True)
def _decode(words, starts, bits, prefix, width, first, symbols, out):  # type: ignore[no-untyped-def]
    """Lines into out uint8[n, m]; (line, problem) of the first damaged one, problem 0 where there is none."""
    p = np.uint64(prefix)
    for i in range(out.shape[0]):
        at = starts[i]
        end = at + np.uint64(bits[i])
        head = read64(words, at)
        if head & U1:
            if bits[i] >= 8 * out.shape[1]:  # an encoder writes it raw
                return i, BAD_END
            at += U1
            for j in range(out.shape[1]):
                w = read64(words, at)
                area = low_bits(w, p)
                k = width[area]
                rank = first[area] + low_bits(w >> p, k)
                at += p + k
                if rank >= symbols.shape[0]:
                    return i, BAD_VALUE
                out[i, j] = symbols[rank]
        else:
            at += np.uint64(2)
            for j in range(out.shape[1]):
                out[i, j] = 0
                if head & np.uint64(2) == U0:
                    out[i, j] = low_bits(read64(words, at), np.uint64(8))
                    at += np.uint64(8)
        if at != end:
            return i, BAD_END
    return out.shape[0], OK


@dataclass(frozen=True, eq=False)
class AreaTables:
    """Symbols by rank, in areas that a prefix names.

    Attributes
    ----------
    widths : tuple of int
        Bits after the prefix in each area: area a holds 2^widths[a] symbols.
    symbols : uint8[n]
        Symbol of each rank. Where ranks are fewer than 256 the last area holds every byte as it is, behind them.
    """

    widths: tuple[int, ...]
    symbols: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        return bytes(self.widths) + self.symbols.tobytes()

    @property
    def prefix(self) -> int:
        return (len(self.widths) - 1).bit_length()

    @cached_property
    def first(self) -> NDArray[np.uint64]:
        """Rank of the first symbol of each area, uint64[areas]."""
        return np.concatenate([[0], np.cumsum([1 << k for k in self.widths])[:-1]]).astype(np.uint64)

    @cached_property
    def by_rank(self) -> NDArray[np.uint8]:
        """Symbols of all ranks, the bytes of a raw last area behind."""
        if len(self.symbols) == 256:
            return self.symbols
        return np.concatenate([self.symbols, np.arange(256, dtype=np.uint8)])

    @cached_property
    def codes(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """(code, length) of each byte, uint64[256]."""
        code, length = np.zeros(256, np.uint64), np.zeros(256, np.uint64)
        for rank in range(len(self.by_rank) - 1, -1, -1):
            area = int(np.searchsorted(self.first, rank, "right")) - 1
            code[self.by_rank[rank]] = area | (rank - int(self.first[area])) << self.prefix
            length[self.by_rank[rank]] = self.prefix + self.widths[area]
        return code, length


class _Areas(LineCodec):
    """What both codes share: bytes, a head of one or two bits, a code a byte."""

    format_version: ClassVar[int] = 1
    areas: ClassVar[int]
    ranks: ClassVar[int]
    entries: ClassVar[str]

    def _widths(self, counts: NDArray[np.int64]) -> tuple[int, ...]:
        """Widths of the areas for symbols of these counts, most frequent first."""
        raise NotImplementedError

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        counts = np.zeros(256, np.int64)
        for lines in chunks:
            counts += np.bincount(lines.data[lines.data.any(axis=1)].reshape(-1), minlength=256)
        order = np.argsort(-counts, kind="stable")
        return AreaTables(self._widths(counts[order]), order[: self.ranks].astype(np.uint8))

    def tables_from_bytes(self, data: bytes) -> Tables:
        widths, symbols = tuple(data[: self.areas]), np.frombuffer(data[self.areas :], np.uint8)
        room = sum(1 << k for k in widths if k <= 8)
        fits = (
            len(widths) == self.areas
            and max(widths, default=9) <= 8
            and list(widths) == sorted(widths)
            and room >= 256
        )
        fits = fits and (self.ranks == 256 or sum(1 << k for k in widths[:-1]) == self.ranks)
        if not fits or len(symbols) != self.ranks or len(np.unique(symbols)) != self.ranks:
            raise CorruptDataError(f"{self.codec_id} tables name areas or symbols that no encoder writes")
        return AreaTables(widths, symbols)

    def _own(self, tables: Tables) -> AreaTables:
        check_tables_type(self, tables, AreaTables)
        own = cast(AreaTables, tables)
        if len(own.widths) != self.areas:
            raise CorruptDataError(f"{self.codec_id} was given tables of {len(own.widths)} areas")
        return own

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        length = self._own(tables).codes[1].astype(np.uint16)
        raw = 8 * lines.line_bytes
        bits = 1 + length[lines.data].sum(axis=1, dtype=np.int64)
        bits = np.where(bits < raw, bits, raw + RAW_BITS)
        return np.where(lines.data.any(axis=1), bits, ZERO_BITS).astype(np.uint16)

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        code, length = self._own(tables).codes
        bits = self.measure(lines, tables)
        words = np.empty(len(lines) * line_words(lines.line_bytes) + 2, np.uint64)
        starts = np.zeros(len(lines), np.uint64)
        used = int(_encode(np.ascontiguousarray(lines.data), code, length, bits, words, starts))
        return Packed.of(lines, words[: used // 64].view(np.uint8), starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_geometry(packed)
        return self._lines(packed, tables, 0)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        out: NDArray[np.uint8] = self._lines(checked_single(packed, i), tables, i)[0]
        return out

    def _lines(self, packed: Packed, tables: Tables, index: int) -> NDArray[np.uint8]:
        own = self._own(tables)
        words, starts = apart(packed, np.arange(len(packed)))
        out = np.empty((len(packed), packed.line_bytes), np.uint8)
        widths = np.array(own.widths, np.uint64)
        line, problem = _decode(words, starts, packed.bits, own.prefix, widths, own.first, own.by_rank, out)
        raise_problem(index + line, problem)
        return out

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        steps = 64 // CODES_A_CYCLE
        text = (
            f"{CODES_A_CYCLE} codes a cycle assumed: a code's length follows from its {self.prefix_bits}-bit prefix"
        )
        cycles = Figure(steps + 3, "cycles", "estimated", f"{text}; + 3 for load, table and output")
        return HardwareCard(
            decode_latency_cycles=cycles,
            encode_latency_cycles=cycles,
            initiation_interval_cycles=Figure(steps, "cycles", "estimated", text),
            clock_GHz=Figure(
                1.75, "GHz", "estimated", "the highest of a published decompressor, assumed to be reached"
            ),
            table_sram_bytes=Figure(self.ranks + self.areas, "B", "published", self.entries),
            anchors=HUFFMAN_ANCHORS,
        )

    @property
    def prefix_bits(self) -> int:
        return (self.areas - 1).bit_length()


@register
@dataclass(frozen=True)
class Dual(_Areas):
    """The eight most frequent bytes in four bits, all others in nine; one bit says which."""

    codec_id: ClassVar[str] = "dual"
    summary: ClassVar[str] = "dual length codes: 8 bytes in 4 bits, the others in 9; an 8-entry table"
    source: ClassVar[str] = (
        "A. Agrawal et al., Dual Length Codes for Lossless Compression of BFloat16, arXiv:2602.17849v1"
    )
    areas: ClassVar[int] = 2
    ranks: ClassVar[int] = 8
    entries: ClassVar[str] = "a table of 8 entries, and two widths"

    def _widths(self, counts: NDArray[np.int64]) -> tuple[int, ...]:
        del counts
        return (3, 8)


@register
@dataclass(frozen=True)
class Quad(_Areas):
    """Bytes by rank in eight areas of at most four code lengths, three prefix bits saying which.

    The publication adapts the areas to the distribution without saying how; here they are the cheapest of all.
    """

    codec_id: ClassVar[str] = "quad"
    summary: ClassVar[str] = "quad length codes: 8 areas of bytes in at most 4 code lengths; a 256-entry table"
    source: ClassVar[str] = (
        "A. Agrawal et al., Quad Length Codes for Lossless Compression of e4m3, arXiv:2602.17849v2"
    )
    areas: ClassVar[int] = 8
    ranks: ClassVar[int] = 256
    entries: ClassVar[str] = "a table of 256 entries, and eight widths"
    lengths: ClassVar[int] = 4

    def _widths(self, counts: NDArray[np.int64]) -> tuple[int, ...]:
        widths, edges = _candidates(self.areas, self.lengths)
        upto = np.concatenate([[0], np.cumsum(counts)])
        bits = ((self.prefix_bits + widths) * np.diff(upto[edges])).sum(axis=1)
        best = int(bits.argmin())
        if bits[best] == 8 * upto[-1]:
            return (5,) * 8
        return tuple(map(int, widths[best]))


@lru_cache(maxsize=1)
def _candidates(areas: int, lengths: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Widths int64[n, areas] of at most ``lengths`` kinds that hold 256 ranks, and where the areas begin and end."""
    every = combinations_with_replacement(range(8), areas)
    widths = np.array([found for found in every if len(set(found)) <= lengths], np.int64)
    edges = np.minimum(np.cumsum(np.pad(1 << widths, ((0, 0), (1, 0))), axis=1), 256)
    return widths[edges[:, -1] == 256], edges[edges[:, -1] == 256]
