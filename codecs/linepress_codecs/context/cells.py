"""Cells of the number line and predictions between them: the integer arithmetic of the channel model.

A value's cell is an index that ascends with the value (see `context.rows`); predictions are in eighths of a cell.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.context.rows import NEAR, SMALL_CELLS
from linepress_codecs.tans.kernels import U0, U1

MOST_DOUBLINGS = 20
"""A value ``2**20`` cells or more from zero escapes, which bounds every integer below."""
ESCAPED = 1 << 40
"""Stands for the cell index of an escaped element."""
# Columns of the parameters of a channel, int32[n_channels, 6].
CELL_FIRST, CLASS_FIRST, MEAN_FIRST, CELL_NEXT, CLASS_NEXT, SLOPE = 0, 1, 2, 3, 4, 5
PARAMETERS = 6
SLOPE_SHIFT = 3
"""Slopes are in eighths."""
NEAR_CELLS = 512
"""Cell indices whose values are tabled for software; larger ones are computed."""


@lru_cache(maxsize=8)
def near_cells(mantissa: int) -> NDArray[np.int64]:
    """int64[NEAR_CELLS] by the size of a cell index: 64 * (magnitude less that of ``2**cell``) + raw bits.

    For normal numbers; where the number has more places than the mantissa the entry is so negative that the caller
    computes the value.
    """
    out = np.full(NEAR_CELLS, -(1 << 60), np.int64)
    for k in range(1, NEAR_CELLS):
        linear = max(k - SMALL_CELLS, 1)
        over = linear.bit_length() - 1 if k > SMALL_CELLS else k - SMALL_CELLS - 1
        raw_bits = mantissa - max(over, 0)
        if raw_bits >= 0:
            relative = (over << mantissa) + ((linear << raw_bits) & ((1 << mantissa) - 1))
            out[k] = 64 * relative + raw_bits
    return out


@njit(cache=True, inline="always")
def negate(value, mask):  # type: ignore[no-untyped-def]
    """``-value`` where mask is -1, ``value`` where it is 0; signs are as good as random, so no branch."""
    return (value ^ mask) - mask


@njit(cache=True, inline="always")
def middle(index):  # type: ignore[no-untyped-def]
    """Middle of a cell in eighths of a cell; of a small cell, 4 for the largest and 0 for the others."""
    mask = index >> 63
    return negate(max(8 * negate(index, mask) - (8 * SMALL_CELLS - 4), 0), mask)


@njit(cache=True)
def cell_of_rare(magnitude, cell, width, mantissa, bias):  # type: ignore[no-untyped-def]
    """(size of the cell index, raw bits) of any magnitude; `ESCAPED` where it has no cell."""
    if magnitude == U0:
        return 0, 1
    exponent = np.int64(magnitude >> mantissa)
    significand = np.int64(magnitude & ((U1 << mantissa) - U1))
    length = np.int64(mantissa) + 1
    if exponent > 0:
        significand |= np.int64(1) << np.int64(mantissa)
    else:
        exponent = np.int64(1)
        while (significand >> (length - 1)) == 0:
            length -= 1
    over = exponent - bias - np.int64(mantissa) + length - 1 - cell
    if over >= MOST_DOUBLINGS or over < -SMALL_CELLS:
        return ESCAPED, np.int64(width)
    if over < 0:
        return SMALL_CELLS + 1 + over, length - 1
    if over <= length - 1:
        return SMALL_CELLS + (significand >> (length - 1 - over)), length - 1 - over
    return SMALL_CELLS + (significand << (over - length + 1)), 0


@njit(cache=True, inline="always")
def cell_of(u, cell, width, mantissa, bias):  # type: ignore[no-untyped-def]
    """(cell index, raw bits) of element ``u``; index plus or minus `ESCAPED` where it has no cell."""
    magnitude = np.int64(u & ((U1 << (width - U1)) - U1))
    wide = np.int64(mantissa)
    exponent = magnitude >> wide
    over = exponent - bias - cell
    if exponent == 0 or over < -SMALL_CELLS or over > wide:
        k, raw = cell_of_rare(np.uint64(magnitude), cell, width, mantissa, bias)
    else:
        significand = (magnitude & ((1 << wide) - 1)) | (1 << wide)
        raw = wide - max(over, 0)
        k = SMALL_CELLS + (significand >> raw) + min(over, 0)
    return negate(k, -np.int64(u >> (width - U1))), np.uint64(raw)


@njit(cache=True)
def value_of(k, cell, width, mantissa, bias, top):  # type: ignore[no-untyped-def]
    """(magnitude with raw bits zero, raw bits or -1 if there is no such value) of a cell index size ``k``.

    Inverse of `cell_of`; an escape is an element of raw bits only, a zero a raw sign.
    """
    if k == ESCAPED:
        return np.int64(0), np.int64(width)
    if k == 0:
        return np.int64(0), np.int64(1)
    linear = np.int64(1)
    size = np.int64(1)
    over = k - SMALL_CELLS - 1
    if k > SMALL_CELLS:
        linear = k - SMALL_CELLS
        size = np.int64(0)
        while (linear >> size) != 0:
            size += 1
        over = size - 1
    wide = np.int64(mantissa)
    exponent = cell + over + bias
    length = wide + 1 if exponent >= 1 else wide + exponent
    if length < 1 or exponent > top:
        return np.int64(0), np.int64(-1)
    raw = max(length - size, 0)
    if length >= size:
        significand = linear << raw
    else:
        significand = linear >> (size - length)
        if (significand << (size - length)) != linear:
            return np.int64(0), np.int64(-1)
    if exponent >= 1:
        return (exponent << wide) | (significand & ((1 << wide) - 1)), raw
    return significand, raw


@njit(cache=True, inline="always")
def row_and_shift(prediction, first_row):  # type: ignore[no-untyped-def]
    """(row, cells the row is shifted by, mask -1 if it is mirrored) for a prediction in eighths of a cell."""
    mask = prediction >> 63
    cells = (negate(prediction, mask) + 4) >> 3
    near = min(cells, NEAR)
    return first_row + near, cells - near, mask


@njit(cache=True, inline="always")
def constants(p, base):  # type: ignore[no-untyped-def]
    """(slope, offset, mean, first row) with which `follow` predicts later elements of the channel at ``p[base]``."""
    slope = np.int64(p[base + SLOPE])
    mean = np.int64(p[base + MEAN_FIRST]) << (np.int64(p[base + CELL_FIRST]) - np.int64(p[base + CELL_NEXT]))
    return slope, (mean << SLOPE_SHIFT) - slope * mean + 4, mean, 1 + np.int64(p[base + CLASS_NEXT]) * (NEAR + 1)


@njit(cache=True, inline="always")
def follow(place, slope, offset):  # type: ignore[no-untyped-def]
    """Prediction after a value at ``place`` eighths of a cell: mean + (slope * (place - mean) + 4 >> 3)."""
    return (slope * place + offset) >> SLOPE_SHIFT
