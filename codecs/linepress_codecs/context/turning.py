"""Channels whose means turn in pairs with the position, as keys after a rotary embedding have them.

A pair's mean turns at a constant rate: from means ``a``, ``b`` before the turning, those of its two channels at
position t are ``a cos(t w) - b sin(t w)`` and ``b cos(t w) + a sin(t w)``. Phases count in 2^-32 turns and wrap;
sines come from a ROM of a quarter wave in 256 steps, so that every platform and a chip compute the same integers. The
rest of the model is that of `channel`: a level, a widening and a slope a channel.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.context.channel import COLUMNS, MOST_CHANNELS, read_columns, write_columns
from linepress_codecs.context.rows import CELLS_PER_SIGMA
from linepress_codecs.contracts import Rotation
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.tans.bits import BitReader, BitWriter

QUARTER = 256
"""Steps of a quarter wave."""
SINE_BITS = 14
MOST_MEAN = 8191
"""Means before the turning, in half cells of the finer of the pair's two channels; bounds a turned one to 31 bits."""
MOST_COARSER = 15
"""Octaves by which a channel's cell may exceed its partner's."""
# Columns of the parameters of a channel, int64[n_channels + 1, PARAMETERS].
CELL_FIRST, CLASS_FIRST, CELL_NEXT, CLASS_NEXT, SLOPE, OWN, CROSS, STEP, COARSER = range(9)
PARAMETERS = 9


@lru_cache(maxsize=1)
def sine_rom() -> NDArray[np.int32]:
    """int32[QUARTER + 1]: sine of a quarter wave in 2^-14, rounded to nearest."""
    sines = [math.sin(0.5 * math.pi * k / QUARTER) * (1 << SINE_BITS) for k in range(QUARTER + 1)]
    return np.array([math.floor(s + 0.5) for s in sines], np.int32)


@lru_cache(maxsize=1)
def wave() -> NDArray[np.int32]:
    """int32[5 QUARTER]: the ROM's sine over a whole wave and a quarter; the cosine is a quarter further on."""
    rom = sine_rom()
    up, down = rom[:QUARTER], rom[QUARTER:0:-1]
    return np.concatenate([up, down, -up, -down, up])


def partners(rotation: Rotation, n_channels: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(partner channel, side, pair) of each channel, int64[n_channels]; side 0 for ``a``, 1 for ``b``.

    Channels that do not turn are their own partner, of pair -1.
    """
    channel = np.arange(n_channels, dtype=np.int64)
    turning = 2 * len(rotation.steps)
    place = channel % max(rotation.head_dim, 1) - rotation.offset
    inside = (place >= 0) & (place < turning)
    if rotation.interleaved:
        side, pair = place % 2, place // 2
        partner = channel + 1 - 2 * side
    else:
        half = max(len(rotation.steps), 1)
        side, pair = place // half, place % half
        partner = channel + half - 2 * half * side
    return np.where(inside, partner, channel), np.where(inside, side, 0), np.where(inside, pair, -1)


class TurningTables:
    """Parameters of every channel of a tensor, and the rotation.

    Attributes
    ----------
    columns : int32[n_channels, 4]
        As `channel.COLUMNS`, but for the mean: that before the turning, in half cells (of first values) of the
        finer of the pair's channels.
    rotation : Rotation
        ``head_dim`` divides the number of channels.
    """

    def __init__(self, columns: NDArray[np.int32], rotation: Rotation) -> None:
        self.columns = columns
        self.rotation = rotation

    @property
    def n_channels(self) -> int:
        return len(self.columns)

    @cached_property
    def parameters(self) -> NDArray[np.int64]:
        """int64[n_channels + 1, PARAMETERS] as the kernels take them; the last row serves unknown channels."""
        columns = np.concatenate([self.columns.astype(np.int64), np.zeros((1, len(COLUMNS)), np.int64)])
        level, widening, mean, slope = columns.T
        first = level + widening
        log_cells = CELLS_PER_SIGMA.bit_length() - 1
        partner, side, pair = partners(self.rotation, self.n_channels)
        partner = np.append(partner, self.n_channels)
        cell = (first >> 2) - log_cells
        out = np.zeros((len(columns), PARAMETERS), np.int64)
        out[:, CELL_FIRST], out[:, CLASS_FIRST] = cell, first & 3
        out[:, CELL_NEXT], out[:, CLASS_NEXT] = (level >> 2) - log_cells, level & 3
        out[:, SLOPE], out[:, OWN] = slope, 4 * mean
        turns = np.append(pair, -1) >= 0
        out[:, CROSS] = np.where(turns, np.where(np.append(side, 0) == 0, -4, 4) * mean[partner], 0)
        steps = np.array([*self.rotation.steps, 0], np.int64)
        out[:, STEP] = steps[np.append(pair, -1)]
        out[:, COARSER] = np.minimum(cell - np.minimum(cell, cell[partner]), MOST_COARSER)
        return out

    def rows_of(self, channel: NDArray[np.uint32] | None, n: int) -> NDArray[np.int64]:
        """Row of `parameters` for each of ``n`` lines."""
        if channel is None:
            return np.full(n, self.n_channels, np.int64)
        return np.minimum(channel.astype(np.int64), self.n_channels)

    def write(self, out: BitWriter) -> None:
        """The rotation, then each column as `ChannelTables` has it."""
        rotation = self.rotation
        out.gamma(self.n_channels + 1)
        out.gamma(rotation.head_dim)
        out.gamma(rotation.offset + 1)
        out.gamma(len(rotation.steps) + 1)
        out.write(int(rotation.interleaved), 1)
        out.write_many(rotation.steps, 32)
        write_columns(out, self.columns)

    @classmethod
    def read(cls, source: BitReader) -> TurningTables:
        """Inverse of `write`; raises `CorruptDataError` on anything no encoder wrote."""
        n = source.gamma() - 1
        if not 0 < n <= MOST_CHANNELS:
            raise CorruptDataError(f"{n} turning channels, but a tensor has 1 to {MOST_CHANNELS}")
        dim, offset, pairs = source.gamma(), source.gamma() - 1, source.gamma() - 1
        if n % dim or not pairs > 0 or offset + 2 * pairs > dim:
            raise CorruptDataError(
                f"{pairs} turning pairs from channel {offset} on do not fit heads of {dim} in {n} channels"
            )
        interleaved = bool(source.read(1))
        steps = tuple(int(v) for v in source.read_many(pairs, 32))
        columns = read_columns(source, n, MOST_MEAN)
        return cls(columns, Rotation(dim, offset, interleaved, steps))
