"""Operators of one step of a decoder-only transformer, counted without known mistakes ("corrected" mode).

Counts follow the shapes: causal attention does only the unmasked pairs, grouped queries read each KV head once,
the MLP's activation has the MLP's width, the output head is a real matrix product and the input table is not
streamed (its B × T rows are below rounding). Everything is per device of a `Parallel` layout and takes arrays,
so that a sweep is one call.

Source of the base formulas: Yuan et al., LLM Inference Unveiled: Survey and Roofline Model Insights (2024);
expected experts E (1 − (1 − k/E)^tokens) assumes uniform independent routing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.families.pattern import CHUNKED, CROSS, FULL
from linepress_hardware.inference.layers import Matrix, Mixer
from linepress_hardware.inference.operator import Operator, Quantity, operator, quantity
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import STATE_BYTES, ModelShape


@dataclass(frozen=True)
class Step:
    """One forward pass: `new_tokens` a sequence, the first of which sees `first_keys` keys, itself included.

    `head_tokens` is how many tokens a sequence need logits: one, or all of a speculative check.
    """

    name: str
    batch: Quantity
    new_tokens: Quantity
    first_keys: Quantity
    head_tokens: Quantity

    def __post_init__(self) -> None:
        for field in ("batch", "new_tokens", "first_keys"):
            if np.any(getattr(self, field) < 1) or not np.all(np.isfinite(getattr(self, field))):
                raise ConfigurationError(
                    f"{self.name}: {field} must be 1 or more, got {np.min(getattr(self, field)):g}"
                )


def prefill(batch: ArrayLike, prompt_tokens: ArrayLike) -> Step:
    """The whole prompt at once; logits of the last token only."""
    return Step("prefill", quantity(batch), quantity(prompt_tokens), quantity(1), quantity(1))


def decode(batch: ArrayLike, context_tokens: ArrayLike) -> Step:
    """One token a sequence over `context_tokens` keys."""
    return Step("decode", quantity(batch), quantity(1), quantity(context_tokens), quantity(1))


def chunk(batch: ArrayLike, chunk_tokens: ArrayLike, prior_tokens: ArrayLike) -> Step:
    """A chunk of a prompt whose first `prior_tokens` tokens are in the cache already."""
    return Step("chunked prefill", quantity(batch), quantity(chunk_tokens), quantity(prior_tokens) + 1, quantity(1))


def verify(batch: ArrayLike, context_tokens: ArrayLike, draft_tokens: ArrayLike) -> Step:
    """The check of `draft_tokens` guessed tokens plus one: every position needs logits."""
    tokens = quantity(draft_tokens) + 1
    return Step("speculative decode", quantity(batch), tokens, quantity(context_tokens), tokens)


def attention_pairs(step: Step, window: int | None = None) -> Quantity:
    """Unmasked query-key pairs a sequence: Σ over the new tokens of the keys each sees, at most `window`."""
    first, tokens = step.first_keys, step.new_tokens
    if window is None:
        return tokens * first + tokens * (tokens - 1) / 2
    growing = np.clip(window - first + 1, 0, tokens)  # queries that do not fill the window yet
    inside = growing * first + growing * (growing - 1) / 2
    return np.asarray(inside + (tokens - growing) * window)


def chunk_pairs(step: Step, chunk: int) -> tuple[Quantity, Quantity]:
    """(pairs, distinct keys) a sequence where a query sees the keys of its own chunk of `chunk` tokens only."""

    def pairs_to(position: Quantity) -> Quantity:
        whole, left = np.divmod(position, chunk)
        return np.asarray(whole * chunk * (chunk + 1) / 2 + left * (left + 1) / 2)

    before = step.first_keys - 1
    last = before + step.new_tokens
    return pairs_to(last) - pairs_to(before), np.asarray(last - before // chunk * chunk)


def keys_read(step: Step, window: int | None = None) -> Quantity:
    """Distinct keys a sequence's new tokens see."""
    keys = step.first_keys + step.new_tokens - 1
    return keys if window is None else np.minimum(keys, window + step.new_tokens - 1)


