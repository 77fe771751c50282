"""From an engine's tensors to a snapshot: bytes in memory order, element types, block tables; nothing is guessed.

What exporters share (docs/exporters). Tensors are torch's or NumPy's; torch is not needed for the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linepress.errors import SourceError
from linepress.sources.snapshot.contract import NAMES, Bits, Layout, layout_named
from linepress.sources.snapshot.write import write_snapshot

# A tensor's own type, and what an engine's option for its cache makes of an 8-bit one.
FORMATS = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2", "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz",
}  # fmt: skip
CACHE_DTYPES = {
    **FORMATS, "bf16": "bf16", "fp16": "fp16", "fp8": "e4m3", "fp8_e4m3": "e4m3", "fp8_inc": "e4m3",
    "fp8_e5m2": "e5m2", "int8": "int8",
}  # fmt: skip
ITEM_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}


def in_memory_order(tensor: Any) -> Bits:
    """A tensor's bits with its axes as its strides say they lie, outermost first; never reordered bytes."""
    if hasattr(tensor, "detach"):
        import torch  # type: ignore[import-not-found, unused-ignore]

        order = sorted(range(tensor.dim()), key=lambda axis: -tensor.stride(axis))
        lying = tensor.detach().permute(order).contiguous().cpu()
        return lying.view(torch.uint8).numpy().view(f"<u{tensor.element_size()}")  # type: ignore[no-any-return]
    array = np.asarray(tensor)
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return np.ascontiguousarray(array.transpose(order)).view(f"<u{array.dtype.itemsize}")


def element_format(dtype: str, cache_dtype: str) -> str:
    """The element format of a cache tensor of this torch (or NumPy) type under this option of the engine.

    Raises `SourceError` where neither tells it: an 8-bit tensor does not say what it holds.
    """
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


