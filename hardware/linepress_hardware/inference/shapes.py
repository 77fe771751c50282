"""The shape of a language model: its layers, how many parameters they have, what a sequence keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.layers import Experts, LatentAttention, Mixer, Mlp
from linepress_hardware.inference.quantisation import Quantisation

__all__ = ["GROUPS", "STATE_BYTES", "Experts", "LatentAttention", "ModelShape"]

# Attention and MLP matrices by the group names that linepress gives to tensors.
GROUPS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "embed",
    "norm",
    "router",
    "bias",
    "mixer",
    "other",
)
# Engines keep recurrent states in 32-bit floats (mamba_ssm_dtype of the configurations).
STATE_BYTES = 4


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only language model.

    Attributes
    ----------
    layers, hidden, vocab : int
        L, h, V.
    mixers : tuple of Mixer
        Attention and recurrent states, equal layers together; a layer may have several (Falcon-H1) or none
        (Nemotron-H's MLP layers).
    mlps : tuple of Mlp
        Plain MLPs, equal layers together.
    experts : Experts | None
    tied_embeddings : bool
        The output head is the input table (stored once, read once a step).
    gated_mlp, mlp_bias : bool
        Three MLP matrices (gate, up, down), else two (up, down); biases of them.
    norms_per_layer : int
        Norm vectors of a layer's hidden state: 2, or 4 where attention and MLP are also normed on their way out.
    norm_bias : bool
        Norms are LayerNorms with a bias vector each.
    final_norm : bool
        A norm with weights stands before the head.
    extras : tuple of (group, elements)
        Tensors outside the layers' usual ones, whole model.
    max_context : int | None
        The longest context the model was made for, tokens.
    quantised : Quantisation | None
        How the checkpoint stores its weights, where its configuration says so.
    defaults : tuple of str
        Fields that the configuration left out and the family's class default filled.
    """

    name: str
    layers: int
    hidden: int
    vocab: int
    mixers: tuple[Mixer, ...]
    mlps: tuple[Mlp, ...] = ()
    experts: Experts | None = None
    tied_embeddings: bool = False
    gated_mlp: bool = True
    mlp_bias: bool = False
    norms_per_layer: int = 2
    norm_bias: bool = False
    final_norm: bool = True
    head_bias: bool = False
    extras: tuple[tuple[str, int], ...] = ()
    max_context: int | None = None
    quantised: Quantisation | None = None
    defaults: tuple[str, ...] = ()
    published_parameters: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "vocab"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{self.name}: {field} is {value!r}; give a whole number above 0")
        if not any(mixer.attends for mixer in self.mixers):
            raise ConfigurationError(
                f"{self.name}: no layer has attention; the operator model takes models with some attention only"
            )
        if self.experts is not None and not 0 < self.experts.active <= self.experts.total:
            raise ConfigurationError(
                f"{self.name}: {self.experts.active} active of {self.experts.total} experts; "
                f"the active ones must be 1 to the total"
            )

    # What most layers do: attention of the first kind there is, the form that older models have throughout.

    @cached_property
    def main(self) -> Mixer:
        """The attention whose cache grows with the context, or the first attention where none does."""
        attention = [mixer for mixer in self.mixers if mixer.attends and mixer.kind != "cross_attention"]
        return next((mixer for mixer in attention if mixer.grows and not mixer.window), attention[0])

    @property
    def heads(self) -> int:
        return self.main.heads

    @property
    def kv_heads(self) -> int:
        return self.main.kv_heads

    @property
    def head_dim(self) -> int:
        return self.main.head_dim

    @property
    def latent(self) -> LatentAttention | None:
        return self.main.latent

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normed."""
        return self.main.latent is None and self.main.vectors > 0

    @property
    def intermediate(self) -> int:
        """Width of the plain MLPs, 0 where every layer has experts."""
        return max((mlp.intermediate for mlp in self.mlps), default=0)

    @property
    def uniform(self) -> bool:
        """Every layer has the same attention and the same MLP or experts: the transformer of older models."""
        return len(self.mixers) == 1 and self.mixers[0].layers == self.layers == self.moe_layers + self.dense_layers

    @property
    def sliding_window(self) -> int | None:
        """Tokens that layers with a window keep (the longest window there is)."""
        return max((mixer.window for mixer in self.mixers), default=0) or None

    @property
    def sliding_layers(self) -> int:
        """Layers that keep a window of the context only."""
        return sum(mixer.layers for mixer in self.mixers if mixer.window and not mixer.grows)

    @property
    def moe_layers(self) -> int:
        return 0 if self.experts is None else self.experts.layers

    @property
    def dense_layers(self) -> int:
        return sum(mlp.layers for mlp in self.mlps)

    @property
    def query_width(self) -> int:
        """Elements of all query heads of a token."""
        if self.latent is not None:
            return self.heads * (self.latent.nope_dim + self.latent.rope_dim)
        return self.heads * self.head_dim

    @property
    def output_width(self) -> int:
        """Elements of all attention outputs of a token, the input of ``o_proj``."""
        return self.heads * self.main.value_dim

    @property
    def kv_elements_per_token_layer(self) -> int:
        """Elements that a layer of the main attention caches for one token."""
        return self.main.cached_elements or self.main.window_elements

    # What a sequence keeps.

    def kv_bytes_per_token(self, kv_bytes: float) -> float:
        """k: bytes that all layers cache for one token while no window is full."""
        return self.growing_bytes_per_token(kv_bytes) + kv_bytes * sum(
            mixer.layers * mixer.window_elements for mixer in self.mixers
        )

    def growing_bytes_per_token(self, kv_bytes: float) -> float:
        """Bytes cached for one token whatever the context: layers without a window; index keys are not in it."""
        return sum(m.layers * m.cached_elements / m.entry_tokens for m in self.mixers) * kv_bytes

    @property
    def window_share(self) -> float:
        """Share of `kv_bytes_per_token` that lies in layers which keep a window only."""
        return 1 - self.growing_bytes_per_token(1.0) / self.kv_bytes_per_token(1.0)

    def window_bytes(self, kv_bytes: float) -> float:
        """Bytes that layers with a window keep of one sequence once every window is full."""
        return sum(m.layers * m.window_elements * m.window for m in self.mixers) * kv_bytes

    def state_bytes(self, kv_bytes: float) -> float:
        """Bytes one sequence keeps whatever its length: recurrent states and convolution inputs."""
        return sum(m.layers * (m.state_elements * STATE_BYTES + m.conv_elements * kv_bytes) for m in self.mixers)

    def index_bytes_per_token(self, index_bytes: float) -> float:
        """Bytes of sparse attention's index keys for one token, at `index_bytes` an element."""
        return index_bytes * sum(
            m.layers * m.indexer.width / m.entry_tokens for m in self.mixers if m.indexer is not None
        )

    def sequence_bytes(self, context_tokens: float, kv_bytes: float) -> float:
        """Bytes one sequence of `context_tokens` keeps: cache, windows as far as they are full, states."""
        windows = sum(m.layers * m.window_elements * min(context_tokens, m.window) for m in self.mixers)
        return (
            context_tokens * self.growing_bytes_per_token(kv_bytes) + windows * kv_bytes + self.state_bytes(kv_bytes)
        )

    def without_windows(self) -> ModelShape:
        """The same model with every window open: what the loops weigh by layers."""

        def opened(mixer: Mixer) -> Mixer:
            if not mixer.window:
                return mixer
            return replace(
                mixer,
                kind="full_attention",
                window=0,
                window_elements=0,
                cached_elements=mixer.cached_elements or mixer.window_elements,
            )

        return replace(self, mixers=tuple(opened(mixer) for mixer in self.mixers))

    # Parameters.

    def parameters_by_group(self) -> dict[str, int]:
        """Parameters by tensor group, whole model; ``lm_head`` is apart from ``embed`` and 0 when tied."""
        h = self.hidden
        counts = dict.fromkeys((*GROUPS, "lm_head"), 0)
        for mixer in self.mixers:
            for matrix in mixer.matrices:
                counts[matrix.group] += mixer.layers * matrix.elements
                counts["bias"] += mixer.layers * matrix.outputs * matrix.bias
            counts["norm" if mixer.attends else "mixer"] += mixer.layers * mixer.vectors
        for group, elements in self._feed_forward():
            counts[group] += elements
        norm = h * (2 if self.norm_bias else 1)
        counts["norm"] += self.layers * self.norms_per_layer * norm + (norm if self.final_norm else 0)
        counts["embed"] += self.vocab * h
        counts["lm_head"] = 0 if self.tied_embeddings else self.vocab * h
        counts["bias"] += self.vocab if self.head_bias else 0
        for group, elements in self.extras:
            counts[group] += elements
        return counts

    def _feed_forward(self) -> Iterator[tuple[str, int]]:
        h, gated = self.hidden, self.gated_mlp
        wide = ("gate_proj", "up_proj") if gated else ("up_proj",)
        for mlp in self.mlps:
            yield from ((group, mlp.layers * h * mlp.intermediate) for group in (*wide, "down_proj"))
            if self.mlp_bias:
                yield "bias", mlp.layers * (len(wide) * mlp.intermediate + h)
        if self.experts is None:
            return
        e = self.experts
        yield from self.expert_parameters_by_group().items()
        shared = e.layers * h * e.shared * e.shared_intermediate
        yield from ((group, shared) for group in (*wide, "down_proj"))
        if self.mlp_bias and e.shared:
            yield "bias", e.layers * (len(wide) * e.shared * e.shared_intermediate + h)
        if e.bias:
            yield "bias", e.layers * e.total * (len(wide) * e.intermediate + e.width(h))
        yield "router", e.layers * (h * e.total + (e.total if e.router_bias else 0) + (h if e.shared_gate else 0))
        yield "other", e.layers * 2 * h * e.latent

    def expert_parameters_by_group(self) -> dict[str, int]:
        """Of `parameters_by_group`, those of routed experts' matrices."""
        if self.experts is None:
            return {}
        e = self.experts
        routed = e.layers * e.width(self.hidden) * e.total * e.intermediate
        return {"gate_proj": routed if self.gated_mlp else 0, "up_proj": routed, "down_proj": routed}

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, biases included."""
        return sum(self.parameters_by_group().values())

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: all but the routed experts it is not sent to."""
        if self.experts is None:
            return self.parameters
        routed = sum(self.expert_parameters_by_group().values())
        return self.parameters - math.floor(routed * (1 - self.experts.active / self.experts.total))

    @property
    def stored_weight_bytes(self) -> float | None:
        """Bytes of the checkpoint's weights as quantised, None where the configuration does not say how."""
        if self.quantised is None:
            return None
        return self.quantised.weight_bytes(self.parameters_by_group(), self.expert_parameters_by_group())
