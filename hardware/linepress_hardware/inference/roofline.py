"""The roofline: attained performance and time of each operator on a device, and of the whole step.

performance = min(peak, intensity × bandwidth); memory bound if intensity < peak / bandwidth, else compute bound;
time = operations / performance = max(operations / peak, bytes / bandwidth); operators add up without overlap.
Source: Williams, Waterman & Patterson, Roofline (2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import capacity, reference
from linepress_hardware.inference import operators as corrected
from linepress_hardware.inference.compression import PLAIN
from linepress_hardware.inference.operator import Operator, Quantity, total
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape

MODES = ("reference", "corrected")

# column of a row or total -> attribute of Operator
COLUMNS = {
    "ops": "ops",
    "memory_B": "bytes",
    "load_weight_B": "weight_bytes",
    "load_act_B": "act_read_bytes",
    "store_act_B": "act_written_bytes",
    "load_kv_B": "kv_read_bytes",
    "store_kv_B": "kv_written_bytes",
}


@dataclass(frozen=True)
class Device:
    """What a roofline needs of an accelerator at one precision: bytes/s and op/s by kind of operator."""

    name: str
    bandwidth_Bps: float
    peak_ops: dict[str, float]
    on_chip_bytes: float | None = None

    @property
    def ridge_op_per_B(self) -> float:
        """Intensity at which a matrix product turns compute bound."""
        return self.peak_ops["matmul"] / self.bandwidth_Bps


def device(part: Accelerator, precision: Precision, mode: str = "corrected") -> Device:
    """The device as `mode` sees it.

    ``corrected``: data-sheet bandwidth of the main tier; the peak of a product is the one of its wider operand
    (weight and activation; activation and KV), element-wise work takes the activation's. ``reference``: the
    published tool's constants where it knows the device, its rule for the 8-bit peak always.
    """
    if mode not in MODES:
        raise ConfigurationError(f"mode {mode!r} is unknown; use {' or '.join(MODES)}")
    w, a, c = precision.weight_bits, precision.activation_bits, precision.kv_bits
    if mode == "corrected":
        peaks = {
            "matmul": part.peak_ops(max(w, a)),
            "attention": part.peak_ops(max(a, c)),
            "vector": part.peak_ops(a),
        }
        return Device(part.name, part.bandwidth_Bps, peaks)
    known = part.reference
    bandwidth = part.bandwidth_Bps if known is None else known.bandwidth_Bps
    narrow = max(w, a, c) <= 8
    if known is None:
        peak = part.peak_ops(8 if narrow else 16)
    elif narrow:
        if known.peak_8_ops is None:
            raise ConfigurationError(f"{part.name}: [reference] has no peak_8_Tops; use w16a16kv16")
        peak = known.peak_8_ops
    else:
        peak = known.peak_16_ops
    name = part.name if known is None else known.name
    on_chip = None if known is None else known.on_chip_bytes
    return Device(name, bandwidth, dict.fromkeys(("matmul", "attention", "vector"), peak), on_chip)


def performance(op: Operator, on: Device) -> Quantity:
    """Attained op/s."""
    return np.minimum(on.peak_ops[op.kind], op.intensity_op_per_B * on.bandwidth_Bps)


def time_s(op: Operator, on: Device) -> Quantity:
    """Seconds of one occurrence."""
    return np.asarray(op.ops / performance(op, on))


def step_time_s(ops: list[Operator], on: Device) -> Any:
    """Σ count × time over a step, seconds; a float64 scalar or array."""
    return sum(op.count * time_s(op, on) for op in ops)


def is_memory_bound(op: Operator, on: Device) -> Any:
    """Intensity strictly below the ridge of the operator's kind."""
    return op.intensity_op_per_B < on.peak_ops[op.kind] / on.bandwidth_Bps


def row(op: Operator, on: Device) -> dict[str, Any]:
    """One operator at one point as plain numbers, units in the keys; `count` occurrences a step."""
    numbers = {column: float(getattr(op, attribute)) for column, attribute in COLUMNS.items()}
    return {
        "layer": op.name,
        "count": op.count,
        **numbers,
        "intensity_op_per_B": float(op.intensity_op_per_B),
        "performance_op_per_s": float(performance(op, on)),
        "bound": "memory" if bool(is_memory_bound(op, on)) else "compute",
        "time_s": float(time_s(op, on)),
    }


def totals(ops: list[Operator], on: Device) -> dict[str, float]:
    """Sums over a step: operations, bytes by kind, seconds."""
    out = {column: float(total(ops, attribute)) for column, attribute in COLUMNS.items()}
    out["time_s"] = float(step_time_s(ops, on))
    return out


def roofline(
    shape: ModelShape,
    part: Accelerator,
    *,
    stage: str,
    batch: int,
    context_tokens: int,
    precision: Precision,
    mode: str = "corrected",
    fused_attention: bool = False,
    parallel: Parallel = ONE_DEVICE,
) -> dict[str, Any]:
    """Rows, totals and resident bytes of one stage (``prefill`` or ``decode``) at one point.

    Returns
    -------
    dict
        ``device`` (name, bandwidth_GBps, peak_Tops by kind, ridge_op_per_B), ``rows`` (one an operator,
        `row`), ``totals`` (`totals`), ``resident`` (bytes held: weights, KV, activations).
    """
    if stage not in reference.STAGES:
        raise ConfigurationError(f"stage {stage!r} is unknown; use prefill or decode")
    if batch < 1 or context_tokens < 1:
        raise ConfigurationError(f"batch {batch} and context {context_tokens} must be 1 or more")
    on = device(part, precision, mode)
    if mode == "reference":
        if parallel != ONE_DEVICE:
            raise ConfigurationError("reference mode knows one device only; use --mode corrected for tp, pp, ep, dp")
        ops = reference.operators(
            shape,
            stage,
            batch,
            context_tokens,
            precision,
            fused_attention=fused_attention,
            on_chip_bytes=on.on_chip_bytes,
        )
        resident = reference.resident_bytes(
            shape,
            stage,
            batch,
            context_tokens,
            precision,
            fused_attention=fused_attention,
            on_chip_bytes=on.on_chip_bytes,
        )
    else:
        step = (corrected.prefill if stage == "prefill" else corrected.decode)(batch, context_tokens)
        ops = corrected.operators(shape, step, precision, fused_attention=fused_attention, parallel=parallel)
        resident = _resident(shape, ops, batch, context_tokens, precision, parallel)
    return {
        "mode": mode,
        "stage": stage,
        "device": {
            "name": on.name,
            "bandwidth_GBps": on.bandwidth_Bps / 1e9,
            "peak_Tops": {kind: peak / 1e12 for kind, peak in on.peak_ops.items()},
            "ridge_op_per_B": on.ridge_op_per_B,
        },
        "rows": [row(op, on) for op in ops],
        "totals": totals(ops, on),
        "resident": resident,
    }


def _resident(
    shape: ModelShape,
    ops: list[Operator],
    batch: int,
    context_tokens: int,
    precision: Precision,
    parallel: Parallel,
) -> dict[str, float]:
    """Bytes held by all devices together, every copy counted; sliding layers keep their window only.

    Activations are the widest single operator's inputs and outputs.
    """
    held = capacity.footprint(shape, precision, PLAIN, parallel)
    weights = held.weight_bytes * parallel.dp
    kv = held.kv_bytes(batch, context_tokens)
    act = max(float(op.act_read_bytes + op.act_written_bytes) for op in ops) * parallel.tp
    return {
        "resident_B": weights + kv + act,
        "resident_act_B": act,
        "resident_weight_B": weights,
        "resident_kv_B": kv,
    }
