"""The cost of a mixed step (decoding sequences and pieces of prompts) as a few coefficients for a tight loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import operators as ops_of
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.operator import Operator, total
from linepress_hardware.inference.operators import Step
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import device
from linepress_hardware.inference.shapes import ModelShape
from linepress_hardware.inference.traffic import communication


@dataclass(frozen=True)
class Calibration:
    """The three constants a measured engine is described by; all at their bounds give the roofline.

    `memory_efficiency` and `compute_efficiency` are shares of peak, `overhead_s` is host time a step.
    """

    memory_efficiency: float = 1.0
    compute_efficiency: float = 1.0
    overhead_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("memory_efficiency", "compute_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; give a share above 0, at most 1")
        if not 0 <= self.overhead_s < float("inf"):
            raise ConfigurationError(f"overhead_s is {self.overhead_s!r}; give 0 or more seconds a step")


_COMPUTE = slice(4, 8)  # seconds of compute in `StepCost.vector`
_BANDWIDTH = 8


@dataclass(frozen=True)
class StepCost:
    """Coefficients of one step on one device of a layout.

    Attributes
    ----------
    weight_bytes : float64[max_tokens + 1]
        Stored weight bytes read when the step has that many tokens (mixtures read more experts with more).
    talk_s : float64[max_tokens + 1]
        Seconds of communication of a step of that many tokens.
    vector : float64[9]
        KV bytes a cached token of full and of sliding layers, window (tokens), activation bytes a token,
        seconds of compute a token, a decode pair, a prefill pair, a sequence that needs logits, bandwidth
        (bytes/s).
    """

    weight_bytes: NDArray[np.float64]
    talk_s: NDArray[np.float64]
    vector: NDArray[np.float64]
    overhead_s: float
    decompressor_s_per_byte: float
    raw_weight_bytes: NDArray[np.float64]
    raw_kv_ratio: float

    def calibrated(self, by: Calibration) -> StepCost:
        """The same coefficients at shares of peak and with host time a step."""
        vector = self.vector.copy()
        vector[_COMPUTE] /= by.compute_efficiency
        vector[_BANDWIDTH] *= by.memory_efficiency
        return replace(self, vector=vector, overhead_s=by.overhead_s)


def step_cost(
    shape: ModelShape,
    part: Accelerator,
    precision: Precision,
    *,
    parallel: Parallel = ONE_DEVICE,
    max_tokens: int,
    compression: Compression = PLAIN,
    topology: str = "switch",
    algorithm: str = "",
) -> StepCost:
    """Coefficients from differences of `operators`, which are linear in tokens, pairs and cached keys.

    `max_tokens` bounds the tokens of a step.
    """
    on = device(part, precision)
    counts = np.arange(1, max_tokens + 1, dtype=np.float64)

    def ops(step: Step) -> list[Operator]:
        return ops_of.operators(shape, step, precision, fused_attention=True, parallel=parallel)

    by_tokens = ops(ops_of.decode(counts, 1))
    stored = sum(
        op.count * op.weight_bytes / compression.traffic_gain_of(op.group) for op in by_tokens if op.group
    ) * np.ones(max_tokens)
    raw = total(by_tokens, "weight_bytes") * np.ones(max_tokens)

    def seconds(found: list[Operator], kinds: tuple[str, ...] = ("matmul", "vector", "attention")) -> float:
        return float(sum(op.count * op.ops / on.peak_ops[op.kind] for op in found if op.kind in kinds))

    # Two tokens against one, both with logits of one token: what a token costs without attention and head.
    one, two = ops(ops_of.prefill(1, 1)), ops(ops_of.prefill(1, 2))
    per_token = seconds(two, ("matmul", "vector")) - seconds(one, ("matmul", "vector"))
    per_head = seconds(one, ("matmul", "vector")) - per_token
    # One key more against one less, with windows off: the loop weighs full and sliding layers by their share.
    open_shape = shape.without_windows()
    more, less = (
        ops_of.operators(open_shape, ops_of.decode(1, keys), precision, fused_attention=True, parallel=parallel)
        for keys in (1001, 1000)
    )
    decode_pair = seconds(more, ("attention",)) - seconds(less, ("attention",))
    prefill_pair = seconds(one, ("attention",))
    share = shape.window_share
    raw_kv = float(total(more, "kv_read_bytes") - total(less, "kv_read_bytes"))
    kv = raw_kv / compression.kv_traffic_gain
    acts = float(
        total(two, "act_read_bytes")
        + total(two, "act_written_bytes")
        - total(one, "act_read_bytes")
        - total(one, "act_written_bytes")
    )
    # Collectives are no straight line in the bytes: a curve of sizes a factor apart, interpolated between.
    sizes = np.unique(np.geomspace(1, max_tokens, 33).round())
    talk = [
        communication(
            shape,
            ops_of.decode(tokens, 1),
            part,
            precision,
            parallel,
            topology=topology,
            algorithm=algorithm,
        ).time_s
        for tokens in sizes
    ]
    ceiling = 0.0 if compression.decompressor_GBps is None else 1 / (compression.decompressor_GBps * 1e9)
    vector = np.array(
        [
            kv * (1 - share),
            kv * share,
            float(shape.sliding_window or 0),
            max(acts, 0.0),
            per_token,
            decode_pair,
            prefill_pair,
            per_head,
            on.bandwidth_Bps,
        ]
    )
    return StepCost(
        np.concatenate([[0.0], np.asarray(stored, dtype=np.float64)]),
        np.concatenate([[0.0], np.interp(counts, sizes, talk)]),
        vector,
        0.0,
        ceiling,
        np.concatenate([[0.0], np.asarray(raw, dtype=np.float64)]),
        compression.kv_traffic_gain,
    )
