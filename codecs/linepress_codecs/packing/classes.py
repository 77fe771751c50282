"""``classes``: every line takes one of a few sizes, its class a short tag; and the search for the best set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.errors import SpecError
from linepress_codecs.packing.base import (
    CHECKSUM_BYTES,
    CRC_METADATA,
    POINTER_BYTES,
    Packing,
    PackingCost,
    Placement,
    make_cost,
    page_lines,
    pages_of,
    size_counts,
    stored_bytes_by_size,
)

DEFAULT_SET = (0, 8, 32, 64)


def parse_set(text: str) -> tuple[int, ...]:
    """``0/8/32/64`` or ``auto`` (the empty tuple)."""
    if text == "auto":
        return ()
    return tuple(int(part) for part in text.split("/"))


def show_set(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes)) if sizes else "auto"


def stride_bytes(size: int, atom: int) -> float:
    """Mean bytes a line of ``size`` takes in a long run of such lines under the rule of `Classes`.

    From an atom boundary, lines follow one another while each touches no more than ceil(size / atom) atoms; then
    the next starts on the next boundary. For instance 42 B in 32 B atoms: three lines in 128 B.
    """
    if size == 0:
        return 0.0
    room = -(-size // atom) * atom - size
    offset, lines = 0, 0
    while True:
        lines += 1
        offset += size
        if offset % atom == 0:
            return offset / lines
        if offset % atom > room:
            return (-(-offset // atom) * atom) / lines


def best_classes(
    bytes_histogram: NDArray[np.int64], k: int, atom: int = 32, granule: int = 1, line_bytes: int = LINE_BYTES
) -> tuple[int, ...]:
    """The ``k`` (or fewer) class sizes that store these lines in the fewest bytes, by dynamic programming.

    Parameters
    ----------
    bytes_histogram : int64[line_bytes + 1]
        Lines by whole bytes (0 = tag alone), as ``np.bincount(stored_bytes(...), minlength=line_bytes + 1)``.
    k : int
        Largest number of classes; the raw size is always one of them.
    atom, granule : int
        Atom whose alignment rule sets each class' stride (`stride_bytes`), and the multiple class sizes must be.

    Returns the sizes in ascending order, ending in ``line_bytes``. Exact for long runs of lines; a page's mixture of
    classes may add up to one atom a class and page.
    """
    if k < 1:
        raise SpecError(f"a class set needs at least one class, not {k}")
    sizes = [s for s in range(line_bytes + 1) if s % granule == 0 or s == line_bytes]
    lines_to = np.concatenate([[0], np.cumsum(bytes_histogram)]).astype(np.int64)
    strides = [stride_bytes(s, atom) for s in sizes]
    # cost[j] = least bytes for all lines up to sizes[j] with the classes used so far, sizes[j] the largest of them
    cost = [strides[j] * float(lines_to[sizes[j] + 1]) for j in range(len(sizes))]
    choice: list[list[int]] = []
    best_of_k, best_count, history = cost[-1], 1, [list(cost)]
    for count in range(2, k + 1):
        new = list(cost)
        came = [-1] * len(sizes)
        for j in range(1, len(sizes)):
            for i in range(j):
                between = float(lines_to[sizes[j] + 1] - lines_to[sizes[i] + 1])
                value = history[-1][i] + strides[j] * between
                if value < new[j]:
                    new[j], came[j] = value, i
        choice.append(came)
        history.append(new)
        if new[-1] < best_of_k:
            best_of_k, best_count = new[-1], count
    picked = [len(sizes) - 1]
    for level in range(best_count - 2, -1, -1):
        previous = choice[level][picked[-1]]
        if previous < 0:
            break
        picked.append(previous)
    return tuple(sizes[j] for j in reversed(picked))


@njit(cache=True)
def _place(bits, class_of, sizes, per_page, atom, start):  # type: ignore[no-untyped-def]
    """Total bytes; where each line starts into ``start`` int64[n], unless it is empty.

    ``class_of`` uint8 by size. Within a page the largest class comes first, each class in line order.
    """
    n = bits.shape[0]
    classes = sizes.shape[0]
    write = start.shape[0] > 0
    mask = atom - 1  # atoms are powers of two
    lines = np.zeros((classes, per_page), np.int64)
    held = np.zeros(classes, np.int64)
    position = 0
    for low in range(0, n, per_page):
        held[:] = 0
        for i in range(low, min(n, low + per_page)):
            c = class_of[bits[i]]
            lines[c, held[c]] = i
            held[c] += 1
        position = (position + mask) & ~mask
        for c in range(classes - 1, -1, -1):
            size = sizes[c]
            room = ((size + mask) & ~mask) - size
            for k in range(held[c]):
                if size > 0 and (position & mask) > room:
                    position = (position + mask) & ~mask
                if write:
                    start[lines[c, k]] = position
                position += size
    return position


@dataclass(frozen=True)
class Classes(Packing):
    """Each line takes the smallest class that holds it.

    A page of 4 KiB raw starts on an atom; in it the largest class comes first, each class in line order, and a line
    starts on the next atom where it would otherwise touch more than ceil(class / atom) atoms: any line alone is at
    most 2 atoms of 32 B. Metadata of a page: a 4-byte pointer and one tag a line of ceil(log2(classes)) bits; counts
    of tags give the line's start. The set itself is ``classes`` bytes a tensor.
    """

    name: ClassVar[str] = "classes"
    summary: ClassVar[str] = "a few sizes, a tag a line, never more than two 32 B atoms a line"

    set: tuple[int, ...] = field(
        default=DEFAULT_SET,
        metadata={
            "parse": parse_set,
            "show": show_set,
            "help": "class sizes in bytes, for instance 0/22/44/64, or auto: the best k sizes for the tensor",
        },
    )
    k: int = field(default=4, metadata={"help": "number of classes when set=auto"})
    atom: int = field(default=32, metadata={"choices": (1, 4, 8, 16, 32, 64), "help": "atom in bytes"})

    crc: str = field(default="off", metadata=CRC_METADATA)

    def __post_init__(self) -> None:
        if self.set and (list(self.set) != sorted(set(self.set)) or self.set[0] < 0 or self.set[-1] > 128):
            raise SpecError(
                f"packing classes: set={show_set(self.set)} must be ascending sizes in bytes, for instance 0/8/32/64"
            )
        if not 1 <= self.k <= 16:
            raise SpecError(f"packing classes: k={self.k} is out of range, use 1 to 16")

    def sizes_for(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> tuple[int, ...]:
        """The class sizes used for these lines, the raw size always last."""
        return self._classes(size_counts(bits), line_bytes)[0]

    def _classes(self, counts: NDArray[np.int64], line_bytes: int) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
        """(class sizes, class of a line by its size), from `size_counts`."""
        need = stored_bytes_by_size(len(counts) - 1, line_bytes)
        if self.set:
            sizes = (*(s for s in self.set if s < line_bytes), line_bytes)
        else:
            histogram = np.bincount(need, counts, minlength=line_bytes + 1).astype(np.int64)
            sizes = best_classes(histogram, self.k, self.atom, line_bytes=line_bytes)
        return sizes, np.searchsorted(np.array(sizes), need).astype(np.uint8)

    def _page_metadata(self, n_classes: int, line_bytes: int) -> int:
        checksum = CHECKSUM_BYTES if self.crc == "on" else 0
        return checksum + POINTER_BYTES + -(-page_lines(line_bytes) * (n_classes - 1).bit_length() // 8)

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        sizes, class_of = self._classes(size_counts(bits), line_bytes)
        size_array = np.array(sizes, np.int64)
        start = np.zeros(len(bits), np.int64)
        total = int(_place(frozen(bits), class_of, size_array, page_lines(line_bytes), self.atom, start))
        length = size_array.astype(np.int32)[class_of][bits]
        return Placement(start, length, self._page_metadata(len(sizes), line_bytes), total, line_bytes)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        counts = size_counts(bits)
        sizes, class_of = self._classes(counts, line_bytes)
        nowhere = np.zeros(0, np.int64)
        total = int(
            _place(frozen(bits), class_of, np.array(sizes, np.int64), page_lines(line_bytes), self.atom, nowhere)
        )
        n = len(bits)
        metadata = pages_of(n, line_bytes) * self._page_metadata(len(sizes), line_bytes)
        raw = int(counts[class_of == len(sizes) - 1].sum())
        own = len(sizes) if n else 0
        return make_cost(total, metadata, table_bytes + own, n, line_bytes, raw)
