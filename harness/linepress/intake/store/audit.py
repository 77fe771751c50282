"""The audit log: who did what to which submission, when, from where. Rows are added and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from linepress.intake.store.database import audit
from linepress.submission.check.ledger import escaped

SYSTEM = "linepress"
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
    conn.execute(insert(audit).values(at=at, **{key: escaped(text)[: _WIDTHS[key]] for key, text in row.items()}))


def entries(conn: Connection, partner: str | None = None, last: int = 200) -> list[dict[str, Any]]:
    """The last rows, newest first, of one partner or of all."""
    query = select(audit).order_by(audit.c.id.desc()).limit(last)
    if partner is not None:
        query = query.where(audit.c.partner == partner)
    return [dict(row) for row in conn.execute(query).mappings()]
