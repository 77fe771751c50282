"""Continuous batching on a modelled engine: TTFT and TPOT under arrivals, with prompts and answers in one step.

Every step carries one token of each answering sequence and, within the token budget, pieces of waiting prompts;
its time is max(bytes / (η_m BW), operations / (η_c P)) + communication + host time, with the coefficients of
`step_cost`. A long prompt therefore delays all answers of its step: that is the interference measured systems show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import capacity
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape
from linepress_hardware.inference.step_cost import Calibration, StepCost, step_cost
from linepress_hardware.inference.trace import Requests

POLICIES = {"mixed": 0, "prefill-first": 1}


@dataclass(frozen=True)
class Engine:
    """Limits of the serving engine.

    Attributes
    ----------
    max_sequences : int
        Sequences in flight; in a closed loop the concurrency.
    max_tokens : int
        Tokens of one step, answers and pieces of prompts together.
    chunked_prefill : bool
        Whether a prompt may be split over steps; one longer than `max_tokens` always is.
    policy : str
        ``mixed`` (answers go on beside prompts) or ``prefill-first`` (answers wait).
    usable_share : float
        Share of memory for weights and KV; a sequence reserves prompt + answer when admitted.
    """

    max_sequences: int = 256
    max_tokens: int = 8192
    chunked_prefill: bool = False
    policy: str = "mixed"
    usable_share: float = 0.9

    def __post_init__(self) -> None:
        if self.max_sequences < 1 or self.max_tokens < 1:
            raise ConfigurationError(
                f"max_sequences {self.max_sequences} and max_tokens {self.max_tokens} must be 1 or more"
            )
        if self.policy not in POLICIES:
            raise ConfigurationError(f"policy {self.policy!r} is unknown; use {' or '.join(POLICIES)}")
        if not 0 < self.usable_share <= 1:
            raise ConfigurationError(f"usable_share is {self.usable_share!r}; give a share above 0, at most 1")


@dataclass(frozen=True)
class ServingResult:
    """Times of every request (s) and of the engine.

    `ttft_s` runs from arrival to the first token, `tpot_s` = (last − first) / (answer − 1), NaN for one token.
    """

    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    summary: dict[str, Any] = field(default_factory=dict)


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
) -> ServingResult:
    """Serve `requests` on one replica; `cost` (before calibration) may be passed to share it between calls.

    Raises
    ------
    ConfigurationError
        Weights do not fit, or one request's prompt and answer do not fit beside them.
    """
    p = precision or Precision()
    limits = engine or Engine()
    room = kv_room_tokens(shape, part, p, parallel, compression, limits.usable_share)
    longest = int((requests.prompt_tokens + requests.answer_tokens).max())
    if room < longest:
        held = capacity.footprint(shape, p, compression)
        devices = parallel.tp * parallel.pp
        capacity.check_fits(
            held,
            part,
            devices=devices,
            usable_share=limits.usable_share,
            batch=1,
            context_tokens=longest,
            name=shape.name,
        )
    base = cost or step_cost(
        shape, part, p, parallel=parallel, max_tokens=_table_tokens(limits, requests), compression=compression
    )
    tuned = base.calibrated(calibration or Calibration())
    start, first, finish, sums = _run(tuned, requests, limits, room)
    arrival = start if requests.closed else requests.arrival_s
    more = np.maximum(requests.answer_tokens - 1, 1)
    tpot = np.where(requests.answer_tokens > 1, (finish - first) / more, np.nan)
    result = ServingResult(first - arrival, tpot, finish - arrival)
    return ServingResult(
        result.ttft_s,
        tpot,
        result.latency_s,
        _summary(result, requests, finish, arrival, sums, parallel),
    )


def _table_tokens(limits: Engine, requests: Requests) -> int:
    return int(max(limits.max_tokens, requests.prompt_tokens.max() + limits.max_sequences))


def kv_room_tokens(
    shape: ModelShape,
    part: Accelerator,
    precision: Precision,
    parallel: Parallel,
    compression: Compression,
    usable_share: float,
) -> float:
    """Tokens of KV that fit beside the weights on the devices of one replica."""
    held = capacity.footprint(shape, precision, compression)
    return capacity.capacity_tokens(held, capacity.budget_bytes(part, parallel.tp * parallel.pp, usable_share))


def _run(cost: StepCost, requests: Requests, limits: Engine, room: float) -> Any:
    from linepress_hardware.inference.serving_kernel import run  # compiled on first use

    return run(
        requests.arrival_s,
        requests.prompt_tokens,
        requests.answer_tokens,
        cost.weight_bytes,
        cost.raw_weight_bytes,
        cost.vector,
        cost.overhead_s,
        cost.decompressor_s_per_byte,
        cost.raw_kv_ratio,
        limits.max_sequences,
        limits.max_tokens,
        room,
        limits.chunked_prefill,
        POLICIES[limits.policy],
        requests.closed,
    )


def _summary(
    result: ServingResult,
    requests: Requests,
    finish: NDArray[np.float64],
    arrival: NDArray[np.float64],
    sums: NDArray[np.float64],
    parallel: Parallel,
) -> dict[str, Any]:
    span = float(finish.max() - arrival.min())
    several = result.tpot_s[np.isfinite(result.tpot_s)]
    out: dict[str, Any] = {
        "requests": len(requests),
        "dropped": requests.dropped,
        "devices": parallel.tp * parallel.pp,
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
        "memory_bound_steps_share": float(sums[5]) / steps,
    }
    return out
