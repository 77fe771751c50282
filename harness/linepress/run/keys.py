"""Case keys, and the content identities they are made of.

A key names what was computed, so that it can be found again: codec, resolved options, format version, layout,
packing, cast, tensor name and content, line size, record schema version. The content identity of a local tensor is
the sha256 of its stored bytes, remembered by path, size, modification and change time and range; that of a hub tensor
comes from the hashes the hub publishes, so that planning reads no weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from linepress.environment import usable_cores
from linepress.records.schema import SCHEMA_VERSION
from linepress.sources.hashes import HashCache


def case_key(stage: str, **parts: Any) -> str:
    """sha256 over the stage, the record schema version and ``parts`` (plain data, order of names irrelevant)."""
    text = json.dumps(
        {"stage": stage, "schema": SCHEMA_VERSION, **parts},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()


class Readable(Protocol):
    """What `content_ids` needs of a tensor; `linepress.sources.TensorRef` is one."""

    @property
    def n_bytes(self) -> int: ...

    @property
    def location(self) -> Any: ...

    def content_sha256(self) -> str: ...


def content_ids(
    tensors: Iterable[Readable], cache: HashCache | None = None, on_hash: Callable[[int], None] | None = None
) -> list[str]:
    """Content identity of each tensor: ``sha256:…`` of its stored bytes where they are local, else ``id:…``.

    ``on_hash`` is told the bytes of each tensor that had to be read.
    """
    cache = cache or HashCache()
    listed = list(tensors)
    identities = [str(getattr(t.location, "cache_key", "") or t.location.identity) for t in listed]
    local = sorted({i for i, t in zip(identities, listed, strict=True) if t.location.local})
    known = cache.get(local)
    missing: dict[str, Readable] = {}
    for identity, tensor in zip(identities, listed, strict=True):
        if tensor.location.local and identity not in known:
            missing.setdefault(identity, tensor)
    if missing:
        with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
            # hashlib releases the interpreter lock, so this is as fast as the disk or the cores allow.
            for (identity, tensor), digest in zip(
                missing.items(), pool.map(lambda t: t.content_sha256(), missing.values()), strict=True
            ):
                known[identity] = digest
                if on_hash is not None:
                    on_hash(tensor.n_bytes)
        cache.put({identity: known[identity] for identity in missing})
    return [
        f"sha256:{known[i]}" if i in known else f"id:{hashlib.sha256(i.encode()).hexdigest()}" for i in identities
    ]
