"""``window``: a fixed window of exponents, three or four bits each, and escapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.checks import check_geometry, check_index, check_tables_type
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans.card import ANCHORS, CLOCK, log2_ceil
from linepress_codecs.tans.engine import line_words, one_line, padded_words, raise_problem
from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_LENGTH,
    BAD_VALUE,
    OK,
    U0,
    U1,
    U6,
    U63,
    emit,
    low_bits,
    read64,
)
from linepress_codecs.tans.static import BLOCK_LINES, data_of, elements_of, per_line

U2, U3 = np.uint64(2), np.uint64(3)


@njit(cache=True)
def window_code(elements, width, mantissa, exponent_bits, code_bits, base, bits, words, starts, write):  # type: ignore[no-untyped-def]
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; returns the bits used.

    A line: 0, codes, sign and mantissa of every element, exponents of the escapes; or 1 0 and the line raw; or 1 1
    for a line of zeros. Code 0 is the escape, code c the exponent ``base + c - 1``.
    """
    n, m = elements.shape
    most = U1 << code_bits
    exponent_mask = (U1 << exponent_bits) - U1
    mantissa_mask = (U1 << mantissa) - U1
    rest_bits = mantissa + U1
    fixed = U1 + np.uint64(m) * (code_bits + rest_bits)
    cursor = U0
    for i in range(n):
        line = elements[i]
        some = U0
        escapes = U0
        for j in range(m):
            some |= line[j]
            code = ((line[j] >> mantissa) & exponent_mask) - base + U1
            escapes += np.uint64(code == U0 or code >= most)
        used = fixed + escapes * exponent_bits
        raw = used >= np.uint64(m) * width
        starts[i] = cursor
        if some == U0:
            used = U2
        elif raw:
            used = U2 + np.uint64(m) * width
        if write:
            word, at, held = cursor >> U6, U0, U0
            if some == U0:
                emit(words, word, at, held, U3, U2)
            elif raw:
                word, at, held = emit(words, word, at, held, U1, U2)
                for j in range(m):
                    word, at, held = emit(words, word, at, held, line[j], width)
            else:
                word, at, held = emit(words, word, at, held, U0, U1)
                for j in range(m):
                    code = ((line[j] >> mantissa) & exponent_mask) - base + U1
                    code = code if code < most else U0
                    word, at, held = emit(words, word, at, held, code, code_bits)
                for j in range(m):
                    rest = (line[j] & mantissa_mask) | ((line[j] >> (width - U1)) << mantissa)
                    word, at, held = emit(words, word, at, held, rest, rest_bits)
                for j in range(m):
                    exponent = (line[j] >> mantissa) & exponent_mask
                    code = exponent - base + U1
                    if code == U0 or code >= most:
                        word, at, held = emit(words, word, at, held, exponent, exponent_bits)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True)
def window_decode(words, n_bits, starts, bits, width, mantissa, exponent_bits, code_bits, base, elements):  # type: ignore[no-untyped-def]
    """Inverse of `window_code`; returns (line, problem) of the first damaged line, problem 0 where there is none."""
    n, m = elements.shape
    rest_bits = mantissa + U1
    exponents = U1 << exponent_bits
    for i in range(n):
        at = starts[i]
        size = np.uint64(bits[i])
        if at > n_bits or at + size > n_bits:
            return i, BAD_LENGTH
        end = at + size
        line = elements[i]
        head = read64(words, at) & U3
        if head == U3:
            for j in range(m):
                line[j] = U0
            at += U2
        elif head == U1:
            at += U2
            for j in range(m):
                line[j] = low_bits(read64(words, at), width)
                at += width
        else:
            code_at = at + U1
            rest_at = code_at + np.uint64(m) * code_bits
            at = rest_at + np.uint64(m) * rest_bits
            if at > end:
                return i, BAD_END
            for j in range(m):
                code = low_bits(read64(words, code_at), code_bits)
                rest = low_bits(read64(words, rest_at), rest_bits)
                code_at += code_bits
                rest_at += rest_bits
                exponent = base + code - U1
                if code == U0:
                    exponent = low_bits(read64(words, at), exponent_bits)
                    at += exponent_bits
                if exponent >= exponents:
                    return i, BAD_VALUE
                line[j] = low_bits(rest, mantissa) | (exponent << mantissa) | ((rest >> mantissa) << (width - U1))
        if at != end:
            return i, BAD_END
    return n, OK


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

    def _run(
        self, lines: Lines, tables: Tables, write: bool
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
        self.check(lines)
        check_tables_type(self, tables, WindowTables)
        fmt = lines.format
        per_line(fmt, lines.line_bytes)
        n = len(lines)
        bits, starts = np.zeros(n, np.uint16), np.zeros(n, np.uint64)
        words = np.empty(n * line_words(lines.line_bytes) + 2 if write else 1, np.uint64)
        used = 0
        for at in range(0, n, BLOCK_LINES):
            part = slice(at, min(at + BLOCK_LINES, n))
            first = used // 64 if write else 0
            elements = elements_of(lines.data[part], fmt)
            here = window_code(
                elements, np.uint64(fmt.bits), np.uint64(fmt.mantissa_bits), np.uint64(fmt.exponent_bits),
                np.uint64(self.bits), np.uint64(cast(WindowTables, tables).base), bits[part], words[first:],
                starts[part], write,
            )  # fmt: skip
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
        words = padded_words(packed.payload)
        return self._decode(words, 8 * len(packed.payload), packed.starts, packed.bits, packed, tables, 0)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        words, n_bits, starts, bits = one_line(packed, i)
        out: NDArray[np.uint8] = self._decode(words, n_bits, starts, bits, packed, tables, i)[0]
        return out

    def _decode(
        self,
        words: NDArray[np.uint64],
        n_bits: int,
        starts: NDArray[np.uint64],
        bits: NDArray[np.uint16],
        packed: Packed,
        tables: Tables,
        index: int,
    ) -> NDArray[np.uint8]:
        check_tables_type(self, tables, WindowTables)
        fmt = packed.format
        per = per_line(fmt, packed.line_bytes)
        out = np.empty((len(bits), packed.line_bytes), np.uint8)
        for at in range(0, len(bits), BLOCK_LINES):
            part = slice(at, min(at + BLOCK_LINES, len(bits)))
            elements = np.empty((part.stop - at, per), np.uint64)
            line, problem = window_decode(
                words, np.uint64(n_bits), starts[part], bits[part], np.uint64(fmt.bits),
                np.uint64(fmt.mantissa_bits), np.uint64(fmt.exponent_bits), np.uint64(self.bits),
                np.uint64(cast(WindowTables, tables).base), elements,
            )  # fmt: skip
            raise_problem(index + at + line, problem)
            out[part] = data_of(elements, fmt)
        return out

    def card(self, fmt: Format) -> HardwareCard:
        levels = log2_ceil(fmt.elements_in(64))
        text = f"escape positions by a prefix count over the line ({levels} levels of adders, two levels a cycle)"
        cycles = 2 + -(-levels // 2)
        return HardwareCard(
            decode_latency_cycles=Figure(cycles, "cycles", "estimated", f"{text}, + 2 for alignment and output"),
            encode_latency_cycles=Figure(cycles, "cycles", "estimated", f"{text}, + 2 for comparison and output"),
            initiation_interval_cycles=Figure(1, "cycles", "derived", "feed-forward: a line every cycle"),
            clock_GHz=CLOCK,
            table_sram_bytes=Figure(1, "B", "derived", "the base exponent"),
            anchors=ANCHORS,
        )
