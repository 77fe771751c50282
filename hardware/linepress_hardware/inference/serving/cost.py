"""Seconds of one step inside the compiled loop: from measured or modelled kernels, or from the roofline."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F8 = NDArray[np.float64]


class KernelCost(NamedTuple):
    """A step as the sum of its kernels; attention is interpolated linearly on its grids.

    `token_s` [tokens + 1] is all that goes by the tokens of a step (all layers, collectives, host time), `head_s`
    [sequences + 1] by the sequences that need logits. Attention seconds of one layer: `prefill_s` [chunk, prior],
    `decode_s` [sequences, keys], `mixed_s` [chunk, prior, sequences, keys] at the points of the four axes (tokens;
    `decode_sequences` has its own axis). A chunk beside the first adds its own time less `launch_s`.
    `layers` and `sliding_layers` have that attention, the second at most `window` keys.
    """

    token_s: F8
    head_s: F8
    chunk: F8
    prior: F8
    sequences: F8
    keys: F8
    decode_sequences: F8
    prefill_s: F8
    decode_s: F8
    mixed_s: F8
    launch_s: float
    layers: float
    sliding_layers: float
    window: float
    sequence_s: float


class RooflineCost(NamedTuple):
    """A step as max(bytes / bandwidth, operations / peak); fields as in `step_cost.StepCost`."""

    weight_bytes: F8
    raw_weight_bytes: F8
    talk_s: F8
    vector: F8
    overhead_s: float
    decompressor_s_per_byte: float
    raw_kv_ratio: float


def no_kernels() -> KernelCost:
    """What the loop is given when the roofline is to be used."""
    one, two, four = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2, 2, 2))
    axis = np.array([0.0, 1.0])
    return KernelCost(one, one, axis, axis, axis, axis, axis, two, two, four, 0.0, 0.0, 0.0, 0.0, 0.0)


def no_roofline() -> RooflineCost:
    """What the loop is given when kernels are to be used."""
    return RooflineCost(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(9), 0.0, 0.0, 1.0)


@njit(cache=True)
def place(axis: Any, value: float) -> Any:
    """Interval and fraction of `value` on an ascending axis; below it the first point, above it the last slope."""
    if value <= axis[0]:
        return 0, 0.0
    i = int(np.searchsorted(axis, value)) - 1
    i = min(max(i, 0), axis.size - 2)
    return i, (value - axis[i]) / (axis[i + 1] - axis[i])


@njit(cache=True)
def at2(grid: Any, i: int, f: float, j: int, g: float) -> float:
    low = grid[i, j] * (1.0 - g) + grid[i, j + 1] * g
    high = grid[i + 1, j] * (1.0 - g) + grid[i + 1, j + 1] * g
    return float(low * (1.0 - f) + high * f)


@njit(cache=True)
def attention_s(c: KernelCost, chunk: Any, prior: Any, chunks: int, sequences: int, keys: float) -> float:
    """One layer's attention over the prompts' chunks and `sequences` answers of `keys` keys on average."""
    if chunks == 0:
        if sequences == 0:
            return 0.0
        i, f = place(c.decode_sequences, float(sequences))
        j, g = place(c.keys, keys)
        return at2(c.decode_s, i, f, j, g)
    longest = 0
    for q in range(1, chunks):
        if chunk[q] > chunk[longest] or (chunk[q] == chunk[longest] and prior[q] > prior[longest]):
            longest = q
    total = 0.0
    for q in range(chunks):
        i, f = place(c.chunk, chunk[q])
        j, g = place(c.prior, prior[q])
        if q == longest and sequences > 0:
            k, u = place(c.sequences, float(sequences))
            m, v = place(c.keys, keys)
            low = at2(c.mixed_s[i, j], k, u, m, v) * (1.0 - g) + at2(c.mixed_s[i, j + 1], k, u, m, v) * g
            high = at2(c.mixed_s[i + 1, j], k, u, m, v) * (1.0 - g) + at2(c.mixed_s[i + 1, j + 1], k, u, m, v) * g
            total += low * (1.0 - f) + high * f
        else:
            alone = at2(c.prefill_s, i, f, j, g)
            total += alone if q == longest else max(0.0, alone - c.launch_s)
    return total


@njit(cache=True)
def kernel_step_s(
    c: KernelCost, chunk: Any, prior: Any, chunks: int, keys: Any, sequences: int, tokens: int, heads: int
) -> float:
    """Seconds of a step; `tokens` may exceed the step's own when ranks wait for one another."""
    last = c.token_s.size - 1
    step = c.token_s[min(tokens, last)] * (1.0 if tokens <= last else tokens / last)
    last = c.head_s.size - 1
    heads = max(heads, 1)
    step += c.head_s[min(heads, last)] * (1.0 if heads <= last else heads / last)
    seen = 0.0
    for q in range(sequences):
        seen += keys[q]
    mean = seen / sequences if sequences > 0 else 0.0
    if c.layers > 0.0:
        step += c.layers * attention_s(c, chunk, prior, chunks, sequences, mean)
    if c.sliding_layers > 0.0:
        seen = 0.0
        for q in range(sequences):
            seen += min(keys[q], c.window)
        near = np.empty(chunks)
        for q in range(chunks):
            near[q] = min(prior[q], c.window)
        mean = seen / sequences if sequences > 0 else 0.0
        step += c.sliding_layers * attention_s(c, chunk, near, chunks, sequences, mean)
    return float(step + c.sequence_s * (sequences + chunks))


@njit(cache=True)
def roofline_step_s(
    c: RooflineCost, chunk: Any, prior: Any, chunks: int, keys: Any, sequences: int, tokens: int, heads: int
) -> Any:
    """(seconds, whether memory decides) of a step."""
    v = c.vector
    kv_full, kv_slide, window = v[0], v[1], v[2]
    full = kv_full / (kv_full + kv_slide) if kv_full + kv_slide > 0 else 1.0
    cached = 0.0
    pairs_s = 0.0
    for q in range(sequences):
        seen = keys[q]
        if window > 0:
            seen = full * keys[q] + (1.0 - full) * min(keys[q], window)
        cached += seen
        pairs_s += seen * v[5]
    for q in range(chunks):
        pairs = chunk[q] * prior[q] + chunk[q] * (chunk[q] + 1.0) / 2.0
        seen = prior[q] + chunk[q]
        if window > 0:
            growing = min(max(window - prior[q], 0.0), chunk[q])  # queries that do not fill the window yet
            near = growing * (prior[q] + 1.0) + growing * (growing - 1.0) / 2.0 + (chunk[q] - growing) * window
            pairs = full * pairs + (1.0 - full) * near
            seen = full * seen + (1.0 - full) * min(seen, window + chunk[q] - 1.0)
        pairs_s += pairs * v[6]
        cached += seen
    last = c.weight_bytes.size - 1
    read = c.weight_bytes[min(tokens, last)] + cached * (kv_full + kv_slide) + tokens * v[3]
    memory_s = read / v[8]
    compute_s = tokens * v[4] + pairs_s + heads * v[7]
    busy = max(memory_s, compute_s)
    if c.decompressor_s_per_byte > 0.0:
        raw = c.raw_weight_bytes[min(tokens, last)] + cached * (kv_full + kv_slide) * c.raw_kv_ratio
        busy = max(busy, raw * c.decompressor_s_per_byte)
    return busy + c.overhead_s + c.talk_s[min(tokens, last)], memory_s >= compute_s
