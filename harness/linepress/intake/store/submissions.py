"""Submissions: made, found, moved from state to state with a journal, leased by runners."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, tuple_, update

from linepress.intake.http.answers import RefusedError, unknown_submission
from linepress.intake.http.forms import NewSubmission
from linepress.intake.store import audit, names, states
from linepress.intake.store.audit import Actor
from linepress.intake.store.database import events, files, partners, submissions
from linepress.intake.store.partners import Caller
from linepress.submission.check.ledger import escaped
from linepress.submission.check.limits import MANIFEST_NAME

Row = dict[str, Any]
PAGE_ROWS = 50
OPEN_UPLOADS = 1000
REASON_WIDTH = 2000


def create(
    conn: Connection, now: float, caller: Caller, actor: Actor, wanted: NewSubmission, key: str | None
) -> tuple[Row, bool]:
    """``(submission, whether it is new)``. The same ``key`` with the same content is the same submission; raises
    `RefusedError` for the same key with other content, and when the quota has no room."""
    sha256 = hashlib.sha256(json.dumps(wanted.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    # The partner's row is locked until the end, so that two requests cannot both take the last of a quota.
    conn.execute(select(partners.c.id).where(partners.c.id == caller.partner).with_for_update())
    if key is not None:
        same = and_(submissions.c.partner == caller.partner, submissions.c.idempotency_key == key)
        found = conn.execute(select(submissions).where(same)).mappings().first()
        if found is not None:
            if found["request_sha256"] != sha256:
                raise RefusedError(
                    409, "key_used", "this Idempotency-Key was used for another request; choose a new one"
                )
            return dict(found), False
    names.check(conn, caller.partner, wanted.name, names.content_of(file.model_dump() for file in wanted.files))
    total = sum(file.bytes for file in wanted.files)
    used, uploading = usage(conn, caller.partner)
    if used + total > caller.quota_bytes:
        raise RefusedError(
            413,
            "quota",
            f"quota: {used} B of {caller.quota_bytes} B are in use and {total} B are asked for; delete a submission",
        )
    if uploading >= OPEN_UPLOADS:
        raise RefusedError(409, "too_many_open", f"{uploading} uploads are open; end or delete one of them")
    submission = _new_id()
    row: Row = {
        "id": submission,
        "partner": caller.partner,
        "name": wanted.name,
        "suite": wanted.suite,
        "memories": json.dumps(wanted.memories),
        "accelerators": json.dumps(wanted.accelerators),
        "hub_uri": wanted.hub.uri if wanted.hub else None,
        "hub_revision": wanted.hub.revision if wanted.hub else None,
        "publish": wanted.publish,
        "idempotency_key": key,
        "request_sha256": sha256,
        "total_bytes": total,
        "state": states.UPLOADING,
        "reason": "",
        "created_at": now,
        "updated_at": now,
        "attempts": 0,
    }
    conn.execute(insert(submissions).values(**row))
    conn.execute(
        insert(files),
        [
            {
                "submission": submission,
                "number": number,
                "path": file.path,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "from_hub": wanted.hub is not None and file.path != MANIFEST_NAME,
                "offset": 0,
                "updated_at": now,
            }
            for number, file in enumerate(wanted.files)
        ],
    )
    _journal(conn, now, submission, None, states.UPLOADING, actor, "")
    audit.note(conn, now, actor, "submission created", submission)
    return _get(conn, submission), True


def usage(conn: Connection, partner: str) -> tuple[int, int]:
    """``(bytes declared by submissions whose files are kept, uploads that are open)``."""
    row = conn.execute(
        select(
            func.coalesce(func.sum(submissions.c.total_bytes), 0),
            func.count().filter(submissions.c.state == states.UPLOADING),
        ).where(and_(submissions.c.partner == partner, submissions.c.files_gone_at.is_(None)))
    ).one()
    return int(row[0]), int(row[1])


def of_partner(conn: Connection, partner: str, submission: str) -> Row:
    """A partner's own submission; raises the same `RefusedError` for another's as for none."""
    row = conn.execute(
        select(submissions).where(and_(submissions.c.id == submission, submissions.c.partner == partner))
    ).mappings()
    found = row.first()
    if found is None:
        raise unknown_submission()
    return dict(found)


def page(conn: Connection, partner: str, cursor: str | None = None, rows: int = PAGE_ROWS) -> tuple[list[Row], str]:
    """A page of a partner's submissions, newest first, and the cursor of the next (empty at the end)."""
    query = select(submissions).where(submissions.c.partner == partner)
    if cursor:
        at, last = _cursor(cursor)
        query = query.where(tuple_(submissions.c.created_at, submissions.c.id) < tuple_(at, last))
    query = query.order_by(submissions.c.created_at.desc(), submissions.c.id.desc()).limit(rows + 1)
    found = [dict(row) for row in conn.execute(query).mappings()]
    if len(found) <= rows:
        return found, ""
    last_row = found[rows - 1]
    text = json.dumps([last_row["created_at"], last_row["id"]])
    return found[:rows], base64.urlsafe_b64encode(text.encode()).decode()


def files_of(conn: Connection, submission: str) -> list[Row]:
    """Declared files in their order, with the bytes acknowledged of each."""
    query = select(files).where(files.c.submission == submission).order_by(files.c.number)
    return [dict(row) for row in conn.execute(query).mappings()]


def journal(conn: Connection, submission: str) -> list[Row]:
    """Every step, in order."""
    query = select(events).where(events.c.submission == submission).order_by(events.c.id)
    return [dict(row) for row in conn.execute(query).mappings()]


