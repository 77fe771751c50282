"""``bdi``: base-delta-immediate compression."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from linepress_codecs.anchors import INLINE_64B
from linepress_codecs.cards.measured import rtl_card
from linepress_codecs.classic import bdi as kernels
from linepress_codecs.classic.base import Bits, ThresholdCodec, Words
from linepress_codecs.classic.cards import GEM5, NO_TABLES, classic_card, published
from linepress_codecs.contracts import HardwareCard, Tables
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Bdi(ThresholdCodec):
    """Four tag bits, then zeros, one repeated word, or a base of 8, 4 or 2 bytes and a delta an element.

    ``paper``: a zero line is a byte, deltas use their whole range, and a mask (a bit an element: near zero or near
    the base) is written only in lines that have both kinds. ``gem5``: a zero line is its tag, the most negative delta
    is refused, and every delta line has its base and mask. `linepress_codecs.classic.bdi.table_bits` gives the
    published sizes without the tag.
    """

    codec_id: ClassVar[str] = "bdi"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "small deltas from zero or from one base of 8, 4 or 2 bytes"
    source: ClassVar[str] = "base-delta-immediate, Pekhimenko et al., PACT 2012; gem5 v24.0.0.1"

    accounting: str = field(
        default="paper",
        metadata={"choices": ("paper", "gem5"), "help": "whose sizes: paper (mask only if mixed) or gem5 (always)"},
    )

    @property
    def _rules(self) -> tuple[int, bool]:
        """(what the mask costs, whether the most negative delta is refused)."""
        gem5 = self.accounting == "gem5"
        return kernels.MASK_ALWAYS if gem5 else kernels.MASK_IF_MIXED, gem5

    def _measure(self, words: Words, most: np.uint64, tables: Tables, bits: Bits) -> None:
        del tables
        kernels.measure(words, *self._rules, kernels.TAG_BITS, most, bits)

    def _encode(self, words: Words, most: np.uint64, tables: Tables, out: Words, starts: Words, bits: Bits) -> int:
        del tables
        return int(kernels.encode(words, *self._rules, most, out, starts, bits))

    def _decode(
        self, payload: Words, starts: Words, bits: Bits, most: np.uint64, tables: Tables, out: Words
    ) -> tuple[int, int]:
        del tables
        line, reason = kernels.decode(payload, starts, bits, *self._rules, most, out)
        return int(line), int(reason)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        decode = published(1, f"{GEM5}: BDI, 1 cycle (adders side by side)")
        encode = published(2, f"{GEM5}: BDI, 1 cycle + 1 to select the encoding")
        if self.accounting == "paper":
            return rtl_card("bdi-decoder", encode, NO_TABLES, (decode, *INLINE_64B))
        return classic_card(decode, encode, 1, "all adders side by side, a line every cycle")
