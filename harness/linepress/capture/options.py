"""What to capture: contexts, phases, cache formats, workload and layout, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from linepress.capture.runner import CaptureError
from linepress.sources.snapshot.contract import layouts
from linepress.sources.snapshot.format import CONTIGUOUS
from linepress.sources.snapshot.lay import BLOCK_TOKENS

PHASES = ("prefill", "decode")
KEYS = ("post-rope", "pre-rope")
DECODE_FROM = ("text", "model")
COMPUTE_OF = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "e4m3": "bf16", "e5m2": "bf16"}
"""Format the model runs in for each cache format: an OFP8 cache is cast from what a bf16 model computes, as serving
engines do; a 16-bit cache is never cast, since its low mantissa bits would be those of the narrower format."""


@dataclass(frozen=True, slots=True)
class CacheFormat:
    """An element format of the cache; ``scale`` is ``none`` (scale 1, vLLM's default) or ``tensor`` for OFP8."""

    name: str
    scale: str = "none"

    @classmethod
    def parse(cls, text: str) -> CacheFormat:
        """``bf16``, ``fp16``, ``e4m3:scale=tensor`` …; raises `CaptureError` with an example."""
        name, colon, option = text.strip().partition(":")
        name = {"fp8": "e4m3", "fp8_e4m3": "e4m3", "fp8_e5m2": "e5m2"}.get(name, name)
        scale = option.removeprefix("scale=") if colon else "none"
        if name not in COMPUTE_OF or scale not in ("none", "tensor") or (colon and name not in ("e4m3", "e5m2")):
            raise CaptureError(
                f"cache format {text!r} is not one of {', '.join(COMPUTE_OF)}; fp8 takes a scale: e4m3:scale=tensor"
            )
        return cls(name, scale)

    @property
    def compute(self) -> str:
        return COMPUTE_OF[self.name]

    @property
    def label(self) -> str:
        return self.name if self.scale == "none" else f"{self.name}-{self.scale}"


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """One capture.

    Attributes
    ----------
    contexts : tuple of int
        Tokens of each sequence.
    decode_tokens : int
        Tokens of the decode phase, out of the context.
    decode_from : str
        ``text``: the text's own tokens fed one by one; ``model``: the model's greedy choice.
    sequences : int
        Sequences of a snapshot; each takes its own stretch of the text.
    lengths : tuple of int
        Tokens of each sequence where they differ (a padded batch, pages filled in part); overrides ``sequences``.
    shared_tokens : int
        Leading tokens that all sequences have in common, computed once.
    turns : int
        Turns of a conversation: each prefills its share of the context and then decodes ``decode_tokens`` of it.
    layers : tuple of int
        Only these layers; empty for all.
    """

    contexts: tuple[int, ...] = (512,)
    phases: tuple[str, ...] = PHASES
    formats: tuple[CacheFormat, ...] = (CacheFormat("bf16"),)
    keys: tuple[str, ...] = ("post-rope",)
    decode_tokens: int = 64
    decode_from: str = "text"
    arrangement: str = CONTIGUOUS
    block_tokens: int = BLOCK_TOKENS
    free_blocks: int = 0
    sequences: int = 1
    lengths: tuple[int, ...] = ()
    shared_tokens: int = 0
    turns: int = 1
    layers: tuple[int, ...] = ()
    activations: bool = False
    seed: int = 0

    def check(self) -> CaptureOptions:
        """Itself; raises `CaptureError` for what cannot be done together."""
        if not self.contexts or min(self.contexts) < 1:
            raise CaptureError("a context of 0 tokens holds nothing; give --context 512 or more")
        for words, known, what in (
            (self.phases, PHASES, "phase"),
            (self.keys, KEYS, "keys"),
            ((self.decode_from,), DECODE_FROM, "decode-from"),
            ((self.arrangement,), tuple(name for name, x in layouts().items() if x.takes_any), "layout"),
        ):
            for word in words:
                if word not in known:
                    raise CaptureError(f"--{what} {word!r} is not one of {', '.join(known)}")
        if self.lengths and (self.contexts != (max(self.lengths),) or self.sequences != len(self.lengths)):
            raise CaptureError("--lengths gives every sequence its tokens; leave out --context and --sequences")
        smallest = min(self.lengths or self.contexts)
        if self.sequences < 1 or self.turns < 1 or self.block_tokens < 1 or self.decode_tokens < 1:
            raise CaptureError("--sequences, --turns, --block-tokens and --decode-tokens are at least 1")
        if self.sequences > 1 and self.arrangement == CONTIGUOUS:
            raise CaptureError("several sequences need --layout batch or a paged one; a contiguous cache holds one")
        decoding = "decode" in self.phases or self.turns > 1
        if decoding and (smallest - self.shared_tokens) // self.turns <= self.decode_tokens:
            raise CaptureError(
                f"a context of {smallest} tokens with {self.shared_tokens} shared in {self.turns} turns leaves "
                f"no prompt before {self.decode_tokens} decoded tokens; lower --decode-tokens or raise --context"
            )
        if smallest < 1 or self.shared_tokens >= smallest:
            raise CaptureError(f"--shared-prefix {self.shared_tokens} is no shorter than the context of {smallest}")
        if self.shared_tokens and self.sequences < 2:
            raise CaptureError("--shared-prefix needs --sequences 2 or more to share it")
        return self
