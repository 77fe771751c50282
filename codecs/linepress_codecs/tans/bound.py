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
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, MODE_RAW
from linepress_codecs.tans.static import StaticTables
from linepress_codecs.tans.tables import ROW_SYMBOLS
from linepress_codecs.tans.tally import tally


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

    def take_modes(self, modes: NDArray[np.uint8], line_bits: int) -> NDArray[np.bool_]:
        """Count the mode of each line, raw lines whole; which lines are coded."""
        self.add_modes(np.bincount(modes, minlength=len(self.modes)), line_bits)
        return modes >= MODE_CODED

    def add_modes(self, counts: NDArray[np.int64], line_bits: int) -> None:
        """Add lines by their mode, raw lines whole."""
        self.values += int(counts.sum()) * line_bits // self.fmt_bits
        self.modes += counts
        self.raw_bits += int(counts[MODE_RAW]) * line_bits


class StaticBound(Counts):
    """Class of `adaptive`: the tables of a tensor, one chosen a line (name ``own_tables``)."""

    def __init__(self, tables: StaticTables, fmt: Format) -> None:
        super().__init__("own_tables", fmt.bits, MODE_CODED + len(tables.frequency), len(tables.frequency))
        self.tables = tables
        self.format = fmt

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        line_bits = 8 * lines.line_bytes
        coded = self.format.elements_in(lines.line_bytes) - self.tables.tail
        modes, counts = tally(lines.data, self.format, self.tables, coded, bits >= line_bits)
        # what its table has no frequency for is an escape
        lack = self.tables.frequency == 0
        counts[:, ESCAPE] += np.where(lack, counts[:, : lack.shape[1]], 0).sum(axis=1)
        counts[:, : lack.shape[1]][lack] = 0
        self.add_modes(modes, line_bits)
        self.symbols += counts
        self.raw_bits += int(modes[MODE_CODED:].sum()) * self.tables.tail * self.fmt_bits
        self.raw_bits += self.tables.field.raw_bits * int(counts[:, FIRST:].sum())
        self.raw_bits += self.fmt_bits * int(counts[:, ESCAPE].sum())
