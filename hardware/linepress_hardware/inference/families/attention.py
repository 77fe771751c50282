"""Attention layers: grouped queries, latent attention (MLA), compressed entries (DeepSeek-V4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.families.fields import Fields
from linepress_hardware.inference.families.pattern import (
    CHUNKED,
    COMPRESSED_HEAVILY,
    COMPRESSED_SPARSE,
    CROSS,
    INDEXED,
    SHARED_INDEX,
    SLIDING,
    SPARSE,
)
from linepress_hardware.inference.layers import Indexer, LatentAttention, Matrix, Mixer


def attention(f: Fields, rule: Mapping[str, Any], kind: str, layers: int, hidden: int) -> Mixer:
    """`layers` layers of `kind`; the family's ``[attention]`` table is `rule`, ``[attention.KIND]`` changes it."""
    rule = {**rule, **rule.get(kind, {})}
    build = {"grouped": _grouped, "latent": _latent, "compressed": _compressed}[rule.get("form", "grouped")]
    mixer = build(f, rule, kind, hidden)
    window = _window(f, kind, rule)
    if window and mixer.kind != "compressed_attention":
        mixer = replace(mixer, window=window, window_elements=mixer.cached_elements, cached_elements=0)
    return replace(mixer, layers=layers)


def _window(f: Fields, kind: str, rule: Mapping[str, Any]) -> int:
    """Tokens a layer of this kind keeps, 0 for all; one no shorter than the context is none."""
    if kind == SLIDING:
        key = "sliding_window"
        keys = rule.get("window", [key])
        if not any(f.get(name) for name in keys):
            raise ConfigurationError(f"{f.name}: layer_types has sliding layers but sliding_window is not given")
        window = f.whole(*keys)
    elif kind == CHUNKED:
        window = f.whole("attention_chunk_size")
    else:
        return 0
    context = f.whole("max_position_embeddings", default=0, least=0)
    return 0 if context and window >= context else window


def _heads(f: Fields, rule: Mapping[str, Any], hidden: int) -> tuple[int, int, int, int]:
    """(query heads, KV heads, head width, value width)."""
    heads = f.whole(*rule.get("heads", []), "num_attention_heads")
    kv_heads = f.whole(*rule.get("kv_heads", []), "num_key_value_heads", default=heads)
    if kv_heads > heads or heads % kv_heads:
        raise ConfigurationError(
            f"{f.name}: num_attention_heads {heads} and num_key_value_heads {kv_heads} contradict each other; "
            f"the second must divide the first"
        )
    head_dim = f.whole(*rule.get("head_dim", []), "head_dim", default=0)
    if head_dim == 0:
        if hidden % heads:
            raise ConfigurationError(
                f"{f.name}: hidden_size {hidden} is not divisible by num_attention_heads {heads} and there is no "
                f"head_dim; correct one of them or add head_dim"
            )
        head_dim = hidden // heads
    value_dim = f.whole(*rule["value_dim"], default=head_dim) if "value_dim" in rule else head_dim
    return heads, kv_heads, head_dim, value_dim


def _grouped(f: Fields, rule: Mapping[str, Any], kind: str, hidden: int) -> Mixer:
    heads, kv_heads, head_dim, value_dim = _heads(f, rule, hidden)
    bias, out_bias = f.switch(rule.get("qkv_bias", False)), f.switch(rule.get("o_bias", False))
    # an output gate is either a second half of the query projection or one number a head
    gate = 2 if f.switch(rule.get("gate", False)) else 1
    keys, values = kv_heads * head_dim, kv_heads * value_dim
    matrices = [
        Matrix("q_proj", hidden, heads * head_dim * gate, "q_proj", bias, output_units=heads),
        Matrix("k_proj", hidden, keys, "k_proj", bias, output_units=kv_heads, to_kv=True),
        Matrix("v_proj", hidden, values, "v_proj", bias, output_units=kv_heads, to_kv=True),
        Matrix("o_proj", heads * value_dim, hidden, "o_proj", out_bias, input_units=heads),
    ]
    if rule.get("values") and f.switch(rule["values"]):  # keys serve as values; both are cached
        del matrices[2]
    if rule.get("head_gate") and f.switch(rule["head_gate"]):
        matrices.append(Matrix("gate", hidden, heads, "other", output_units=heads))
    vectors = 0
    if f.switch(rule.get("qk_norm_when", True)):
        vectors = {"none": 0, "head": 2 * head_dim, "wide": heads * head_dim + keys}[rule.get("qk_norm", "none")]
    vectors += heads if rule.get("sinks", False) else 0
    mixer = Mixer(
        kind,
        1,
        tuple(matrices),
        vectors,
        heads,
        kv_heads,
        head_dim,
        value_dim,
        cached_elements=keys + values,
        reads_elements=keys + values,
    )
    if kind == CROSS:  # keys of the image, written once a sequence: nothing a token, two gates
        return replace(mixer, cached_elements=0, reads_elements=0, vectors=vectors + 2)
    if kind == SPARSE:
        index = _indexer(f, "index_topk_blocks", f.whole("index_block_size", default=128))
        queries = Matrix("indexer_q", hidden, index.heads * index.width, "other")
        key = Matrix("indexer_k", hidden, index.width, "other", to_kv=True)
        return replace(
            mixer, matrices=(*mixer.matrices, queries, key), vectors=vectors + 2 * index.width, indexer=index
        )
    return mixer


def _indexer(f: Fields, chosen: str, block: int = 1) -> Indexer:
    return Indexer(f.whole("index_n_heads"), f.whole("index_head_dim"), f.whole(chosen) * block)


