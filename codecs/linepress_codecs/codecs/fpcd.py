"""``fpcd``: frequent patterns with a history of two words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linepress_codecs.classic import fpcd
from linepress_codecs.classic.base import WordCodec, WordKernels
from linepress_codecs.classic.cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Fpcd(WordCodec):
    """Header bit, sixteen 4-bit prefixes, then the stored bytes of each 32-bit word, oldest word first."""

    codec_id: ClassVar[str] = "fpcd"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "frequent patterns of 32-bit words and matches with the two words before"
    source: ClassVar[str] = "FPC-D (MEMSYS 2018), ties and history as in gem5 v24.0.0.1"
    kernels: ClassVar[WordKernels] = fpcd

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(4, f"{GEM5}: FPCD, 16 words / 4 a cycle; the paper states 2, which gem5 calls unrealistic"),
            published(5, f"{GEM5}: FPCD, 1 + 16 words / 4 a cycle"),
            4,
            "16 words / 4 decoded a cycle",
        )
