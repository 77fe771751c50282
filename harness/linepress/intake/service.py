"""What the routes and the runner share: settings, database, clock, rate limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import and_, select

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.http.rates import Rates
from linepress.intake.offers import Offers
from linepress.intake.settings import Settings
from linepress.intake.store import audit, states, submissions
from linepress.intake.store.audit import Actor
from linepress.intake.store.database import Database, files
from linepress.intake.store.partners import Caller
from linepress.intake.store.uploads import check_room, promised_bytes

Row = dict[str, Any]


class Service:
    """One service over one database and one data folder."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        settings.prepare()
        self.settings = settings
        self.now = clock
        self.db = Database(settings.url, settings.busy_s)
        self.rates = Rates()
        self.offers = Offers(settings.suites)

    def close(self) -> None:
        """End the connections."""
        self.db.close()

    def create(self, caller: Caller, actor: Actor, wanted: NewSubmission, key: str | None) -> tuple[Row, bool]:
        """A new submission (or the one made before with ``key``); raises `RefusedError`."""
        total = sum(file.bytes for file in wanted.files)
        settings = self.settings
        if len(wanted.files) > settings.files:
            raise RefusedError(
                413, "too_many_files", f"{len(wanted.files)} files, at most {settings.files} are taken"
            )
        if total > settings.submission_bytes or any(file.bytes > settings.file_bytes for file in wanted.files):
            raise RefusedError(
                413,
                "too_large",
                f"at most {settings.file_bytes} B a file and {settings.submission_bytes} B in all are taken",
            )
        self.offers.check(wanted.suite, wanted.memories, wanted.accelerators)
        with self.db.write() as conn:
            check_room(settings, total + promised_bytes(conn))
            return submissions.create(conn, self.now(), caller, actor, wanted, key)

    def complete(self, caller: Caller, actor: Actor, submission: str) -> Row:
        """End an upload: every byte must be here. Asking again changes nothing. Raises `RefusedError`."""
        with self.db.write() as conn:
            row = submissions.of_partner(conn, caller.partner, submission)
            if row["state"] in (*states.WORK, states.VALIDATED, states.REJECTED):
                return row
            if row["state"] == states.WITHDRAWN:
                raise RefusedError(410, "gone", "the submission was deleted; make a new one")
            query = select(files).where(
                and_(
                    files.c.submission == submission,
                    files.c.from_hub.is_(False),
                    files.c.offset < files.c.bytes,
                )
            )
            missing = [dict(found) for found in conn.execute(query.order_by(files.c.number)).mappings()]
            if missing:
                first = missing[0]
                raise RefusedError(
                    409,
                    "incomplete",
                    f"{len(missing)} files are not complete: file {first['number']} has {first['offset']} of "
                    f"{first['bytes']} B; upload the rest and ask again",
                )
            audit.note(conn, self.now(), actor, "upload completed", submission)
            return submissions.move(conn, self.now(), submission, states.RECEIVED, actor, "every byte is here")

    def withdraw(self, caller: Caller, actor: Actor, submission: str) -> Row:
        """Delete a submission: no route shows its content from now on, its files go with the next sweep."""
        with self.db.write() as conn:
            row = submissions.of_partner(conn, caller.partner, submission)
            if row["state"] == states.WITHDRAWN:
                return row
            audit.note(conn, self.now(), actor, "submission deleted", submission)
            return submissions.move(conn, self.now(), submission, states.WITHDRAWN, actor, "deleted by the partner")

    def note(self, actor: Actor, action: str, target: str, outcome: str = "ok") -> None:
        """Add to the audit log."""
        with self.db.write() as conn:
            audit.note(conn, self.now(), actor, action, target, outcome)

    def verdict(self, row: Row) -> Row | None:
        """The verdict document of a submission; None before there is one."""
        return self._document(row, "verdict.json")

    def check(self, row: Row) -> Row | None:
        """What the check of the rules said; None before it has."""
        return self._document(row, "check.json")

    def _document(self, row: Row, name: str) -> Row | None:
        if row["state"] == states.WITHDRAWN:
            return None
        try:
            found = json.loads((self.settings.work / row["id"] / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found if isinstance(found, dict) else None
