"""Attention of one layer on grids of chunk, prior, sequences and keys, as the serving loop interpolates it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.kernels.forms import DeviceForms
from linepress_hardware.inference.kernels.layers import Heads

F8 = NDArray[np.float64]


@dataclass(frozen=True)
class AttentionGrid:
    """Seconds at the points of ascending axes (tokens; `sequences` of mixed launches, `decode_sequences` alone)."""

    chunk: F8
    prior: F8
    sequences: F8
    keys: F8
    decode_sequences: F8
    prefill_s: F8
    decode_s: F8
    mixed_s: F8


def powers(first: int, last: int) -> F8:
    """first, 2 first, … last."""
    return np.asarray(2.0 ** np.arange(np.log2(first), np.log2(last) + 1))


CHUNKS, PRIORS = powers(16, 8192), np.r_[0.0, powers(16, 131072)]
SEQUENCES, KEYS = powers(1, 512), powers(16, 131072)


def modelled(forms: DeviceForms, at: Heads) -> AttentionGrid:
    """The grid that the forms of a GPU give for `at`."""
    sms, held = forms.multiprocessors, forms.cache_bytes
    c, p, n, k = np.meshgrid(CHUNKS, PRIORS, SEQUENCES, KEYS, indexing="ij")
    return AttentionGrid(
        CHUNKS,
        PRIORS,
        SEQUENCES,
        KEYS,
        SEQUENCES,
        forms.prefill.seconds(at, CHUNKS[:, None], PRIORS[None, :], sms),
        forms.decode.seconds(at, SEQUENCES[:, None], KEYS[None, :], sms, held),
        forms.mixed.seconds(at, c, p, n, k, sms, held),
    )


def measured(chunk: F8, prior: F8, sequences: F8, keys: F8, seconds: F8) -> AttentionGrid:
    """The grid of a table of attention rows; points that were not measured follow from their neighbours.

    A missing tail along the keys goes on with the last slope, a hole is interpolated; a mixed point whose line has
    nothing at all takes prompt and answers one after the other.
    """
    alone, answers = (sequences == 0), (chunk == 0)
    mixed = ~alone & ~answers
    if not (alone & ~answers).any() or not (answers & ~alone).any():
        raise ConfigurationError(
            "the kernel table needs attention of prompts alone (n_decode 0) and of answers alone (prefill_chunk 0)"
        )
    chunks, priors = _axis(chunk[~answers]), _axis(prior[~answers])
    counts, lengths = _axis(sequences[answers]), _axis(keys[~alone])
    several = _axis(sequences[mixed]) if mixed.any() else counts
    prefill = _filled(_placed((chunks, priors), (chunk[alone], prior[alone]), seconds[alone]), priors)
    decode = _filled(_placed((counts, lengths), (sequences[answers], keys[answers]), seconds[answers]), lengths)
    both = _placed(
        (chunks, priors, several, lengths),
        (chunk[mixed], prior[mixed], sequences[mixed], keys[mixed]),
        seconds[mixed],
    )
    both = _filled(both, lengths)
    rows = np.searchsorted(counts, several).clip(0, counts.size - 1)
    added = prefill[:, :, None, None] + decode[rows][None, None]
    return AttentionGrid(
        chunks, priors, several, lengths, counts, prefill, decode, np.where(np.isnan(both), added, both)
    )


def _axis(values: F8) -> F8:
    """Ascending points of an axis: the powers of two (and 0), the grid that every published table has whole.

    A table with fewer than three of them gives all its points.
    """
    points = np.unique(values)
    whole = points[(points == 0) | (np.exp2(np.round(np.log2(np.maximum(points, 1.0)))) == points)]
    return np.asarray(whole if whole.size >= 3 else points)


def _placed(axes: tuple[F8, ...], at: tuple[F8, ...], seconds: F8) -> F8:
    grid = np.full(tuple(axis.size for axis in axes), np.nan)
    on = np.ones(seconds.size, dtype=bool)
    index = []
    for axis, values in zip(axes, at, strict=True):
        i = np.searchsorted(axis, values).clip(0, axis.size - 1)
        on &= axis[i] == values
        index.append(i)
    grid[tuple(i[on] for i in index)] = seconds[on]
    return grid


def _filled(grid: F8, axis: F8) -> F8:
    """Missing points along the last axis: interpolated inside, the last slope beyond."""
    out = grid.copy().reshape(-1, axis.size)
    for line in out:
        known = np.flatnonzero(~np.isnan(line))
        if known.size < 2:
            continue
        i, j = known[-2:]
        lost = np.isnan(line)
        line[lost] = np.interp(axis[lost], axis[known], line[known])
        beyond = np.arange(axis.size) > j
        line[beyond] = line[j] + (line[j] - line[i]) / (axis[j] - axis[i]) * (axis[beyond] - axis[j])
    return np.asarray(out.reshape(grid.shape))
