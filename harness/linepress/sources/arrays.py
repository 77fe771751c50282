"""Arrays in memory as tensors: NumPy, ml_dtypes and torch (which is not imported here)."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef
from linepress.sources.bytes import Bytes, check_range
from linepress.sources.groups import place_of

FORMAT_OF_DTYPE: dict[np.dtype[Any], str] = {
    np.dtype(kind): name
    for name, kind in {
        "bf16": ml_dtypes.bfloat16,
        "fp16": np.float16,
        "fp32": np.float32,
        "e4m3": ml_dtypes.float8_e4m3fn,
        "e5m2": ml_dtypes.float8_e5m2,
        "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
        "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        "e8m0": ml_dtypes.float8_e8m0fnu,
        "int8": np.int8,
        "uint8": np.uint8,
        "int16": np.int16,
        "int32": np.int32,
    }.items()
}
"""Element formats by the dtype that holds one element a place."""


@dataclass(frozen=True, slots=True)
class ArrayBytes:
    """The bytes of an array; the array must keep still while it is measured."""

    data: Bytes
    identity: str
    n_bytes: int = field(init=False)
    local: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_bytes", self.data.size)

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, self.identity)
        return self.data[start_byte:end_byte].copy()


class ArraySource(Source):
    """One array, called ``name``; raises `SourceError` for a dtype that no element format covers."""

    def __init__(self, array: Any, name: str = "array", kind: str = "") -> None:
        values, fmt = as_numpy(array)
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        digest = hashlib.sha256(data.data).hexdigest()
        place = place_of(name)
        self.uri, self.revision = f"array:{name}", f"sha256:{digest}"
        self._tensor = TensorRef(
            uri=self.uri,
            revision=self.revision,
            name=name,
            stored_format=fmt,
            shape=tuple(int(n) for n in values.shape),
            location=ArrayBytes(data, f"array:{digest}"),
            group=place.group,
            layer=place.layer,
            kind=kind or place.kind,
        )

    def tensors(self) -> list[TensorRef]:
        return [self._tensor] if self._tensor.n_bytes else []

    def skipped(self) -> dict[str, str]:
        return {} if self._tensor.n_bytes else {self._tensor.name: "empty"}

    def provenance(self) -> dict[str, object]:
        return {"uri": self.uri, "kind": "array", "revision": self.revision}


def as_numpy(array: Any) -> tuple[NDArray[Any], str]:
    """``array`` in memory of this process and the name of its element format.

    Takes a NumPy array of a dtype in `FORMAT_OF_DTYPE` and a torch tensor of such a type on any device. Raises
    `SourceError` otherwise.
    """
    if type(array).__module__.partition(".")[0] == "torch":
        return _of_torch(array)
    if not isinstance(array, np.ndarray):
        raise SourceError(
            f"{type(array).__name__} is no tensor: give a path or URI, a NumPy or ml_dtypes array, or a torch tensor"
        )
    name = FORMAT_OF_DTYPE.get(array.dtype.newbyteorder("="))
    if name is None:
        known = ", ".join(str(dtype) for dtype in FORMAT_OF_DTYPE)
        raise SourceError(f"no element format covers dtype {array.dtype}: use one of {known}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array, name


def _of_torch(tensor: Any) -> tuple[NDArray[Any], str]:
    torch = sys.modules["torch"]  # there is a tensor of it
    flat = tensor.detach().cpu().contiguous()
    names = {
        getattr(torch, attribute): dtype
        for attribute, dtype in {
            "bfloat16": ml_dtypes.bfloat16,
            "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
            "float8_e5m2": ml_dtypes.float8_e5m2,
            "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
            "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        }.items()
        if hasattr(torch, attribute)
    }
    if flat.dtype in names:
        return as_numpy(flat.view(torch.uint8).numpy().view(names[flat.dtype]).reshape(tuple(tensor.shape)))
    return as_numpy(flat.numpy())
