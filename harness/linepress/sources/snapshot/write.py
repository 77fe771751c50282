"""Writing snapshots: header, then one tensor after the other, under a temporary name until it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.safetensors.header import parse_header
from linepress.sources.safetensors.stream import DTYPE_BITS
from linepress.sources.snapshot.format import FORMAT_VERSION, TABLES, check_snapshot, is_snapshot

DTYPE_OF_FORMAT = {
    "bf16": "BF16", "fp16": "F16", "fp32": "F32", "e4m3": "F8_E4M3", "e5m2": "F8_E5M2", "e4m3fnuz": "F8_E4M3FNUZ",
    "e5m2fnuz": "F8_E5M2FNUZ", "int8": "I8",
    "uint8": "U8",
}  # fmt: skip


def write_tensors(
    path: Path, tensors: Mapping[str, tuple[str, NDArray[np.generic]]], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file of (element format, array of stored bits or values) by name.

    Arrays are little-endian and written in the order given (wider elements first, as the format asks); ``int32``
    tables take the format name ``int32``. Bytes are a function of the arguments alone. Raises `SourceError` for a
    format or an item size that do not fit.
    """
    dtypes = {**DTYPE_OF_FORMAT, "int32": "I32"}
    sizes = {name: DTYPE_BITS[name] // 8 for name in dtypes.values()}
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    order = sorted(tensors, key=lambda name: -tensors[name][1].dtype.itemsize)
    for name in order:
        fmt, array = tensors[name]
        dtype = dtypes.get(fmt)
        if dtype is None or sizes[dtype] != array.dtype.itemsize:
            raise SourceError(f"{path}: tensor {name!r} of {array.dtype} cannot be written as {fmt}")
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    checked = parse_header(text, 8 + len(text) + at, str(path))
    if is_snapshot(checked):
        check_snapshot(checked, str(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                file.write(np.ascontiguousarray(tensors[name][1]).data.cast("B"))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_snapshot(
    path: Path,
    caches: Mapping[str, tuple[str, NDArray[np.unsignedinteger]]],
    metadata: Mapping[str, str],
    tables: Mapping[str, NDArray[np.int32]] | None = None,
) -> None:
    """Write a snapshot of cache tensors and tables; what it states is checked before anything is written."""
    for name in tables or {}:
        if name not in TABLES:
            raise SourceError(f"{path}: a snapshot has no table {name!r}; it has {', '.join(TABLES)}")
    tensors: dict[str, tuple[str, NDArray[np.generic]]] = {
        **{name: ("int32", np.asarray(table, np.int32)) for name, table in (tables or {}).items()},
        **caches,
    }
    write_tensors(path, tensors, {"snapshot_version": FORMAT_VERSION, **metadata})
