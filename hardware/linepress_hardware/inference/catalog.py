"""The built-in model shapes, read from the packaged data files; each is a Hugging Face configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from linepress_hardware.catalog.files import catalog, check_keys, lookup, read_toml
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.shapes import ModelShape

_KEYS = frozenset({"name", "aliases", "source", "published_parameters", "config"})


@dataclass(frozen=True)
class Entry:
    """A data file: the shape under its name and aliases."""

    name: str
    aliases: tuple[str, ...]
    shape: ModelShape


def parse_model(text: str, where: str) -> Entry:
    """One data file; mistakes are `ConfigurationError` naming the file."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("name", "source", "config"), _KEYS)
    shape = parse_config(raw["config"], raw["name"])
    shape = replace(shape, source=raw["source"], published_parameters=raw.get("published_parameters"))
    return Entry(shape.name, tuple(raw.get("aliases", ())), shape)


@cache
def _catalog() -> dict[str, Entry]:
    return catalog("models", parse_model)


def models() -> dict[str, ModelShape]:
    """All built-in shapes by name."""
    return {name: entry.shape for name, entry in _catalog().items()}


def model(name: str, config: Mapping[str, Any] | None = None) -> ModelShape:
    """A built-in shape by name or alias, or the shape of `config` called `name`.

    Raises
    ------
    UnknownPartError
        No built-in shape has the name; the message lists the nearest ones.
    """
    if config is not None:
        return parse_config(config, name)
    return lookup(
        name.rpartition("/")[2], _catalog(), "model", "A path to a config.json works too (linepress list models)"
    ).shape
