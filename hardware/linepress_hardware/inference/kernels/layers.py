"""The kernels that a serving engine launches for a model, by the names of the public profiler tables.

Names and fusions are vLLM's: one product for query, key and value, one for gate and up; rotary embedding, norms and
the gated activation are kernels of their own. Shapes are per device of a tensor-parallel group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.shapes import ModelShape

F8 = NDArray[np.float64]
ELEMENT_BYTES = 2.0  # bf16, the only precision that has been profiled

LINEAR = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head")
PER_SEQUENCE = ("lm_head", "sampler")


@dataclass(frozen=True)
class Matrix:
    """A linear layer: `tokens` × `rows` times `rows` × `columns`."""

    rows: int
    columns: int

    def ops(self, tokens: ArrayLike) -> F8:
        """2 T K N."""
        return 2.0 * np.asarray(tokens, dtype=np.float64) * self.rows * self.columns

    def bytes(self, tokens: ArrayLike) -> F8:
        """Weights once, inputs and outputs once."""
        t = np.asarray(tokens, dtype=np.float64)
        return ELEMENT_BYTES * (self.rows * self.columns + t * (self.rows + self.columns))


@dataclass(frozen=True)
class Heads:
    """Attention of one device: query heads, KV heads, head width."""

    query: int
    kv: int
    width: int


def profiled(shape: ModelShape) -> bool:
    """Whether every layer is attention of the kind that was profiled: full or sliding, the same heads everywhere."""
    main = shape.main
    same = all((m.heads, m.kv_heads, m.head_dim) == (main.heads, main.kv_heads, main.head_dim) for m in shape.mixers)
    plain = all(m.kind in ("full_attention", "sliding_attention") for m in shape.mixers)
    return shape.latent is None and plain and same


def check(shape: ModelShape) -> None:
    """Raise `ConfigurationError` for attention that no profiled kernel resembles."""
    if not profiled(shape):
        kinds = "latent attention" if shape.latent is not None else ", ".join(sorted({m.kind for m in shape.mixers}))
        raise ConfigurationError(
            f"{shape.name} has layers ({kinds}) for which no kernel was measured; take the roofline instead "
            f"(--kernels roofline)"
        )


def heads(shape: ModelShape, tp: int) -> Heads:
    """Heads a device computes; a KV head that several devices need is held by each."""
    check(shape)
    return Heads(shape.heads // tp, max(1, -(-shape.kv_heads // tp)), shape.head_dim)


def matrix(shape: ModelShape, tp: int, name: str) -> Matrix | None:
    """Shape of a linear layer of one device; None for a kernel that is no product."""
    at = heads(shape, tp)
    h = shape.hidden
    return {
        "qkv_proj": Matrix(h, (at.query + 2 * at.kv) * at.width),
        "o_proj": Matrix(at.query * at.width, h),
        "gate_up_proj": Matrix(h, 2 * -(-shape.intermediate // tp)) if shape.intermediate else None,
        "down_proj": Matrix(-(-shape.intermediate // tp), h) if shape.intermediate else None,
        "lm_head": Matrix(h, -(-shape.vocab // tp)),
        "router": None if shape.experts is None else Matrix(h, shape.experts.total),
    }.get(name)


def elementwise_bytes(shape: ModelShape, tp: int, name: str, tokens: ArrayLike) -> F8:
    """Bytes read and written by a kernel that is no product and no attention."""
    at = heads(shape, tp)
    t = np.asarray(tokens, dtype=np.float64)
    width = {
        "layernorm": 2.0 * shape.hidden,
        "final_layernorm": 2.0 * shape.hidden,
        "embedding": 2.0 * shape.hidden,
        "act_fn": 3.0 * -(-shape.intermediate // tp),
        "rotary_emb": 2.0 * (at.query + at.kv) * at.width,
        "qk_norm": 2.0 * (at.query + at.kv) * at.width,
        "sampler": 2.0 * shape.vocab,  # logits as 32-bit numbers
    }
    if name not in width:
        raise ConfigurationError(f"kernel {name!r} is unknown; known are {', '.join((*LINEAR, *width, 'attention'))}")
    return ELEMENT_BYTES * t * width[name]


def per_layer(shape: ModelShape) -> dict[str, float]:
    """Launches of each kernel, attention aside, averaged over the layers."""
    dense = shape.dense_layers / shape.layers
    out = {"layernorm": float(shape.norms_per_layer), "qkv_proj": 1.0, "rotary_emb": 1.0, "o_proj": 1.0}
    if shape.qk_norm:
        out["qk_norm"] = 1.0
    if dense:
        out |= {"gate_up_proj": dense, "act_fn": dense, "down_proj": dense}
    if dense < 1:
        out["experts"] = 1.0 - dense
    return out


def attention_ops(at: Heads, chunk: ArrayLike, prior: ArrayLike, sequences: ArrayLike, keys: ArrayLike) -> F8:
    """4 D H for each unmasked pair of a chunk after `prior` tokens and of `sequences` answers over `keys` keys."""
    c, p, n, k = (np.asarray(v, dtype=np.float64) for v in (chunk, prior, sequences, keys))
    return 4.0 * (c * p + c * (c + 1) / 2 + n * k) * at.query * at.width


def attention_bytes(at: Heads, chunk: ArrayLike, prior: ArrayLike, sequences: ArrayLike, keys: ArrayLike) -> F8:
    """Queries and outputs once, every cached key and value once."""
    c, p, n, k = (np.asarray(v, dtype=np.float64) for v in (chunk, prior, sequences, keys))
    cached = (c + p) * (c > 0) + n * k
    return ELEMENT_BYTES * at.width * (2.0 * (c + n) * at.query + 2.0 * cached * at.kv)


def expected_experts(total: float, active: int, of: int, tokens: ArrayLike) -> F8:
    """Distinct ones among `total` experts that `tokens` tokens reach, each `active` of `of` at random."""
    t = np.asarray(tokens, dtype=np.float64)
    return np.asarray(total * -np.expm1(t * np.log1p(-active / of)) if active < of else np.full_like(t, total))
