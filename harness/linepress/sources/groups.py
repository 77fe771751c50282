"""From a tensor's name to what it is: its group, its layer, and its kind, one of `KINDS`.

Groups are the names of the Hugging Face Llama family; other families are mapped onto them (Qwen, Mistral and Gemma
use them already), so that a report can lay models side by side. Fused projections keep groups of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = {
    "weight": "weights",
    "key": "keys",
    "value": "values",
    "activation": "activations",
    "grad": "gradients",
    "optim": "optimiser states",
}
"""Kinds of data, each with its plural."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor belongs.

    Attributes
    ----------
    group : str
        ``q_proj … down_proj``, ``embed``, ``lm_head``, ``norm``, ``bias``, ``key_cache``, ``value_cache``,
        ``activation`` or ``other``.
    layer : int | None
        Index of the transformer layer, None outside the layers.
    kind : str
        One of `KINDS`. Gradients and optimiser states have the group of their weight.
    """

    group: str
    layer: int | None
    kind: str


_LAYER = re.compile(r"(?:^|[._])(?:layers?|blk|blocks?|h|tensor)[._](\d+)(?=[._]|$)")
_CACHE = re.compile(r"(?:^|[._/])(key|value)_(?:cache|states?)(?:[._]|$)|(?:^|[._/])past_(key|value)s?(?:[._]|$)")
# Caches as ONNX (past_key_values.0.value, present.0.key), Transformers (layers.0.keys, key_cache.0), SGLang
# (k_buffer.0) and llama.cpp (cache_k_l0) call them: the last part that says keys or values tells the kind.
_SCOPE = re.compile(
    r"(?:^|[._/])(?:past(?:_key_values?|_kv)?(?:_\d+)?|present(?:_key_values?)?(?:_\d+)?|kv_?caches?|caches?|(?:k|v|key|value)_buffers?"
    r"|cache_[kv](?:_l\d+)?)(?=[._/]|$)"
)
_KIND_PART = re.compile(r"^(?:(?:past|present|cache)_)?(k|v|keys?|values?)(?:_(?:caches?|states?|buffers?|l\d+))?$")
_BARE = re.compile(r"(?:^|[._/])layers?[._/](\d+)[._/](keys|values|k_cache|v_cache)$")
_CACHE_LAYER = re.compile(r"(?:^|[._/]|cache_[kv]_l)(\d{1,6})(?=[._/]|$)")
# What PyTorch, DeepSpeed and Megatron call them: model.…weight.grad, main_grad, state.…exp_avg, momentum_buffer.
_GRAD = re.compile(r"(?:^|[./])(?:main_)?(?:grads?|gradients?)(?=[./]|$)")
_OPTIM = re.compile(
    r"(?:^|[./])(?:(?:max_)?exp_avgs?(?:_sqs?)?|momentum(?:_buffer)?|optim(?:izer)?(?:_states?)?)(?=[./]|$)"
)
_ACTIVATION = re.compile(r"(?:^|[._/])(?:activations?|hidden_states?)(?:[._]|$)")

# The first match wins: fused and cross-attention names stand before the plain ones they contain.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), group)
    for pattern, group in (
        # norms of every family, before biases: a LayerNorm's own bias is part of the norm
        (r"(?:^|[._])(?:[a-z_]*layer_?norm|[a-z_]*norm\d?|ln_\w+)(?:[._]|$)", "norm"),
        (r"layer_norm\.(?:gamma|beta)$", "norm"),
        (r"(?:^|[._])bias$", "bias"),
        # CTranslate2: self-attention has the fused q/k/v and the output, attention is cross-attention with q, fused
        # k/v and the output
        (r"self_attention\.linear_0\.weight$", "qkv_proj"),
        (r"self_attention\.linear_1\.weight$", "o_proj"),
        (r"(?<!self_)attention\.linear_0\.weight$", "q_proj"),
        (r"(?<!self_)attention\.linear_1\.weight$", "kv_proj"),
        (r"(?<!self_)attention\.linear_2\.weight$", "o_proj"),
        (r"ffn\.linear_0\.weight$", "up_proj"),
        (r"ffn\.linear_1\.weight$", "down_proj"),
        # GGUF (llama.cpp) names
        (r"(?:^|\.)attn_qkv(?:\.|$)", "qkv_proj"),
        (r"(?:^|\.)attn_q(?:\.|$)", "q_proj"),
        (r"(?:^|\.)attn_k(?:\.|$)", "k_proj"),
        (r"(?:^|\.)attn_v(?:\.|$)", "v_proj"),
        (r"(?:^|\.)attn_output(?:\.|$)", "o_proj"),
        (r"(?:^|\.)ffn_gate_inp(?:\.|$)", "router"),
        (r"(?:^|\.)ffn_gate(?:_exps|_shexp)?(?:\.|$)", "gate_proj"),
        (r"(?:^|\.)ffn_up(?:_exps|_shexp)?(?:\.|$)", "up_proj"),
        (r"(?:^|\.)ffn_down(?:_exps|_shexp)?(?:\.|$)", "down_proj"),
        (r"^token_embd\.", "embed"),
        (r"^output\.weight", "lm_head"),
        # Hugging Face Llama, Qwen, Mistral, Gemma, Whisper
        (r"(?:^|[._])(?:qkv_proj|query_key_value|c_attn|w_?qkv)(?:[._]|$)", "qkv_proj"),
        (r"(?:^|[._])(?:gate_up_proj)(?:[._]|$)", "gate_up_proj"),
        (r"(?:^|[._])q_proj(?:[._]|$)", "q_proj"),
        (r"(?:^|[._])k_proj(?:[._]|$)", "k_proj"),
        (r"(?:^|[._])v_proj(?:[._]|$)", "v_proj"),
        (r"(?:^|[._])(?:o_proj|out_proj)(?:[._]|$)", "o_proj"),
        (r"(?:^|[._])(?:gate_proj|w1)(?:[._]|$)", "gate_proj"),
        (r"(?:^|[._])(?:up_proj|w3|fc1|c_fc)(?:[._]|$)", "up_proj"),
        (r"(?:^|[._])(?:down_proj|w2|fc2)(?:[._]|$)", "down_proj"),
        (r"(?:^|\.)mlp\.c_proj(?:\.|$)", "down_proj"),
        (r"(?:^|\.)attn\.c_proj(?:\.|$)", "o_proj"),
        (r"(?:^|[._])(?:mlp\.gate|router|block_sparse_moe\.gate)(?:[._]|$)", "router"),
        # BERT
        (r"attention\.self\.query(?:\.|$)", "q_proj"),
        (r"attention\.self\.key(?:\.|$)", "k_proj"),
        (r"attention\.self\.value(?:\.|$)", "v_proj"),
        (r"attention\.output\.dense(?:\.|$)", "o_proj"),
        (r"intermediate\.dense(?:\.|$)", "up_proj"),
        (r"(?<!attention\.)output\.dense(?:\.|$)", "down_proj"),
        # outside the layers
        (r"(?:^|[._])(?:lm_head|proj_out|cls\.predictions)(?:[._]|$)", "lm_head"),
        (r"embed|(?:^|\.)(?:wte|wpe)(?:\.|$)|position_encodings", "embed"),
        (r"(?:^|[._])conv\d?(?:[._]|$)", "conv"),
    )
)


def _cached(name: str) -> str | None:
    """``key`` or ``value`` for the name of a cache, None for any other."""
    if _SCOPE.search(name) or _BARE.search(name):
        flat = re.sub(r"_(\d+)_", r".\1.", name)  # past_key_values_0_value
        for part in reversed(re.split(r"[./]", flat)):
            found = _KIND_PART.match(part)
            if found:
                return "value" if found.group(1).startswith("v") else "key"
    cache = _CACHE.search(name)
    return (cache.group(1) or cache.group(2)) if cache else None


def place_of(name: str) -> Place:
    """Group, layer and kind of the tensor called ``name``; unknown names are in group ``other``."""
    found = _LAYER.search(name)
    layer = int(found.group(1)) if found and len(found.group(1)) <= 6 else None
    kind = _cached(name)
    if kind:
        numbered = layer if layer is not None else next((int(n) for n in _CACHE_LAYER.findall(name)), None)
        return Place(f"{kind}_cache", numbered, kind)
    if _ACTIVATION.search(name):
        return Place("activation", layer, "activation")
    kind = "optim" if _OPTIM.search(name) else "grad" if _GRAD.search(name) else "weight"
    lowered = re.sub(r"LayerNorm", "layernorm", _GRAD.sub("", _OPTIM.sub("", name))).lower()
    group = next((group for pattern, group in _RULES if pattern.search(lowered)), "other")
    return Place(group, layer, kind)
