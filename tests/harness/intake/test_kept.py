"""What the service keeps: a database of the version before, names, the audit log's chain, and what is deleted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.service import Service
from linepress.intake.settings import IntakeError, Settings
from linepress.intake.store import audit, migrations, names, partners, states, submissions
from linepress.intake.store.audit import SERVICE, Actor
from linepress.intake.store.database import Database
from linepress.intake.store.partners import Caller
from linepress.intake.store.retention import sweep

VERSION_1 = Path(__file__).parents[2] / "data" / "intake" / "version-1.sql"
ACTOR = Actor("acme", "token")
WAY = (states.RECEIVED, states.CHECKED, states.QUEUED, states.RUNNING)
Declare = Callable[..., dict[str, Any]]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder as the version before left it: two submissions validated, one rejected, one open."""
    data = tmp_path / "data"
    data.mkdir()
    with sqlite3.connect(data / "intake.db") as conn:
        conn.executescript(VERSION_1.read_text(encoding="utf-8"))
    conn.close()
    return data


@pytest.fixture
def caller(service: Service) -> Caller:
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "acme", "a@b.example")
    return Caller("acme", "token", ("submit", "read", "delete"), 1 << 40)


@pytest.fixture
def migrated(old: Path) -> Iterator[Service]:
    service = Service(Settings(data=old))
    yield service
    service.close()


def test_a_database_of_version_1_is_brought_up_and_loses_nothing(migrated: Service) -> None:
    assert migrated.db.lacking() == []
    with migrated.db.read() as conn:
        assert migrations.current(conn) == migrations.newest() == "2"
        found = {row["name"]: row["state"] for row in submissions.page(conn, "acme")[0]}
        assert found == {"tiny": "validated", "other": "rejected", "open": "uploading"}
        assert len(submissions.page(conn, "acme")[0]) == 4
        rows, problem = audit.verify(conn)
        assert (rows > 4, problem) == (True, "")
        kept = conn.execute(text("SELECT name, content FROM names")).all()
    # of two contents under one name, which version 1 let through, the first keeps it
    assert [row.name for row in kept] == ["tiny"]
    assert kept[0].content == names.content_of([{"path": "a.safetensors", "sha256": "a" * 64}])


def test_a_database_that_was_brought_up_is_as_one_that_was_made(migrated: Service, service: Service) -> None:
    def shape(db: Database) -> dict[str, set[str]]:
        with db.read() as conn:
            tables = conn.execute(text("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")).scalars()
            return {
                name: {row[1] for row in conn.execute(text(f"PRAGMA table_info('{name}')"))}
                for name in tables
                if not name.startswith("sqlite_")
            }

    assert shape(migrated.db) == shape(service.db)


def test_a_start_again_changes_nothing(old: Path) -> None:
    heads = []
    for _ in range(2):
        service = Service(Settings(data=old))
        with service.db.read() as conn:
            heads.append(audit.head(conn))
        service.close()
    assert heads[0] == heads[1]


@pytest.mark.parametrize("version", ["0", "3", "nonsense"])
def test_a_database_of_another_version_is_one_sentence(old: Path, version: str) -> None:
    with sqlite3.connect(old / "intake.db") as conn:
        conn.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (version,))
    conn.close()
    with pytest.raises(IntakeError, match=f"schema version {version}"):
        Service(Settings(data=old))


@pytest.mark.parametrize(
    "harm",
    ["ALTER TABLE submissions DROP COLUMN data_format", "ALTER TABLE audit DROP COLUMN chain", "DROP TABLE names"],
)
def test_a_database_that_lacks_something_does_not_start(service: Service, harm: str) -> None:
    data = service.settings.data
    service.close()
    with sqlite3.connect(data / "intake.db") as conn:
        if "submissions" in harm:
            conn.execute("DROP INDEX submissions_by_rank")
        conn.execute(harm)
    conn.close()
    with pytest.raises(IntakeError, match="lacks"):
        Service(Settings(data=data))


def validated(service: Service, row: dict[str, Any], files: list[dict[str, Any]]) -> None:
    with service.db.write() as conn:
        for state in WAY:
            submissions.move(
                conn, service.now(), row["id"], state, SERVICE, f"about '{row['name']}-secret.safetensors'"
            )
        names.claim(conn, service.now(), row["partner"], row["name"], names.content_of(files), row["id"])
        submissions.move(conn, service.now(), row["id"], states.VALIDATED, SERVICE, "good", packed_ratio=1.5)


@pytest.mark.threat("one name with two contents, a deletion that is not complete, an audit log that was edited")
def test_a_name_once_validated_keeps_its_content(service: Service, caller: Caller, declare: Declare) -> None:
    one = NewSubmission.model_validate(declare({"manifest.yaml": b"1", "a.safetensors": b"one"}))
    other = NewSubmission.model_validate(declare({"manifest.yaml": b"1", "a.safetensors": b"two"}))
    again = NewSubmission.model_validate(declare({"manifest.yaml": b"another suite", "a.safetensors": b"one"}))
    row, _ = service.create(caller, ACTOR, one, None)
    late, _ = service.create(caller, ACTOR, other, None)
    validated(service, row, [file.model_dump() for file in one.files])
    with pytest.raises(RefusedError, match="other files"):
        service.create(caller, ACTOR, other, None)
    assert service.create(caller, ACTOR, again, None)[1]
    with pytest.raises(RefusedError, match="other files"):  # declared before, judged after
        validated(service, late, [file.model_dump() for file in other.files])
    service.withdraw(caller, ACTOR, row["id"])
    sweep(service)
    with pytest.raises(RefusedError, match="other files"):
        service.create(caller, ACTOR, other, None)


