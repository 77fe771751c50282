"""The packaged data files: strict reading, a folder of parts, lookup by name or alias."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Collection, Mapping
from importlib import resources
from typing import Any, Protocol, TypeVar

from linepress_hardware.errors import ConfigurationError, UnknownPartError


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


Part = TypeVar("Part", bound=_Named)


def read_toml(text: str, where: str) -> dict[str, Any]:
    """Parse a data file; raises `ConfigurationError` naming it."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{where} is not TOML: {error}") from error


def check_keys(raw: Mapping[str, Any], where: str, needed: Collection[str], allowed: Collection[str]) -> None:
    """Raise `ConfigurationError` for a key that is missing or unknown."""
    known = sorted({*needed, *allowed})
    for key in raw:
        if key not in known:
            raise ConfigurationError(f"{where} has the unknown key {key!r}; use {', '.join(known)}")
    for key in needed:
        if raw.get(key) in (None, ""):
            raise ConfigurationError(f"{where} has no {key}; it needs {', '.join(needed)}")


def whole(raw: Any, where: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < least:
        raise ConfigurationError(f"{where} is {raw!r}; give a whole number of at least {least}")
    return raw


def texts(folder: str) -> list[tuple[str, str]]:
    """(file name, text) of every packaged TOML file of a data folder, by file name."""
    entries = resources.files("linepress_hardware").joinpath("data", folder)
    files = sorted((entry for entry in entries.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    return [(f"{folder}/{entry.name}", entry.read_text(encoding="utf-8")) for entry in files]


def catalog(folder: str, parse: Callable[[str, str], Part]) -> dict[str, Part]:
    """Every packaged part of a folder by name; a name that occurs twice is an error."""
    out: dict[str, Part] = {}
    for where, text in texts(folder):
        part = parse(text, where)
        if part.name in out:
            raise ConfigurationError(f"{where} names {part.name} a second time; give it another name")
        out[part.name] = part
    return out


def lookup(
    name: str, parts: Mapping[str, Part], what: str, otherwise: str = "A path to a .toml file works too"
) -> Part:
    """A part by name or alias, case, ``_``, ``-`` and blanks not minded.

    `UnknownPartError` lists near names and ends in `otherwise`: what else the user can do.
    """
    names = {_plain(alias): part for part in parts.values() for alias in (part.name, *part.aliases)}
    found = names.get(_plain(name))
    if found is not None:
        return found
    near = difflib.get_close_matches(_plain(name), names, n=3, cutoff=0.5)
    hint = ", ".join(dict.fromkeys(names[key].name for key in near)) or ", ".join(parts)
    raise UnknownPartError(f"{what} {name!r} is unknown; did you mean {hint}? {otherwise}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")
