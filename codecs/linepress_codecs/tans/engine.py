"""Measuring, writing and reading lines under static tANS tables: blocks of lines in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.bitio import line_words as as_lines
from linepress_codecs.checks import checked_single
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tans.blocks import block_patterns
from linepress_codecs.tans.decode import DECODERS, numbers_of, tail_of
from linepress_codecs.tans.encode import KERNELS, SCRATCH_WORDS
from linepress_codecs.tans.kernels import OK, PAD_WORDS, PROBLEMS, take_lines
from linepress_codecs.tans.static import BLOCK_LINES, SIGN_RAW, StaticTables, data_of, elements_of, per_line
from linepress_codecs.tans.static_kernels import static_code, static_decode
from linepress_codecs.tans.words import word_shape
from linepress_codecs.targets import target


def _run(
    elements: NDArray[np.uint64],
    fmt: Format,
    tables: StaticTables,
    streams: int,
    bits: NDArray[np.uint16],
    modes: NDArray[np.uint8],
    words: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    write: bool,
) -> int:
    machine = tables.machine
    symbol_cost, mode_cost = tables.cost
    field = tables.field
    return int(
        static_code(
            elements, np.uint64(fmt.bits), np.uint64(field.low), field.signed, np.uint64(field.flip),
            elements.shape[1] - tables.tail, streams, tables.precision, tables.first, tables.frequency.shape[1],
            tables.use_zero, symbol_cost, mode_cost, machine.encode_bits, machine.encode_find, machine.encode_state,
            machine.frequency, bits, modes, words, starts, write,
        )
    )  # fmt: skip


def check_tables(tables: StaticTables, fmt: Format, line_bytes: int) -> None:
    """Raise `UnsupportedFormatError` if the tables were learned on elements of another width or line size."""
    if len(tables.frequency) and (tables.width != fmt.bits or tables.tail >= per_line(fmt, line_bytes)):
        raise UnsupportedFormatError(
            f"tables of {tables.width}-bit elements cannot code {line_bytes} B lines of {fmt.name}: fit them anew"
        )
    per_line(fmt, line_bytes)


def measure_static(
    elements: NDArray[np.uint64],
    fmt: Format,
    tables: StaticTables,
    streams: int,
) -> NDArray[np.uint16]:
    """Coded bits of lines given as elements uint64[n, m]."""
    bits = np.zeros(len(elements), np.uint16)
    modes = np.zeros(len(elements), np.uint8)
    starts = np.zeros(len(elements), np.uint64)
    _run(elements, fmt, tables, streams, bits, modes, np.zeros(1, np.uint64), starts, False)
    return bits


def _fast_code(
    lines: Lines, tables: StaticTables, streams: int, words: NDArray[np.uint64], write: bool
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], int] | None:
    """(sizes, starts, bits of ``words`` used) by the kernels of `encode`; None for lines they do not take."""
    fmt, field = lines.format, tables.field
    shape = fast_shape(tables, fmt, streams)
    choice = None if shape is None else tables.choice(per_line(fmt, lines.line_bytes))
    if choice is None:
        return None
    starts, bits = np.empty(len(lines), np.uint64), np.empty(len(lines), np.uint16)
    used = KERNELS[target().name](
        as_lines(lines.data), np.uint64(tables.precision), np.uint64(fmt.bits), np.uint64(field.low),
        np.uint64(field.signed == SIGN_RAW), shape, tables.numbers, tables.runs, tables.machine.frequency, *choice,
        len(tables.frequency), tables.machine.encode_steps, tables.machine.encode_state, words, starts, bits, write,
        np.zeros(SCRATCH_WORDS, np.uint64),
    )  # fmt: skip
    return bits, starts, int(used)


def measure_lines(lines: Lines, tables: StaticTables, streams: int) -> NDArray[np.uint16]:
    """Coded bits of each line, uint16[n]."""
    check_tables(tables, lines.format, lines.line_bytes)
    fast = _fast_code(lines, tables, streams, np.zeros(1, np.uint64), False)
    if fast is not None:
        return fast[0]
    parts = [
        measure_static(elements_of(lines.data[at : at + BLOCK_LINES], lines.format), lines.format, tables, streams)
        for at in range(0, len(lines), BLOCK_LINES)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)


def line_words(line_bytes: int) -> int:
    """Words that the longest line takes: raw with its head of at most 24 bits, and a word of slack."""
    return line_bytes // 8 + 2


def encode_lines(lines: Lines, tables: StaticTables, streams: int) -> Packed:
    """The code of each line, each starting on a 64-bit word."""
    check_tables(tables, lines.format, lines.line_bytes)
    n = len(lines)
    words = np.empty(n * line_words(lines.line_bytes) + 2, np.uint64)
    fast = _fast_code(lines, tables, streams, words, True)
    if fast is not None:
        bits, starts, used = fast
        return Packed.of(lines, words[: used // 64].view(np.uint8), starts, bits)
    bits = np.zeros(n, np.uint16)
    modes = np.zeros(n, np.uint8)
    starts = np.zeros(n, np.uint64)
    used = 0
    for at in range(0, n, BLOCK_LINES):
        part = slice(at, min(at + BLOCK_LINES, n))
        elements = elements_of(lines.data[part], lines.format)
        first = used // 64
        used += _run(
            elements, lines.format, tables, streams, bits[part], modes[part], words[first:], starts[part], True
        )
        starts[part] += np.uint64(64 * first)
    payload = words[: used // 64].view(np.uint8)
    return Packed.of(lines, payload, starts, bits)


def check_packed(packed: Packed) -> None:
    """Raise `CorruptDataError` if sizes and starts do not belong together."""
    if len(packed.starts) != len(packed.bits):
        raise CorruptDataError(f"{len(packed.starts)} starts for {len(packed.bits)} sizes: the index is damaged", 0)


def raise_problem(line: int, problem: int) -> None:
    """Raise the `CorruptDataError` of a kernel's report, if it reports one."""
    if problem != OK:
        raise CorruptDataError(PROBLEMS[problem], line)


