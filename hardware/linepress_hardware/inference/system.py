"""From ratios and channel gains to seconds, tokens/s, capacity, devices, racks, joules and dollars.

Every compressed number stands beside the plain one, and each modelled time beside its closed form:

- step time t = max((W/r_w + B S k/r_kv + A) / (η BW n), op / (P n)) + t_comm + t_overhead (overlapped bound);
- memory-bound speed-up (W + B S k) / (W/r_w + B S k/r_kv); 1 / r_eff = Σ f_i / r_i over byte shares;
- capacity B S ≤ r_kv (u M n − W_all/r_w) / k, k over all copies; gain r_kv (u M n − W/r_w) / (u M n − W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from linepress_hardware.catalog.accelerators import Accelerator, accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import capacity, traffic
from linepress_hardware.inference import operators as ops_of
from linepress_hardware.inference.band import Residual, expected, residual_of, residuals
from linepress_hardware.inference.catalog import model as find_model
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.cost import energy_and_cost
from linepress_hardware.inference.operator import Operator, total
from linepress_hardware.inference.operators import Step
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.roofline import Device, device
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.shapes import ModelShape
from linepress_hardware.racks.racks import chips_per_rack

__all__ = ["Scenario", "evaluate", "sensitivity"]


@dataclass(frozen=True)
class _Setting:
    """What all stages of one evaluation share."""

    shape: ModelShape
    part: Accelerator
    scenario: Scenario
    on: Device
    parallel: Parallel


def evaluate(
    model: str,
    accelerator_name: str,
    scenario: Scenario,
    compression: Compression,
    *,
    model_config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One operating point with and without compression, as a flat row.

    Returns
    -------
    dict
        The names of the table ``system``: with compression, and under ``plain_`` the same without, ``time_s`` (a
        decode step), ``tokens_per_s``, ``ttft_s`` (prompt to first token), ``largest_batch`` (at the scenario's
        context), ``largest_context_tokens`` (at its batch), ``devices_needed``, ``racks_needed``,
        ``kv_equals_weights_at_tokens``, ``compute_bound_batch``, ``energy_J_per_million_tokens``,
        ``cost_usd_per_million_tokens``; under ``compressed_`` and ``plain_`` ``fits`` and ``capacity_tokens``.
        ``speedup``, ``ttft_speedup``, ``capacity_gain`` and their ``closed_form_*``; ``bound_by``;
        ``expected_*`` with ``_low`` and ``_high``: tokens/s and speed-up of a machine rather than of the bound, with
        the band of ``band_source``; ``largest_batch_low``: less what an engine keeps for itself;
        ``allreduce_s``, ``communication_s`` a step; ``traffic_*`` bytes; ``*_status`` of the figures behind money.

    Raises
    ------
    HardwareError
        Unknown names, numbers out of range, a layout the model or the link cannot have.
    """
    shape = find_model(model, model_config)
    part = accelerator(accelerator_name)
    precision = scenario.parsed_precision()
    parallel = scenario.parallel()
    parallel.check(shape)
    setting = _Setting(shape, part, scenario, device(part, precision), parallel)
    row: dict[str, Any] = {
        "parameters": shape.parameters,
        "devices": parallel.devices,
        "device_bandwidth_GBps": part.bandwidth_Bps / 1e9,
        "device_capacity_GB": part.capacity_bytes / 1e9,
        "device_peak_Tops": setting.on.peak_ops["matmul"] / 1e12,
    }
    row |= _decode(setting, compression)
    row |= _prefill(setting, compression)
    row |= _capacity(setting, compression)
    for side in ("plain_", ""):
        money = energy_and_cost(part, parallel.devices, row[f"{side}tokens_per_s"])
        row |= {f"{side}{key}" if key.endswith("_tokens") else key: value for key, value in money.items()}
    return row


def _step_ops(setting: _Setting, step: Step) -> list[Operator]:
    return ops_of.operators(
        setting.shape, step, setting.scenario.parsed_precision(), fused_attention=True, parallel=setting.parallel
    )


def _times(
    setting: _Setting, step: Step, compression: Compression, by: Residual | None = None
) -> tuple[list[Operator], traffic.StepTime, traffic.StepTime, traffic.Communication]:
    """Operators of a step, its time plain and compressed, and its communication; `by`: a machine's constants."""
    s = setting.scenario
    ops = _step_ops(setting, step)
    talk = traffic.communication(
        setting.shape,
        step,
        setting.part,
        s.parsed_precision(),
        setting.parallel,
        topology=s.topology,
        algorithm=s.algorithm,
    )
    plain, packed = (
        traffic.step_time(
            ops,
            setting.on,
            what,
            communication_s=talk.time_s,
            memory_efficiency=s.memory_efficiency if by is None else by.memory_efficiency,
            compute_efficiency=s.compute_efficiency if by is None else by.compute_efficiency,
            overhead_s=s.overhead_s if by is None else by.overhead_s,
        )
        for what in (None, compression)
    )
    return ops, plain, packed, talk


