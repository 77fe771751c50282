"""What the static tANS codecs share: from options to tables, sizes, code and lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import check_geometry, check_index, check_tables_type
from linepress_codecs.contracts import ClassBound, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tans.bits import BitReader
from linepress_codecs.tans.bound import StaticBound
from linepress_codecs.tans.card import static_card
from linepress_codecs.tans.engine import decode_lines, decode_one, encode_lines, measure_lines
from linepress_codecs.tans.fit import fit_static
from linepress_codecs.tans.options import AUTO
from linepress_codecs.tans.static import StaticTables


class StaticTansCodec(LineCodec):
    """Base of codecs whose tables are static distributions; subclasses are frozen dataclasses of the options."""

    streams: int
    precision: int

    def _tables(self) -> int:
        return 1

    def _mantissa(self) -> int:
        return 0

    def supports(self, fmt: Format) -> bool:
        return fmt.bits <= 32

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        mantissa = None if self._mantissa() == AUTO else self._mantissa()
        return fit_static(
            chunks, precision=self.precision, streams=self.streams, tables=self._tables(), mantissa=mantissa
        )

    def tables_from_bytes(self, data: bytes) -> Tables:
        source = BitReader(data)
        tables = StaticTables.read(source, self.precision)
        source.finish()
        return tables

    def _own(self, tables: Tables) -> StaticTables:
        check_tables_type(self, tables, StaticTables)
        own = cast(StaticTables, tables)
        if own.precision != self.precision:
            raise UnsupportedFormatError(
                f"{self.spec} was given tables of precision {own.precision}: fit them with the same options"
            )
        return own

    def class_bound(self, fmt: Format, tables: Tables) -> ClassBound | None:
        return StaticBound(self._own(tables), fmt)

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        self.check(lines)
        return measure_lines(lines, self._own(tables), self.streams)

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        self.check(lines)
        return encode_lines(lines, self._own(tables), self.streams)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_geometry(packed)
        return decode_lines(packed, self._own(tables), self.streams)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        return decode_one(packed, i, self._own(tables), self.streams)

    def card(self, fmt: Format) -> HardwareCard:
        any_field = self._mantissa() != 0
        return static_card(fmt, self.streams, self.precision, self._tables(), any_field=any_field)