def operators(
    shape: ModelShape,
    step: Step,
    precision: Precision,
    *,
    fused_attention: bool = False,
    parallel: Parallel = ONE_DEVICE,
) -> list[Operator]:
    """All operators of a step on one device, those of one layer with their count first, the head last.

    Parameters
    ----------
    fused_attention : bool
        Scores stay on chip (FlashAttention): one operator reads Q, K, V and writes O. Otherwise scores are
        written, normalised and read again, as three operators.

    Raises
    ------
    ConfigurationError
        `parallel` does not fit `shape`.
    """
    parallel.check(shape)
    batch = Step(
        step.name,
        np.ceil(step.batch / parallel.dp),
        step.new_tokens,
        step.first_keys,
        step.head_tokens,
    )
    # A pipeline runs the layers one after the other on different devices: a step still takes all of them.
    out = _projections(shape, batch, precision, parallel)
    out += _mixing(shape, batch, precision, parallel, fused_attention)
    out += _elementwise(shape, batch, precision)
    out += _mlp(shape, batch, precision, parallel)
    return out + _head(shape, batch, precision, parallel)


def _linear(
    name: str,
    count: float,
    tokens: Quantity,
    ic: int,
    oc: int,
    p: Precision,
    group: str,
    *,
    to_kv: bool = False,
    bias: int = 0,
) -> Operator:
    written = tokens * oc * (p.kv_bytes if to_kv else p.activation_bytes)
    return operator(
        name,
        count=count,
        ops=2.0 * tokens * ic * oc,
        weight=(ic * oc + bias) * p.weight_bytes,
        act_read=tokens * ic * p.activation_bytes,
        act_written=0.0 if to_kv else written,
        kv_written=written if to_kv else 0.0,
        group=group,
    )


def _projections(shape: ModelShape, step: Step, p: Precision, parallel: Parallel) -> list[Operator]:
    """Every mixer's linear layers; the same one of several mixers is one operator where its shape is the same.

    Few new tokens under latent attention: the up-projections of keys and values are absorbed into query and output
    (DeepSeek-V2), which costs the same products on the new tokens instead of on the whole cache.
    """
    tokens = step.batch * step.new_tokens
    counts: dict[Matrix, int] = {}
    for mixer in shape.mixers:
        if mixer.kind == CROSS:  # keys and values of an image are made once, not a step
            mixer = replace(mixer, matrices=tuple(m for m in mixer.matrices if not m.to_kv))
        for matrix in mixer.matrices:
            counts[matrix] = counts.get(matrix, 0) + mixer.layers
    out = []
    for matrix, layers in counts.items():
        ic, oc = matrix.on_device(parallel.tp)
        bias = oc if matrix.bias else 0
        out.append(_linear(matrix.name, layers, tokens, ic, oc, p, matrix.group, to_kv=matrix.to_kv, bias=bias))
    return out


def _mixing(shape: ModelShape, step: Step, p: Precision, parallel: Parallel, fused: bool) -> list[Operator]:
    """Attention over keys, choice of keys, recurrent states."""
    out: list[Operator] = []
    for mixer in shape.mixers:
        if not mixer.attends:
            out.append(_state(mixer, step, p, parallel))
        elif mixer.kind != CROSS:  # an image's keys are no part of a text step
            if mixer.indexer is not None:
                out.append(_choice(mixer, step, p))
            out += _attention_of(shape, mixer, step, p, parallel, fused)
    return out


def _state(mixer: Mixer, step: Step, p: Precision, parallel: Parallel) -> Operator:
    """A recurrent state read and written once a step: decay, outer product, readout are about six operations each."""
    width = mixer.state_elements + mixer.conv_elements
    held = (mixer.state_elements * STATE_BYTES + mixer.conv_elements * p.kv_bytes) / parallel.tp
    return operator(
        f"{mixer.kind}_state",
        count=mixer.layers,
        ops=6.0 * step.batch * step.new_tokens * width / parallel.tp,
        weight=mixer.vectors / parallel.tp * p.weight_bytes,
        kv_read=step.batch * held,
        kv_written=step.batch * held,
        group="mixer",
        kind="vector",
    )


def _choice(mixer: Mixer, step: Step, p: Precision) -> Operator:
    """A sparse layer's indexer scores every cached entry for every new token; each device does all of it."""
    index = mixer.indexer
    assert index is not None
    pairs, keys = attention_pairs(step) / mixer.entry_tokens, keys_read(step) / mixer.entry_tokens
    return operator(
        "indexer",
        count=mixer.layers,
        ops=2.0 * step.batch * pairs * index.heads * index.width,
        kv_read=step.batch * keys * index.width * p.kv_bytes,
        kind="attention",
    )


