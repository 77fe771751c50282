"""Small GGUF files for tests, byte by byte and independent of the reader (ggml ``docs/gguf.md``, version 3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def gguf_text(value: str) -> bytes:
    """A length-prefixed text."""
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def build_gguf(
    tensors: Sequence[tuple[str, list[int], int, bytes]], *, text_keys: Mapping[str, str] | None = None
) -> bytes:
    """A file of (name, dims with the fastest first, ggml type id, bytes), aligned to 32 B."""
    keys = {"general.name": "tiny"} if text_keys is None else text_keys
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    out += b"".join(gguf_text(k) + struct.pack("<I", 8) + gguf_text(v) for k, v in keys.items())
    body = b""
    for name, dims, kind, data in tensors:
        out += gguf_text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
        body += data + bytes(-len(data) % 32)
    return out + bytes(-len(out) % 32) + body
