"""What a design is given and what it must answer, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


def words_of(bits: int) -> int:
    """32-bit words that hold so many bits."""
    return -(-bits // 32)


def fitted(words: NDArray[np.uint32], width: int) -> NDArray[np.uint32]:
    """Rows cut to ``width`` words, or extended by zeros."""
    out = np.zeros((len(words), width), np.uint32)
    out[:, : words.shape[1]] = words[:, :width]
    return out


@dataclass(frozen=True)
class Vectors:
    """``n`` lines and the table writes that come first.

    Attributes
    ----------
    config : list of (address, data)
    given : uint32[n, words]
        Bits of ``line``, low bits first; random behind the line's end.
    size : uint32[n]
    wanted : uint32[n, words]
    wanted_bits : uint32[n]
        Bits of ``data`` that must be as wanted; an encoder must give them as ``out_size`` too.
    error : bool[n]
        Whether the line must be refused; ``wanted`` is then not compared.
    """

    config: list[tuple[int, int]]
    given: NDArray[np.uint32]
    size: NDArray[np.uint32]
    wanted: NDArray[np.uint32]
    wanted_bits: NDArray[np.uint32]
    error: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.size)

    def taken(self, at: NDArray[np.int64]) -> Vectors:
        """The lines at these places, in this order."""
        return replace(
            self,
            given=self.given[at],
            size=self.size[at],
            wanted=self.wanted[at],
            wanted_bits=self.wanted_bits[at],
            error=self.error[at],
        )

    def joined(self, other: Vectors) -> Vectors:
        """These lines, then those of ``other`` (same tables)."""
        return replace(
            self,
            given=np.concatenate([self.given, other.given]),
            size=np.concatenate([self.size, other.size]),
            wanted=np.concatenate([self.wanted, other.wanted]),
            wanted_bits=np.concatenate([self.wanted_bits, other.wanted_bits]),
            error=np.concatenate([self.error, other.error]),
        )

    def masked(self) -> NDArray[np.uint32]:
        """``wanted`` with zeros from ``wanted_bits`` on."""
        left = np.clip(self.wanted_bits[:, None].astype(np.int64) - 32 * np.arange(self.wanted.shape[1]), 0, 32)
        mask: NDArray[np.uint32] = ((np.int64(1) << left) - 1).astype(np.uint32)
        return self.wanted & mask


@dataclass(frozen=True)
class Outcome:
    """How a design did.

    Attributes
    ----------
    differ : int
        Lines whose data, size or error flag is not as wanted.
    first : int
        The first of them, -1 where there is none.
    cycles_least, cycles_most : int
        Clocks from a line's acceptance to its answer.
    interval : float
        Clocks a line while lines are offered without a pause.
    """

    simulator: str
    lines: int
    refused: int
    differ: int
    first: int
    cycles_least: int
    cycles_most: int
    interval: float
    build_s: float
    run_s: float

    def after(self, other: Outcome) -> Outcome:
        """Both, ``other`` having run first: places count on, the interval is the first run's."""
        first = self.first if self.first < 0 else other.lines + self.first
        return replace(
            other,
            lines=other.lines + self.lines,
            refused=other.refused + self.refused,
            differ=other.differ + self.differ,
            first=other.first if other.first >= 0 else first,
            cycles_least=min(other.cycles_least, self.cycles_least),
            cycles_most=max(other.cycles_most, self.cycles_most),
            run_s=other.run_s + self.run_s,
        )
