"""What fits: largest batch, longest context, fewest devices, and the sentence that says by how much not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape


@dataclass(frozen=True)
class Footprint:
    """Stored bytes: all weights (input table included), and KV a cached token."""

    weight_bytes: float
    kv_bytes_per_token: float
    window_tokens: int | None
    window_share: float

    def kv_bytes(self, batch: float, context_tokens: float) -> float:
        """KV of `batch` sequences of `context_tokens`; sliding layers keep their window only."""
        cached = context_tokens
        if self.window_tokens is not None:
            kept = min(context_tokens, self.window_tokens)
            cached = (1 - self.window_share) * context_tokens + self.window_share * kept
        return batch * cached * self.kv_bytes_per_token

    def total_bytes(self, batch: float, context_tokens: float) -> float:
        return self.weight_bytes + self.kv_bytes(batch, context_tokens)


def footprint(shape: ModelShape, precision: Precision, compression: Compression) -> Footprint:
    """Bytes that weights and KV take once stored with `compression`."""
    weights = sum(
        count * precision.weight_bytes / compression.ratio_of(group)
        for group, count in shape.parameters_by_group().items()
    )
    kv = shape.kv_bytes_per_token(precision.kv_bytes) / compression.kv_capacity_ratio
    sliding = shape.sliding_window is not None
    return Footprint(weights, kv, shape.sliding_window, shape.sliding_layers / shape.layers if sliding else 0.0)


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
    room = (budget - held.weight_bytes) / (batch * held.kv_bytes_per_token)
    if room <= 0:
        return 0
    if held.window_tokens is None or room <= held.window_tokens:
        return math.floor(room)
    growing = 1 - held.window_share
    if growing == 0:
        raise ConfigurationError("every layer slides, so any context fits; ask for the largest batch instead")
    return math.floor((room - held.window_share * held.window_tokens) / growing)


def devices_needed(held: Footprint, part: Accelerator, usable_share: float, batch: int, context_tokens: int) -> int:
    """Fewest devices whose usable memory holds weights and KV."""
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
