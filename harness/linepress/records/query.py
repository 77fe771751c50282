"""SQL over the tables of a run, on an embedded DuckDB that sees these tables and nothing else."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from linepress.errors import LinepressError
from linepress.records import TABLES, RunStore
from linepress.records.place import RunPlace
from linepress.records.schema import schema

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    # Neither files nor the network, no extension fetched or loaded, no Python variable read by its name.
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}


class QueryError(LinepressError):
    """A query that is not one SELECT over the tables of a run."""


def query(run: RunPlace | str | RunStore, sql: str) -> pa.Table:
    """Result of one SELECT over the tables of a run.

    Tables are those of `linepress.records.schema` (measure, channel, system, fabric, claims, gates, failures), each
    with the current rows only. Raises `RecordError` for what is no run of this schema version and `QueryError` for
    anything but one SELECT, or one that DuckDB refuses.
    """
    store = RunStore.open(run)
    connection = duckdb.connect(":memory:", config=_LOCKED)
    try:
        _check(connection, sql)
        for name in TABLES:
            if re.search(rf"\b{name}\b", sql, re.IGNORECASE):
                connection.register(name, _table(store, name))
            else:
                connection.register(name, schema(name).empty_table())
        connection.execute("SET lock_configuration = true")
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        sentence = " ".join(str(error).split())
        raise QueryError(f"query: {sentence[:600]}; tables are {', '.join(TABLES)}") from None
    finally:
        connection.close()


def columns() -> list[dict[str, str]]:
    """Every column of every table with its type, unit and sentence."""
    return [
        {
            "table": table,
            "column": field.name,
            "type": str(field.type),
            "unit": (field.metadata or {}).get(b"unit", b"").decode(),
            "doc": (field.metadata or {}).get(b"doc", b"").decode(),
        }
        for table in TABLES
        for field in schema(table)
    ]


def _check(connection: Any, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"query: {len(statements)} statements; give one SELECT")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"query: {str(kind).rpartition('.')[2]} is not allowed, a record is read only; give one SELECT"
        )


def _table(store: RunStore, name: str) -> Any:
    """The current rows; straight from the files, column by column as asked, where no row there is superseded."""
    if name != "failures":
        parts = store.parts(name)
        if parts and store.count_stored(name) == store.table(name, ["case_key"]).num_rows:
            return ds.dataset([str(part) for part in parts], schema=schema(name))
    return store.table(name)
