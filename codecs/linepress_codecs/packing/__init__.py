"""Packings: how coded lines of different sizes lie in memory, with every byte of metadata counted.

``parse_packing("classes:set=0/22/44/64")`` gives a `Packing`; a comma may stand for the colon, so that a packing fits
into a variant string (``huffman:packing=classes,set=0/22/44/64``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from linepress_codecs.errors import SpecError
from linepress_codecs.packing.base import (
    PAGE_BYTES,
    TAG_ONLY_BITS,
    AtomStats,
    Packing,
    PackingCost,
    Placement,
    stored_bytes,
)
from linepress_codecs.packing.classes import Classes, best_classes, stride_bytes
from linepress_codecs.packing.groups import Groups
from linepress_codecs.packing.pairs import Pairs
from linepress_codecs.packing.slots import Slots, best_slot
from linepress_codecs.packing.spill import Spill
from linepress_codecs.packing.stream import Stream

PACKINGS: dict[str, type[Packing]] = {p.name: p for p in (Stream, Classes, Slots, Groups, Pairs, Spill)}

EXAMPLES = (
    "stream, stream:granule=bit, classes:set=0/22/44/64, slots:slot=auto, groups:lines=48:size=33, pairs, spill"
)

__all__ = [
    "PACKINGS",
    "PAGE_BYTES",
    "TAG_ONLY_BITS",
    "AtomStats",
    "Classes",
    "Groups",
    "Packing",
    "PackingCost",
    "Pairs",
    "Placement",
    "Slots",
    "Spill",
    "Stream",
    "best_classes",
    "best_slot",
    "make_packing",
    "parse_packing",
    "stored_bytes",
    "stride_bytes",
]


def make_packing(name: str, options: Mapping[str, Any]) -> Packing:
    """The packing with these options (strings are parsed); raises `SpecError` with valid examples otherwise."""
    cls = PACKINGS.get(name)
    if cls is None:
        raise SpecError(f"unknown packing {name!r}: known are {', '.join(PACKINGS)}; for example {EXAMPLES}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    resolved: dict[str, Any] = {}
    for key, value in options.items():
        f = known.get(key)
        if f is None:
            have = ", ".join(known)
            raise SpecError(f"packing {name} has no option {key!r}: it has {have}; for example {EXAMPLES}")
        parse = f.metadata.get("parse", type(f.default) if f.default is not MISSING else str)
        try:
            resolved[key] = parse(str(value)) if not isinstance(value, tuple) else value
        except ValueError as error:
            raise SpecError(f"packing {name}: {key}={value} is not valid ({error}); for example {EXAMPLES}") from None
        choices = f.metadata.get("choices")
        if choices and resolved[key] not in choices:
            allowed = ", ".join(map(str, choices))
            raise SpecError(f"packing {name}: {key}={value} is not one of {allowed}; for example {EXAMPLES}")
    return cls(**resolved)


def parse_packing(text: str) -> Packing:
    """A packing from its spec, for instance ``groups:lines=48:size=33`` (or with commas)."""
    name, *parts = text.strip().replace(",", ":").split(":")
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise SpecError(f"packing {text!r}: {part!r} is not key=value; for example {EXAMPLES}")
        if key in options:
            raise SpecError(f"packing {text!r} gives {key} twice; keep one")
        options[key] = value
    return make_packing(name, options)
