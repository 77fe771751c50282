"""JSON of strangers: size and depth bounded before it is parsed, every key once."""

from __future__ import annotations

import re
from typing import Any

from linepress.sources.text import StrictJsonError, strict_json

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def depth_of(raw: bytes, limit: int) -> int:
    """Deepest nesting of brackets outside strings, counted no further than ``limit`` + 1."""
    depth = deepest = 0
    for token in _TOKEN.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > limit:
                return deepest
        elif first in b"]}":
            depth -= 1
    return deepest


def bounded_json(raw: bytes, max_bytes: int, max_depth: int) -> Any:
    """The value of ``raw``; raises `StrictJsonError` over the limits, for duplicate keys and for what is not JSON."""
    if len(raw) > max_bytes:
        raise StrictJsonError(f"{len(raw)} B, over the limit of {max_bytes} B")
    if depth_of(raw, max_depth) > max_depth:
        raise StrictJsonError(f"nested over {max_depth} levels deep")
    return strict_json(raw)
