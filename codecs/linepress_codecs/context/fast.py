"""What lines the kernels of `vector` and `words` take, and what they are given; for steady and for turning
channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.bitio import line_words as as_lines
from linepress_codecs.context.chains import WIDTH
from linepress_codecs.context.channel import ChannelTables, FloatShape
from linepress_codecs.context.order import LineOrder
from linepress_codecs.context.rows import channel_entries, channel_machine
from linepress_codecs.context.turning import TurningTables, wave
from linepress_codecs.context.vector import (
    DECODERS,
    FIRST_CELL,
    ROW_CELL,
    STREAMS,
    channel_constants,
    plain_parameters,
    row_constants,
    turning_constants,
)
from linepress_codecs.context.words import ENCODERS
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.targets import target

AnyTables = ChannelTables | TurningTables


def _rows(lines: Lines | Packed, order: LineOrder, streams: int, shape: FloatShape) -> bool | None:
    """Whether neighbours are of different channels; None for lines that the kernels do not take."""
    if shape.width != WIDTH or streams not in STREAMS:
        return None
    if lines.geometry.channel is None or order.whole:
        return False
    return True if order.plain_rows else None


def _turns(
    tables: AnyTables, position: NDArray[np.uint32] | None, n: int, m: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
    """(parameters in the columns of `ChannelTables`, ``turns`` of the kernels, positions); the last two empty
    where means do not turn."""
    if isinstance(tables, TurningTables):
        first = np.zeros(n, np.uint32) if position is None else np.ascontiguousarray(position, np.uint32)
        return plain_parameters(tables.parameters), turning_constants(tables.parameters, m), first
    return tables.parameters, np.zeros((4, 0), np.int32), np.zeros(0, np.uint32)


def decode_fast(
    packed: Packed, order: LineOrder, channel: NDArray[np.int64], tables: AnyTables, streams: int, precision: int,
    shape: FloatShape, out: NDArray[np.uint8],
) -> NDArray[np.int64]:  # fmt: skip
    """Decode into ``out`` what the kernels take; the other lines, ascending."""
    rest = np.arange(len(packed))
    rows = _rows(packed, order, streams, shape)
    if rows is None or not target().lanes:
        return rest
    parameters, turns, position = _turns(tables, packed.geometry.position, len(packed), order.offset.shape[0])
    constants = row_constants(parameters, precision) if rows else channel_constants(parameters)
    cells = slice(ROW_CELL, None) if rows else slice(FIRST_CELL, None)
    constants[:, cells] = (constants[:, cells] + shape.bias) << shape.mantissa
    left = DECODERS[streams, rows, isinstance(tables, TurningTables)](
        frozen(packed.payload), frozen(packed.starts), frozen(packed.bits), channel, frozen(position), constants,
        turns, wave(), order.offset, order.span, precision, np.uint64(shape.mantissa), np.uint64(shape.top),
        channel_entries(precision), out, rest,
    )  # fmt: skip
    return np.sort(rest[:left])


def encode_fast(
    lines: Lines, order: LineOrder, channel: NDArray[np.int64], tables: AnyTables, streams: int, precision: int,
    shape: FloatShape, words: NDArray[np.uint64], write: bool,
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], int] | None:  # fmt: skip
    """(sizes, starts, bits of ``words`` used); None for lines that the kernels do not take."""
    rows = _rows(lines, order, streams, shape)
    if rows is None:
        return None
    n, m = len(lines), order.offset.shape[0]
    machine = channel_machine(precision)
    parameters, turns, position = _turns(tables, lines.geometry.position, n, m)
    # Rows here are those of the machine, not offsets in its decode table.
    constants = row_constants(parameters, 0) if rows else channel_constants(parameters)
    constants[:, ROW_CELL if rows else FIRST_CELL :] += shape.bias
    if rows:
        constants = np.concatenate([constants, np.repeat(constants[-1:], m, axis=0)]).T
    bits, starts = np.empty(n, np.uint16), np.empty(n, np.uint64)
    used = ENCODERS[streams, rows, isinstance(tables, TurningTables), target().bit_moves](
        as_lines(lines.data).view(np.uint16), channel, frozen(position), tables.parameters,
        np.ascontiguousarray(constants, np.int32), turns, wave(), order.before, order.needed, order.offset,
        order.later, order.span, order.in_runs, precision, shape.mantissa, shape.bias,
        machine.frequency.reshape(-1), machine.encode_entries, machine.encode_state, words, starts, bits, write,
    )  # fmt: skip
    return bits, starts, int(used)
