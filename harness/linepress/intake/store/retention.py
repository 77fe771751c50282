"""What is deleted when: withdrawn submissions at once, files and results after their time, uploads nobody ends."""

from __future__ import annotations

import shutil
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update

from linepress.intake.http.answers import RefusedError
from linepress.intake.service import Service
from linepress.intake.store import audit, states, submissions
from linepress.intake.store.database import events, files
from linepress.intake.store.database import submissions as rows
from linepress.intake.work.places import Place

BATCH = 200
EVERYTHING = "files, log, check, run, report, verdict, certificate, names, hashes, reasons"


def sweep(service: Service) -> dict[str, int]:
    """Delete what has had its time; returns how many submissions of each sort. Repeating it changes nothing."""
    return {
        "abandoned": _abandoned(service),
        "files": _files(service),
        "results": _results(service),
        "strays": _strays(service),
    }


def _abandoned(service: Service) -> int:
    """Give up uploads without progress."""
    limit = service.now() - service.settings.abandon_s
    last = select(func.max(files.c.updated_at)).where(files.c.submission == rows.c.id).scalar_subquery()
    query = select(rows.c.id).where(and_(rows.c.state == states.UPLOADING, last < limit)).limit(BATCH)
    with service.db.read() as conn:
        found = [str(name) for name in conn.execute(query).scalars()]
    for submission in found:
        try:
            with service.db.write() as conn:
                submissions.move(
                    conn,
                    service.now(),
                    submission,
                    states.WITHDRAWN,
                    audit.SERVICE,
                    "given up: no upload for too long",
                )
        except RefusedError:
            continue  # it moved on in between, so it is not abandoned
    return len(found)


def _files(service: Service) -> int:
    """The partner's files: of withdrawn submissions at once (with everything else), of judged ones after a time."""
    judged = rows.c.updated_at < service.now() - service.settings.keep_files_s
    over = or_(
        rows.c.state == states.WITHDRAWN,
        and_(rows.c.state.in_((states.VALIDATED, states.REJECTED)), judged),
    )
    query = select(rows).where(and_(over, rows.c.files_gone_at.is_(None))).limit(BATCH)
    with service.db.read() as conn:
        found = [dict(row) for row in conn.execute(query).mappings()]
    for row in found:
        place = Place(service.settings, row)
        if row["state"] == states.WITHDRAWN:
            place.forget()
            _note(service, row, "everything deleted", EVERYTHING)
        else:
            place.forget_files()
            _note(service, row, "files deleted", "files")
    return len(found)


def _results(service: Service) -> int:
    """Results of submissions that were judged long ago: withdrawn, then deleted with the next sweep's files."""
    limit = service.now() - service.settings.keep_results_s
    query = select(rows).where(and_(rows.c.state.in_((states.VALIDATED, states.REJECTED)), rows.c.updated_at < limit))
    with service.db.read() as conn:
        found = [dict(row) for row in conn.execute(query.limit(BATCH)).mappings()]
    for row in found:
        Place(service.settings, row).forget()
        with service.db.write() as conn:
            submissions.move(conn, service.now(), row["id"], states.WITHDRAWN, audit.SERVICE, "kept for its time")
    return len(found)


def _strays(service: Service) -> int:
    """Folders that no submission has: an upload can reach the disk just after its submission was deleted."""
    query = select(rows.c.id).where(rows.c.files_gone_at.is_not(None))
    strays = 0
    for base in (service.settings.uploads, service.settings.work):
        names = [entry.name for entry in base.iterdir() if entry.is_dir()]
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            with service.db.read() as conn:
                gone = conn.execute(
                    query.where(and_(rows.c.id.in_(some), rows.c.state == states.WITHDRAWN))
                ).scalars()
                over = [str(name) for name in gone]
            for name in over:
                shutil.rmtree(base / name, ignore_errors=True)
                strays += 1
    return strays


def _note(service: Service, row: dict[str, Any], action: str, what: str) -> None:
    """Note that files are gone; of a withdrawn submission the database forgets as much as the disk did.

    What stays: id and name, states with their times, the audit log, and for a name that was validated one hash over
    its files, without which the name could come to stand for others.
    """
    with service.db.write() as conn:
        values: dict[str, Any] = {"files_gone_at": service.now()}
        if row["state"] == states.WITHDRAWN:
            values |= {"hub_uri": None, "hub_revision": None, "request_sha256": "", "idempotency_key": None}
            values |= {"data_format": None, "packed_ratio": None}
            conn.execute(delete(files).where(files.c.submission == row["id"]))
            told = and_(events.c.submission == row["id"], events.c.to_state != states.WITHDRAWN)
            conn.execute(update(events).where(told).values(reason=""))
        conn.execute(update(rows).where(rows.c.id == row["id"]).values(**values))
        audit.note(conn, service.now(), audit.SERVICE, action, row["id"], what)
