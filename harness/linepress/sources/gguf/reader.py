"""GGUF files, read as stored by an own header reader.

Layout: ggml's ``docs/gguf.md`` (versions 2 and 3, little-endian). F32, F16 and BF16 tensors are element formats;
block-quantised tensors are opaque bytes coded as they lie (``uint8``); the cast ``dequant:bf16`` unpacks them. With
``split=True`` each block-quantised tensor becomes two, ``name#scales`` and ``name#quants``, gathered from its blocks.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef, notes_of
from linepress.sources.bytes import Bytes, FileBytes, check_range, pread
from linepress.sources.gguf.ggml import TYPES, GgmlType
from linepress.sources.groups import place_of
from linepress.sources.text import shown
from linepress_codecs.formats import format_named

MAX_TENSORS = 1_000_000
MAX_KEYS = 100_000
MAX_TEXT_BYTES = 1 << 24
MAX_HEADER_BYTES = 1 << 28
_SCALAR = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9


_UNMEASURED = {27: "I64", 28: "F64"}


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


class GgufSource(Source):
    """The tensors of one GGUF file."""

    def __init__(self, uri: str, path: Path, split: bool = False) -> None:
        self.uri = uri
        reader = _Reader(path)
        try:
            self._read(reader, path, split)
        finally:
            reader.close()

    def _read(self, reader: _Reader, path: Path, split: bool) -> None:
        version, n_tensors, n_keys = reader.preamble()
        metadata = dict(item for _ in range(n_keys) if (item := reader.key_value()) is not None)
        infos = [reader.tensor_info() for _ in range(n_tensors)]
        stated = metadata.get("general.alignment", "32")
        alignment = int(stated) if stated.isdecimal() and len(stated) < 8 else 0
        if alignment < 8 or alignment % 8:
            raise SourceError(
                f"{path}: general.alignment is {shown(stated)}, not a multiple of 8; write the file again"
            )
        data_start = -(-reader.at // alignment) * alignment
        self.revision = f"sha256:{reader.sha256()}"
        self._metadata = {"gguf_version": str(version), **metadata}
        self._file = {"file": path.name, "size_bytes": reader.size, "header_sha256": self.revision[7:]}
        self._tensors: list[TensorRef] = []
        self._skipped: dict[str, str] = {}
        names: set[str] = set()
        reached = data_start
        for name, dims, type_id, offset in sorted(infos, key=lambda info: info[3]):
            label = f"{path}: tensor {shown(name)}"
            if name in names:
                raise SourceError(f"{label} stands twice; write the file again")
            names.add(name)
            if type_id in _UNMEASURED:
                self._skipped[name] = f"type {_UNMEASURED[type_id]} has no element format"
                continue
            kind = TYPES.get(type_id)
            if kind is None:
                raise SourceError(f"{label} has the unknown ggml type {type_id}; known are {', '.join(_names())}")
            elements = math.prod(dims)
            if dims[0] % kind.block_elements:
                raise SourceError(
                    f"{label}: rows of {dims[0]} are not whole {kind.name} blocks; write the file again"
                )
            n_bytes = elements // kind.block_elements * kind.block_bytes
            start = data_start + offset
            if offset % alignment or start < reached or start + n_bytes > reader.size:
                raise SourceError(
                    f"{label} lies at bytes {start}…{start + n_bytes} of {reader.size}, misaligned, over another "
                    "tensor or past the end; the file is truncated or lying: copy or download it again"
                )
            reached = start + n_bytes
            if n_bytes == 0:
                self._skipped[name] = f"empty (shape {list(dims[::-1])})"
                continue
            self._add(name, dims, kind, FileBytes.of(path, start, reached), split)

    def _add(self, name: str, dims: tuple[int, ...], kind: GgmlType, where: FileBytes, split: bool) -> None:
        place = place_of(name)
        said = {k: v for k, v in self._metadata.items() if k.startswith("general.") or k == "gguf_version"}
        rows, row_blocks = tuple(reversed(dims[1:])), dims[0] // kind.block_elements
        parts: list[tuple[str, str, FileBytes | BlockFields, int]] = []
        if split and kind.scales:
            rest = _complement(kind.scales, kind.block_bytes)
            scales, quants = (BlockFields(where, kind.block_bytes, ranges) for ranges in (kind.scales, rest))
            parts.append(("#scales", kind.scales_format, scales, _width(kind.scales)))
            parts.append(("#quants", kind.quants_format, quants, _width(rest)))
        else:
            parts.append(("", kind.format, where, kind.block_bytes))
        for suffix, fmt, location, width in parts:
            self._tensors.append(
                TensorRef(
                    uri=self.uri,
                    revision=self.revision,
                    name=name + suffix,
                    stored_format=fmt,
                    shape=(*rows, row_blocks * width // format_named(fmt).storage.itemsize),
                    location=location,
                    group=place.group,
                    layer=place.layer,
                    kind=place.kind,
                    notes=(*notes_of(said), ("ggml_type", kind.name)),
                )
            )

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._skipped)

    def provenance(self) -> dict[str, object]:
        return {
            "uri": self.uri,
            "kind": "gguf",
            "revision": self.revision,
            "files": [self._file],
            "metadata": self._metadata,
        }


def _names() -> list[str]:
    return [kind.name for kind in TYPES.values()]


def _width(ranges: tuple[tuple[int, int], ...]) -> int:
    return sum(end - start for start, end in ranges)


def _complement(ranges: tuple[tuple[int, int], ...], n: int) -> tuple[tuple[int, int], ...]:
    """The byte ranges of ``0 … n`` that ``ranges`` (sorted) leaves out."""
    edges = [0, *(edge for pair in ranges for edge in pair), n]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


class _Reader:
    """The header of a GGUF file, read forward in buffered steps; every length is checked before it is used."""

    STEP = 1 << 20

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self._descriptor).st_size
        self.at = 0
        self._buffer = b""
        self._base = 0
        self._hash = hashlib.sha256()

    def close(self) -> None:
        os.close(self._descriptor)

    def sha256(self) -> str:
        """sha256 of the header bytes read so far."""
        return self._hash.hexdigest()

    def take(self, n: int) -> bytes:
        limit = min(self.size, MAX_HEADER_BYTES)
        if self.at + n > limit:
            raise SourceError(f"{self.path}: the header runs past {limit} B; the file is truncated or lying")
        while self.at + n > self._base + len(self._buffer):
            self._buffer = self._buffer[self.at - self._base :]
            self._base = self.at
            start = self._base + len(self._buffer)
            more = pread(self._descriptor, start, min(max(n, self.STEP), self.size - start), str(self.path))
            self._buffer += more.tobytes()
        out = self._buffer[self.at - self._base : self.at - self._base + n]
        self.at += n
        self._hash.update(out)
        return out

    def number(self, code: str) -> int:
        value = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return int(value)

    def text(self) -> str:
        n = self.number("<Q")
        if n > MAX_TEXT_BYTES:
            raise SourceError(f"{self.path}: a text of {n} B in the header; the file is not what it claims to be")
        return self.take(n).decode("utf-8", "replace")

    def preamble(self) -> tuple[int, int, int]:
        magic, version = self.take(4), self.number("<I")
        if magic != b"GGUF" or version not in (2, 3):
            raise SourceError(
                f"{self.path}: GGUF version {version} is not read (2 and 3 are, little-endian); convert it"
            )
        tensors, keys = self.number("<Q"), self.number("<Q")
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise SourceError(f"{self.path} claims {tensors} tensors and {keys} keys; it is not what it claims to be")
        return version, tensors, keys

    def key_value(self) -> tuple[str, str] | None:
        """One key with its scalar or short text as text; None for arrays, which are passed over."""
        key, kind = self.text(), self.number("<I")
        if kind in _SCALAR:
            return key[:200], str(struct.unpack(_SCALAR[kind], self.take(struct.calcsize(_SCALAR[kind])))[0])
        if kind == _TEXT:
            return key[:200], self.text()[:200]
        if kind == _ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            if item in _SCALAR:
                width = struct.calcsize(_SCALAR[item])
                for start in range(0, count * width, self.STEP):
                    self.take(min(self.STEP, count * width - start))
                return None
            if item == _TEXT and count * 8 <= self.size:
                for _ in range(count):
                    self.text()
                return None
        raise SourceError(f"{self.path}: key {shown(key)} has a value of unknown type {kind}; write the file again")

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, dims with the fastest first, type id, offset in the data)."""
        name, rank = self.text(), self.number("<I")
        if not 1 <= rank <= 4 or not 1 <= len(name) <= 512 or not name.isprintable():
            raise SourceError(
                f"{self.path}: tensor {shown(name)} has {rank} axes or an unprintable name; write it again"
            )
        dims = tuple(self.number("<Q") for _ in range(rank))
        if math.prod(max(n, 1) for n in dims) >= 2**48:
            raise SourceError(f"{self.path}: tensor {shown(name)} of shape {list(dims)} is larger than any file")
        return name, dims, self.number("<I"), self.number("<Q")
