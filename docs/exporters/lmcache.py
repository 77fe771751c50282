"""LMCache: chunks of one sequence in order (``MemoryObj.tensor`` of KV_2LTD), as a storage backend gets them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from linepress.sources.snapshot.export import export, in_memory_order


def export_chunks(chunks: Sequence[Any], kv_heads: int, head_dim: int, path: str, **said: str) -> None:
    """``chunks``: ``[2, layers, tokens, kv_heads * head_dim]`` each; the last may be shorter and is padded."""
    bits = [in_memory_order(chunk) for chunk in chunks]
    size, tokens = bits[0].shape[2], sum(chunk.shape[2] for chunk in bits)
    padded = [np.pad(c, ((0, 0), (0, 0), (0, size - c.shape[2]), (0, 0))) for c in bits]
    export(
        path,
        {"kv_cache_tensor": np.stack(padded)},
        "lmcache-0.5",
        cache_dtype=said.pop("cache_dtype", str(chunks[0].dtype).removeprefix("torch.")),
        kv_heads=kv_heads,
        head_dim=head_dim,
        layers=bits[0].shape[1],
        block_tokens=size,
        block_table=[range(len(chunks))],
        sequence_tokens=[tokens],
        **{"keys": "post-RoPE", **said},
    )
