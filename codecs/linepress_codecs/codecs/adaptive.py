"""``adaptive``: several tables chosen per line, exponent with the mantissa bits that pay, zero and raw lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linepress_codecs.registry import register
from linepress_codecs.tans import options as options
from linepress_codecs.tans.codec import StaticTansCodec


@register
@dataclass(frozen=True)
class Adaptive(StaticTansCodec):
    """Modes raw, zero, table 0, …; the tables are clusters of lines, and the mode costs its entropy.

    The field is chosen on the tensor: exponent with 0 to 3 top mantissa bits, sign raw or coded, exact zeros a symbol
    of their own where that pays. A tensor too small to pay for all tables gets one, or none and stays raw.
    """

    codec_id: ClassVar[str] = "adaptive"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "the best field of a tensor by tabled ANS, several tables chosen per line"
    source: ClassVar[str] = "this project; tANS of J. Duda, arXiv:1311.2540"

    tables: int = options.tables(4)
    mantissa: int = options.mantissa(options.AUTO)
    streams: int = options.streams(4)
    precision: int = options.precision(11)

    def _tables(self) -> int:
        return self.tables

    def _mantissa(self) -> int:
        return self.mantissa
