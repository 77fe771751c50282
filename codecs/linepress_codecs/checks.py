"""Checks on hostile input that every decoder shares: geometry of a `Packed`, tables of the right type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Codec, Packed, Tables
from linepress_codecs.errors import CorruptDataError


def check_tables_type(codec: Codec, tables: Tables, expected: type) -> None:
    """Raise `CorruptDataError` if the tables were fitted by another codec."""
    if not isinstance(tables, expected):
        raise CorruptDataError(f"{codec.codec_id} was given {type(tables).__name__}, not its {expected.__name__}")


def check_index(packed: Packed, i: int) -> None:
    """Raise IndexError unless ``i`` names a line (a caller's mistake, not damage)."""
    if not 0 <= i < len(packed):
        raise IndexError(f"line {i} of {len(packed)}: choose 0 to {len(packed) - 1}")


def check_arrays(packed: Packed) -> None:
    """Raise `CorruptDataError` unless payload, starts, sizes and channel ids have the types and shapes they must."""
    if packed.payload.dtype != np.uint8 or packed.payload.ndim != 1:
        raise CorruptDataError(
            f"the payload must be uint8[m], not {packed.payload.dtype}{list(packed.payload.shape)}"
        )
    if packed.starts.dtype != np.uint64 or packed.bits.dtype != np.uint16:
        raise CorruptDataError(
            f"starts and bits must be uint64 and uint16, not {packed.starts.dtype} and {packed.bits.dtype}"
        )
    if packed.starts.shape != packed.bits.shape or packed.starts.ndim != 1:
        raise CorruptDataError(f"{packed.starts.shape} starts do not match {packed.bits.shape} sizes")
    where = packed.geometry
    for name, ids in (("channel ids", where.channel), ("positions", where.position), ("base lines", where.base)):
        if ids is not None and len(ids) != len(packed):
            raise CorruptDataError(f"{len(ids)} {name} do not match {len(packed)} lines")
    if where.base is not None and (where.base.dtype != np.uint8 or where.base.shape[1:] != (packed.line_bytes,)):
        raise CorruptDataError(f"base lines must be uint8[n, {packed.line_bytes}], not {list(where.base.shape)}")


def misplaced(packed: Packed, i: int, aligned_bits: int) -> str:
    """The sentence for a line that does not lie in the payload."""
    return (
        f"starts at bit {int(packed.starts[i])} with {int(packed.bits[i])} bits, which does not lie in the "
        f"{8 * len(packed.payload)} bits of the payload on a {aligned_bits}-bit boundary"
    )


def check_geometry(packed: Packed, *, aligned_bits: int = 1) -> None:
    """Raise `CorruptDataError` naming the first line whose start or end lies outside the payload.

    Checks types and shapes, that every start is a multiple of ``aligned_bits``, and start + bits <= payload bits.
    After it, reading ``bits[i]`` bits from ``starts[i]`` cannot leave the payload.
    """
    check_arrays(packed)
    starts, total, unit = packed.starts, np.uint64(8 * len(packed.payload)), np.uint64(aligned_bits)
    if not len(starts):
        return
    ends = starts + packed.bits  # of a start inside the payload; beyond it they may have come round
    aligned = aligned_bits == 1 or not (starts % unit).any()
    if starts.max() <= total and ends.max() <= total and aligned:
        return
    i = int(np.argmax((starts > total) | (ends > total) | (starts % unit != 0)))
    raise CorruptDataError(misplaced(packed, i, aligned_bits), line=i)


def raw_payload_lines(packed: Packed) -> NDArray[np.uint8]:
    """All lines of a payload in which every line is raw on a byte boundary, uint8[n, line_bytes]."""
    check_arrays(packed)
    n, line_bits = len(packed), 8 * packed.line_bytes
    right = packed.bits == line_bits
    if n and bool(right.all()) and bool((np.diff(packed.starts) == line_bits).all()):
        # The usual case, lines back to back: its first and last line bound all others.
        start = int(packed.starts[0])
        if start % 8 == 0 and start + n * line_bits <= 8 * len(packed.payload):
            body = packed.payload[start // 8 : start // 8 + n * packed.line_bytes]
            return body.reshape(n, packed.line_bytes).copy()
    check_geometry(packed, aligned_bits=8)
    if not right.all():
        i = int(np.argmin(right))
        raise CorruptDataError(f"a raw line has {line_bits} bits, not {int(packed.bits[i])}", line=i)
    if n == 0:
        return np.zeros((0, packed.line_bytes), np.uint8)
    first = (packed.starts // np.uint64(8)).astype(np.int64)
    lines: NDArray[np.uint8] = np.lib.stride_tricks.sliding_window_view(packed.payload, packed.line_bytes)[first]
    return lines


def raw_payload_line(packed: Packed, i: int) -> NDArray[np.uint8]:
    """Line ``i`` of such a payload."""
    check_index(packed, i)
    one = single(packed, i)
    line: NDArray[np.uint8] = raw_payload_lines(one)[0]
    return line


def single(packed: Packed, i: int) -> Packed:
    """The `Packed` of line ``i`` alone, on the same payload; damage found in it is reported as line 0."""
    check_index(packed, i)
    part = slice(i, i + 1)
    return replace(
        packed,
        starts=packed.starts[part],
        bits=packed.bits[part],
        geometry=packed.geometry[part],
    )


def checked_single(packed: Packed, i: int) -> Packed:
    """`single`, refused with the line's own index where it lies outside the payload."""
    one = single(packed, i)
    try:
        check_geometry(one)
    except CorruptDataError as error:
        raise error.at(i) from None
    return one
