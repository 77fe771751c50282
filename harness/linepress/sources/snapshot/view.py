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
from linepress.sources.groups import place_of
from linepress.sources.snapshot.format import (
    BLOCK_TABLE,
    SEQUENCE_TOKENS,
    TABLES,
    Form,
    cache_tensor,
    form_of,
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
    if view == "memory" or not (form.layout.paged or form.layout.padded):
        return rest, skipped
    written = _written_of(rest, tables, form, metadata, what)
    return [part for t in rest for part in _tokens(t, form, written)], skipped


def _written_of(
    tensors: Sequence[TensorRef], tables: dict[str, TensorRef], form: Form, metadata: dict[str, str], what: str
) -> dict[int, Written]:
    """Which slots of a paged or batched snapshot were written, by the slots of a sequence (0 for pages).

    All layers of pages share one table. Layers of a batch may keep fewer tokens where ``layer_tokens`` says so: they
    are then the newest of each sequence.
    """
    cached = [(found[0], t.shape) for t in tensors if (found := cache_tensor(t.name.rsplit("/", 1)[-1])) is not None]
    counts = _table(tables[SEQUENCE_TOKENS], what)
    if form.layout.padded:
        padding, windows = metadata.get("padding", "right"), bool(form.layer_tokens)
        held = {(form.layout.sizes(shape, kind) or {})["tokens"] for kind, shape in cached}
        return {slots: written_rows(counts, slots, padding, what, windows) for slots in held}
    kind, shape = cached[0]
    sizes = form.layout.sizes(shape, kind) or {}
    table = _table(tables[BLOCK_TABLE], what)
    return {0: written_pages(table, counts, sizes["blocks"], sizes.get("block_tokens", 1), what, form.null_block)}


def _tokens(tensor: TensorRef, form: Form, by_slots: dict[int, Written]) -> list[TensorRef]:
    """Keys and values of each layer that a cache tensor holds; any other tensor as it is."""
    prefix, _, name = tensor.name.rpartition("/")
    found = cache_tensor(name)
    if found is None:
        return [tensor]
    stored, layer = found
    axes = form.layout.axes[stored]
    sizes = form.layout.sizes(tensor.shape, stored) or {}
    written = by_slots[sizes["tokens"] if form.layout.padded else 0]
    heads = sizes.get("kv_heads", 1)
    width = tensor.shape[axes.index("D")] if "D" in axes else sizes["head_dim"]
    out = []
    for i in range(sizes.get("layers", 1)):
        for side, kind in enumerate(("key", "value") if stored == "kv" else (stored,)):
            called = f"{kind}_cache_tensor_{i if layer is None else layer}"
            place = place_of(called)
            location = PagedTokens(
                memory=tensor.location,
                written=written,
                axes=axes,
                parts=form.layout.parts,
                shape=tensor.shape,
                layer=i,
                side=side,
                kv_heads=heads,
                head_dim=width,
                item_bytes=tensor.format.storage.itemsize,
            )
            out.append(
                replace(
                    tensor,
                    name=f"{prefix}/{called}" if prefix else called,
                    group=place.group,
                    layer=place.layer,
                    kind=place.kind,
                    shape=(heads, written.tokens, width),
                    location=location,
                    positions=written.token_positions() if kind == "key" else b"",
                )
            )
    return out


def _table(tensor: TensorRef, what: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    if tensor.n_bytes > MAX_TABLE_BYTES:
        raise SourceError(f"{what}: {tensor.name} has {tensor.n_bytes} B; a table is at most {MAX_TABLE_BYTES} B")
    return tensor.read(0, tensor.n_bytes).view("<i4").astype(np.int32).reshape(tensor.shape)
