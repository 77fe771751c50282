"""`dram`, `channel`, `roofline` and `fabric`: what the verbs of these names call, on Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from linepress.errors import LinepressError


def dram(
    part: str,
    pattern: str,
    *,
    requests: int = 65536,
    seed: int | None = None,
    interval_ns: float | None = None,
    mapping: str | None = None,
    policy: str | None = None,
    window: int | None = None,
    overrides: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Simulate one channel of a memory, command by command, as ``linepress dram``.

    Parameters
    ----------
    part, pattern
        Names of ``linepress dram --list``, or a ``.toml`` file of a part. Requests are 64 B.
    interval_ns, window
        Open loop (one request every so many ns) or closed loop (so many atoms in flight); neither: as fast as the
        controller takes them.
    overrides
        Timings and organisation that differ from the part's, for instance ``{"tFAW": 10}``.

    Returns the verb's summary: ``bandwidth_GBps``, ``bandwidth_pct_peak``, ``bus_time_pct`` and so on. Raises
    `LinepressError` or `linepress_hardware.errors.HardwareError` in one sentence.
    """
    from linepress_hardware import dram as model

    if interval_ns is not None and window is not None:
        raise LinepressError("interval_ns (open loop) and window (closed loop) exclude each other; keep one")
    memory = model.load_memory(part, dict(overrides or {}))
    trace = model.pattern(pattern, requests, seed=seed, footprint_bytes=min(memory.capacity_bytes, 1 << 28))
    arrival = None if interval_ns is None else np.arange(len(trace), dtype=np.float64) * interval_ns
    found = model.simulate(
        memory, trace.address_bytes, trace.is_write, arrival, mapping=mapping, policy=policy, window=window
    )
    return found.summary()


def channel(
    bits: ArrayLike, *, memory: str = "hbm3", packing: str = "stream", codec: str = "", data: str = "", **case: Any
) -> dict[str, Any]:
    """A compressed memory channel on coded line sizes, beside the plain one, as ``linepress channel``.

    Parameters
    ----------
    bits
        Coded bits of each line, unsigned[n], as `ArrayCodec.measure` and ``Packed.bits`` give them.
    codec, data
        Labels of the row; ``data="kv"`` compresses both ways, anything else once.
    case
        Further fields of `linepress.stages.channel.case.ChannelCase`: ``workload``, ``within_pct``, ``mapping``,
        ``policy``, ``decode_latency_ns``, ``seed``, … Latencies not given are the model's own.

    Returns a row of the table ``channel``. Raises `LinepressError` for sizes that are none, else as `dram`.
    """
    from linepress.stages.channel.case import ChannelCase
    from linepress.stages.channel.inputs import LineSizes, case_of
    from linepress.stages.channel.row import channel_case

    sizes = np.asarray(bits)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "ui" or int(sizes.min()) < 0:
        raise LinepressError("bits are the coded bits of one line or more: a flat array of whole numbers, 0 or more")
    named: dict[str, Any] = {"line_bytes": 64, "table_bytes": 0, "workload": "random"} | case
    known = LineSizes(
        codec,
        data,
        tuple(np.bincount(sizes).tolist()),
        line_bytes=named["line_bytes"],
        table_bytes=named["table_bytes"],
        decode_latency_ns=case.get("decode_latency_ns"),
        encode_latency_ns=case.get("encode_latency_ns"),
        decode_interval_ns=case.get("decode_interval_ns"),
    )
    base = ChannelCase(memory=memory, packing=packing, codec=codec, data=data, bits_histogram=(), **named)
    return channel_case(case_of(base, known))


def roofline(
    model: str,
    accelerator: str,
    *,
    stage: str = "decode",
    context_tokens: int = 2048,
    batch: int = 1,
    precision: str = "w16a16kv16",
    fused: bool = False,
    **parallel: int,
) -> dict[str, Any]:
    """Operators of a model on an accelerator: operations, bytes and what bounds them, as ``linepress roofline``.

    Parameters
    ----------
    model, accelerator
        Built-in names, or a Hugging Face ``config.json`` and a ``.toml`` part.
    stage
        ``prefill`` or ``decode``.
    parallel
        ``tp``, ``ep``, ``pp``, ``dp``: devices by kind of parallelism, 1 each unless given.

    Returns ``device``, ``rows`` (one an operator), ``totals`` and ``resident``: the verb's corrected numbers.
    """
    from linepress.api.named import accelerator_named, model_named
    from linepress_hardware.inference.parallel import Parallel
    from linepress_hardware.inference.precision import parse_precision
    from linepress_hardware.inference.roofline import roofline as evaluate

    return evaluate(
        model_named(model),
        accelerator_named(accelerator),
        stage=stage,
        batch=batch,
        context_tokens=context_tokens,
        precision=parse_precision(precision),
        fused_attention=fused,
        parallel=Parallel(**parallel),
    )


def fabric(topology: str, size: int | str, *, accelerators: int | None = None, **collective: Any) -> dict[str, Any]:
    """Time of a collective: closed form, bound and packet simulation, as ``linepress fabric allreduce``.

    Parameters
    ----------
    topology
        A packaged topology (``linepress fabric topology`` lists them) or a ``.toml`` of the same layout.
    size
        Payload of an accelerator: bytes, or a text such as ``"64MiB"``.
    collective
        ``operation``, ``algorithm``, ``ratio``, ``codec_ns``, ``run``, ``max_packets`` of
        `linepress_hardware.fabric.evaluate.collective`.

    Returns its row: ``time_s``, ``plain_time_s``, ``closed_form_s``, ``bound_s``, ``speedup`` and so on.
    """
    from linepress.api.named import size_bytes, topology_named
    from linepress_hardware.fabric.evaluate import collective as evaluate
    from linepress_hardware.fabric.evaluate import fabric_of

    return evaluate(fabric_of(topology_named(topology, accelerators)), size_bytes(str(size)), **collective)
