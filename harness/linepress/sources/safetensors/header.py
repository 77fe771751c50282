"""A strict reader of safetensors headers: bytes in, tensors with absolute byte ranges out.

Implements the checks of safetensors' own parser (`safetensors/src/tensor.rs` at 1b0fe9c) under its error names and is
stricter where its README promises what its parser lets through: the header begins with ``{``, is padded with spaces
only, and names everything once; no unknown fields; rank at most 8; names are printable and do not climb out of a
folder. Nothing is allocated from a number the header states before that number has been checked.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from linepress.errors import SourceError
from linepress.sources.text import StrictJsonError, shown, strict_json

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 8
MAX_DIMENSION = 2**63 - 1
MAX_NAME = 512

DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


class SafetensorsError(SourceError):
    """A safetensors file that is not one. ``rule`` is the name of the broken rule, stable for programs."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a header; ``start`` and ``end`` count from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. Entries are in the order of their bytes."""

    entries: tuple[Entry, ...]
    metadata: dict[str, str]
    sha256: str
    header_bytes: int
    file_bytes: int


def header_length(first8: bytes, file_bytes: int, what: str) -> int:
    """Length of the header in bytes, checked against the cap and the size of the file."""
    if file_bytes == 0:
        raise SafetensorsError("HeaderTooSmall", f"{what} is empty; copy or download it again")
    if file_bytes < 8 or len(first8) < 8:
        raise SafetensorsError("HeaderTooSmall", f"{what} has {file_bytes} B, fewer than a safetensors header takes")
    n = int.from_bytes(first8[:8], "little")
    if n > MAX_HEADER_BYTES:
        raise SafetensorsError(
            "HeaderTooLarge",
            f"{what} claims a header of {n} B, over the limit of {MAX_HEADER_BYTES} B; it is not a safetensors file",
        )
    if 8 + n > file_bytes:
        raise SafetensorsError(
            "InvalidHeaderLength",
            f"{what} claims a header of {n} B but has {file_bytes} B in all; it is truncated or not safetensors",
        )
    return n


def parse_header(raw: bytes, file_bytes: int, what: str) -> Header:
    """Check the header ``raw`` (without its 8 length bytes) of a file of ``file_bytes`` bytes."""
    document = _document(raw, what)
    metadata = _metadata(document.pop("__metadata__", {}), what)
    data_start = 8 + len(raw)
    entries = sorted(
        (_entry(name, body, data_start, what) for name, body in document.items()), key=lambda e: (e.start, e.end)
    )
    _geometry(entries, data_start, file_bytes, what)
    return Header(tuple(entries), metadata, hashlib.sha256(raw).hexdigest(), len(raw), file_bytes)


def _document(raw: bytes, what: str) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise SafetensorsError("InvalidHeaderStart", f"{what}: the header does not begin with '{{'; write it again")
    body = raw.rstrip(b" ")
    if not body.endswith(b"}"):
        raise SafetensorsError(
            "InvalidHeaderPadding", f"{what}: the header is not a JSON object padded with spaces; write it again"
        )
    try:
        document = strict_json(body)
    except StrictJsonError as error:
        raise SafetensorsError("InvalidHeaderDeserialization", f"{what}: header: {error}; write it again") from None
    if not isinstance(document, dict):
        raise SafetensorsError("InvalidHeaderDeserialization", f"{what}: the header is not a JSON object")
    return document


def _metadata(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise SafetensorsError("InvalidMetadata", f"{what}: __metadata__ must map text to text")
    return value


def _entry(name: str, body: Any, data_start: int, what: str) -> Entry:
    label = f"{what}: tensor {shown(name)}"
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or ".." in name.replace("\\", "/").split("/"):
        raise SafetensorsError(
            "InvalidName", f"{label}: a name has 1 to {MAX_NAME} printable characters and no '..'; rename the tensor"
        )
    if not isinstance(body, dict) or set(body) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError("InvalidTensorFields", f"{label} must have dtype, shape and data_offsets only")
    dtype, shape, offsets = body["dtype"], body["shape"], body["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise SafetensorsError(
            "UnknownDtype", f"{label} has the unknown dtype {shown(str(dtype))}: known are {', '.join(DTYPE_BITS)}"
        )
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side <= MAX_DIMENSION for side in shape):
        raise SafetensorsError("InvalidShape", f"{label}: shape must be a list of integers from 0 to 2^63 - 1")
    if len(shape) > MAX_RANK:
        raise SafetensorsError("RankTooLarge", f"{label} has {len(shape)} axes; at most {MAX_RANK} are taken")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(o) is int and o >= 0 for o in offsets):
        raise SafetensorsError("InvalidOffset", f"{label}: data_offsets must be two integers from 0 up")
    # the sides are checked as if zeros were ones, so that a zero cannot hide a product that overflows
    if math.prod(max(side, 1) for side in shape) * DTYPE_BITS[dtype] > MAX_DIMENSION:
        raise SafetensorsError("ValidationOverflow", f"{label}: shape {shape} is larger than any file")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8:
        raise SafetensorsError("MisalignedSlice", f"{label}: {bits} bits do not fill whole bytes")
    begin, end = offsets
    if end < begin:
        raise SafetensorsError("InvalidOffset", f"{label} ends (byte {end}) before it begins (byte {begin})")
    if end - begin != bits // 8:
        raise SafetensorsError(
            "TensorInvalidInfo", f"{label}: {dtype} {shape} is {bits // 8} B but its offsets span {end - begin} B"
        )
    return Entry(name, dtype, tuple(shape), data_start + begin, data_start + end)


def _geometry(entries: list[Entry], data_start: int, file_bytes: int, what: str) -> None:
    reached = data_start
    for entry in entries:
        if entry.end > file_bytes:
            raise SafetensorsError(
                "MetadataIncompleteBuffer",
                f"{what}: tensor {shown(entry.name)} ends at byte {entry.end} but the file has {file_bytes} B; "
                "it is truncated: copy or download it again",
            )
        if entry.start != reached:
            wrong = "overlaps the tensor before it" if entry.start < reached else "leaves a hole before it"
            raise SafetensorsError(
                "InvalidOffset", f"{what}: tensor {shown(entry.name)} {wrong} (byte {entry.start}, not {reached})"
            )
        reached = entry.end
    if reached != file_bytes:
        raise SafetensorsError(
            "MetadataIncompleteBuffer",
            f"{what}: {file_bytes - reached} B follow the last tensor; the file is not what its header says",
        )
