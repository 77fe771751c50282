"""What a model's layers are made of: matrices, mixers (attention or a recurrent state), MLPs, experts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """One linear layer: `inputs` × `outputs` elements, a bias of `outputs` where it has one.

    `input_units` and `output_units` say by what tensor parallelism divides that side: whole heads (their number), or
    1 for a side that divides evenly; 0 for a side that every device holds whole. `to_kv` products go to the cache.
    """

    name: str
    inputs: int
    outputs: int
    group: str
    bias: bool = False
    input_units: int = 0
    output_units: int = 0
    to_kv: bool = False

    @property
    def elements(self) -> int:
        return self.inputs * self.outputs

    def on_device(self, tp: int) -> tuple[int, int]:
        """(inputs, outputs) that one of `tp` devices holds; heads that do not divide are held several times."""
        return _share(self.inputs, self.input_units, tp), _share(self.outputs, self.output_units, tp)


def _share(width: int, units: int, tp: int) -> int:
    if units == 0:
        return width
    return -(-width // tp) if units == 1 else width // units * -(-units // tp)


@dataclass(frozen=True)
class Experts:
    """Mixture of experts: `total` routed experts of width `intermediate`, `active` a token, `shared` always on.

    Attributes
    ----------
    layers : int
        Layers with a mixture.
    latent : int
        Width that routed experts work in, between two matrices from and to the hidden width; 0: the hidden width.
    router_bias, shared_gate, bias : bool
        A bias an expert in the router; a gate over the shared expert; biases of the routed experts' matrices.
    """

    total: int
    active: int
    intermediate: int
    layers: int
    shared: int = 0
    shared_intermediate: int = 0
    router_bias: bool = False
    shared_gate: bool = False
    bias: bool = False
    latent: int = 0

    def width(self, hidden: int) -> int:
        """Width that routed experts read and write."""
        return self.latent or hidden


@dataclass(frozen=True)
class Mlp:
    """`layers` layers with a plain MLP of this width."""

    layers: int
    intermediate: int


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention of DeepSeek-V2/V3: KV cached as one latent vector and one rotary key a token."""

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    q_rank: int | None = None


@dataclass(frozen=True)
class Indexer:
    """Chooses the keys a sparse layer reads: it reads one key of `width` a cached entry, `heads` queries a token."""

    heads: int
    width: int
    chosen: int


@dataclass(frozen=True)
class Mixer:
    """What mixes tokens in `layers` equal layers.

    Attributes
    ----------
    kind : str
        ``full_attention``, ``sliding_attention``, ``chunked_attention``, ``indexed_attention``,
        ``compressed_attention``, ``cross_attention``, ``linear_attention`` or ``conv``.
    matrices : tuple of Matrix
        Linear layers of one layer.
    vectors : int
        Elements of its norm vectors, convolution kernels, decays and other small tensors, one layer.
    heads, kv_heads, head_dim, value_dim : int
        Of attention; 0 for a recurrent state.
    cached_elements : int
        Elements that one layer caches for one entry; an entry is `entry_tokens` tokens.
    entry_tokens : int
        Tokens that share one cached entry (compressed attention), else 1.
    window, window_elements : int
        Most recent tokens that a layer keeps, and what it caches for each: all it has (sliding), the tokens of the
        current chunk (chunked), or beside the compressed entries. 0: no window.
    state_elements, conv_elements : int
        Elements a sequence keeps whatever its length: recurrent state (32-bit), and inputs of a short convolution
        (of the cache's width).
    reads_elements : int
        Elements that one layer reads for one entry, also where another layer caches it.
    borrowed_keys : int
        Keys that a layer reads which uses another layer's choice.
    """

    kind: str
    layers: int
    matrices: tuple[Matrix, ...]
    vectors: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    latent: LatentAttention | None = None
    indexer: Indexer | None = None
    cached_elements: int = 0
    entry_tokens: int = 1
    window: int = 0
    window_elements: int = 0
    state_elements: int = 0
    conv_elements: int = 0
    reads_elements: int = 0
    borrowed_keys: int = 0

    @property
    def attends(self) -> bool:
        """Whether it is attention over keys, and not a recurrent state."""
        return self.heads > 0

    @property
    def chosen_keys(self) -> int:
        """Keys that a query of a sparse layer reads; 0 where it reads all it can see."""
        return self.indexer.chosen if self.indexer is not None else self.borrowed_keys

    @property
    def grows(self) -> bool:
        """Whether the cache grows with every token, whatever the context."""
        return self.cached_elements > 0

    @property
    def parameters(self) -> int:
        """Elements of one layer."""
        return self.vectors + sum(m.elements + (m.outputs if m.bias else 0) for m in self.matrices)
