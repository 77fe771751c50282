"""A stand-in for a language model: caches that are a stated function of token and position, no PyTorch needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linepress.capture.runner import Bits, LayerCache, ModelFacts, Session

HEADS, DIM, LAYERS = 2, 16, 3


class TinyRunner:
    """Words are tokens (their length); `fed` records every step as (phase, tokens), forks included."""

    def __init__(self, compute: str = "bf16", max_tokens: int | None = 4096) -> None:
        self.compute, self.max_tokens = compute, max_tokens
        self.fed: list[tuple[str, int]] = []

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts("tiny", LAYERS, self.compute, self.max_tokens, notes={"tokenizer": "words"})

    def tokens(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def start(self) -> TinySession:
        return TinySession(self, [])


class TinySession:
    """The tokens fed so far are the whole state."""

    def __init__(self, runner: TinyRunner, tokens: list[int]) -> None:
        self._runner, self._tokens = runner, tokens

    def prefill(self, tokens: Sequence[int]) -> None:
        self._runner.fed.append(("prefill", len(tokens)))
        self._tokens.extend(tokens)

    def decode(self, tokens: Sequence[int]) -> None:
        self._runner.fed.append(("decode", len(tokens)))
        self._tokens.extend(tokens)

    def generate(self, n: int) -> list[int]:
        made = [1000 + i for i in range(n)]
        self._runner.fed.append(("generate", n))
        self._tokens.extend(made)
        return made

    def fork(self) -> Session:
        self._runner.fed.append(("fork", len(self._tokens)))
        return TinySession(self._runner, list(self._tokens))

    def layers(self) -> list[LayerCache]:
        return [
            LayerCache(
                keys=cache_bits(self._tokens, layer, 0, self._runner.compute),
                values=cache_bits(self._tokens, layer, 1, self._runner.compute),
                pre_rope_keys=cache_bits(self._tokens, layer, 2, self._runner.compute),
                hidden=cache_bits(self._tokens, layer, 3, self._runner.compute)[0],
            )
            for layer in range(LAYERS)
        ]


def cache_bits(tokens: Sequence[int], layer: int, which: int, compute: str = "bf16") -> Bits:
    """unsigned[HEADS, tokens, DIM]: distinct finite values of layer, head, position, token and channel."""
    head, at, channel = np.ogrid[:HEADS, : len(tokens), :DIM]
    token = np.array(tokens, np.float32)[None, :, None]
    values = np.sin(token + at * 0.37 + channel + head * 5 + layer * 11 + which * 17).astype(np.float32)
    bits: Bits = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    if compute == "fp16":
        bits = values.astype(np.float16).view(np.uint16)
    return bits