def test_what_was_deleted_can_be_sent_again(service: Service, caller: Caller, declare: Declare) -> None:
    wanted = NewSubmission.model_validate(declare({"manifest.yaml": b"1"}))
    row, _ = service.create(caller, ACTOR, wanted, "the client's key")
    assert service.create(caller, ACTOR, wanted, "the client's key") == (row, False)
    service.withdraw(caller, ACTOR, row["id"])
    new, fresh = service.create(caller, ACTOR, wanted, "the client's key")
    assert fresh
    assert new["id"] != row["id"]


@pytest.mark.threat("one name with two contents, a deletion that is not complete, an audit log that was edited")
def test_a_deletion_is_complete_and_listed(service: Service, caller: Caller, declare: Declare) -> None:
    body = declare({"manifest.yaml": b"1", "tiny-secret.safetensors": b"one"})
    wanted = NewSubmission.model_validate({**body, "hub": {"uri": "hf://acme/secret-model", "revision": "e" * 40}})
    row, _ = service.create(caller, ACTOR, wanted, "key-secret")
    validated(service, row, body["files"])
    folder = service.settings.work / row["id"]
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text("{}", encoding="utf-8")
    service.withdraw(caller, ACTOR, row["id"])
    assert sweep(service)["files"] == 1
    assert not folder.exists()
    with service.db.read() as conn:
        tables = conn.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        kept = json.dumps([[str(tuple(r)) for r in conn.execute(text(f"SELECT * FROM {name}"))] for name in tables])
        listed = [entry for entry in audit.entries(conn) if entry["action"] == "everything deleted"]
    assert "secret" not in kept
    assert not any(file["sha256"] in kept for file in body["files"])
    assert (listed[0]["target"], "certificate" in listed[0]["outcome"]) == (row["id"], True)


HARMS = {
    "changed": "UPDATE audit SET outcome = 'ok' WHERE action = 'scope read'",
    "its time changed": "UPDATE audit SET at = at + 1 WHERE action = 'scope read'",
    "taken out": "DELETE FROM audit WHERE action = 'scope read'",
    "taken from the end": "DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)",
    "put in": "INSERT INTO audit (at, partner, actor, action, target, outcome, address, chain) "
    "SELECT at, partner, actor, 'all well', target, outcome, address, chain FROM audit LIMIT 1",
    "exchanged": "UPDATE audit SET id = 1000 - id WHERE id IN (1, 2)",
}


@pytest.mark.threat("one name with two contents, a deletion that is not complete, an audit log that was edited")
@pytest.mark.parametrize("harm", HARMS)
def test_a_row_of_the_audit_log_that_was_touched_shows(service: Service, harm: str) -> None:
    for number in range(4):
        service.note(ACTOR, "scope read" if number == 2 else f"step {number}", "x", "refused")
    with service.db.read() as conn:
        assert audit.verify(conn) == (4, "")
    with service.db.write() as conn:
        conn.exec_driver_sql(HARMS[harm])
    with service.db.read() as conn:
        assert audit.verify(conn)[1] != ""


def test_rows_taken_out_with_the_head_put_back_show_in_a_certificate(service: Service) -> None:
    """Whoever can write the database can chain it anew; a head that was given away tells."""
    for number in range(3):
        service.note(ACTOR, f"step {number}", "x")
    with service.db.read() as conn:
        given = audit.head(conn)
        before = conn.execute(text("SELECT chain FROM audit ORDER BY id DESC LIMIT 1 OFFSET 1")).scalar()
    with service.db.write() as conn:
        conn.exec_driver_sql("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
        conn.exec_driver_sql("UPDATE meta SET value = ? WHERE key = 'audit_head'", (before,))
    with service.db.read() as conn:
        assert audit.verify(conn)[1] == ""
        chains = conn.execute(text("SELECT chain FROM audit")).scalars().all()
    assert given["head"] not in chains
    assert given["entries"] == 3


def test_a_restore_keeps_certificates_reports_and_the_key(
    service: Service, caller: Caller, declare: Declare, tmp_path: Path
) -> None:
    """The backup that deploy/intake.md describes, into an empty folder."""
    from linepress.intake.http.views import certificate_path, report_path
    from linepress.intake.work.judging import signing_key

    wanted = NewSubmission.model_validate(declare({"manifest.yaml": b"1", "a.safetensors": b"one"}))
    row, _ = service.create(caller, ACTOR, wanted, None)
    validated(service, row, [file.model_dump() for file in wanted.files])
    data, backup = service.settings.data, tmp_path / "backup"
    key = signing_key(service.settings).private_bytes_raw()
    for path, content in (
        (certificate_path(service.settings, row["id"]), b"certificate"),
        (report_path(service.settings, row["id"]), b"report"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    backup.mkdir()
    with sqlite3.connect(data / "intake.db") as source, sqlite3.connect(backup / "intake.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    for name in ("signing-key.pem", "signing-key.pem.pub"):
        shutil.copy2(data / name, backup / name)
    shutil.copytree(data / "work", backup / "work")
    again = Service(Settings(data=backup))
    with again.db.read() as conn:
        assert submissions.of_partner(conn, "acme", row["id"])["state"] == states.VALIDATED
        assert audit.verify(conn)[1] == ""
    assert certificate_path(again.settings, row["id"]).read_bytes() == b"certificate"
    assert report_path(again.settings, row["id"]).read_bytes() == b"report"
    assert signing_key(again.settings).private_bytes_raw() == key
    again.close()
