"""The fixed distributions of the channel model: a normal density over cells of the number line.

A channel's values are seen in *cells*. With the channel's cell exponent ``q``, cell widths are ``2**q`` from one cell
up (linear), and halve towards zero below it (one cell an exponent, `SMALL_CELLS` of them). A cell has an index that
ascends with the value; 0 is exact zero. What lies inside a cell is close to uniform and is stored raw.

The distribution of the next cell is normal around a prediction, with standard deviation
``CELLS_PER_SIGMA * 2**(class / 4)`` cells, class 0..3: a deviation is known to a quarter of an octave, which costs at
most 0.004 bits a value. A twentieth part of the mass has twice the deviation, so that outliers cost little. Rows are
mirrored for negative predictions, and beyond `NEAR` cells they only shift. They are the same for every tensor: a
decoder holds them in ROM, and they cost no bytes of tables.

The normal distribution function is computed with additions, multiplications and divisions only, which IEEE 754
rounds alike everywhere, so that the frequencies do not depend on a platform's mathematical library.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.tans.kernels import MODE_CODED, MODE_RAW, MODE_ZERO
from linepress_codecs.tans.tables import RESERVED_BITS, ROW_SYMBOLS, Machine, build

SMALL_CELLS = 8
"""Cells below the linear ones: exponents q - 1 down to q - 8."""
NEAR = 16
"""Largest prediction in cells that has a row of its own."""
SIGMA_CLASSES = 4
CELLS_PER_SIGMA = 2
OFFSET = 64
"""Symbol of cell index 0; symbols are index + OFFSET (after mirroring and shifting)."""
CELL_SYMBOLS = 159
"""Symbols 0 to 158 stand for cells."""
ESCAPE_SYMBOL = 255
"""Symbol of a value that is too far, too small or not finite: the whole element follows raw."""
WIDE_SHARE, WIDE_FACTOR = 0.05, 2.0
"""Share of the mass that has ``WIDE_FACTOR`` times the deviation (flat optimum on keys and values: 1.6421 to 1.6424
with a share of 0.02 to 0.05)."""
ROWS = SIGMA_CLASSES * (NEAR + 1)
QUARTER_OCTAVES = np.array([1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429])
"""2^(k/4) to double precision, as constants."""


def normal_cdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal distribution function to 1e-12, by the series of Marsaglia (2004) for ``|z| < 7``.

    Phi(z) = 1/2 + phi(z) (z + z^3/3 + z^5/15 + …); outside, 0 or 1. Only IEEE-exact operations are used.
    """
    z = np.clip(np.asarray(z, np.float64), -7.0, 7.0)
    square = z * z
    term = z.copy()
    total = z.copy()
    for k in range(1, 120):
        term = term * square / (2.0 * k + 1.0)
        total = total + term
    # exp(-z^2 / 2) = (exp(-z^2 / 2 / 64))^64 by its series, squared six times.
    small = square / 128.0
    factor = np.ones_like(small)
    power = np.ones_like(small)
    for k in range(1, 16):
        power = power * (-small) / float(k)
        factor = factor + power
    for _ in range(6):
        factor = factor * factor
    value = 0.5 + total * factor * 0.3989422804014327
    return np.minimum(np.maximum(value, 0.0), 1.0)


def cell_edges(index: int) -> tuple[float, float]:
    """(lower, upper) edge of the cell, in cell widths; index 0 (exact zero) is empty."""
    if index == 0:
        return 0.0, 0.0
    k = abs(index)
    if k <= SMALL_CELLS:
        low, high = 2.0 ** (k - 1 - SMALL_CELLS), 2.0 ** (k - SMALL_CELLS)
    else:
        low, high = float(k - SMALL_CELLS), float(k - SMALL_CELLS + 1)
    return (low, high) if index > 0 else (-high, -low)


def row_frequencies(precision: int) -> NDArray[np.int32]:
    """Frequencies of all rows, int32[ROWS, 256]; row = class * (NEAR + 1) + prediction in cells."""
    size = 1 << precision
    edges = np.array([cell_edges(s - OFFSET) for s in range(CELL_SYMBOLS)])
    out = np.zeros((ROWS, ROW_SYMBOLS), np.int32)
    for c in range(SIGMA_CLASSES):
        sigma = CELLS_PER_SIGMA * QUARTER_OCTAVES[c]
        for near in range(NEAR + 1):
            z = (edges - near) / sigma
            mass = (1.0 - WIDE_SHARE) * (normal_cdf(z[:, 1]) - normal_cdf(z[:, 0]))
            mass = mass + WIDE_SHARE * (normal_cdf(z[:, 1] / WIDE_FACTOR) - normal_cdf(z[:, 0] / WIDE_FACTOR))
            row = out[c * (NEAR + 1) + near]
            share = mass * size
            row[:CELL_SYMBOLS] = np.where(share >= 0.5, np.maximum(np.floor(share + 0.5), 1.0), 0.0)
            # Exact zeros get the smallest frequency; padding and sparse activations hold them.
            row[OFFSET] = 1
            kept = float(mass[row[:CELL_SYMBOLS] > 0].sum())
            row[ESCAPE_SYMBOL] = max(1, int(np.floor(size * (1.0 - kept) + 0.5)))
            # The rounding residue goes round the most frequent symbols, where a unit costs least.
            order = np.argsort(-row[:CELL_SYMBOLS], kind="stable")
            at = 0
            while (left := size - int(row.sum())) != 0:
                row[order[at % 8]] += 1 if left > 0 else -1
                at += 1
    return out


@lru_cache(maxsize=4)
def channel_machine(precision: int) -> Machine:
    """tANS machine with the mode row first (raw 1, zero reserved, else coded), then every channel row."""
    size = 1 << precision
    zero = size >> RESERVED_BITS
    head = np.zeros((1, ROW_SYMBOLS), np.int32)
    head[0, [MODE_RAW, MODE_ZERO, MODE_CODED]] = (1, zero, size - zero - 1)
    return build(np.concatenate([head, row_frequencies(precision)]), precision, MODE_ZERO)
