"""What is deleted when: withdrawn submissions at once, files and results after their time, uploads nobody ends."""

from __future__ import annotations

import shutil
from typing import Any

from sqlalchemy import and_, func, or_, select, update

from linepress.intake.http.answers import RefusedError
from linepress.intake.service import Service
from linepress.intake.store import audit, states, submissions
from linepress.intake.store.database import files
from linepress.intake.store.database import submissions as rows
from linepress.intake.work.places import Place

BATCH = 200


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
        else:
            place.forget_files()
        _note(service, row, "files deleted")
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


def _note(service: Service, row: dict[str, Any], action: str) -> None:
    with service.db.write() as conn:
        conn.execute(update(rows).where(rows.c.id == row["id"]).values(files_gone_at=service.now()))
        audit.note(conn, service.now(), audit.SERVICE, action, row["id"])
