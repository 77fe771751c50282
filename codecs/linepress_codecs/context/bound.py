"""Bound of `context`'s own class: rows chosen by a channel's parameters and the previous token. See `tans.bound`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.context.channel import ChannelTables, FloatShape
from linepress_codecs.context.order import order_of
from linepress_codecs.context.rows import channel_machine
from linepress_codecs.context.woven import classify_woven
from linepress_codecs.contracts import Lines
from linepress_codecs.formats import Format
from linepress_codecs.tans.bound import Counts
from linepress_codecs.tans.kernels import BUFFER_WORDS, MODE_CODED, MODE_RAW, MODE_ZERO
from linepress_codecs.tans.static import BLOCK_LINES, elements_of
from linepress_codecs.tans.tables import ROW_SYMBOLS


@njit(cache=True)
def _count_channels(  # type: ignore[no-untyped-def]
    elements, coded, channel, parameters, before, needed, offset, span, width, mantissa, bias, frequency, counts,
):  # fmt: skip
    """Add the places of the coded lines' elements to flat ``counts``; returns the bits of their raw fields."""
    m = elements.shape[1]
    flat = parameters.reshape(-1)
    last = parameters.shape[0] - 1
    places = np.zeros((1, m), np.uint64)
    guess = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    bits = np.uint64(0)
    for i in range(elements.shape[0]):
        if coded[i]:
            bits += classify_woven(
                elements[i], 0, channel[i], flat, last, before, needed, offset, span, width, mantissa, bias,
                frequency, places, guess, raw,
            )  # fmt: skip
            for j in range(m):
                counts[places[0, j]] += 1
    return bits


class ChannelBound(Counts):
    """Class of `context`: rows chosen by a channel's parameters and the previous token (name ``own_channels``)."""

    def __init__(self, tables: ChannelTables, streams: int, precision: int, fmt: Format) -> None:
        self.frequency = channel_machine(precision).frequency.reshape(-1)
        super().__init__("own_channels", fmt.bits, MODE_CODED + 1, len(self.frequency) // ROW_SYMBOLS)
        self.tables = tables
        self.streams = streams
        self.shape = FloatShape.of(fmt)

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        shape = self.shape
        rows = self.tables.rows_of(lines.geometry.channel, len(lines))
        modes = np.where(bits >= 8 * lines.line_bytes, MODE_RAW, np.where(bits <= 4, MODE_ZERO, MODE_CODED))
        for at in range(0, len(lines), BLOCK_LINES):
            part = slice(at, at + BLOCK_LINES)
            elements = elements_of(lines.data[part], lines.format)
            order = order_of(lines, elements.shape[1], self.streams)
            coded = self.take_modes(modes[part].astype(np.uint8), 8 * lines.line_bytes)
            self.raw_bits += int(
                _count_channels(
                    elements, coded, rows[part], self.tables.parameters, order.before, order.needed, order.offset,
                    order.span, np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, self.frequency,
                    self.symbols.reshape(-1),
                )
            )  # fmt: skip
