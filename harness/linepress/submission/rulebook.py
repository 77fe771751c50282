"""The rules in words, from ``data/rules.yaml``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from linepress.errors import LinepressError
from linepress.submission.check.ledger import RULES
from linepress.suite.yaml12 import parse_yaml


@dataclass(frozen=True)
class Rule:
    """One rule: what it asks, why, and what to do when it fails."""

    id: str
    title: str
    text: str
    why: str
    mend: str


@functools.cache
def rules() -> dict[str, Rule]:
    """All rules by id, in order."""
    raw = files("linepress.submission").joinpath("data/rules.yaml").read_text(encoding="utf-8")
    return {entry["id"]: Rule(**entry) for entry in parse_yaml(raw, Path("rules.yaml")).data["rules"]}


def rule_called(text: str) -> Rule:
    """The rule called ``text`` (``S07``, ``s7``, ``7``); raises `LinepressError` naming those that exist."""
    number = text.strip().lower().removeprefix("s")
    found = f"S{int(number):02d}" if number.isascii() and number.isdigit() and len(number) <= 3 else ""
    if found not in rules():
        raise LinepressError(f"no rule {text[:20]!r}; they are {RULES[0]} to {RULES[-1]}")
    return rules()[found]
