"""Names out of foreign files made fit to print, and strict JSON: no duplicate keys, no NaN, bounded depth."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def shown(text: str, width: int = 80) -> str:
    """``text`` quoted, control characters escaped, cut at ``width`` characters: safe in a log or a terminal."""
    quoted = "'" + "".join(c if c.isprintable() and c != "\\" else ascii(c)[1:-1] for c in text[: width + 1]) + "'"
    return quoted if len(text) <= width else quoted[: width + 1] + "…'"


class StrictJsonError(ValueError):
    """JSON that is not one value of plain JSON, each key once. The message says what is wrong."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise StrictJsonError(f"key {shown(key)} stands twice")
        out[key] = value
    return out


def _no_constant(text: str) -> NoReturn:
    raise StrictJsonError(f"{text} is not JSON")


def strict_json(raw: bytes) -> Any:
    """The value of a UTF-8 JSON document; raises `StrictJsonError` on anything else."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"not UTF-8 at byte {error.start}") from None
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError(f"not valid JSON ({error})") from None
