"""Rows of plain data as a table: what they are called, and each value in the one spelling of its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table


def plain_table(rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str], title: str = "") -> Table:
    """A table of ``headings`` (key -> heading) over ``rows``; a column of numbers stands to the right."""
    columns = tuple(
        Column(heading, numeric=all(_is_number(row.get(key)) or row.get(key) is None for row in rows))
        for key, heading in headings.items()
    )
    made = tuple(Row(tuple(Cell(value_text(key, row.get(key))) for key in headings)) for row in rows)
    return Table("rows", "", columns, (RowGroup(title, made),))


def value_text(key: str, value: Any) -> str:
    """A value as text: sizes by the name of their key, lists and pairs spelled out, ``–`` for nothing."""
    if value in (None, "", [], {}):
        return fmt.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {value_text(name, item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(value_text(key, item) for item in value)
    if key.endswith("_bytes") and _is_number(value):
        return fmt.bytes_si(value) if value >= 1000 else fmt.plain(value)
    if isinstance(value, float):
        return fmt.plain(value)
    return fmt.count(value) if isinstance(value, int) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
