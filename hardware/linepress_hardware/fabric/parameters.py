"""The figures of ``fabric.toml``."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from linepress_hardware.catalog.figures import Datum, figure
from linepress_hardware.catalog.files import read_toml


@cache
def parameters() -> dict[str, Any]:
    """``fabric.toml``: sections of figures."""
    text = resources.files("linepress_hardware").joinpath("data", "fabric.toml").read_text(encoding="utf-8")
    return read_toml(text, "fabric.toml")


_DIMENSION = {"ns": "seconds", "us": "seconds", "B": "bytes", "count": "count", "pJ/bit": "J/bit"}


@cache
def parameter(section: str, key: str) -> Datum:
    """One figure of ``fabric.toml``, for instance ``parameter("endpoint", "memory")``."""
    raw = parameters()[section][key]
    return figure(raw, f"fabric.toml {section}.{key}", _DIMENSION.get(raw.get("unit"), "seconds"))


def parameter_ns(section: str, key: str) -> float:
    """A time of ``fabric.toml`` in ns."""
    return round(parameter(section, key).base * 1e9, 6)
