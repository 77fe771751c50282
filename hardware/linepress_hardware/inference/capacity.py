"""What fits: largest batch, longest context, fewest devices, and the sentence that says by how much not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape


@dataclass(frozen=True)
class Footprint:
    """Bytes that one replica stores on all its devices: weights (input table included), and what sequences keep.

    `kv_bytes_per_token` while no window is full, of which `window_share` lies in layers that keep `window_tokens`;
    `state_bytes` a sequence whatever its length (recurrent layers).
    """

    weight_bytes: float
    kv_bytes_per_token: float
    window_tokens: int | None
    window_share: float
    state_bytes: float = 0.0

    def kv_bytes(self, batch: float, context_tokens: float) -> float:
        """KV and states of `batch` sequences of `context_tokens`; layers with a window keep that only."""
        cached = context_tokens
        if self.window_tokens is not None:
            kept = min(context_tokens, self.window_tokens)
            cached = (1 - self.window_share) * context_tokens + self.window_share * kept
        return batch * (cached * self.kv_bytes_per_token + self.state_bytes)

    def total_bytes(self, batch: float, context_tokens: float) -> float:
        return self.weight_bytes + self.kv_bytes(batch, context_tokens)


def footprint(
    shape: ModelShape, precision: Precision, compression: Compression, parallel: Parallel = ONE_DEVICE
) -> Footprint:
    """Bytes that weights and KV take once stored with `compression` by one replica of `parallel`.

    KV counts every copy that tensor parallelism makes (`Parallel.kv_copies`), routed experts only what the replica
    keeps of them. The few matrices that every device holds whole (norms, router, low-rank projections; under 0.3 %
    of DeepSeek-V3's weights at tp 8) count once.
    """
    shared = shape.expert_parameters_by_group()
    kept = 1.0 / parallel.replicas_sharing_experts
    weights = sum(
        (count - (1 - kept) * shared.get(group, 0)) * precision.weight_bytes / compression.ratio_of(group)
        for group, count in shape.parameters_by_group().items()
    )
    stored = parallel.kv_copies(shape) / compression.kv_capacity_ratio
    return Footprint(
        weights,
        shape.kv_bytes_per_token(precision.kv_bytes) * stored,
        shape.sliding_window,
        shape.window_share,
        shape.state_bytes(precision.kv_bytes) / compression.kv_capacity_ratio,
    )


def budget_bytes(part: Accelerator, devices: int, usable_share: float) -> float:
    """u M n."""
    return usable_share * part.capacity_bytes * devices


def capacity_tokens(held: Footprint, budget: float) -> float:
    """B × S that fits beside the weights when nothing slides; 0 when the weights alone do not fit."""
    return max(0.0, (budget - held.weight_bytes) / held.kv_bytes_per_token)


def largest_batch(held: Footprint, budget: float, context_tokens: int) -> int:
    """Sequences of `context_tokens` that fit."""
    return max(0, math.floor((budget - held.weight_bytes) / held.kv_bytes(1, context_tokens)))


def largest_context(held: Footprint, budget: float, batch: int) -> int:
    """Tokens of context that `batch` sequences can have; exact inverse of `Footprint.kv_bytes`."""
    room = ((budget - held.weight_bytes) / batch - held.state_bytes) / held.kv_bytes_per_token
    if room <= 0:
        return 0
    if held.window_tokens is None or room <= held.window_tokens:
        return math.floor(room)
    growing = 1 - held.window_share
    if growing == 0:
        raise ConfigurationError("every layer slides, so any context fits; ask for the largest batch instead")
    return math.floor((room - held.window_share * held.window_tokens) / growing)


def devices_needed(held: Footprint, part: Accelerator, usable_share: float, batch: int, context_tokens: int) -> int:
    """Fewest devices whose usable memory holds weights and KV, at the tensor-parallel degree of `held`."""
    return max(1, math.ceil(held.total_bytes(batch, context_tokens) / budget_bytes(part, 1, usable_share)))


def check_fits(
    held: Footprint,
    part: Accelerator,
    *,
    devices: int,
    usable_share: float,
    batch: int,
    context_tokens: int,
    name: str,
) -> None:
    """Raise `ConfigurationError` saying by how much batch × context does not fit, and what would."""
    budget = budget_bytes(part, devices, usable_share)
    needed = held.total_bytes(batch, context_tokens)
    if needed <= budget:
        return
    fewest = devices_needed(held, part, usable_share, batch, context_tokens)
    what = f"{name}, batch {batch} × context {context_tokens:,} tokens"
    room = f"{devices} × {part.name} ({budget / 1e9:,.2f} GB usable)"
    over = f"needs {needed / 1e9:,.2f} GB, {(needed - budget) / 1e9:,.2f} GB more than {room}"
    batches = largest_batch(held, budget, context_tokens)
    if held.weight_bytes >= budget:
        fits = f"the weights alone take {held.weight_bytes / 1e9:,.2f} GB, use {fewest} devices"
    elif batches >= 1:
        fits = f"batch {batches} at this context fits, or {fewest} devices"
    else:
        fits = f"context {largest_context(held, budget, 1):,} at batch 1 fits, or {fewest} devices"
    raise ConfigurationError(f"{what} {over}; {fits}")
