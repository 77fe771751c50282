"""A Hugging Face ``config.json`` (as a dictionary) → `ModelShape`; missing and contradictory fields are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.shapes import Experts, LatentAttention, ModelShape


@dataclass(frozen=True)
class _Family:
    """What a model type implies that its configuration need not say."""

    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    slides: str = "none"  # none | all | even | qwen | pattern


FAMILIES: dict[str, _Family] = {
    "llama": _Family(),
    "mistral": _Family(slides="all"),
    "mixtral": _Family(slides="all"),
    "qwen2": _Family(qkv_bias=True, slides="qwen"),
    "qwen2_moe": _Family(qkv_bias=True, slides="qwen"),
    "qwen3": _Family(qk_norm=True, slides="qwen"),
    "qwen3_moe": _Family(qk_norm=True, slides="qwen"),
    "gemma": _Family(tied=True),
    "gemma2": _Family(tied=True, norms_per_layer=4, slides="even"),
    "gemma3_text": _Family(tied=True, qk_norm=True, norms_per_layer=4, slides="pattern"),
    "deepseek_v2": _Family(),
    "deepseek_v3": _Family(),
}
_WRAPPERS = {"gemma3": "gemma3_text", "mistral3": "mistral", "llava": "llama"}


class _Fields:
    """Typed access to a configuration, with the configuration's name in every complaint."""

    def __init__(self, name: str, raw: Mapping[str, Any]) -> None:
        self.name = name
        self.raw = raw

    def whole(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.raw.get(key)
        if value is None:
            if default is None:
                raise ConfigurationError(f"{self.name}: config has no {key}; add it as a whole number")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{self.name}: {key} is {value!r}; give a whole number of {least} or more")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.raw.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.name}: {key} is {value!r}; give true or false")
        return value


