"""SGLang: the host pool of HiCache (``MHATokenToKVPoolHost``), whole pages in the layout it was started with."""

from typing import Any

from linepress.sources.snapshot.export import export

ARRANGEMENTS = {
    "page_first": "sglang-0.5",
    "layer_first": "sglang-0.5:layer-first",
    "page_first_direct": "sglang-0.5:page-first-direct",
    "page_head": "sglang-0.5:page-head",
}


def export_pool(pool: Any, block_table: Any, sequence_tokens: Any, path: str, **said: str) -> None:
    """``block_table`` int32[sequences, pages]: host pages (slot index // page size) of each sequence."""
    export(
        path,
        {"kv_cache_tensor": pool.kv_buffer},
        ARRANGEMENTS[pool.layout],
        cache_dtype=said.pop("cache_dtype", "auto"),
        kv_heads=pool.head_num,
        head_dim=pool.head_dim,
        layers=pool.layer_num,
        block_tokens=pool.page_size,
        block_table=block_table,
        sequence_tokens=sequence_tokens,
        **{"keys": "post-RoPE", **said},
    )
