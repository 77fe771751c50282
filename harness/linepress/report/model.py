"""What a report consists of: sections of tables, figures and notes, as plain data that the template renders.

Texts are plain strings and are escaped by the template; only `Plot.svg`, which this package draws, is markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from linepress.tables.model import Facts, Note, Table


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with what it shows (``alt``) and how to read it (``caption``)."""

    id: str
    svg: str
    title: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Source:
    """Text as it was written, folded away under its title."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of the full table, compressed for the script: base64 of gzip of JSON ``{columns, rows}``."""

    id: str
    data: str
    n_rows: int


Part = Table | Plot | Note | Facts | Source | Packed


@dataclass(slots=True)
class Section:
    id: str
    title: str
    lead: str = ""
    parts: list[Part] = field(default_factory=list)
    short: str = ""

    @property
    def nav(self) -> str:
        return self.short or self.title

    def kind(self, part: Any) -> str:
        return type(part).__name__.lower()
