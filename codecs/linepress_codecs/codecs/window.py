"""``window``: a fixed window of exponents, three or four bits each, and escapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.bitio import line_words as as_lines
from linepress_codecs.cards.measured import clock_of, cycles_of, rtl_card
from linepress_codecs.checks import check_geometry, check_index, check_tables_type, checked_single
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans.card import ANCHORS
from linepress_codecs.tans.engine import apart, line_words, raise_problem
from linepress_codecs.tans.kernels import OK
from linepress_codecs.tans.static import BLOCK_LINES, data_of, elements_of, per_line
from linepress_codecs.tans.words import word_shape
from linepress_codecs.targets import target
from linepress_codecs.window.general import window_code, window_decode
from linepress_codecs.window.words import SCRATCH_WORDS, decode_moves, decode_shifts, encode_moves, encode_shifts

Shapes = tuple[tuple[np.uint64, ...], tuple[np.uint64, ...]]

BUILT = {"bf16": "window", "e4m3": "window-e4m3"}
"""The RTL designs of three bits a code, by element format: a decoder and an encoder of each."""


@dataclass(frozen=True)
class WindowTables:
    """Smallest exponent (biased, as stored) of the window: one byte."""

    base: int

    def to_bytes(self) -> bytes:
        return bytes([self.base])


@register
@dataclass(frozen=True)
class Window(LineCodec):
    """Exponents ``base`` to ``base + 2^bits - 2`` as fixed-width codes, others as escapes whose exponent follows.

    Sign and mantissa are raw. Every field but the escapes lies at a fixed place, so nothing is serial.
    """

    codec_id: ClassVar[str] = "window"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "fixed window of exponents with escapes: nothing serial, nothing learned but its base"
    source: ClassVar[str] = (
        "ZipServ, arXiv:2603.17435 (3 bits, contiguous window); SplitZip, arXiv:2605.01708 (4 bits)"
    )

    bits: int = field(default=3, metadata={"help": "bits of a code", "choices": (2, 3, 4)})

    def supports(self, fmt: Format) -> bool:
        return fmt.is_float and fmt.sign_bits == 1 and fmt.exponent_bits > self.bits and fmt.bits >= 8

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        counts = np.zeros(256, np.int64)
        exponents = 256
        for lines in chunks:
            self.check(lines)
            fmt = lines.format
            exponents = 1 << fmt.exponent_bits
            for at in range(0, len(lines), BLOCK_LINES):
                elements = elements_of(lines.data[at : at + BLOCK_LINES], fmt)
                elements = elements[(elements != 0).any(axis=1)]
                codes = (elements >> np.uint64(fmt.mantissa_bits)) & np.uint64(exponents - 1)
                counts += np.bincount(codes.astype(np.int64).reshape(-1), minlength=256)
        span = (1 << self.bits) - 1
        inside = np.convolve(counts[:exponents], np.ones(span, np.int64), "valid")
        return WindowTables(int(np.argmax(inside)))

    def tables_from_bytes(self, data: bytes) -> Tables:
        if len(data) != 1:
            raise CorruptDataError(f"the window's base is 1 B, not {len(data)} B")
        return WindowTables(data[0])

    def _fast(self, fmt: Format, base: int) -> Shapes | None:
        """How codes and rests lie in a word, for elements that the kernels of `words` take, else None."""
        top = base + (1 << self.bits) - 2
        if top >= 1 << fmt.exponent_bits:
            return None
        codes, rests = word_shape(fmt.bits, self.bits, False), word_shape(fmt.bits, fmt.mantissa_bits, True)
        return None if codes is None or rests is None else (codes, rests)

    def _numbers(self, fmt: Format, base: int) -> tuple[np.uint64, ...]:
        """Widths of element, mantissa, exponent and code, and the base, as the kernels take them."""
        return tuple(np.uint64(v) for v in (fmt.bits, fmt.mantissa_bits, fmt.exponent_bits, self.bits, base))

    def _run(
        self, lines: Lines, tables: Tables, write: bool
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
        self.check(lines)
        check_tables_type(self, tables, WindowTables)
        fmt, base = lines.format, cast(WindowTables, tables).base
        per_line(fmt, lines.line_bytes)
        n = len(lines)
        bits, starts = np.zeros(n, np.uint16), np.zeros(n, np.uint64)
        words = np.empty(n * line_words(lines.line_bytes) + 2 if write else 1, np.uint64)
        shapes, numbers = self._fast(fmt, base), self._numbers(fmt, base)
        if shapes is not None:
            kernel = encode_moves if target().bit_moves else encode_shifts
            scratch = np.zeros(SCRATCH_WORDS, np.uint64)
            used = int(kernel(as_lines(lines.data), *numbers, *shapes, words, starts, bits, write, scratch))
            return bits, starts, words[: used // 64] if write else words
        used = 0
        for at in range(0, n, BLOCK_LINES):
            part = slice(at, min(at + BLOCK_LINES, n))
            first = used // 64 if write else 0
            elements = elements_of(lines.data[part], fmt)
            here = window_code(elements, *numbers, bits[part], words[first:], starts[part], write)  # type: ignore[call-arg]
            starts[part] += np.uint64(64 * first)
            used += int(here)
        return bits, starts, words[: used // 64] if write else words

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        return self._run(lines, tables, False)[0]

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        bits, starts, words = self._run(lines, tables, True)
        payload = words.view(np.uint8)
        return Packed.of(lines, payload, starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_geometry(packed)
        return self._decode(packed, tables, 0)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        alone = checked_single(packed, i)
        out: NDArray[np.uint8] = self._decode(alone, tables, i)[0]
        return out

    def _decode(self, packed: Packed, tables: Tables, index: int) -> NDArray[np.uint8]:
        """Lines of ``packed``; damage is reported as line ``index`` + its place."""
        check_tables_type(self, tables, WindowTables)
        fmt, base, n = packed.format, cast(WindowTables, tables).base, len(packed)
        per = per_line(fmt, packed.line_bytes)
        out = np.empty((n, packed.line_bytes), np.uint8)
        shapes, numbers = self._fast(fmt, base), self._numbers(fmt, base)
        rest = np.arange(n)
        if shapes is not None:
            kernel = decode_moves if target().bit_moves else decode_shifts
            place = frozen(packed.payload), frozen(packed.starts), frozen(packed.bits)
            rest = rest[: kernel(*place, *numbers, *shapes, out, rest)]
        for at in range(0, len(rest), BLOCK_LINES):
            part = rest[at : at + BLOCK_LINES]
            words, starts = apart(packed, part)
            elements = np.empty((len(part), per), np.uint64)
            line, problem = window_decode(words, starts, packed.bits[part], *numbers, elements)  # type: ignore[call-arg]
            if problem != OK:
                raise_problem(index + int(part[line]), problem)
            out[part] = data_of(elements, fmt)
        return out

    def card(self, fmt: Format) -> HardwareCard:
        base = Figure(1, "B", "derived", "the base exponent")
        if self.bits == 3 and fmt.name in BUILT:
            return rtl_card(f"{BUILT[fmt.name]}-decoder", f"{BUILT[fmt.name]}-encoder", base, ANCHORS)
        why = "as the design of bf16 with three bits: the same stages, another number of elements; not built"
        return HardwareCard(
            decode_latency_cycles=Figure(cycles_of("window-decoder").value, "cycles", "estimated", why),
            encode_latency_cycles=Figure(cycles_of("window-encoder").value, "cycles", "estimated", why),
            initiation_interval_cycles=Figure(1, "cycles", "derived", "feed-forward: a line every cycle"),
            clock_GHz=clock_of("window-decoder", "estimated", f"{why}; "),
            table_sram_bytes=base,
            anchors=ANCHORS,
        )
