"""``fpc``: frequent pattern compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from linepress_codecs import classic_fpc as kernels
from linepress_codecs.classic_base import Bits, ThresholdCodec, Words
from linepress_codecs.classic_cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard, Tables
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Fpc(ThresholdCodec):
    """Header bit, then a 3-bit prefix and data a 32-bit word: zero runs, sign extensions, repeated bytes."""

    codec_id: ClassVar[str] = "fpc"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "frequent patterns of 32-bit words: zero runs, sign extensions, repeated bytes"
    source: ClassVar[str] = "Alameldeen and Wood, frequent pattern compression, UW-Madison TR 1500, 2004"

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del tables
        kernels.measure(words.view(np.uint32), most, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del tables
        return int(kernels.encode(words.view(np.uint32), most, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del tables
        line, reason = kernels.decode(payload, starts, bits, most, out.view(np.uint32))
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(5, f"{GEM5}: FPC, 1 + 16 words / 4 a cycle"),
            published(3, f"{GEM5}: FPC, 1 + 16 words / 8 a cycle"),
            4,
            "16 words / 4 decoded a cycle",
        )
