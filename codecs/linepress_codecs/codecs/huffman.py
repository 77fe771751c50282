"""``huffman``: per-tensor length-limited canonical Huffman codes of the exponent; sign and mantissa raw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.anchors import HUFFMAN_ANCHORS
from linepress_codecs.bitio import as_words, frozen, line_words
from linepress_codecs.cards.measured import clock_of, rtl_card
from linepress_codecs.checks import (
    check_arrays,
    check_geometry,
    check_index,
    check_tables_type,
    misplaced,
    single,
)
from linepress_codecs.contracts import ClassBound, Figure, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.fields import exponent_field
from linepress_codecs.formats import Format
from linepress_codecs.huffman import kernels as kernels
from linepress_codecs.huffman.bound import TableBound
from linepress_codecs.huffman.decode import decode_any, decode_bytes, decode_plain_bf16
from linepress_codecs.huffman.fit import fit_tables
from linepress_codecs.huffman.tables import MAX_TABLES, HuffmanTables
from linepress_codecs.registry import register

_KINDS = {
    "bf16": kernels.KIND_BF16,
    "fp16": kernels.KIND_FP16,
    "fp32": kernels.KIND_FP32,
    "int16": kernels.KIND_INT16,
    "int32": kernels.KIND_INT32,
}
BUILT, FIXED_DECODE = "huffman8-decoder", 6
"""The RTL design, and its clocks beside two a code."""
BUILT_ENCODER, FIXED_ENCODE = "huffman8-encoder", 5
"""The encoder's, and its clocks beside one for each doubling of the codes that are joined."""
_REASONS = {
    kernels.BAD_BITS: "the code does not end where its size says",
    kernels.BAD_CODE: "a bit pattern that no code has",
    kernels.BAD_SELECTOR: "a table selector beyond the tables",
    kernels.BAD_SUBSTREAM: "a sub-stream does not end where its length field says",
    kernels.BAD_SYMBOL: "a symbol wider than the format's exponent",
}


