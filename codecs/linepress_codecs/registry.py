"""Finding codecs: those in `linepress_codecs.codecs` and those other packages announce.

A codec is a frozen dataclass decorated with `register`. Files in ``linepress_codecs/codecs/`` are imported on first
use; other packages announce theirs through the entry point group ``linepress.codecs``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from linepress_codecs.contracts import Codec
from linepress_codecs.errors import SpecError

ENTRY_POINT_GROUP = "linepress.codecs"
_registered: dict[str, type[Codec]] = {}
C = TypeVar("C", bound=type[Codec])


def register(cls: C) -> C:
    """Class decorator: make a codec known under its ``codec_id``; two classes may not share one."""
    other = _registered.get(cls.codec_id)
    if other is not None and other.__qualname__ != cls.__qualname__:
        raise SpecError(
            f"two codecs call themselves {cls.codec_id!r}: {other.__module__}.{other.__qualname__} and "
            f"{cls.__module__}.{cls.__qualname__}; rename one"
        )
    _registered[cls.codec_id] = cls
    return cls


@lru_cache(maxsize=1)
def _discover() -> None:
    package = importlib.import_module("linepress_codecs.codecs")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"linepress_codecs.codecs.{module.name}")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        loaded = point.load()
        if isinstance(loaded, type) and issubclass(loaded, Codec):
            register(loaded)


def codecs() -> Mapping[str, type[Codec]]:
    """Every known codec class by id, sorted."""
    _discover()
    return dict(sorted(_registered.items()))


def example(cls: type[Codec]) -> str:
    """A valid variant string of the codec, shown in error messages."""
    for f in fields(cls):  # type: ignore[arg-type]
        choices = f.metadata.get("choices")
        if choices:
            show = f.metadata.get("show", str)
            other = next((c for c in choices if c != f.default), None)
            if other is not None:
                return f"{cls.codec_id}:{f.name}={show(other)}"
    return cls.codec_id


def make(codec_id: str, options: Mapping[str, Any]) -> Codec:
    """The codec with these options; values are strings (parsed) or already of the option's type.

    Raises `SpecError` with a valid example for an unknown codec, an unknown option or a value out of range.
    """
    known = codecs()
    cls = known.get(codec_id)
    if cls is None:
        raise SpecError(
            f"unknown codec {codec_id!r}: known are {', '.join(known)}; for example {example(known['huffman'])}"
        )
    by_name = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    resolved: dict[str, Any] = {}
    for key, value in options.items():
        f = by_name.get(key)
        if f is None:
            have = ", ".join(by_name) or "none"
            raise SpecError(f"codec {codec_id} has no option {key!r}: it has {have}; for example {example(cls)}")
        parse = f.metadata.get("parse", type(f.default) if f.default is not MISSING else str)
        try:
            resolved[key] = parse(value) if isinstance(value, str) or parse is not type(value) else value
        except (ValueError, TypeError) as error:
            raise SpecError(
                f"codec {codec_id}: {key}={value} is not valid ({error}); for example {example(cls)}"
            ) from None
        choices = f.metadata.get("choices")
        if choices and resolved[key] not in choices:
            show = f.metadata.get("show", str)
            allowed = ", ".join(show(c) for c in choices)
            raise SpecError(f"codec {codec_id}: {key}={value} is not one of {allowed}; for example {example(cls)}")
    return cls(**resolved)


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``name:key=value:key=value`` into the name and its options; raises `SpecError` on another shape."""
    name, *parts = text.strip().split(":")
    if not name:
        raise SpecError("empty variant: write a codec name such as huffman or zstd:level=3:block=64KiB")
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise SpecError(f"variant {text!r}: {part!r} is not key=value; for example zstd:level=3:block=64KiB")
        if key in options:
            raise SpecError(f"variant {text!r} gives {key} twice; keep one")
        options[key] = value
    return name, options
