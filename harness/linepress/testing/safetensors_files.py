"""Safetensors files written byte by byte, true or lying, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def pack(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Length, header and body, with a length other than the header's where ``length`` is given."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def header_of(entries: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """JSON header padded with spaces to eight bytes; entries as they stand."""
    document = {**({"__metadata__": dict(metadata)} if metadata else {}), **entries}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def build(tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A true file of (dtype, shape, bytes) by name, in the order given."""
    entries: dict[str, Any] = {}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return pack(header_of(entries, metadata), body)