def _latent(f: Fields, rule: Mapping[str, Any], kind: str, hidden: int) -> Mixer:
    """MLA: queries through a low rank or straight, keys and values from one cached vector.

    The up-projections of keys and values are two halves of one stored matrix. ``kind`` ``shared_index`` reads the
    keys that an earlier layer's indexer chose.
    """
    heads = f.whole("num_attention_heads")
    mla = LatentAttention(
        kv_rank=f.whole("kv_lora_rank"),
        rope_dim=f.whole("qk_rope_head_dim"),
        nope_dim=f.whole("qk_nope_head_dim"),
        value_dim=f.whole("v_head_dim"),
        q_rank=f.whole("q_lora_rank", default=0, least=0) or None,
    )
    bias = f.switch(rule.get("qkv_bias", False))
    width = heads * (mla.nope_dim + mla.rope_dim)
    if mla.q_rank is None:
        queries = [Matrix("q_proj", hidden, width, "q_proj", output_units=heads)]
    else:
        queries = [
            Matrix("q_a_proj", hidden, mla.q_rank, "q_proj", bias),
            Matrix("q_b_proj", mla.q_rank, width, "q_proj", output_units=heads),
        ]
    cached = mla.kv_rank + mla.rope_dim
    matrices = [
        *queries,
        Matrix("kv_a_proj", hidden, cached, "k_proj", bias, to_kv=True),
        Matrix("k_b_proj", mla.kv_rank, heads * mla.nope_dim, "k_proj", output_units=heads),
        Matrix("v_b_proj", mla.kv_rank, heads * mla.value_dim, "v_proj", output_units=heads),
        Matrix("o_proj", heads * mla.value_dim, hidden, "o_proj", bias, input_units=heads),
    ]
    if rule.get("output_gate") and f.switch(rule["output_gate"]):
        matrices.append(Matrix("output_gate", hidden, heads * mla.value_dim, "other", output_units=heads))
    vectors = mla.kv_rank + (mla.q_rank or 0)
    indexer = None
    if kind == INDEXED:
        indexer = _indexer(f, "index_topk")
        matrices += [
            Matrix("indexer_q", mla.q_rank or hidden, indexer.heads * indexer.width, "other"),
            Matrix("indexer_k", hidden, indexer.width, "other", to_kv=True),
            Matrix("indexer_weights", hidden, indexer.heads, "other"),
        ]
        vectors += 2 * indexer.width
    return Mixer(
        kind,
        1,
        tuple(matrices),
        vectors,
        heads,
        f.whole("num_key_value_heads", default=heads),
        mla.nope_dim + mla.rope_dim,
        mla.value_dim,
        latent=mla,
        indexer=indexer,
        cached_elements=cached,
        reads_elements=cached,
        borrowed_keys=f.whole("index_topk") if kind == SHARED_INDEX else 0,
    )


def _compressed(f: Fields, rule: Mapping[str, Any], kind: str, hidden: int) -> Mixer:
    """DeepSeek-V4: one key that is also the value, one entry a few tokens, and a window of single tokens."""
    heads, dim, rank = f.whole("num_attention_heads"), f.whole("head_dim"), f.whole("q_lora_rank")
    groups, out_rank = f.whole("o_groups"), f.whole("o_lora_rank")
    matrices = [
        Matrix("q_a_proj", hidden, rank, "q_proj"),
        Matrix("q_b_proj", rank, heads * dim, "q_proj", output_units=heads),
        Matrix("kv_proj", hidden, dim, "k_proj", to_kv=True),
        Matrix("o_a_proj", heads * dim // groups, groups * out_rank, "o_proj", output_units=groups),
        Matrix("o_b_proj", groups * out_rank, hidden, "o_proj", input_units=groups),
    ]
    vectors = rank + dim + heads
    entry, indexer = 1, None
    if kind in (COMPRESSED_SPARSE, COMPRESSED_HEAVILY):
        rates = f.get("compress_rates") or {}
        sparse = kind == COMPRESSED_SPARSE
        entry = f.checked(rates.get(kind, 4 if sparse else 128), "compress_rates")
        width = dim * (2 if sparse else 1)
        matrices += [Matrix(f"compressor_{name}", hidden, width, "other") for name in ("kv", "gate")]
        vectors += entry * width + dim
        if sparse:
            indexer = _indexer(f, "index_topk")
            wide = 2 * indexer.width
            matrices += [Matrix(f"indexer_{name}", hidden, wide, "other") for name in ("kv", "gate")]
            matrices += [
                Matrix("indexer_q", rank, indexer.heads * indexer.width, "other"),
                Matrix("indexer_weights", hidden, indexer.heads, "other"),
            ]
            vectors += entry * wide + indexer.width
    elif kind != SLIDING:
        raise ConfigurationError(f"{f.name}: a layer of kind {kind} is unknown to this family")
    return Mixer(
        "compressed_attention",
        1,
        tuple(matrices),
        vectors,
        heads,
        1,
        dim,
        dim,
        indexer=indexer,
        cached_elements=0 if kind == SLIDING else dim,
        entry_tokens=entry,
        window=f.whole("sliding_window"),
        window_elements=dim,
        reads_elements=dim,
    )


def without_cache(mixer: Mixer) -> Mixer:
    """The same layers reading an earlier layer's cache: no key, no value, no norm of keys (Gemma 3n, 4)."""
    kept = tuple(m for m in mixer.matrices if m.name not in ("k_proj", "v_proj"))
    norms = mixer.vectors - mixer.head_dim if mixer.vectors else 0
    return replace(mixer, matrices=kept, vectors=norms, cached_elements=0, window_elements=0)
