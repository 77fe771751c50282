"""A sweep over models × accelerators × batches × contexts as arrays: one call of the operators a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.inference import capacity, traffic
from linepress_hardware.inference import operators as ops_of
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import device


def sweep(
    models: Sequence[str],
    accelerators: Sequence[str],
    batches: Sequence[int],
    contexts: Sequence[int],
    *,
    precision: Precision | None = None,
    compression: Compression | None = None,
    usable_share: float = 0.9,
) -> dict[str, Any]:
    """Decode and prefill times of every combination, plain and compressed, on one device each.

    Returns
    -------
    dict
        ``models``, ``accelerators``, ``batches``, ``contexts`` (the axes) and float64 arrays of shape
        [models, accelerators, batches, contexts]: ``decode_s``, ``compressed_decode_s``, ``prefill_s``,
        ``compressed_prefill_s``, ``decode_tokens_per_s``, ``compressed_decode_tokens_per_s``, and bool ``fits``,
        ``compressed_fits``. Where an accelerator has no peak for the precision its slice is NaN / False.
    """
    p = Precision() if precision is None else precision
    what = PLAIN if compression is None else compression
    axes = (len(models), len(accelerators), len(batches), len(contexts))
    names = ("decode_s", "compressed_decode_s", "prefill_s", "compressed_prefill_s")
    out: dict[str, NDArray[Any]] = {name: np.full(axes, np.nan) for name in names}
    fits = {name: np.zeros(axes, dtype=bool) for name in ("fits", "compressed_fits")}
    B, S = np.meshgrid(np.asarray(batches, float), np.asarray(contexts, float), indexing="ij")
    for i, name in enumerate(models):
        shape = model(name)
        decode = ops_of.operators(shape, ops_of.decode(B, S), p, fused_attention=True)
        prompt = ops_of.operators(shape, ops_of.prefill(B, S), p, fused_attention=True)
        held = (capacity.footprint(shape, p, PLAIN), capacity.footprint(shape, p, what))
        needed = [_bytes_needed(footprint, B, S) for footprint in held]
        for j, part_name in enumerate(accelerators):
            part = accelerator(part_name)
            if max(p.weight_bits, p.activation_bits, p.kv_bits) > max(part.peak):
                continue
            on = device(part, p)
            out["decode_s"][i, j] = traffic.step_time(decode, on, None).time_s
            out["compressed_decode_s"][i, j] = traffic.step_time(decode, on, what).time_s
            out["prefill_s"][i, j] = traffic.step_time(prompt, on, None).time_s
            out["compressed_prefill_s"][i, j] = traffic.step_time(prompt, on, what).time_s
            budget = capacity.budget_bytes(part, 1, usable_share)
            fits["fits"][i, j], fits["compressed_fits"][i, j] = needed[0] <= budget, needed[1] <= budget
    rate = {f"{side}decode_tokens_per_s": B[None, None] / out[f"{side}decode_s"] for side in ("", "compressed_")}
    return {
        "models": list(models),
        "accelerators": list(accelerators),
        "batches": list(batches),
        "contexts": list(contexts),
        **out,
        **rate,
        **fits,
    }


def _bytes_needed(held: capacity.Footprint, B: NDArray[Any], S: NDArray[Any]) -> NDArray[Any]:
    """`Footprint.total_bytes` over arrays."""
    cached = S
    if held.window_tokens is not None:
        cached = (1 - held.window_share) * S + held.window_share * np.minimum(S, held.window_tokens)
    return np.asarray(held.weight_bytes + B * cached * held.kv_bytes_per_token)