def as_stored(tensor: Any, layout: Layout, kind: str, sizes: Mapping[str, int]) -> Bits:
    """An engine's tensor in the axes of its layout, ``sizes`` by letter (``N``, ``H``, ``D``, ``L`` …).

    Neighbouring axes may be one in the engine's tensor (a row of key and value). Raises `SourceError` where its
    memory is not what the layout makes of the sizes.
    """
    bits = in_memory_order(tensor)
    axes = layout.axes[kind]
    x = 16 // bits.dtype.itemsize
    wanted = []
    for axis in axes:
        side = {"2": 2, "x": x}.get(axis, sizes.get(axis[0], 0))
        wanted.append(side // x if axis.endswith("/x") else side)
    told = ", ".join("?" if side == 0 else str(side) for side in wanted)
    bad = SourceError(
        f"a cache tensor lies in memory as {list(bits.shape)}; {layout.name} with these sizes is [{told}], "
        f"{layout.shape_text(kind)}"
    )
    if wanted.count(0) == 1:  # as many as there are
        known = math.prod(side for side in wanted if side)
        wanted[wanted.index(0)] = bits.size // known
    elif 0 in wanted and len(wanted) == bits.ndim:
        wanted = [side or held for side, held in zip(wanted, bits.shape, strict=True)]
    at = 0
    for side in bits.shape:  # each axis of the tensor is one of the layout's, or several neighbours together
        taken = wanted[at] if at < len(wanted) else 0
        at += 1
        while 0 < taken < side and at < len(wanted):
            taken, at = taken * wanted[at], at + 1
        if taken != side:
            raise bad
    if at != len(wanted):
        raise bad
    return bits.reshape(wanted)


def tables_of(block_table: Any, sequence_tokens: Any, block_tokens: int) -> dict[str, np.ndarray[Any, Any]]:
    """The tables of a snapshot from an engine's; what stands past a sequence's end is stale and goes.

    Raises `SourceError` where the table does not hold the sequences.
    """
    table, lengths = np.array(block_table, np.int32), np.array(sequence_tokens, np.int32)
    needed = -(-lengths // block_tokens)
    if table.ndim != 2 or len(table) != len(lengths) or table.shape[1] < needed.max(initial=0):
        raise SourceError(
            f"a block table of shape {list(table.shape)} does not hold {len(lengths)} sequences of up to "
            f"{lengths.max(initial=0)} tokens in blocks of {block_tokens}"
        )
    table[np.arange(table.shape[1]) >= needed[:, None]] = -1
    return {"block_table": np.ascontiguousarray(table[:, : needed.max()]), "sequence_tokens": lengths}


def export(
    path: str | Path,
    tensors: Mapping[str, Any],
    arrangement: str,
    *,
    cache_dtype: str = "auto",
    kv_heads: int,
    head_dim: int,
    value_head_dim: int | None = None,
    block_tokens: int | None = None,
    layers: int | None = None,
    block_table: Any = None,
    sequence_tokens: Any = None,
    **said: str,
) -> None:
    """Write an engine's tensors, by the names a snapshot gives them, as they lie.

    A list of tensors is the views of the layers of one allocation.

    Parameters
    ----------
    arrangement : str
        Layout as ``linepress pages --list`` names it.
    cache_dtype : str
        The engine's option, ``auto`` where tensors are of the model's type.
    kv_heads, head_dim, value_head_dim, block_tokens, layers
        Of this rank; what the layout has no axis for is not needed, nor the values' width where it is the keys'.
    block_table, sequence_tokens
        Blocks of each sequence (not for padded layouts) and its tokens.

    Raises `SourceError` where layout, sizes, types or tables are not the tensors'.
    """
    layout = layout_named(arrangement, "arrangement")
    sizes = {"H": kv_heads, "N": block_tokens or 0, "L": layers or 0}
    if kv_heads < 1 or head_dim < 1 or (layout.paged and not block_tokens):
        raise SourceError(
            "state block_tokens, kv_heads and head_dim of this rank: shapes alone do not tell them apart"
        )
    caches = {}
    pages = 0
    for name, tensor in tensors.items():
        kind = name.split("_")[0]
        if kind not in layout.axes:
            raise SourceError(f"{name} is no tensor of {layout.name}, which has {', '.join(layout.axes)}")
        some = tensor[0] if isinstance(tensor, (list, tuple)) else tensor
        whole = tensor
        if some is not tensor:  # views of the layers of one allocation: each in memory order, together where L lies
            sizes["L"] = len(tensor)
            whole = np.stack([in_memory_order(view) for view in tensor], layout.axes[kind].index("L"))
        fmt = element_format(str(some.dtype), cache_dtype)
        width = (value_head_dim or head_dim) if kind == "value" else head_dim
        stored = as_stored(whole, layout, kind, {**sizes, "D": width})
        if stored.dtype.itemsize != ITEM_BYTES.get(fmt, 1):
            raise SourceError(f"{name} has elements of {stored.dtype.itemsize} B, {fmt} has {ITEM_BYTES.get(fmt, 1)}")
        caches[name] = (fmt, stored)
        pages = (layout.sizes(stored.shape, kind) or {}).get(NAMES["B"], 0)
    said = {"kv_heads": str(kv_heads), "head_dim": str(head_dim), "cache_dtype": cache_dtype or "auto", **said}
    if value_head_dim not in (None, head_dim):
        said["value_head_dim"] = str(value_head_dim)
    tables: dict[str, Any] = {}
    if layout.paged:
        assert block_tokens is not None
        tables = tables_of(block_table, sequence_tokens, block_tokens)
        said["block_tokens"] = str(block_tokens)
        if tables["block_table"].max(initial=-1) >= pages:
            raise SourceError(
                f"the block table names block {tables['block_table'].max()} of {pages}; is it {arrangement}?"
            )
    elif layout.padded:
        tables = {"sequence_tokens": np.array(sequence_tokens, np.int32)}
    write_snapshot(Path(path), caches, {"arrangement": arrangement, "engine": layout.engine, **said}, tables)
