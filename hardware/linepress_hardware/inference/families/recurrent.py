"""Layers that keep a state instead of a cache: delta nets, Mamba, lightning attention, short convolutions.

States are from each family's modelling code (see the source of its data file): what the reference implementation
keeps between two tokens. Convolutions keep kernel - 1 inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from linepress_hardware.inference.families.fields import Fields
from linepress_hardware.inference.families.pattern import CONV, LINEAR
from linepress_hardware.inference.layers import Matrix, Mixer


def recurrent(f: Fields, rule: Mapping[str, Any], kind: str, layers: int, hidden: int) -> Mixer:
    """`layers` layers of the family's recurrent form (``[linear]`` of its data file)."""
    form = "short-convolution" if kind == CONV else rule["form"]
    return FORMS[form](f, rule, layers, hidden)


def _mixer(
    layers: int, matrices: list[Matrix], vectors: int, *, state: int = 0, conv: int = 0, kind: str = LINEAR
) -> Mixer:
    return Mixer(kind, layers, tuple(matrices), vectors, state_elements=state, conv_elements=conv)


def _in(name: str, inputs: int, outputs: int, bias: bool = False) -> Matrix:
    return Matrix(name, inputs, outputs, "mixer", bias, output_units=1)


def _out(inputs: int, outputs: int, bias: bool = False) -> Matrix:
    return Matrix("mixer_out", inputs, outputs, "mixer", bias, input_units=1)


def _delta_net(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """Gated delta net: a key × value state a value head, a convolution over queries, keys and values."""
    key_heads, value_heads = f.whole("linear_num_key_heads"), f.whole("linear_num_value_heads")
    key, value = f.whole("linear_key_head_dim"), f.whole("linear_value_head_dim")
    kernel = f.whole("linear_conv_kernel_dim")
    mixed = 2 * key_heads * key + value_heads * value
    matrices = [
        _in("mixer_in", hidden, mixed + value_heads * value),
        _in("mixer_rates", hidden, 2 * value_heads),
        _out(value_heads * value, hidden),
    ]
    vectors = mixed * kernel + 2 * value_heads + value
    return _mixer(layers, matrices, vectors, state=value_heads * key * value, conv=(kernel - 1) * mixed)


def _kda(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """Kimi delta attention: a delta net with a decay a channel through a low-rank gate."""
    inner = f.get("linear_attn_config") or {}
    given = {
        "linear_num_heads": inner.get("num_heads"),
        "linear_head_dim": inner.get("head_dim"),
        "linear_conv_kernel_dim": inner.get("short_conv_kernel_size"),
    }
    values = {k: f.whole(k) if v is None else f.checked(v, f"linear_attn_config {k}") for k, v in given.items()}
    heads, dim, kernel = values["linear_num_heads"], values["linear_head_dim"], values["linear_conv_kernel_dim"]
    width = heads * dim
    matrices = [_in(f"mixer_{name}", hidden, width) for name in ("q", "k", "v")]
    matrices += [
        _in("mixer_decay_a", hidden, dim),
        _in("mixer_decay_b", dim, width),
        _in("mixer_beta", hidden, heads),
    ]
    if inner.get("use_full_rank_gate"):
        matrices.append(_in("mixer_gate", hidden, width))
    else:
        matrices += [_in("mixer_gate_a", hidden, dim), _in("mixer_gate_b", dim, width)]
    matrices.append(_out(width, hidden))
    vectors = 3 * width * kernel + width + heads + dim
    return _mixer(layers, matrices, vectors, state=heads * dim * dim, conv=3 * (kernel - 1) * width)


def _mamba2(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """Mamba-2: H heads of P channels with a state of N, keys and queries shared by G groups."""
    heads = f.whole("mamba_num_heads", "mamba_n_heads")
    width = f.whole("mamba_head_dim", "mamba_d_head", default=0, least=0)
    inner = f.whole("mamba_d_ssm", default=0, least=0) or (
        heads * width if width else f.whole("mamba_expand") * hidden
    )
    groups = f.whole("n_groups", "mamba_n_groups")
    state = f.whole("ssm_state_size", "mamba_d_state")
    kernel = f.whole("conv_kernel", "mamba_d_conv")
    mixed = inner + 2 * groups * state
    bias = f.flag("use_bias") or f.flag("mamba_proj_bias")
    matrices = [_in("mixer_in", hidden, inner + mixed + heads, bias), _out(inner, hidden, bias)]
    vectors = mixed * kernel + 3 * heads
    vectors += mixed if f.flag("use_conv_bias", f.flag("mamba_conv_bias", True)) else 0
    vectors += inner if f.switch(rule.get("norm", True)) else 0
    return _mixer(layers, matrices, vectors, state=inner * state, conv=(kernel - 1) * mixed)


def _mamba1(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """Mamba-1 as in Jamba, with norms of step, input and output."""
    inner, state = f.whole("mamba_expand") * hidden, f.whole("mamba_d_state")
    kernel = f.whole("mamba_d_conv")
    rank = f.get("mamba_dt_rank")
    rank = -(-hidden // 16) if rank in (None, "auto") else f.checked(rank, "mamba_dt_rank")
    bias = f.flag("mamba_proj_bias")
    matrices = [
        _in("mixer_in", hidden, 2 * inner, bias),
        Matrix("mixer_x", inner, rank + 2 * state, "mixer", input_units=1),
        _in("mixer_dt", rank, inner, True),
        _out(inner, hidden, bias),
    ]
    vectors = inner * kernel + inner * state + inner + rank + 2 * state
    vectors += inner if f.flag("mamba_conv_bias", True) else 0
    return _mixer(layers, matrices, vectors, state=inner * state, conv=(kernel - 1) * inner)


def _lightning(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """Lightning attention of MiniMax: a key × value state a head, an output gate."""
    heads = f.whole("num_attention_heads")
    dim = f.whole("head_dim", default=hidden // heads)
    width = heads * dim
    matrices = [_in("mixer_qkv", hidden, 3 * width), _in("mixer_gate", hidden, width), _out(width, hidden)]
    return _mixer(layers, matrices, width, state=heads * dim * dim)


def _short_convolution(f: Fields, rule: Mapping[str, Any], layers: int, hidden: int) -> Mixer:
    """LFM2's gated short convolution."""
    kernel, bias = f.whole("conv_L_cache"), f.flag("conv_bias")
    matrices = [_in("mixer_in", hidden, 3 * hidden, bias), _out(hidden, hidden, bias)]
    vectors = hidden * kernel + (hidden if bias else 0)
    return _mixer(layers, matrices, vectors, conv=(kernel - 1) * hidden, kind=CONV)


FORMS: Mapping[str, Callable[[Fields, Mapping[str, Any], int, int], Mixer]] = {
    "delta-net": _delta_net,
    "kda": _kda,
    "mamba-2": _mamba2,
    "mamba-1": _mamba1,
    "lightning": _lightning,
    "short-convolution": _short_convolution,
}
