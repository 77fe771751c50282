"""A checkpoint's ``quantization_config``: bits a weight, what stays in 16 bits, the cache's width.

Bits include scales and zero points; sources: transformers 5.24.0 ``utils/quantization_config.py``, compressed-tensors
0.20.1, OCP Microscaling 1.0 (one E8M0 scale a block of 32), NVFP4 (one E4M3 scale a block of 16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from linepress_hardware.errors import ConfigurationError

# Groups that quantisers leave in 16 bits unless they say otherwise: tables, norms, routers, biases, small tensors.
KEPT = frozenset({"embed", "lm_head", "norm", "router", "bias", "other", "mixer"})
_PLAIN = {"BF16": 16.0, "FP8": 8.0, "FP8_PER_CHANNEL_PER_TOKEN": 8.0, "NVFP4": 4.5, "MXFP8": 8.25, "MXFP4": 4.25}
_FORMAT = {"nvfp4-pack-quantized": 4.5, "mxfp4-pack-quantized": 4.25, "mxfp6": 6.25, "mxfp8": 8.25}


@dataclass(frozen=True)
class Quantisation:
    """How a checkpoint stores its weights.

    Attributes
    ----------
    method : str
        ``quant_method`` of the configuration.
    weight_bits : float | None
        Bits of a quantised element, scales included; None where the method's storage is not known here.
    experts_only : bool
        Only routed experts are quantised.
    expert_bits : float | None
        Bits of routed experts where they differ from the rest.
    kv_bits : int | None
        Bits of a cached element where the configuration fixes them.
    """

    method: str
    weight_bits: float | None
    experts_only: bool = False
    expert_bits: float | None = None
    kv_bits: int | None = None

    def weight_bytes(self, parameters: Mapping[str, int], experts: Mapping[str, int]) -> float | None:
        """Bytes of all parameters: quantised groups at their bits, the others at 16; None for an unknown method."""
        if self.weight_bits is None:
            return None
        total = 0.0
        for group, count in parameters.items():
            routed = experts.get(group, 0)
            kept = group in KEPT or self.experts_only
            total += (count - routed) * (16.0 if kept else self.weight_bits)
            total += routed * (self.weight_bits if self.expert_bits is None else self.expert_bits)
        return total / 8


def parse_quantisation(config: Mapping[str, Any], name: str) -> Quantisation | None:
    """The quantisation of a configuration (``quantization_config``, or a ``hf_quant_config.json`` inside it).

    Raises
    ------
    ConfigurationError
        A field has a value that it cannot have.
    """
    raw = config.get("quantization_config") or config.get("compression_config")
    beside = config.get("_hf_quant_config")
    if raw is None and isinstance(beside, Mapping):
        raw = {**beside.get("quantization", {}), "quant_method": "modelopt"}
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{name}: quantization_config is {type(raw).__name__}, not an object; mend the file")
    method = str(raw.get("quant_method") or ("modelopt" if "quant_algo" in raw else "")).lower()
    reader = _READERS.get(method)
    if reader is None:
        return Quantisation(method or "a method that is not named", None)
    return reader(raw, method, name)


def _number(raw: Mapping[str, Any], key: str, default: float, name: str) -> float:
    value = raw.get(key, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        raise ConfigurationError(f"{name}: quantization_config {key} is {value!r}; give a number")
    return float(value)


def _fp8(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    experts = 4.25 if raw.get("expert_dtype") == "fp4" else None
    block = raw.get("weight_block_size")
    scale = 8 if raw.get("scale_fmt") == "ue8m0" else 32
    bits = 8.0 + (scale / (block[0] * block[1]) if isinstance(block, list) and len(block) == 2 else 0.0)
    return Quantisation(method, bits, expert_bits=experts)


def _mxfp4(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    return Quantisation(method, 4.25, experts_only=True)


def _grouped(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    """GPTQ and AWQ: an fp16 scale and a packed zero point a group (a group of -1 is a whole column)."""
    bits, group = _number(raw, "bits", 4, name), _number(raw, "group_size", 128, name)
    return Quantisation(method, bits + ((16 + bits) / group if group > 0 else 0.0))


def _bitsandbytes(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    if raw.get("load_in_4bit") or raw.get("_load_in_4bit"):
        return Quantisation(method, 4.127 if raw.get("bnb_4bit_use_double_quant") else 4.5)
    return Quantisation(method, 8.0)


def _compressed(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    groups = raw.get("config_groups")
    first: Any = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = (first.get("weights") if isinstance(first, Mapping) else None) or {}
    cache = raw.get("kv_cache_scheme") or {}
    kv_bits = int(_number(cache, "num_bits", 8, name)) if cache else None
    # mixtures often keep attention and shared experts in 16 bits: they are named in `ignore`
    experts_only = any("self_attn" in str(module) for module in raw.get("ignore") or ())
    form = str(raw.get("format", ""))
    if form in _FORMAT:
        return Quantisation(method, _FORMAT[form], experts_only, kv_bits=kv_bits)
    bits = _number(weights, "num_bits", 16, name)
    group = _number(weights, "group_size", -1, name)
    return Quantisation(method, bits + (16 / group if group > 0 else 0.0), experts_only, kv_bits=kv_bits)


def _modelopt(raw: Mapping[str, Any], method: str, name: str) -> Quantisation:
    algorithm = str(raw.get("quant_algo") or "")
    if algorithm.startswith("W4A"):
        bits = 4.0 + 16 / _number(raw, "group_size", 128, name)
    elif algorithm == "MIXED_PRECISION":
        layers = raw.get("quantized_layers")
        found = [str(v.get("quant_algo")) for v in layers.values()] if isinstance(layers, Mapping) else []
        widths = [_PLAIN[a] for a in found if a in _PLAIN]
        bits = sum(widths) / len(widths) if widths else 8.0
    elif algorithm in _PLAIN:
        bits = _PLAIN[algorithm]
    else:
        raise ConfigurationError(
            f"{name}: quant_algo {algorithm!r} is not known; known are {', '.join(_PLAIN)}, W4A… and MIXED_PRECISION"
        )
    cache = str(raw.get("kv_cache_quant_algo") or "")
    return Quantisation(
        method, bits, kv_bits=8 if cache.startswith(("FP8", "INT8")) else 4 if "FP4" in cache else None
    )


def _fixed(bits: float) -> Callable[[Mapping[str, Any], str, str], Quantisation]:
    return lambda raw, method, name: Quantisation(method, bits)


# quant_method -> how its fields give the bits
_READERS: dict[str, Callable[[Mapping[str, Any], str, str], Quantisation]] = {
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "gptq": _grouped,
    "awq": _grouped,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "fbgemm_fp8": _fixed(8.0),
    "nvfp4": _fixed(4.5),
    "mxfp8": _fixed(8.25),
}
