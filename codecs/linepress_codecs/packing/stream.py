"""``stream``: lines one after another, the way a bit-exact software stream would lie, found by per-page offsets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.packing.base import (
    CHECKSUM_BYTES,
    CRC_METADATA,
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
    size_counts,
)

GRANULES = ("bit", "1", "2", "4", "8", "16", "32")


@dataclass(frozen=True)
class Stream(Packing):
    """Lines back to back in granules of a bit or some bytes.

    Metadata of a page of 4 KiB raw: a 4-byte pointer to the page's first line and one fixed-width `SizeCode` a
    line (base and width chosen per tensor, 3 bytes); a line's start is the pointer plus the sum of the lengths
    before it in the page. Pages start on a byte or granule boundary.
    """

    name: ClassVar[str] = "stream"
    summary: ClassVar[str] = "lines back to back, a pointer a page and a length code a line"

    granule: str = field(
        default="1", metadata={"choices": GRANULES, "help": "rounding of a line: bit, or bytes 1, 2, 4, 8, 16, 32"}
    )

    crc: str = field(default="off", metadata=CRC_METADATA)

    def _granule_bits(self) -> int:
        return 1 if self.granule == "bit" else 8 * int(self.granule)

    def _lengths(self, counts: NDArray[np.int64], line_bytes: int) -> tuple[SizeCode, NDArray[np.int64], int]:
        """(code, stored length in granules of a line of each size, granules of a raw line), from `size_counts`."""
        granule = self._granule_bits()
        full = -(-8 * line_bytes // granule)
        every = np.arange(len(counts))
        size = np.where(every <= TAG_ONLY_BITS, 0, -(-every // granule))
        code = best_size_code(size, full, granule, counts)
        return code, code.lengths(size, full), full

    def _pages(self, lengths: NDArray[np.int64], line_bytes: int) -> NDArray[np.int64]:
        """Stored bits of each line, a row a page."""
        per_page = page_lines(line_bytes)
        padded = np.zeros(pages_of(len(lengths), line_bytes) * per_page, np.int64)
        np.multiply(lengths, self._granule_bits(), out=padded[: len(lengths)])
        return padded.reshape(-1, per_page)

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        code, length_of, _ = self._lengths(size_counts(bits), line_bytes)
        lengths = length_of[bits]
        granule = self._granule_bits()
        n = len(bits)
        length_bits = lengths * granule
        start_bits = np.zeros(n, np.int64)
        total = 0
        if n:
            in_page = self._pages(lengths, line_bytes)
            page_bytes = -(-in_page.sum(axis=1) // 8)
            page_start = np.concatenate([[0], np.cumsum(page_bytes)])
            total = int(page_start[-1])
            within = np.cumsum(in_page, axis=1) - in_page
            start_bits = (page_start[:-1, None] * 8 + within).reshape(-1)[:n]
        first = start_bits // 8
        last = -(-(start_bits + length_bits) // 8)
        span = np.where(length_bits > 0, last - first, 0).astype(np.int32)
        return Placement(first, span, self._page_metadata(code, line_bytes), total, line_bytes)

    def _page_metadata(self, code: SizeCode, line_bytes: int) -> int:
        checksum = CHECKSUM_BYTES if self.crc == "on" else 0
        return checksum + POINTER_BYTES + -(-page_lines(line_bytes) * code.bits // 8)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        counts = size_counts(bits)
        code, length_of, full = self._lengths(counts, line_bytes)
        if self.granule == "bit":  # pages start on a byte, which whole bytes end on anyway
            total = int((-(-self._pages(length_of[bits], line_bytes).sum(axis=1) // 8)).sum())
        else:
            total = int((counts * length_of).sum()) * self._granule_bits() // 8
        n = len(bits)
        metadata = pages_of(n, line_bytes) * self._page_metadata(code, line_bytes)
        parameters = 3 if n else 0
        raw = int(counts[length_of == full].sum())
        return make_cost(total, metadata, table_bytes + parameters, n, line_bytes, raw)
