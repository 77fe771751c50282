"""Dump vLLM's paged KV cache as a linepress snapshot. Copy into the worker; needs linepress beside vLLM.

Call it between engine steps, for instance through ``LLM.collective_rpc`` with a function of the worker:

    runner, config = worker.model_runner, worker.vllm_config
    n = runner.input_batch.num_reqs
    export(
        runner.kv_caches,
        runner.input_batch.block_table[0].get_numpy_array()[:n],
        runner.input_batch.num_computed_tokens_cpu[:n],
        "cache.safetensors",
        layout="blocks-first",                      # see LAYOUTS: what your vLLM and backend use
        cache_dtype=config.cache_config.cache_dtype,  # "auto", "fp8_e5m2" …: an 8-bit tensor does not tell its type
        block_tokens=config.cache_config.block_size, kv_heads=8, head_dim=128,  # of this rank
        model="org/name", layers="32", keys="post-RoPE", text_sha256="…",
    )

Which layout: FlashAttention up to 0.22 is ``kv-first``; FlashInfer, Triton, and FlashAttention of 0.23 to 0.25, are
``blocks-first``; 0.26 and later hand out ``rows`` (one row holds a token's key and then its value).
Nothing is guessed: a shape that does not fit what is stated is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linepress.errors import SourceError
from linepress.sources.snapshot.write import write_snapshot

# Axes by the order in which the engine hands the tensor out: B blocks, N tokens in a block, H KV heads, D head width.
LAYOUTS = {
    "kv-first": "2 B N H D",
    "blocks-first": "B 2 N H D",
    "kv-first-hnd": "2 B H N D",
    "blocks-first-hnd": "B 2 H N D",
    "heads-first": "H B N 2 D",
    "rows": "B H N 2D",
    "rows-nhd": "B N H 2D",
}
# A tensor's own type, and what --kv-cache-dtype makes of an 8-bit one.
FORMATS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
    "float8_e4m3fnuz": "e4m3fnuz",
    "float8_e5m2fnuz": "e5m2fnuz",
}
CACHE_DTYPES = {
    **FORMATS,
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "e4m3",
    "fp8_e4m3": "e4m3",
    "fp8_inc": "e4m3",
    "fp8_e5m2": "e5m2",
    "int8": "int8",
}
ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


def bits(tensor: Any) -> np.ndarray:
    """A torch tensor's bytes as unsigned integers of its element size, on the CPU."""
    import torch

    width = tensor.element_size()
    raw = tensor.cpu().contiguous().view(torch.uint8).numpy()
    return raw.view(f"<u{width}")


def element_format(dtype: str, cache_dtype: str) -> str:
    """The element format of a cache tensor of this torch (or NumPy) type under this ``--kv-cache-dtype``."""
    own = FORMATS.get(dtype.removeprefix("torch."))
    if cache_dtype in ("", "auto"):
        if own is None:
            raise SourceError(
                f"a cache of {dtype} does not say its element type; state cache_dtype: {', '.join(CACHE_DTYPES)}"
            )
        return own
    stated = CACHE_DTYPES.get(cache_dtype)
    if stated is None:
        raise SourceError(
            f"cache_dtype {cache_dtype!r} is no cache of one element type; known are {', '.join(CACHE_DTYPES)}"
        )
    # an 8-bit torch type is how a kernel views the cache; a wider one is what it holds
    if own in ITEM_BYTES and own != stated and stated in FORMATS.values():
        raise SourceError(f"the cache is {dtype}, not {cache_dtype}; state the type it was made with")
    return stated


