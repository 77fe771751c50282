"""``groups``: n lines packed into m whole lines of memory if they fit, else left raw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.errors import SpecError
from linepress_codecs.packing.base import (
    POINTER_BYTES,
    Packing,
    PackingCost,
    Placement,
    best_size_code,
    check_range,
    make_cost,
    page_lines,
    stored_bytes,
)


@dataclass(frozen=True)
class Groups(Packing):
    """Groups of ``lines`` lines in ``size`` lines of memory, byte (or ``granule``) packed inside the group.

    Metadata of a group: a 4-byte pointer, one flag (packed or raw) and one `SizeCode` a line (base and width chosen
    per tensor, 3 bytes); a line's start is the sum of the lengths before it, so any line alone touches at most 2
    atoms of 64 B or 3 of 32 B. A group that does not fit is stored raw, its lines aligned. The last, shorter group
    takes as many whole lines of memory as its code needs.
    """

    name: ClassVar[str] = "groups"
    summary: ClassVar[str] = "n lines in m lines of memory if they fit, else raw"

    lines: int = field(default=13, metadata={"help": "lines in a group"})
    size: int = field(default=9, metadata={"help": "lines of memory a packed group takes"})
    granule: int = field(default=1, metadata={"choices": (1, 2, 4, 8), "help": "rounding of a line in bytes"})

    def __post_init__(self) -> None:
        check_range("groups", "lines", self.lines, 1, 1024)
        check_range("groups", "size", self.size, 1, self.lines)

    def _layout(
        self, bits: NDArray[np.uint16], line_bytes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], int]:
        """(stored length of each line, group packed?, bytes of each group, tag bits a line)."""
        if line_bytes % self.granule:
            raise SpecError(f"packing groups: granule={self.granule} does not divide a line of {line_bytes} B")
        n = len(bits)
        granules = -(-stored_bytes(bits, line_bytes) // self.granule)
        full = line_bytes // self.granule
        code = best_size_code(granules, full, 8 * self.granule)
        length = code.lengths(granules, full) * self.granule
        count = -(-n // self.lines)
        padded = np.zeros(count * self.lines, np.int64)
        padded[:n] = length
        need = padded.reshape(count, self.lines).sum(axis=1)
        held = np.full(count, self.size * line_bytes, np.int64)
        raw = np.full(count, self.lines * line_bytes, np.int64)
        if n % self.lines:
            raw[-1] = n % self.lines * line_bytes
            held[-1] = -(-need[-1] // line_bytes) * line_bytes
        packed = (need <= held) & (held < raw)
        return length, packed, np.where(packed, held, raw), code.bits

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        length, packed, held, tag_bits = self._layout(bits, line_bytes)
        n = len(bits)
        group = np.arange(n) // self.lines
        base = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
        length = np.where(packed[group], length, line_bytes) if n else length
        before = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        start = base[group] + before[:-1] - before[group * self.lines]
        per_group = self._group_metadata_bits(tag_bits)
        per_page = -(-(page_lines(line_bytes) * per_group) // (8 * self.lines))
        return Placement(start, length.astype(np.int32), per_page, int(base[-1]), line_bytes)

    def _group_metadata_bits(self, tag_bits: int) -> int:
        return 8 * POINTER_BYTES + 1 + self.lines * tag_bits

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        length, packed, held, tag_bits = self._layout(bits, line_bytes)
        n = len(bits)
        group = np.arange(n) // self.lines
        raw = int(np.count_nonzero((length == line_bytes) | ~packed[group])) if n else 0
        metadata = -(-len(held) * self._group_metadata_bits(tag_bits) // 8)
        return make_cost(int(held.sum()), metadata, table_bytes + (3 if n else 0), n, line_bytes, raw)