def _decode(setting: _Setting, compression: Compression) -> dict[str, Any]:
    s = setting.scenario
    # A pipeline keeps pp micro-batches in flight; each step carries one of them through all stages.
    batch = int(np.ceil(s.batch / s.pp))
    if s.draft_tokens:
        step = ops_of.verify(batch, s.context_tokens, s.draft_tokens)
    else:
        step = ops_of.decode(batch, s.context_tokens)
    ops, plain, packed, talk = _times(setting, step, compression)
    tokens = s.batch * (1 + s.accepted_tokens)
    residual = residual_of(setting.part)
    # A scenario that says what kernels reach is taken at its word; otherwise the measured machine's constants count.
    own = s.memory_efficiency != 1.0 or s.compute_efficiency != 1.0 or s.overhead_s != 0.0
    _, plain_e, packed_e, _ = _times(setting, step, compression, None if own else residual)
    speedup = float(plain.time_s) / float(packed.time_s)
    weights, kv = total(ops, "weight_bytes"), total(ops, "kv_read_bytes")
    stored_weights = sum(op.count * op.weight_bytes / compression.traffic_gain_of(op.group) for op in ops if op.group)
    stored_kv = kv / compression.kv_traffic_gain
    moved = sum(op.count * traffic.stored_bytes_moved(op, compression) for op in ops)
    closed = (weights + kv) / (stored_weights + stored_kv)
    step_ops_s = sum(op.count * op.ops / setting.on.peak_ops[op.kind] for op in ops) / s.compute_efficiency
    memory_s = moved / (setting.on.bandwidth_Bps * s.memory_efficiency)
    parts = {
        "memory": float(memory_s),
        "compute": float(step_ops_s),
        "decompressor": float(packed.decompressor_s),
        "communication": talk.time_s,
        "overhead": s.overhead_s,
    }
    return {
        "plain_time_s": float(plain.time_s),
        "time_s": float(packed.time_s),
        "closed_form_plain_time_s": float(plain.bound_s),
        "closed_form_time_s": float(packed.bound_s),
        "plain_tokens_per_s": tokens / float(plain.time_s),
        "tokens_per_s": tokens / float(packed.time_s),
        "speedup": speedup,
        "closed_form_speedup": float(closed),
        **expected(
            tokens,
            (float(plain_e.time_s), float(packed_e.time_s)),
            (float(plain.bound_s), float(packed.bound_s)),
            speedup,
            residual,
        ),
        "bound_by": max(parts, key=lambda name: parts[name]),
        **{f"decode_{name}_s": seconds for name, seconds in parts.items()},
        "decode_latency_s": float(packed.latency_s),
        "allreduce_s": talk.all_reduce_s,
        "communication_s": talk.time_s,
        "traffic_weight_bytes": float(weights),
        "traffic_kv_bytes": float(kv),
        "traffic_other_bytes": float(total(ops, "bytes") - weights - kv),
        "traffic_stored_bytes": float(moved),
        "effective_traffic_ratio": float(closed),
        "decompressor_needed_GBps": float(traffic.compressed_reads(ops) / packed.time_s / 1e9),
        "bytes_in_flight_added": setting.part.bandwidth_Bps * compression.decode_latency_ns * 1e-9,
    }


def _prefill(setting: _Setting, compression: Compression) -> dict[str, Any]:
    s = setting.scenario
    chunk = s.chunk_tokens or s.prompt
    plain_s = packed_s = bound_s = 0.0
    ops_total_s = memory_total_s = 0.0
    for prior in range(0, s.prompt, chunk):
        tokens = min(chunk, s.prompt - prior)
        step = ops_of.chunk(1, tokens, prior) if prior else ops_of.prefill(1, tokens)
        ops, plain, packed, _ = _times(setting, step, compression)
        plain_s += float(plain.time_s)
        packed_s += float(packed.time_s)
        bound_s += float(plain.bound_s)
        ops_total_s += float(sum(op.count * op.ops / setting.on.peak_ops[op.kind] for op in ops))
        memory_total_s += float(total(ops, "bytes")) / setting.on.bandwidth_Bps
    return {
        "prompt_tokens": s.prompt,
        "plain_ttft_s": plain_s,
        "ttft_s": packed_s,
        "closed_form_plain_ttft_s": bound_s,
        "ttft_speedup": plain_s / packed_s,
        "prefill_bound": "compute" if ops_total_s >= memory_total_s else "memory",
    }


