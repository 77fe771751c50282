"""The built-in model shapes, read from the packaged data files; each is a Hugging Face configuration."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.shapes import ModelShape

_KEYS = frozenset({"name", "aliases", "source", "published_parameters", "config"})


def parse_model(text: str, where: str) -> tuple[ModelShape, tuple[str, ...]]:
    """One data file → shape and aliases; mistakes are `ConfigurationError` naming the file."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is not TOML: {error}") from error
    unknown = sorted(set(raw) - _KEYS)
    if unknown:
        raise ConfigurationError(f"{where} has the unknown key {unknown[0]!r}; use {', '.join(sorted(_KEYS))}")
    for key in ("name", "source", "config"):
        if key not in raw:
            raise ConfigurationError(f"{where} has no {key}; a model needs name, source and config")
    shape = parse_config(raw["config"], raw["name"])
    shape = replace(shape, source=raw["source"], published_parameters=raw.get("published_parameters"))
    return shape, tuple(raw.get("aliases", ()))


@cache
def _catalog() -> tuple[dict[str, ModelShape], dict[str, str]]:
    folder = resources.files("linepress_hardware").joinpath("data", "models")
    shapes: dict[str, ModelShape] = {}
    names: dict[str, str] = {}
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if not entry.name.endswith(".toml"):
            continue
        shape, aliases = parse_model(entry.read_text(encoding="utf-8"), entry.name)
        shapes[shape.name] = shape
        for alias in (shape.name, *aliases):
            names[_plain(alias)] = shape.name
    return shapes, names


def models() -> dict[str, ModelShape]:
    """All built-in shapes by name."""
    return dict(_catalog()[0])


def model(name: str, config: Mapping[str, Any] | None = None) -> ModelShape:
    """A built-in shape by name or alias, or the shape of `config` called `name`.

    Raises
    ------
    UnknownPartError
        No built-in shape has the name; the message lists the nearest ones.
    """
    if config is not None:
        return parse_config(config, name)
    shapes, names = _catalog()
    wanted = _plain(name)
    if wanted in names:
        return shapes[names[wanted]]
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = ", ".join(dict.fromkeys(names[key] for key in near)) or ", ".join(shapes)
    raise UnknownPartError(
        f"model {name!r} is unknown; did you mean {hint}? A path to a config.json works too (linepress list models)"
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").rsplit("/", 1)[-1]
