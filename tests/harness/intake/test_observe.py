"""What an operator sees: alive, ready, numbers, lines; and a database that is locked, a signal in an upload."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linepress.intake.http.observe import Readiness
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store import submissions
from linepress.intake.store.uploads import part_path
from linepress.intake.work import group, jail
from linepress.intake.work.processes import RunnerLock
from linepress.submission.box import sandbox
from linepress_kit.intake_server import IntakeServer

Declare = Callable[..., dict[str, Any]]
Partner = Callable[..., tuple[str, str]]


def test_alive_and_ready(server: IntakeServer) -> None:
    assert server.request("GET", "/healthz").json["status"] == "ok"
    answer = server.request("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (200, "ready")
    assert answer.json["database"] == answer.json["disk"] == "ok"
    assert answer.json["runner"] == "elsewhere"  # it was started with --no-runner
    assert answer.json["sandbox"] == "ok" or answer.json["sandbox"].startswith("open: ")
    seen = server.request("GET", "/readyz", headers={"X-Forwarded-For": "192.0.2.1"}).json
    assert seen == {"status": "ready"}


def test_numbers_are_for_this_machine(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    _, token = partner()
    assert server.request("POST", "/v1/submissions", token, declare({"manifest.yaml": b"x"})).status == 201
    page = server.request("GET", "/metrics").text
    assert 'linepress_requests_total{method="POST",route="/v1/submissions",status="201"}' in page
    assert 'linepress_submissions{state="uploading"}' in page
    assert "linepress_runner_alive 0.0" in page
    assert "linepress_disk_free_bytes" in page
    assert server.request("GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status == 403


def test_a_request_has_an_id_and_a_line(server: IntakeServer) -> None:
    given = server.request("GET", "/v1/me", headers={"X-Request-Id": "abcd-1234-efgh"})
    assert given.headers["x-request-id"] == "abcd-1234-efgh"
    own = server.request("GET", "/v1/me", headers={"X-Request-Id": 'no"id'}).headers["x-request-id"]
    assert own != 'no"id'
    time.sleep(0.1)
    lines = [json.loads(line) for line in (server.data / "server.log").read_text().splitlines() if line[:1] == "{"]
    found = {line.get("request"): line for line in lines}
    assert found[own]["path"] == "/v1/me"
    assert found[own]["status"] == 401
    assert found["abcd-1234-efgh"]["address"] == "127.0.0.1"


def test_a_locked_database_is_a_moment(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    _, token = partner()
    body = declare({"manifest.yaml": b"x"})
    with sqlite3.connect(server.data / "intake.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        start_s = time.monotonic()
        answer = server.request("POST", "/v1/submissions", token, body)
        waited_s = time.monotonic() - start_s
        ready = server.request("GET", "/readyz")
        other.execute("ROLLBACK")
    other.close()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer.text
    assert waited_s < 3
    assert (ready.status, "cannot be written" in ready.json["database"]) == (503, True)
    assert server.request("POST", "/v1/submissions", token, body).status == 201


@pytest.fixture
def readiness(service: Service) -> Readiness:
    return Readiness(service, runner=True, ask=lambda request, timeout_s: sandbox.Answer({"isolation": {}}))


def test_what_is_missing_is_said(readiness: Readiness, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "place", lambda: None)
    found = readiness.look()
    assert found["runner"] == "none is at work"
    for door in ("network", "processes", "Landlock", "seccomp", "cgroup v2"):
        assert door in found["sandbox"]
    lock = RunnerLock(service.settings.data)
    assert lock.take()
    assert readiness.look()["runner"] == "ok"
    lock.give_back()
    with service.db.write() as conn:
        conn.exec_driver_sql("ALTER TABLE files DROP COLUMN sha256")
    assert readiness.look()["database"] == "lacks files.sha256"


def test_a_checking_process_that_does_not_start_is_said(service: Service) -> None:
    readiness = Readiness(service, False, lambda request, timeout_s: sandbox.Answer(None, "no such program"))
    assert "does not start: no such program" in readiness.look()["sandbox"]


def test_a_data_folder_that_runs_may_read_is_said(tmp_path: Path) -> None:
    assert jail.exposed(tmp_path) is None
    inside = Path(jail.__file__).parent / "data"
    assert jail.exposed(inside) is not None


@pytest.mark.slow  # starts the service with its runner
def test_sigterm_in_an_upload_ends_soon_and_keeps_what_was_acknowledged(tmp_path: Path, declare: Declare) -> None:
    server = IntakeServer(tmp_path / "data", ())  # with its runner
    server.start()
    try:
        token = server.add_partner("acme")
        data = bytes(range(256)) * 4096
        made = server.request("POST", "/v1/submissions", token, declare({"manifest.yaml": data})).json
        path = made["files"][0]["upload"]
        assert server.patch(path, token, 0, data[:1000]).status == 204
        with server.begin(path, token, 1000, len(data) - 1000, data[1000:5000]):
            time.sleep(0.3)
            assert server._process is not None
            start_s = time.monotonic()
            server._process.send_signal(signal.SIGTERM)
            server._process.wait(20)
            assert time.monotonic() - start_s < 5
        assert not RunnerLock(server.data).is_held(), "the runner outlived the service"
        stopped = Service(Settings(data=server.data))
        with stopped.db.read() as conn:
            (file,) = submissions.files_of(conn, made["id"])
        stopped.close()
        assert file["offset"] in (1000, 5000)
        part = part_path(stopped.settings, made["id"], file["number"]).read_bytes()
        assert part[: file["offset"]] == data[: file["offset"]]
    finally:
        server.stop()