def _capacity(setting: _Setting, compression: Compression) -> dict[str, Any]:
    s, shape, part = setting.scenario, setting.shape, setting.part
    precision = s.parsed_precision()
    # Replicas hold their own weights, so capacity is counted for one of them and multiplied.
    devices = s.tp * s.pp
    budget = capacity.budget_bytes(part, devices, s.usable_share)
    reserved = residuals().reserve_bytes * devices
    batch = int(np.ceil(s.batch / s.dp))
    rack = chips_per_rack(part.name)
    out: dict[str, Any] = {"chips_per_rack": rack.chips, "chips_per_rack_status": rack.status}
    held = {
        "plain": capacity.footprint(shape, precision, PLAIN, setting.parallel),
        "compressed": capacity.footprint(shape, precision, compression, setting.parallel),
    }
    for side, print_ in held.items():
        name = "" if side == "compressed" else f"{side}_"
        needed = capacity.devices_needed(print_, part, s.usable_share, batch, s.context_tokens) * s.dp
        everywhere = print_.window_share == 1.0
        out |= {
            f"{side}_fits": print_.total_bytes(batch, s.context_tokens) <= budget,
            f"{side}_capacity_tokens": capacity.capacity_tokens(print_, budget) * s.dp,
            f"{name}weight_bytes": print_.weight_bytes,
            f"{name}kv_bytes": print_.kv_bytes(s.batch, s.context_tokens),
            f"{name}largest_batch": capacity.largest_batch(print_, budget, s.context_tokens) * s.dp,
            f"{name}largest_batch_low": capacity.largest_batch(print_, budget - reserved, s.context_tokens) * s.dp,
            f"{name}largest_context_tokens": None if everywhere else capacity.largest_context(print_, budget, batch),
            f"{name}devices_needed": needed,
            f"{name}racks_needed": None if rack.chips is None else -(-needed // rack.chips),
        }
    out |= _crossovers(setting, compression, held)
    plain_tokens = out["plain_capacity_tokens"]
    out["capacity_gain"] = out["compressed_capacity_tokens"] / plain_tokens if plain_tokens else None
    room = budget - held["plain"].weight_bytes
    out["closed_form_capacity_gain"] = (
        compression.kv_capacity_ratio * (budget - held["compressed"].weight_bytes) / room if room > 0 else None
    )
    return out


def _crossovers(
    setting: _Setting, compression: Compression, held: Mapping[str, capacity.Footprint]
) -> dict[str, Any]:
    """Where KV outweighs weights (B × S), and the batch at which a short-context step turns compute bound."""
    precision = setting.scenario.parsed_precision()
    shape = setting.shape
    step_weights = {group: n * precision.weight_bytes for group, n in shape.parameters_by_group().items()}
    if not shape.tied_embeddings:
        step_weights.pop("embed")
    per_token = shape.kv_bytes_per_token(precision.kv_bytes) * setting.parallel.kv_copies(shape)
    ridge = setting.on.ridge_op_per_B * precision.weight_bytes / 2
    out: dict[str, Any] = {}
    for side, what in (("plain_", PLAIN), ("", compression)):
        read = sum(size / what.traffic_gain_of(group) for group, size in step_weights.items())
        raw = sum(step_weights.values())
        out[f"{side}kv_equals_weights_at_tokens"] = read * what.kv_traffic_gain / per_token
        out[f"{side}compute_bound_batch"] = ridge * read / raw
    return out


def sensitivity(
    model: str,
    accelerator_name: str,
    scenario: Scenario,
    compression: Compression,
    parameter: str,
    values: list[float],
) -> list[dict[str, Any]]:
    """Rows of `evaluate` with one field of the compression or of the scenario set to each of `values`.

    Raises
    ------
    ConfigurationError
        `parameter` is a field of neither.
    """
    rows = []
    for value in values:
        case, what = scenario, compression
        if parameter in Compression.__dataclass_fields__:
            what = replace(compression, **{parameter: value})  # type: ignore[arg-type]
        elif parameter in Scenario.__dataclass_fields__:
            whole = isinstance(getattr(scenario, parameter), int)
            case = replace(scenario, **{parameter: int(value) if whole else value})  # type: ignore[arg-type]
        else:
            known = ", ".join([*Compression.__dataclass_fields__, *Scenario.__dataclass_fields__])
            raise ConfigurationError(f"sensitivity to {parameter!r} is unknown; use one of {known}")
        rows.append({"parameter": parameter, "value": value, **evaluate(model, accelerator_name, case, what)})
    return rows
