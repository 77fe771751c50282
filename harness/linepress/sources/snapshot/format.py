"""KV snapshots: the caches of one or more prompts in a safetensors file (docs/snapshot-format.md).

Tensors ``key_cache_tensor_i`` and ``value_cache_tensor_i``, one pair a layer, with text metadata in the header:
``model``, ``layers``, ``kv_heads``, ``head_dim``, ``tokens``, ``keys`` (``post-RoPE`` or ``pre-RoPE``),
``rope_layout``, ``text_sha256`` … How they lie is told by ``arrangement``: one sequence ``[kv_heads, tokens,
head_dim]`` (tokens oldest first) unless it says ``batch`` or names an engine's pages. What the metadata states must
agree with the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from linepress.errors import SourceError
from linepress.sources.safetensors.header import Entry, Header
from linepress.sources.text import shown

FORMAT_VERSION = "1"
MAX_NUMBER = 1 << 40

BLOCK_TABLE, SEQUENCE_TOKENS = "block_table", "sequence_tokens"
TABLES = (BLOCK_TABLE, SEQUENCE_TOKENS)
HOLDS = {"keys and values": ("key", "value"), "keys": ("key",), "values": ("value",), "latent": ("key",)}
"""What ``holds`` may say, and the kinds of tensors there then are. A latent (MLA) is one tensor a layer, named as
keys, from which the engine derives keys and values."""

CONTIGUOUS, BATCH = "contiguous", "batch"
VLLM, VLLM_HND, VLLM_CLASSIC = "paged-vllm", "paged-vllm-hnd", "paged-vllm-classic"
ARRANGEMENTS: Mapping[str, str] = {
    CONTIGUOUS: "[kv_heads, tokens, head_dim]",
    BATCH: "[sequences, kv_heads, tokens, head_dim]",
    VLLM: "[blocks, block_tokens, kv_heads, head_dim]",
    VLLM_HND: "[blocks, kv_heads, block_tokens, head_dim]",
    VLLM_CLASSIC: "keys [blocks, kv_heads, head_dim/x, block_tokens, x], "
    "values [blocks, kv_heads, head_dim, block_tokens]",
}
_NAME = re.compile(r"^(key|value)_cache_tensor_(\d{1,6})$")


@dataclass(frozen=True, slots=True)
class Form:
    """What the metadata states about the shapes; None where it says nothing.

    Attributes
    ----------
    arrangement : str
        A key of `ARRANGEMENTS`.
    tokens, kv_heads, head_dim, value_head_dim, layers, block_tokens : int | None
        ``value_head_dim`` is ``head_dim`` unless values are of another width (multi-head latent attention).
    layer_tokens : tuple of int
        Tokens that each layer keeps, for models whose sliding-window layers keep fewer; empty if all keep all.
    kinds : tuple of str
        ``key``, ``value`` or both.
    """

    arrangement: str
    tokens: int | None
    kv_heads: int | None
    head_dim: int | None
    value_head_dim: int | None
    layers: int | None
    block_tokens: int | None
    layer_tokens: tuple[int, ...]
    kinds: tuple[str, ...]

    @property
    def paged(self) -> bool:
        return self.arrangement not in (CONTIGUOUS, BATCH)

    def tokens_of(self, layer: int) -> int | None:
        """Tokens that ``layer`` keeps."""
        return self.layer_tokens[layer] if layer < len(self.layer_tokens) else self.tokens


def cache_tensor(name: str) -> tuple[str, int] | None:
    """(``key`` or ``value``, layer) of a cache tensor's name, None for any other name."""
    found = _NAME.match(name)
    return (found.group(1), int(found.group(2))) if found else None


def is_snapshot(header: Header) -> bool:
    """Whether any tensor is named as a cache tensor of a snapshot."""
    return any(_NAME.match(entry.name) for entry in header.entries)


