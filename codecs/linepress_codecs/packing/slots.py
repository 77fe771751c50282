"""``slots``: a fixed slot a line, so that an address is a multiplication; lines that do not fit lie elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.packing.base import (
    Packing,
    PackingCost,
    Placement,
    check_range,
    make_cost,
    page_lines,
    pages_of,
    stored_bytes,
)


def parse_slot(text: str) -> int:
    """A slot size in bytes, or ``auto`` (0)."""
    return 0 if text == "auto" else int(text)


def show_slot(slot: int) -> str:
    return str(slot) if slot else "auto"


def best_slot(bytes_histogram: NDArray[np.int64], line_bytes: int = LINE_BYTES) -> int:
    """The slot size with the fewest bytes: slot * lines + line_bytes * lines over the slot (exhaustive)."""
    n = int(bytes_histogram.sum())
    over = n - np.cumsum(bytes_histogram)
    totals = [slot * n + line_bytes * int(over[slot]) for slot in range(1, line_bytes + 1)]
    return 1 + int(np.argmin(totals))


@dataclass(frozen=True)
class Slots(Packing):
    """Line i lies at ``i * slot``; a line that does not fit is an exception.

    An exception's slot holds the index of a whole raw line in the overflow behind the slots (its slot is lost). One
    bit a line says so (metadata); the slot size is one byte a tensor. A slot of the line size has no exceptions; a
    tensor whose exceptions would cost more than they save takes it.
    """

    name: ClassVar[str] = "slots"
    summary: ClassVar[str] = "a fixed slot a line, raw exceptions elsewhere"

    slot: int = field(
        default=48,
        metadata={"parse": parse_slot, "show": show_slot, "help": "slot in bytes, or auto: the best for the tensor"},
    )

    def __post_init__(self) -> None:
        check_range("slots", "slot", self.slot, 0, 128)

    def slot_for(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> int:
        histogram = np.bincount(stored_bytes(bits, line_bytes), minlength=line_bytes + 1)
        if not self.slot:
            return best_slot(histogram, line_bytes)
        slot = min(self.slot, line_bytes)
        exceptions = int(histogram[slot + 1 :].sum())
        return slot if len(bits) * slot + exceptions * line_bytes < len(bits) * line_bytes else line_bytes

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        slot = self.slot_for(bits, line_bytes)
        n = len(bits)
        exception = stored_bytes(bits, line_bytes) > slot
        start = np.arange(n, dtype=np.int64) * slot
        overflow = -(-n * slot // line_bytes) * line_bytes
        n_exceptions = int(exception.sum())
        start[exception] = overflow + np.arange(n_exceptions, dtype=np.int64) * line_bytes
        length = np.where(exception, line_bytes, slot).astype(np.int32)
        total = overflow + n_exceptions * line_bytes if n_exceptions else n * slot
        per_page = page_lines(line_bytes) // 8 if slot < line_bytes else 0
        return Placement(start, length, per_page, total, line_bytes)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        placed = self.place(bits, line_bytes)
        n = len(bits)
        metadata = pages_of(n, line_bytes) * placed.metadata_bytes_per_page
        raw = int(np.count_nonzero(placed.length_bytes == line_bytes))
        return make_cost(placed.total_bytes, metadata, table_bytes + (1 if n else 0), n, line_bytes, raw)
