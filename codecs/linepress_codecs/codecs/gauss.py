"""``gauss``: the exponents of a normal distribution, of which only the scale is learned."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.context.rows import QUARTER_OCTAVES, normal_cdf
from linepress_codecs.contracts import Lines, Tables
from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans import options as options
from linepress_codecs.tans.codec import StaticTansCodec
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, MODE_RAW, MODE_ZERO, ZERO
from linepress_codecs.tans.static import BLOCK_LINES, SIGN_RAW, Field, StaticTables, elements_of
from linepress_codecs.tans.tables import RESERVED_BITS

BELOW, ABOVE = 20, 4
"""Octaves below and above the deviation whose exponents have symbols."""
MEAN_OF_NORMAL = 5.66
"""Quarter octaves from the mean exponent of normal values to their deviation: 4 (0.9164 + 0.5), for the mean of log2
of a normal magnitude, -(gamma + ln 2) / (2 ln 2), and for what a floor takes on average."""


class GaussTables(StaticTables):
    """The one table of a scale, made from the normal distribution; ``scale`` is 4 log2 of the deviation."""

    def __init__(self, precision: int, exponent_bits: int, mantissa_bits: int, scale: int) -> None:
        self.exponent_bits, self.mantissa_bits, self.scale = exponent_bits, mantissa_bits, scale
        size = 1 << precision
        mode = np.zeros(MODE_CODED + 1, np.int32)
        mode[MODE_RAW], mode[MODE_ZERO] = 1, size >> RESERVED_BITS
        mode[MODE_CODED] = size - int(mode.sum())
        bias = (1 << exponent_bits - 1) - 1
        most = (1 << exponent_bits) - 1
        middle = bias + (scale >> 2)
        first = min(max(middle - BELOW, 0), most)
        last = min(max(middle + ABOVE, 0), most)
        field = Field(mantissa_bits, SIGN_RAW)
        frequency = _frequencies(np.arange(first, last + 1), middle, scale & 3, size)[None]
        super().__init__(precision, 1 + exponent_bits + mantissa_bits, field, first, 0, mode, frequency)

    def to_bytes(self) -> bytes:
        return struct.pack("<BBh", self.exponent_bits, self.mantissa_bits, self.scale)


def _frequencies(exponents: NDArray[np.int64], middle: int, quarter: int, size: int) -> NDArray[np.int32]:
    """Frequencies of escape, zero and consecutive biased exponents, int32[2 + n], of sum ``size``."""
    deviation = QUARTER_OCTAVES[quarter]
    edge = np.ldexp(1.0 / deviation, np.append(exponents, exponents[-1] + 1) - middle)
    if exponents[0] == 0:  # subnormal numbers and zero begin at zero
        edge[0] = 0.0
    share = 2.0 * np.diff(normal_cdf(edge)) * size
    row = np.zeros(FIRST + len(exponents), np.int64)
    row[FIRST:] = np.maximum(np.floor(share + 0.5), 1.0)
    row[[ESCAPE, ZERO]] = 1
    # What rounding and the rare ones' units take or leave goes to the most frequent, where a unit costs least.
    order = FIRST + np.argsort(-row[FIRST:], kind="stable")[:4]
    at = 0
    while (left := size - int(row.sum())) != 0:
        row[order[at % len(order)]] += 1 if left > 0 else -1
        at += 1
    return row.astype(np.int32)


@register
@dataclass(frozen=True)
class Gauss(StaticTansCodec):
    """`tans` with the exponents of a normal distribution: a compressor sums exponents, and counts nothing.

    The scale, a quarter octave fine, is the mean of the exponents that are neither zero nor all ones, so one adder
    and one pass suffice and the table is one of four in ROM, shifted. For tensors that are gone before a histogram
    pays: gradients, activations and parameters on a link.
    """

    codec_id: ClassVar[str] = "gauss"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "tans under a normal distribution's table: a sum of exponents in place of statistics"
    source: ClassVar[str] = (
        "after ZipCCL, W. Lin et al., arXiv:2604.27844 (exponent coding from the normal distribution, no online "
        "statistics; its code book was not found in print); tANS of J. Duda, arXiv:1311.2540"
    )

    streams: int = options.streams(4)
    precision: int = options.precision(10)

    def supports(self, fmt: Format) -> bool:
        return fmt.is_float and fmt.sign_bits == 1 and fmt.bits >= 8

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        total = count = 0
        exponent_bits, mantissa_bits = 8, 7
        for lines in chunks:
            self.check(lines)
            exponent_bits, mantissa_bits = lines.format.exponent_bits, lines.format.mantissa_bits
            most = np.uint64((1 << exponent_bits) - 1)
            for at in range(0, len(lines), BLOCK_LINES):
                elements = elements_of(lines.data[at : at + BLOCK_LINES], lines.format)
                exponents = (elements >> np.uint64(mantissa_bits)) & most
                exponents = exponents[(exponents > 0) & (exponents < most)]
                total += int(exponents.sum())
                count += len(exponents)
        bias = (1 << exponent_bits - 1) - 1
        scale = round(4 * (total / count - bias) + MEAN_OF_NORMAL) if count else 0
        return GaussTables(self.precision, exponent_bits, mantissa_bits, scale)

    def tables_from_bytes(self, data: bytes) -> Tables:
        if len(data) != 4:
            raise CorruptDataError(f"gauss tables are 4 B, not {len(data)} B")
        exponent_bits, mantissa_bits, scale = struct.unpack("<BBh", data)
        if not (2 <= exponent_bits <= 8 and 1 + exponent_bits + mantissa_bits in (8, 16, 32) and abs(scale) < 600):
            raise CorruptDataError("gauss tables name an element or a scale that no encoder writes")
        return GaussTables(self.precision, exponent_bits, mantissa_bits, scale)

    def _own(self, tables: Tables) -> StaticTables:
        own = super()._own(tables)
        if not isinstance(own, GaussTables):
            raise UnsupportedFormatError(f"{self.spec} was given counted tables: fit them with gauss")
        return own