def form_of(metadata: Mapping[str, str], what: str) -> Form:
    """The metadata of a snapshot, read strictly; raises `SourceError` for a word or number it cannot be."""
    arrangement = metadata.get("arrangement", CONTIGUOUS)
    if arrangement not in ARRANGEMENTS:
        raise SourceError(f"{what}: arrangement {shown(arrangement)} is not one of {', '.join(ARRANGEMENTS)}")
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
        for key in ("tokens", "kv_heads", "head_dim", "value_head_dim", "layers", "block_tokens")
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
        arrangement=arrangement,
        layer_tokens=tuple(int(part) for part in parts),
        kinds=HOLDS[holds],
        tokens=numbers["tokens"],
        kv_heads=numbers["kv_heads"],
        head_dim=numbers["head_dim"],
        value_head_dim=numbers["value_head_dim"] if "value_head_dim" in metadata else numbers["head_dim"],
        layers=numbers["layers"],
        block_tokens=numbers["block_tokens"],
    )


def check_snapshot(header: Header, what: str) -> None:
    """Raise `SourceError` unless keys, values, shapes, tables and metadata agree."""
    form = form_of(header.metadata, what)
    seen: dict[str, set[int]] = {"key": set(), "value": set()}
    blocks: set[int] = set()
    for entry in header.entries:
        found = cache_tensor(entry.name)
        if found is None:
            continue
        kind, layer = found
        label = f"{what}: {shown(entry.name)}"
        _check_shape(entry, kind, layer, form, label)
        seen[kind].add(layer)
        blocks.add(entry.shape[0])
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
    if form.arrangement != CONTIGUOUS:
        _check_tables(header, form, blocks, what)


def _check_shape(entry: Entry, kind: str, layer: int, form: Form, label: str) -> None:
    """One cache tensor against what the metadata states."""
    sizes = sizes_of(entry.shape, kind, form.arrangement)
    if sizes is None:
        raise SourceError(f"{label} has shape {list(entry.shape)}; a snapshot's is {ARRANGEMENTS[form.arrangement]}")
    if 0 in entry.shape:
        raise SourceError(f"{label} holds no tokens (shape {list(entry.shape)}); capture a longer prompt")
    stated = {
        "kv_heads": form.kv_heads,
        "tokens": None if form.paged else form.tokens_of(layer),
        "head_dim": form.head_dim if kind == "key" else form.value_head_dim,
        "block_tokens": form.block_tokens,
    }
    for key, size in sizes.items():
        want = stated.get(key)
        if want is not None and want != size:
            raise SourceError(
                f"{label} has {size} {key} but the header's metadata says '{want}'; capture the snapshot again"
            )


def sizes_of(shape: tuple[int, ...], kind: str, arrangement: str) -> dict[str, int] | None:
    """The named sizes of a cache tensor's shape, or None where it has not the axes of its arrangement."""
    if arrangement == CONTIGUOUS:
        return dict(zip(("kv_heads", "tokens", "head_dim"), shape, strict=True)) if len(shape) == 3 else None
    if arrangement == VLLM_CLASSIC and kind == "key":
        if len(shape) != 5:
            return None
        return {"blocks": shape[0], "kv_heads": shape[1], "head_dim": shape[2] * shape[4], "block_tokens": shape[3]}
    axes = {
        BATCH: ("sequences", "kv_heads", "tokens", "head_dim"),
        VLLM: ("blocks", "block_tokens", "kv_heads", "head_dim"),
        VLLM_HND: ("blocks", "kv_heads", "block_tokens", "head_dim"),
        VLLM_CLASSIC: ("blocks", "kv_heads", "head_dim", "block_tokens"),
    }[arrangement]
    return dict(zip(axes, shape, strict=True)) if len(shape) == 4 else None


def _check_tables(header: Header, form: Form, blocks: set[int], what: str) -> None:
    """Tables that an arrangement needs are there, of type and shape; their numbers are checked when they are read."""
    tables = {entry.name: entry for entry in header.entries if entry.name in TABLES}
    needed = (SEQUENCE_TOKENS,) if form.arrangement == BATCH else TABLES
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
    other = tables[BLOCK_TABLE].shape[0] if form.paged else next(iter(blocks))
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
