"""A snapshot's cache tensors as tokens or as memory.

``tokens``: what the sequences wrote, ``[kv_heads, tokens, head_dim]`` a layer; what codecs are judged on.
``memory``: the engine's pages as they lie, free pages and padding included; what a memory controller would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import TensorRef
from linepress.sources.snapshot.format import (
    BATCH,
    BLOCK_TABLE,
    CONTIGUOUS,
    SEQUENCE_TOKENS,
    TABLES,
    Form,
    cache_tensor,
    form_of,
    sizes_of,
)
from linepress.sources.snapshot.pages import PagedTokens, Written, written_pages, written_rows

VIEWS = ("tokens", "memory")
MAX_TABLE_BYTES = 64 << 20


def viewed(
    tensors: Sequence[TensorRef], metadata: dict[str, str], view: str, what: str
) -> tuple[list[TensorRef], dict[str, str]]:
    """The tensors of a checked snapshot in ``view``, and those left out with the reason (its tables).

    Reads the tables of paged and batched snapshots; raises `SourceError` where they name pages or tokens that do
    not exist.
    """
    if view not in VIEWS:
        raise SourceError(f"{what}: no view {view!r} of a snapshot; use {' or '.join(VIEWS)}")
    form = form_of(metadata, what)
    tables = {t.name.rsplit("/", 1)[-1]: t for t in tensors if t.name.rsplit("/", 1)[-1] in TABLES}
    skipped = {t.name: "table of the snapshot, not a cache" for t in tables.values()}
    rest = [t for t in tensors if t.name not in skipped]
    if form.arrangement == CONTIGUOUS or view == "memory":
        return rest, skipped
    written = written_of(rest, tables, form, metadata, what)
    return [_tokens(t, form, written) for t in rest], skipped


def written_of(
    tensors: Sequence[TensorRef], tables: dict[str, TensorRef], form: Form, metadata: dict[str, str], what: str
) -> Written:
    """Which slots of a paged or batched snapshot were written."""
    kind, shape = next(
        (found[0], t.shape) for t in tensors if (found := cache_tensor(t.name.rsplit("/", 1)[-1])) is not None
    )
    sizes = sizes_of(shape, kind, form.arrangement) or {}
    counts = _table(tables[SEQUENCE_TOKENS], what)
    if form.arrangement == BATCH:
        return written_rows(counts, sizes["tokens"], metadata.get("padding", "right"), what)
    table = _table(tables[BLOCK_TABLE], what)
    return written_pages(table, counts, sizes["blocks"], sizes["block_tokens"], what)


def _tokens(tensor: TensorRef, form: Form, written: Written) -> TensorRef:
    found = cache_tensor(tensor.name.rsplit("/", 1)[-1])
    if found is None:
        return tensor
    sizes = sizes_of(tensor.shape, found[0], form.arrangement) or {}
    location = PagedTokens(
        memory=tensor.location,
        written=written,
        arrangement=form.arrangement,
        kind=found[0],
        page_shape=tensor.shape[1:],
        kv_heads=sizes["kv_heads"],
        head_dim=sizes["head_dim"],
        item_bytes=tensor.format.storage.itemsize,
    )
    shape = (sizes["kv_heads"], written.tokens, sizes["head_dim"])
    positions = written.token_positions() if found[0] == "key" else b""
    return replace(tensor, shape=shape, location=location, positions=positions)


def _table(tensor: TensorRef, what: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    if tensor.n_bytes > MAX_TABLE_BYTES:
        raise SourceError(f"{what}: {tensor.name} has {tensor.n_bytes} B; a table is at most {MAX_TABLE_BYTES} B")
    return tensor.read(0, tensor.n_bytes).view("<i4").astype(np.int32).reshape(tensor.shape)