def parse_config(config: Mapping[str, Any], name: str | None = None) -> ModelShape:
    """Shape of a model from its configuration.

    Parameters
    ----------
    config : Mapping
        The parsed ``config.json``; a ``text_config`` inside is taken when the language model is nested.
    name : str | None
        What to call the model; default ``_name_or_path`` or the model type.

    Raises
    ------
    ConfigurationError
        The model type is unsupported, a field is missing or of the wrong type, or fields contradict each other.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"config is a {type(config).__name__}, not a JSON object; give a model's config.json"
        )
    kind = config.get("model_type")
    inner = config.get("text_config")
    label = name or config.get("_name_or_path") or (kind if isinstance(kind, str) else "config")
    if isinstance(inner, Mapping):
        kind = inner.get("model_type") or (_WRAPPERS.get(kind) if isinstance(kind, str) else None)
        config = {**inner, "model_type": kind}
    if kind not in FAMILIES:
        raise ConfigurationError(
            f"{label}: model_type is {kind!r}, which has no operator model; supported are {', '.join(FAMILIES)}"
        )
    return _shape(_Fields(str(label), config), FAMILIES[kind], str(kind))


def _shape(f: _Fields, family: _Family, kind: str) -> ModelShape:
    layers = f.whole("num_hidden_layers")
    hidden = f.whole("hidden_size")
    heads = f.whole("num_attention_heads")
    kv_heads = f.whole("num_key_value_heads", heads)
    latent = _latent(f) if kind.startswith("deepseek") else None
    if kv_heads > heads or heads % kv_heads:
        raise ConfigurationError(
            f"{f.name}: num_attention_heads {heads} and num_key_value_heads {kv_heads} contradict each other; "
            f"the second must divide the first"
        )
    if f.raw.get("head_dim") is None and latent is None and hidden % heads:
        raise ConfigurationError(
            f"{f.name}: hidden_size {hidden} is not divisible by num_attention_heads {heads} and there is no "
            f"head_dim; correct one of them or add head_dim"
        )
    head_dim = f.whole("head_dim", max(1, hidden // heads))
    window, sliding = _window(f, family, layers)
    experts = _experts(f, kind, layers)
    dense = experts is None or experts.dense_layers > 0
    return ModelShape(
        name=f.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=f.whole("intermediate_size", None if dense else 0, least=1 if dense else 0),
        vocab=f.whole("vocab_size"),
        tied_embeddings=f.flag("tie_word_embeddings", family.tied),
        qkv_bias=f.flag("attention_bias", family.qkv_bias) if latent is None else False,
        o_bias=f.flag("attention_bias", False) if kind == "llama" else False,
        qk_norm=family.qk_norm,
        norms_per_layer=family.norms_per_layer,
        sliding_window=window,
        sliding_layers=sliding,
        max_context=f.whole("max_position_embeddings", 0, least=0) or None,
        experts=experts,
        latent=latent,
    )


def _latent(f: _Fields) -> LatentAttention:
    return LatentAttention(
        kv_rank=f.whole("kv_lora_rank"),
        rope_dim=f.whole("qk_rope_head_dim"),
        nope_dim=f.whole("qk_nope_head_dim"),
        value_dim=f.whole("v_head_dim"),
        q_rank=f.whole("q_lora_rank", 0, least=0) or None,
    )


def _window(f: _Fields, family: _Family, layers: int) -> tuple[int | None, int]:
    window = f.whole("sliding_window", 0, least=0) or None
    types = f.raw.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or len(types) != layers:
            found = len(types) if isinstance(types, list) else type(types).__name__
            raise ConfigurationError(
                f"{f.name}: layer_types has {found} entries for num_hidden_layers {layers}; give one a layer"
            )
        sliding = sum(kind == "sliding_attention" for kind in types)
        if sliding and window is None:
            raise ConfigurationError(f"{f.name}: layer_types has sliding layers but sliding_window is not given")
        return (window, sliding) if sliding else (None, 0)
    if window is None or family.slides == "none":
        return None, 0
    if family.slides == "qwen":
        if not f.flag("use_sliding_window", False):
            return None, 0
        # Qwen: layers from max_window_layers on slide.
        sliding = max(0, layers - f.whole("max_window_layers", layers, least=0))
    elif family.slides == "even":
        sliding = (layers + 1) // 2
    elif family.slides == "pattern":
        pattern = f.whole("sliding_window_pattern", 6)
        sliding = layers - layers // pattern
    else:
        sliding = layers
    return (window, sliding) if sliding else (None, 0)


def _experts(f: _Fields, kind: str, layers: int) -> Experts | None:
    if kind == "mixtral":
        total = f.whole("num_local_experts")
        experts = Experts(total, f.whole("num_experts_per_tok"), f.whole("intermediate_size"))
    elif kind in ("qwen2_moe", "qwen3_moe"):
        step = f.whole("decoder_sparse_step", 1)
        plain = f.raw.get("mlp_only_layers") or []
        sparse = sum(1 for i in range(layers) if i not in plain and (i + 1) % step == 0)
        shared = f.whole("shared_expert_intermediate_size", 0, least=0) if kind == "qwen2_moe" else 0
        experts = Experts(
            f.whole("num_experts"),
            f.whole("num_experts_per_tok"),
            f.whole("moe_intermediate_size"),
            shared=1 if shared else 0,
            shared_intermediate=shared,
            dense_layers=layers - sparse,
        )
    elif kind.startswith("deepseek") and f.raw.get("n_routed_experts") is not None:
        width = f.whole("moe_intermediate_size")
        experts = Experts(
            f.whole("n_routed_experts"),
            f.whole("num_experts_per_tok"),
            width,
            shared=f.whole("n_shared_experts", 0, least=0),
            shared_intermediate=width,
            dense_layers=f.whole("first_k_dense_replace", 0, least=0),
            router_bias=kind == "deepseek_v3",
        )
    else:
        return None
    if experts.active > experts.total:
        raise ConfigurationError(
            f"{f.name}: num_experts_per_tok {experts.active} exceeds the {experts.total} experts; correct one of them"
        )
    if experts.dense_layers > layers:
        raise ConfigurationError(f"{f.name}: first_k_dense_replace {experts.dense_layers} exceeds {layers} layers")
    return experts
