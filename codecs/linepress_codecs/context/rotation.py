"""Finding how a tensor's channels turn: periodograms of channel pairs over a sample of its tokens.

A pair (x, y) of channels that a rotary embedding turned is, as the complex x + iy, a constant times ``exp(i w t)``
plus noise. Its rate w is where the periodogram peaks; the pairing is the one whose peaks explain most. Where one base
explains the rates of all pairs (``w = base^(-i / pairs)`` radians), the rates of pairs that turn too slowly or too
faintly to be seen are taken from it; a scaled rotation keeps the rates found pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Rotation

Samples = NDArray[np.float32]
TURN = 1 << 32
PADDING = 4
"""Periodogram points per token sampled."""
SHARES = ((1, 1), (3, 4), (1, 2), (2, 5), (1, 4))
"""Turning shares of a head that models have (all, and the partial ones of GPT-NeoX, Phi and others)."""
TAILS = (32, 64)
"""Turning channels at the end of a head or latent (multi-head latent attention)."""
FAINT_BITS = 24.0
"""A rate of its own must explain this much more than the base's."""


def steps_of(base: float, pairs: int) -> tuple[int, ...]:
    """Phase steps of the plain rotation ``base^(-i / pairs)`` radians a position, in 2^-32 turns."""
    return tuple(round(base ** (-i / pairs) / (2 * math.pi) * TURN) % TURN for i in range(pairs))


def find_rotation(sample: Samples, head_dim: int, hint: Rotation | None) -> tuple[Rotation, float] | None:
    """The rotation that explains most, and the bits it explains of the sample beyond constant means.

    Parameters
    ----------
    sample : float32[tokens, channels]
        Values of whole heads at consecutive positions; 0 where unknown.
    head_dim : int
    hint : Rotation | None
        Taken where the data do not clearly speak against it.

    None where the sample has too few tokens or no pair that turns.
    """
    tokens, channels = sample.shape
    if tokens < 32 or head_dim < 2 or channels < head_dim:
        return None
    spectrum = _Spectrum(sample)
    found = [(r, spectrum.gain(r, rates)) for r, rates in _searched(spectrum, head_dim)]
    if hint is not None and hint.head_dim == head_dim:
        told = spectrum.gain(hint, np.array(hint.steps) / TURN)
        if all(told >= 0.98 * gain for _, gain in found):
            found = [(hint, told)]
    rotation, gain = max(found, key=lambda pair: pair[1])
    return (rotation, gain) if gain > 0 else None


def _searched(spectrum: _Spectrum, dim: int) -> Iterator[tuple[Rotation, NDArray[np.float64]]]:
    """The best pairing with its rates in turns a token: of one base where one explains them, else pair by pair."""
    pairings = list(_pairings(dim))
    best = max(pairings, key=spectrum.coarse)
    pairs = len(best.steps)
    free, free_bits = spectrum.peaks(best)
    base = _base(spectrum, best)
    plain = np.array(steps_of(base, pairs)) / TURN
    plain_bits = spectrum.bits(best, plain)
    own = free_bits > plain_bits + np.maximum(FAINT_BITS, 0.03 * np.abs(plain_bits))
    rates = np.where(own, free, plain)
    steps = tuple(round(rate * TURN) % TURN for rate in rates)
    yield Rotation(dim, best.offset, best.interleaved, steps), np.array(steps) / TURN


