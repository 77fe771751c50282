"""``spill``: half a line at home, where no metadata is needed to find it; the rest whole in an atom behind."""

from __future__ import annotations

from collections.abc import Callable
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
SAMPLE_GROUPS = 64
"""Groups of lines in which they are counted."""


_Layout = tuple[SizeCode, int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


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
    reach = np.zeros((room + 1, room + 1), np.bool_)  # whether rests of sizes up to s can add up to exactly c
    count = np.zeros(room + 1, np.int64)
    place = np.zeros(room + 1, np.int64)  # where the next line of each size stands in `lines`
    lines = np.zeros(per_page, np.int64)
    for page in range(pages):
        low, high = page * per_page, min(n, page * per_page + per_page)
        count[:] = 0
        for i in range(low, high):
            count[length[i]] += 1
        place[0] = 0
        for s in range(1, room + 1):
            place[s] = place[s - 1] + count[s - 1]
        for i in range(low, high):
            lines[place[length[i]]] = i
            place[length[i]] += 1
        for s in range(room + 1):
            place[s] -= count[s]
        left = high - low - count[0]
        longest = room
        atoms = 0
        while left > 0:
            while count[longest] == 0:
                longest -= 1
            least = 1
            while count[least] == 0:
                least += 1
            count[longest] -= 1
            target = room - longest
            reach[least - 1, :] = False
            reach[least - 1, 0] = True
            for s in range(least, longest + 1):
                for c in range(target + 1):
                    reach[s, c] = reach[s - 1, c]
                for k in range(1, min(count[s], target // s) + 1):
                    for c in range(k * s, target + 1):
                        reach[s, c] |= reach[s - 1, c - k * s]
            while not reach[longest, target]:
                target -= 1
            at = 0
            for s in range(longest, least - 1, -1):
                k = min(count[s], target // s)
                while k > 0 and not reach[s - 1, target - k * s]:
                    k -= 1
                count[s] -= k
                target -= k * s
                for _ in range(k + (s == longest)):
                    i = lines[place[s]]
                    place[s] += 1
                    atom[i], offset[i] = atoms, at
                    at += s
                    left -= 1
            atoms += 1
        used[page] = atoms
    return used


WAYS: tuple[Callable[..., NDArray[np.int64]], ...] = (_best_fit, _fill)


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
        """(code, way, rest of each line in bytes, its atom in the page, its offset there, atoms of each page)."""
        half = line_bytes // 2
        need = np.maximum(stored_bytes(bits, line_bytes) - half, 0)
        need = np.where(bits >= 8 * line_bytes, half, need)
        code, way = self._choice(need, half)
        rest = code.lengths(need, half)
        return (code, way, rest, *self._placed(rest, half, way))

    def _choice(self, need: NDArray[np.int64], half: int) -> tuple[SizeCode, int]:
        """The size code and the way with the fewest bytes on a sample of the groups."""
        groups = len(need) // self.lines
        sample = need
        if groups > SAMPLE_GROUPS:
            chosen = np.linspace(0, groups - 1, SAMPLE_GROUPS).astype(np.int64)
            sample = need[: groups * self.lines].reshape(groups, self.lines)[chosen].reshape(-1)
        found = []
        for rank, code in enumerate(size_codes(need, half, 8)[:TRIED]):
            for way in range(len(WAYS)):
                atoms = self._placed(code.lengths(sample, half), half, way)[2]
                total = int(atoms.sum()) * half + len(atoms) * self._metadata(code)
                found.append((total, rank, way, code))
        _, _, way, code = min(found, key=lambda each: each[:3])
        return code, way

    def _placed(
        self, rest: NDArray[np.int64], half: int, way: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        atom, offset = np.full(len(rest), -1, np.int64), np.zeros(len(rest), np.int64)
        return atom, offset, WAYS[way](rest, self.lines, half, atom, offset)

    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        code, _, rest, atom, offset, atoms = self._layout(bits, line_bytes)
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

    def metadata(
        self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES
    ) -> tuple[SizeCode, int, NDArray[np.uint8]]:
        """The size code, the way and the metadata of every group, uint8[groups, bytes], as stored."""
        code, way, rest, _, _, atoms = self._layout(bits, line_bytes)
        half = line_bytes // 2
        starts = (len(bits) + np.cumsum(atoms) - atoms) * half
        return code, way, code.entries(rest, half, starts, self.lines)

    def _metadata(self, code: SizeCode) -> int:
        """Bytes of one group's metadata."""
        return POINTER_BYTES + -(-self.lines * code.bits // 8)

    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        code, _, rest, _, _, atoms = self._layout(bits, line_bytes)
        half = line_bytes // 2
        n = len(bits)
        data = n * half + int(atoms.sum()) * half
        metadata = len(atoms) * self._metadata(code)
        raw = int(np.count_nonzero(rest == half))
        return make_cost(data, metadata, table_bytes + (3 if n else 0), n, line_bytes, raw)
