"""``pairs``: two lines share a run of bytes, one from its start, the other bit-reversed from its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.packing.base import (
    POINTER_BYTES,
    TAG_ONLY_BITS,
    Packing,
    PackingCost,
    Placement,
    SizeCode,
    best_size_code,
    make_cost,
    page_lines,
    pages_of,
)


@dataclass(frozen=True)
class Pairs(Packing):
    """Lines 2k and 2k + 1 in one run of bytes: the first forward from its start, the second, its bits reversed, from
    its end back.

    A coded line says itself where it ends, so the length of each line is not stored, only that of the pair: a
    `SizeCode` (base and width chosen per tensor, 3 bytes) whose last code means two raw lines, uncoded. A pair of no
    bytes is two all-zero lines. Metadata of a page of 4 KiB raw: a pointer of 4 bytes and one code a pair; a pair's
    start is the pointer plus the lengths before it. A reader stops where the code ends; ``length_bytes`` is what it
    has read by then.
    """

    name: ClassVar[str] = "pairs"
    summary: ClassVar[str] = "two lines in a run of bytes, from both ends; a length code a pair"

    def _pairs(
        self, bits: NDArray[np.uint16], line_bytes: int
    ) -> tuple[SizeCode, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(code, bytes of each pair, first byte of each pair, coded bits of each line, 0 after the last)."""
        n_pairs = -(-len(bits) // 2)
        size = np.zeros(2 * n_pairs, np.int64)
        size[: len(bits)] = bits
        both = size.reshape(-1, 2)
        full = 2 * line_bytes
        need = np.where((both <= TAG_ONLY_BITS).all(axis=1), 0, -(-both.sum(axis=1) // 8))
        code = best_size_code(need, full, 8)
        length = code.lengths(need, full)
        start = np.concatenate([[0], np.cumsum(length)])[:-1] if n_pairs else length
        return code, length, start, size

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        code, length, start, size = self._pairs(bits, line_bytes)
        full = 2 * line_bytes
        raw = np.repeat(length == full, 2)
        own = np.where(raw, line_bytes, -(-size // 8))
        own = np.where(np.repeat(length == 0, 2), 0, own)
        first = np.repeat(start, 2)
        first[1::2] += length - own[1::2]
        n = len(bits)
        total = int(length.sum())
        return Placement(
            first[:n], own[:n].astype(np.int32), self._page_metadata(code, line_bytes), total, line_bytes
        )

    def _page_metadata(self, code: SizeCode, line_bytes: int) -> int:
        return POINTER_BYTES + -(-page_lines(line_bytes) // 2 * code.bits // 8)

    def metadata(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> tuple[SizeCode, NDArray[np.uint8]]:
        """The size code and the metadata of every page, uint8[pages, bytes], as stored."""
        code, length, start, _ = self._pairs(bits, line_bytes)
        each = page_lines(line_bytes) // 2
        return code, code.entries(length, 2 * line_bytes, start[::each], each)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        code, length, _, _ = self._pairs(bits, line_bytes)
        n = len(bits)
        metadata = pages_of(n, line_bytes) * self._page_metadata(code, line_bytes)
        raw = int((length == 2 * line_bytes).sum()) * 2
        return make_cost(int(length.sum()), metadata, table_bytes + (3 if n else 0), n, line_bytes, min(raw, n))
