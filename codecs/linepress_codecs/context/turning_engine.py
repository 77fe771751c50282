"""Measuring, writing and reading lines under turning channels; and the bound of their class."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.checks import checked_single
from linepress_codecs.context.cells import near_cells
from linepress_codecs.context.channel import FloatShape
from linepress_codecs.context.engine import checked_shape
from linepress_codecs.context.fast import decode_fast, encode_fast
from linepress_codecs.context.order import LineOrder, order_of
from linepress_codecs.context.rows import channel_machine
from linepress_codecs.context.turning import TurningTables, wave
from linepress_codecs.context.turning_kernels import classify, place_elements, turning_code, turning_decode
from linepress_codecs.contracts import Geometry, Lines, Packed
from linepress_codecs.formats import Format
from linepress_codecs.tans.bound import Counts
from linepress_codecs.tans.engine import apart, check_packed, line_words, raise_problem
from linepress_codecs.tans.kernels import BUFFER_WORDS, MODE_CODED, MODE_RAW, MODE_ZERO, OK
from linepress_codecs.tans.static import BLOCK_LINES, data_of, elements_of, per_line
from linepress_codecs.tans.tables import ROW_SYMBOLS

Placed = tuple[NDArray[np.int64], NDArray[np.int64]]


def placed(
    tables: TurningTables,
    where: Geometry,
    n: int,
    per: int,
    order: LineOrder,
) -> Placed:
    """(row of the parameters, mean) of every element of ``n`` lines, int64[n, per] each.

    Lines without positions stand at position 0: the means do not turn.
    """
    row = np.empty((n, per), np.int64)
    mean = np.empty((n, per), np.int64)
    first = np.zeros(n, np.uint32) if where.position is None else where.position
    place_elements(
        tables.rows_of(where.channel, n), first, tables.parameters, order.offset, order.later, order.span,
        order.in_runs, wave(), row, mean,
    )  # fmt: skip
    return row, mean


def _run(
    lines: Lines, tables: TurningTables, streams: int, precision: int, write: bool
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
    shape = checked_shape(lines.format, lines.line_bytes)
    n, per = len(lines), per_line(lines.format, lines.line_bytes)
    machine = channel_machine(precision)
    frequency = machine.frequency.reshape(-1)
    bits = np.zeros(n, np.uint16)
    starts = np.zeros(n, np.uint64)
    words = np.empty(n * line_words(lines.line_bytes) + 2 if write else 1, np.uint64)
    order = order_of(lines, per, streams)
    rows = tables.rows_of(lines.geometry.channel, n)
    fast = encode_fast(lines, order, rows, tables, streams, precision, shape, words, write)
    if fast is not None:
        bits, starts, used = fast
        return bits, starts, words[: used // 64] if write else words
    used = 0
    for at in range(0, n, BLOCK_LINES):
        part = slice(at, min(at + BLOCK_LINES, n))
        elements = elements_of(lines.data[part], lines.format)
        row, mean = placed(tables, lines.geometry[part], len(elements), per, order)
        first = used // 64 if write else 0
        here = turning_code(
            elements, tables.parameters, row, mean, order.steps, order.before, order.needed, np.uint64(shape.width),
            np.uint64(shape.mantissa), shape.bias, streams, precision, machine.encode_bits, machine.encode_find,
            machine.encode_state, frequency, bits[part], words[first:], starts[part], write,
        )  # fmt: skip
        starts[part] += np.uint64(64 * first)
        used += int(here)
    return bits, starts, words[: used // 64] if write else words


def measure_turning(lines: Lines, tables: TurningTables, streams: int, precision: int) -> NDArray[np.uint16]:
    """Coded bits of each line, uint16[n]."""
    return _run(lines, tables, streams, precision, False)[0]


def encode_turning(lines: Lines, tables: TurningTables, streams: int, precision: int) -> Packed:
    """The code of each line, each starting on a 64-bit word."""
    bits, starts, words = _run(lines, tables, streams, precision, True)
    return Packed.of(lines, words.view(np.uint8), starts, bits)


def _decode(packed: Packed, tables: TurningTables, streams: int, precision: int, index: int) -> NDArray[np.uint8]:
    """Lines of ``packed``; damage is reported as line ``index`` + its place."""
    shape = checked_shape(packed.format, packed.line_bytes)
    per = per_line(packed.format, packed.line_bytes)
    machine = channel_machine(precision)
    order = order_of(packed, per, streams)
    out = np.empty((len(packed), packed.line_bytes), np.uint8)
    channel = tables.rows_of(packed.geometry.channel, len(packed))
    rest = decode_fast(packed, order, channel, tables, streams, precision, shape, out)
    for at in range(0, len(rest), BLOCK_LINES):
        part = rest[at : at + BLOCK_LINES]
        words, starts = apart(packed, part)
        elements = np.empty((len(part), per), np.uint64)
        row, mean = placed(tables, packed.geometry[part], len(part), per, order)
        line, problem = turning_decode(
            words, starts, packed.bits[part], tables.parameters, row, mean, order.steps, order.before, order.needed,
            np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, shape.top, streams, precision,
            near_cells(shape.mantissa), machine.decode, elements,
        )  # fmt: skip
        if problem != OK:
            raise_problem(index + int(part[line]), problem)
        out[part] = data_of(elements, packed.format)
    return out


def decode_turning(packed: Packed, tables: TurningTables, streams: int, precision: int) -> NDArray[np.uint8]:
    """All lines, uint8[n, line_bytes]."""
    check_packed(packed)
    return _decode(packed, tables, streams, precision, 0)


def decode_turning_line(
    packed: Packed, i: int, tables: TurningTables, streams: int, precision: int
) -> NDArray[np.uint8]:
    """Line ``i`` alone, uint8[line_bytes]."""
    out: NDArray[np.uint8] = _decode(checked_single(packed, i), tables, streams, precision, i)[0]
    return out


@njit(cache=True)
def _count(  # type: ignore[no-untyped-def]
    elements, coded, parameters, at, mean, before, needed, width, mantissa, bias, frequency, counts,
):  # fmt: skip
    """Add the places of the coded lines' elements to flat ``counts``; returns the bits of their raw fields."""
    m = elements.shape[1]
    places = np.zeros((1, m), np.uint64)
    off = np.zeros(m, np.int64)
    raw = np.zeros(BUFFER_WORDS, np.uint64)
    bits = np.uint64(0)
    for i in range(elements.shape[0]):
        if coded[i]:
            bits += classify(
                elements[i], 0, parameters, at[i], mean[i], before, needed, width, mantissa, bias, frequency, places,
                off, raw,
            )  # fmt: skip
            for j in range(m):
                counts[places[0, j]] += 1
    return bits