def _seen(mixer: Mixer, step: Step) -> tuple[Quantity, Quantity]:
    """(query-key pairs, distinct entries read) of one sequence in one layer."""
    if mixer.kind == CHUNKED and mixer.window:
        return chunk_pairs(step, mixer.window)
    if mixer.kind == "compressed_attention":
        pairs, keys = attention_pairs(step, mixer.window), keys_read(step, mixer.window)
        if not mixer.cached_elements:
            return pairs, keys
        chosen = None if mixer.indexer is None else mixer.indexer.chosen * mixer.entry_tokens
        rate = mixer.entry_tokens
        far_keys = np.minimum(keys_read(step), np.inf if chosen is None else chosen * step.new_tokens)
        return pairs + attention_pairs(step, chosen) / rate, keys + far_keys / rate
    if mixer.chosen_keys:
        chosen = mixer.chosen_keys
        return attention_pairs(step, chosen), np.minimum(keys_read(step), chosen * step.new_tokens)
    return attention_pairs(step, mixer.window or None), keys_read(step, mixer.window or None)


def _attention_of(
    shape: ModelShape, mixer: Mixer, step: Step, p: Precision, parallel: Parallel, fused: bool
) -> list[Operator]:
    B, T = step.batch, step.new_tokens
    layers = mixer.layers
    heads = mixer.heads // parallel.tp
    pairs, keys = _seen(mixer, step)
    if mixer.latent is None:
        kv_heads = math.ceil(mixer.kv_heads / parallel.tp)
        key_dim = q_dim = mixer.head_dim
        value_dim = o_dim = mixer.value_dim
        key_elements, value_elements = kv_heads * key_dim, kv_heads * value_dim
        if mixer.reads_elements == mixer.head_dim:  # keys are the values too: read once in fused form
            value_elements = 0 if fused else key_elements
        spread_elements = 0
    else:
        mla = mixer.latent
        absorbed = bool(np.all(step.first_keys > T))
        q_dim, o_dim = mla.nope_dim + mla.rope_dim, mla.value_dim
        key_dim = mla.kv_rank + mla.rope_dim if absorbed else q_dim
        value_dim = mla.kv_rank if absorbed else o_dim
        # The latent is read once in fused form, where it serves as key and as value.
        key_elements, value_elements = mla.kv_rank + mla.rope_dim, 0 if fused else mla.kv_rank
        spread_elements = 0 if absorbed else heads * (mla.nope_dim + mla.value_dim)
    suffix = _suffix(shape, mixer)
    a, c = p.activation_bytes, p.kv_bytes
    qk_ops, sv_ops = 2.0 * B * pairs * heads * key_dim, 2.0 * B * pairs * heads * value_dim
    softmax_ops = 5.0 * B * pairs * heads
    q_bytes, o_bytes, scores = B * T * heads * q_dim * a, B * T * heads * o_dim * a, B * pairs * heads * a
    k_bytes, v_bytes = B * keys * key_elements * c, B * keys * value_elements * c
    q_bytes = q_bytes + B * keys * spread_elements * a  # keys and values that k_b_proj and v_b_proj spread
    if fused:
        return [
            operator(
                f"fused_attention{suffix}",
                count=layers,
                ops=qk_ops + sv_ops + softmax_ops,
                act_read=q_bytes,
                act_written=o_bytes,
                kv_read=k_bytes + v_bytes,
                kind="attention",
            )
        ]
    return [
        operator(
            f"qk_matmul{suffix}",
            count=layers,
            ops=qk_ops,
            act_read=q_bytes,
            act_written=scores,
            kv_read=k_bytes,
            kind="attention",
        ),
        operator(
            f"sv_matmul{suffix}",
            count=layers,
            ops=sv_ops,
            act_read=scores,
            act_written=o_bytes,
            kv_read=v_bytes,
            kind="attention",
        ),
        operator(
            f"softmax{suffix}",
            count=layers,
            ops=softmax_ops,
            act_read=scores,
            act_written=scores,
            kind="vector",
        ),
    ]


