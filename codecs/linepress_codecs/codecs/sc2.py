"""``sc2``: statistical compression, Huffman codes of a tensor's frequent 32-bit values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen, line_words
from linepress_codecs.checks import check_tables_type
from linepress_codecs.classic import sc2 as kernels
from linepress_codecs.classic.base import Bits, ThresholdCodec, Words
from linepress_codecs.classic.cards import GEM5, classic_card, published
from linepress_codecs.classic.sc2_tables import Sc2Tables, fit_book
from linepress_codecs.contracts import Figure, HardwareCard, Lines, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Sc2(ThresholdCodec):
    """Header bit, then a canonical Huffman code a 32-bit word; words outside the book follow an escape code.

    The book holds the tensor's most frequent values (those seen at least twice in up to 65,536 evenly spaced lines),
    as many of them as pay for their own bytes; codes have at most 15 bits.
    """

    codec_id: ClassVar[str] = "sc2"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "Huffman codes of the tensor's frequent 32-bit values, an escape before the others"
    source: ClassVar[str] = "SC2, Arelakis and Stenström, ISCA 2014; capacity as in gem5's FrequentValues"

    capacity: int = field(
        default=1024,
        metadata={"choices": (16, 64, 256, 1024, 4096), "help": "values that the code book holds at most"},
    )

    def fit(self, chunks: Iterable[Lines]) -> Sc2Tables:
        def coded_bits(data: NDArray[np.uint8], book: Sc2Tables) -> int:
            bits = np.empty(len(data), np.uint16)
            self._measure(line_words(data), np.uint64(self.most_bits(data.shape[1])), book, bits)
            return int(bits.sum(dtype=np.int64))

        return fit_book(chunks, self.capacity, self._check_line, coded_bits)

    def tables_from_bytes(self, data: bytes) -> Sc2Tables:
        return Sc2Tables.from_bytes(data, self.capacity)

    def _own(self, tables: Tables) -> Tables:
        check_tables_type(self, tables, Sc2Tables)
        if len(cast(Sc2Tables, tables)) > self.capacity:
            raise CorruptDataError(
                f"the tables hold more than {self.capacity} values: decode with their own capacity"
            )
        return tables

    @staticmethod
    def _hash(tables: Tables) -> tuple[NDArray[np.uint32], NDArray[np.uint32], np.uint64]:
        keys, entries = cast(Sc2Tables, tables).hashed
        return frozen(keys), frozen(entries), np.uint64(33 - len(keys).bit_length())

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        escape_bits = np.uint64(cast(Sc2Tables, tables).escape_length)
        kernels.measure(words.view(np.uint32), *self._hash(tables), escape_bits, most, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        book = cast(Sc2Tables, tables)
        escape = np.uint64(book.codes[0]), np.uint64(book.escape_length)
        return int(kernels.encode(words.view(np.uint32), *self._hash(book), *escape, most, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        book = cast(Sc2Tables, tables)
        line, reason = kernels.decode(
            payload,
            starts,
            bits,
            frozen(book.look_up),
            frozen(book.decoded),
            *self._hash(book),
            np.uint64(book.escape_length),
            most,
            out.view(np.uint32),
        )
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(16, f"{GEM5}: FrequentValues, one 32-bit symbol a cycle (SC2's own cycles were not found)"),
            published(17, f"{GEM5}: FrequentValues, 1 + one 32-bit symbol a cycle"),
            16,
            "one decoder, a symbol a cycle; it is busy for the whole line",
            Figure(
                6 * self.capacity,
                "B",
                "derived",
                f"{self.capacity} values of 4 B in canonical order, and a code of 15 bits with its length to encode",
            ),
        )
