"""Bytes that a step moves with and without compression, and the seconds of the step on its devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import all_reduce, exchange
from linepress_hardware.fabric.curves import collective_time
from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.operator import Operator, total
from linepress_hardware.inference.operators import Step
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import Device
from linepress_hardware.inference.shapes import ModelShape


@dataclass(frozen=True)
class StepTime:
    """Where the seconds of one step go.

    `operators_s` sums the operators one by one (no overlap); `overlapped_s` is max(all bytes, all operations),
    the best any schedule can do; `communication_s` all-reduces and transfers; `decompressor_s` is what the
    decompressors need at least; `latency_s` the decode latency once an operator that reads memory.
    """

    operators_s: Any
    overlapped_s: Any
    communication_s: float
    decompressor_s: Any
    latency_s: float
    overhead_s: float

    @property
    def time_s(self) -> Any:
        """Operators one by one, no faster than the decompressors, plus what cannot overlap."""
        busy = np.maximum(self.operators_s, self.decompressor_s)
        return busy + self.communication_s + self.latency_s + self.overhead_s

    @property
    def bound_s(self) -> Any:
        """The overlapped closed form with the same additions."""
        busy = np.maximum(self.overlapped_s, self.decompressor_s)
        return busy + self.communication_s + self.latency_s + self.overhead_s


def stored_bytes_moved(op: Operator, compression: Compression) -> Any:
    """Bytes on the memory bus of one occurrence: weights and KV reads shrink by their gains.

    KV writes shrink by the capacity ratio; activations are not compressed.
    """
    return (
        op.weight_bytes / (compression.traffic_gain_of(op.group) if op.group else 1.0)
        + op.act_read_bytes
        + op.act_written_bytes
        + op.kv_read_bytes / compression.kv_traffic_gain
        + op.kv_written_bytes / compression.kv_capacity_ratio
    )


def compressed_reads(ops: list[Operator]) -> Any:
    """Raw bytes a step that pass a decompressor: weights and KV reads."""
    return total(ops, "weight_bytes") + total(ops, "kv_read_bytes")


def step_time(
    ops: list[Operator],
    on: Device,
    compression: Compression | None,
    *,
    communication_s: float = 0.0,
    memory_efficiency: float = 1.0,
    compute_efficiency: float = 1.0,
    overhead_s: float = 0.0,
) -> StepTime:
    """Seconds of a step on one device; `compression` None means plain memory without decompressors."""
    plain = Compression() if compression is None else compression
    bandwidth = on.bandwidth_Bps * memory_efficiency
    peaks = {kind: peak * compute_efficiency for kind, peak in on.peak_ops.items()}
    moved = [stored_bytes_moved(op, plain) for op in ops]
    by_op = sum(
        op.count * np.maximum(size / bandwidth, op.ops / peaks[op.kind]) for op, size in zip(ops, moved, strict=True)
    )
    all_bytes = sum(op.count * size for op, size in zip(ops, moved, strict=True))
    all_ops = sum(op.count * op.ops / peaks[op.kind] for op in ops)
    ceiling, latency_s = 0.0, 0.0
    if compression is not None:
        if compression.decompressor_GBps is not None:
            ceiling = compressed_reads(ops) / (compression.decompressor_GBps * 1e9)
        reading = sum(op.count for op in ops if np.any(op.weight_bytes > 0) or np.any(op.kv_read_bytes > 0))
        latency_s = reading * compression.decode_latency_ns * 1e-9
    return StepTime(
        by_op, np.maximum(all_bytes / bandwidth, all_ops), communication_s, ceiling, latency_s, overhead_s
    )


@dataclass(frozen=True)
class Communication:
    """Seconds of one step between devices."""

    all_reduce_s: float
    all_to_all_s: float
    pipeline_s: float

    @property
    def time_s(self) -> float:
        return self.all_reduce_s + self.all_to_all_s + self.pipeline_s


def communication(
    shape: ModelShape,
    step: Step,
    part: Accelerator,
    precision: Precision,
    parallel: Parallel,
    *,
    topology: str = "switch",
    algorithm: str = "",
) -> Communication:
    """Two all-reduces a layer over tp, two all-to-alls a mixture layer over ep, pp − 1 transfers.

    On a switch, with no algorithm asked for, a collective takes what the machine is measured to take
    (`linepress_hardware.fabric.curves`); elsewhere the link's launch time plus the closed form with the link's
    latency a message.

    Raises
    ------
    ConfigurationError
        Several devices without a link in the accelerator's file, or more than its domain holds.
    """
    if parallel.devices == 1:
        return Communication(0.0, 0.0, 0.0)
    if parallel.tp == parallel.pp == parallel.ep == 1:
        return Communication(0.0, 0.0, 0.0)
    link = part.link
    if link is None:
        raise ConfigurationError(
            f"{part.name} has no [link] in its data file, so {parallel.devices} devices cannot be joined; "
            f"use tp = pp = ep = 1 or add the link"
        )
    domain = int(link.domain.value)
    if max(parallel.tp, parallel.ep) > domain:
        raise ConfigurationError(
            f"{part.name}: tp {parallel.tp} and ep {parallel.ep} must stay within the {domain} devices that "
            f"{link.name} joins; use pp or dp beyond"
        )
    latency_s, bandwidth = link.latency.base, link.bandwidth.base
    tokens = float(np.ceil(step.batch / parallel.dp) * step.new_tokens)
    size = tokens * shape.hidden * precision.activation_bytes
    reduce_s = all_to_all_s = pipeline_s = 0.0
    experts_apart = parallel.ep > 1
    reduces = 2 * shape.layers - (shape.moe_layers if experts_apart else 0)
    measured = topology == "switch" and not algorithm
    if parallel.tp > 1 and measured:
        reduce_s = reduces * collective_time(part, "all_reduce", parallel.tp, size).time_s
    elif parallel.tp > 1:
        one = all_reduce(
            algorithm or link.algorithm,
            parallel.tp,
            size,
            latency_s=latency_s,
            bandwidth_Bps=bandwidth,
            topology=topology,
        )
        reduce_s = reduces * (link.launch.base + one.time_s)
    if experts_apart and shape.experts is not None:
        payload = size * shape.experts.active / parallel.tp
        all_to_all_s = 2 * shape.moe_layers * collective_time(part, "all_to_all", parallel.ep, payload).time_s
    if parallel.pp > 1:
        one = exchange("send", 2, size, latency_s=latency_s, bandwidth_Bps=bandwidth)
        pipeline_s = (parallel.pp - 1) * (link.launch.base + one.time_s)
    return Communication(reduce_s, all_to_all_s, pipeline_s)
