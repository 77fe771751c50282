"""Options that the tANS codecs share: dataclass fields with help, choices and spelling."""

from __future__ import annotations

from dataclasses import field
from typing import Any

AUTO = -1


def parse_auto(text: str) -> int:
    """``auto`` or a number of bits; raises ValueError otherwise."""
    return AUTO if text == "auto" else int(text)


def show_auto(value: int) -> str:
    return "auto" if value == AUTO else str(value)


def streams(default: int) -> Any:
    """Field ``streams``."""
    text = "sub-streams with a state each, sharing one bit string: decode takes elements / streams steps"
    return field(default=default, metadata={"help": text, "choices": (1, 2, 4, 8)})


def precision(default: int) -> Any:
    """Field ``precision``."""
    text = "bits of a tANS state: tables have 2^precision entries; more is nearer to the entropy"
    return field(default=default, metadata={"help": text, "choices": (9, 10, 11, 12)})


def tables(default: int) -> Any:
    """Field ``tables``."""
    return field(default=default, metadata={"help": "tables a tensor, chosen per line", "choices": (1, 2, 4, 8, 16)})


def mantissa(default: int) -> Any:
    """Field ``mantissa``."""
    text = "top mantissa bits coded with the exponent; auto: as many as pay on the tensor"
    return field(
        default=default,
        metadata={"help": text, "choices": (AUTO, 0, 1, 2, 3), "parse": parse_auto, "show": show_auto},
    )
