"""Tables of the ``huffman`` codec: code lengths as they are shipped, look-ups as the kernels want them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.huffman import kernels as kernels
from linepress_codecs.huffman.canonical import decode_table, pack_lengths, reversed_codes, unpack_lengths

MAX_TABLES = 16
TABLES_VERSION = 1
NO_CODE_BITS = 0x300
"""Size entered for a symbol without code: over any line of 64 B, and 64 of them still fit the 16 bits of a lane."""

_SINGLE_SHARE = 0.03
"""Share of second look-ups in decoding above which a wider index pays in software."""


@dataclass(frozen=True, eq=False)
class HuffmanTables:
    """One to sixteen canonical codes of one tensor.

    Attributes
    ----------
    lengths : uint8[k, 256]
        Code lengths, 0 = no code.
    zero_lines : bool
        Whether all-zero lines have a mode of their own.
    """

    lengths: NDArray[np.uint8]
    zero_lines: bool

    def to_bytes(self) -> bytes:
        """Version and zero flag, number of tables, then the lengths of each (`canonical.pack_lengths`)."""
        head = bytes([TABLES_VERSION << 1 | int(self.zero_lines), len(self.lengths)])
        return head + b"".join(pack_lengths(row) for row in self.lengths)

    @classmethod
    def from_bytes(cls, data: bytes, limit: int) -> HuffmanTables:
        """Inverse of `to_bytes`; raises `CorruptDataError` on anything it would not write."""
        if len(data) < 2:
            raise CorruptDataError(f"{len(data)} B are too few for Huffman tables")
        if data[0] >> 1 != TABLES_VERSION:
            raise CorruptDataError(f"Huffman tables of version {data[0] >> 1}, this codec reads {TABLES_VERSION}")
        if not 1 <= data[1] <= MAX_TABLES:
            raise CorruptDataError(f"{data[1]} Huffman tables where 1 to {MAX_TABLES} are allowed")
        rows, position = [], 2
        for _ in range(data[1]):
            row, position = unpack_lengths(data, position, limit)
            rows.append(row)
        if position != len(data):
            raise CorruptDataError(f"{len(data) - position} B follow the last Huffman table")
        return cls(np.stack(rows), bool(data[0] & 1))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def selector_bits(self) -> int:
        return (len(self.lengths) - 1).bit_length()

    @cached_property
    def longest(self) -> int:
        """Longest code length, 0 without codes."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def pair_bits(self) -> NDArray[np.uint64]:
        """As `kernels.measure` takes it."""
        return pair_bits_of(self.lengths)

    @cached_property
    def pair_code(self) -> NDArray[np.uint32]:
        """As `kernels.encode` takes it."""
        out = np.empty(len(self.lengths) << 16, np.uint32)
        codes = np.stack([reversed_codes(row) for row in self.lengths])
        kernels.fill_pair_code(frozen(self.lengths), codes, out)
        return out

    def decode_entries(self, limit: int, grow: bool = True) -> tuple[NDArray[np.uint32], int, bool]:
        """(entries as `decode.decode_any` takes them, index bits, whether pairs seldom fail to fit).

        With ``grow`` the index has as many bits (16 at most) as pairs need; without, as many as the longest code.
        """
        cached = self.__dict__.get("_decode_entries")
        if cached is None or cached[0] != (limit, grow):
            for index_bits in sorted({limit, 14, 16}) if grow else [limit]:
                rows = np.stack([_decode_row(lengths, index_bits) for lengths in self.lengths])
                pairs = bool(np.count_nonzero(rows & kernels.SINGLE) <= _SINGLE_SHARE * rows.size)
                if pairs:
                    break
            cached = ((limit, grow), (rows.reshape(-1), index_bits, pairs))
            self.__dict__["_decode_entries"] = cached
        own: tuple[NDArray[np.uint32], int, bool] = cached[1]
        return own

    def single_entries(self, limit: int) -> NDArray[np.uint16]:
        """Codes one by one, uint16[tables << limit], as `decode.decode_bytes` takes them."""
        cached = self.__dict__.get("_single_entries")
        if cached is None or cached[1] != limit:
            rows = [decode_table(lengths, limit).astype(np.uint16) for lengths in self.lengths]
            cached = (np.concatenate(rows), limit)
            self.__dict__["_single_entries"] = cached
        own: NDArray[np.uint16] = cached[0]
        return own


def _decode_row(lengths: NDArray[np.uint8], index_bits: int) -> NDArray[np.uint32]:
    """Two codes by the next ``index_bits`` bits; see `decode.decode_any`."""
    one = decode_table(lengths, index_bits).astype(np.uint32)
    first, n_first = one & 255, one >> 8
    then = one[np.arange(1 << index_bits) >> n_first]
    second, n_second = then & 255, then >> 8
    both = (n_second > 0) & (n_first + n_second <= index_bits)
    pair = first | second << 8 | n_first << 20 | (n_first + n_second) << 26
    single = first | n_first << 20 | kernels.SINGLE | n_first << 26
    return np.where(n_first == 0, kernels.UNUSED, np.where(both, pair, single)).astype(np.uint32)


def pair_bits_of(lengths: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Sizes of all symbol pairs, four tables to a 64-bit entry, uint64[lanes * 65536]."""
    out = np.empty(-(-len(lengths) // 4) << 16, np.uint64)
    kernels.fill_pair_bits(frozen(lengths), np.uint64(NO_CODE_BITS), out)
    return out
