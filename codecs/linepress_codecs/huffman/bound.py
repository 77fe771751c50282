"""Bound of `huffman`'s own class where a line chooses among tables or has a mode for zeros. See `tans.bound`.

A line is raw, zero, or under the code of one table; its elements are symbols of that table and raw fields. The modes
of the lines and the symbols of each table are prefix codes, so no member of the class spends fewer bits than

    B = N H(mode) + bits of raw lines + raw fields + sum over tables of n(table) H(symbol | table).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines
from linepress_codecs.fields import exponent_field
from linepress_codecs.formats import Format
from linepress_codecs.huffman.tables import HuffmanTables
from linepress_codecs.tans.bound import Counts
from linepress_codecs.tans.kernels import MODE_CODED, MODE_RAW, MODE_ZERO
from linepress_codecs.tans.static import BLOCK_LINES

# Code length entered for a symbol without code: sixty-four of them exceed any raw line.
_NO_CODE = 1 << 10


class TableBound(Counts):
    """Class of `huffman` under its tables, one chosen a line (name ``own_tables``)."""

    def __init__(self, tables: HuffmanTables, fmt: Format) -> None:
        super().__init__("own_tables", fmt.bits, MODE_CODED + len(tables), len(tables))
        self.format = fmt
        self.lengths = np.where(tables.lengths == 0, _NO_CODE, tables.lengths.astype(np.int64))
        self.zero_lines = tables.zero_lines

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        """Count lines; ``bits`` are their coded sizes, from which a raw line is known."""
        field = exponent_field(self.format)
        for at in range(0, len(lines), BLOCK_LINES):
            data = lines.data[at : at + BLOCK_LINES]
            items = data.view(self.format.storage)
            symbols = (items.astype(np.int64) >> field.shift) & ((1 << field.bits) - 1)
            table = np.stack([row[symbols].sum(axis=1) for row in self.lengths]).argmin(axis=0)
            modes = (MODE_CODED + table).astype(np.uint8)
            modes[bits[at : at + BLOCK_LINES] > 8 * lines.line_bytes] = MODE_RAW
            if self.zero_lines:
                modes[~data.any(axis=1)] = MODE_ZERO
            coded = self.take_modes(modes, 8 * lines.line_bytes)
            np.add.at(self.symbols, (table[coded][:, None], symbols[coded]), 1)
            self.raw_bits += field.rest_bits * symbols[coded].size
