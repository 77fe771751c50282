"""What every packing shares: costs, placements, and how many atoms one line alone touches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.errors import SpecError

PAGE_BYTES = 4096
"""Raw bytes covered by one page of metadata."""

POINTER_BYTES = 4
"""A page's or group's start address in its tensor: 32 bits of bytes, 4 GiB a tensor segment."""

CHECKSUM_BYTES = 4
"""CRC-32 a page, see `linepress_codecs.packing.checksum`."""

CRC_METADATA: dict[str, Any] = {"choices": ("off", "on"), "help": "on: a CRC-32 a page of 4 KiB raw, counted"}

TAG_ONLY_BITS = 4
"""A coded size up to this is a mode flag without content and means the all-zero line, or the line that equals its
base (the conformance kit checks it); a packing with per-line tags stores such a line in no bytes, since the tag
repeats the flag."""


@dataclass(frozen=True, slots=True)
class AtomStats:
    """Atoms of ``atom_bytes`` that reading any single line alone touches, metadata being cached."""

    atom_bytes: int
    mean: float
    max: int


@dataclass(frozen=True, slots=True)
class PackingCost:
    """Bytes of one packed tensor; ``packed_bytes`` is the sum of the other three.

    Attributes
    ----------
    data_bytes : int
        Lines as they lie in memory, rounding and alignment gaps included.
    metadata_bytes : int
        Per-line tags, page and group pointers.
    table_bytes : int
        The codec's tables and the packing's own parameters.
    raw_bytes : int
        Lines times line size.
    raw_lines : int
        Lines stored raw.
    """

    packed_bytes: int
    data_bytes: int
    metadata_bytes: int
    table_bytes: int
    raw_bytes: int
    raw_lines: int

    @property
    def ratio(self) -> float:
        """raw / packed; NaN for an empty tensor."""
        return self.raw_bytes / self.packed_bytes if self.packed_bytes else float("nan")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each line lies, as plain arrays a channel model takes.

    Attributes
    ----------
    start_bytes : int64[n]
        First byte of each line, from the start of the packed tensor's data.
    length_bytes : int32[n]
        Bytes that must be read for the line; 0 where the tag alone tells it.
    metadata_bytes_per_page : int
        Metadata that a metadata cache holds for one page (rounded up to bytes).
    page_bytes : int
        Raw bytes of a page: what must be known of at once to find one line.
    total_bytes : int
        Bytes of data, gaps included, metadata not.
    line_bytes : int
    home_bytes : int
        Where not 0: only so many bytes of a line lie at its start; what is longer goes on at ``rest_start_bytes``.
    rest_start_bytes : int64[n] | None
        First byte of the rest of each line; anything where there is no rest.
    """

    start_bytes: NDArray[np.int64]
    length_bytes: NDArray[np.int32]
    metadata_bytes_per_page: int
    total_bytes: int
    line_bytes: int = LINE_BYTES
    home_bytes: int = 0
    rest_start_bytes: NDArray[np.int64] | None = None
    page_bytes: int = PAGE_BYTES

    def extents(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
        """(starts, lengths) of the parts that lines lie in: one, or the home and the rest."""
        length = self.length_bytes.astype(np.int64)
        if self.rest_start_bytes is None:
            return ((self.start_bytes, length),)
        home = np.minimum(length, self.home_bytes)
        return ((self.start_bytes, home), (self.rest_start_bytes, length - home))

    def atoms(self, atom_bytes: int) -> NDArray[np.int64]:
        """Atoms of ``atom_bytes`` touched by each line alone, int64[n]."""
        touched = np.zeros(len(self.start_bytes), np.int64)
        for start, length in self.extents():
            here = (start + length - 1) // atom_bytes - start // atom_bytes + 1
            touched += np.where(length > 0, here, 0)
        return touched

    def atom_stats(self, atom_bytes: int) -> AtomStats:
        atoms = self.atoms(atom_bytes)
        if not len(atoms):
            return AtomStats(atom_bytes, 0.0, 0)
        return AtomStats(atom_bytes, float(atoms.mean()), int(atoms.max()))


class Packing(ABC):
    """How lines of different sizes lie in memory. A frozen dataclass: its fields are its options.

    ``bits`` below is uint16[n]: coded bits of each line. A size of ``8 * line_bytes`` or more is a raw line and is
    stored as exactly ``line_bytes`` bytes, its tag saying so.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    def spec(self) -> str:
        """``name:key=value`` with the non-default options only."""
        parts = [self.name]
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if value != f.default:
                parts.append(f"{f.name}={f.metadata.get('show', str)(value)}")
        return ":".join(parts)

    def options(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    @abstractmethod
    def place(self, bits: NDArray[np.uint16], line_bytes: int = LINE_BYTES) -> Placement:
        """Where each line lies."""

    @abstractmethod
    def cost(self, bits: NDArray[np.uint16], table_bytes: int = 0, line_bytes: int = LINE_BYTES) -> PackingCost:
        """Bytes of the packed tensor, every byte of metadata and tables counted."""

    def atoms_per_random_line(
        self, bits: NDArray[np.uint16], atom_bytes: int = 32, line_bytes: int = LINE_BYTES
    ) -> AtomStats:
        """Mean and largest number of atoms any line alone touches."""
        return self.place(bits, line_bytes).atom_stats(atom_bytes)

    def __str__(self) -> str:
        return self.spec


def page_lines(line_bytes: int) -> int:
    """Lines covered by one page of metadata."""
    return PAGE_BYTES // line_bytes


def pages_of(n_lines: int, line_bytes: int) -> int:
    return -(-n_lines // page_lines(line_bytes))


def stored_bytes(bits: NDArray[np.uint16], line_bytes: int) -> NDArray[np.int64]:
    """Whole bytes of each line, at most ``line_bytes``; 0 for tag-only lines."""
    return stored_bytes_by_size(int(bits.max(initial=0)), line_bytes)[bits]


def stored_bytes_by_size(most_bits: int, line_bytes: int) -> NDArray[np.int64]:
    """`stored_bytes` of each size from 0 to ``most_bits``: lines have few sizes, tensors many lines."""
    every = np.arange(most_bits + 1)
    return np.where(every <= TAG_ONLY_BITS, 0, np.minimum(-(-every // 8), line_bytes))


@njit(cache=True)
def _count_sizes(bits, counts):  # type: ignore[no-untyped-def]
    """Add lines by size; neighbours count apart (rows of ``counts``), so that equal sizes do not wait for another."""
    n = bits.shape[0] // 4 * 4
    for i in range(0, n, 4):
        counts[0, bits[i]] += 1
        counts[1, bits[i + 1]] += 1
        counts[2, bits[i + 2]] += 1
        counts[3, bits[i + 3]] += 1
    for i in range(n, bits.shape[0]):
        counts[0, bits[i]] += 1


def size_counts(bits: NDArray[np.uint16], at_least: int = 0) -> NDArray[np.int64]:
    """Lines by coded bits, int64 with an entry for each size up to the largest (and ``at_least``)."""
    counts = np.zeros((4, max(int(bits.max(initial=0)), at_least) + 1), np.int64)
    _count_sizes(frozen(bits), counts)
    total: NDArray[np.int64] = counts.sum(axis=0)
    return total


def make_cost(
    data_bytes: int, metadata_bytes: int, table_bytes: int, n_lines: int, line_bytes: int, raw_lines: int
) -> PackingCost:
    return PackingCost(
        packed_bytes=data_bytes + metadata_bytes + table_bytes,
        data_bytes=data_bytes,
        metadata_bytes=metadata_bytes,
        table_bytes=table_bytes,
        raw_bytes=n_lines * line_bytes,
        raw_lines=raw_lines,
    )


def check_range(packing: str, key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SpecError(f"packing {packing}: {key}={value} is out of range, use {low} to {high}")


@dataclass(frozen=True, slots=True)
class SizeCode:
    """Fixed-width code of a line's length in granules: ``base + code``, the last code meaning raw.

    A length under ``base`` is padded up to it, one over the range is stored raw. ``bits == 0`` makes every line raw.
    """

    base: int
    bits: int

    def lengths(self, granules: NDArray[np.int64], full: int) -> NDArray[np.int64]:
        """Stored length of each line in granules, the raw length being ``full``."""
        top = self.base + (1 << self.bits) - 2
        fits = (granules <= top) & (granules < full)
        return np.where(fits, np.maximum(granules, self.base), full)

    def entries(
        self, lengths: NDArray[np.int64], full: int, starts: NDArray[np.int64], each: int
    ) -> NDArray[np.uint8]:
        """Metadata as stored, uint8[entries, bytes]: a pointer, then the codes of ``each`` lengths, low bits first.

        ``starts`` has what each entry points to; codes that the last entry has no lengths for are zero.
        """
        codes = np.zeros(len(starts) * each, np.int64)
        codes[: len(lengths)] = np.where(lengths == full, (1 << self.bits) - 1, lengths - self.base)
        bits = codes.reshape(len(starts), each, 1) >> np.arange(self.bits) & 1
        packed = np.packbits(bits.reshape(len(starts), -1).astype(np.uint8), axis=1, bitorder="little")
        pointers = starts.astype(f"<u{POINTER_BYTES}").view(np.uint8).reshape(-1, POINTER_BYTES)
        return np.concatenate([pointers, packed], axis=1)


def size_codes(
    granules: NDArray[np.int64], full: int, granule_bits: int, lines: NDArray[np.int64] | None = None
) -> list[SizeCode]:
    """Every useful `SizeCode` (and that of no bits), in the order of data and tag bits for these line lengths.

    ``lines`` says how many lines have each length; one unless given.
    """
    counts = np.bincount(np.minimum(granules, full), lines, minlength=full + 1).astype(np.int64)
    n = int(counts.sum())
    lines_to = np.concatenate([[0], np.cumsum(counts)])
    sum_to = np.concatenate([[0], np.cumsum(counts * np.arange(full + 1))])
    found = [(n * full * granule_bits, SizeCode(0, 0))]
    for width in range(1, full.bit_length() + 1):
        for base in range(full):
            top = min(base + (1 << width) - 2, full - 1)
            under = lines_to[base]
            inside = sum_to[top + 1] - sum_to[base]
            over = n - lines_to[top + 1]
            cost = int(under * base + inside + over * full) * granule_bits + n * width
            found.append((cost, SizeCode(base, width)))
            if top == full - 1 and base + (1 << width) - 2 > full - 1 and under == 0 and base > 0:
                break
    return [code for _, code in sorted(found, key=lambda pair: pair[0])]


def best_size_code(
    granules: NDArray[np.int64], full: int, granule_bits: int, lines: NDArray[np.int64] | None = None
) -> SizeCode:
    """The `SizeCode` with the fewest data and tag bits for these line lengths (exhaustive); see `size_codes`."""
    return size_codes(granules, full, granule_bits, lines)[0]
