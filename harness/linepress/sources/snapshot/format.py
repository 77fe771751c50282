"""KV snapshots: the caches of one or more prompts in a safetensors file (docs/snapshot-format.md).

Tensors ``key_cache_tensor_i`` and ``value_cache_tensor_i``, one pair a layer (``kv_cache_tensor_i`` where the engine
joins them, no ``_i`` where one tensor holds every layer), with text metadata in the header: ``model``, ``layers``,
``kv_heads``, ``head_dim``, ``tokens``, ``keys`` (``post-RoPE`` or ``pre-RoPE``), ``rope_layout``, ``text_sha256`` …
How they lie is told by ``arrangement``: one sequence ``[kv_heads, tokens, head_dim]`` (tokens oldest first) unless it
names another layout of `contract`. What the metadata states must agree with the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from linepress.errors import SourceError
from linepress.sources.safetensors.header import Entry, Header
from linepress.sources.safetensors.stream import DTYPE_BITS
from linepress.sources.snapshot.contract import RUN_BYTES, Layout, layout_named
from linepress.sources.text import shown

FORMAT_VERSION = "1"
MAX_NUMBER = 1 << 40

BLOCK_TABLE, SEQUENCE_TOKENS = "block_table", "sequence_tokens"
TABLES = (BLOCK_TABLE, SEQUENCE_TOKENS)
HOLDS = {
    "keys and values": ("key", "value"), "keys": ("key",), "values": ("value",), "latent": ("key",),
    "states": ("key",),
}  # fmt: skip
"""What ``holds`` may say, and the kinds of tensors there then are. A latent (MLA), from which the engine derives keys
and values, and the states of a recurrent layer are one tensor a layer, named as keys."""

CONTIGUOUS = "contiguous"
_NAME = re.compile(r"^(key|value|kv)_cache_tensor(?:_(\d{1,6}))?$")


@dataclass(frozen=True, slots=True)
class Form:
    """What the metadata states about the shapes; None where it says nothing.

    Attributes
    ----------
    layout : Layout
        The one that ``arrangement`` names.
    tokens, kv_heads, head_dim, value_head_dim, layers, block_tokens : int | None
        ``value_head_dim`` is ``head_dim`` unless values are of another width (multi-head latent attention).
    layer_tokens : tuple of int
        Tokens that each layer keeps, for models whose sliding-window layers keep fewer; empty if all keep all.
    kinds : tuple of str
        ``key``, ``value`` or both.
    null_block : int | None
        Block that stands in rows for tokens that a sliding window has left behind.
    """

    layout: Layout
    tokens: int | None
    kv_heads: int | None
    head_dim: int | None
    value_head_dim: int | None
    layers: int | None
    block_tokens: int | None
    layer_tokens: tuple[int, ...]
    kinds: tuple[str, ...]
    null_block: int | None

    @property
    def arrangement(self) -> str:
        return self.layout.name

    def tokens_of(self, layer: int) -> int | None:
        """Tokens that ``layer`` keeps."""
        return self.layer_tokens[layer] if layer < len(self.layer_tokens) else self.tokens


def cache_tensor(name: str) -> tuple[str, int | None] | None:
    """(``key``, ``value`` or ``kv``, layer or None for all) of a cache tensor's name, None for any other name."""
    found = _NAME.match(name)
    return (found.group(1), None if found.group(2) is None else int(found.group(2))) if found else None


def is_snapshot(header: Header) -> bool:
    """Whether any tensor is named as a cache tensor of a snapshot."""
    return any(_NAME.match(entry.name) for entry in header.entries)


def form_of(metadata: Mapping[str, str], what: str) -> Form:
    """The metadata of a snapshot, read strictly; raises `SourceError` for a word or number it cannot be."""
    layout = layout_named(metadata.get("arrangement", CONTIGUOUS), f"{what}: arrangement")
    version = metadata.get("snapshot_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise SourceError(
            f"{what} is a snapshot of version {shown(version)}; this linepress reads version {FORMAT_VERSION}"
        )
    holds = metadata.get("holds", "keys and values")
    if holds not in HOLDS:
        raise SourceError(f"{what}: holds {shown(holds)} is not one of {', '.join(HOLDS)}")
    numbers = {
        key: _number(metadata, key, what)
        for key in ("tokens", "kv_heads", "head_dim", "value_head_dim", "layers", "block_tokens", "null_block")
    }
    listed = metadata.get("layer_tokens", "")
    parts = listed.split(",") if listed else []
    if not all(part.isascii() and part.isdecimal() and len(part) < 12 for part in parts):
        raise SourceError(
            f"{what}: layer_tokens is {shown(listed)}, not one number of tokens a layer such as 512,128"
        )
    if parts and numbers["layers"] is not None and len(parts) != numbers["layers"]:
        raise SourceError(f"{what}: layer_tokens names {len(parts)} layers of {numbers['layers']}; capture it again")
    return Form(
        layout=layout,
        layer_tokens=tuple(int(part) for part in parts),
        kinds=HOLDS[holds],
        tokens=numbers["tokens"],
        kv_heads=numbers["kv_heads"],
        head_dim=numbers["head_dim"],
        value_head_dim=numbers["value_head_dim"] if "value_head_dim" in metadata else numbers["head_dim"],
        layers=numbers["layers"],
        block_tokens=numbers["block_tokens"],
        null_block=numbers["null_block"],
    )


