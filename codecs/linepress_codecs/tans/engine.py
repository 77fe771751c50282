"""Measuring, writing and reading lines under static tANS tables: blocks of lines in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tans.kernels import OK, PAD_WORDS, PROBLEMS
from linepress_codecs.tans.static import BLOCK_LINES, StaticTables, data_of, elements_of, per_line
from linepress_codecs.tans.static_kernels import static_code, static_decode


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
    modes: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint16]:
    """Coded bits of lines given as elements uint64[n, m]; their modes into ``modes`` uint8[n], if given."""
    bits = np.zeros(len(elements), np.uint16)
    modes = np.zeros(len(elements), np.uint8) if modes is None else modes
    starts = np.zeros(len(elements), np.uint64)
    _run(elements, fmt, tables, streams, bits, modes, np.zeros(1, np.uint64), starts, False)
    return bits


def measure_lines(lines: Lines, tables: StaticTables, streams: int) -> NDArray[np.uint16]:
    """Coded bits of each line, uint16[n]."""
    check_tables(tables, lines.format, lines.line_bytes)
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
    bits = np.zeros(n, np.uint16)
    modes = np.zeros(n, np.uint8)
    starts = np.zeros(n, np.uint64)
    words = np.empty(n * line_words(lines.line_bytes) + 2, np.uint64)
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


def padded_words(payload: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The payload as words with enough zero words behind it that no read of a damaged line leaves the buffer."""
    out = np.zeros(-(-len(payload) // 8) + PAD_WORDS, np.uint64)
    out.view(np.uint8)[: len(payload)] = payload
    return out


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
    words = padded_words(packed.payload)
    return _decode(words, 8 * len(packed.payload), packed.starts, packed.bits, packed, tables, streams, 0)


def _decode(
    words: NDArray[np.uint64],
    n_bits: int,
    starts: NDArray[np.uint64],
    bits: NDArray[np.uint16],
    packed: Packed,
    tables: StaticTables,
    streams: int,
    index: int,
) -> NDArray[np.uint8]:
    fmt = packed.format
    field = tables.field
    per = per_line(fmt, packed.line_bytes)
    out = np.empty((len(bits), packed.line_bytes), np.uint8)
    for at in range(0, len(bits), BLOCK_LINES):
        part = slice(at, min(at + BLOCK_LINES, len(bits)))
        elements = np.empty((part.stop - at, per), np.uint64)
        line, problem = static_decode(
            words, np.uint64(n_bits), starts[part], bits[part], np.uint64(fmt.bits), np.uint64(field.low),
            field.signed, np.uint64(field.flip), per - tables.tail, streams, tables.precision, tables.first,
            tables.use_zero, len(tables.frequency), tables.machine.decode, elements,
        )  # fmt: skip
        raise_problem(index + at + line, problem)
        out[part] = data_of(elements, fmt)
    return out


def one_line(packed: Packed, i: int) -> tuple[NDArray[np.uint64], int, NDArray[np.uint64], NDArray[np.uint16]]:
    """(words, their bits, start, size) of line ``i`` alone, reading only the bytes its code lies in."""
    check_packed(packed)
    if not 0 <= i < len(packed):
        raise IndexError(f"line {i} of {len(packed)}")
    start, size = int(packed.starts[i]), int(packed.bits[i])
    if start + size > 8 * len(packed.payload):
        raise CorruptDataError("its code lies outside the payload", i)
    first = start // 8
    part = packed.payload[first : (start + size + 7) // 8]
    return padded_words(part), 8 * len(part), np.array([start - 8 * first], np.uint64), packed.bits[i : i + 1]


def decode_one(packed: Packed, i: int, tables: StaticTables, streams: int) -> NDArray[np.uint8]:
    """Line ``i`` alone, uint8[line_bytes]."""
    check_tables(tables, packed.format, packed.line_bytes)
    words, n_bits, starts, bits = one_line(packed, i)
    out: NDArray[np.uint8] = _decode(words, n_bits, starts, bits, packed, tables, streams, i)[0]
    return out
