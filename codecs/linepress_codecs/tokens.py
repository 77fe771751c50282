"""Which channel and which token each line of a token layout starts with; see `layout`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines, Rotation
from linepress_codecs.errors import SpecError
from linepress_codecs.formats import Format

BLOCK_TOKENS = 16
"""Tokens in a page: the default block size of vLLM's paged attention."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a part of a flattened tensor starts: its first element, and the tensor's tokens and dim."""

    first: int
    tokens: int
    dim: int


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What is known of a tensor's tokens beyond their order.

    Attributes
    ----------
    positions : uint32[tokens] | None
        Position of each token in its sequence; None where the tensor holds one sequence from its start on.
    rotation : Rotation | None
        See `Lines.rotation`.
    known : bool
        False where tokens have no positions at all (an engine's memory as it lies, tensors that are no cache).
    """

    positions: NDArray[np.uint32] | None = None
    rotation: Rotation | None = None
    known: bool = True

    def place(self, lines: Lines, token: NDArray[np.int64], dim: int) -> Lines:
        """``lines`` with the positions of their first elements, ``token`` int64[n] being their tokens."""
        if not self.known:
            return lines
        if self.positions is not None and len(self.positions):
            token = self.positions[np.minimum(token, len(self.positions) - 1)].astype(np.int64)
        geometry = replace(lines.geometry, position=token.astype(np.uint32), head_dim=dim)
        return replace(lines, geometry=geometry, rotation=self.rotation)


@njit(cache=True)
def _row_places(first, tokens, dim, per, channel, token):  # type: ignore[no-untyped-def]
    """Channel and token of every ``per``-th element from ``first`` on; divisions would take longer than reading."""
    head = first // (tokens * dim)
    at = first // dim % tokens
    within = first % dim
    for i in range(channel.shape[0]):
        channel[i] = head * dim + within
        token[i] = at
        within += per
        while within >= dim:
            within -= dim
            at += 1
            if at == tokens:
                at = 0
                head += 1


def row_places(place: RowPlace, n_lines: int, per: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(channel uint32[n_lines], token int64[n_lines]) of each line's first element in layout `row`."""
    channel, token = np.empty(n_lines, np.uint32), np.empty(n_lines, np.int64)
    _row_places(place.first, place.tokens, place.dim, per, channel, token)
    return channel, token


def key_x(fmt: Format, dim: int) -> int:
    """x of `paged-vllm-k`; raises `SpecError` where it does not divide the head dimension."""
    x = 16 // fmt.storage.itemsize
    if dim % x:
        raise SpecError(f"layout paged-vllm-k needs a head dimension divisible by {x}, not {dim}: use paged-vllm")
    return x


def page_channels(
    layout: str, fmt: Format, n_lines: int, per: int, heads: int, dim: int
) -> tuple[NDArray[np.uint32], int, int]:
    """(channel of each line's first element, run, span) of a paged layout."""
    first = per * np.arange(n_lines, dtype=np.int64)
    if layout == "paged-hf":
        in_head = per * np.arange(n_lines // heads, dtype=np.int64) % dim
        return (dim * np.arange(heads)[:, None] + in_head).reshape(-1).astype(np.uint32), 1, dim
    if layout == "paged-vllm":
        return (first % (heads * dim)).astype(np.uint32), 1, heads * dim
    if layout == "paged-vllm-v":
        return (first // BLOCK_TOKENS % (heads * dim)).astype(np.uint32), min(BLOCK_TOKENS, per), heads * dim
    x = key_x(fmt, dim)
    return (first // (BLOCK_TOKENS * x) % (heads * dim // x) * x + first % x).astype(np.uint32), 1, x


def page_tokens(layout: str, fmt: Format, n_lines: int, per: int, heads: int, dim: int) -> NDArray[np.int64]:
    """Token of each line's first element in a paged layout, counted from the part's first, int64[n_lines]."""
    first = per * np.arange(n_lines, dtype=np.int64)
    if layout == "paged-hf":
        return np.tile(per * np.arange(n_lines // heads, dtype=np.int64) // dim, heads)
    if layout == "paged-vllm":
        return first // (heads * dim)
    block = first // (BLOCK_TOKENS * heads * dim) * BLOCK_TOKENS
    if layout == "paged-vllm-v":
        return block + first % BLOCK_TOKENS
    return block + first // key_x(fmt, dim) % BLOCK_TOKENS
