"""The second opinion of rule S07: the Rust safetensors library on the very header that was hashed.

The library opens the file anew and maps it, so what it was shown is hashed again afterwards and must be what the own
reader read. (A stand-in in memory, of the header and the size of the file, would be memory that no limit counts.)
"""

from __future__ import annotations

import hashlib
import math
import os
from typing import Any

import safetensors
import safetensors.numpy  # now: the library would import NumPy when doors are shut

from linepress.sources.safetensors.stream import DTYPE_BITS
from linepress.submission.check.header import Tensors
from linepress.submission.check.ledger import name_of

BLOCK_BYTES = 1 << 18


def disagreements(descriptor: int, own: Tensors | None, header_bytes: int, sha256: str) -> list[str]:
    """What the library says otherwise than ``own`` (None: refused by the own reader); empty when they agree.

    Parameters
    ----------
    descriptor : int
        Of the file, open to be read.
    own : Tensors | None
    header_bytes : int
        Of the length and the header together.
    sha256 : str
        Of those bytes, as the own reader read them.
    """
    try:
        opened = safetensors.safe_open(f"/proc/self/fd/{descriptor}", framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        if own is None:
            return []
        return [f"the safetensors library refuses what the own reader takes ({str(error)[:200]})"]
    with opened as file:
        found = ["the safetensors library takes what the own reader refuses"] if own is None else _compare(file, own)
    if _sha256(descriptor, header_bytes) != sha256:
        found.append("the header changed while it was read")
    return found


def _sha256(descriptor: int, n_bytes: int) -> str:
    digest = hashlib.sha256()
    at = 0
    while at < n_bytes and (block := os.pread(descriptor, min(BLOCK_BYTES, n_bytes - at), at)):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


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