def _suffix(shape: ModelShape, mixer: Mixer) -> str:
    """What tells operators of several kinds of attention apart; nothing where there is only one."""
    if sum(other.attends for other in shape.mixers) == 1 or mixer.kind == FULL:
        return ""
    return f".{mixer.kind.removesuffix('_attention')}"


def _elementwise(shape: ModelShape, step: Step, p: Precision) -> list[Operator]:
    L, h = shape.layers, shape.hidden
    state = step.batch * step.new_tokens * h
    io = state * p.activation_bytes
    norms = _norms(shape)
    out = [
        operator(
            name,
            count=L,
            ops=7.0 * state,
            weight=h * p.weight_bytes,
            act_read=io,
            act_written=io,
            group="norm",
            kind="vector",
        )
        for name in norms
    ]
    out += [
        operator(name, count=L, ops=state, act_read=io, act_written=io, kind="vector")
        for name in ("attn_add", "mlp_add")
    ]
    return out


def _norms(shape: ModelShape) -> list[str]:
    if shape.norms_per_layer <= 2:
        return ["attn_norm", "mlp_norm"][: shape.norms_per_layer]
    return ["attn_norm", "post_attn_norm", "mlp_norm", "post_mlp_norm"][: shape.norms_per_layer]


def _mlp(shape: ModelShape, step: Step, p: Precision, parallel: Parallel) -> list[Operator]:
    tokens = step.batch * step.new_tokens
    out: list[Operator] = []
    for mlp in shape.mlps:
        out += _mlp_matrices(shape, "", mlp.layers, tokens, math.ceil(mlp.intermediate / parallel.tp), p)
    if shape.experts is None:
        return out
    e, count, h = shape.experts, shape.moe_layers, shape.hidden
    out.append(_linear("router", count, tokens, h, e.total, p, "router"))
    pool = tokens * parallel.replicas_sharing_experts
    routed = pool * e.active / parallel.ep
    local = e.total / parallel.ep
    read = local * -np.expm1(pool * math.log1p(-e.active / e.total)) if e.active < e.total else quantity(local)
    width = math.ceil(e.intermediate / parallel.expert_split)
    if e.latent:
        out.append(_linear("experts.latent_in", count, tokens, h, e.latent, p, "other"))
        out.append(_linear("experts.latent_out", count, tokens, e.latent, h, p, "other"))
    out += _mlp_matrices(shape, "experts.", count, routed, width, p, copies=read, hidden=e.width(h))
    if e.shared:
        width = math.ceil(e.shared * e.shared_intermediate / parallel.tp)
        out += _mlp_matrices(shape, "shared_expert.", count, tokens, width, p)
    return out


def _mlp_matrices(
    shape: ModelShape,
    prefix: str,
    count: int,
    tokens: Quantity,
    width: int,
    p: Precision,
    copies: ArrayLike = 1.0,
    hidden: int | None = None,
) -> list[Operator]:
    h, a = hidden or shape.hidden, p.activation_bytes
    names = [("gate_proj", h, width), ("up_proj", h, width)] if shape.gated_mlp else [("up_proj", h, width)]
    names.append(("down_proj", width, h))
    out = [
        operator(
            prefix + name,
            count=count,
            ops=2.0 * tokens * ic * oc,
            weight=quantity(copies) * ic * oc * p.weight_bytes,
            act_read=tokens * ic * a,
            act_written=tokens * oc * a,
            group=name,
        )
        for name, ic, oc in names
    ]
    inputs = 2 if shape.gated_mlp else 1
    act = operator(
        prefix + "mlp_act",
        count=count,
        ops=2.0 * tokens * width,
        act_read=inputs * tokens * width * a,
        act_written=tokens * width * a,
        kind="vector",
    )
    return [*out, act]


def _head(shape: ModelShape, step: Step, p: Precision, parallel: Parallel) -> list[Operator]:
    h = shape.hidden
    tokens = step.batch * step.head_tokens
    io = tokens * h * p.activation_bytes
    vocab = math.ceil(shape.vocab / parallel.tp)
    norm = operator(
        "final_norm",
        ops=7.0 * tokens * h,
        weight=h * p.weight_bytes,
        act_read=io,
        act_written=io,
        group="norm",
        kind="vector",
    )
    return [norm, _linear("lm_head", 1, tokens, h, vocab, p, "embed" if shape.tied_embeddings else "lm_head")]
