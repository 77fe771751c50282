"""The second opinion of rule S07: the Rust safetensors library on the very header that was hashed.

The library maps files, and a mapped file can change underneath. So it is given an anonymous file in memory that holds
the header as it was read, stretched to the size of the real file without data: the library checks headers and sizes
only, takes no memory for the data, and cannot be shown other bytes than the reader of `header` saw.
"""

from __future__ import annotations

import math
import os
from typing import Any

import safetensors

from linepress.sources.safetensors.header import DTYPE_BITS
from linepress.submission.check.header import Tensors
from linepress.submission.check.ledger import name_of


class HeaderCopy:
    """Length and header of a file in an anonymous file of the same size."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("header")

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes of the header."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def close(self) -> None:
        os.close(self.descriptor)

    def disagreements(self, own: Tensors | None, file_bytes: int) -> list[str]:
        """What the library says otherwise than ``own`` (None: refused by the own reader); empty when they agree."""
        os.ftruncate(self.descriptor, file_bytes)
        try:
            opened = safetensors.safe_open(f"/proc/self/fd/{self.descriptor}", framework="numpy")
        except (safetensors.SafetensorError, OSError) as error:
            if own is None:
                return []
            return [f"the safetensors library refuses what the own reader takes ({str(error)[:200]})"]
        with opened as file:
            if own is None:
                return ["the safetensors library takes what the own reader refuses"]
            return _compare(file, own)


def _compare(file: Any, own: Tensors) -> list[str]:
    order = file.offset_keys()
    if len(order) != len(own.names):
        return [f"the own reader finds {len(own.names)} tensors, the safetensors library {len(order)}"]
    expected = {own.names[i]: i for i in range(len(own.names))}
    found: list[str] = []
    reached = 0
    for name in order:
        part = file.get_slice(name)
        shape, dtype = tuple(part.get_shape()), part.get_dtype()
        # The library itself enforces begin = previous end, so its order gives its offsets.
        begin, reached = reached, reached + math.prod(shape) * DTYPE_BITS[dtype] // 8
        i = expected.get(name)
        if i is None:
            found.append(f"the safetensors library finds tensor {name_of(name)}, the own reader does not")
        elif (own.dtypes[i], own.shapes[i], own.begins[i], own.ends[i]) != (dtype, shape, begin, reached):
            found.append(f"the readers disagree on tensor {name_of(name)}")
    return found
