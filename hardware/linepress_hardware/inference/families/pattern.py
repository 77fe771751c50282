"""What each layer is: its mixer's kind, and whether it has experts, by the family's rule or the file's own list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.families.fields import Fields

FULL, SLIDING, CHUNKED, LINEAR = "full_attention", "sliding_attention", "chunked_attention", "linear_attention"
INDEXED, CROSS, CONV, HYBRID = "indexed_attention", "cross_attention", "conv", "hybrid"
COMPRESSED_SPARSE, COMPRESSED_HEAVILY = "compressed_sparse_attention", "heavily_compressed_attention"
SPARSE = "minimax_m3_sparse"
SHARED_INDEX = "shared_index_attention"  # keys that an earlier layer's indexer chose (GLM-5.2)
MLP, MOE = "mlp", "moe"
KINDS = (
    FULL, SLIDING, CHUNKED, LINEAR, INDEXED, CROSS, CONV, HYBRID, COMPRESSED_SPARSE, COMPRESSED_HEAVILY, SPARSE,
    MLP, MOE,
)  # fmt: skip

# Names that older files use for a kind of layer, and letters of Nemotron-H's pattern.
_OLD = {
    "mamba": LINEAR, "mamba2": LINEAR, "attention": FULL, "deepseek_sparse_attention": INDEXED, "sparse": SPARSE,
    "M": LINEAR, "*": FULL, "-": MLP, "E": MOE,
}  # fmt: skip


def layer_kinds(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """The kind of every layer: ``layer_types`` of the file, else what the family's rule says."""
    listed = f.items("layer_types", layers)
    if listed is None:
        kinds = _RULES[rule.get("rule", "full")](f, rule, layers)
    else:
        kinds = [_OLD.get(str(kind), str(kind)) for kind in listed]
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigurationError(f"{f.name}: layer_types has {kind!r}; known are {', '.join(KINDS)}")
    return kinds


def _full(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    return [rule.get("kind", FULL)] * layers


def _window(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """Every layer slides where there is a window."""
    return [SLIDING if f.get("sliding_window") else FULL] * layers


def _late_window(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """Layers from ``max_window_layers`` on slide, where the window is used at all."""
    used = bool(f.get("sliding_window")) and (not rule.get("switch", True) or f.flag("use_sliding_window"))
    first = f.whole("max_window_layers", default=layers, least=0) if used else layers
    return [SLIDING if i >= first else FULL for i in range(layers)]


def _interval(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """Layer i is full when i + 1 is a multiple of a number, else of the family's other kind.

    The number is a field or the family's own; a word such as ``LLLG`` gives one turn letter by letter.
    """
    other = rule["others"]
    value = f.get(rule["field"]) if "field" in rule else rule["every"]
    if other == SLIDING and not f.get("sliding_window"):
        return [FULL] * layers
    if isinstance(value, str) and value and set(value) <= {"L", "G"}:
        return [other if value[i % len(value)] == "L" else FULL for i in range(layers)]
    if value is None:
        return [FULL] * layers
    every = f.checked(value, rule.get("field", "every"))
    return [FULL if (i + 1) % every == 0 else other for i in range(layers)]


def _codes(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """A list of codes, one a layer; the family's rule says which kind a code is."""
    value: Any = f.raw
    for part in rule["field"].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        if "otherwise" in rule:
            return _RULES[rule["otherwise"]["rule"]](f, rule["otherwise"], layers)
        raise ConfigurationError(f"{f.name}: config has no {rule['field']} and no layer_types; add one of them")
    codes = rule["codes"]
    # compress_ratios counts the predicted-token layers in as well
    if not isinstance(value, str | list) or len(value) < layers:
        raise ConfigurationError(f"{f.name}: {rule['field']} has not one entry for each of {layers} layers")
    out = [_OLD.get(str(code), str(code)) if codes == "names" else codes.get(str(code)) for code in value[:layers]]
    for code, kind in zip(value, out, strict=False):
        if kind is None:
            raise ConfigurationError(f"{f.name}: {rule['field']} has {code!r}; known are {', '.join(codes)}")
    return [str(kind) for kind in out]


def _indices(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """Layers whose numbers a field lists are of one kind, the others of another."""
    outer, _, key = rule["field"].rpartition(".")
    table = f.get(outer) if outer else f.raw
    named = table.get(key) if isinstance(table, Mapping) else None
    if named is None:
        named = f.get(key)
    if not isinstance(named, list):
        raise ConfigurationError(f"{f.name}: {rule['field']} is {named!r} and there are no layer_types; give a list")
    chosen = f.indices(named, rule["field"], layers, rule.get("first", 0))
    return [rule.get("kind", FULL) if i in chosen else rule["others"] for i in range(layers)]


def _period(f: Fields, rule: Mapping[str, Any], layers: int) -> list[str]:
    """Layer i is full when i modulo a period is an offset (Jamba)."""
    period, offset = f.whole(f"{rule['field']}_period"), f.whole(f"{rule['field']}_offset", least=0)
    return [FULL if i % period == offset else rule["others"] for i in range(layers)]


_RULES: Mapping[str, Callable[[Fields, Mapping[str, Any], int], list[str]]] = {
    "full": _full,
    "window": _window,
    "late-window": _late_window,
    "interval": _interval,
    "codes": _codes,
    "indices": _indices,
    "period": _period,
}


def expert_layers(f: Fields, rule: Mapping[str, Any], layers: int) -> list[bool]:
    """Whether each layer has experts; ``mlp_layer_types`` of the file wins, then the family's rule."""
    listed = f.items("mlp_layer_types", layers)
    if listed is not None:
        return [kind not in ("dense", "mlp") for kind in listed]
    frequency = f.raw.get("moe_layer_freq")
    if isinstance(frequency, list):
        return [bool(code) for code in f.items("moe_layer_freq", layers) or ()]
    how = rule.get("where", "all")
    if how == "all":
        return [True] * layers
    if how == "after":  # the first so many layers are dense
        first = f.whole(*rule["first_dense"], default=0, least=0)
        if first > layers:
            raise ConfigurationError(f"{f.name}: {rule['first_dense'][0]} {first} exceeds {layers} layers")
        return [i >= first for i in range(layers)]
    if how == "step":  # Qwen: every so many layers, some taken out by number
        step = f.whole("decoder_sparse_step", default=1)
        plain = f.indices(f.get("mlp_only_layers") or [], "mlp_only_layers", 1 << 20)
        return [i not in plain and (i + 1) % step == 0 for i in range(layers)]
    if how == "interleave":  # Llama 4
        named = f.raw.get("moe_layers")
        if isinstance(named, list):
            chosen = f.indices(named, "moe_layers", layers)
            return [i in chosen for i in range(layers)]
        step = f.whole("interleave_moe_layer_step", default=1)
        return [(i + 1) % step == 0 for i in range(layers)]
    if how == "period":  # Jamba
        period, offset = f.whole("expert_layer_period"), f.whole("expert_layer_offset", least=0)
        return [i % period == offset for i in range(layers)]
    if how == "range":  # ERNIE
        first = f.whole("moe_layer_start_index", default=0, least=0)
        last, step = f.get("moe_layer_end_index"), f.whole("moe_layer_interval", default=1)
        last = max(last) if isinstance(last, list) else last
        end = layers - 1 if last in (None, -1) else f.checked(last, "moe_layer_end_index", 0)
        return [first <= i <= end and (i + 1) % step == 0 for i in range(layers)]
    raise ConfigurationError(f"{f.name}: the family's file places experts by {how!r}, which is no rule")
