"""Fault injection against the truth: what a code corrects, detects, gets wrong or does not see.

A fault hits memory granules (code words). Words hold seeded random data, are encoded, damaged and decoded; the
decoder's verdict is then held against the data that was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.ecc import CORRECTED, DETECTED, Code
from linepress_hardware.errors import ConfigurationError

FAULT_KINDS = ("bit", "double_bit", "burst", "row", "metadata")
"""One bit; two random bits of a word; 2 to 16 adjacent bits of a word; every word of a row with random bits, as a
failed word line; a burst in a metadata entry."""

OUTCOMES = ("corrected", "detected", "miscorrected", "silent")
BURST_MAX_BITS = 16
"""HBM3's on-die code is specified for 16-bit errors in a sub-word line (IEEE 16 GB 1,024 GB/s HBM3 paper)."""


@dataclass(frozen=True)
class FaultOutcome:
    """Damaged words of a campaign, one entry a word.

    Attributes
    ----------
    fault : int64[w]
        Fault each word belongs to.
    kind : int8[f]
        Index into `FAULT_KINDS` of each fault.
    granule : int64[w]
        Granule (word number in the data, or in the metadata for metadata faults).
    outcome : int8[w]
        Index into `OUTCOMES`.
    syndrome : uint32[w]
    """

    fault: NDArray[np.int64]
    kind: NDArray[np.int8]
    granule: NDArray[np.int64]
    outcome: NDArray[np.int8]
    syndrome: NDArray[np.uint32]

    def worst(self) -> NDArray[np.int8]:
        """int8[f]: worst outcome over the words of each fault."""
        worst = np.zeros(self.kind.shape[0], np.int8)
        np.maximum.at(worst, self.fault, self.outcome)
        return worst

    def counts(self) -> dict[str, dict[str, int]]:
        """Faults by kind and worst outcome; each kind's outcomes add up to its ``injected``."""
        worst = self.worst()
        table: dict[str, dict[str, int]] = {}
        for k, name in enumerate(FAULT_KINDS):
            mine = worst[self.kind == k]
            by = np.bincount(mine, minlength=len(OUTCOMES))
            table[name] = {"injected": int(mine.size), **{o: int(c) for o, c in zip(OUTCOMES, by, strict=True)}}
        return table

    def totals(self) -> dict[str, int]:
        """Faults by worst outcome, all kinds together."""
        by = np.bincount(self.worst(), minlength=len(OUTCOMES))
        return {"injected": int(self.kind.size), **{o: int(c) for o, c in zip(OUTCOMES, by, strict=True)}}


