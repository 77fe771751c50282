"""What a capture needs of a model: text to tokens, tokens to caches. `torch_model` is the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from linepress.errors import EXIT_USAGE, LinepressError

Bits = NDArray[np.unsignedinteger]


class CaptureError(LinepressError):
    """A capture that cannot be made; the message says what to change."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the header of a snapshot says about the model.

    Attributes
    ----------
    compute : str
        Element format the model ran in: ``bf16``, ``fp16`` or ``fp32``; caches come in it.
    latent_rank : int | None
        Width of the compressed latent of multi-head latent attention, None for other attention.
    notes : dict
        Further header entries: revision, tokenizer, rope_theta, rope_layout, weights, library versions …
    """

    name: str
    layers: int
    compute: str
    max_tokens: int | None = None
    sliding_window: int | None = None
    latent_rank: int | None = None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's cache of one sequence, stored bits in the compute format.

    Attributes
    ----------
    keys, values : unsigned[kv_heads, tokens, head_dim]
        As the model caches them (keys after RoPE); sliding-window layers keep the last tokens only.
    pre_rope_keys : unsigned[kv_heads, tokens, head_dim] | None
        The same keys before RoPE, where asked for.
    latent : unsigned[1, tokens, rank + rope_dim] | None
        Multi-head latent attention: normalised latent and rotated key part, as serving engines cache them.
    hidden : unsigned[tokens, hidden] | None
        Residual stream into the layer, where asked for.
    """

    keys: Bits
    values: Bits
    pre_rope_keys: Bits | None = None
    latent: Bits | None = None
    hidden: Bits | None = None


class Session(Protocol):
    """One sequence being fed."""

    def prefill(self, tokens: Sequence[int]) -> None:
        """Append ``tokens`` to the cache in one or a few large steps."""
        ...

    def decode(self, tokens: Sequence[int]) -> None:
        """Append ``tokens`` one by one, as a decoding engine would."""
        ...

    def generate(self, n: int) -> list[int]:
        """Append ``n`` tokens of the model's own choice (greedy), one by one, and return them."""
        ...

    def fork(self) -> Session:
        """A session that goes on from a copy of this one's cache."""
        ...

    def layers(self) -> list[LayerCache]:
        """The caches now."""
        ...


class Runner(Protocol):
    """A loaded model."""

    @property
    def facts(self) -> ModelFacts: ...

    def tokens(self, text: str) -> list[int]:
        """Token ids of ``text`` with the tokenizer's usual special tokens."""
        ...

    def start(self) -> Session:
        """A session with an empty cache."""
        ...
