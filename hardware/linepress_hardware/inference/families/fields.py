"""A configuration's fields with the family's class defaults behind them, and its name in every complaint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from linepress_hardware.errors import ConfigurationError


class Fields:
    """Typed access: a field of the file wins, then the class default; absent and null differ, null is a value.

    ``used`` collects the names of fields that a class default filled.
    """

    def __init__(self, name: str, raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.name = name
        self.raw = raw
        self.defaults = defaults
        self.used: dict[str, None] = {}

    def given(self, key: str) -> bool:
        """Whether the file itself has the field with a value."""
        return self.raw.get(key) is not None

    def get(self, *keys: str) -> Any:
        """The first of `keys` that the file has, else the class default of the first that has one, else None."""
        for key in keys:
            if key in self.raw:
                return self.raw[key]
        for key in keys:
            if key in self.defaults:
                if self.defaults[key] is not False:  # an option that is off changes nothing
                    self.used[key] = None
                return self.defaults[key]
        return None

    def whole(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """A whole number, or a list of equal ones; `default` where neither file nor class has it."""
        value = self.get(*keys)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if value is None:
            if default is None:
                raise ConfigurationError(f"{self.name}: config has no {keys[0]}; add it as a whole number")
            return default
        return self.checked(value, keys[0], least)

    def checked(self, value: Any, what: str, least: int = 1) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least or value >= 1 << 48:
            shown = f"{str(value)[:60]}…" if len(str(value)) > 60 else repr(value)
            raise ConfigurationError(f"{self.name}: {what} is {shown}; give a whole number of {least} or more")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.name}: {key} is {value!r}; give true or false")
        return value

    def switch(self, rule: bool | str) -> bool:
        """A rule of a family's file: true, false, or the name of a field that says which."""
        return rule if isinstance(rule, bool) else self.flag(rule)

    def items(self, key: str, length: int | None, of: str = "num_hidden_layers") -> list[Any] | None:
        """A list, one a layer where `length` is given; None where the file has none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or (length is not None and len(value) != length):
            found = len(value) if isinstance(value, list) else type(value).__name__
            raise ConfigurationError(f"{self.name}: {key} has {found} entries for {of} {length}; give one a layer")
        return value

    def indices(self, values: Iterable[Any], what: str, layers: int, first: int = 0) -> set[int]:
        """Layer numbers, counted from `first`, as indices from 0."""
        out = set()
        for value in values:
            index = self.checked(value, what, first) - first
            if index >= layers:
                raise ConfigurationError(f"{self.name}: {what} names layer {value}, beyond the {layers} layers")
            out.add(index)
        return out
