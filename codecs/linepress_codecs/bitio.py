"""Bit streams read and written from the least significant bit of little-endian words.

Bit i of a stream is bit ``i % 64`` of 64-bit word ``i // 64``. The reader and writer here are for tables, tests and
reference decoders, where clarity counts; the kernels of the codecs keep their own accumulators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.errors import CorruptDataError


class BitWriter:
    """Appends fields, least significant bit first."""

    def __init__(self) -> None:
        self._value = 0
        self.bits = 0

    def write(self, value: int, width: int) -> None:
        """Append the low ``width`` bits of ``value``; raises ValueError if it has more."""
        if value < 0 or value >> width:
            raise ValueError(f"{value} does not fit {width} bits")
        self._value |= value << self.bits
        self.bits += width

    def align(self, unit_bits: int) -> None:
        """Append zeros up to a multiple of ``unit_bits``."""
        self.bits += -self.bits % unit_bits

    def to_bytes(self) -> bytes:
        """The stream, zero padded to a byte."""
        return self._value.to_bytes(-(-self.bits // 8), "little")


class BitReader:
    """Reads fields from bytes; raises `CorruptDataError` past the end."""

    def __init__(self, data: bytes | NDArray[np.uint8], start_bit: int = 0, end_bit: int | None = None) -> None:
        raw = bytes(data)
        self._value = int.from_bytes(raw, "little")
        self.position = start_bit
        self.end = 8 * len(raw) if end_bit is None else min(end_bit, 8 * len(raw))

    def read(self, width: int) -> int:
        """The next ``width`` bits as an unsigned number."""
        if self.position + width > self.end:
            raise CorruptDataError(f"the stream ends at bit {self.end}, {width} bits were due at {self.position}")
        value = self._value >> self.position & (1 << width) - 1
        self.position += width
        return value

    def peek(self, width: int) -> int:
        """The next ``width`` bits without consuming them, zeros past the end."""
        return self._value >> self.position & (1 << width) - 1

    def skip(self, width: int) -> None:
        self.read(width)


def as_words(payload: NDArray[np.uint8], slack_words: int = 0) -> NDArray[np.uint64]:
    """The payload as 64-bit words followed by ``slack_words`` zero words; a view where nothing must be added."""
    if payload.dtype != np.uint8 or payload.ndim != 1:
        raise CorruptDataError(f"a payload is uint8[m], not {payload.dtype}{list(payload.shape)}")
    n_words = -(-len(payload) // 8) + slack_words
    aligned = payload.ctypes.data % 8 == 0 and payload.flags.c_contiguous
    if slack_words == 0 and len(payload) % 8 == 0 and aligned:
        return payload.view(np.uint64)
    words = np.zeros(n_words, np.uint64)
    words.view(np.uint8)[: len(payload)] = payload
    return words


def line_words(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Line bytes uint8[n, line_bytes] as a read-only uint64[n, line_bytes / 8], copied only where not aligned.

    Always read-only, so that a kernel is compiled for one array type whatever the caller holds.
    """
    if data.ctypes.data % 8 or not data.flags.c_contiguous:
        data = np.array(data, copy=True)
    return frozen(data.view(np.uint64))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of the array."""
    view = array.view()
    view.flags.writeable = False
    return view
