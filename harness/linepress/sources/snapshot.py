"""KV snapshots: the cache of one prompt in a safetensors file.

Tensors ``key_cache_tensor_i`` and ``value_cache_tensor_i``, one pair a layer, each ``[kv_heads, tokens, head_dim]``
(tokens oldest first), with text metadata in the header: ``model``, ``layers``, ``kv_heads``, ``head_dim``,
``tokens``, ``keys`` (``post-RoPE`` or ``pre-RoPE``), ``rope_layout``, ``text_sha256`` … What the metadata states must
agree with the shapes.
"""

from __future__ import annotations

import re

from linepress.errors import SourceError
from linepress.sources.safetensors_header import Header
from linepress.sources.text import shown

_NAME = re.compile(r"^(key|value)_cache_tensor_(\d{1,6})$")


def is_snapshot(header: Header) -> bool:
    """Whether any tensor is named as a cache tensor of a snapshot."""
    return any(_NAME.match(entry.name) for entry in header.entries)


def check_snapshot(header: Header, what: str) -> None:
    """Raise `SourceError` unless keys, values, shapes and metadata agree."""
    seen: dict[str, set[int]] = {"key": set(), "value": set()}
    for entry in header.entries:
        found = _NAME.match(entry.name)
        if not found:
            continue
        label = f"{what}: {shown(entry.name)}"
        if len(entry.shape) != 3:
            raise SourceError(f"{label} has shape {list(entry.shape)}; a snapshot's is [kv_heads, tokens, head_dim]")
        for axis, key in enumerate(("kv_heads", "tokens", "head_dim")):
            stated = header.metadata.get(key)
            if stated is not None and stated != str(entry.shape[axis]):
                raise SourceError(
                    f"{label} has {entry.shape[axis]} {key} but the header's metadata says {shown(stated)}; "
                    "capture the snapshot again"
                )
        if 0 in entry.shape:
            raise SourceError(f"{label} holds no tokens (shape {list(entry.shape)}); capture a longer prompt")
        seen[found.group(1)].add(int(found.group(2)))
    if seen["key"] != seen["value"]:
        odd = min(seen["key"] ^ seen["value"])
        raise SourceError(f"{what}: layer {odd} has keys or values but not both; capture the snapshot again")
    layers = header.metadata.get("layers")
    if layers is not None and layers.isdecimal() and len(layers) < 7 and not seen["key"] <= set(range(int(layers))):
        raise SourceError(f"{what}: layer {max(seen['key'])} is beyond the {layers} layers that the metadata states")
