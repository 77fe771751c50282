"""What two runs of the same suite must have in common, whatever happened to them: everything but clock and host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from linepress.records import RunStore
from linepress.records.store import CASE_TABLES

VOLATILE = ("_s", "_GBps", "seconds", "host", "started_at", "run_id", "attempts")
"""Endings of the columns that a clock, a host or the way to the result decides."""


def stable_bytes(folder: Path) -> bytes:
    """The case tables of a run, in stored order, without what differs from one undisturbed run to the next."""
    sink = pa.BufferOutputStream()
    store = RunStore.open(folder)
    for name in CASE_TABLES:
        table = store.table(name).combine_chunks()
        kept = table.select([column for column in table.column_names if not column.endswith(VOLATILE)])
        with pa.ipc.new_stream(sink, kept.schema) as writer:
            writer.write_table(kept)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def stored_times(folder: Path, table: str = "measure") -> Counter[str]:
    """How many stored rows each case has, superseded ones too; a finished run has one each."""
    import pyarrow.parquet as pq

    found: Counter[str] = Counter()
    for part in RunStore.open(folder).parts(table):
        found.update(pq.ParquetFile(part).read(columns=["case_key"])["case_key"].to_pylist())
    return found
