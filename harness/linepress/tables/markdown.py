"""A table as Markdown, for README, the summary of a night and pull requests."""

from __future__ import annotations

from linepress.tables.model import Table
from linepress.tables.text import heading


def as_markdown(table: Table) -> list[str]:
    """Lines of a table; a cell of style ``code`` stands in backticks."""
    if not table.n_rows:
        return []
    out = [
        f"| {' | '.join(escape_markdown(heading(column)) for column in table.columns)} |",
        f"|{'|'.join('---:' if column.numeric else '---' for column in table.columns)}|",
    ]
    for group in table.groups:
        if group.title:
            out.append(f"| **{escape_markdown(group.title)}** |{' |' * (len(table.columns) - 1)}")
        for row in group.rows:
            cells = (
                f"`{c.text}`" if c.style == "code" else escape_markdown(c.text.replace("\n", " ")) for c in row.cells
            )
            out.append(f"| {' | '.join(cells)} |")
    return out


def escape_markdown(text: str) -> str:
    """Text that Markdown and the HTML in it cannot take for markup; a tensor may be called anything."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return text.replace("<", "&lt;")