def halves(kv: Any, layout: str, sizes: dict[str, int], to_bits: Any) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of one layer, each as bits [blocks, block_tokens, kv_heads, head_dim].

    Raises `SourceError` where the shape is not what ``layout`` makes of ``sizes``.
    """
    axes = LAYOUTS[layout].split()
    shape = tuple(int(side) for side in kv.shape)
    wanted = [{"2": 2, "2D": 2 * sizes["D"], "B": None}.get(axis, sizes.get(axis)) for axis in axes]
    fits = len(shape) == len(axes) and all(w in (None, s) for w, s in zip(wanted, shape, strict=True))
    if not fits:
        told = ", ".join("blocks" if side is None else str(side) for side in wanted)
        raise SourceError(f"a cache tensor has shape {list(shape)}; layout {layout} with these sizes is [{told}]")
    if axes[-1] == "2D":
        width, order = sizes["D"], [axes.index(axis) for axis in "BNH"]
        parts = [to_bits(kv[..., :width]), to_bits(kv[..., width:])]
        return tuple(np.transpose(part, [*order, 3]) for part in parts)  # type: ignore[return-value]
    at = axes.index("2")
    rest = [axis for axis in axes if axis != "2"]
    index = (slice(None),) * at
    parts = [to_bits(kv[(*index, side)]) for side in (0, 1)]
    return tuple(np.transpose(part, [rest.index(axis) for axis in "BNHD"]) for part in parts)  # type: ignore[return-value]


def export(
    kv_caches: Sequence[Any],
    block_table: Any,
    sequence_tokens: Any,
    path: str,
    *,
    layout: str = "",
    cache_dtype: str = "",
    block_tokens: int = 0,
    kv_heads: int = 0,
    head_dim: int = 0,
    to_bits: Any = bits,
    **said: str,
) -> None:
    """One file: the caches of every layer by block, and which slots hold tokens.

    Raises `SourceError` where layout, sizes or element type are not stated, or are not the tensors'.
    """
    if layout not in LAYOUTS:
        known = ", ".join(f"{name} [{axes}]" for name, axes in LAYOUTS.items())
        raise SourceError(f"layout {layout!r}: state how the caches lie, one of {known}")
    sizes = {"N": int(block_tokens), "H": int(kv_heads), "D": int(head_dim)}
    if min(sizes.values()) < 1:
        raise SourceError(
            "state block_tokens, kv_heads and head_dim of this rank: shapes alone do not tell them apart"
        )
    table, lengths = np.array(block_table, np.int32), np.array(sequence_tokens, np.int32)
    needed = -(-lengths // sizes["N"])
    if table.ndim != 2 or len(table) != len(lengths) or table.shape[1] < needed.max(initial=0):
        raise SourceError(
            f"a block table of shape {list(table.shape)} does not hold {len(lengths)} sequences of up to "
            f"{lengths.max(initial=0)} tokens in blocks of {sizes['N']}"
        )
    table[np.arange(table.shape[1]) >= needed[:, None]] = -1  # vLLM leaves stale entries past a sequence's end
    caches = {}
    for i, kv in enumerate(kv_caches):
        fmt = element_format(str(kv.dtype), cache_dtype)
        for kind, half in zip(("key", "value"), halves(kv, layout, sizes, to_bits), strict=True):
            if half.dtype.itemsize != ITEM_BYTES.get(fmt, 1):
                raise SourceError(
                    f"layer {i} has elements of {half.dtype.itemsize} B, {fmt} has {ITEM_BYTES.get(fmt, 1)}"
                )
            if table.max(initial=-1) >= half.shape[0]:
                raise SourceError(
                    f"the block table names block {table.max()} of {half.shape[0]}; is {layout} the right layout?"
                )
            caches[f"{kind}_cache_tensor_{i}"] = (fmt, np.ascontiguousarray(half))
    said |= {
        "block_tokens": str(sizes["N"]),
        "kv_heads": str(sizes["H"]),
        "head_dim": str(sizes["D"]),
        "engine_layout": layout,
        "cache_dtype": cache_dtype or "auto",
    }
    tables = {"block_table": table[:, : needed.max()], "sequence_tokens": lengths}
    write_snapshot(Path(path), caches, {"arrangement": "paged-vllm", "engine": "vLLM", **said}, tables)
