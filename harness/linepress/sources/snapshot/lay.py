"""Sequences laid out as serving engines keep them: pages and a block table, or padded to one length.

Blocks of a common prefix are shared. An engine never reuses a page of one sequence for another while both live, and
shares only whole pages (automatic prefix caching). Which axes a tensor then has is told by `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.snapshot.contract import Bits, Layout, layout_named
from linepress.sources.snapshot.pages import Table

BLOCK_TOKENS = 16
"""vLLM's default ``block_size``."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Where each sequence's tokens go: int32 tables as a snapshot keeps them, and the number of blocks."""

    block_table: Table
    sequence_tokens: Table
    n_blocks: int
    block_tokens: int
    shared_tokens: int

    @property
    def tables(self) -> dict[str, Table]:
        return {"block_table": self.block_table, "sequence_tokens": self.sequence_tokens}


def plan_blocks(
    sequence_tokens: Sequence[int],
    *,
    block_tokens: int = BLOCK_TOKENS,
    shared_tokens: int = 0,
    free_blocks: int = 0,
    seed: int = 0,
) -> BlockPlan:
    """Blocks for sequences of these lengths.

    Parameters
    ----------
    shared_tokens : int
        Leading tokens that all sequences have in common; whole blocks of them are shared.
    free_blocks : int
        Blocks that no sequence holds, strewn among the others, as in a pool after requests have left it.
    seed : int
        Of the order in which blocks are handed out (PCG64); blocks are ascending where nothing is free.
    """
    if not sequence_tokens or min(sequence_tokens) < 1 or block_tokens < 1:
        raise SourceError("a paged snapshot needs sequences of at least one token and blocks of at least one token")
    if not 0 <= shared_tokens <= min(sequence_tokens):
        raise SourceError(
            f"a shared prefix of {shared_tokens} tokens is longer than the shortest sequence; shorten it"
        )
    shared_blocks = shared_tokens // block_tokens
    per_sequence = [-(-n // block_tokens) for n in sequence_tokens]
    used = shared_blocks + sum(n - shared_blocks for n in per_sequence)
    total = used + free_blocks
    ids = np.arange(total, dtype=np.int32)
    if free_blocks:
        ids = np.random.Generator(np.random.PCG64(seed)).permutation(total).astype(np.int32)
    table = np.full((len(per_sequence), max(per_sequence)), -1, np.int32)
    at = shared_blocks
    for row, n in enumerate(per_sequence):
        table[row, :shared_blocks] = ids[:shared_blocks]
        table[row, shared_blocks:n] = ids[at : at + n - shared_blocks]
        at += n - shared_blocks
    return BlockPlan(table, np.array(sequence_tokens, np.int32), total, block_tokens, shared_blocks * block_tokens)


def blocks_of(sequences: Sequence[Bits], plan: BlockPlan) -> Bits:
    """One layer's keys or values in the blocks of a plan, unsigned[blocks, kv_heads, block_tokens, head_dim].

    Parameters
    ----------
    sequences : unsigned[kv_heads, tokens, head_dim] each
        Stored bits, in the order of the plan. Slots that no token fills are zero, as engines allocate them.

    Raises `SourceError` where lengths differ from the plan's or shared tokens are not the same in every sequence.
    """
    heads, _, dim = sequences[0].shape
    pages: NDArray[np.unsignedinteger] = np.zeros((plan.n_blocks, heads, plan.block_tokens, dim), sequences[0].dtype)
    shared = sequences[0][:, : plan.shared_tokens]
    for row, sequence in enumerate(sequences):
        tokens = int(plan.sequence_tokens[row])
        if sequence.shape != (heads, tokens, dim):
            raise SourceError(f"sequence {row} has shape {list(sequence.shape)}, not {[heads, tokens, dim]}")
        if not np.array_equal(sequence[:, : plan.shared_tokens], shared):
            raise SourceError(f"sequence {row} does not begin with the {plan.shared_tokens} shared tokens")
        for i, page in enumerate(plan.block_table[row].tolist()):
            if page >= 0:
                part = sequence[:, i * plan.block_tokens : (i + 1) * plan.block_tokens]
                pages[page, :, : part.shape[1]] = part
    return pages


def to_blocks(sequences: Sequence[Bits], plan: BlockPlan, kind: str, arrangement: str = "paged-vllm") -> Bits:
    """`blocks_of` as a layout with keys and values apart holds them; raises `SourceError` for any other layout."""
    layout = layout_named(arrangement, "layout")
    if not layout.paged or kind not in layout.axes or "L" in layout.axes[kind]:
        raise SourceError(f"{arrangement} has no {kind} pages of one layer; use `lay_out`")
    return layout.fold(blocks_of(sequences, plan)[None, None], kind)


def to_batch(sequences: Sequence[Bits], *, slots: int | None = None, padding: str = "left") -> Bits:
    """One layer's keys or values of several sequences as one padded batch.

    A dynamic cache of Transformers is as long as its longest sequence and padded where the tokenizer pads (``left``
    for generation); a static one is allocated to a maximum and unwritten on the right. Padding slots hold what the
    model computed for the padding token: they are part of the memory and not of the data.

    Parameters
    ----------
    sequences : unsigned[kv_heads, tokens, head_dim] each
        Stored bits.
    slots : int | None
        Tokens allocated for each sequence (a static cache); the longest sequence's if None.
    padding : str
        ``left`` or ``right``; padding is zero.

    Returns unsigned[sequences, kv_heads, slots, head_dim]. Raises `SourceError` for a sequence that does not fit.
    """
    if not sequences or padding not in ("left", "right"):
        raise SourceError("a batch needs at least one sequence and padding left or right")
    heads, _, dim = sequences[0].shape
    held = max(s.shape[1] for s in sequences) if slots is None else slots
    out: NDArray[np.unsignedinteger] = np.zeros((len(sequences), heads, held, dim), sequences[0].dtype)
    for row, sequence in enumerate(sequences):
        n = sequence.shape[1]
        if sequence.shape != (heads, n, dim) or n > held:
            raise SourceError(f"sequence {row} of shape {list(sequence.shape)} does not fit {[heads, held, dim]}")
        out[row, :, held - n if padding == "left" else 0 : held if padding == "left" else n] = sequence
    return out


def lay_out(pages: Mapping[tuple[str, int], Bits], layout: Layout, item_bytes: int = 0) -> dict[str, Bits]:
    """The tensors of an engine, by the names a snapshot gives them.

    Parameters
    ----------
    pages : unsigned[pages, kv_heads, slots, head_dim] by (``key`` or ``value``, layer)
        As `blocks_of` or `to_batch` make them; keys alone for latents. Where one tensor holds every layer, the layers
        given are numbered anew from 0.

    Raises `SourceError` where the layout has no place for what is given.
    """
    layers = sorted({layer for _, layer in pages})
    kinds = tuple(dict.fromkeys(kind for kind, _ in pages))
    sides = {"kv": ("key", "value")} if layout.joined else {kind: (kind,) for kind in kinds}
    if set(pages) != {(side, layer) for of in sides.values() for side in of for layer in layers}:
        raise SourceError(f"{layout.name} needs {' and '.join(sides)} of every layer; capture the snapshot again")
    for kind in sides:
        if kind not in layout.axes:
            raise SourceError(f"{layout.name} holds no {kind}s; use a layout with {kind} tensors")
    out: dict[str, Bits] = {}
    for kind, of in sides.items():
        whole = np.stack([np.stack([pages[side, layer] for side in of]) for layer in layers])
        if "L" in layout.axes[kind]:
            out[f"{kind}_cache_tensor"] = layout.fold(whole, kind, item_bytes)
        else:
            for i, layer in enumerate(layers):
                out[f"{kind}_cache_tensor_{layer}"] = layout.fold(whole[i : i + 1], kind, item_bytes)
    return out
