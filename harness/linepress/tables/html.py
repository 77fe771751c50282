"""A table as a fragment of HTML that stands alone, for notebooks; the report has its own page."""

from __future__ import annotations

from html import escape

from linepress.tables.model import Table
from linepress.tables.text import heading


def as_html(table: Table) -> str:
    """One ``<table>``; every text is escaped."""
    align = [f' style="text-align:{"right" if column.numeric else "left"}"' for column in table.columns]
    heads = zip(align, table.columns, strict=True)
    head = "".join(f'<th{a} title="{escape(c.hint)}">{escape(heading(c))}</th>' for a, c in heads)
    rows = []
    for group in table.groups:
        if group.title:
            rows.append(f'<tr><th colspan="{len(table.columns)}">{escape(group.title)}</th></tr>')
        for row in group.rows:
            cells = "".join(f"<td{a}>{escape(c.text)}</td>" for a, c in zip(align, row.cells, strict=True))
            rows.append(f"<tr>{cells}</tr>")
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"
