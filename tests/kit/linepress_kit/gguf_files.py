"""Small GGUF files for tests, byte by byte and independent of the reader (ggml ``docs/gguf.md``, version 3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def gguf_text(value: str) -> bytes:
    """A length-prefixed text."""
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def build_gguf(
    tensors: Sequence[tuple[str, list[int], int, bytes]],
    *,
    text_keys: Mapping[str, str] | None = None,
    keys: Sequence[bytes] | None = None,
    version: int = 3,
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
    offsets: Sequence[int] | None = None,
) -> bytes:
    """A file of (name, dims with the fastest first, ggml type id, bytes), with texts or, byte by byte, other keys.

    ``counts`` (tensors, keys) and ``offsets`` (of each tensor in the data) are the header's claims, else true.
    """
    if keys is None:
        texts = {"general.name": "tiny"} if text_keys is None else text_keys
        keys = [gguf_text(k) + struct.pack("<I", 8) + gguf_text(v) for k, v in texts.items()]
    out = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(keys)))) + b"".join(keys)
    body = b""
    for i, (name, dims, kind, data) in enumerate(tensors):
        at = offsets[i] if offsets else len(body)
        out += gguf_text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, at)
        body += data + bytes(-len(data) % alignment)
    return out + bytes(-len(out) % alignment) + body
