"""``spill``: half a line at home, where no metadata is needed to find it; the rest whole in an atom behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.packing.base import (
    POINTER_BYTES,
    Packing,
    PackingCost,
    Placement,
    SizeCode,
    make_cost,
    size_codes,
    stored_bytes,
)

TRIED = 4
"""Size codes, the cheapest by bytes first, for which the atoms are counted to find the best."""


@njit(cache=True)
def _reach(count, room, reach):  # type: ignore[no-untyped-def]
    """Fill bool[sizes + 1, room + 1]: whether rests of at most size s, ``count`` of each, can add up to exactly c."""
    reach[:] = False
    reach[0, 0] = True
    for s in range(1, room + 1):
        for c in range(room + 1):
            if reach[s - 1, c]:
                for k in range(min(count[s], (room - c) // s) + 1):
                    reach[s, c + k * s] = True


_Layout = tuple[SizeCode, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@njit(cache=True)
def _best_fit(length, per_page, room, atom, offset):  # type: ignore[no-untyped-def]
    """Place the rests int64[n] of each page: fills atom (numbered in its page) and offset, returns the atoms used.

    The longest rest first, each into the atom that it leaves least room in; ties: the lower line, the lower atom.
    """
    n = length.shape[0]
    pages = (n + per_page - 1) // per_page
    used = np.zeros(pages, np.int64)
    left = np.zeros(per_page, np.int64)
    for page in range(pages):
        low, high = page * per_page, min(n, page * per_page + per_page)
        atoms = 0
        for size in range(room, 0, -1):
            for i in range(low, high):
                if length[i] != size:
                    continue
                best = -1
                for a in range(atoms):
                    if left[a] >= size and (best < 0 or left[a] < left[best]):
                        best = a
                if best < 0:
                    best = atoms
                    left[best] = room
                    atoms += 1
                atom[i], offset[i] = best, room - left[best]
                left[best] -= size
        used[page] = atoms
    return used


@njit(cache=True)
def _fill(length, per_page, room, atom, offset):  # type: ignore[no-untyped-def]
    """`_best_fit` atom by atom, which is better where four or more rests share one.

    An atom takes the longest rest left, then those that fill it best, of these again the longest first, and among
    equal ones the lower line.
    """
    n = length.shape[0]
    pages = (n + per_page - 1) // per_page
    used = np.zeros(pages, np.int64)
    reach = np.zeros((room + 1, room + 1), np.bool_)
    for page in range(pages):
        low, high = page * per_page, min(n, page * per_page + per_page)
        count = np.zeros(room + 1, np.int64)
        lines = 0
        for i in range(low, high):
            if length[i] > 0:
                count[length[i]] += 1
                lines += 1
        atoms = 0
        while lines > 0:
            taken = np.zeros(room + 1, np.int64)
            longest = 0
            for s in range(room + 1):
                if count[s] > 0:
                    longest = s
            taken[longest] = 1
            count[longest] -= 1
            _reach(count, room, reach)
            target = room - longest
            while not reach[room, target]:
                target -= 1
            for s in range(room, 0, -1):
                k = min(count[s], target // s)
                while k > 0 and not reach[s - 1, target - k * s]:
                    k -= 1
                taken[s] += k
                count[s] -= k
                target -= k * s
            at = 0
            for s in range(room, 0, -1):
                for i in range(low, high):
                    if taken[s] == 0:
                        break
                    if length[i] == s and atom[i] < 0:
                        atom[i], offset[i] = atoms, at
                        at += s
                        taken[s] -= 1
                        lines -= 1
            atoms += 1
        used[page] = atoms
    return used


@dataclass(frozen=True)
class Spill(Packing):
    """The first half of line i lies at i times half a line: one multiplication, no metadata. What is longer lies
    unbroken in an atom (half a line) of its page's spill, so any line alone is two atoms.

    The rests of ``lines`` lines share atoms. A controller finds the same places from their sizes, so that only those
    are stored: a `SizeCode` a line (the last code means a raw line, both halves whole) and a pointer of 4 bytes.
    Chosen per tensor, 3 bytes: base, width, and whether rests go best fit or atoms are filled one after another.
    """

    name: ClassVar[str] = "spill"
    summary: ClassVar[str] = "half a line at home, the rest in a shared atom: always two atoms, one without metadata"

    lines: int = field(
        default=128,
        metadata={"choices": (64, 128, 256), "help": "lines whose rests share atoms, and a metadata entry"},
    )

    def _layout(self, bits: NDArray[np.uint16], line_bytes: int) -> _Layout:
        """(code, rest of each line in bytes, its atom in the page, its offset there, atoms of each page)."""
        half = line_bytes // 2
        need = np.maximum(stored_bytes(bits, line_bytes) - half, 0)
        need = np.where(bits >= 8 * line_bytes, half, need)
        n = len(bits)
        best: tuple[SizeCode, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = (
            None
        )
        best_bytes = 0
        for code in size_codes(need, half, 8)[:TRIED]:
            rest = code.lengths(need, half)
            for way in (_best_fit, _fill):
                atom, offset = np.full(n, -1, np.int64), np.zeros(n, np.int64)
                atoms = way(rest, self.lines, half, atom, offset)
                total = int(atoms.sum()) * half + len(atoms) * self._metadata(code)
                if best is None or total < best_bytes:
                    best, best_bytes = (code, rest, atom, offset, atoms), total
        assert best is not None
        return best

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        code, rest, atom, offset, atoms = self._layout(bits, line_bytes)
        half = line_bytes // 2
        n = len(bits)
        home = np.arange(n, dtype=np.int64) * half
        first = np.concatenate([[0], np.cumsum(atoms)]).astype(np.int64)
        group = np.arange(n) // self.lines
        there = n * half + (first[group] + atom) * half + offset if n else home
        own = np.minimum(stored_bytes(bits, line_bytes), half)
        length = np.where(rest > 0, half + rest, own).astype(np.int32)
        return Placement(
            home,
            length,
            self._metadata(code),
            n * half + int(first[-1]) * half,
            line_bytes,
            home_bytes=half,
            rest_start_bytes=there,
            page_bytes=self.lines * line_bytes,
        )

    def _metadata(self, code: SizeCode) -> int:
        """Bytes of one group's metadata."""
        return POINTER_BYTES + -(-self.lines * code.bits // 8)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        code, rest, _, _, atoms = self._layout(bits, line_bytes)
        half = line_bytes // 2
        n = len(bits)
        data = n * half + int(atoms.sum()) * half
        metadata = len(atoms) * self._metadata(code)
        raw = int(np.count_nonzero(rest == half))
        return make_cost(data, metadata, table_bytes + (3 if n else 0), n, line_bytes, raw)
