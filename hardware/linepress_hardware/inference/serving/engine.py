"""A serving engine as data: the rules of its scheduler, its KV blocks, the batch sizes it has graphs for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml, whole
from linepress_hardware.errors import ConfigurationError

POLICIES = {"mixed": 0, "prefill-first": 1}


@dataclass(frozen=True)
class Engine:
    """Rules of a serving engine (``data/engines``); each default is the plainest choice.

    Attributes
    ----------
    max_sequences : int
        Sequences in flight; in a closed loop the concurrency.
    max_tokens : int
        Tokens of one step, answers and pieces of prompts together.
    chunked_prefill : bool
        Whether a prompt may be split over steps; one longer than `max_tokens` always is. A whole prompt that has no
        room beside the answers takes a step of its own.
    policy : str
        ``mixed`` (answers go on beside prompts) or ``prefill-first`` (answers wait).
    usable_share : float
        Share of memory for weights and KV.
    reserve_answer : bool
        Whether a sequence reserves prompt + answer when admitted; otherwise its prompt must fit, and a sequence
        that finds no block preempts the one admitted last, which computes everything again.
    asynchronous : bool
        Whether the scheduler works one step ahead of the device.
    block_tokens, spare_blocks : int
        Tokens of a KV block; blocks that no sequence gets.
    prefix_cache : bool
        Whether blocks of earlier requests with the same content are used again.
    graph_tokens : tuple[int, ...]
        Sizes that a step's tokens are padded to, ascending; larger steps are not padded.
    """

    max_sequences: int = 256
    max_tokens: int = 8192
    chunked_prefill: bool = False
    policy: str = "mixed"
    usable_share: float = 0.9
    reserve_answer: bool = False
    asynchronous: bool = False
    block_tokens: int = 16
    spare_blocks: int = 0
    prefix_cache: bool = True
    graph_tokens: tuple[int, ...] = ()
    name: str = "plain"
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_sequences < 1 or self.max_tokens < 1 or self.block_tokens < 1 or self.spare_blocks < 0:
            raise ConfigurationError(
                f"max_sequences {self.max_sequences}, max_tokens {self.max_tokens} and block_tokens "
                f"{self.block_tokens} must be 1 or more, spare_blocks {self.spare_blocks} 0 or more"
            )
        if self.policy not in POLICIES:
            raise ConfigurationError(f"policy {self.policy!r} is unknown; use {' or '.join(POLICIES)}")
        if not 0 < self.usable_share <= 1:
            raise ConfigurationError(f"usable_share is {self.usable_share!r}; give a share above 0, at most 1")
        if list(self.graph_tokens) != sorted(set(self.graph_tokens)) or any(size < 1 for size in self.graph_tokens):
            raise ConfigurationError(f"graph_tokens {self.graph_tokens} must ascend from 1")

    def padded(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tokens that a step of `tokens` computes."""
        if not self.graph_tokens:
            return tokens
        sizes = np.asarray(self.graph_tokens, dtype=np.float64)
        at = np.searchsorted(sizes, tokens)
        return np.where(at < sizes.size, sizes[np.minimum(at, sizes.size - 1)], tokens)


_KEYS: dict[str, dict[str, tuple[str, type]]] = {
    "scheduler": {
        "max_tokens": ("max_tokens", int),
        "max_sequences": ("max_sequences", int),
        "chunked_prefill": ("chunked_prefill", bool),
        "policy": ("policy", str),
        "reserve_answer": ("reserve_answer", bool),
        "asynchronous": ("asynchronous", bool),
    },
    "memory": {
        "block_tokens": ("block_tokens", int),
        "spare_blocks": ("spare_blocks", int),
        "prefix_cache": ("prefix_cache", bool),
        "usable_share": ("usable_share", float),
    },
    "graphs": {"tokens": ("graph_tokens", list)},
}


def parse_engine(text: str, where: str) -> Engine:
    """One data file → `Engine`; every rule is ``{ value, source }``, mistakes name file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("name", "title", "scheduler", "memory"), ("aliases", "note", "graphs"))
    given: dict[str, Any] = {}
    for table, keys in _KEYS.items():
        part = raw.get(table, {})
        check_keys(part, f"{where} {table}", keys if part else (), keys)
        for key, one in part.items():
            field, kind = keys[key]
            if not isinstance(one, dict) or set(one) != {"value", "source"} or not one["source"]:
                raise ConfigurationError(f'{where} {table}.{key} is {one!r}; write {{ value = …, source = "…" }}')
            value = one["value"]
            if kind is int:
                whole(value, f"{where} {table}.{key}", 0 if field == "spare_blocks" else 1)
            elif not isinstance(value, kind):
                raise ConfigurationError(f"{where} {table}.{key} is {value!r}; give a {kind.__name__}")
            given[field] = tuple(value) if kind is list else value
    return Engine(name=raw["name"], aliases=tuple(raw.get("aliases", ())), **given)


@cache
def engines() -> dict[str, Engine]:
    """All packaged engines by name."""
    return catalog("engines", parse_engine)


def engine(name: str, **changed: Any) -> Engine:
    """A packaged engine by name or alias, some rules changed; `UnknownPartError` lists the nearest names."""
    return replace(lookup(name, engines(), "engine"), **changed)
