"""Bounds of codecs whose class none of `bounds` covers: the codec's own contexts and symbols, with ideal tables.

A codec that chooses among tables, or reads a distribution from a channel's parameters and the previous token, knows
more than an order-0 class and may go below its entropy. Its own class is: the same split of a line into modes, rows
(contexts), symbols and raw fields, where any static table may stand in place of each row and costs nothing. With
``N`` lines, the fewest bits any member of the class spends on a tensor are

    B = N H(mode) + bits of raw lines + raw fields + sum over rows of n(row) H(symbol | row),

all H the plug-in entropies of this tensor. By Gibbs' inequality no choice of rows beats B. What tANS may gain on it
is that a stream ends in a smaller state than it began in: less than one bit a stream of a line. So

    payload_bits + streams * lines >= B

with the table bits left out of both sides. Over a tensor that term averages out (the rounding of states costs):
the tests hold ``payload_bits >= B`` on drawn tensors and the inequality on hostile ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bounds import entropy_terms
from linepress_codecs.contracts import Bound, ClassBound, Lines
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import Format
from linepress_codecs.tans.engine import measure_static
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, MODE_RAW, ZERO
from linepress_codecs.tans.static import BLOCK_LINES, INTEGER, SIGN_CODED, StaticTables, elements_of
from linepress_codecs.tans.tables import ROW_SYMBOLS


class Counts:
    """Histograms of modes and symbols and the sum of raw bits; both models fill them."""

    def __init__(self, name: str, fmt_bits: int, modes: int, rows: int) -> None:
        self.name = name
        self.fmt_bits = fmt_bits
        self.modes = np.zeros(modes, np.int64)
        self.symbols = np.zeros((rows, ROW_SYMBOLS), np.int64)
        self.raw_bits = 0
        self.values = 0

    def merge(self, other: ClassBound) -> None:
        """Add the counts of another part of the same tensor; `CodecError` where it counts another class."""
        if not isinstance(other, Counts) or (other.name, other.symbols.shape) != (self.name, self.symbols.shape):
            raise CodecError(f"counts of class {self.name} can only be merged with those of the same tables")
        self.modes += other.modes
        self.symbols += other.symbols
        self.raw_bits += other.raw_bits
        self.values += other.values

    def bound(self) -> Bound:
        """See the module's text; NaN for an empty tensor."""
        contexts = int((self.symbols.sum(axis=1) > 0).sum())
        if not self.values:
            nan = float("nan")
            return Bound(self.name, nan, nan, nan, nan, contexts, 0)
        terms = [entropy_terms(self.modes.astype(np.uint64)), entropy_terms(self.symbols.astype(np.uint64))]
        bits = self.raw_bits + sum(t[0] for t in terms)
        plain = bits / self.values
        corrected = (bits + sum(t[1] for t in terms) / (2 * math.log(2))) / self.values
        tables = (bits + sum(t[2] for t in terms)) / self.values
        ratio = self.fmt_bits / plain if plain else float("inf")
        return Bound(self.name, plain, ratio, corrected, tables, contexts, self.values)

    def take_modes(self, modes: NDArray[np.uint8], elements: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Count the lines' modes, raw lines whole; which lines are coded."""
        self.values += elements.size
        self.modes += np.bincount(modes, minlength=len(self.modes))
        self.raw_bits += int((modes == MODE_RAW).sum()) * elements.shape[1] * self.fmt_bits
        return modes >= MODE_CODED


class StaticBound(Counts):
    """Class of `adaptive`: the tables of a tensor, one chosen a line (name ``own_tables``)."""

    def __init__(self, tables: StaticTables, streams: int, fmt: Format) -> None:
        super().__init__("own_tables", fmt.bits, MODE_CODED + len(tables.frequency), len(tables.frequency))
        self.tables = tables
        self.streams = streams
        self.format = fmt

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        del bits  # the choice of the table is made anew, and says the mode
        for at in range(0, len(lines), BLOCK_LINES):
            elements = elements_of(lines.data[at : at + BLOCK_LINES], lines.format)
            modes = np.zeros(len(elements), np.uint8)
            measure_static(elements, self.format, self.tables, self.streams, modes)
            coded = self.take_modes(modes, elements)
            self._count(elements[coded], modes[coded].astype(np.int64) - MODE_CODED)

    def _count(self, elements: NDArray[np.uint64], row: NDArray[np.int64]) -> None:
        if not len(elements):
            return
        tables, field = self.tables, self.tables.field
        body = elements[:, : elements.shape[1] - tables.tail]
        self.raw_bits += len(elements) * tables.tail * self.fmt_bits
        symbol = np.where(body == 0, ZERO, -1) if tables.use_zero else np.full(body.shape, -1)
        value = _field_values(body, self.fmt_bits, field.low, field.signed, field.flip) - tables.first + FIRST
        known = (value >= FIRST) & (value < tables.frequency.shape[1])
        symbol = np.where(symbol == ZERO, ZERO, np.where(known, value, ESCAPE))
        rows = np.broadcast_to(row[:, None], symbol.shape)
        symbol = np.where(tables.frequency[rows, symbol] == 0, ESCAPE, symbol)
        np.add.at(self.symbols, (rows, symbol), 1)
        self.raw_bits += field.raw_bits * int((symbol >= FIRST).sum()) + self.fmt_bits * int((symbol == ESCAPE).sum())


def _field_values(u: NDArray[np.uint64], width: int, low: int, signed: int, flip: int) -> NDArray[np.int64]:
    """Field value of each element (see `tans.static_kernels.field_of`)."""
    sign_shift = np.uint64(width - 1)
    if signed == INTEGER:
        return ((u ^ np.uint64(flip)) >> np.uint64(low)).astype(np.int64)
    magnitude = (u & ((np.uint64(1) << sign_shift) - np.uint64(1))) >> np.uint64(low)
    if signed == SIGN_CODED:
        magnitude = (magnitude << np.uint64(1)) | (u >> sign_shift)
    return magnitude.astype(np.int64)
