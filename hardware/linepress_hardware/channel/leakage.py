"""What an observer of a compressed memory learns of a line's content, in bits, and what padding costs.

Size and atoms of a line are functions of its content (and, for atoms, of what lies before it). Observing X of a line
whose coded size is S tells I(S; X) bits of it, at most H(S): the mutual information of the plug-in (empirical)
distribution of the tile, which is biased upwards by about (cells − 1) / (2 n ln 2) bits (Miller, Madow). Time has
many values, so that the bias is taken off: what the same times say of sizes they do not belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.config import LINE_BYTES
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class Leakage:
    """Bits a line.

    Attributes
    ----------
    coded_bits : float
        Entropy of the coded size in bits: what the codec itself gives away.
    stored_bits : float
        Of it, what the stored bytes tell (an observer of the metadata, or of time at the finest).
    atoms_bits : float
        Of it, what the atoms of a lone read tell (an observer of the bus).
    time_bits : float
        Of it, what the latency of one lone read tells, in whole clocks of the port (a timer at the master): rows,
        refresh and metadata misses hide some of it, the decoder that raw lines pass by gives some away.
    """

    coded_bits: float
    stored_bits: float
    atoms_bits: float
    time_bits: float


def entropy_bits(values: NDArray[np.integer]) -> float:
    """Plug-in entropy of the values of an array, in bits."""
    if not values.size:
        raise ConfigurationError("the entropy of no lines is not defined; give at least one")
    share = np.unique(values, return_counts=True)[1] / values.shape[0]
    return float(-(share * np.log2(share)).sum()) + 0.0


def mutual_bits(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Plug-in mutual information of two arrays of one length, in bits: H(A) + H(B) − H(A, B)."""
    if a.shape != b.shape:
        raise ConfigurationError(f"{a.shape[0]} sizes but {b.shape[0]} observations; give one each")
    joint = np.unique(np.stack([a, b]).astype(np.int64), axis=1, return_inverse=True)[1].reshape(-1)
    return max(0.0, entropy_bits(a) + entropy_bits(b) - entropy_bits(joint))


def unbiased_bits(a: NDArray[np.integer], b: NDArray[np.integer], seed: int = 0) -> float:
    """`mutual_bits` less what is left of it when ``b`` is shuffled, so that nothing is true any more; at least 0.

    Too little where values are too many for the samples: keep their product well below the number of lines.
    """
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(b)
    return max(0.0, mutual_bits(a, b) - mutual_bits(a, shuffled))


def leakage(
    coded: NDArray[np.integer],
    stored: NDArray[np.integer],
    atoms: NDArray[np.integer],
    timed: NDArray[np.integer],
    clocks: NDArray[np.integer],
) -> Leakage:
    """From coded bits, stored bytes and atoms of a lone read of each line; and of the lines that were timed, coded
    bits and clocks of one lone read each."""
    return Leakage(
        entropy_bits(coded), mutual_bits(coded, stored), mutual_bits(coded, atoms), unbiased_bits(timed, clocks)
    )


def padded(coded_bytes: NDArray[np.integer], slot: int, line_bytes: int = LINE_BYTES) -> tuple[float, float]:
    """(bits a line, capacity without metadata) with every line in a slot, and a raw line more for one larger."""
    if not 1 <= slot <= line_bytes:
        raise ConfigurationError(f"a slot of {slot} B must be 1 to {line_bytes} B")
    over = coded_bytes > slot
    more = line_bytes * float(over.mean()) if slot < line_bytes else 0.0
    return (entropy_bits(over.astype(np.int8)) if slot < line_bytes else 0.0), line_bytes / (slot + more)


def padding_price(
    coded_bytes: NDArray[np.integer], most_bits: float, line_bytes: int = LINE_BYTES
) -> tuple[int, float, float]:
    """The slot with the most capacity of those that leak at most ``most_bits`` a line: (slot, bits, capacity)."""
    found = [(slot, *padded(coded_bytes, slot, line_bytes)) for slot in range(1, line_bytes + 1)]
    return max((f for f in found if f[1] <= most_bits), key=lambda f: f[2])
