"""Parameters of channels: mean, deviation and slope of each, learned once and stored in two to three bytes.

A channel's values are modelled as normal with mean m; the first value of a chain has deviation s0, each further one,
given the value before it, mean ``m + a (previous - m)`` and deviation s1. Deviations are kept to a quarter of an
octave, means to half a cell of the first value, slopes to an eighth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.context.cells import SLOPE_SHIFT
from linepress_codecs.context.order import order_of
from linepress_codecs.context.rows import CELLS_PER_SIGMA
from linepress_codecs.contracts import Lines
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.kernels import U0, U1
from linepress_codecs.tans.static import BLOCK_LINES, elements_of

COLUMNS = ("level", "widening", "mean", "slope")
"""Per channel: 4 log2 of the later deviation; 4 log2 of first over later deviation; mean in half cells of the first
value; slope in eighths."""
MOST_LEVEL, MOST_WIDENING, MOST_MEAN, MOST_SLOPE = 4 * 2048, 48, 2047, 8
MOST_CHANNELS = 1 << 24
_SUMS = 9


@dataclass(frozen=True, slots=True)
class FloatShape:
    """What kernels need to know of a float format."""

    width: int
    mantissa: int
    bias: int
    top: int
    infinite: bool
    """Whether the largest exponent holds infinities and NaN only."""

    @classmethod
    def of(cls, fmt: Format) -> FloatShape:
        top = (1 << fmt.exponent_bits) - 1
        bias = (top >> 1) + ("fnuz" in fmt.name)
        return cls(fmt.bits, fmt.mantissa_bits, bias, top, "e4m3" not in fmt.name and "fnuz" not in fmt.name)


def models(fmt: Format) -> bool:
    """Whether the channel model takes this format: signed floats of at least 8 bits."""
    return fmt.is_float and fmt.sign_bits == 1 and fmt.bits >= 8


@njit(cache=True, inline="always")
def number(u, width, mantissa, top, infinite, unit):  # type: ignore[no-untyped-def]
    """Value of element ``u``, 0.0 for what a fit leaves out: exact zeros (padding) and what is not finite."""
    magnitude = u & ((U1 << (width - U1)) - U1)
    exponent = np.int64(magnitude >> mantissa)
    low = np.int64(magnitude & ((U1 << mantissa) - U1))
    if exponent == top and (infinite or low == (1 << np.int64(mantissa)) - 1):
        return 0.0
    if exponent > 0:
        low += 1 << np.int64(mantissa)
    x = float(low) * unit[max(exponent, 1)]
    return -x if (u >> (width - U1)) != U0 else x


@njit(cache=True)
def _gather(  # type: ignore[no-untyped-def]
    elements, channel, before, offset, span, width, mantissa, top, infinite, unit, sums,
):  # fmt: skip
    """Add lines to sums float64[n_channels, 9]: n, x, xx; pairs of an element and its context: n, a, b, aa, bb, ab.

    ``channel`` int64[n] is that of each line's first element; ``before``, ``offset`` and ``span`` are those of
    `order.LineOrder`. Exact zeros (padding) and non-finite values are left out; so are channels beyond the last.
    """
    m = elements.shape[1]
    values = np.zeros(m)
    counted = np.zeros(m, np.bool_)
    for i in range(elements.shape[0]):
        ahead = channel[i] % span
        for j in range(m):
            at = channel[i] + offset[j]
            if ahead + offset[j] >= span:
                at -= span
            x = number(elements[i, j], width, mantissa, top, infinite, unit)
            counted[j] = False
            if x == 0.0 or at >= sums.shape[0]:
                continue
            counted[j] = True
            values[j] = x
            row = sums[at]
            row[0] += 1.0
            row[1] += x
            row[2] += x * x
            b = before[j]
            if b >= 0 and counted[b]:
                row[3] += 1.0
                row[4] += values[b]
                row[5] += x
                row[6] += values[b] * values[b]
                row[7] += x * x
                row[8] += values[b] * x


class ChannelTables:
    """Parameters of every channel of a tensor.

    Attributes
    ----------
    columns : int32[n_channels, 4]
        See `COLUMNS`.
    """

    def __init__(self, columns: NDArray[np.int32]) -> None:
        self.columns = columns

    @property
    def n_channels(self) -> int:
        return len(self.columns)

    @cached_property
    def parameters(self) -> NDArray[np.int32]:
        """int32[n_channels + 1, 6] as the kernels take them; the last row serves lines of no known channel."""
        rows = np.concatenate([self.columns, np.zeros((1, len(COLUMNS)), np.int32)])
        level, widening, mean, slope = rows.T
        first = level + widening
        log_cells = CELLS_PER_SIGMA.bit_length() - 1
        cell_first, cell_next = (first >> 2) - log_cells, (level >> 2) - log_cells
        out = np.stack([cell_first, first & 3, 4 * mean, cell_next, level & 3, slope], axis=1)
        return np.ascontiguousarray(out, dtype=np.int32)

    def rows_of(self, channel: NDArray[np.uint32] | None, n: int) -> NDArray[np.int64]:
        """Row of `parameters` for each of ``n`` lines."""
        if channel is None:
            return np.full(n, self.n_channels, np.int64)
        return np.minimum(channel.astype(np.int64), self.n_channels)

    def write(self, out: BitWriter) -> None:
        """The number of channels, then the columns."""
        out.gamma(self.n_channels + 1)
        write_columns(out, self.columns)

    @classmethod
    def read(cls, source: BitReader) -> ChannelTables:
        """Inverse of `write`; raises `CorruptDataError` on anything no encoder wrote."""
        n = source.gamma() - 1
        if n > MOST_CHANNELS:
            raise CorruptDataError(f"{n} channels, but a tensor has at most {MOST_CHANNELS}")
        return cls(read_columns(source, n, MOST_MEAN))


def write_columns(out: BitWriter, columns: NDArray[np.int32]) -> None:
    """Each column as its minimum, its width in bits, and the values less the minimum in that width."""
    for column in columns.T if len(columns) else ():
        least = int(column.min())
        width = int(column.max() - least).bit_length()
        out.signed(least)
        out.write(width, 4)
        out.write_many([int(v) - least for v in column], width)


def read_columns(source: BitReader, n: int, most_mean: int) -> NDArray[np.int32]:
    """Inverse of `write_columns` for ``n`` channels; raises `CorruptDataError` on anything no encoder wrote."""
    columns = np.zeros((n, len(COLUMNS)), np.int32)
    limits = (
        (-MOST_LEVEL, MOST_LEVEL),
        (0, MOST_WIDENING),
        (-most_mean, most_mean),
        (-MOST_SLOPE, MOST_SLOPE),
    )
    for c, (low, high) in enumerate(limits if n else ()):
        least = source.signed()
        width = source.read(4)
        values = least + source.read_many(n, width)
        if int(values.min()) < low or int(values.max()) > high:
            raise CorruptDataError(f"a channel's {COLUMNS[c]} is out of range")
        if int(values.min()) != least or int(values.max() - least).bit_length() != width:
            raise CorruptDataError(f"the channels' {COLUMNS[c]} is stored wider than an encoder writes it")
        columns[:, c] = values
    return columns


def fit_channels(chunks: Iterable[Lines], streams: int) -> ChannelTables | None:
    """Parameters of a tensor's channels; None if its lines have none or its format has no exponent."""
    sums = np.zeros((0, _SUMS))
    mantissa = 0
    for lines in chunks:
        if lines.geometry.channel is None or not models(lines.format):
            return None
        shape = FloatShape.of(lines.format)
        mantissa = shape.mantissa
        if lines.geometry.n_channels > len(sums):
            sums = np.concatenate([sums, np.zeros((lines.geometry.n_channels - len(sums), _SUMS))])
        unit = np.ldexp(1.0, np.arange(shape.top + 1) - shape.bias - shape.mantissa)
        for at in range(0, len(lines), BLOCK_LINES):
            part = slice(at, at + BLOCK_LINES)
            elements = elements_of(lines.data[part], lines.format)
            order = order_of(lines, elements.shape[1], streams)
            _gather(
                elements, lines.geometry.channel[part].astype(np.int64), order.before, order.offset, order.span,
                np.uint64(shape.width), np.uint64(shape.mantissa), shape.top, shape.infinite, unit, sums,
            )  # fmt: skip
    return ChannelTables(_columns(sums, mantissa)) if len(sums) else None


