"""A small bit writer and reader for serialised tables: least significant bit first, Elias gamma for counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.errors import CorruptDataError


class BitWriter:
    """Collects bit fields, least significant bit first."""

    def __init__(self) -> None:
        self._value = 0
        self._bits = 0

    def write(self, value: int, bits: int) -> None:
        """Append the low ``bits`` bits of ``value``."""
        self._value |= (value & ((1 << bits) - 1)) << self._bits
        self._bits += bits

    def write_many(self, values: Sequence[int], bits: int) -> None:
        """Append each value in ``bits`` bits."""
        if bits:
            array = np.asarray(values, np.int64)
            each = (array[:, None] >> np.arange(bits)) & 1
            packed = np.packbits(each.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
            self.write(int.from_bytes(packed, "little"), bits * len(array))

    def gamma(self, value: int) -> None:
        """Append ``value`` >= 1 in Elias gamma: as many zeros as bits after the leading one, a one, those bits."""
        extra = value.bit_length() - 1
        self.write(1 << extra, extra + 1)
        self.write(value, extra)

    def signed(self, value: int) -> None:
        """Append an integer, zigzag folded, in Elias gamma."""
        self.gamma((2 * value if value >= 0 else -2 * value - 1) + 1)

    def to_bytes(self) -> bytes:
        return self._value.to_bytes((self._bits + 7) // 8, "little")


class BitReader:
    """Reads what `BitWriter` wrote; raises `CorruptDataError` past the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def read(self, bits: int) -> int:
        if bits > self._left:
            raise CorruptDataError("the tables end early: read them again from their source")
        value = self._value & ((1 << bits) - 1)
        self._value >>= bits
        self._left -= bits
        return value

    def peek(self, bits: int) -> int:
        """The next ``bits`` bits, zeros past the end, without reading them."""
        return self._value & ((1 << bits) - 1)

    def read_many(self, n: int, bits: int) -> NDArray[np.int64]:
        """``n`` values of ``bits`` bits each."""
        if not bits:
            return np.zeros(n, np.int64)
        if n * bits > self._left:
            raise CorruptDataError("the tables end early: read them again from their source")
        data = self.read(n * bits).to_bytes((n * bits + 7) // 8, "little")
        each = np.unpackbits(np.frombuffer(data, np.uint8), count=n * bits, bitorder="little").reshape(n, bits)
        out: NDArray[np.int64] = (each.astype(np.int64) << np.arange(bits)).sum(axis=1)
        return out

    def gamma(self, most: int = 32) -> int:
        extra = 0
        while not self.read(1):
            extra += 1
            if extra > most:
                raise CorruptDataError("a count in the tables is longer than any encoder writes")
        return (1 << extra) | self.read(extra)

    def signed(self) -> int:
        folded = self.gamma() - 1
        return folded // 2 if folded % 2 == 0 else -(folded + 1) // 2

    def finish(self) -> None:
        """Raise `CorruptDataError` unless only zero padding bits of the last byte remain."""
        if self._left >= 8 or self._value:
            raise CorruptDataError("the tables are longer than what they declare")
