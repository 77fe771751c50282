"""The audit log: who did what to which submission, when, from where. Rows are added and never changed.

Each row holds the hash of itself and the row before, so a row that is changed, put in or taken out shows; the newest
hash goes into each certificate, so rows that are taken from the end show there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from linepress.intake.store.database import audit, meta
from linepress.submission.check.ledger import escaped

SYSTEM = "linepress"
GENESIS = "0" * 64
_HEAD = "audit_head"
_CHAINED = ("at", "partner", "actor", "action", "target", "outcome", "address")
_WIDTHS = {"partner": 64, "actor": 100, "action": 64, "target": 200, "outcome": 100, "address": 64}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a partner by a token, the operator, or the service itself."""

    partner: str
    token: str = ""
    address: str = ""

    @property
    def name(self) -> str:
        """``acme/token 1a2b…`` or ``linepress``."""
        return f"{self.partner}/token {self.token}" if self.token else self.partner


SERVICE = Actor(SYSTEM)


def note(conn: Connection, at: float, actor: Actor, action: str, target: str, outcome: str = "ok") -> None:
    """Add a row; texts are escaped and cut, so that no name can forge a line of a log."""
    row = {
        "partner": actor.partner,
        "actor": actor.name,
        "action": action,
        "target": target,
        "outcome": outcome,
        "address": actor.address,
    }
    values = {"at": float(at), **{key: escaped(text)[: _WIDTHS[key]] for key, text in row.items()}}
    # Locked until the end of the transaction, so that two rows cannot follow the same one.
    before = conn.execute(select(meta.c.value).where(meta.c.key == _HEAD).with_for_update()).scalar()
    chain = link(before or GENESIS, values)
    conn.execute(insert(audit).values(**values, chain=chain))
    if before is None:
        conn.execute(insert(meta).values(key=_HEAD, value=chain))
    else:
        conn.execute(update(meta).where(meta.c.key == _HEAD).values(value=chain))


def link(before: str, row: Mapping[str, Any]) -> str:
    """sha256 (hex) over the hash before and every column of a row."""
    text = json.dumps([before, *(row[key] for key in _CHAINED)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def head(conn: Connection) -> dict[str, Any]:
    """``head`` (the newest hash) and ``entries`` of the log as it is now."""
    kept = conn.execute(select(meta.c.value).where(meta.c.key == _HEAD)).scalar()
    return {
        "head": kept or GENESIS,
        "entries": int(conn.execute(select(func.count()).select_from(audit)).scalar_one()),
    }


def verify(conn: Connection) -> tuple[int, str]:
    """``(rows, what is wrong)``: the chain from the first row to the newest hash; empty when it holds."""
    before, rows = GENESIS, 0
    for row in conn.execute(select(audit).order_by(audit.c.id)).mappings():
        before = link(before, dict(row))
        rows += 1
        if row["chain"] != before:
            return rows, f"row {row['id']} was changed, or a row before it was put in or taken out"
    if head(conn)["head"] != before:
        return rows, "rows at the end were taken out"
    return rows, ""


def entries(conn: Connection, partner: str | None = None, last: int = 200) -> list[dict[str, Any]]:
    """The last rows, newest first, of one partner or of all."""
    query = select(audit).order_by(audit.c.id.desc()).limit(last)
    if partner is not None:
        query = query.where(audit.c.partner == partner)
    return [dict(row) for row in conn.execute(query).mappings()]
