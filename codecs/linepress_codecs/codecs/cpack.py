"""``cpack``: 32-bit words against a dictionary of earlier words of the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from linepress_codecs import classic_cpack as kernels
from linepress_codecs.classic_base import Bits, ThresholdCodec, Words
from linepress_codecs.classic_cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard, Tables
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Cpack(ThresholdCodec):
    """Header bit, then a code of 2 or 4 bits, an index and stored bytes a word; the dictionary starts empty."""

    codec_id: ClassVar[str] = "cpack"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "32-bit words against a 16-entry dictionary of the line itself"
    source: ClassVar[str] = "C-Pack, Chen et al., IEEE TVLSI 18(8), 2010"

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
            published(9, f"{GEM5}: CPack, 1 + 16 words / 2 a cycle"),
            published(13, f"{GEM5}: CPack, 5 + 16 words / 2 a cycle"),
            8,
            "16 words / 2 decoded a cycle",
        )
