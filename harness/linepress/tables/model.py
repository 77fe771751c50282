"""Tables as plain data, declared once and shown with three faces: text, Markdown, HTML."""

from __future__ import annotations

from dataclasses import dataclass


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
class Note:
    """A paragraph; ``style`` is empty, ``warn`` or ``bad``."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a term and its value, as a definition list; the third item is a style word."""

    pairs: tuple[tuple[str, str, str], ...]
    style: str = ""


def cell(text: str, sort: float | None = None, style: str = "", hint: str = "") -> Cell:
    return Cell(text, sort, style, hint)


def row(*cells: Cell | str, style: str = "") -> Row:
    return Row(tuple(c if isinstance(c, Cell) else Cell(c) for c in cells), style)
