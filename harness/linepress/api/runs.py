"""`open_run`: a recorded run, in a folder or a store."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

    from linepress.records import RunStore


@dataclass(frozen=True)
class OpenRun:
    """A run, to be read."""

    store: RunStore

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of ``manifest.json``."""
        return dict(self.store.manifest)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of its tables."""
        from linepress.records import TABLES

        return tuple(TABLES)

    def table(self, name: str) -> pyarrow.Table:
        """The current rows of a table as Arrow; raises `RecordError` for a name that is none."""
        return self.store.table(name)

    def sql(self, text: str) -> pyarrow.Table:
        """One SELECT over the tables; raises `QueryError` for anything else."""
        from linepress.records.query import query

        return query(self.store, text)

    def headline(self) -> list[dict[str, Any]]:
        """One line for each kind of data, format and variant, as every face of the run shows it."""
        from linepress.records.summary import headline, measured

        return headline(measured(self.store))

    def report(self) -> Path:
        """Build the HTML report and return its path."""
        from linepress.report.build import build_report

        return build_report(self.store)

    def __repr__(self) -> str:
        from linepress.tables.ratios import headline_table
        from linepress.tables.text import as_text

        return f"run {self.store.run_id}\n{as_text(headline_table({'': self.headline()}))}"

    def _repr_html_(self) -> str:
        from linepress.tables.html import as_html
        from linepress.tables.ratios import headline_table

        return as_html(headline_table({"": self.headline()}))


def open_run(place: str | PathLike[str]) -> OpenRun:
    """The run in a folder or at a place such as ``s3://bucket/runs/night``.

    Raises `RecordError` for what is no run of this schema version.
    """
    from linepress.records import RunStore

    return OpenRun(RunStore.open(str(place)))
