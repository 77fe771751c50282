"""Waivers: which rule the operator waives for a partner's submissions, why, and who said so. Never over HTTP.

A manifest names a waiver by its id; the rule then passes for what the waiver covers, and the verdict says so. Only
rule S12 (licence) can be waived: the others keep the machine, the other partners and the verdict safe.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from linepress.intake.settings import IntakeError
from linepress.intake.store import audit
from linepress.intake.store.database import partners, waivers
from linepress.intake.store.partners import OPERATOR
from linepress.submission.check.ledger import name_of

Row = dict[str, Any]
WAIVABLE = ("S12",)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_MOST_REASON = 1000
_MOST_WHO = 100


def grant(conn: Connection, now: float, waiver: str, partner: str, rule: str, reason: str, who: str) -> None:
    """Record a waiver and audit it; raises `IntakeError` for what cannot be one.

    Parameters
    ----------
    conn : Connection
    now : float
        Seconds since 1970 UTC.
    waiver : str
        Its id, as manifests name it; an id is given once, to one partner.
    partner : str
    rule : str
        One of `WAIVABLE`.
    reason, who : str
        Why, and which person answers for it.
    """
    if not _ID.match(waiver):
        raise IntakeError(
            f"waiver {name_of(waiver)}: not an id (letters, digits, '.', '_' and '-', at most 64); choose another"
        )
    if rule not in WAIVABLE:
        raise IntakeError(f"rule {name_of(rule)} cannot be waived; only {', '.join(WAIVABLE)} can")
    for what, text, most in (("--reason", reason, _MOST_REASON), ("--by", who, _MOST_WHO)):
        if not text.strip() or len(text) > most:
            raise IntakeError(f"{what} has {len(text)} characters; say it in 1 to {most}")
    known = conn.execute(select(partners.c.revoked_at).where(partners.c.id == partner)).first()
    if known is None or known[0] is not None:
        raise IntakeError(f"partner {name_of(partner)}: none such, or revoked; see linepress partners list")
    if conn.execute(select(waivers.c.id).where(waivers.c.id == waiver)).first() is not None:
        raise IntakeError(f"waiver {waiver}: this id was given before and is never given twice; choose another")
    conn.execute(
        insert(waivers).values(
            id=waiver, partner=partner, rule=rule, reason=reason, granted_by=who, granted_at=now, revoked_at=None
        )
    )
    audit.note(conn, now, OPERATOR, "waiver granted", f"{partner}/{waiver}", f"{rule} by {who}")


def revoke(conn: Connection, now: float, waiver: str) -> None:
    """End a waiver: what is not validated yet no longer passes by it. Raises `IntakeError` where there is none."""
    done = conn.execute(
        update(waivers).where(and_(waivers.c.id == waiver, waivers.c.revoked_at.is_(None))).values(revoked_at=now)
    )
    if done.rowcount == 0:
        raise IntakeError(f"waiver {name_of(waiver)}: none such, or revoked already; see linepress partners waivers")
    audit.note(conn, now, OPERATOR, "waiver revoked", waiver)


def granted(conn: Connection, partner: str) -> tuple[str, ...]:
    """Ids of the waivers that hold for a partner now."""
    query = select(waivers.c.id).where(and_(waivers.c.partner == partner, waivers.c.revoked_at.is_(None)))
    return tuple(conn.execute(query.order_by(waivers.c.id)).scalars())


def listed(conn: Connection, partner: str | None = None) -> list[Row]:
    """Every waiver ever granted, in the order of granting; of one partner or of all."""
    query = select(waivers).order_by(waivers.c.granted_at, waivers.c.id)
    if partner is not None:
        query = query.where(waivers.c.partner == partner)
    return [dict(row) for row in conn.execute(query).mappings()]
