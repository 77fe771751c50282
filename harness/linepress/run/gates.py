"""Gates: thresholds on aggregates of a run's columns. A gate that finds no row fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from linepress.errors import RecordError
from linepress.records.schema import schema
from linepress.records.store import RunStore
from linepress.suite.model import GateSpec

EXACT = 1e-9
"""Two equal figures may differ by rounding of their sum; exact metrics are counts far below 1 / EXACT."""


def check_gates(store: RunStore, gates: list[GateSpec]) -> list[dict[str, Any]]:
    """A row of ``gates`` for each gate, in order; raises `RecordError` for a column that the table does not have."""
    return [_check(store, gate) for gate in gates]


def _check(store: RunStore, gate: GateSpec) -> dict[str, Any]:
    known = schema(gate.table).names
    for name in (gate.column, *gate.where):
        if name not in known:
            raise RecordError(f"gate {gate.name}: table {gate.table} has no column {name!r}; mend the suite")
    columns = sorted(
        {gate.column, *gate.where, "status", *(["raw_bytes"] if gate.aggregate == "total_ratio" else [])}
    )
    batches = (batch.to_pylist() for batch in store.batches(gate.table, columns))
    rows = [row for batch in batches for row in batch if _matches(row, gate.where)]
    value = aggregate(rows, gate.column, gate.aggregate)
    rule, threshold = gate.rule
    return {
        "case_key": f"gate:{gate.name}",
        "status": "ok",
        "gate": gate.name,
        "table": gate.table,
        "metric": f"{gate.aggregate} of {gate.column}",
        "where": dict(gate.where),
        "rule": rule,
        "threshold": threshold,
        "value": value,
        "passed": value is not None and _holds(rule, value, threshold),
        "next_step": gate.next_step,
    }


def _matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    for name, wanted in where.items():
        value = row[name]
        if isinstance(wanted, str) and isinstance(value, str):
            if not fnmatchcase(value, wanted):
                return False
        elif value != wanted:
            return False
    return True


def aggregate(rows: list[dict[str, Any]], column: str, how: str) -> float | None:
    """One number over rows, None without any; ``count`` counts rows, failed ones too, and may be 0.

    A failed row has no figures: it counts as false in ``share`` and is left out of the other aggregates.
    """
    if how == "count":
        return float(len(rows))
    if how == "share":
        wanted = [row for row in rows if row["status"] != "skipped"]
        true = sum(row["status"] == "ok" and row[column] is True for row in wanted)
        return true / len(wanted) if wanted else None
    values = [float(row[column]) for row in rows if isinstance(row[column], int | float)]
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    if how == "total_ratio":
        raw = sum(row["raw_bytes"] or 0 for row in rows if isinstance(row[column], int | float))
        return raw / sum(values) if sum(values) else None
    if how == "mean":
        return sum(values) / len(values)
    if how == "sum":
        return sum(values)
    return min(values) if how == "min" else max(values)


def _holds(rule: str, value: float, threshold: float) -> bool:
    if rule == "equals":
        return math.isclose(value, threshold, rel_tol=EXACT, abs_tol=EXACT)
    return value >= threshold if rule == "at_least" else value <= threshold
