"""A table in a terminal, a pipe or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linepress.tables.model import Cell, Column, RowGroup, Table

if TYPE_CHECKING:
    from rich.console import Console

ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
STYLES = {"bad": "bold red", "best": "bold", "reproduced": "green", "not reproduced": "red", "not checkable": "dim"}
UNCUT = 10_000
"""Characters of a line where there is no terminal: a pipe or a log has no right edge to fit."""
NARROWEST = 8
"""Characters below which a column of text is not folded further; a heading is not folded at all."""


def heading(column: Column) -> str:
    """Label, unit and the direction that is better: ``decode GB/s ↑``."""
    return f"{column.label} {column.unit}".strip() + ARROWS[column.better]


def show(table: Table, console: Console) -> None:
    """Print ``table``; the title of a group stands above its rows, the note follows.

    In a terminal that is too narrow columns of text fold, the widest first; figures are never folded.
    """
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    if not console.is_terminal:
        console.width = UNCUT
    widths = _widths(table, console.width)
    titled = any(group.title for group in table.groups)
    # With titles the headings are a table of their own, so that a title is as wide as it likes.
    groups = [RowGroup("", ())] * titled + [*table.groups]
    for number, group in enumerate(groups):
        if group.title:
            console.print(Text(group.title, style="italic"))
        drawn = Drawn(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), show_header=number == 0
        )
        for column, width in zip(table.columns, widths, strict=True):
            justify = "right" if column.numeric else "left"
            drawn.add_column(heading(column), justify=justify, no_wrap=column.numeric, overflow="fold", width=width)  # type: ignore[arg-type]
        for row in group.rows:
            cells = (Text(_line(cell), style=STYLES.get(cell.style, "")) for cell in row.cells)
            drawn.add_row(*cells, style=STYLES.get(row.style, ""))
        console.print(drawn)
    if table.note:
        console.print(table.note, markup=False)


def _line(cell: Cell) -> str:
    return cell.text.replace("\n", " ")


def _widths(table: Table, most: int) -> list[int]:
    """Characters of each column within ``most`` for all, two between columns."""
    from rich.cells import cell_len

    texts = [[heading(column)] for column in table.columns]
    for row in (row for group in table.groups for row in group.rows):
        for column, cell in zip(texts, row.cells, strict=True):
            column.append(_line(cell))
    widths = [max(map(cell_len, column)) for column in texts]
    least = [
        w if c.numeric else max(NARROWEST, cell_len(heading(c))) for w, c in zip(widths, table.columns, strict=True)
    ]
    while sum(widths) + 2 * (len(widths) - 1) > most:
        foldable = [i for i, width in enumerate(widths) if width > least[i]]
        if not foldable:
            break
        widths[max(foldable, key=widths.__getitem__)] -= 1
    return widths


def as_text(table: Table) -> str:
    """``table`` as `show` prints it into a pipe."""
    import io

    from rich.console import Console

    out = io.StringIO()
    show(table, Console(file=out, highlight=False, soft_wrap=True))
    return out.getvalue().rstrip("\n")