def _pairings(dim: int) -> Iterator[Rotation]:
    """Every pairing tried, with steps of zero."""
    yield Rotation(dim, 0, True, (0,) * (dim // 2))
    for part, whole in SHARES:
        if dim * part % (2 * whole) == 0:
            yield Rotation(dim, 0, False, (0,) * (dim * part // (2 * whole)))
    for turning in TAILS:
        if turning < dim:
            yield Rotation(dim, dim - turning, False, (0,) * (turning // 2))
            yield Rotation(dim, dim - turning, True, (0,) * (turning // 2))


class _Spectrum:
    """Fourier transforms of every channel of a sample, and what rates explain of its pairs."""

    def __init__(self, sample: Samples) -> None:
        self.tokens = sample.shape[0]
        self.values = sample.astype(np.float64).T
        self.energy = (self.values**2).sum(axis=1) + 1e-30
        size = 1 << (PADDING * self.tokens - 1).bit_length()
        self.size = size
        self.transform = np.fft.rfft(self.values, size, axis=1)
        self.constant = self._explained(self.values.sum(axis=1) ** 2 / self.tokens / self.energy) / 2

    def _explained(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bits that a share of the energy of two values a token is worth."""
        out: NDArray[np.float64] = -self.tokens * np.log2(np.maximum(1.0 - share, 1e-6))
        return out

    def _sides(self, rotation: Rotation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Channels of the first and second side, int64[pairs, heads]."""
        heads = len(self.values) // rotation.head_dim
        pairs = len(rotation.steps)
        pair = np.arange(pairs)[:, None]
        start = rotation.head_dim * np.arange(heads)[None, :] + rotation.offset
        if rotation.interleaved:
            return start + 2 * pair, start + 2 * pair + 1
        return start + pair, start + pair + pairs

    def _still(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = (self.constant[a] + self.constant[b]).sum(axis=1)
        return out

    def bits(self, rotation: Rotation, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bits that rates (turns a token), float64[pairs], explain of each pair beyond constant means."""
        a, b = self._sides(rotation)
        wave = np.exp(-2j * np.pi * rates[:, None] * np.arange(self.tokens))
        seen = np.einsum("pht,pt->ph", self.values[a] + 1j * self.values[b], wave)
        share = np.abs(seen) ** 2 / self.tokens / (self.energy[a] + self.energy[b])
        out: NDArray[np.float64] = self._explained(share).sum(axis=1) - self._still(a, b)
        return out

    def gain(self, rotation: Rotation, rates: NDArray[np.float64]) -> float:
        return float(self.bits(rotation, rates).sum())

    def _power(self, rotation: Rotation) -> NDArray[np.float64]:
        """Bits explained at every point of the periodogram, float64[pairs, points]."""
        a, b = self._sides(rotation)
        out = np.zeros((a.shape[0], self.transform.shape[1]))
        for h in range(a.shape[1]):
            seen = np.abs(self.transform[a[:, h]] + 1j * self.transform[b[:, h]]) ** 2
            energy = (self.energy[a[:, h]] + self.energy[b[:, h]])[:, None]
            out += self._explained(seen / self.tokens / energy)
        return out

    def coarse(self, rotation: Rotation) -> float:
        """What the best points of the periodogram explain beyond constant means."""
        a, b = self._sides(rotation)
        return float(np.maximum(self._power(rotation).max(axis=1) - self._still(a, b), 0.0).sum())

    def peaks(self, rotation: Rotation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(rate, bits) of each pair's peak, refined between the points of the periodogram."""
        rates = self._power(rotation).argmax(axis=1) / self.size
        width = 1.0 / self.size
        best = self.bits(rotation, rates)
        while width > 1e-3 / self.size:
            width /= 2
            for side in (-width, width):
                moved = np.maximum(rates + side, 0.0)
                bits = self.bits(rotation, moved)
                rates, best = np.where(bits > best, moved, rates), np.maximum(bits, best)
        return rates, best


def _base(spectrum: _Spectrum, rotation: Rotation) -> float:
    """The base whose plain rotation explains most: a grid over 10^3 to 10^8, then a search between its points."""
    pairs = len(rotation.steps)
    power = spectrum._power(rotation)
    grid = np.linspace(math.log(1e3), math.log(1e8), 1000)
    exponent = -np.arange(pairs) / pairs
    points = np.exp(grid[:, None] * exponent) / (2 * math.pi) * spectrum.size
    score = power[np.arange(pairs), np.round(points).astype(np.int64)].sum(axis=1)
    at = float(grid[int(score.argmax())])
    width = float(grid[1] - grid[0])

    def bits(where: float) -> float:
        return spectrum.gain(rotation, np.exp(where * exponent) / (2 * math.pi))

    best = bits(at)
    while width > 1e-5:
        width /= 2
        for side in (-width, width):
            if (moved := bits(at + side)) > best:
                at, best = at + side, moved
    return math.exp(at)
