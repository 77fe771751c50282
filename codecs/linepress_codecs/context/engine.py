"""Measuring, writing and reading lines under the channel model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import checked_single
from linepress_codecs.context.cells import near_cells
from linepress_codecs.context.channel import ChannelTables, FloatShape, models
from linepress_codecs.context.decode import channel_decode
from linepress_codecs.context.encode import channel_code
from linepress_codecs.context.fast import decode_fast, encode_fast
from linepress_codecs.context.order import order_of
from linepress_codecs.context.rows import channel_machine
from linepress_codecs.context.woven import woven_code, woven_decode
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tans.engine import apart, check_packed, line_words, raise_problem
from linepress_codecs.tans.kernels import OK
from linepress_codecs.tans.static import BLOCK_LINES, data_of, elements_of, per_line


def checked_shape(fmt: Format, line_bytes: int) -> FloatShape:
    """What kernels need of ``fmt``; raises `UnsupportedFormatError` where the channel model does not take it."""
    if not models(fmt):
        raise UnsupportedFormatError(f"channel tables cannot code {fmt.name}: fit tables on it, they will be static")
    per_line(fmt, line_bytes)
    return FloatShape.of(fmt)


def _run(
    lines: Lines, tables: ChannelTables, streams: int, precision: int, write: bool
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
    shape = checked_shape(lines.format, lines.line_bytes)
    n = len(lines)
    machine = channel_machine(precision)
    frequency = machine.frequency.reshape(-1)
    rows = tables.rows_of(lines.geometry.channel, n)
    bits = np.zeros(n, np.uint16)
    starts = np.zeros(n, np.uint64)
    words = np.empty(n * line_words(lines.line_bytes) + 2 if write else 1, np.uint64)
    order = order_of(lines, per_line(lines.format, lines.line_bytes), streams)
    woven = lines.geometry.channel is not None and not order.whole
    fast = encode_fast(lines, order, rows, tables, streams, precision, shape, words, write)
    if fast is not None:
        bits, starts, used = fast
        return bits, starts, words[: used // 64] if write else words
    used = 0
    for at in range(0, n, BLOCK_LINES):
        part = slice(at, min(at + BLOCK_LINES, n))
        elements = elements_of(lines.data[part], lines.format)
        first = used // 64 if write else 0
        if woven:
            here = woven_code(
                elements, rows[part], tables.parameters, order.steps, order.before, order.needed, order.offset,
                order.span, np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, streams, precision,
                machine.encode_bits, machine.encode_find, machine.encode_state, frequency, bits[part], words[first:],
                starts[part], write,
            )  # fmt: skip
        else:
            here = channel_code(
                elements, rows[part], tables.parameters, np.uint64(shape.width), np.uint64(shape.mantissa),
                shape.bias, streams, precision, machine.encode_bits, machine.encode_find, machine.encode_state,
                frequency, bits[part], words[first:], starts[part], write,
            )  # fmt: skip
        starts[part] += np.uint64(64 * first)
        used += int(here)
    return bits, starts, words[: used // 64] if write else words


def measure_channels(lines: Lines, tables: ChannelTables, streams: int, precision: int) -> NDArray[np.uint16]:
    """Coded bits of each line, uint16[n]."""
    return _run(lines, tables, streams, precision, False)[0]


def encode_channels(lines: Lines, tables: ChannelTables, streams: int, precision: int) -> Packed:
    """The code of each line, each starting on a 64-bit word."""
    bits, starts, words = _run(lines, tables, streams, precision, True)
    return Packed.of(lines, words.view(np.uint8), starts, bits)


def _decode(
    packed: Packed, rows: NDArray[np.int64], tables: ChannelTables, streams: int, precision: int, index: int
) -> NDArray[np.uint8]:
    """Lines of ``packed``; damage is reported as line ``index`` + its place."""
    shape = checked_shape(packed.format, packed.line_bytes)
    per = per_line(packed.format, packed.line_bytes)
    machine = channel_machine(precision)
    near = near_cells(shape.mantissa)
    order = order_of(packed, per, streams)
    woven = packed.geometry.channel is not None and not order.whole
    out = np.empty((len(packed), packed.line_bytes), np.uint8)
    rest = decode_fast(packed, order, rows, tables, streams, precision, shape, out)
    for at in range(0, len(rest), BLOCK_LINES):
        part = rest[at : at + BLOCK_LINES]
        words, starts = apart(packed, part)
        elements = np.empty((len(part), per), np.uint64)
        if woven:
            line, problem = woven_decode(
                words, starts, packed.bits[part], rows[part], tables.parameters, order.steps,
                order.before, order.needed, order.offset, order.span, np.uint64(shape.width),
                np.uint64(shape.mantissa), shape.bias, shape.top, streams, precision, near, machine.decode, elements,
            )  # fmt: skip
        else:
            line, problem = channel_decode(
                words, starts, packed.bits[part], rows[part], tables.parameters,
                np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, shape.top, streams, precision,
                near, machine.decode, elements,
            )  # fmt: skip
        if problem != OK:
            raise_problem(index + int(part[line]), problem)
        out[part] = data_of(elements, packed.format)
    return out


def decode_channels(packed: Packed, tables: ChannelTables, streams: int, precision: int) -> NDArray[np.uint8]:
    """All lines, uint8[n, line_bytes]."""
    check_packed(packed)
    return _decode(packed, tables.rows_of(packed.geometry.channel, len(packed)), tables, streams, precision, 0)


def decode_channel_line(
    packed: Packed, i: int, tables: ChannelTables, streams: int, precision: int
) -> NDArray[np.uint8]:
    """Line ``i`` alone, uint8[line_bytes]."""
    alone = checked_single(packed, i)
    rows = tables.rows_of(alone.geometry.channel, 1)
    out: NDArray[np.uint8] = _decode(alone, rows, tables, streams, precision, i)[0]
    return out
