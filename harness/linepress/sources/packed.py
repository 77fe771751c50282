"""Whether wide integers are several narrow ones packed together, told by their content."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES = 1 << 16
"""Bytes looked at where only the content can tell a width."""


def narrower(raw: NDArray[np.uint8], item_bytes: int) -> int | None:
    """4 or 8 where wide integers are several narrow ones of one distribution, None where they are what they seem.

    All nibbles (or bytes) of an item are compared with their common distribution by the chi-square test at six
    standard deviations. Uniform fields carry no statistics to get wrong, so they count as what they seem.
    """
    items = raw[: len(raw) // item_bytes * item_bytes].reshape(-1, item_bytes)
    if len(items) < 256 or item_bytes < 2:
        return None
    nibbles = np.stack([items & 15, items >> 4], axis=2).reshape(len(items), -1)
    for bits, fields in ((4, nibbles), (8, items)):
        counts = np.stack([np.bincount(column, minlength=1 << bits) for column in fields.T]).astype(np.float64)
        if _alike(counts) and not _alike(
            np.stack([counts.sum(axis=0), np.full(1 << bits, counts.sum() / (1 << bits))])
        ):
            return bits
    return None


def _alike(counts: NDArray[np.float64]) -> bool:
    """Whether rows of counts are draws of one distribution: chi-square within six standard deviations of its mean."""
    rows, columns = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True)
    expected = rows * columns / counts.sum()
    used = expected > 0
    if int((columns > 0).sum()) < 2:
        return False
    freedom: int = (counts.shape[0] - 1) * (int((columns > 0).sum()) - 1)
    statistic = float((((counts - expected) ** 2)[used] / expected[used]).sum())
    # neighbouring weights are not quite independent draws, so the test is widened by half
    return statistic < 1.5 * (freedom + 6 * math.sqrt(2 * freedom))