def _columns(sums: NDArray[np.float64], mantissa: int) -> NDArray[np.int32]:
    """Quantised parameters from the sums of `_gather`."""
    mean = sums[:, 1] / np.maximum(sums[:, 0], 1.0)
    level, widening, slope, cell = quantised(sums, mean, np.abs(mean) * 2.0**-mantissa)
    half_cells = np.clip(np.round(2 * mean / cell), -MOST_MEAN, MOST_MEAN)
    return np.stack([level, widening, half_cells, slope], axis=1).astype(np.int32)


def quantised(
    sums: NDArray[np.float64], mean: NDArray[np.float64], unit: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(level, widening, slope, cell of first values) of each channel, from the sums of `_gather` about ``mean``.

    ``unit`` is one unit in the last place of the channel's typical size, where its mean is large.
    """
    n = np.maximum(sums[:, 0], 1.0)
    first = np.maximum(sums[:, 2] / n - mean * mean, 0.0)
    pairs = np.maximum(sums[:, 3], 1.0)
    a, b = sums[:, 4] / pairs - mean, sums[:, 5] / pairs - mean
    aa = np.maximum(sums[:, 6] / pairs - 2 * mean * sums[:, 4] / pairs + mean * mean, 0.0)
    bb = np.maximum(sums[:, 7] / pairs - 2 * mean * sums[:, 5] / pairs + mean * mean, 0.0)
    ab = sums[:, 8] / pairs - mean * (a + b) - mean * mean
    scale = 1 << SLOPE_SHIFT
    slope = np.clip(np.round(scale * np.divide(ab, aa, out=np.zeros_like(ab), where=aa > 0)), -scale, scale)
    later = np.maximum(bb - 2 * slope / scale * ab + (slope / scale) ** 2 * aa, 0.0)
    # A deviation of four units in the last place of the mean makes cells of two: a raw bit is left in each element,
    # and those pay for the states. Down to half of that it is cheaper to overstate the deviation; below, it is not.
    later = np.where((later >= (2 * unit) ** 2) & (later < (4 * unit) ** 2), (4 * unit) ** 2, later)
    floor = np.maximum((unit / 2) ** 2, 2.0**-300)
    seen = sums[:, 0] > 0
    level = np.where(seen, np.round(2 * np.log2(np.maximum(later, floor))), 0.0)
    wide = np.where(seen, np.round(2 * np.log2(np.maximum(first, floor))), 0.0)
    level = np.where(sums[:, 3] > 0, level, wide)
    widening = np.clip(wide - level, 0, MOST_WIDENING)
    cell = np.ldexp(1.0, (np.floor((level + widening) / 4) - (CELLS_PER_SIGMA.bit_length() - 1)).astype(np.int64))
    typical = int(np.median(level[seen])) if seen.any() else 0
    return np.where(seen, level, typical), widening, slope, cell
