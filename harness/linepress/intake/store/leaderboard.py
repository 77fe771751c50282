"""Where a submission stands among those validated before: by packed ratio, within one suite and one data format.

The ratio is that of the best line codec of the suite, byte-weighted over all tensors of the format: raw bytes over
bytes in memory with metadata and tables.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, func, select

from linepress.intake.store import states
from linepress.intake.store.database import submissions

ROWS = 100


def ranking(conn: Connection, partner: str, suite: str = "", data_format: str = "") -> list[dict[str, Any]]:
    """At most `ROWS` rows a suite and format, best first. Names of other partners only where they published."""
    place = (
        func.rank()
        .over(
            partition_by=(submissions.c.suite, submissions.c.data_format),
            order_by=submissions.c.packed_ratio.desc(),
        )
        .label("place")
    )
    validated = and_(submissions.c.state == states.VALIDATED, submissions.c.packed_ratio.is_not(None))
    ranked = select(submissions, place).where(validated)
    if suite:
        ranked = ranked.where(submissions.c.suite == suite)
    if data_format:
        ranked = ranked.where(submissions.c.data_format == data_format)
    inner = ranked.subquery()
    query = (
        select(inner)
        .where(inner.c.place <= ROWS)
        .order_by(inner.c.suite, inner.c.data_format, inner.c.place, inner.c.created_at)
        .limit(10 * ROWS)
    )
    rows = []
    for row in conn.execute(query).mappings():
        own = row["partner"] == partner
        shown = f"{row['partner']}/{row['name']}" if own or row["publish"] else None
        rows.append(
            {
                "place": row["place"],
                "suite": row["suite"],
                "data_format": row["data_format"],
                "packed_ratio": row["packed_ratio"],
                "model": shown,
                "own": own,
                "submission": row["id"] if own else None,
            }
        )
    return rows


def position(conn: Connection, suite: str, data_format: str, packed_ratio: float, but: str) -> tuple[int, int]:
    """``(place, validated before)`` that ``packed_ratio`` takes among the others."""
    others = and_(
        submissions.c.state == states.VALIDATED,
        submissions.c.suite == suite,
        submissions.c.data_format == data_format,
        submissions.c.packed_ratio.is_not(None),
        submissions.c.id != but,
    )
    better = func.count().filter(submissions.c.packed_ratio > packed_ratio)
    count, ahead = conn.execute(select(func.count(), better).select_from(submissions).where(others)).one()
    return int(ahead) + 1, int(count)