def overview(conn: Connection, partner: str) -> tuple[int, dict[str, int]]:
    """``(bytes in use, submissions by state)`` of a partner, in one pass over an index."""
    kept = submissions.c.files_gone_at.is_(None)
    query = (
        select(
            submissions.c.state,
            func.count(),
            func.coalesce(func.sum(submissions.c.total_bytes).filter(kept), 0),
        )
        .where(submissions.c.partner == partner)
        .group_by(submissions.c.state)
    )
    found = {str(state): (int(count), int(used)) for state, count, used in conn.execute(query)}
    counted = {state: found[state][0] for state in states.MEANING if state in found}
    return sum(used for _, used in found.values()), counted


def move(
    conn: Connection, now: float, submission: str, to: str, actor: Actor, reason: str = "", **values: Any
) -> Row:
    """Go to another state and journal it, in one transaction; raises `RefusedError` where the step is not allowed."""
    row = conn.execute(select(submissions).where(submissions.c.id == submission).with_for_update()).mappings().first()
    if row is None:
        raise unknown_submission()
    before = row["state"]
    if not states.allowed(before, to):
        raise RefusedError(409, "state", f"the submission is {before} and cannot become {to}")
    reason = escaped(reason)[:REASON_WIDTH]
    released: dict[str, Any] = {"lease_owner": None, "lease_until": None} if to in states.FINAL else {}
    if to == states.WITHDRAWN:
        released["idempotency_key"] = None  # the same files may be declared again
    done = conn.execute(
        update(submissions)
        .where(and_(submissions.c.id == submission, submissions.c.state == before))
        .values(state=to, reason=reason, updated_at=now, **released, **values)
    )
    if done.rowcount != 1:
        raise RefusedError(409, "state", "the submission changed at the same moment; look again")
    _journal(conn, now, submission, before, to, actor, reason)
    return _get(conn, submission)


def lease(
    conn: Connection,
    now: float,
    owner: str,
    life_s: float,
    gone: Sequence[str] = (),
    turns: Mapping[str, int] = MappingProxyType({}),
) -> Row | None:
    """A submission with work to do that no living runner holds, now held by ``owner``; None without one.

    The partner who has had the fewest ``turns`` comes first, and of its submissions the oldest. ``gone`` are owners
    known to be dead, whose leases need not run out first.
    """
    free = or_(
        submissions.c.lease_until.is_(None),
        submissions.c.lease_until < now,
        submissions.c.lease_owner.in_(list(gone)),
    )
    waiting = and_(submissions.c.state.in_(states.WORK), free)
    oldest = select(submissions.c.partner, func.min(submissions.c.created_at)).where(waiting)
    each = [(str(name), float(at)) for name, at in conn.execute(oldest.group_by(submissions.c.partner))]
    if not each:
        return None
    first = min(each, key=lambda entry: (turns.get(entry[0], 0), entry[1]))[0]
    query = select(submissions).where(and_(waiting, submissions.c.partner == first))
    query = query.order_by(submissions.c.created_at).limit(1)
    found = conn.execute(query.with_for_update(skip_locked=True)).mappings().first()
    if found is None:
        return None
    conn.execute(
        update(submissions).where(submissions.c.id == found["id"]).values(lease_owner=owner, lease_until=now + life_s)
    )
    return _get(conn, found["id"])


def renew(conn: Connection, now: float, submission: str, owner: str, life_s: float) -> bool:
    """Hold on to a lease; False when it, or the work, is gone."""
    mine = and_(
        submissions.c.id == submission, submissions.c.lease_owner == owner, submissions.c.state.in_(states.WORK)
    )
    return conn.execute(update(submissions).where(mine).values(lease_until=now + life_s)).rowcount == 1


def release(conn: Connection, submission: str, owner: str, until: float | None = None) -> None:
    """Give a lease back; ``until`` keeps everybody away until then (a pause before the next try)."""
    mine = and_(submissions.c.id == submission, submissions.c.lease_owner == owner)
    conn.execute(
        update(submissions).where(mine).values(lease_owner=None if until is None else "pause", lease_until=until)
    )


def owners(conn: Connection) -> list[str]:
    """Everybody who holds a lease."""
    query = select(submissions.c.lease_owner).where(
        and_(submissions.c.state.in_(states.WORK), submissions.c.lease_owner.is_not(None))
    )
    return [str(owner) for owner in conn.execute(query.distinct()).scalars()]


def note_values(conn: Connection, submission: str, values: Mapping[str, Any]) -> None:
    """Set columns that are not states."""
    conn.execute(update(submissions).where(submissions.c.id == submission).values(**values))


def _get(conn: Connection, submission: str) -> Row:
    return dict(conn.execute(select(submissions).where(submissions.c.id == submission)).mappings().one())


def _journal(
    conn: Connection, now: float, submission: str, before: str | None, to: str, actor: Actor, reason: str
) -> None:
    conn.execute(
        insert(events).values(
            submission=submission, at=now, from_state=before, to_state=to, actor=actor.name[:100], reason=reason
        )
    )


def _new_id() -> str:
    return "s" + base64.b32encode(secrets.token_bytes(15)).decode().lower()


def _cursor(text: str) -> tuple[float, str]:
    try:
        at, last = json.loads(base64.urlsafe_b64decode(text.encode()))
        return float(at), str(last)
    except (ValueError, TypeError):
        raise RefusedError(400, "cursor", "the cursor is not one of ours; take it from the page before") from None
