"""``linepress query RUN SQL``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import PLACE, json_option, print_json, stderr, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress query runs/smoke-1a2b3c4d "select variant, sum(raw_bytes) * 8.0 / sum(payload_bits) as ratio
      from measure where status = 'ok' group by variant order by ratio desc"
  linepress query runs/smoke-1a2b3c4d "select * from failures" --json
  linepress query runs/smoke-1a2b3c4d "select tensor, decode_GBps from measure" --csv > speeds.csv
  linepress query runs/smoke-1a2b3c4d --columns
  linepress query s3://bucket/runs/night "select count(*) as cases from measure"

Tables: measure, channel, system, fabric, claims, gates, failures. The query sees nothing else: no file, no network.
"""
MOST_ROWS = 200


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of formulas; the last four are the wide forms that East Asian versions take."""


@click.command(name="query", epilog=EPILOG)
@click.argument("run", type=PLACE, metavar="RUN")
@click.argument("sql", required=False, metavar="SQL")
@click.option("--columns", "show_columns", is_flag=True, help="List every column with its type, unit and meaning.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")
@json_option
def command(run: RunPlace, sql: str | None, show_columns: bool, as_csv: bool, as_json: bool) -> int:
    """One SELECT over the tables of a run, in a folder or at a place like s3://bucket/runs/night."""
    from linepress.records import RunStore
    from linepress.records.query import columns, query

    if (sql is None) != show_columns:
        raise click.UsageError("give a query, or --columns")
    if sql is None:
        RunStore.open(run)
        rows: list[dict[str, Any]] = list(columns())
        names = list(rows[0])
    else:
        result = query(run, sql)
        if as_csv:
            _csv(result)
            return 0
        names = list(result.column_names)
        rows = result.to_pylist()
    if as_json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in rows])
    elif as_csv:
        import pyarrow as pa

        _csv(pa.Table.from_pylist(rows))
    else:
        from linepress.tables.plain import plain_table
        from linepress.tables.text import show

        console = stdout()
        shown = rows[:MOST_ROWS] if console.is_terminal else rows
        plain = [{name: _plain(row[name]) for name in names} for row in shown]
        show(plain_table(plain, {name: name for name in names}), console)
        if len(shown) < len(rows):
            stderr().print(f"{len(rows) - len(shown):,} more rows; pipe the output, or use --csv or --json")
    return 0


def _csv(table: Any) -> None:
    for row in (table.column_names, *(row.values() for row in table.to_pylist())):
        sys.stdout.write(",".join("" if value is None else _cell(_plain(value)) for value in row) + "\r\n")


def _cell(value: Any) -> str:
    """A cell (RFC 4180). Text that a spreadsheet would take for a formula begins with an apostrophe (OWASP, CSV
    injection); a semicolon or tab is quoted as well, for a spreadsheet that parts cells there."""
    text = str(value)
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        text = f"'{value}"
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',;\t"\r\n') else text


def _plain(value: Any) -> Any:
    """Times and decimals as text or number; the rest as it is."""
    from datetime import date, datetime
    from decimal import Decimal

    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.hex() if isinstance(value, bytes) else value
