"""A Hugging Face ``config.json`` (as a dictionary) → `ModelShape`; missing and contradictory fields are named.

What a family's configuration class fills in for a field left out, and how its layers are made, stands in its data
file (``data/families``); the rules are in `linepress_hardware.inference.families`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.families.attention import attention, without_cache
from linepress_hardware.inference.families.extras import EXTRAS
from linepress_hardware.inference.families.family import Family, families, wrappers
from linepress_hardware.inference.families.feedforward import experts, mlps
from linepress_hardware.inference.families.fields import Fields
from linepress_hardware.inference.families.pattern import (
    CONV,
    FULL,
    HYBRID,
    LINEAR,
    MLP,
    MOE,
    SHARED_INDEX,
    expert_layers,
    layer_kinds,
)
from linepress_hardware.inference.families.recurrent import recurrent
from linepress_hardware.inference.layers import Mixer
from linepress_hardware.inference.quantisation import parse_quantisation
from linepress_hardware.inference.shapes import ModelShape

MAX_LAYERS = 10_000
# Where multimodal files keep the language model; what stands outside counts where the inside says nothing.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_SIZES = ("hidden_size", "num_hidden_layers", "num_layers")
_OUTSIDE = ("tie_word_embeddings", "quantization_config", "compression_config", "_hf_quant_config")


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
        The model type is unsupported, a field without a class default is missing, a field is of the wrong type, or
        fields contradict each other.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"config is a {type(config).__name__}, not a JSON object; give a model's config.json"
        )
    kind = config.get("model_type")
    label = str(name or config.get("_name_or_path") or (kind if isinstance(kind, str) else "config"))
    nested, config = config, _language_model(config)
    family = families().get(config.get("model_type") or "")
    if family is None:
        raise ConfigurationError(_unknown(label, config.get("model_type")))
    if nested is config and not any(
        config.get(key) is not None for key in (*_SIZES, str(family.layers.get("field")))
    ):
        # wrappers leave out whole language models that equal their class; a file of its own does not
        raise ConfigurationError(
            f"{label}: config has no num_hidden_layers and no hidden_size, so it is not whole; give "
            f"the model's own config.json, or add them"
        )
    return _shape(Fields(label, config, family.defaults), family)


def _language_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model of a configuration: itself, or the one nested inside it."""
    for _ in range(2):
        inner = next((config[key] for key in _NESTED if isinstance(config.get(key), Mapping)), None)
        if inner is None:
            break
        kind = config.get("model_type")
        if inner.get("model_type") is None:
            family = wrappers().get(kind) if isinstance(kind, str) else None
            inner = {**inner, "model_type": family.model_types[0] if family else kind}
        config = {**{key: config[key] for key in _OUTSIDE if key in config}, **inner}
    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in families() and kind in wrappers():
        # a flat file under the wrapper's name
        return {**config, "model_type": wrappers()[kind].model_types[0]}
    return config


def _unknown(label: str, kind: object) -> str:
    known = sorted(families())
    near = difflib.get_close_matches(str(kind), known, n=3, cutoff=0.6) if isinstance(kind, str) else []
    hint = f"; near it are {', '.join(near)}" if near else ""
    return f"{label}: model_type is {kind!r}, which has no operator model{hint}; supported are {', '.join(known)}"


def _shape(f: Fields, family: Family) -> ModelShape:
    hidden, vocab = f.whole("hidden_size"), f.whole("vocab_size")
    layers = _layers(f, family)
    kinds = layer_kinds(f, family.layers, layers)
    copies = family.layers.get("mixers_per_layer", 1)
    found = _mixers(f, family, kinds * copies, hidden)
    with_experts = [kind == MOE for kind in kinds]
    dense = [kind == MLP for kind in kinds]
    if not any((*with_experts, *dense)):  # MLPs stand in the mixers' layers, not in layers of their own
        optional = family.experts.get("optional", False)
        absent = not family.experts or (optional and not f.get(*family.experts["total"]))
        if "when" in family.experts:
            absent = not f.switch(family.experts["when"])
        with_experts = [False] * layers if absent else expert_layers(f, family.experts, layers)
        beside = family.mlp.get("beside_experts", False)
        dense = [True] * layers if beside else [not here for here in with_experts]
    mixture = experts(f, family.experts, sum(with_experts))
    return ModelShape(
        name=f.name,
        layers=layers,
        hidden=hidden,
        vocab=vocab,
        mixers=tuple(found),
        mlps=mlps(f, family.mlp, dense * copies if copies > 1 else dense),
        experts=mixture,
        tied_embeddings=f.flag("tie_word_embeddings"),
        gated_mlp=family.mlp.get("gated", True),
        mlp_bias=f.switch(family.mlp.get("bias", False)),
        norms_per_layer=family.norms_per_layer,
        norm_bias=family.norm_bias,
        final_norm=family.final_norm,
        head_bias=f.switch(family.head_bias),
        extras=tuple(pair for extra in family.extras for pair in EXTRAS[extra](f, layers, hidden)),
        max_context=f.whole("max_position_embeddings", "model_max_length", default=0, least=0) or None,
        quantised=parse_quantisation(f.raw, f.name),
        defaults=tuple(f.used),
    )


def _layers(f: Fields, family: Family) -> int:
    layers: Any = f.raw.get("num_hidden_layers")
    pattern = f.get(family.layers["field"]) if family.layers.get("counts", False) else None
    if layers is None and isinstance(pattern, str | list):
        layers = len(pattern)
    if layers is None:
        layers = f.whole("num_hidden_layers", "num_layers")
    if f.checked(layers, "num_hidden_layers") > MAX_LAYERS:
        raise ConfigurationError(f"{f.name}: num_hidden_layers is {layers}, more than any model has")
    return int(layers)


def _mixers(f: Fields, family: Family, kinds: list[str], hidden: int) -> list[Mixer]:
    """Equal layers together, in the order in which their kinds first occur."""
    shared = f.whole("num_kv_shared_layers", default=0, least=0)
    own = len(kinds) - shared
    if own <= 0:
        raise ConfigurationError(f"{f.name}: num_kv_shared_layers {shared} leaves no layer with a cache of its own")
    indexers = f.items("indexer_types", len(kinds))
    # a layer that uses another's choice of keys has no indexer, but reads as few keys
    told = [
        (kind if indexers is None or indexers[i] == "full" else SHARED_INDEX, i < own) for i, kind in enumerate(kinds)
    ]
    out: list[Mixer] = []
    for (kind, owns), layers in Counter(told).items():
        if kind in (MLP, MOE):
            continue
        parts = [FULL, LINEAR] if kind == HYBRID else [kind]
        for part in parts:
            if part in (LINEAR, CONV):
                out.append(recurrent(f, family.linear, part, layers, hidden))
                continue
            mixer = attention(f, family.attention, part, layers, hidden)
            out.append(mixer if owns else without_cache(mixer))
    return out