def check_snapshot(header: Header, what: str) -> None:
    """Raise `SourceError` unless keys, values, shapes, tables and metadata agree."""
    form = form_of(header.metadata, what)
    layout = form.layout
    if layout.joined and form.kinds != ("key", "value"):
        raise SourceError(f"{what}: {layout.name} joins keys and values but holds is {header.metadata['holds']}")
    seen: dict[str, set[int]] = {"key": set(), "value": set()}
    pages: set[int] = set()
    for entry in header.entries:
        found = cache_tensor(entry.name)
        if found is None:
            continue
        kind, layer = found
        label = f"{what}: {shown(entry.name)}"
        if kind not in layout.axes or (layer is None) != ("L" in layout.axes[kind]):
            wanted = ", ".join(f"{k}_cache_tensor{'' if 'L' in axes else '_i'}" for k, axes in layout.axes.items())
            raise SourceError(f"{label} is no tensor of {layout.name}, which has {wanted}; state its arrangement")
        sizes = _check_shape(entry, kind, layer, form, label)
        for side in ("key", "value") if kind == "kv" else (kind,):
            seen[side] |= set(range(sizes["layers"])) if layer is None else {layer}
        pages.add(sizes.get("blocks", sizes.get("sequences", 0)))
    if form.kinds == ("key", "value"):
        if seen["key"] != seen["value"]:
            odd = min(seen["key"] ^ seen["value"])
            raise SourceError(f"{what}: layer {odd} has keys or values but not both; capture the snapshot again")
    elif seen[other := ("value" if form.kinds == ("key",) else "key")]:
        raise SourceError(
            f"{what} says that it holds {header.metadata['holds']} but has {other} tensors; capture it again"
        )
    layers = form.layers
    every = seen["key"] | seen["value"]
    if layers is not None and not every <= set(range(layers)):
        raise SourceError(f"{what}: layer {max(every)} is beyond the {layers} layers that the metadata states")
    if layout.paged or layout.padded:
        _check_tables(header, form, pages, what)


def layers_held(header: Header, form: Form) -> set[int]:
    """Layers of which the file has a cache tensor."""
    held: set[int] = set()
    for entry in header.entries:
        if (found := cache_tensor(entry.name)) is not None:
            sizes = form.layout.sizes(entry.shape, found[0]) or {}
            held |= {found[1]} if found[1] is not None else set(range(sizes["layers"]))
    return held


def _check_shape(entry: Entry, kind: str, layer: int | None, form: Form, label: str) -> dict[str, int]:
    """One cache tensor against its layout and what the metadata states; its named sizes."""
    layout = form.layout
    if 0 in entry.shape:
        raise SourceError(f"{label} holds no tokens (shape {list(entry.shape)}); capture a longer prompt")
    sizes = layout.sizes(entry.shape, kind, DTYPE_BITS[entry.dtype] // 8)
    if sizes is None:
        raise SourceError(
            f"{label} has shape {list(entry.shape)}; {layout.name} is {layout.shape_text(kind)}{_width_text(layout)}"
        )
    if layout.packed and entry.dtype != "U8":
        raise SourceError(f"{label} is {entry.dtype}; {layout.name} holds records of bytes, U8")
    stated = {
        "kv_heads": form.kv_heads,
        "tokens": form.tokens_of(layer or 0) if not layout.paged else None,
        "head_dim": form.value_head_dim if kind == "value" else None if layout.record_bytes else form.head_dim,
        "block_tokens": form.block_tokens,
    }
    for key, size in sizes.items():
        want = stated.get(key)
        if want is not None and want != size:
            raise SourceError(
                f"{label} has {size} {key} but the header's metadata says '{want}'; capture the snapshot again"
            )
    return sizes


def _width_text(layout: Layout) -> str:
    """What the last axis must be, where it is not a head's width alone."""
    if layout.record_bytes:
        return f" of records of {layout.record_bytes} B"
    if layout.block_bytes:
        return f" in blocks of {layout.block_values} values and {layout.block_bytes} B"
    if layout.scale_bytes:
        return f" of one byte a value and {layout.scale_bytes} B of scales a row"
    return f" with runs of {RUN_BYTES} B" if any("x" in axes for axes in layout.axes.values()) else ""


def _check_tables(header: Header, form: Form, blocks: set[int], what: str) -> None:
    """Tables that an arrangement needs are there, of type and shape; their numbers are checked when they are read."""
    tables = {entry.name: entry for entry in header.entries if entry.name in TABLES}
    needed = TABLES if form.layout.paged else (SEQUENCE_TOKENS,)
    for name in needed:
        entry = tables.get(name)
        rank = 2 if name == BLOCK_TABLE else 1
        if entry is None:
            raise SourceError(
                f"{what}: arrangement {form.arrangement} needs a tensor {name!r}, which marks the tokens written"
            )
        if entry.dtype != "I32" or len(entry.shape) != rank or 0 in entry.shape:
            raise SourceError(
                f"{what}: {name} is {entry.dtype} {list(entry.shape)}; it must be I32 with {rank} axes, none empty"
            )
    if len(blocks) != 1:
        raise SourceError(
            f"{what}: layers have {sorted(blocks)} blocks; all layers of a snapshot share one block table"
        )
    rows = tables[SEQUENCE_TOKENS].shape[0]
    other = tables[BLOCK_TABLE].shape[0] if form.layout.paged else next(iter(blocks))
    if rows != other:
        raise SourceError(f"{what}: {SEQUENCE_TOKENS} has {rows} sequences where the caches have {other}")


def _number(metadata: Mapping[str, str], key: str, what: str) -> int | None:
    stated = metadata.get(key)
    if stated is None:
        return None
    if not (stated.isascii() and stated.isdecimal() and len(stated) < 13) or int(stated) > MAX_NUMBER:
        raise SourceError(
            f"{what}: the header's metadata says {key} {shown(stated)}, which is no count; write it again"
        )
    return int(stated)