@register
@dataclass(frozen=True)
class Huffman(LineCodec):
    """Line = mode bit(s), table selector, sub-stream lengths, raw sign and mantissa bits, exponent codes.

    A symbol is the exponent of a 16- or 32-bit float, the whole byte of 8-bit and packed 4-bit formats, the top byte
    of wider integers. A line that would not shrink is raw (1 bit more, 2 where the tensor has all-zero lines); an
    all-zero line is 2 bits. Line sizes of 32 and 64 B.
    """

    codec_id: ClassVar[str] = "huffman"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "canonical Huffman of the exponent (whole byte of 8-bit formats), sign and mantissa raw"
    source: ClassVar[str] = "SC2 (ISCA 2014) as a per-tensor exponent code; package-merge lengths (JACM 1990)"

    tables: int = field(
        default=1,
        metadata={"choices": tuple(range(1, MAX_TABLES + 1)), "help": "codes a tensor at most, chosen per line"},
    )
    limit: int = field(default=12, metadata={"choices": (8, 9, 10, 11, 12), "help": "longest code in bits"})
    substreams: int = field(
        default=1,
        metadata={"choices": (1, 2, 4, 8), "help": "parts of a line that hardware decodes in parallel"},
    )

    # --- geometry -----------------------------------------------------------------------------------------------

    def _kind(self, fmt: Format) -> int:
        return _KINDS.get(fmt.name, kernels.KIND_BYTES)

    def _kind_of(self, fmt: Format, line_bytes: int) -> int:
        self._check_line(line_bytes)
        return self._kind(fmt)

    @staticmethod
    def _check_line(line_bytes: int) -> None:
        if line_bytes not in (32, 64):
            raise UnsupportedFormatError(f"huffman takes lines of 32 or 64 B, not {line_bytes} B")

    @staticmethod
    def _symbols(fmt: Format, line_bytes: int) -> int:
        return line_bytes // fmt.storage.itemsize

    def _substreams(self, fmt: Format, line_bytes: int) -> int:
        """Sub-streams of a line: at most one a pair of symbols."""
        return min(self.substreams, self._symbols(fmt, line_bytes) // 2)

    def _field_bits(self, fmt: Format, line_bytes: int) -> int:
        """Width of a sub-stream's length field: enough for its longest code."""
        parts = self._substreams(fmt, line_bytes)
        return (self._symbols(fmt, line_bytes) // parts * self.limit).bit_length() if parts > 1 else 0

    def _fixed_bits(self, fmt: Format, line_bytes: int, tables: HuffmanTables) -> int:
        """Bits of a coded line beside its codes."""
        fields = (self._substreams(fmt, line_bytes) - 1) * self._field_bits(fmt, line_bytes)
        rest = self._symbols(fmt, line_bytes) * exponent_field(fmt).rest_bits
        return 1 + tables.selector_bits + fields + rest

    # --- coding -------------------------------------------------------------------------------------------------

    def fit(self, chunks: Iterable[Lines]) -> HuffmanTables:
        return fit_tables(chunks, self._kind_of, self.tables, self.limit)

    def tables_from_bytes(self, data: bytes) -> HuffmanTables:
        return HuffmanTables.from_bytes(data, self.limit)

    def class_bound(self, fmt: Format, tables: Tables) -> ClassBound | None:
        own = self._own(tables)
        return TableBound(own, fmt) if len(own) > 1 or own.zero_lines else None

    def _own(self, tables: Tables) -> HuffmanTables:
        check_tables_type(self, tables, HuffmanTables)
        assert isinstance(tables, HuffmanTables)
        if tables.longest > self.limit:
            raise CorruptDataError(
                f"the tables have codes over {self.limit} bits: decode with the limit they came from"
            )
        return tables

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        own = self._own(tables)
        kind = self._kind_of(lines.format, lines.line_bytes)
        bits = np.empty(len(lines), np.uint16)
        fixed = np.uint64(self._fixed_bits(lines.format, lines.line_bytes, own))
        kernels.measure(line_words(lines.data), kind, own.pair_bits, fixed, len(own), own.zero_lines, bits)
        return bits

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        own = self._own(tables)
        kind = self._kind_of(lines.format, lines.line_bytes)
        fmt, line_bytes, n = lines.format, lines.line_bytes, len(lines)
        out = np.empty(n * (line_bytes // 8 + 1) + kernels.SLACK_WORDS, np.uint64)
        starts, bits = np.empty(n, np.uint64), np.empty(n, np.uint16)
        used = kernels.encode(
            line_words(lines.data),
            kind,
            own.pair_code,
            own.pair_bits,
            len(own),
            np.uint64(own.selector_bits),
            self._substreams(fmt, line_bytes),
            np.uint64(self._field_bits(fmt, line_bytes)),
            own.zero_lines,
            out,
            starts,
            bits,
        )
        payload = out[: int(used)].view(np.uint8)
        return Packed.of(lines, payload, starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        own = self._own(tables)
        self._check_line(packed.line_bytes)
        check_arrays(packed)
        kind = self._kind(packed.format)
        entries, index_bits, pairs = own.decode_entries(self.limit, grow=kind != kernels.KIND_BYTES)
        out = np.empty((len(packed), packed.line_bytes // 8), np.uint64)
        scratch = np.empty(kernels.SLACK_WORDS, np.uint64)
        plain_bf16 = packed.format.name == "bf16" and len(own) == 1
        one_by_one = kind == kernels.KIND_BYTES and not pairs
        kernel = decode_plain_bf16 if plain_bf16 else decode_bytes if one_by_one else decode_any
        line, reason = kernel(
            frozen(as_words(packed.payload)),
            np.uint64(8 * len(packed.payload)),
            frozen(np.ascontiguousarray(packed.starts)),
            frozen(np.ascontiguousarray(packed.bits)),
            kind,
            entries,
            index_bits,
            len(own),
            np.uint64(own.selector_bits),
            self._substreams(packed.format, packed.line_bytes),
            np.uint64(self._field_bits(packed.format, packed.line_bytes)),
            own.zero_lines,
            own.single_entries(self.limit) if one_by_one else np.zeros(1, np.uint16),
            self.limit,
            scratch,
            frozen(scratch),
            out,
        )
        if line >= 0:
            i = int(line)
            what = misplaced(packed, i, 64) if reason == kernels.BAD_PLACE else _REASONS[reason]
            raise CorruptDataError(what, line=i)
        return out.view(np.uint8)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        start, bits = int(packed.starts[i]), int(packed.bits[i])
        one = single(packed, i)
        check_geometry(one, aligned_bits=64)
        code = packed.payload[start // 8 : -(-(start + bits) // 64) * 8]
        alone = Packed(code, np.zeros(1, np.uint64), one.bits, packed.format, packed.line_bytes, one.geometry)
        try:
            line: NDArray[np.uint8] = self.decode(alone, tables)[0]
        except CorruptDataError as error:
            raise error.at(i) from None
        return line

    # --- hardware -----------------------------------------------------------------------------------------------

    def card(self, fmt: Format) -> HardwareCard:
        """As the RTL design of eight sub-streams where that is the variant; else by its structure."""
        symbols = self._symbols(fmt, 64)
        parts = self._substreams(fmt, 64)
        serial = symbols // parts
        sram = Figure(
            self.tables * (2 ** exponent_field(fmt).bits + 4 * self.limit),
            "B",
            "derived",
            "per table: a byte a symbol in canonical order, first code and offset (2 B each) a length; registers in "
            "the RTL design",
        )
        encode = Figure(
            FIXED_ENCODE + symbols.bit_length() - 1 + (self.tables > 1),
            "cycles",
            "estimated",
            f"{FIXED_ENCODE} for ranks, lengths and codes of all symbols at once + log2({symbols}) to join codes two "
            f"by two (the RTL design {BUILT_ENCODER} joins those of a lane and places the lanes, in as many clocks) "
            "+ 1 to choose among tables; not built so",
        )
        if (fmt.name, parts, self.tables, self.limit) == ("bf16", 8, 1, 12):
            return rtl_card(BUILT, BUILT_ENCODER, sram, HUFFMAN_ANCHORS)
        return HardwareCard(
            decode_latency_cycles=Figure(
                FIXED_DECODE + 2 * serial,
                "cycles",
                "estimated",
                f"{symbols} symbols / {parts} sub-streams, two clocks a code, + {FIXED_DECODE} for header, start, "
                f"look-up and output, as the RTL design {BUILT} takes; not built for this variant",
            ),
            encode_latency_cycles=encode,
            initiation_interval_cycles=Figure(
                serial,
                "cycles",
                "derived",
                f"a folded engine holds two lines in turn, a code of each in two clocks; unrolled, as {BUILT} is, it "
                "takes a line a clock",
            ),
            clock_GHz=clock_of(BUILT, "estimated", "as the one that was built; "),
            table_sram_bytes=sram,
            anchors=HUFFMAN_ANCHORS,
        )
