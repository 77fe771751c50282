"""S09 and S13: what the JSON files of a model say."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from linepress.sources.text import StrictJsonError
from linepress.submission.check.jsonfile import bounded_json
from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import Limits
from linepress.submission.check.reading import FileFacts

INDEX_SUFFIX = ".safetensors.index.json"
CONFIG_NAME = "config.json"
CODE_KEYS = ("auto_map", "custom_code", "custom_pipelines", "trust_remote_code")


def check_documents(read: Mapping[str, FileFacts], limits: Limits, ledger: Ledger) -> None:
    """Parse every JSON file within the limits; judge indexes (S09) and keys that name code (S13)."""
    documents = indexes = 0
    for path, facts in sorted(read.items()):
        if facts.kind != "json":
            continue
        name = posixpath.basename(path)
        try:
            value = bounded_json(facts.raw, limits.json_bytes, limits.json_depth)
        except StrictJsonError as error:
            ledger.fail("S02", f"{name_of(path)} is not plain JSON: {error}")
            ledger.fail("S13", f"{name_of(path)}: {error}")
            if name.endswith(INDEX_SUFFIX):
                ledger.fail("S09", f"{name_of(path)}: {error}")
            continue
        documents += 1
        for key in sorted(set(_keys(value)).intersection(CODE_KEYS)):
            ledger.fail("S13", f"{name_of(path)} has {key}, which makes a loader run the partner's code")
        if name.endswith(INDEX_SUFFIX):
            indexes += 1
            _index(path, value, read, ledger)
    _indexes(indexes, read, ledger)
    ledger.saw("S13", f"{documents} JSON files, none names code to run")
    ledger.saw("S02", f"{len(read)} files, each safetensors, JSON or plain text by its content")
    ledger.saw("S15", f"{len(read)} files, none an archive at its beginning or its end")


def _keys(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield from part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _indexes(indexes: int, read: Mapping[str, FileFacts], ledger: Ledger) -> None:
    owner: dict[str, str] = {}
    for path, facts in sorted(read.items()):
        for name in facts.tensors.names if facts.tensors else ():
            other = owner.setdefault(name, path)
            if other != path and indexes:
                ledger.fail("S09", f"tensor {name_of(name)} is in {name_of(other)} and in {name_of(path)}")
    if indexes > 1:
        ledger.fail("S09", f"{indexes} index files; one submission is one model")
    ledger.saw("S09", f"{len(owner)} tensors, each in one shard of the index" if indexes else "no index file")


def _index(path: str, value: Any, read: Mapping[str, FileFacts], ledger: Ledger) -> None:
    label = name_of(path)
    mapping = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(mapping, dict) or not mapping or not all(isinstance(shard, str) for shard in mapping.values()):
        ledger.fail("S09", f"{label} has no weight_map from tensor names to shard files")
        return
    folder = posixpath.dirname(path)
    shards: dict[str, FileFacts] = {}
    for shard in sorted(set(mapping.values())):
        facts = read.get(posixpath.join(folder, shard))
        if "/" in shard or "\\" in shard or not shard.isprintable() or shard.startswith("."):
            ledger.fail("S09", f"{label}: shard {name_of(shard)} is not a bare file name")
        elif facts is None or facts.tensors is None:
            ledger.fail("S09", f"{label}: shard {name_of(shard)} is not a safetensors file of the submission")
        else:
            shards[shard] = facts
    held = {name: shard for shard, facts in shards.items() for name in (facts.tensors.names if facts.tensors else ())}
    for name, shard in mapping.items():
        if shard in shards and held.get(name) != shard:
            ledger.fail("S09", f"{label}: tensor {name_of(name)} is not in {name_of(shard)}")
    for name in held:
        if name not in mapping:
            ledger.fail("S09", f"{label}: tensor {name_of(name)} of {name_of(held[name])} is not in the index")
    for other, facts in sorted(read.items()):
        inside = posixpath.dirname(other) == folder and posixpath.basename(other) in shards
        if facts.tensors is not None and not inside:
            ledger.fail("S09", f"{label}: {name_of(other)} is not in the index")
    n_bytes = sum(
        sum(facts.tensors.ends) - sum(facts.tensors.begins) for facts in shards.values() if facts.tensors is not None
    )
    metadata = value.get("metadata")
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    if type(stated) is not int or stated != n_bytes:
        ledger.fail("S09", f"{label}: total_size is {name_of(str(stated))}, the shards hold {n_bytes} B of tensors")
