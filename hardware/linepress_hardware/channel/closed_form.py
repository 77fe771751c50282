"""Closed forms of the compressed channel: what arithmetic says before anything is simulated.

Sources: a run of s bytes at a uniformly random byte offset touches 1 + (s - 1)/A atoms of A bytes on average (a run
of s bytes crosses a given atom boundary in s - 1 of A offsets); the rest is counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError


def atoms_random_offset(length_bytes: float | NDArray[np.float64], atom_bytes: int) -> NDArray[np.float64]:
    """Mean atoms touched by ``length_bytes`` at a random byte offset: 1 + (s - 1)/A, and 0 for s = 0."""
    s = np.asarray(length_bytes, dtype=np.float64)
    if atom_bytes <= 0:
        raise ConfigurationError(f"an atom of {atom_bytes} B moves nothing; give a positive size")
    return np.where(s > 0, 1.0 + (s - 1.0) / atom_bytes, 0.0)


def atoms_aligned(length_bytes: float | NDArray[np.float64], atom_bytes: int) -> NDArray[np.float64]:
    """Atoms touched by ``length_bytes`` from an atom boundary: ceil(s/A)."""
    if atom_bytes <= 0:
        raise ConfigurationError(f"an atom of {atom_bytes} B moves nothing; give a positive size")
    return np.ceil(np.asarray(length_bytes, dtype=np.float64) / atom_bytes)


def atoms_of_places(
    start_bytes: NDArray[np.int64], length_bytes: NDArray[np.int64] | NDArray[np.int32], atom_bytes: int
) -> NDArray[np.int64]:
    """Atoms each placed line touches, int64[n]; 0 for a line without data (zero class)."""
    start = np.asarray(start_bytes, dtype=np.int64)
    length = np.asarray(length_bytes, dtype=np.int64)
    last = (start + np.maximum(length, 1) - 1) // atom_bytes
    return np.where(length > 0, last - start // atom_bytes + 1, 0)


def atoms_sequential(
    start_bytes: NDArray[np.int64], length_bytes: NDArray[np.int64] | NDArray[np.int32], atom_bytes: int
) -> int:
    """Distinct atoms of all placed lines read once in order, neighbours in the same atom fetched once."""
    start = np.asarray(start_bytes, dtype=np.int64)
    length = np.asarray(length_bytes, dtype=np.int64)
    start, length = start[length > 0], length[length > 0]
    if not start.size:
        return 0
    order = np.argsort(start, kind="stable")
    first = (start // atom_bytes)[order]
    last = ((start + length - 1) // atom_bytes)[order]
    reached = np.maximum.accumulate(last)
    before = np.concatenate(([np.int64(-1)], reached[:-1]))
    return int(np.maximum(last - np.maximum(first - 1, before), 0).sum())


def metadata_hit_rate_random(cache_bytes: int, entry_bytes: int, page_bytes: int, footprint_bytes: int) -> float:
    """Hit rate of uniformly random accesses over a footprint: the share of its pages that the cache holds."""
    if footprint_bytes <= 0:
        return 1.0
    return min(1.0, (cache_bytes // entry_bytes) * page_bytes / footprint_bytes)


ROW_BOUND = 0.75
"""Share of a plain random line's time above which the rows it opens, not the wires, are taken to bound it: a channel
reaches 80 to 99 % of the activate bound, and 60 % of its wires, where rows bind."""
PORT_BOUND = 0.97
"""Share of the port's rate above which the port, not the memory, is taken to bound the plain channel."""


@dataclass(frozen=True)
class Gains:
    """Closed-form gains over the plain channel; `ceiling_GBps` is the engine's or port's limit that was applied."""

    sequential: float
    random: float
    mixed: float
    capacity: float
    ceiling_GBps: float


