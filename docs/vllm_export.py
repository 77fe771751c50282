"""Dump vLLM's paged KV cache as a linepress snapshot. Copy into the worker; needs linepress beside vLLM.

Call it between engine steps, for instance through ``LLM.collective_rpc`` with a function of the worker:

    runner = worker.model_runner
    n = runner.input_batch.num_reqs
    export(
        runner.kv_caches,
        runner.input_batch.block_table[0].get_numpy_array()[:n],
        runner.input_batch.num_computed_tokens_cpu[:n],
        "cache.safetensors",
        model="org/name", layers="32", keys="post-RoPE", text_sha256="…",
    )
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linepress.sources.snapshot.write import write_snapshot

FORMATS = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.uint8": "e4m3", "torch.float8_e4m3fn": "e4m3"}


def bits(tensor: Any) -> np.ndarray:
    """A torch tensor's bytes as unsigned integers of its element size, on the CPU."""
    import torch

    width = tensor.element_size()
    raw = tensor.cpu().contiguous().view(torch.uint8).numpy()
    return raw.view(f"<u{width}")


def export(
    kv_caches: Sequence[Any], block_table: Any, sequence_tokens: Any, path: str, to_bits: Any = bits, **said: str
) -> None:
    """One file: caches of every layer as they lie (FlashAttention's order), and which slots hold tokens."""
    table, lengths = np.array(block_table, np.int32), np.array(sequence_tokens, np.int32)
    caches = {}
    for i, kv in enumerate(kv_caches):
        halves = (kv[0], kv[1]) if kv.shape[0] == 2 else (kv[:, 0], kv[:, 1])  # [2, blocks, …] or [blocks, 2, …]
        for kind, half in zip(("key", "value"), halves, strict=True):
            caches[f"{kind}_cache_tensor_{i}"] = (FORMATS.get(str(kv.dtype), "bf16"), to_bits(half))
    _, block_tokens, kv_heads, head_dim = caches["key_cache_tensor_0"][1].shape
    needed = -(-lengths // block_tokens)
    table[np.arange(table.shape[1]) >= needed[:, None]] = -1  # vLLM leaves stale entries past a sequence's end
    said |= {"block_tokens": str(block_tokens), "kv_heads": str(kv_heads), "head_dim": str(head_dim)}
    tables = {"block_table": table[:, : needed.max()], "sequence_tokens": lengths}
    write_snapshot(Path(path), caches, {"arrangement": "paged-vllm", "engine": "vLLM", **said}, tables)
