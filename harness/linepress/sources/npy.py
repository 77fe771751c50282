"""NumPy ``.npy`` files: one array, its header read as a literal and never evaluated or unpickled.

Format: numpy/lib/format.py, versions 1.0 to 3.0. bf16 and fp8 arrays, which NumPy stores as opaque ``V2`` and ``V1``
or as integers, need their element format said: ``open_source("x.npy", dtype="bf16")``.
"""

from __future__ import annotations

import ast
import hashlib
import math
import os
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef
from linepress.sources.bytes import FileBytes, pread
from linepress.sources.groups import place_of
from linepress.sources.text import shown
from linepress_codecs.formats import FORMATS

MAX_HEADER_BYTES = 1 << 16
_FORMAT_OF_DESCR = {
    "<f2": "fp16", "<f4": "fp32", "|i1": "int8", "|u1": "uint8", "<i2": "int16", "<u2": "int16", "<i4": "int32",
    "<u4": "int32",
}  # fmt: skip
_OPAQUE_WIDTH = {"|V1": 1, "<V1": 1, "|V2": 2, "<V2": 2, "|u1": 1, "|i1": 1, "<u2": 2, "<i2": 2, "<u4": 4, "<i4": 4}


class NpySource(Source):
    """One array, called by the file's stem."""

    def __init__(self, uri: str, path: Path, dtype: str | None = None) -> None:
        self.uri = uri
        descr, shape, data_start, size, header = _read_header(path)
        fmt = _format(descr, dtype, str(path))
        n_bytes = math.prod(shape) * FORMATS[fmt].storage.itemsize
        if data_start + n_bytes != size:
            raise SourceError(
                f"{path}: shape {list(shape)} of {descr} needs {data_start + n_bytes} B but the file has {size} B; "
                "copy or save it again"
            )
        self.revision = f"sha256:{hashlib.sha256(header).hexdigest()}"
        self._file = {"file": path.name, "size_bytes": size, "header_sha256": self.revision[7:]}
        place = place_of(path.stem)
        self._tensors = [
            TensorRef(
                uri=uri,
                revision=self.revision,
                name=path.stem,
                stored_format=fmt,
                shape=shape,
                location=FileBytes.of(path, data_start, size),
                group=place.group,
                layer=place.layer,
                kind=place.kind,
                notes=(("descr", descr),),
            )
        ]
        if not n_bytes:
            self._tensors = []
        self._empty = {} if n_bytes else {path.stem: f"empty (shape {list(shape)})"}

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._empty)

    def provenance(self) -> dict[str, object]:
        return {"uri": self.uri, "kind": "npy", "revision": self.revision, "files": [self._file]}


def _format(descr: str, dtype: str | None, what: str) -> str:
    if dtype is not None:
        fmt = FORMATS.get(dtype)
        if fmt is None or _OPAQUE_WIDTH.get(descr) != fmt.storage.itemsize:
            raise SourceError(f"{what} holds {descr}, which cannot be read as {shown(dtype)}; name one of its width")
        return dtype
    if descr in _FORMAT_OF_DESCR:
        return _FORMAT_OF_DESCR[descr]
    if descr in _OPAQUE_WIDTH:
        raise SourceError(f"{what} holds opaque {descr} elements; say what they are, for example dtype=bf16")
    if "O" in descr:
        raise SourceError(f"{what} holds Python objects (a pickle), which are never loaded; save a numeric array")
    if descr.startswith(">"):
        raise SourceError(f"{what} is big-endian ({descr}); save it with array.astype('<{descr[1:]}')")
    raise SourceError(
        f"{what} holds {shown(descr)}, which no element format covers: use {', '.join(_FORMAT_OF_DESCR)} or raw bits"
    )


def _read_header(path: Path) -> tuple[str, tuple[int, ...], int, int, bytes]:
    """(descr, shape, first data byte, file size, header bytes)."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        size = os.fstat(descriptor).st_size
        head = pread(descriptor, 0, min(size, 12), str(path)).tobytes()
        wide = len(head) > 6 and head[6] >= 2
        start = 12 if wide else 10
        if len(head) < start or head[6] not in (1, 2, 3):
            raise SourceError(f"{path} is truncated or of an unknown .npy version; save it again")
        n = int.from_bytes(head[8:start], "little")
        if n > MAX_HEADER_BYTES or start + n > size:
            raise SourceError(f"{path} claims a header of {n} B; it is truncated or not a .npy file")
        header = pread(descriptor, start, n, str(path)).tobytes()
    finally:
        os.close(descriptor)
    try:
        fields = ast.literal_eval(header.decode("utf-8" if head[6] == 3 else "latin1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        raise SourceError(f"{path}: its header is not that of a .npy file; save it again") from None
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise SourceError(f"{path}: its header states an impossible shape; save it again")
    if not isinstance(descr, str):
        raise SourceError(f"{path} holds structured records; save each field as an array of its own")
    if fortran is True and len(shape) > 1:
        raise SourceError(f"{path} is in Fortran order; save it with numpy.ascontiguousarray")
    return descr, shape, start + n, size, header
