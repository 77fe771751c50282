"""A table in a terminal, a pipe or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linepress.tables.model import Column, Table

if TYPE_CHECKING:
    from rich.console import Console

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
STYLES = {"bad": "bold red", "best": "bold", "reproduced": "green", "not reproduced": "red", "not checkable": "dim"}
UNCUT = 10_000
"""Characters of a line where there is no terminal: a pipe or a log has no right edge to fit."""


def heading(column: Column) -> str:
    """Label, unit and the direction that is better: ``decode GB/s ↑``."""
    return f"{column.label} {column.unit}".strip() + ARROWS[column.better]


def show(table: Table, console: Console) -> None:
    """Print ``table``; groups with a title stand apart, the note follows."""
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns:
        justify = "right" if column.numeric else "left"
        drawn.add_column(heading(column), justify=justify, no_wrap=column.numeric, overflow="fold")  # type: ignore[arg-type]
    for group in table.groups:
        if group.title:
            drawn.add_section()
            drawn.add_row(Text(group.title, style="italic"))
        for row in group.rows:
            cells = (Text(cell.text.replace("\n", " "), style=STYLES.get(cell.style, "")) for cell in row.cells)
            drawn.add_row(*cells, style=STYLES.get(row.style, ""))
    if not console.is_terminal:
        console.width = UNCUT
    console.print(drawn)
    if table.note:
        console.print(table.note, markup=False)


def as_text(table: Table) -> str:
    """``table`` as `show` prints it into a pipe."""
    import io

    from rich.console import Console

    out = io.StringIO()
    show(table, Console(file=out, highlight=False, soft_wrap=True))
    return out.getvalue().rstrip("\n")
