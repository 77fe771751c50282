"""What a report consists of: sections of tables, figures and notes, as plain data that the template renders.

Texts are plain strings and are escaped by the template; only `Figure.svg`, which this package draws, is markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A table column; ``better`` is ``higher``, ``lower`` or empty and is shown as an arrow."""

    label: str
    unit: str = ""
    numeric: bool = False
    better: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the text, what sorting goes by (the text where None), a style word and a tooltip."""

    text: str
    sort: float | None = None
    style: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[Cell, ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows under a heading of their own; an empty title draws none."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    id: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    note: str = ""
    sortable: bool = True

    @property
    def n_rows(self) -> int:
        return sum(len(group.rows) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with what it shows (``alt``) and how to read it (``caption``)."""

    id: str
    svg: str
    title: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph; ``style`` is empty, ``warn`` or ``bad``."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a term and its value, as a definition list; the third item is a style word."""

    pairs: tuple[tuple[str, str, str], ...]
    style: str = ""


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


Part = Table | Figure | Note | Facts | Source | Packed


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


def cell(text: str, sort: float | None = None, style: str = "", hint: str = "") -> Cell:
    return Cell(text, sort, style, hint)


def row(*cells: Cell | str, style: str = "") -> Row:
    return Row(tuple(c if isinstance(c, Cell) else Cell(c) for c in cells), style)
