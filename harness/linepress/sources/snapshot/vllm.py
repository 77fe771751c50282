"""Sequences laid out as vLLM keeps them: fixed blocks, a block table, blocks of a common prefix shared.

Block order after vLLM's attention backends: ``paged-vllm`` is NHD ``[blocks, block_tokens, kv_heads, head_dim]``
(FlashAttention; vLLM allocates keys and values as one tensor with a leading axis of 2, a snapshot keeps the two
halves apart), ``paged-vllm-hnd`` is HND (FlashInfer, ``VLLM_KV_CACHE_LAYOUT=HND``), ``paged-vllm-classic`` is the
layout of the paged-attention kernels (``vllm/attention/ops/paged_attn.py``). vLLM never reuses a page of one sequence
for another while both live, and shares only whole pages (automatic prefix caching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.snapshot.format import VLLM, VLLM_CLASSIC, VLLM_HND
from linepress.sources.snapshot.pages import Bits, Table, heads_to_pages

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


def to_blocks(sequences: Sequence[Bits], plan: BlockPlan, kind: str, arrangement: str = VLLM) -> Bits:
    """One layer's keys or values as vLLM lays them.

    Parameters
    ----------
    sequences : unsigned[kv_heads, tokens, head_dim] each
        Stored bits, in the order of the plan. Slots that no token fills are zero, as vLLM allocates them.
    kind : str
        ``key`` or ``value`` (the classic layout treats them differently).

    Raises `SourceError` where lengths differ from the plan's or shared tokens are not the same in every sequence.
    """
    if arrangement not in (VLLM, VLLM_HND, VLLM_CLASSIC):
        raise SourceError(f"no vLLM layout {arrangement!r}; use {VLLM}, {VLLM_HND} or {VLLM_CLASSIC}")
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
    return heads_to_pages(pages, arrangement, kind)
