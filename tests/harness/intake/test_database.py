"""What needs a real database: two requests for the last of a quota, and a transaction that fails leaves nothing.

Runs on SQLite; on PostgreSQL as well where LINEPRESS_TEST_POSTGRES gives the URL of an empty database.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewFile, NewSubmission
from linepress.intake.http.ray_serve import deployment
from linepress.intake.service import Service
from linepress.intake.settings import IntakeError, Settings
from linepress.intake.store import partners, states, submissions
from linepress.intake.store.audit import SERVICE
from linepress.intake.store.partners import Caller

POSTGRES = os.environ.get("LINEPRESS_TEST_POSTGRES", "")
WANTED = NewSubmission(name="m", files=[NewFile(path="manifest.yaml", bytes=10, sha256="0" * 64)])


@pytest.fixture(params=["sqlite", "postgres"] if POSTGRES else ["sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Service, str]]:
    """A service and a partner of its own in it."""
    url = POSTGRES if request.param == "postgres" else ""
    service = Service(Settings(data=tmp_path / "data", database_url=url))
    name = f"p{uuid.uuid4().hex[:12]}"
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), name, "a@b.example")
    yield service, name
    with service.db.write() as conn:
        for submission in [row["id"] for row in submissions.page(conn, name)[0]]:
            if submissions.of_partner(conn, name, submission)["state"] not in states.FINAL:
                submissions.move(conn, service.now(), submission, states.WITHDRAWN, SERVICE)
    service.close()


def test_ten_requests_for_room_for_five(shared: tuple[Service, str]) -> None:
    service, name = shared
    caller = Caller(name, "token", ("submit",), 50)
    made, refused = [], []

    def create() -> None:
        try:
            made.append(service.create(caller, SERVICE, WANTED, None)[0]["id"])
        except RefusedError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=create) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), refused) == (5, ["quota"] * 5)


def test_one_key_at_once_is_one_submission(shared: tuple[Service, str]) -> None:
    service, name = shared
    caller = Caller(name, "token", ("submit",), 1000)
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(service.create(caller, SERVICE, WANTED, "key")[0]["id"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_a_lease_goes_to_one_and_a_failed_transaction_leaves_nothing(shared: tuple[Service, str]) -> None:
    service, name = shared
    row, _ = service.create(Caller(name, "token", (), 1000), SERVICE, WANTED, None)

    def half() -> None:
        with service.db.write() as conn:
            submissions.move(conn, service.now(), row["id"], states.RECEIVED, SERVICE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with service.db.read() as conn:
        assert submissions.of_partner(conn, name, row["id"])["state"] == states.UPLOADING
        assert [step["to_state"] for step in submissions.journal(conn, row["id"])] == [states.UPLOADING]


def test_pages_of_a_list_neither_repeat_nor_skip(shared: tuple[Service, str]) -> None:
    service, name = shared
    caller = Caller(name, "token", (), 1000)
    made = {service.create(caller, SERVICE, WANTED, None)[0]["id"] for _ in range(7)}
    seen: list[str] = []
    cursor = ""
    with service.db.read() as conn:
        while True:
            rows, cursor = submissions.page(conn, name, cursor or None, 3)
            seen += [row["id"] for row in rows]
            if not cursor:
                break
        with pytest.raises(RefusedError, match="cursor"):
            submissions.page(conn, name, "nonsense")
    assert sorted(seen) == sorted(made)


def test_sqlite_flushes_every_commit(tmp_path: Path) -> None:
    service = Service(Settings(data=tmp_path / "data"))
    with service.db.read() as conn:
        assert conn.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert conn.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert conn.execute(text("PRAGMA foreign_keys")).scalar() == 1
    service.close()


def test_several_replicas_need_a_database_that_takes_them(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="PostgreSQL"):
        deployment(Settings(data=tmp_path), replicas=2)
