"""The header of a GGUF file: metadata and where each tensor lies, read forward and checked as it goes.

Layout: ggml's ``docs/gguf.md``, versions 2 and 3, either byte order; arrays may hold arrays, a tensor no axis.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.bytes import pread
from linepress.sources.text import shown

MAX_TENSORS = 1_000_000
MAX_KEYS = 100_000
MAX_TEXT_BYTES = 1 << 24
MAX_HEADER_BYTES = 1 << 28
MAX_AXES = 4
MAX_NESTING = 8
_SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the header states it: dims with the fastest first, offset in the data."""

    name: str
    dims: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A read header. ``metadata`` has scalars and short texts as text; arrays are passed over."""

    version: int
    big_endian: bool
    metadata: dict[str, str]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    alignment: int
    file_bytes: int
    sha256: str

    def number(self, key: str) -> int | None:
        """A key that holds a count, None where it is absent or no count."""
        text = self.metadata.get(key, "")
        return int(text) if text.isdecimal() and len(text) < 12 else None


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of one file; raises `SourceError` for anything it cannot be."""
    reader = _Reader(path)
    try:
        version, n_tensors, n_keys = reader.preamble()
        metadata = dict(item for _ in range(n_keys) if (item := reader.key_value()) is not None)
        tensors = tuple(reader.tensor_info() for _ in range(n_tensors))
        stated = metadata.get("general.alignment", "32")
        alignment = int(stated) if stated.isdecimal() and len(stated) < 8 else 0
        if alignment < 8 or alignment % 8:
            raise SourceError(
                f"{path}: general.alignment is {shown(stated)}, not a multiple of 8; write the file again"
            )
        start = -(-reader.at // alignment) * alignment
        metadata = {"gguf_version": str(version), **metadata}
        if reader.order == ">":
            metadata["byte_order"] = "big-endian"
        return GgufHeader(
            version, reader.order == ">", metadata, tensors, start, alignment, reader.size, reader.sha256()
        )
    finally:
        reader.close()


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
        self.order = "<"

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
        value = struct.unpack(self.order + code, self.take(struct.calcsize("<" + code)))[0]
        return int(value)

    def text(self) -> str:
        n = self.number("Q")
        if n > MAX_TEXT_BYTES:
            raise SourceError(f"{self.path}: a text of {n} B in the header; the file is not what it claims to be")
        return self.take(n).decode("utf-8", "replace")

    def preamble(self) -> tuple[int, int, int]:
        magic, raw = self.take(4), self.take(4)
        # as ggml's own reader tells: a version whose lower half is empty was written in the other byte order
        self.order = ">" if int.from_bytes(raw, "little") & 0xFFFF == 0 else "<"
        version = struct.unpack(self.order + "I", raw)[0]
        if magic != b"GGUF" or version not in (2, 3):
            raise SourceError(f"{self.path}: GGUF version {version} is not read (2 and 3 are); convert it")
        tensors, keys = self.number("Q"), self.number("Q")
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise SourceError(f"{self.path} claims {tensors} tensors and {keys} keys; it is not what it claims to be")
        return version, tensors, keys

    def key_value(self) -> tuple[str, str] | None:
        """One key with its scalar or short text as text; None for arrays, which are passed over."""
        key, kind = self.text(), self.number("I")
        if kind in _SCALAR:
            code = self.order + _SCALAR[kind]
            return key[:200], str(struct.unpack(code, self.take(struct.calcsize(code)))[0])
        if kind == _TEXT:
            return key[:200], self.text()[:200]
        self._pass_over(key, kind, 0)
        return None

    def _pass_over(self, key: str, kind: int, depth: int) -> None:
        """Go past an array of scalars, texts or further arrays."""
        if kind != _ARRAY or depth >= MAX_NESTING:
            what = f"arrays nested {depth} deep" if kind == _ARRAY else f"a value of unknown type {kind}"
            raise SourceError(f"{self.path}: key {shown(key)} has {what}; write the file again")
        item, count = self.number("I"), self.number("Q")
        if item in _SCALAR:
            width = struct.calcsize("<" + _SCALAR[item])
            if count * width > self.size:
                self.take(count * width)  # says that the header runs past the file
            for start in range(0, count * width, self.STEP):
                self.take(min(self.STEP, count * width - start))
            return
        if count * 8 > self.size:
            raise SourceError(
                f"{self.path}: key {shown(key)} claims {count} items of type {item}; the file is truncated or lying"
            )
        for _ in range(count):
            if item == _TEXT:
                self.text()
            else:
                self._pass_over(key, item, depth + 1)

    def tensor_info(self) -> TensorInfo:
        name, rank = self.text(), self.number("I")
        if rank > MAX_AXES or not 1 <= len(name) <= 512 or not name.isprintable():
            raise SourceError(
                f"{self.path}: tensor {shown(name)} has {rank} axes or an unprintable name; write it again"
            )
        dims = tuple(self.number("Q") for _ in range(rank))
        if math.prod(max(n, 1) for n in dims) >= 2**48:
            raise SourceError(f"{self.path}: tensor {shown(name)} of shape {list(dims)} is larger than any file")
        return TensorInfo(name, dims, self.number("I"), self.number("Q"))
