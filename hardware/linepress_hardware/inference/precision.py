"""Bits of a weight, an activation and a KV element, and the printed form ``w16a16kv16``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from linepress_hardware.errors import ConfigurationError

_FORM = re.compile(r"w(\d+(?:\.\d+)?)a(\d+(?:\.\d+)?)(?:kv(\d+(?:\.\d+)?))?\Z")
_MIN_BITS, _MAX_BITS = 1.0, 64.0


@dataclass(frozen=True)
class Precision:
    """Bits an element; bytes are bits / 8 and need not be whole (``w4`` is half a byte)."""

    weight_bits: float = 16.0
    activation_bits: float = 16.0
    kv_bits: float = 16.0

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "kv_bits"):
            bits = getattr(self, name)
            if not _MIN_BITS <= bits <= _MAX_BITS:
                raise ConfigurationError(f"{name} is {bits:g}; give 1 to 64 bits, for instance w16a16kv16")

    @property
    def weight_bytes(self) -> float:
        return self.weight_bits / 8

    @property
    def activation_bytes(self) -> float:
        return self.activation_bits / 8

    @property
    def kv_bytes(self) -> float:
        return self.kv_bits / 8

    def __str__(self) -> str:
        return f"w{self.weight_bits:g}a{self.activation_bits:g}kv{self.kv_bits:g}"


def parse_precision(text: str) -> Precision:
    """``w8a16kv8`` → `Precision`; without ``kv`` the KV cache has the activation's bits.

    Raises
    ------
    ConfigurationError
        The text is not of the form ``w<bits>a<bits>kv<bits>``.
    """
    match = _FORM.match(text.strip().lower())
    if match is None:
        raise ConfigurationError(f"precision {text!r} is not of the form w<bits>a<bits>kv<bits>; write w16a16kv16")
    weight, activation, kv = match.groups()
    return Precision(float(weight), float(activation), float(kv if kv is not None else activation))
