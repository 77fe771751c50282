"""Partners and their tokens: added, listed and revoked by the operator, on the machine, never over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from linepress.intake.http import tokens
from linepress.intake.settings import IntakeError
from linepress.intake.store import audit
from linepress.intake.store.database import partners, sessions
from linepress.intake.store.database import tokens as token_rows
from linepress.submission.check.ledger import name_of
from linepress.submission.check.rules.identity import SLUG

DEFAULT_QUOTA_BYTES = 1 << 40
RESERVED = (audit.SYSTEM, "operator", "anonymous")
OPERATOR = audit.Actor("operator")


@dataclass(frozen=True, slots=True)
class Caller:
    """A partner as a request shows it.

    Attributes
    ----------
    partner, token_id : str
    scopes : tuple of str
    quota_bytes : int
    requests_per_s, burst
        The partner's own rate limit; None for the service's.
    """

    partner: str
    token_id: str
    scopes: tuple[str, ...]
    quota_bytes: int
    requests_per_s: float | None = None
    burst: int | None = None


def add_partner(
    conn: Connection,
    now: float,
    partner: str,
    contact: str,
    quota_bytes: int = DEFAULT_QUOTA_BYTES,
    requests_per_s: float | None = None,
    burst: int | None = None,
) -> None:
    """Add a partner; raises `IntakeError` for a name that is taken (also by a revoked partner) or cannot be one."""
    if not SLUG.match(partner) or partner in RESERVED:
        raise IntakeError(
            f"partner {name_of(partner)}: not a name (lower-case letters, digits, '.' and '-', at most 64, and not "
            f"{', '.join(RESERVED)}); choose another"
        )
    if conn.execute(select(partners.c.id).where(partners.c.id == partner)).first() is not None:
        raise IntakeError(f"partner {partner}: this name was given before and is never given twice; choose another")
    conn.execute(
        insert(partners).values(
            id=partner,
            contact=contact,
            quota_bytes=quota_bytes,
            requests_per_s=requests_per_s,
            burst=burst,
            created_at=now,
        )
    )
    audit.note(conn, now, OPERATOR, "partner added", partner)


def add_token(
    conn: Connection,
    now: float,
    partner: str,
    scopes: Sequence[str] = tokens.SCOPES,
    label: str = "",
    life_s: float | None = None,
) -> tokens.Minted:
    """A new token for a partner; its text is in no table and cannot be shown again."""
    unknown = sorted(set(scopes) - set(tokens.SCOPES))
    if unknown or not scopes:
        raise IntakeError(f"scope {name_of(unknown[0] if unknown else '')}: there are {', '.join(tokens.SCOPES)}")
    _present(conn, partner)
    minted = tokens.mint()
    conn.execute(
        insert(token_rows).values(
            id=minted.id,
            partner=partner,
            digest=minted.digest,
            scopes=" ".join(sorted(set(scopes))),
            label=label[:100],
            created_at=now,
            expires_at=None if life_s is None else now + life_s,
        )
    )
    audit.note(conn, now, OPERATOR, "token added", f"{partner}/{minted.id}")
    return minted


def revoke_token(conn: Connection, now: float, token_id: str) -> None:
    """End a token and the browser sessions opened with it, at once."""
    done = conn.execute(
        update(token_rows)
        .where(and_(token_rows.c.id == token_id, token_rows.c.revoked_at.is_(None)))
        .values(revoked_at=now)
    )
    if done.rowcount == 0:
        raise IntakeError(f"token {name_of(token_id)}: none such, or revoked already; see linepress partners list")
    conn.execute(delete(sessions).where(sessions.c.token == token_id))
    audit.note(conn, now, OPERATOR, "token revoked", token_id)


def revoke_partner(conn: Connection, now: float, partner: str) -> None:
    """End a partner with every token; what was handed in stays until its retention ends."""
    _present(conn, partner)
    conn.execute(update(partners).where(partners.c.id == partner).values(revoked_at=now))
    own = select(token_rows.c.id).where(token_rows.c.partner == partner)
    conn.execute(delete(sessions).where(sessions.c.token.in_(own)))
    conn.execute(
        update(token_rows)
        .where(and_(token_rows.c.partner == partner, token_rows.c.revoked_at.is_(None)))
        .values(revoked_at=now)
    )
    audit.note(conn, now, OPERATOR, "partner revoked", partner)


def list_partners(conn: Connection) -> list[dict[str, Any]]:
    """Every partner with its tokens (ids, never secrets)."""
    found = []
    for partner in conn.execute(select(partners).order_by(partners.c.id)).mappings():
        own = conn.execute(
            select(
                token_rows.c.id,
                token_rows.c.label,
                token_rows.c.scopes,
                token_rows.c.created_at,
                token_rows.c.expires_at,
                token_rows.c.revoked_at,
            )
            .where(token_rows.c.partner == partner["id"])
            .order_by(token_rows.c.created_at)
        ).mappings()
        found.append({**partner, "tokens": [dict(row) for row in own]})
    return found


def caller_of_token(conn: Connection, now: float, text: str) -> Caller | None:
    """The partner of a token; None for a token that is wrong, expired or revoked."""
    parts = tokens.split(text)
    if parts is None:
        return None
    token_id, secret = parts
    row = _token(conn, now, token_id)
    return _caller(row) if row is not None and tokens.same(secret, row["digest"]) else None


def open_session(conn: Connection, now: float, caller: Caller, life_s: float) -> str:
    """A browser session for the token's partner; returns its secret, of which a hash is kept."""
    minted = tokens.mint()
    conn.execute(delete(sessions).where(sessions.c.expires_at < now))
    conn.execute(insert(sessions).values(digest=minted.digest, token=caller.token_id, expires_at=now + life_s))
    return minted.text