class TurningBound(Counts):
    """Class of `context` on turning channels (name ``own_channels``); see `context.bound`."""

    def __init__(self, tables: TurningTables, streams: int, precision: int, fmt: Format) -> None:
        self.frequency = channel_machine(precision).frequency.reshape(-1)
        super().__init__("own_channels", fmt.bits, MODE_CODED + 1, len(self.frequency) // ROW_SYMBOLS)
        self.tables = tables
        self.streams = streams
        self.shape = FloatShape.of(fmt)

    def add(self, lines: Lines, bits: NDArray[np.uint16]) -> None:
        shape = self.shape
        per = per_line(lines.format, lines.line_bytes)
        order = order_of(lines, per, self.streams)
        modes = np.where(bits >= 8 * lines.line_bytes, MODE_RAW, np.where(bits <= 4, MODE_ZERO, MODE_CODED))
        for start in range(0, len(lines), BLOCK_LINES):
            part = slice(start, start + BLOCK_LINES)
            elements = elements_of(lines.data[part], lines.format)
            coded = self.take_modes(modes[part].astype(np.uint8), 8 * lines.line_bytes)
            row, mean = placed(self.tables, lines.geometry[part], len(elements), per, order)
            self.raw_bits += int(
                _count(
                    elements, coded, self.tables.parameters, row, mean, order.before, order.needed,
                    np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, self.frequency,
                    self.symbols.reshape(-1),
                )
            )  # fmt: skip
