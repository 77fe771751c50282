"""What lines the kernels of `vector` and `words` take, and what they are given; for steady and for turning
channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.bitio import line_words as as_lines
from linepress_codecs.context.chains import CELL_OF, FIRST_CELL_AT, NEXT_CELL_AT, WIDEN_AT, WIDTH, turns
from linepress_codecs.context.channel import ChannelTables, FloatShape
from linepress_codecs.context.order import LineOrder
from linepress_codecs.context.rows import channel_machine
from linepress_codecs.context.turning import TurningTables, wave
from linepress_codecs.context.vector import DECODERS, STREAMS, channel_constants, row_constants, split_parameters
from linepress_codecs.context.words import ENCODERS, MOST_ELEMENTS
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.targets import target

AnyTables = ChannelTables | TurningTables
ROOM = np.zeros(512, np.uint8)
"""What a load that reaches ahead may see behind a payload."""
FEW_LINES, SHORT_BYTES = 64, 1 << 19
"""A payload of more lines than this, yet short, is copied with room behind it: its last lines need no other form."""
MOST_WIDEN = 8
"""Octaves by which a first cell may be wider than the later ones, so that the kernels' numbers fit 32 bits."""


def _rows(lines: Lines | Packed, order: LineOrder, streams: int, shape: FloatShape) -> bool | None:
    """Whether neighbours are of different channels; None for lines that the kernels do not take."""
    if shape.width != WIDTH or streams not in STREAMS:
        return None
    if lines.geometry.channel is None or order.whole:
        return False
    return True if order.plain_rows else None


def _constants(tables: AnyTables, rows: bool, shape: FloatShape, precision: int | None) -> NDArray[np.int32] | None:
    """Constants of the kernels of a ``precision``, or (None) of the encoder's: rows of the machine, cells' exponents,
    and in lines of rows a parameter a row. None where numbers could be too large for the kernels."""
    kept: dict[tuple[bool, FloatShape, int | None], NDArray[np.int32] | None]
    kept = tables.__dict__.setdefault("_kernel_constants", {})
    key = (rows, shape, precision)
    if key not in kept:
        kept[key] = _made(tables, *key)
    return kept[key]


def _made(tables: AnyTables, rows: bool, shape: FloatShape, precision: int | None) -> NDArray[np.int32] | None:
    parameters, turning = split_parameters(tables)
    make, cells = (row_constants, [CELL_OF]) if rows else (channel_constants, [FIRST_CELL_AT, NEXT_CELL_AT])
    out = make(parameters, turning, precision or 0)
    if not rows and int(out[:, WIDEN_AT].max()) > MOST_WIDEN:
        return None
    out[:, cells] = (out[:, cells] + shape.bias) << (0 if precision is None else shape.mantissa)
    if rows and precision is None:  # the last channel repeated behind
        out = np.concatenate([out, np.repeat(out[-1:], MOST_ELEMENTS, axis=0)]).T
    return np.ascontiguousarray(out).astype(np.uint32).view(np.int32)


def _positions(lines: Lines | Packed) -> NDArray[np.uint32]:
    """Positions of the lines' first elements; lines without positions stand at position 0."""
    position = lines.geometry.position
    return np.zeros(len(lines), np.uint32) if position is None else np.ascontiguousarray(position, np.uint32)


def decode_fast(
    packed: Packed, order: LineOrder, channel: NDArray[np.int64], tables: AnyTables, streams: int, precision: int,
    shape: FloatShape, out: NDArray[np.uint8],
) -> NDArray[np.int64]:  # fmt: skip
    """Decode into ``out`` what the kernels take; the other lines, ascending."""
    rest = np.arange(len(packed))
    rows = _rows(packed, order, streams, shape)
    if rows is None or not target().lanes:
        return rest
    constants = _constants(tables, rows, shape, precision)
    if constants is None:
        return rest
    payload = packed.payload
    if len(packed) > FEW_LINES and len(payload) <= SHORT_BYTES:
        payload = np.concatenate([payload, ROOM])
    left = DECODERS[streams, rows, isinstance(tables, TurningTables)](
        frozen(payload), frozen(packed.starts), frozen(packed.bits), channel, frozen(_positions(packed)),
        constants, turns(), order.offset, order.later, order.span, precision, np.uint64(shape.mantissa),
        np.uint64(shape.top), channel_machine(precision).decode, out, rest,
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
    constants = _constants(tables, rows, shape, None)
    if constants is None:
        return None
    n = len(lines)
    machine = channel_machine(precision)
    bits, starts = np.empty(n, np.uint16), np.empty(n, np.uint64)
    used = ENCODERS[streams, rows, isinstance(tables, TurningTables), target().bit_moves](
        as_lines(lines.data).view(np.uint16), channel, frozen(_positions(lines)), tables.parameters, constants,
        turns(), wave(), order.before, order.needed, order.offset, order.later, order.span, order.in_runs, precision,
        shape.mantissa, shape.bias, machine.frequency.reshape(-1), machine.encode_entries, machine.encode_state,
        words, starts, bits, write,
    )  # fmt: skip
    return bits, starts, int(used)