def inject(
    code: Code,
    faults: Mapping[str, int],
    *,
    granules: int,
    metadata_granules: int = 0,
    row_bytes: int = 1024,
    seed: int,
) -> FaultOutcome:
    """Damage ``faults[kind]`` places each and decode; places are uniform over the granules.

    Parameters
    ----------
    code : Code
    faults : Mapping[str, int]
        Number of faults by kind of `FAULT_KINDS`.
    granules, metadata_granules : int
        Code words of data and of metadata. Metadata faults need metadata.
    row_bytes : int
        Data bytes of a row, for row faults.
    seed : int
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    unknown = set(faults) - set(FAULT_KINDS)
    if unknown:
        raise ConfigurationError(f"unknown fault kind {sorted(unknown)[0]!r}: known are {', '.join(FAULT_KINDS)}")
    if granules <= 0 or any(n < 0 for n in faults.values()):
        raise ConfigurationError("a fault campaign needs code words to hit and counts of 0 or more")
    if faults.get("metadata", 0) and metadata_granules <= 0:
        raise ConfigurationError("metadata faults need metadata; set their count to 0 for a memory without")
    owner: list[NDArray[np.int64]] = []
    place: list[NDArray[np.int64]] = []
    flips: list[NDArray[np.uint8]] = []
    kinds: list[NDArray[np.int8]] = []
    width = code.data_bytes + code.check_bytes
    done = 0
    for k, name in enumerate(FAULT_KINDS):
        n = int(faults.get(name, 0))
        if not n:
            continue
        kinds.append(np.full(n, k, np.int8))
        ids = done + np.arange(n, dtype=np.int64)
        if name == "row":
            words = max(1, row_bytes // code.data_bytes)
            rows = max(1, granules // words)
            first = rng.integers(0, rows, n, dtype=np.int64) * words
            owner.append(np.repeat(ids, words))
            place.append((first[:, None] + np.arange(words)[None, :]).reshape(-1) % granules)
            flips.append(_random_damage(rng, n * words, width))
        else:
            owner.append(ids)
            place.append(rng.integers(0, metadata_granules if name == "metadata" else granules, n, dtype=np.int64))
            flips.append(_damage(rng, name, n, width))
        done += n
    if not done:
        empty = np.empty(0, np.int64)
        return FaultOutcome(empty, np.empty(0, np.int8), empty.copy(), np.empty(0, np.int8), np.empty(0, np.uint32))
    fault, granule, mask = np.concatenate(owner), np.concatenate(place), np.concatenate(flips)
    truth = rng.integers(0, 256, (fault.shape[0], code.data_bytes), dtype=np.uint8)
    decoded = code.decode(code.encode(truth) ^ mask)
    wrong = (decoded.data != truth).any(axis=1)
    outcome = np.where(
        decoded.status == DETECTED, 1, np.where(~wrong, 0, np.where(decoded.status == CORRECTED, 2, 3))
    ).astype(np.int8)
    return FaultOutcome(fault, np.concatenate(kinds), granule, outcome, decoded.syndrome)


def _damage(rng: np.random.Generator, kind: str, n: int, width: int) -> NDArray[np.uint8]:
    """Flip masks uint8[n, width] of one kind."""
    bits = 8 * width
    mask = np.zeros((n, bits), np.uint8)
    rows = np.arange(n)
    first = rng.integers(0, bits, n)
    if kind in ("bit", "double_bit"):
        mask[rows, first] = 1
        if kind == "double_bit":
            mask[rows, (first + 1 + rng.integers(0, bits - 1, n)) % bits] = 1
    else:
        length = rng.integers(2, BURST_MAX_BITS + 1, n)
        begin = rng.integers(0, bits - length + 1)
        at = np.arange(bits)[None, :]
        inside = (at >= begin[:, None]) & (at < (begin + length)[:, None])
        ends = (at == begin[:, None]) | (at == (begin + length - 1)[:, None])
        mask = (inside & ((rng.random((n, bits)) < 0.5) | ends)).astype(np.uint8)
    return np.packbits(mask, axis=1, bitorder="little")


def _random_damage(rng: np.random.Generator, n: int, width: int) -> NDArray[np.uint8]:
    """Words of random bits, none of them untouched."""
    mask = rng.integers(0, 256, (n, width), dtype=np.uint8)
    mask[~mask.any(axis=1), 0] = 1
    return mask


@dataclass(frozen=True)
class BlastRadius:
    """What one uncorrected code word costs.

    Attributes
    ----------
    values : float
        Values lost per data word: every value of every line that touches it.
    plain_values : float
        The same without compression: the values of the word itself.
    lines : float
        Lines that touch an average occupied word.
    metadata_values : float
        Values lost with one uncorrected metadata entry (0 without metadata).
    """

    values: float
    plain_values: float
    lines: float
    metadata_values: float


def blast_radius(
    start_bytes: NDArray[np.int64],
    length_bytes: NDArray[np.int32],
    code: Code,
    *,
    value_bytes: int,
    line_bytes: int = 64,
    lines_per_metadata_entry: int = 0,
) -> BlastRadius:
    """Mean over the occupied words: one wrong bit in a coded line loses the line."""
    if value_bytes <= 0:
        raise ConfigurationError(f"value_bytes = {value_bytes} must be positive")
    word = code.data_bytes
    length = np.asarray(length_bytes, np.int64)
    has = length > 0
    start, length = np.asarray(start_bytes, np.int64)[has], length[has]
    per_line = line_bytes / value_bytes
    plain = word / value_bytes
    if not start.size:
        return BlastRadius(0.0, plain, 0.0, lines_per_metadata_entry * per_line)
    first, last = start // word, (start + length - 1) // word
    touches = np.zeros(int(last.max()) + 2, np.int64)
    np.add.at(touches, first, 1)
    np.add.at(touches, last + 1, -1)
    per_word = np.cumsum(touches)
    lines = float(per_word[per_word > 0].mean())
    return BlastRadius(lines * per_line, plain, lines, lines_per_metadata_entry * per_line)
