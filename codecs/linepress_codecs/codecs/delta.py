"""``delta``: a fine-tuned model or a checkpoint against its base, element by element."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.checks import check_geometry, check_index, check_tables_type, checked_single
from linepress_codecs.contracts import ClassBound, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.delta.kernels import classify, delta_code, delta_decode
from linepress_codecs.delta.tables import DeltaTables, base_elements, fit_delta, shape_of
from linepress_codecs.errors import UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans import options as options
from linepress_codecs.tans.bound import Counts
from linepress_codecs.tans.card import static_card
from linepress_codecs.tans.engine import apart, line_words, raise_problem
from linepress_codecs.tans.kernels import BUFFER_WORDS, MODE_CODED, MODE_RAW, MODE_ZERO
from linepress_codecs.tans.static import BLOCK_LINES, data_of, elements_of, per_line

CARD_ROWS = 12
"""Rows that a bf16 checkpoint has: the exponents of nearly all weights."""


@register
@dataclass(frozen=True)
class Delta(LineCodec):
    """The difference to the base's element in units of the last place, by tANS in a row for each base exponent.

    An update of a given size is many units of a small weight and none of a large one, so the base's exponent says
    how wide the differences spread. Their low bits beyond 64 steps are stored raw; a line equal to its base is a
    flag. The base line is given at decode, as the geometry is; without a base every element is coded against zero.
    """

    codec_id: ClassVar[str] = "delta"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "against an older version of the tensor, given at decode: fine-tunes and checkpoints"
    source: ClassVar[str] = "this project; tANS of J. Duda, arXiv:1311.2540"

    streams: int = options.streams(1)
    precision: int = options.precision(10)

    def supports(self, fmt: Format) -> bool:
        return fmt.bits <= 32

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        return fit_delta(chunks, self.precision)

    def tables_from_bytes(self, data: bytes) -> Tables:
        return DeltaTables.from_bytes(data, self.precision)

    def _own(self, tables: Tables, fmt: Format, line_bytes: int) -> DeltaTables:
        check_tables_type(self, tables, DeltaTables)
        own = cast(DeltaTables, tables)
        if own.precision != self.precision or own.width > fmt.bits:
            raise UnsupportedFormatError(
                f"{self.spec} was given tables of {own.width}-bit elements and precision {own.precision} for "
                f"{fmt.name}: fit them anew"
            )
        per_line(fmt, line_bytes)
        return own

    def class_bound(self, fmt: Format, tables: Tables) -> ClassBound | None:
        return _DeltaBound(self._own(tables, fmt, 64), fmt)

    def _run(
        self, lines: Lines, tables: Tables, write: bool
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
        self.check(lines)
        own = self._own(tables, lines.format, lines.line_bytes)
        machine = own.machine
        n = len(lines)
        bits, starts = np.zeros(n, np.uint16), np.zeros(n, np.uint64)
        words = np.empty(n * line_words(lines.line_bytes) + 2 if write else 1, np.uint64)
        used = 0
        for at in range(0, n, BLOCK_LINES):
            part = slice(at, min(at + BLOCK_LINES, n))
            base = lines.geometry[part].base
            first = used // 64 if write else 0
            here = delta_code(
                elements_of(lines.data[part], lines.format), base_elements(base, lines.data[part], lines.format),
                *shape_of(lines.format), own.first, own.low, self.streams, self.precision, machine.encode_bits,
                machine.encode_find, machine.encode_state, machine.frequency.reshape(-1), bits[part], words[first:],
                starts[part], write,
            )  # fmt: skip
            starts[part] += np.uint64(64 * first)
            used += int(here)
        return bits, starts, words[: used // 64] if write else words

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        return self._run(lines, tables, False)[0]

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        bits, starts, words = self._run(lines, tables, True)
        return Packed.of(lines, words.view(np.uint8), starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_geometry(packed)
        return self._decode(packed, tables, 0)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        out: NDArray[np.uint8] = self._decode(checked_single(packed, i), tables, i)[0]
        return out

    def _decode(self, packed: Packed, tables: Tables, index: int) -> NDArray[np.uint8]:
        """Lines of ``packed``; damage is reported as line ``index`` + its place."""
        own = self._own(tables, packed.format, packed.line_bytes)
        out = np.zeros((len(packed), packed.line_bytes), np.uint8)
        every = np.arange(len(packed))
        for at in range(0, len(packed), BLOCK_LINES):
            part = every[at : at + BLOCK_LINES]
            words, starts = apart(packed, part)
            base = packed.geometry[part].base
            elements = np.empty((len(part), per_line(packed.format, packed.line_bytes)), np.uint64)
            line, problem = delta_decode(
                words, starts, packed.bits[part], base_elements(base, out[part], packed.format),
                *shape_of(packed.format), own.first, own.low, self.streams, self.precision, own.machine.decode,
                elements,
            )  # fmt: skip
            raise_problem(index + at + line, problem)
            out[part] = data_of(elements, packed.format)
        return out

    def card(self, fmt: Format) -> HardwareCard:
        return static_card(fmt, self.streams, self.precision, CARD_ROWS)


@njit(cache=True)
def _count(  # type: ignore[no-untyped-def]
    elements, base, coded, width, mantissa, floats, first, low, frequency, counts,
):  # fmt: skip
    """Add the places of the coded lines' elements to flat ``counts``; returns the bits of their raw fields."""
    m = elements.shape[1]
    places = np.zeros((1, m), np.uint64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    bits = np.uint64(0)
    for i in range(elements.shape[0]):
        if coded[i]:
            bits += classify(elements[i], base[i], 0, width, mantissa, floats, first, low, frequency, places, raw)
            for j in range(m):
                counts[places[0, j]] += 1
    return bits


class _DeltaBound(Counts):
    """Class of `delta` (name ``own_deltas``): symbols of differences by the base's exponent; see `tans.bound`."""

    def __init__(self, tables: DeltaTables, fmt: Format) -> None:
        super().__init__("own_deltas", fmt.bits, MODE_CODED + 1, len(tables.machine.frequency))
        self.tables = tables
        self.flat = tables.machine.frequency.reshape(-1)

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        modes = np.where(bits >= 8 * lines.line_bytes, MODE_RAW, np.where(bits <= 4, MODE_ZERO, MODE_CODED))
        for at in range(0, len(lines), BLOCK_LINES):
            part = slice(at, at + BLOCK_LINES)
            elements = elements_of(lines.data[part], lines.format)
            base = base_elements(lines.geometry[part].base, lines.data[part], lines.format)
            coded = self.take_modes(modes[part].astype(np.uint8), 8 * lines.line_bytes)
            self.raw_bits += int(
                _count(
                    elements, base, coded, *shape_of(lines.format), self.tables.first, self.tables.low, self.flat,
                    self.symbols.reshape(-1),
                )
            )  # fmt: skip
