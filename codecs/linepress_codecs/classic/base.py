"""What the classic cache-line codecs share: a header that says raw, word-aligned lines, and decoders that accept only
what the encoder writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import as_words, frozen, line_words
from linepress_codecs.checks import check_geometry, check_index, check_tables_type, single
from linepress_codecs.classic.bits import OK, REASONS, SLACK_WORDS
from linepress_codecs.contracts import LineCodec, Lines, NoTables, Packed, Tables
from linepress_codecs.errors import CorruptDataError, SpecError, UnsupportedFormatError

Words = NDArray[np.uint64]
Bits = NDArray[np.uint16]


class ClassicCodec(LineCodec):
    """A codec without options of its own, for lines of 32 and 64 B of any element format.

    A line is its header (1 bit unless the codec says otherwise: 1 coded, 0 raw) and its code, or the line as it is.
    Header bits count in every size. In software each line starts on a 64-bit word.

    A subclass gives the three kernels' calls. ``most_bits`` is the largest code, header not counted, that is kept; a
    longer one is stored raw.
    """

    line_sizes: ClassVar[tuple[int, ...]] = (32, 64)

    def most_bits(self, line_bytes: int) -> int:
        """Largest code (header not counted) that still saves a bit."""
        return 8 * line_bytes - 1

    @abstractmethod
    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        """Fill ``bits`` uint16[n] for ``words`` uint64[n, line_bytes / 8]."""

    @abstractmethod
    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        """Write the lines to ``out``, fill ``starts`` and ``bits``; returns the words used."""

    @abstractmethod
    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        """Fill ``out``; returns (-1, OK) or the first damaged line and what is wrong with it."""

    def _own(self, tables: Tables) -> Tables:
        """The tables, if they are this codec's; raises `CorruptDataError` otherwise."""
        check_tables_type(self, tables, NoTables)
        return tables

    def _check_line(self, line_bytes: int) -> None:
        if line_bytes not in self.line_sizes:
            sizes = " or ".join(map(str, self.line_sizes))
            raise UnsupportedFormatError(f"{self.codec_id} takes lines of {sizes} B, not {line_bytes} B")

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        for lines in chunks:
            self._check_line(lines.line_bytes)
            break
        return NoTables()

    def tables_from_bytes(self, data: bytes) -> Tables:
        if data:
            raise CorruptDataError(f"{self.codec_id} has no tables but got {len(data)} B")
        return NoTables()

    def measure(self, lines: Lines, tables: Tables) -> Bits:
        own = self._own(tables)
        self._check_line(lines.line_bytes)
        bits = np.empty(len(lines), np.uint16)
        self._measure(line_words(lines.data), np.uint64(self.most_bits(lines.line_bytes)), own, bits)
        return bits

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        own = self._own(tables)
        self._check_line(lines.line_bytes)
        n = len(lines)
        out = np.empty(n * (lines.line_bytes // 8 + 1) + SLACK_WORDS, np.uint64)
        starts, bits = np.empty(n, np.uint64), np.empty(n, np.uint16)
        most = np.uint64(self.most_bits(lines.line_bytes))
        used = self._encode(line_words(lines.data), most, own, out, starts, bits)
        payload = out[: int(used)].view(np.uint8)
        return Packed.of(lines, payload, starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        own = self._own(tables)
        self._check_line(packed.line_bytes)
        check_geometry(packed, aligned_bits=64)
        out = np.empty((len(packed), packed.line_bytes // 8), np.uint64)
        line, reason = self._decode(
            frozen(as_words(packed.payload, SLACK_WORDS)),
            frozen(np.ascontiguousarray(packed.starts)),
            frozen(np.ascontiguousarray(packed.bits)),
            np.uint64(self.most_bits(packed.line_bytes)),
            own,
            out,
        )
        if reason != OK:
            raise CorruptDataError(REASONS[reason], line=int(line))
        return out.view(np.uint8)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        one = single(packed, i)
        try:
            check_geometry(one, aligned_bits=64)
            first, words = int(packed.starts[i]) // 8, -(-int(packed.bits[i]) // 64)
            code = packed.payload[first : first + 8 * words]
            alone = Packed(code, np.zeros(1, np.uint64), one.bits, packed.format, packed.line_bytes)
            line: NDArray[np.uint8] = self.decode(alone, tables)[0]
        except CorruptDataError as error:
            raise error.at(i) from None
        return line


def _percent(text: object) -> int:
    value = int(str(text))
    if not 1 <= value <= 100:
        raise ValueError("a share of the line, 1 to 100 percent")
    return value


@dataclass(frozen=True)
class ThresholdCodec(ClassicCodec):
    """A classic codec with gem5's rule as an option: a code above a share of the line counts as a failure."""

    threshold: int = field(
        default=100,
        metadata={"parse": _percent, "help": "a code above this share of the line, in percent, is stored raw"},
    )

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= 100:
            raise SpecError(
                f"{self.codec_id}: threshold={self.threshold} is not a share of the line, give 1 to 100 percent"
            )

    def most_bits(self, line_bytes: int) -> int:
        line_bits = 8 * line_bytes
        return min(line_bits - 1, line_bits * self.threshold // 100)


class WordKernels(Protocol):
    """What a module of kernels over 32-bit words offers; ``words`` uint32[n, 16 or 8], see `ClassicCodec`."""

    @property
    def measure(self) -> Callable[[NDArray[np.uint32], np.uint64, Bits], None]: ...

    @property
    def encode(self) -> Callable[[NDArray[np.uint32], np.uint64, Words, Words, Bits], int]: ...

    @property
    def decode(self) -> Callable[[Words, Words, Bits, np.uint64, NDArray[np.uint32]], tuple[int, int]]: ...


@dataclass(frozen=True)
class WordCodec(ThresholdCodec):
    """A classic codec over 32-bit words without tables; subclasses name the module of their kernels."""

    kernels: ClassVar[WordKernels]

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del tables
        self.kernels.measure(words.view(np.uint32), most, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del tables
        return int(self.kernels.encode(words.view(np.uint32), most, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del tables
        line, reason = self.kernels.decode(payload, starts, bits, most, out.view(np.uint32))
        return int(line), int(reason)