def close_session(conn: Connection, text: str) -> None:
    """End a browser session."""
    parts = tokens.split(text)
    if parts is not None:
        conn.execute(delete(sessions).where(sessions.c.digest == tokens.digest_of(parts[1])))


def caller_of_session(conn: Connection, now: float, text: str) -> Caller | None:
    """The partner of a browser session; None when it has ended, or its token has."""
    parts = tokens.split(text)
    if parts is None:
        return None
    session = conn.execute(
        select(sessions).where(and_(sessions.c.digest == tokens.digest_of(parts[1]), sessions.c.expires_at > now))
    ).first()
    row = _token(conn, now, session.token) if session is not None else None
    return _caller(row) if row is not None else None


def count_partners(conn: Connection) -> int:
    """Partners, revoked ones too."""
    return int(conn.execute(select(func.count()).select_from(partners)).scalar_one())


def _present(conn: Connection, partner: str) -> None:
    row = conn.execute(select(partners.c.revoked_at).where(partners.c.id == partner)).first()
    if row is None or row.revoked_at is not None:
        what = "there is none of this name" if row is None else "revoked"
        raise IntakeError(f"partner {name_of(partner)}: {what}; see linepress partners list")


def _token(conn: Connection, now: float, token_id: str) -> Any:
    query = (
        select(token_rows, partners.c.quota_bytes, partners.c.requests_per_s, partners.c.burst)
        .join(partners, partners.c.id == token_rows.c.partner)
        .where(
            and_(
                token_rows.c.id == token_id,
                token_rows.c.revoked_at.is_(None),
                partners.c.revoked_at.is_(None),
                (token_rows.c.expires_at.is_(None)) | (token_rows.c.expires_at > now),
            )
        )
    )
    return conn.execute(query).mappings().first()


def _caller(row: Any) -> Caller:
    return Caller(
        row["partner"],
        row["id"],
        tuple(row["scopes"].split()),
        row["quota_bytes"],
        row["requests_per_s"],
        row["burst"],
    )
