"""Stage ``system``: what measured ratios and channel gains are worth on an accelerator, in a pure function.

A case is one model × accelerator × scenario × codec variant. It carries plain numbers from the stages before
(ratios of ``measure``, bandwidth gains of ``channel``), so that it can be evaluated anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from linepress_hardware.inference.compression import Compression
from linepress_hardware.inference.system import Scenario, evaluate

__all__ = ["Scenario", "SystemCase", "system_case"]


@dataclass(frozen=True)
class SystemCase:
    """One row of the ``system`` table before it is evaluated.

    Attributes
    ----------
    model : str
        A built-in shape (``llama-3.1-8b``) or, when `model_config` is given, the name to print.
    accelerator : str
        A built-in accelerator (``h100-sxm``) or one of its aliases.
    scenario : Scenario
        Context, batch, prompt, answer, precision, devices, parallelism and fabric.
    codec : str
        The variant whose numbers these are, as printed.
    weight_ratio, kv_ratio : float
        Packed ratios (raw / stored), bare.
    weight_ratio_by_group : Mapping[str, float]
        Packed ratios by tensor group (``q_proj`` … ``embed``); a group that is missing takes `weight_ratio`.
    key_ratio, value_ratio : float | None
        Packed ratios of keys and of values; None takes `kv_ratio`.
    channel_gain_sequential, channel_gain_kv : float | None
        Effective over plain bandwidth of streams of weights and of KV reads, from the channel stage; None
        takes the ratio itself, which only a channel without overheads reaches.
    decode_latency_ns : float
        Latency that the decompressor adds to a read.
    decompressor_GBps : float | None
        Raw bytes per second that all decompressors of one device put out together; None means no ceiling.
    engine_GBps : float | None
        Raw bytes per second of one decoder, from the codec's hardware card; gives ``decoder_engines_needed``.
    model_config : Mapping | None
        A Hugging Face ``config.json`` as a dictionary, instead of a built-in shape.
    """

    model: str
    accelerator: str
    scenario: Scenario
    codec: str
    weight_ratio: float
    kv_ratio: float = 1.0
    weight_ratio_by_group: Mapping[str, float] = field(default_factory=dict)
    key_ratio: float | None = None
    value_ratio: float | None = None
    channel_gain_sequential: float | None = None
    channel_gain_kv: float | None = None
    decode_latency_ns: float = 0.0
    decompressor_GBps: float | None = None
    engine_GBps: float | None = None
    model_config: Mapping[str, Any] | None = None
    memory: str = ""
    packing: str = ""
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Columns that say which case it is."""
        names = ("model", "accelerator", "codec", "memory", "packing", "seed", "weight_ratio", "kv_ratio")
        scenario = {f"scenario_{key}": value for key, value in asdict(self.scenario).items() if key != "name"}
        return {
            **{name: getattr(self, name) for name in names},
            "scenario": self.scenario.name,
            "stage": "decode",
            "context_tokens": self.scenario.context_tokens,
            "batch": self.scenario.batch,
            **scenario,
        }


def system_case(case: SystemCase) -> dict[str, Any]:
    """A row of the table ``system``: `SystemCase.identity` and `linepress_hardware.inference.system.evaluate`.

    ``kv_ratio`` is that of the capacity (keys and values together), ``decoder_engines_needed`` the decoders that keep
    up, ``sources`` (JSON) the standing of the figures behind energy and money.

    Raises
    ------
    HardwareError
        Unknown model or accelerator, a ratio or size that is not positive, a parallel layout that does not divide.
    """
    compression = Compression(
        weight_ratio=case.weight_ratio,
        kv_ratio=case.kv_ratio,
        weight_ratio_by_group=dict(case.weight_ratio_by_group),
        key_ratio=case.key_ratio,
        value_ratio=case.value_ratio,
        weight_bandwidth_gain=case.channel_gain_sequential,
        kv_bandwidth_gain=case.channel_gain_kv,
        decode_latency_ns=case.decode_latency_ns,
        decompressor_GBps=case.decompressor_GBps,
    )
    row = evaluate(case.model, case.accelerator, case.scenario, compression, model_config=case.model_config)
    needed = row["decompressor_needed_GBps"]
    return {
        **case.identity(),
        **row,
        "kv_ratio": compression.kv_capacity_ratio,
        "decoder_engines_needed": case.engine_GBps and math.ceil(needed / case.engine_GBps - 1e-9),
        "sources": json.dumps({key: row[key] for key in _SOURCES if row[key] is not None}),
    }


_SOURCES = (
    "energy_status",
    "energy_source",
    "cost_status",
    "cost_source",
    "chips_per_rack_status",
)
