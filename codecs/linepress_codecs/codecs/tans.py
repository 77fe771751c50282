"""``tans``: one table of the exponent, tabled ANS, and no bits lost to the states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linepress_codecs.registry import register
from linepress_codecs.tans import options as options
from linepress_codecs.tans.codec import StaticTansCodec


@register
@dataclass(frozen=True)
class Tans(StaticTansCodec):
    """Exponent (integers: the top bits) by tANS, sign and mantissa raw; zero and raw lines told apart.

    The encoder starts its states from the line's first raw bits and the decoder ends in them, so flushing costs
    nothing; the mode of a line is the first symbol of stream 0 (0.1 bit for a coded line).
    """

    codec_id: ClassVar[str] = "tans"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "exponent by tabled ANS, one table a tensor, states paid by raw bits"
    source: ClassVar[str] = "J. Duda, arXiv:1311.2540; table layout after RFC 8878 section 4.1"

    streams: int = options.streams(4)
    precision: int = options.precision(10)
    mantissa: int = options.mantissa(0)

    def _mantissa(self) -> int:
        return self.mantissa