def decode_lines(packed: Packed, tables: StaticTables, streams: int) -> NDArray[np.uint8]:
    """All lines, uint8[n, line_bytes]."""
    check_tables(tables, packed.format, packed.line_bytes)
    check_packed(packed)
    return _decode(packed, tables, streams)


def fast_shape(tables: StaticTables, fmt: Format, streams: int) -> tuple[np.uint64, ...] | None:
    """`words.word_shape` of elements that the kernels of `decode` and `encode` take, else None."""
    if streams != 4 or tables.tail or not len(tables.frequency):
        return None
    return word_shape(fmt.bits, tables.field.low, tables.field.signed == SIGN_RAW)


def _decode(packed: Packed, tables: StaticTables, streams: int, index: int = 0) -> NDArray[np.uint8]:
    """Lines of ``packed``; damage is reported as line ``index`` + its place."""
    fmt, n = packed.format, len(packed.bits)
    per = per_line(fmt, packed.line_bytes)
    out = np.empty((n, packed.line_bytes), np.uint8)
    rest, left = np.empty(n, np.int64), n
    shape = fast_shape(tables, fmt, streams)
    if shape is None:
        rest = np.arange(n)
    else:
        numbers = numbers_of(tables, fmt, packed.line_bytes, shape)
        payload = frozen(packed.payload)
        left = DECODERS[target().lanes](
            payload, tail_of(payload, int(numbers[5])), frozen(packed.starts), frozen(packed.bits), numbers,
            block_patterns(fmt.bits, tables.field.low, tables.field.signed == SIGN_RAW), tables.decode_entries,
            tables.machine.decode, out, rest,
        )  # fmt: skip
        rest = np.sort(rest[:left]) if left else rest
    for at in range(0, left, BLOCK_LINES):
        part = rest[at : at + BLOCK_LINES]
        words, starts = apart(packed, part)
        elements = np.empty((len(part), per), np.uint64)
        line, problem = static_decode(
            words, starts, packed.bits[part], np.uint64(fmt.bits), np.uint64(tables.field.low),
            tables.field.signed, np.uint64(tables.field.flip), per - tables.tail, streams, tables.precision,
            tables.first, tables.use_zero, len(tables.frequency), tables.machine.decode, elements,
        )  # fmt: skip
        if problem != OK:
            raise_problem(index + int(part[line]), problem)
        out[part] = data_of(elements, fmt)
    return out


def apart(packed: Packed, which: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(words, first bit of each) of some lines' codes, copied so that no read of a damaged line leaves the words.

    Of a line that claims more bits than a raw one only so many are copied: it is damaged whatever follows.
    """
    words = line_words(packed.line_bytes) + 1
    flat = np.zeros(len(which) * words + PAD_WORDS, np.uint64)
    rows = flat[: len(which) * words].view(np.uint8).reshape(len(which), 8 * words)
    starts = np.empty(len(which), np.uint64)
    take_lines(frozen(packed.payload), frozen(packed.starts), frozen(packed.bits), which, 8 * words, rows, starts)
    return flat, starts


def decode_one(packed: Packed, i: int, tables: StaticTables, streams: int) -> NDArray[np.uint8]:
    """Line ``i`` alone, uint8[line_bytes]."""
    check_tables(tables, packed.format, packed.line_bytes)
    check_packed(packed)
    out: NDArray[np.uint8] = _decode(checked_single(packed, i), tables, streams, i)[0]
    return out