def gains(
    *,
    line_bytes: int,
    atom_bytes: int,
    sequential_atoms_per_line: float,
    random_atoms_per_line: float,
    metadata_atoms_per_page: float,
    lines_per_page: int,
    metadata_hit_rate: float,
    packed_bytes_per_line: float,
    plain_sequential_GBps: float,
    plain_random_GBps: float,
    ceiling_GBps: float,
    port_GBps: float = float("inf"),
    peak_GBps: float = 0.0,
    random_share: float = 0.5,
    write_share: float = 0.0,
    write_atoms_per_line: float = 0.0,
    random_rows_per_line: float = 0.0,
    metadata_rows_per_page: float = 0.0,
    plain_rows_per_line: float = 1.0,
    row_ns: float = 0.0,
) -> Gains:
    """Gains by counting atoms and rows, each capped by what engine and port can deliver.

    sequential = raw atoms / (atoms per line + metadata atoms per line), one metadata miss a page;
    random = plain time / the greater of wires and rows. Wires: atoms per line + (1 - hit rate) × metadata atoms.
    Rows: the same count of rows opened, where plain random lines are bound by theirs (`ROW_BOUND` of their time at
    ``row_ns`` a row); the wires then move at what streams reach. Else by atoms alone;
    mixed = harmonic mean of the two by ``random_share``; a share ``write_share`` of lines costs
    ``write_atoms_per_line`` atoms (reads of a read-modify-write included) instead.
    ``plain_*_GBps`` enter through the ceiling; where the port already bounds the plain channel (97 % of
    ``port_GBps``), the memory behind is taken at its pin peak.
    """
    raw_atoms = line_bytes / atom_bytes
    sequential_cost = sequential_atoms_per_line + metadata_atoms_per_page / lines_per_page
    random_cost = random_atoms_per_line + (1.0 - metadata_hit_rate) * metadata_atoms_per_page

    def capped(gain: float, plain_GBps: float) -> float:
        if plain_GBps <= 0:
            return gain
        behind_GBps = max(plain_GBps, peak_GBps) if plain_GBps > PORT_BOUND * port_GBps else plain_GBps
        return min(gain * behind_GBps, ceiling_GBps) / plain_GBps

    sequential = capped(raw_atoms / sequential_cost if sequential_cost > 0 else float("inf"), plain_sequential_GBps)
    by_atoms = max(1.0, raw_atoms) / random_cost if random_cost > 0 else float("inf")
    line_ns = line_bytes / plain_random_GBps if plain_random_GBps > 0 else 0.0
    if plain_rows_per_line * row_ns > ROW_BOUND * line_ns > 0:
        rows = random_rows_per_line + (1.0 - metadata_hit_rate) * metadata_rows_per_page
        by_rows = plain_rows_per_line / rows if rows > 0 else float("inf")
        by_atoms = min(by_rows, by_atoms * plain_sequential_GBps / plain_random_GBps)
    random = capped(by_atoms, plain_random_GBps)
    # Time per line in units of raw atoms; a random atom takes longer than a sequential one on the plain channel.
    plain_time = (1 - random_share) / plain_sequential_GBps + random_share / plain_random_GBps
    read_time = (1 - random_share) / (sequential * plain_sequential_GBps) + random_share / (
        random * plain_random_GBps
    )
    write_time = write_atoms_per_line / raw_atoms / plain_random_GBps
    mixed_time = (1 - write_share) * read_time + write_share * write_time
    return Gains(
        sequential=sequential,
        random=random,
        mixed=plain_time / mixed_time,
        capacity=line_bytes / packed_bytes_per_line if packed_bytes_per_line > 0 else float("inf"),
        ceiling_GBps=ceiling_GBps,
    )


def latency_added_ns(
    *, decode_ns: float, ecc_ns: float, metadata_hit_ns: float, metadata_hit_rate: float, idle_read_ns: float
) -> float:
    """Mean latency added to an idle read: look-up, misses that cost one more read, ECC and decode."""
    return metadata_hit_ns + (1.0 - metadata_hit_rate) * idle_read_ns + ecc_ns + decode_ns
