"""Safetensors files and folders as sources: headers are read and checked, bodies only by range."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef, notes_of
from linepress.sources.bytes import FileBytes, Location, pread
from linepress.sources.groups import place_of
from linepress.sources.safetensors.header import Header, header_length, parse_header
from linepress.sources.safetensors.packed import FORMAT_OF_DTYPE, Neighbours, storage_of
from linepress.sources.snapshot.format import check_snapshot, is_snapshot
from linepress.sources.snapshot.view import viewed
from linepress.sources.sniff import kind_of
from linepress.sources.text import StrictJsonError, shown, strict_json

INDEX_NAME = "model.safetensors.index.json"
MAX_INDEX_BYTES = 100_000_000
MAX_CONFIG_BYTES = 64 << 20


def read_header(path: Path) -> Header:
    """The checked header of one file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}; check the path") from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}; check its permissions") from None
    try:
        size = os.fstat(descriptor).st_size
        first = pread(descriptor, 0, min(size, 8), str(path)).tobytes()
        n = header_length(first, size, str(path))
        return parse_header(pread(descriptor, 8, n, str(path)).tobytes(), size, str(path))
    finally:
        os.close(descriptor)


class Locate(Protocol):
    """Makes the location of bytes ``start … end`` of one file."""

    def __call__(self, start: int, end: int) -> Location: ...


def refs_of(
    header: Header,
    *,
    uri: str,
    revision: str,
    locate: Locate,
    prefix: str = "",
    notes: dict[str, str] | None = None,
    view: str = "tokens",
    stated: Mapping[str, int] | None = None,
) -> tuple[list[TensorRef], dict[str, str]]:
    """Tensors of a header, and those that cannot be measured with the reason; ``locate(start, end)`` places bytes.

    ``stated`` is what the configuration beside the file says of its packed integers (`quantised_bits`).

    The caches of a paged or padded snapshot come in ``view``, see `linepress.sources.snapshot.view`.
    """
    tensors: list[TensorRef] = []
    skipped: dict[str, str] = {}
    around = Neighbours(
        {entry.name: entry for entry in header.entries},
        header.metadata,
        lambda entry, n: locate(entry.start, entry.end).read(0, n),
        stated or {},
    )
    said = notes_of({**header.metadata, **(notes or {})})
    for entry in header.entries:
        if entry.dtype not in FORMAT_OF_DTYPE:
            skipped[prefix + entry.name] = f"dtype {entry.dtype} has no element format"
            continue
        if entry.start == entry.end:
            skipped[prefix + entry.name] = f"empty (shape {list(entry.shape)})"
            continue
        stored = storage_of(entry, around)
        place = place_of(entry.name)
        tensors.append(
            TensorRef(
                uri=uri,
                revision=revision,
                name=prefix + entry.name,
                stored_format=stored.format,
                shape=stored.shape,
                location=locate(entry.start, entry.end),
                group=place.group,
                layer=place.layer,
                kind=place.kind,
                notes=(*said, ("packed", stored.packed)) if stored.packed else said,
            )
        )
    if is_snapshot(header):
        tensors, tables = viewed(tensors, header.metadata, view, uri)
        skipped |= tables
    return tensors, skipped


def parse_index(raw: bytes, what: str) -> dict[str, str]:
    """Tensor name → shard of an index file; shard names are bare file names ending in ``.safetensors``."""
    try:
        document = strict_json(raw)
    except StrictJsonError as error:
        raise SourceError(f"{what}: {error}; fetch or write the index again") from None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{what} has no weight_map from tensor names to shard files; write the index again")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or "/" in shard:
            raise SourceError(
                f"{what}: {shown(name)} is mapped to {shown(str(shard))}; a shard is a bare .safetensors name"
            )
        if "\\" in shard or not shard.isprintable() or shard.startswith("."):
            raise SourceError(f"{what}: shard {shown(shard)} is not a plain file name; rename it")
    return weight_map


