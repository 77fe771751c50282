"""Continuous batching on a modelled engine: time to first token and per output token of every request.

Every step carries one token of each answering sequence and, within the token budget, prompts or pieces of them; the
scheduler is `loop`, its rules are an `Engine`. A step takes the sum of its kernels (`KernelTimes`: measured, or by
shape), or max(bytes / (η_m BW), operations / (η_c P)) by roofline, plus collectives and host time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import capacity
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.kernels.layers import PER_SEQUENCE, per_layer
from linepress_hardware.inference.kernels.times import KernelTimes
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.serving.engine import POLICIES, Engine
from linepress_hardware.inference.shapes import ModelShape
from linepress_hardware.inference.step_cost import Calibration, StepCost, step_cost
from linepress_hardware.inference.trace import Requests

F8 = NDArray[np.float64]
BF16 = 2.0


@dataclass(frozen=True)
class ServingResult:
    """Times of every request (s) and of the engine.

    `ttft_s` runs from arrival to the first token, `tpot_s` = (last − first) / (answer − 1), NaN for one token;
    `preempted` counts how often each request lost its blocks.
    """

    ttft_s: F8
    tpot_s: F8
    latency_s: F8
    preempted: NDArray[np.int64]
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kernels:
    """What a step's kernels are taken from, besides their times.

    `reduce_s` gives the seconds of an all-reduce over tp of a number of bytes (None: one device); `host_s` is host
    time a step, `sequence_s` a sequence of it.
    """

    times: KernelTimes
    reduce_s: Callable[[F8], F8] | None = None
    host_s: float = 0.0
    sequence_s: float = 0.0


def simulate(
    shape: ModelShape,
    part: Accelerator,
    requests: Requests,
    *,
    precision: Precision | None = None,
    parallel: Parallel = ONE_DEVICE,
    engine: Engine | None = None,
    calibration: Calibration | None = None,
    compression: Compression = PLAIN,
    cost: StepCost | None = None,
    kernels: Kernels | None = None,
    kv_blocks: int | None = None,
) -> ServingResult:
    """Serve `requests` on tp × pp devices, or on `parallel.dp` such engines in step.

    Parameters
    ----------
    cost : StepCost
        The roofline's coefficients before calibration, to share them between calls.
    kernels : Kernels
        Take steps from kernels instead of the roofline; compression and calibration then have no place.
    kv_blocks : int
        Blocks of an engine, spare ones included, as its log says; default what fits beside the weights.

    Raises
    ------
    ConfigurationError
        Weights do not fit, or one request's prompt and answer do not fit beside them.
    """
    p = precision or Precision()
    limits = engine or Engine()
    held = capacity.footprint(shape, p, compression, parallel)
    longest = int((requests.prompt_tokens + requests.answer_tokens).max())
    if kv_blocks is None:
        room = kv_room_tokens(shape, part, p, parallel, compression, limits.usable_share)
        blocks = int(room // limits.block_tokens) - limits.spare_blocks
        if _held_tokens(held, longest) > blocks * limits.block_tokens:
            capacity.check_fits(
                held,
                part,
                devices=parallel.tp * parallel.pp,
                usable_share=limits.usable_share,
                batch=1,
                context_tokens=longest,
                name=shape.name,
            )
    else:
        blocks = kv_blocks - limits.spare_blocks
    if _held_tokens(held, longest) > blocks * limits.block_tokens:
        raise ConfigurationError(
            f"the longest request has {longest:,} tokens, more than the {max(blocks, 0) * limits.block_tokens:,} of "
            f"{max(blocks, 0):,} KV blocks; give more blocks or devices"
        )
    if kernels is None:
        base = cost or step_cost(
            shape, part, p, parallel=parallel, max_tokens=_table_tokens(limits, requests), compression=compression
        )
        chosen: StepCost | Kernels = base.calibrated(calibration or Calibration())
    else:
        chosen = kernels
    arrival, first, finish, preempted, sums = _run(shape, chosen, requests, limits, blocks, held, parallel)
    more = np.maximum(requests.answer_tokens - 1, 1)
    tpot = np.where(requests.answer_tokens > 1, (finish - first) / more, np.nan)
    result = ServingResult(first - arrival, tpot, finish - arrival, preempted)
    summary = _summary(result, requests, finish, arrival, sums, parallel, blocks, by_roofline=kernels is None)
    return ServingResult(result.ttft_s, tpot, result.latency_s, preempted, summary)


def _table_tokens(limits: Engine, requests: Requests) -> int:
    return int(max(limits.max_tokens, requests.prompt_tokens.max() + limits.max_sequences))


def _held_tokens(held: capacity.Footprint, tokens: int) -> float:
    """Tokens of all layers whose KV takes the bytes of one sequence of `tokens`."""
    return held.kv_bytes(1, tokens) / held.kv_bytes_per_token


def kv_room_tokens(
    shape: ModelShape,
    part: Accelerator,
    precision: Precision,
    parallel: Parallel,
    compression: Compression,
    usable_share: float,
) -> float:
    """Tokens of KV that fit beside the weights on the devices of one replica, every copy counted."""
    held = capacity.footprint(shape, precision, compression, parallel)
    return capacity.capacity_tokens(held, capacity.budget_bytes(part, parallel.tp * parallel.pp, usable_share))


def _run(
    shape: ModelShape,
    chosen: StepCost | Kernels,
    requests: Requests,
    limits: Engine,
    blocks: int,
    held: capacity.Footprint,
    parallel: Parallel,
) -> Any:
    from linepress_hardware.inference.serving import cost as costs  # compiled on first use
    from linepress_hardware.inference.serving.loop import Rules, serve

    state_tokens = held.state_bytes / held.kv_bytes_per_token
    longest = requests.prompt_tokens + requests.answer_tokens + int(np.ceil(state_tokens))
    most = -(-longest // limits.block_tokens) + 1
    table_at = np.concatenate([[0], np.cumsum(most)]).astype(np.int64)
    key = np.arange(table_at[-1], dtype=np.int64)
    for request, first, count, owner in requests.shared:
        n = min(count, int(most[request]) - first, int(most[owner]) - first)
        key[table_at[request] + first : table_at[request] + first + n] = key[
            table_at[owner] + first : table_at[owner] + first + n
        ]
    slides = held.window_tokens is not None and held.window_share > 0
    rules = Rules(
        limits.max_sequences,
        limits.max_tokens,
        limits.block_tokens,
        int(min(blocks, table_at[-1])),  # more blocks than all requests have are never used
        parallel.dp,
        limits.chunked_prefill,
        POLICIES[limits.policy],
        limits.reserve_answer,
        # Without shared prefixes a cache only helps sequences that were preempted: they find their own blocks again.
        limits.prefix_cache
        and not slides
        and state_tokens == 0
        and (bool(requests.shared) or not limits.reserve_answer),
        limits.asynchronous,
        requests.closed,
        float(held.window_tokens or 0),
        held.window_share if slides else 0.0,
        state_tokens,
    )
    if isinstance(chosen, Kernels):
        kernels, roofline = kernel_cost(shape, chosen, limits), costs.no_roofline()
    else:
        kernels = costs.no_kernels()
        roofline = costs.RooflineCost(
            chosen.weight_bytes,
            chosen.raw_weight_bytes,
            chosen.talk_s,
            chosen.vector,
            chosen.overhead_s,
            chosen.decompressor_s_per_byte,
            chosen.raw_kv_ratio,
        )
    out = serve(
        requests.arrival_s,
        requests.prompt_tokens,
        requests.answer_tokens,
        table_at,
        key,
        rules,
        isinstance(chosen, Kernels),
        kernels,
        roofline,
    )
    if out[4][-1]:
        raise ConfigurationError(
            f"no waiting request fits the {blocks:,} KV blocks of {limits.block_tokens} tokens; give more blocks"
        )
    return out


def kernel_cost(shape: ModelShape, kernels: Kernels, limits: Engine) -> Any:
    """The loop's tables: seconds by tokens of a step, by sequences that need logits, and the attention grids."""
    from linepress_hardware.inference.serving.cost import KernelCost

    times = kernels.times
    tokens = limits.padded(np.arange(1, limits.max_tokens + 1, dtype=np.float64))
    by_token = np.full(tokens.size, kernels.host_s)
    for name, launches in per_layer(shape).items():
        by_token += shape.layers * launches * times.seconds(name, tokens)
    for name in ("embedding", "final_layernorm"):
        by_token += times.seconds(name, tokens)
    if kernels.reduce_s is not None:
        by_token += 2 * shape.layers * kernels.reduce_s(tokens * shape.hidden * BF16)
    logits = np.arange(1, limits.max_sequences + 1, dtype=np.float64)
    by_head = sum(times.seconds(name, logits) for name in PER_SEQUENCE)
    grid = times.attention()
    slides = shape.sliding_layers if shape.sliding_window is not None else 0
    return KernelCost(
        np.concatenate([[0.0], by_token]),
        np.concatenate([[0.0], np.asarray(by_head)]),
        grid.chunk,
        grid.prior,
        grid.sequences,
        grid.keys,
        grid.decode_sequences,
        grid.prefill_s,
        grid.decode_s,
        grid.mixed_s,
        float(grid.prefill_s[0, 0]),
        float(shape.layers - slides),
        float(slides),
        float(shape.sliding_window or 0),
        kernels.sequence_s,
    )


