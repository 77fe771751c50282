"""``zero`` and ``repeat``: a line of zeros in its header bit, a line of one repeated 64-bit word in that word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from linepress_codecs.classic import uniform as kernels
from linepress_codecs.classic.base import Bits, ClassicCodec, Words
from linepress_codecs.classic.cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard, Tables
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Zero(ClassicCodec):
    """Header bit 1: every byte is zero, 1 bit in all. Header bit 0: the line as it is, 1 bit more."""

    codec_id: ClassVar[str] = "zero"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "all-zero lines in their header bit, every other line raw"
    source: ClassVar[str] = "Zero compressor of gem5 v24.0.0.1; zero-content caches (ICS 2009)"

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del most, tables
        kernels.measure(words, False, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del most, tables
        return int(kernels.encode(words, False, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del most, tables
        line, reason = kernels.decode(payload, starts, bits, False, out)
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        cycle = published(1, f"{GEM5}: Zero, 1 cycle each way")
        return classic_card(cycle, cycle, 1, "one comparison of the line with zero, a line every cycle")


@register
@dataclass(frozen=True)
class Repeat(ClassicCodec):
    """Header bit 1 and the 64-bit word that the line repeats, 65 bits in all; or header bit 0 and the line."""

    codec_id: ClassVar[str] = "repeat"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "lines of one repeated 64-bit word in that word, every other line raw"
    source: ClassVar[str] = "RepeatedQwords compressor of gem5 v24.0.0.1; repeated values of BDI (PACT 2012)"

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del most, tables
        kernels.measure(words, True, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del most, tables
        return int(kernels.encode(words, True, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del most, tables
        line, reason = kernels.decode(payload, starts, bits, True, out)
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        cycle = published(1, f"{GEM5}: RepeatedQwords, 1 cycle each way")
        return classic_card(cycle, cycle, 1, "one comparison of all words with the first, a line every cycle")
