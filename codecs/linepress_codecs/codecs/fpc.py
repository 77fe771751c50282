"""``fpc``: frequent pattern compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linepress_codecs.classic import fpc
from linepress_codecs.classic.base import WordCodec, WordKernels
from linepress_codecs.classic.cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Fpc(WordCodec):
    """Header bit, then a 3-bit prefix and data a 32-bit word: zero runs, sign extensions, repeated bytes."""

    codec_id: ClassVar[str] = "fpc"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "frequent patterns of 32-bit words: zero runs, sign extensions, repeated bytes"
    source: ClassVar[str] = "Alameldeen and Wood, frequent pattern compression, UW-Madison TR 1500, 2004"
    kernels: ClassVar[WordKernels] = fpc

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(5, f"{GEM5}: FPC, 1 + 16 words / 4 a cycle"),
            published(3, f"{GEM5}: FPC, 1 + 16 words / 8 a cycle"),
            4,
            "16 words / 4 decoded a cycle",
        )
