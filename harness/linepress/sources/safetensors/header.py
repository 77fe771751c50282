"""Headers of safetensors files as sources need them: tensors with absolute byte ranges, or one sentence why not.

The reading is that of `stream`; a header that only the library would take is refused here as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from linepress.errors import SourceError
from linepress.sources.safetensors import stream

MAX_HEADER_BYTES = 100_000_000


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
    at = 0

    def pieces() -> bytes:
        nonlocal at
        at += stream.PIECE_BYTES
        return raw[at - stream.PIECE_BYTES : at]

    data_start = 8 + len(raw)
    found = stream.Tensors()
    broken: stream.HeaderError | None = None
    try:
        stream.read_tensors(pieces, file_bytes - data_start, keep_metadata=True, out=found)
    except stream.HeaderError as error:
        broken = error
    except stream.HeaderLimitError as error:
        raise SafetensorsError("HeaderTooLarge", f"{what}: {error}; split the file") from None
    if found.strict:
        # The library takes these; its README does not, and other parsers differ.
        raise SafetensorsError(found.strict_rules[0], f"{what}: {found.strict[0]}; write it again")
    if broken is not None:
        raise SafetensorsError(broken.rule, f"{what}: {broken}; copy, download or write it again")
    entries = tuple(
        Entry(
            found.names[i],
            found.dtypes[i],
            found.shapes[i],
            data_start + found.begins[i],
            data_start + found.ends[i],
        )
        for i in found.by_offset()
    )
    return Header(entries, found.metadata, hashlib.sha256(raw).hexdigest(), len(raw), file_bytes)
