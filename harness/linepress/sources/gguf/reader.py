"""GGUF files, read as stored by an own header reader.

F32, F16 and BF16 tensors are element formats; block-quantised tensors are opaque bytes coded as they lie
(``uint8``); the cast ``dequant:bf16`` unpacks them. A tensor of an unknown type is skipped, and said. With
``split=True`` each block-quantised tensor becomes two, ``name#scales`` and ``name#quants``, gathered from its blocks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef, notes_of
from linepress.sources.bytes import Bytes, FileBytes, check_range
from linepress.sources.gguf.ggml import OTHERWISE, TYPES, UNMEASURED, GgmlType
from linepress.sources.gguf.header import GgufHeader, TensorInfo, read_gguf_header
from linepress.sources.groups import place_of
from linepress.sources.text import shown
from linepress_codecs.formats import format_named


@dataclass(frozen=True, slots=True)
class BlockFields:
    """The same byte ranges of every block of a block-quantised tensor, one after the other."""

    blocks: FileBytes
    block_bytes: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def n_bytes(self) -> int:
        return self.blocks.n_bytes // self.block_bytes * self._width

    @property
    def _width(self) -> int:
        return sum(end - start for start, end in self.ranges)

    @property
    def identity(self) -> str:
        return f"{self.blocks.identity}:fields{list(self.ranges)}of{self.block_bytes}"

    @property
    def local(self) -> bool:
        return True

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, self.blocks.path)
        width = self._width
        first, last = start_byte // width, -(-end_byte // width)
        raw = self.blocks.read(first * self.block_bytes, last * self.block_bytes).reshape(-1, self.block_bytes)
        fields = np.concatenate([raw[:, start:end] for start, end in self.ranges], axis=1).reshape(-1)
        # a copy, so that the first byte is aligned for whatever element format the bytes are viewed as
        return fields[start_byte - first * width : end_byte - first * width].copy()


@dataclass(frozen=True, slots=True)
class Swapped:
    """Bytes of a big-endian file as little-endian items of ``item_bytes``."""

    stored: FileBytes | BlockFields
    item_bytes: int

    @property
    def n_bytes(self) -> int:
        return self.stored.n_bytes

    @property
    def identity(self) -> str:
        return f"{self.stored.identity}:swapped{self.item_bytes}"

    @property
    def local(self) -> bool:
        return True

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, "a big-endian tensor")
        width = self.item_bytes
        first, last = start_byte // width, -(-end_byte // width)
        items = self.stored.read(first * width, last * width).reshape(-1, width)[:, ::-1].reshape(-1)
        return items[start_byte - first * width : end_byte - first * width].copy()


class GgufSource(Source):
    """The tensors of one GGUF file, of all parts of a split model, or of the separate models of a folder.

    ``paths`` are files of one model each, or complete sets of parts one after the other (`linepress.sources.gguf.
    parts`); ``prefixes`` (one a path) stand before the tensors' names.
    """

    def __init__(self, uri: str, paths: Sequence[Path], split: bool = False, prefixes: Sequence[str] = ()) -> None:
        self.uri = uri
        self._split = split
        self._tensors: list[TensorRef] = []
        self._skipped: dict[str, str] = {}
        self._files: list[dict[str, object]] = []
        self._metadata: dict[str, str] = {}
        self.headers: list[GgufHeader] = []
        owner: dict[str, Path] = {}
        for path, prefix in zip(paths, prefixes or [""] * len(paths), strict=True):
            header = read_gguf_header(path)
            self.headers.append(header)
            self._metadata |= header.metadata
            self._files.append({"file": path.name, "size_bytes": header.file_bytes, "header_sha256": header.sha256})
            self._read(header, path, prefix, owner)
        shas = [header.sha256 for header in self.headers]
        joined = hashlib.sha256("\n".join(shas).encode()).hexdigest()
        self.revision = f"sha256:{shas[0] if len(shas) == 1 else joined}"

    def _read(self, header: GgufHeader, path: Path, prefix: str, owner: dict[str, Path]) -> None:
        reached = header.data_start
        infos = sorted(header.tensors, key=lambda info: info.offset)
        starts = [header.data_start + info.offset for info in infos]
        for info, end in zip(infos, [*starts[1:], header.file_bytes], strict=False):
            name = prefix + info.name
            label = f"{path}: tensor {shown(info.name)}"
            if name in owner:
                where = "stands twice" if owner[name] == path else f"is in {owner[name].name} too"
                raise SourceError(f"{label} {where}; write the file again")
            owner[name] = path
            start = header.data_start + info.offset
            kind = _kind(info, end - start, header.alignment)
            if kind is None:
                other = UNMEASURED.get(info.type_id)
                self._skipped[name] = (
                    f"type {other} has no element format"
                    if other
                    else f"unknown ggml type {info.type_id} (known are up to {max(TYPES)})"
                )
                continue
            row = info.dims[0] if info.dims else 1
            if row % kind.block_elements:
                raise SourceError(f"{label}: rows of {row} are not whole {kind.name} blocks; write the file again")
            n_bytes = math.prod(info.dims) // kind.block_elements * kind.block_bytes
            if info.offset % header.alignment or start < reached or start + n_bytes > header.file_bytes:
                raise SourceError(
                    f"{label} lies at bytes {start}…{start + n_bytes} of {header.file_bytes}, misaligned, over "
                    "another tensor or past the end; the file is truncated or lying: copy or download it again"
                )
            reached = start + n_bytes
            if n_bytes == 0:
                self._skipped[name] = f"empty (shape {list(info.dims[::-1])})"
                continue
            self._add(header, name, info.dims or (1,), kind, FileBytes.of(path, start, reached))

    def _add(self, header: GgufHeader, name: str, dims: tuple[int, ...], kind: GgmlType, where: FileBytes) -> None:
        place = place_of(name.rpartition("/")[2])
        said = {
            k: v
            for k, v in header.metadata.items()
            if k.startswith("general.") or k in ("gguf_version", "byte_order")
        }
        rows, row_blocks = tuple(reversed(dims[1:])), dims[0] // kind.block_elements
        parts: list[tuple[str, str, FileBytes | BlockFields, int]] = []
        if self._split and kind.scales:
            rest = _complement(kind.scales, kind.block_bytes)
            scales, quants = (BlockFields(where, kind.block_bytes, ranges) for ranges in (kind.scales, rest))
            parts.append(("#scales", kind.scales_format, scales, _width(kind.scales)))
            parts.append(("#quants", kind.quants_format, quants, _width(rest)))
        else:
            parts.append(("", kind.format, where, kind.block_bytes))
        # blocks of a big-endian file have their scales in that order, which unpacking does not read
        note = "ggml_type_big_endian" if header.big_endian and kind.block_elements > 1 else "ggml_type"
        for suffix, fmt, stored, width in parts:
            item = format_named(fmt).storage.itemsize
            self._tensors.append(
                TensorRef(
                    uri=self.uri,
                    revision=f"sha256:{header.sha256}",
                    name=name + suffix,
                    stored_format=fmt,
                    shape=(*rows, row_blocks * width // item),
                    location=Swapped(stored, item) if header.big_endian and item > 1 else stored,
                    group=place.group,
                    layer=place.layer,
                    kind=place.kind,
                    notes=(*notes_of(said), (note, kind.name)),
                )
            )

    def at_revision(self, revision: str) -> GgufSource:
        """The same source known to be of a commit (a hub snapshot on disk)."""
        self.revision = revision
        self._tensors = [replace(tensor, revision=revision) for tensor in self._tensors]
        return self

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._skipped)

    def provenance(self) -> dict[str, object]:
        return {
            "uri": self.uri,
            "kind": "gguf",
            "revision": self.revision,
            "files": self._files,
            "metadata": self._metadata,
        }


def _kind(info: TensorInfo, room: int, alignment: int) -> GgmlType | None:
    """The type of a tensor; of two layouts under one number, the one that fills ``room``, up to the next tensor."""
    kind, other = TYPES.get(info.type_id), OTHERWISE.get(info.type_id)
    if kind is None or other is None:
        return kind

    def fills(one: GgmlType) -> bool:
        n_bytes = math.prod(info.dims) // one.block_elements * one.block_bytes
        whole = not info.dims or info.dims[0] % one.block_elements == 0
        return whole and n_bytes <= room < n_bytes + alignment

    return other if fills(other) and not fills(kind) else kind


def _width(ranges: tuple[tuple[int, int], ...]) -> int:
    return sum(end - start for start, end in ranges)


def _complement(ranges: tuple[tuple[int, int], ...], n: int) -> tuple[tuple[int, int], ...]:
    """The byte ranges of ``0 … n`` that ``ranges`` (sorted) leaves out."""
    edges = [0, *(edge for pair in ranges for edge in pair), n]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
