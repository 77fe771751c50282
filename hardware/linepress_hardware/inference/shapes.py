"""The shape of a transformer: what its configuration says, and how many parameters that makes."""

from __future__ import annotations

from dataclasses import dataclass

from linepress_hardware.errors import ConfigurationError

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
)


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: `total` routed experts of width `intermediate`, `active` a token, `shared` always on.

    The first `dense_layers` layers have a plain MLP.
    """

    total: int
    active: int
    intermediate: int
    shared: int = 0
    shared_intermediate: int = 0
    dense_layers: int = 0
    router_bias: bool = False


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention of DeepSeek-V2/V3: KV cached as one latent vector and one rotary key a token."""

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    q_rank: int | None = None


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer.

    Attributes
    ----------
    layers, hidden, heads, kv_heads, head_dim, intermediate, vocab : int
        L, h, H, Hkv, D, I, V. With `experts` all layers but the dense ones use the experts' width; with
        `latent` the attention widths come from it.
    tied_embeddings : bool
        The output head is the input table (stored once, read once a step).
    gated_mlp : bool
        Three MLP matrices (gate, up, down), else two (up, down).
    qkv_bias, o_bias, qk_norm : bool
        Biases of the projections; a norm vector over each head's query and key.
    norms_per_layer : int
        2, or 4 where attention and MLP are also normed on their way out (Gemma-2).
    sliding_window : int | None
        Keys that a query of a sliding layer sees, itself included.
    sliding_layers : int
        How many of the layers slide; 0 without a window.
    max_context : int | None
        The longest context the model was made for, tokens.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied_embeddings: bool = False
    gated_mlp: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    sliding_window: int | None = None
    sliding_layers: int = 0
    max_context: int | None = None
    experts: Experts | None = None
    latent: LatentAttention | None = None
    published_parameters: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{self.name}: {field} is {value!r}; give a whole number above 0")
        if self.intermediate < 1 and self.experts is None:
            raise ConfigurationError(f"{self.name}: intermediate is {self.intermediate!r}; give the MLP's width")
        if self.heads % self.kv_heads:
            raise ConfigurationError(
                f"{self.name}: {self.heads} attention heads do not share {self.kv_heads} KV heads evenly; "
                f"the number of KV heads must divide the number of heads"
            )
        if self.sliding_layers > self.layers:
            raise ConfigurationError(f"{self.name}: {self.sliding_layers} sliding layers of {self.layers} layers")
        if self.experts is not None and not 0 < self.experts.active <= self.experts.total:
            raise ConfigurationError(
                f"{self.name}: {self.experts.active} active of {self.experts.total} experts; "
                f"the active ones must be 1 to the total"
            )

    @property
    def moe_layers(self) -> int:
        return 0 if self.experts is None else self.layers - self.experts.dense_layers

    @property
    def dense_layers(self) -> int:
        return self.layers - self.moe_layers

    @property
    def query_width(self) -> int:
        """Elements of all query heads of a token."""
        if self.latent is not None:
            return self.heads * (self.latent.nope_dim + self.latent.rope_dim)
        return self.heads * self.head_dim

    @property
    def output_width(self) -> int:
        """Elements of all attention outputs of a token, the input of ``o_proj``."""
        return self.heads * (self.latent.value_dim if self.latent is not None else self.head_dim)

    @property
    def kv_elements_per_token_layer(self) -> int:
        """Elements that one layer caches for one token: 2 Hkv D, or the latent's rank plus the rotary key."""
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope_dim
        return 2 * self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, kv_bytes: float) -> float:
        """k: bytes that all layers cache for one token, windows not considered."""
        return self.layers * self.kv_elements_per_token_layer * kv_bytes

    def parameters_by_group(self) -> dict[str, int]:
        """Parameters by tensor group, whole model; ``lm_head`` is apart from ``embed`` and 0 when tied."""
        L, h = self.layers, self.hidden
        counts = dict.fromkeys((*GROUPS, "lm_head"), 0)
        if self.latent is not None:
            mla = self.latent
            q = self.query_width
            counts["q_proj"] = L * (h * q if mla.q_rank is None else h * mla.q_rank + mla.q_rank * q)
            counts["k_proj"] = L * (h * (mla.kv_rank + mla.rope_dim) + mla.kv_rank * self.heads * mla.nope_dim)
            counts["v_proj"] = L * mla.kv_rank * self.heads * mla.value_dim
            counts["norm"] += L * (mla.kv_rank + (mla.q_rank or 0))
        else:
            kv_width = self.kv_heads * self.head_dim
            counts["q_proj"] = L * h * self.query_width
            counts["k_proj"] = counts["v_proj"] = L * h * kv_width
            counts["bias"] += L * (self.query_width + 2 * kv_width) if self.qkv_bias else 0
            counts["norm"] += L * 2 * self.head_dim if self.qk_norm else 0
        counts["o_proj"] = L * self.output_width * h
        counts["bias"] += L * h if self.o_bias else 0
        mlp = self.dense_layers * h * self.intermediate
        if self.experts is not None:
            e = self.experts
            mlp += self.moe_layers * h * (e.total * e.intermediate + e.shared * e.shared_intermediate)
            counts["router"] = self.moe_layers * (h * e.total + (e.total if e.router_bias else 0))
        counts["gate_proj"] = mlp if self.gated_mlp else 0
        counts["up_proj"] = counts["down_proj"] = mlp
        counts["norm"] += L * self.norms_per_layer * h + h
        counts["embed"] = self.vocab * h
        counts["lm_head"] = 0 if self.tied_embeddings else self.vocab * h
        return counts

    def expert_parameters_by_group(self) -> dict[str, int]:
        """Of `parameters_by_group`, those of routed experts."""
        if self.experts is None:
            return {}
        routed = self.moe_layers * self.hidden * self.experts.total * self.experts.intermediate
        return {"gate_proj": routed if self.gated_mlp else 0, "up_proj": routed, "down_proj": routed}

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, biases included."""
        return sum(self.parameters_by_group().values())
