"""vLLM: call it between engine steps, ``LLM.collective_rpc(export_worker, args=(path, "vllm-0.26"))``."""

from typing import Any

from linepress.sources.snapshot.contract import layout_named
from linepress.sources.snapshot.export import export


def export_worker(worker: Any, path: str, arrangement: str, **said: str) -> None:
    """The caches of one rank. ``arrangement``: ``linepress pages --list``, by your version and backend."""
    runner, config = worker.model_runner, worker.vllm_config
    n = runner.input_batch.num_reqs
    apart = {f"kv_cache_tensor_{i}": kv for i, kv in enumerate(runner.kv_caches)}
    export(
        path,
        {"kv_cache_tensor": list(runner.kv_caches)} if layout_named(arrangement, "").all_layers else apart,
        arrangement,
        cache_dtype=config.cache_config.cache_dtype,
        kv_heads=config.model_config.get_num_kv_heads(config.parallel_config),
        head_dim=config.model_config.get_head_size(),
        block_tokens=config.cache_config.block_size,
        block_table=runner.input_batch.block_table[0].get_numpy_array()[:n],
        sequence_tokens=runner.input_batch.num_computed_tokens_cpu[:n],
        **{"model": config.model_config.model, "keys": "post-RoPE", **said},
    )
