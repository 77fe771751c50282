"""``cpack``: 32-bit words against a dictionary of earlier words of the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linepress_codecs.classic import cpack
from linepress_codecs.classic.base import WordCodec, WordKernels
from linepress_codecs.classic.cards import GEM5, classic_card, published
from linepress_codecs.contracts import HardwareCard
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Cpack(WordCodec):
    """Header bit, then a code of 2 or 4 bits, an index and stored bytes a word; the dictionary starts empty."""

    codec_id: ClassVar[str] = "cpack"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "32-bit words against a 16-entry dictionary of the line itself"
    source: ClassVar[str] = "C-Pack, Chen et al., IEEE TVLSI 18(8), 2010"
    kernels: ClassVar[WordKernels] = cpack

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(9, f"{GEM5}: CPack, 1 + 16 words / 2 a cycle"),
            published(13, f"{GEM5}: CPack, 5 + 16 words / 2 a cycle"),
            8,
            "16 words / 2 decoded a cycle",
        )
