"""``bpc``: bit-plane compression of a line's 32-bit words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from linepress_codecs.classic import bpc as kernels
from linepress_codecs.classic.base import Bits, ThresholdCodec, Words
from linepress_codecs.classic.cards import classic_card, published
from linepress_codecs.contracts import Figure, HardwareCard, Tables
from linepress_codecs.formats import Format
from linepress_codecs.registry import register

_COMPRESSO = "Compresso (MICRO 2018), second hand: 12 cycles (8 burst buffer + 2 + 2), direction not stated"


@register
@dataclass(frozen=True)
class Bpc(ThresholdCodec):
    """Header bit, first word, then the bit planes of the differences between neighbouring words, each xored with the
    plane above; runs of zero planes and planes of few ones are short.
    """

    codec_id: ClassVar[str] = "bpc"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "bit planes of differences between neighbouring 32-bit words"
    source: ClassVar[str] = "bit-plane compression, Kim et al., ISCA 2016; on 64 B as in Compresso, MICRO 2018"

    delta: int = field(
        default=33,
        metadata={"choices": (33, 32), "help": "bits of a difference: 33 as published, 32 where it may wrap"},
    )

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del tables
        kernels.measure(words.view(np.uint32), self.delta == 33, most, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del tables
        return int(kernels.encode(words.view(np.uint32), self.delta == 33, most, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del tables
        line, reason = kernels.decode(payload, starts, bits, self.delta == 33, most, out.view(np.uint32))
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        return classic_card(
            published(12, _COMPRESSO),
            published(12, _COMPRESSO),
            8,
            "the 8 cycles of the burst buffer; a new line may enter behind it",
            anchors=(Figure(43000, "um2", "published", "Compresso, second hand: BPC at 40 nm, 7 mW"),),
        )