def check_index(weight_map: dict[str, str], owner: dict[str, str], what: str) -> None:
    """Raise `SourceError` unless index and shards name the same tensors in the same places."""
    for name, shard in weight_map.items():
        if owner.get(name) != shard:
            raise SourceError(f"{what} puts {shown(name)} in {shard}, where it is not; write the index again")
    extra = sorted(set(owner) - set(weight_map))
    if extra:
        raise SourceError(f"{what} does not name {shown(extra[0])}, which {owner[extra[0]]} holds; write it again")


def quantised_bits(folder: Path) -> dict[str, int]:
    """``bits`` of the integers that the ``config.json`` of a folder says its files pack; empty where it says nothing.

    Only a hint beside the tensors' own shapes: a configuration that cannot be read is passed over.
    """
    path = folder / "config.json"
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return {}
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    found = config.get("quantization_config") or config.get("quantization")
    bits = found.get("bits", found.get("num_bits")) if isinstance(found, dict) else None
    return {"bits": bits} if isinstance(bits, int) and not isinstance(bits, bool) else {}


class SafetensorsSource(Source):
    """One file, or the shards of a folder; ``left_out`` is what the folder holds beside them, with the reason."""

    def __init__(
        self,
        uri: str,
        paths: Iterable[Path],
        *,
        qualified: bool = False,
        view: str = "tokens",
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = uri
        self._left_out = dict(left_out or {})
        self._tensors: list[TensorRef] = []
        self._skipped: dict[str, str] = {}
        self._files: list[dict[str, object]] = []
        self._metadata: dict[str, str] = {}
        owner: dict[str, Path] = {}
        stated: dict[Path, dict[str, int]] = {}
        shas: list[str] = []
        for path in paths:
            kind = kind_of(path)
            if kind != "safetensors":
                raise SourceError(f"{path} is called .safetensors but is a {kind} file; rename it and give it alone")
            header = read_header(path)
            if is_snapshot(header):
                check_snapshot(header, str(path))
            prefix = f"{path.stem}/" if qualified else ""
            for entry in header.entries:
                name = prefix + entry.name
                if name in owner:
                    raise SourceError(
                        f"tensor {shown(name)} is in {owner[name].name} and in {path.name}; keep one of them"
                    )
                owner[name] = path
            stat = path.stat()
            if stat.st_size != header.file_bytes:
                raise SourceError(f"{path} changed while its header was being read; keep the file still")
            revision = f"sha256:{header.sha256}"

            def locate(start: int, end: int, path: Path = path, stat: os.stat_result = stat) -> FileBytes:
                return FileBytes(str(path.absolute()), start, end, stat.st_size, stat.st_mtime_ns)

            folder = path.parent
            if folder not in stated:
                stated[folder] = quantised_bits(folder)
            tensors, skipped = refs_of(
                header,
                uri=uri,
                revision=revision,
                locate=locate,
                prefix=prefix,
                view=view,
                stated=stated[folder],
            )
            self._tensors += tensors
            self._skipped |= skipped
            self._metadata |= header.metadata
            shas.append(revision)
            self._files.append({"file": path.name, "size_bytes": header.file_bytes, "header_sha256": header.sha256})
        digest = hashlib.sha256("\n".join(shas).encode()).hexdigest()
        self.revision = shas[0] if len(shas) == 1 else f"sha256:{digest}"
        self.owner = {name: path.name for name, path in owner.items()}

    def at_revision(self, revision: str) -> SafetensorsSource:
        """The same source known to be of a commit (a hub snapshot on disk)."""
        self.revision = revision
        self._tensors = [replace(tensor, revision=revision) for tensor in self._tensors]
        return self

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._skipped)

    def left_out(self) -> dict[str, str]:
        return dict(self._left_out)

    def provenance(self) -> dict[str, object]:
        return {
            "uri": self.uri,
            "kind": "safetensors",
            "revision": self.revision,
            "files": self._files,
            "metadata": self._metadata,
        }
