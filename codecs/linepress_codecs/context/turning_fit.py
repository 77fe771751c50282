"""Fitting turning channels: the rotation from a sample, then means, deviations and slopes from every line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.context.channel import FloatShape, models, number, quantised
from linepress_codecs.context.order import LineOrder, order_of
from linepress_codecs.context.rotation import TURN, find_rotation
from linepress_codecs.context.turning import MOST_MEAN, QUARTER, SINE_BITS, TurningTables, partners, wave
from linepress_codecs.context.turning_kernels import HALF_STEP, INDEX_MASK, TO_INDEX
from linepress_codecs.contracts import Lines, Rotation
from linepress_codecs.tans.static import BLOCK_LINES, elements_of

SAMPLE_TOKENS = 1024
"""Tokens in which the rotation is searched."""
SAMPLE_CHANNELS = 1024
"""Channels, in whole heads, in which it is searched; one head at least."""
STRETCH = 512
"""Positions whose phase is taken as one when rates are refined over more tokens than the sample has."""
MOST_STRETCHES = 4096
_SUMS = 10


@njit(cache=True)
def _scatter(  # type: ignore[no-untyped-def]
    elements, channel, position, start, offset, later, span, in_runs, width, mantissa, top, infinite, unit, sample,
):  # fmt: skip
    """Values into float32[tokens, channels] at (position - start, channel), where those exist."""
    for i in range(elements.shape[0]):
        ahead = channel[i] % span
        for j in range(elements.shape[1]):
            at = channel[i] + offset[j]
            token = np.int64(position[i]) + later[j] - start
            if ahead + offset[j] >= span:
                at -= span
                token += not in_runs
            if 0 <= token < sample.shape[0] and at < sample.shape[1]:
                sample[token, at] = number(elements[i, j], width, mantissa, top, infinite, unit)


@njit(cache=True)
def _demodulate(  # type: ignore[no-untyped-def]
    elements, channel, position, start, stretch, steps, offset, later, span, in_runs, width, mantissa, top, infinite,
    unit, sines, sums,
):  # fmt: skip
    """Add to sums float64[stretches, n_channels, 3]: n, x cos, x sin of the channel's phase.

    steps uint64[n_channels].
    """
    for i in range(elements.shape[0]):
        ahead = channel[i] % span
        for j in range(elements.shape[1]):
            at = channel[i] + offset[j]
            token = np.int64(position[i]) + later[j]
            if ahead + offset[j] >= span:
                at -= span
                token += not in_runs
            x = number(elements[i, j], width, mantissa, top, infinite, unit)
            if x == 0.0 or at >= sums.shape[1]:
                continue
            index = np.int64(((np.uint64(token) * steps[at] + HALF_STEP) >> TO_INDEX) & INDEX_MASK)
            row = sums[min(max(token - start, 0) // stretch, sums.shape[0] - 1), at]
            row[0] += 1.0
            row[1] += x * sines[index + QUARTER]
            row[2] += x * sines[index]


@njit(cache=True)
def _residuals(  # type: ignore[no-untyped-def]
    elements, channel, position, steps, own, cross, before, offset, later, span, in_runs, width, mantissa, top,
    infinite, unit, sines, sums,
):  # fmt: skip
    """Add to sums float64[n_channels, 10]: `channel._gather`'s, of values less their means; the mean squared."""
    m = elements.shape[1]
    values = np.zeros(m)
    counted = np.zeros(m, np.bool_)
    for i in range(elements.shape[0]):
        ahead = channel[i] % span
        for j in range(m):
            at = channel[i] + offset[j]
            token = np.int64(position[i]) + later[j]
            if ahead + offset[j] >= span:
                at -= span
                token += not in_runs
            x = number(elements[i, j], width, mantissa, top, infinite, unit)
            counted[j] = False
            if x == 0.0 or at >= sums.shape[0]:
                continue
            index = np.int64(((np.uint64(token) * steps[at] + HALF_STEP) >> TO_INDEX) & INDEX_MASK)
            mean = own[at] * sines[index + QUARTER] + cross[at] * sines[index]
            x -= mean
            counted[j] = True
            values[j] = x
            row = sums[at]
            row[0] += 1.0
            row[1] += x
            row[2] += x * x
            row[9] += mean * mean
            b = before[j]
            if b >= 0 and counted[b]:
                row[3] += 1.0
                row[4] += values[b]
                row[5] += x
                row[6] += values[b] * values[b]
                row[7] += x * x
                row[8] += values[b] * x


