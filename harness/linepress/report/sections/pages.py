"""KV caches as serving engines hold them: contract × codec × line, page and whole."""

from __future__ import annotations

from linepress.report.model import Section
from linepress.report.view import RunView
from linepress.tables.model import Note
from linepress.tables.pages import page_table


def pages(view: RunView) -> Section:
    """What codecs make of the pages of serving engines."""
    section = Section(
        "pages",
        "Pages of serving engines",
        "A KV snapshot laid as engines lay it; lines stay in place, pages move whole, the object is the whole cache.",
        short="Pages",
    )
    rows = [row for row in view.store.rows("pages") if row["status"] == "ok"]
    if rows:
        fit = rows[0]["fit"]
        said = f"Tables fitted on another text, {fit}." if fit else "Tables fitted on the same text."
        section.parts += [Note(f"{rows[0]['source']}. {said}"), page_table(rows)]
    return section
