"""Tables of ``sc2``: the frequent 32-bit values of a tensor, their canonical Huffman codes and that of the escape."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.huffman.canonical import MAX_LIMIT, check_lengths, code_lengths, reversed_codes

VERSION = 1
SAMPLE_LINES = 1 << 16
"""Lines that a fit looks at, evenly spaced over the tensor; memory does not grow beyond them."""

_HEAD = struct.Struct(f"<BB{MAX_LIMIT}H")
_MULTIPLIER = 0x9E3779B1
"""2^32 / golden ratio, odd: Fibonacci hashing (Knuth, The Art of Computer Programming 3, § 6.4)."""


@dataclass(frozen=True, eq=False)
class Sc2Tables:
    """A code book.

    Attributes
    ----------
    escape_length : int
        Bits of the code before a value that is not in the book, 1 to 15.
    values : uint32[k]
        In the order of (length, value).
    lengths : uint8[k]
    """

    escape_length: int
    values: NDArray[np.uint32]
    lengths: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.values)

    def to_bytes(self) -> bytes:
        counts = np.bincount(self.lengths, minlength=MAX_LIMIT + 1)[1:]
        return _HEAD.pack(VERSION, self.escape_length, *map(int, counts)) + self.values.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, capacity: int) -> Sc2Tables:
        """Inverse of `to_bytes`; raises `CorruptDataError` for anything it does not write."""
        if len(data) < _HEAD.size:
            raise CorruptDataError(f"{len(data)} B end before the {_HEAD.size} B of the code book's head")
        version, escape_length, *counts = _HEAD.unpack_from(data)
        if version != VERSION:
            raise CorruptDataError(f"code book version {version} is not {VERSION}")
        k = sum(counts)
        if k > capacity:
            raise CorruptDataError(f"{k} values are more than the capacity of {capacity}")
        if len(data) != _HEAD.size + 4 * k:
            raise CorruptDataError(f"{k} values take {_HEAD.size + 4 * k} B, not {len(data)} B")
        lengths = np.repeat(np.arange(1, MAX_LIMIT + 1, dtype=np.uint8), counts)
        if not 1 <= escape_length <= MAX_LIMIT:
            raise CorruptDataError(f"an escape of {escape_length} bits is not one of 1 to {MAX_LIMIT}")
        values = np.frombuffer(data, "<u4", offset=_HEAD.size).astype(np.uint32)
        check_lengths(np.concatenate([np.array([escape_length], np.uint8), lengths]))
        falls = (np.diff(values.astype(np.int64)) <= 0) & (np.diff(lengths.astype(np.int64)) == 0)
        if falls.any():
            raise CorruptDataError(f"value {int(np.argmax(falls)) + 1} of the code book is out of order")
        if len(np.unique(values)) != k:
            raise CorruptDataError("the code book holds a value twice")
        return cls(int(escape_length), values, lengths)

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """Codes, uint32[1 + k], bit-reversed, the escape's first (and first among codes of its length)."""
        return reversed_codes(np.concatenate([np.array([self.escape_length], np.uint8), self.lengths]))

    @cached_property
    def hashed(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """(value, code | length << 16) by slot of an open hash with linear probing; a free slot has entry 0."""
        slots_log2 = max(4 * len(self), 16).bit_length()
        keys, entries = np.zeros(1 << slots_log2, np.uint32), np.zeros(1 << slots_log2, np.uint32)
        for value, code, length in zip(self.values, self.codes[1:], self.lengths, strict=True):
            slot = (int(value) * _MULTIPLIER & 0xFFFFFFFF) >> (32 - slots_log2)
            while entries[slot]:
                slot = (slot + 1) & ((1 << slots_log2) - 1)
            keys[slot], entries[slot] = value, int(code) | int(length) << 16
        return keys, entries

    @cached_property
    def look_up(self) -> NDArray[np.uint32]:
        """Entry by the next bits of a stream: index into ``decoded`` | length << 16, 0 where no code leads."""
        lengths = [self.escape_length, *map(int, self.lengths)]
        table = np.zeros(1 << max(lengths), np.uint32)
        for i, (code, length) in enumerate(zip(self.codes, lengths, strict=True)):
            table[int(code) :: 1 << length] = i | length << 16
        return table

    @cached_property
    def decoded(self) -> NDArray[np.uint32]:
        """Values by index, uint32[1 + k]; index 0 is the escape."""
        return np.concatenate([np.zeros(1, np.uint32), self.values])


def fit_book(
    chunks: Iterable[Lines],
    capacity: int,
    check_line: Callable[[int], None],
    coded_bits: Callable[[NDArray[np.uint8], Sc2Tables], int],
) -> Sc2Tables:
    """The code book of a tensor from its most frequent values.

    Values that the sample holds only once are left out: they say nothing about the rest. The escape counts as often
    as the values left out, and at least once. Of books with ``capacity`` values, a quarter of them and so on down to
    none, the one that codes the tensor smallest with its own bytes is kept; the sample stands for the tensor.
    Reads the chunks twice: to count the lines, and to take every nth.

    ``coded_bits`` gives the bits of lines uint8[n, line_bytes] under a book.
    """
    total = 0
    for lines in chunks:
        check_line(lines.line_bytes)
        total += len(lines)
    step = max(-(-total // SAMPLE_LINES), 1)
    taken: list[NDArray[np.uint8]] = []
    at = 0
    for lines in chunks:
        taken.append(np.array(lines.data[-at % step :: step]))
        at += len(lines)
    if total == 0:
        return _book(np.zeros(0, np.uint32), np.zeros(0, np.int64), 0)
    sample = np.concatenate(taken)
    values, counts = np.unique(sample.view("<u4"), return_counts=True)
    order = np.lexsort((values, -counts))
    order = order[counts[order] >= 2][:capacity]
    # The smallest first, so that of equals the smallest book stays.
    sizes = sorted({0, *(min(capacity >> shift, len(order)) for shift in range(0, capacity.bit_length(), 2))})
    books = [_book(values[order[:k]], counts[order[:k]], sample.size // 4) for k in sizes]
    return min(books, key=lambda book: step * coded_bits(sample, book) + 8 * len(book.to_bytes()))


def _book(values: NDArray[np.uint32], counts: NDArray[np.int64], total: int) -> Sc2Tables:
    """The book of these values with their counts, out of ``total`` values."""
    order = np.argsort(values)
    rest = max(total - int(counts.sum()), 1)
    lengths = code_lengths(np.concatenate([[rest], counts[order]]), MAX_LIMIT)
    by_length = np.argsort(lengths[1:], kind="stable")
    return Sc2Tables(int(lengths[0]), values[order][by_length].astype(np.uint32), lengths[1:][by_length])