def _summary(
    result: ServingResult,
    requests: Requests,
    finish: F8,
    arrival: F8,
    sums: F8,
    parallel: Parallel,
    blocks: int,
    *,
    by_roofline: bool,
) -> dict[str, Any]:
    span = float(finish.max() - arrival.min())
    several = result.tpot_s[np.isfinite(result.tpot_s)]
    out: dict[str, Any] = {
        "requests": len(requests),
        "dropped": requests.dropped,
        "devices": parallel.tp * parallel.pp * parallel.dp,
        "span_s": span,
        "tokens_per_s": float(requests.answer_tokens.sum()) / span,
        "requests_per_s": len(requests) / span,
    }
    for name, values in (("ttft", result.ttft_s), ("tpot", several), ("latency", result.latency_s)):
        if values.size:
            out[f"{name}_mean_s"] = float(values.mean())
            for q in (50, 90, 99):
                out[f"{name}_p{q}_s"] = float(np.percentile(values, q))
    steps = float(sums[0])
    out |= {
        "steps": int(steps),
        "busy_share": float(sums[1]) / span,
        "prefill_tokens": int(sums[2]),
        "decode_tokens": int(sums[3]),
        "steps_with_prefill_share": float(sums[4]) / steps,
        "memory_bound_steps_share": float(sums[5]) / steps if by_roofline else None,
        "preemptions": int(sums[6]),
        "recomputed_tokens": int(sums[7]),
        "cached_tokens": int(sums[8]),
        "kv_blocks": blocks,
        "kv_blocks_used": int(sums[9]),
    }
    return out
