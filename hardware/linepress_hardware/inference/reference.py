"""Operators as the published tool counts them, mistakes included ("reference" mode).

Source: hahnyuan/LLM-Viewer at 472f71f (MIT), the tool of Yuan et al., LLM Inference Unveiled (2024), whose
Llama-2-7B / A6000 table the talk shows. Known quirks, kept here and mended in `operators`:

- attention counts the full S × S square, though a causal mask needs half;
- prefill ``qk_matmul`` reads the query with the KV heads' width, too few bytes under grouped queries;
- ``mlp_act`` has the hidden, not the MLP's, width;
- ``lm_head`` does half the operations, and moves one token's bytes whatever the batch;
- fused attention ignores grouped queries and writes S, not D, elements a head, twice;
- the resident weights hold neither input table nor output head;
- INT8 peak only if weight, activation and KV all have 8 bits or fewer;
- the device named A100 is the 40 GB part and H100 has 3,072 GB/s (see each accelerator's ``[reference]``);
- experts, latent attention, windows, biases and head widths other than h / H do not exist.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.operator import Operator, Quantity, operator, quantity
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape

STAGES = ("prefill", "decode")

QUIRKS: dict[str, str] = {
    "full_square_attention": "attention counts S × S pairs; a causal mask needs S (S + 1) / 2",
    "prefill_query_width": "prefill qk_matmul reads the query with the KV heads' width",
    "mlp_act_width": "mlp_act has the hidden width h instead of the MLP's width I",
    "lm_head_halved": "lm_head counts B h V operations (true: 2 B h V) and one token's bytes at any batch",
    "fused_attention": "fused attention ignores grouped queries and writes S instead of D elements a head, twice",
    "resident_weights": "resident weights leave out the input table and the output head",
    "int8_peak": "the 8-bit peak is used only when weights, activations and KV all have 8 bits or fewer",
    "norm_weights": "norm vectors are not read",
}


def operators(
    shape: ModelShape,
    stage: str,
    batch: ArrayLike,
    sequence_tokens: ArrayLike,
    precision: Precision,
    *,
    fused_attention: bool = False,
    on_chip_bytes: float | None = None,
) -> list[Operator]:
    """The 15 operators of a layer (count = layers) and ``lm_head`` (count 1), in the tool's order and names.

    Raises
    ------
    ConfigurationError
        The tool has no such shape or stage, or fused attention is asked for without the device's on-chip bytes.
    """
    if stage not in STAGES:
        raise ConfigurationError(f"stage {stage!r} is unknown in reference mode; use prefill or decode")
    lacking = [
        name
        for name, present in (
            ("experts", shape.experts is not None),
            ("latent attention", shape.latent is not None),
            ("recurrent layers", any(not mixer.attends for mixer in shape.mixers)),
            ("layers without attention or MLP", not shape.experts and shape.dense_layers != shape.layers),
        )
        if present
    ]
    if lacking:
        raise ConfigurationError(
            f"the published tool does not model {' or '.join(lacking)} of {shape.name}; use --mode corrected"
        )
    B, S = quantity(batch), quantity(sequence_tokens)
    T = S if stage == "prefill" else quantity(1)
    L, h, H, Hkv = shape.layers, shape.hidden, shape.heads, shape.kv_heads
    D = h // H
    kv_width = h * Hkv / H
    w, a, c = precision.weight_bytes, precision.activation_bytes, precision.kv_bytes
    linear: list[tuple[str, float, float]] = [
        ("q_proj", h, h),
        ("k_proj", h, kv_width),
        ("v_proj", h, kv_width),
        ("out_proj", h, h),
        ("gate_proj", h, shape.intermediate),
        ("up_proj", h, shape.intermediate),
        ("down_proj", shape.intermediate, h),
    ]
    out: list[Operator] = []
    for name, ic, oc in linear:
        to_kv = name in ("k_proj", "v_proj")
        out.append(
            operator(
                name,
                count=L,
                ops=2 * B * T * ic * oc,
                weight=ic * oc * w,
                act_read=B * T * ic * a,
                act_written=0.0 if to_kv else B * T * oc * a,
                kv_written=B * T * oc * c if to_kv else 0.0,
                group="o_proj" if name == "out_proj" else name,
            )
        )
    out += _attention(stage, B, S, T, L, H, Hkv, D, a, c, fused_attention, on_chip_bytes)
    state = B * T * h
    for name, ops, read in (
        ("attn_norm", 7, 1),
        ("mlp_norm", 7, 1),
        ("attn_add", 1, 1),
        ("mlp_add", 1, 1),
        ("mlp_act", 2, 2),
    ):
        out.append(
            operator(name, count=L, ops=ops * state, act_read=read * state * a, act_written=state * a, kind="vector")
        )
    V = shape.vocab
    out.append(
        operator("lm_head", ops=B * h * V, weight=h * V * w, act_read=h * a, act_written=V * a, group="lm_head")
    )
    return out


def _attention(
    stage: str,
    B: Quantity,
    S: Quantity,
    T: Quantity,
    L: int,
    H: int,
    Hkv: int,
    D: int,
    a: float,
    c: float,
    fused: bool,
    on_chip_bytes: float | None,
) -> list[Operator]:
    matmul_ops, softmax_ops = 2 * B * T * S * D * H, 5 * B * H * T * S
    scores = B * T * S * H * a
    if fused:
        if on_chip_bytes is None:
            raise ConfigurationError(
                "fused attention in reference mode sizes its blocks by on-chip memory, which this accelerator's "
                "[reference] does not give; add on_chip_bytes there or use --mode corrected"
            )
        rows = min(math.ceil(on_chip_bytes / (c * D)), D)
        blocks = np.ceil(T / rows)
        return [
            operator(
                "fused_attention",
                count=L,
                ops=2 * matmul_ops + softmax_ops,
                act_read=B * T * D * H * a,
                act_written=2 * scores,
                kv_read=blocks * S * D * B * H * c * 2,
                kind="attention",
            )
        ]
    query_heads = Hkv if stage == "prefill" else H
    kv = B * S * D * Hkv * c
    return [
        operator(
            "qk_matmul",
            count=L,
            ops=matmul_ops,
            act_read=B * T * D * query_heads * a,
            act_written=scores,
            kv_read=kv,
            kind="attention",
        ),
        operator(
            "sv_matmul",
            count=L,
            ops=matmul_ops,
            act_read=scores,
            act_written=B * T * D * H * a,
            kv_read=kv,
            kind="attention",
        ),
        operator("softmax", count=L, ops=softmax_ops, act_read=scores, act_written=scores, kind="vector"),
    ]


def resident_bytes(
    shape: ModelShape,
    stage: str,
    batch: float,
    sequence_tokens: float,
    precision: Precision,
    *,
    fused_attention: bool = False,
    on_chip_bytes: float | None = None,
) -> dict[str, float]:
    """Capacity the tool reports, bytes: weights of the layers, KV of the prompt, outputs of one layer's operators.

    The activations of a stage are what every operator of **one** layer writes, all kept at once; with fused
    attention that is the fused operator's output, as the tool counts it.
    """
    step = operators(
        shape,
        stage,
        batch,
        sequence_tokens,
        precision,
        fused_attention=fused_attention,
        on_chip_bytes=on_chip_bytes,
    )
    layer = [op for op in step if op.name != "lm_head"]
    prompt = operators(shape, "prefill", batch, sequence_tokens, precision)
    weights = sum(float(op.count * op.weight_bytes) for op in prompt if op.name != "lm_head")
    kv = sum(float(op.count * op.kv_written_bytes) for op in prompt)
    activations = sum(float(op.act_written_bytes) for op in layer)
    return {
        "resident_B": weights + kv + activations,
        "resident_act_B": activations,
        "resident_weight_B": weights,
        "resident_kv_B": kv,
    }
