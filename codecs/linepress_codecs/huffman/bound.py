"""Bound of `huffman`'s own class where a line chooses among tables or has a mode for zeros. See `tans.bound`.

A line is raw, zero, or under the code of one table; its elements are symbols of that table and raw fields. The modes
of the lines and the symbols of each table are prefix codes, so no member of the class spends fewer bits than

    B = N H(mode) + bits of raw lines + raw fields + sum over tables of n(table) H(symbol | table).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.contracts import Lines
from linepress_codecs.fields import exponent_field
from linepress_codecs.formats import Format
from linepress_codecs.huffman.tables import HuffmanTables
from linepress_codecs.tans.bound import Counts
from linepress_codecs.tans.kernels import MODE_CODED, MODE_RAW, MODE_ZERO

_NO_CODE = 1 << 10
"""Code length entered for a symbol without code: sixty-four of them exceed any raw line."""


@njit(cache=True)
def _count_lines(items, raw, zero_lines, lengths, shift, mask, modes, symbols):  # type: ignore[no-untyped-def]
    """Add each line of items[n, m] to its mode, and its symbols to symbols[table] where it is coded."""
    for i in range(items.shape[0]):
        if raw[i]:
            modes[MODE_RAW] += 1
            continue
        if zero_lines:
            some = np.uint64(0)
            for j in range(items.shape[1]):
                some |= np.uint64(items[i, j])
            if some == 0:
                modes[MODE_ZERO] += 1
                continue
        table, least = 0, np.int64(1) << 40
        if lengths.shape[0] > 1:
            for k in range(lengths.shape[0]):
                total = np.int64(0)
                for j in range(items.shape[1]):
                    total += lengths[k, (np.uint64(items[i, j]) >> shift) & mask]
                if total < least:
                    table, least = k, total
        modes[MODE_CODED + table] += 1
        for j in range(items.shape[1]):
            symbols[table, (np.uint64(items[i, j]) >> shift) & mask] += 1


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
        items = frozen(lines.data.view(self.format.storage))
        modes = np.zeros_like(self.modes)
        _count_lines(
            items, bits > 8 * lines.line_bytes, self.zero_lines, self.lengths, np.uint64(field.shift),
            np.uint64((1 << field.bits) - 1), modes, self.symbols,
        )  # fmt: skip
        self.add_modes(modes, 8 * lines.line_bytes)
        self.raw_bits += field.rest_bits * int(modes[MODE_CODED:].sum()) * items.shape[1]