class _Blocks:
    """The lines of a tensor block by block, with what the kernels above take."""

    def __init__(self, chunks: Iterable[Lines], streams: int) -> None:
        self.chunks = chunks
        self.streams = streams

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint64], Lines, LineOrder, FloatShape, NDArray[np.float64]]]:
        for lines in self.chunks:
            shape = FloatShape.of(lines.format)
            unit = np.ldexp(1.0, np.arange(shape.top + 1) - shape.bias - shape.mantissa)
            for at in range(0, len(lines), BLOCK_LINES):
                part = lines[at : at + BLOCK_LINES]
                elements = elements_of(part.data, part.format)
                yield elements, part, order_of(part, elements.shape[1], self.streams), shape, unit


def fit_turning(chunks: Iterable[Lines], streams: int) -> TurningTables | None:
    """Parameters of a tensor's turning channels; None if its lines have no positions or no pair is seen to turn."""
    extent = _extent(chunks)
    if extent is None:
        return None
    n_channels, dim, first, last, hint = extent
    blocks = _Blocks(chunks, streams)
    tokens = min(last - first + 1, SAMPLE_TOKENS)
    heads = max(1, min(n_channels, SAMPLE_CHANNELS) // dim)
    sample = np.zeros((tokens, heads * dim), np.float32)
    for elements, part, order, shape, unit in blocks:
        where = part.geometry
        assert where.channel is not None
        assert where.position is not None
        _scatter(
            elements, where.channel.astype(np.int64), where.position, first, order.offset, order.later, order.span,
            order.in_runs, np.uint64(shape.width), np.uint64(shape.mantissa), shape.top, shape.infinite, unit, sample,
        )  # fmt: skip
    found = find_rotation(sample, dim, hint)
    if found is None:
        return None
    rotation, gain = found
    every = gain * (last - first + 1) / tokens * n_channels / (heads * dim)
    if every < 32 * len(rotation.steps):
        return None
    stretches = min(-(-(last - first + 1) // STRETCH), MOST_STRETCHES) if last - first + 1 > tokens else 1
    stretch = -(-(last - first + 1) // stretches)
    sums = _demodulated(blocks, rotation, n_channels, first, stretch, stretches)
    if stretches > 1 and rotation != hint:
        rotation = _refined(sums, rotation, n_channels, stretch)
        sums = _demodulated(blocks, rotation, n_channels, first, stretch, 1)
    return _tables(blocks, rotation, sums.sum(axis=0))


def _extent(chunks: Iterable[Lines]) -> tuple[int, int, int, int, Rotation | None] | None:
    """(channels, channels of a head, first and last position, hint); None where lines do not turn."""
    n_channels, dim, first, last = 0, 0, 1 << 32, 0
    hint: Rotation | None = None
    for lines in chunks:
        where = lines.geometry
        if where.channel is None or where.position is None or not models(lines.format) or where.head_dim < 2:
            return None
        n_channels, dim, hint = max(n_channels, where.n_channels), where.head_dim, lines.rotation or hint
        if len(lines):
            first, last = min(first, int(where.position.min())), max(last, int(where.position.max()))
    if not dim or n_channels % dim or first > last:
        return None
    return n_channels, dim, first, last, hint


def _channel_steps(rotation: Rotation, n_channels: int) -> NDArray[np.uint64]:
    steps = np.array([*rotation.steps, 0], np.uint64)
    return steps[partners(rotation, n_channels)[2]]


def _demodulated(
    blocks: _Blocks, rotation: Rotation, n_channels: int, first: int, stretch: int, stretches: int
) -> NDArray[np.float64]:
    sums = np.zeros((stretches, n_channels, 3))
    steps = _channel_steps(rotation, n_channels)
    sines = wave().astype(np.float64) / (1 << SINE_BITS)
    for elements, part, order, shape, unit in blocks:
        where = part.geometry
        assert where.channel is not None
        assert where.position is not None
        _demodulate(
            elements, where.channel.astype(np.int64), where.position, first, stretch, steps, order.offset,
            order.later, order.span, order.in_runs, np.uint64(shape.width), np.uint64(shape.mantissa), shape.top,
            shape.infinite, unit, sines, sums,
        )  # fmt: skip
    return sums


def _means(sums: NDArray[np.float64], rotation: Rotation) -> NDArray[np.complex128]:
    """Means before the turning of each channel's pair, complex[..., n_channels], from sums[..., n_channels, 3]."""
    partner, side, pair = partners(rotation, sums.shape[-2])
    n = np.maximum(sums[..., 0], 1.0)
    cos, sin = sums[..., 1] / n, sums[..., 2] / n
    sign = np.where(side == 0, 1.0, -1.0)
    own = np.where(pair >= 0, cos + sign * sin[..., partner], cos)
    other = np.where(pair >= 0, cos[..., partner] - sign * sin, 0.0)
    out: NDArray[np.complex128] = np.where(side == 0, own + 1j * other, other + 1j * own)
    return out


def _refined(sums: NDArray[np.float64], rotation: Rotation, n_channels: int, stretch: int) -> Rotation:
    """Rates corrected by how the means found in the stretches still turn."""
    _partner, side, pair = partners(rotation, n_channels)
    means = _means(sums, rotation)
    steps = list(rotation.steps)
    size = 1 << (8 * len(sums) - 1).bit_length()
    for k in range(len(steps)):
        mine = means[:, (pair == k) & (side == 0)]
        power = (np.abs(np.fft.fft(mine, size, axis=0)) ** 2).sum(axis=1)
        at = int(power.argmax())
        turns = (at if at < size // 2 else at - size) / size / stretch
        steps[k] = round(steps[k] + turns * TURN) % TURN
    return replace(rotation, steps=tuple(steps))


def _tables(blocks: _Blocks, rotation: Rotation, sums: NDArray[np.float64]) -> TurningTables:
    n_channels = len(sums)
    partner, side, pair = partners(rotation, n_channels)
    means = _means(sums, rotation)
    own = np.where(side == 0, means.real, means.imag)
    cross = np.where(pair < 0, 0.0, np.where(side == 0, -means.imag, means.real))
    steps = _channel_steps(rotation, n_channels)
    sines = wave().astype(np.float64) / (1 << SINE_BITS)
    rest = np.zeros((n_channels, _SUMS))
    mantissa = 0
    for elements, part, order, shape, unit in blocks:
        where = part.geometry
        assert where.channel is not None
        assert where.position is not None
        mantissa = shape.mantissa
        _residuals(
            elements, where.channel.astype(np.int64), where.position, steps, own, cross, order.before, order.offset,
            order.later, order.span, order.in_runs, np.uint64(shape.width), np.uint64(shape.mantissa), shape.top,
            shape.infinite, unit, sines, rest,
        )  # fmt: skip
    typical = np.sqrt(rest[:, 9] / np.maximum(rest[:, 0], 1.0))
    level, widening, slope, cell = quantised(rest, np.zeros(n_channels), typical * 2.0**-mantissa)
    half_cells = np.clip(np.round(2 * own / np.minimum(cell, cell[partner])), -MOST_MEAN, MOST_MEAN)
    columns = np.stack([level, widening, half_cells, slope], axis=1).astype(np.int32)
    return TurningTables(columns, rotation)
