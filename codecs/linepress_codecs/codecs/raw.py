"""``raw``: lines as they are. The first row of every table, and what the others are measured against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import check_tables_type, raw_payload_line, raw_payload_lines
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, NoTables, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Raw(LineCodec):
    """Each line is its own code: ``8 * line_bytes`` bits, no header."""

    codec_id: ClassVar[str] = "raw"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "lines as they are: the reference row"
    source: ClassVar[str] = "definition"

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        del chunks
        return NoTables()

    def tables_from_bytes(self, data: bytes) -> Tables:
        if data:
            raise CorruptDataError(f"raw has no tables but got {len(data)} B")
        return NoTables()

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        check_tables_type(self, tables, NoTables)
        return np.full(len(lines), 8 * lines.line_bytes, np.uint16)

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        bits = self.measure(lines, tables)
        starts = np.arange(len(lines), dtype=np.uint64) * np.uint64(8 * lines.line_bytes)
        payload = np.array(lines.data).reshape(-1)
        return Packed.of(lines, payload, starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_tables_type(self, tables, NoTables)
        return raw_payload_lines(packed)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_tables_type(self, tables, NoTables)
        return raw_payload_line(packed, i)

    def card(self, fmt: Format) -> HardwareCard:
        del fmt
        nothing = "no engine: the line passes by"
        return HardwareCard(
            decode_latency_cycles=Figure(0, "cycles", "derived", nothing),
            encode_latency_cycles=Figure(0, "cycles", "derived", nothing),
            initiation_interval_cycles=Figure(1, "cycles", "derived", "one line a cycle"),
            clock_GHz=Figure(1.75, "GHz", "estimated", "clock of the published decompressor, for comparison"),
            table_sram_bytes=Figure(0, "B", "derived", "no tables"),
        )
