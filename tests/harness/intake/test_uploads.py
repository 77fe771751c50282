"""Uploads cut, out of order, twice, together and under kill -9: what was acknowledged is there, nothing else is."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linepress_kit.intake_server import Answer, IntakeServer

CONTENT = bytes(range(256)) * 1200
FILES = {"manifest.yaml": b"schema_version: 1\n", "model.safetensors": CONTENT}
Declare = Callable[..., dict[str, Any]]
Partner = Callable[..., tuple[str, str]]


@pytest.fixture
def upload(server: IntakeServer, partner: Partner, declare: Declare) -> tuple[str, dict[str, Any], str]:
    """``(token, submission, address of the large file)``."""
    _, token = partner()
    made = server.request("POST", "/v1/submissions", token, declare(FILES))
    assert made.status == 201, made.text
    return token, made.json, made.json["files"][1]["upload"]


def offset_of(server: IntakeServer, token: str, path: str) -> int:
    answer = server.request("HEAD", path, token)
    assert answer.status == 200
    assert answer.headers["upload-length"] == str(len(CONTENT))
    return int(answer.headers["upload-offset"])


def on_disk(server: IntakeServer, submission: dict[str, Any], number: int = 1) -> bytes:
    return (server.data / "uploads" / submission["id"] / f"{number}.part").read_bytes()


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def wait_for_writer(server: IntakeServer, submission: dict[str, Any]) -> None:
    """Until the first request to a file has opened it; asking over HTTP could take the lock before it does."""
    wait_for((server.data / "uploads" / submission["id"] / "1.part").exists)
    time.sleep(0.2)


@pytest.mark.threat("an upload cut at every stage")
@pytest.mark.parametrize("step", [1, 4096, 100_000, len(CONTENT)])
def test_pieces_of_any_size_make_the_file(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str], step: int
) -> None:
    token, submission, path = upload
    at = 0
    while at < (3 if step == 1 else len(CONTENT)):
        answer = server.patch(path, token, at, CONTENT[at : at + step])
        at = min(at + step, len(CONTENT))
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(at))
    assert on_disk(server, submission) == CONTENT[:at]


@pytest.mark.threat("uploads out of order, twice, by two writers at once")
def test_a_request_out_of_order_or_sent_twice_changes_nothing(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str]
) -> None:
    token, submission, path = upload
    assert server.patch(path, token, 5000, CONTENT[5000:6000]).headers["upload-offset"] == "0"
    assert server.patch(path, token, 0, CONTENT[:1000]).status == 204
    again = server.patch(path, token, 0, CONTENT[:1000])
    assert (again.status, again.headers["upload-offset"], again.json["code"]) == (409, "1000", "offset")
    assert on_disk(server, submission) == CONTENT[:1000]


@pytest.mark.threat("an upload cut at every stage")
@pytest.mark.parametrize("sent", [0, 1, 999, 131_072])
def test_a_cut_connection_keeps_what_came_and_can_go_on(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str], sent: int
) -> None:
    token, submission, path = upload
    server.begin(path, token, 0, len(CONTENT), CONTENT[:sent]).close()
    # the closing may be seen a moment later, and the lock with it
    wait_for(lambda: server.patch(path, token, offset_of(server, token, path), b"").status == 204)
    kept = offset_of(server, token, path)
    assert kept <= sent
    assert server.patch(path, token, kept, CONTENT[kept:]).status == 204
    assert on_disk(server, submission) == CONTENT


@pytest.mark.threat("an upload cut at every stage")
def test_a_silent_request_is_ended_and_keeps_what_came(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str]
) -> None:
    token, submission, path = upload
    with server.begin(path, token, 0, len(CONTENT), CONTENT[:777]) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert offset_of(server, token, path) == 777
    assert on_disk(server, submission) == CONTENT[:777]


@pytest.mark.threat("uploads out of order, twice, by two writers at once")
def test_two_writers_at_once_one_waits(server: IntakeServer, upload: tuple[str, dict[str, Any], str]) -> None:
    token, submission, path = upload
    with server.begin(path, token, 0, len(CONTENT), CONTENT[:100]):
        wait_for_writer(server, submission)
        assert server.patch(path, token, 0, CONTENT).status == 423
    wait_for(lambda: offset_of(server, token, path) == 100)
    assert on_disk(server, submission) == CONTENT[:100]


def test_bytes_past_the_declared_length_are_refused(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str]
) -> None:
    token, _, path = upload
    assert server.patch(path, token, 0, CONTENT + b"x").status == 413
    assert offset_of(server, token, path) == 0
    assert server.patch(path, token, 0, CONTENT).status == 204
    assert server.patch(path, token, len(CONTENT), b"x").status == 413


def test_checksum_guards_a_request(server: IntakeServer, upload: tuple[str, dict[str, Any], str]) -> None:
    token, _, path = upload

    def checksum(data: bytes) -> dict[str, str]:
        return {"Upload-Checksum": "sha256 " + base64.b64encode(hashlib.sha256(data).digest()).decode()}

    assert server.patch(path, token, 0, CONTENT[:500], checksum(CONTENT[:501])).status == 460
    assert offset_of(server, token, path) == 0
    assert server.patch(path, token, 0, CONTENT[:500], checksum(CONTENT[:500])).status == 204
    for bad in ("md5 AAAA", "sha256", "sha256 !!", "sha256 AAAA"):
        assert server.patch(path, token, 500, b"x", {"Upload-Checksum": bad}).status == 400


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "9" * 30, ""])
def test_offsets_that_are_none(server: IntakeServer, upload: tuple[str, dict[str, Any], str], offset: str) -> None:
    token, _, path = upload
    headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": offset}
    assert server.request("PATCH", path, token, b"x", headers).status == 422


def test_other_content_types_and_files_are_refused(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str]
) -> None:
    token, submission, path = upload
    wrong = {"Content-Type": "text/plain", "Upload-Offset": "0"}
    assert server.request("PATCH", path, token, b"x", wrong).status == 415
    for number in ("2", "-1", str(2**31), "9" * 25):
        answer = server.patch(f"/v1/submissions/{submission['id']}/files/{number}", token, 0, b"x")
        assert answer.status == 404, answer.text


@pytest.mark.threat("an upload cut at every stage")
def test_complete_needs_every_byte_and_is_idempotent(
    server: IntakeServer, upload: tuple[str, dict[str, Any], str]
) -> None:
    token, submission, path = upload
    complete = f"/v1/submissions/{submission['id']}/complete"
    early = server.request("POST", complete, token)
    assert (early.status, early.json["code"]) == (409, "incomplete")
    assert server.patch(submission["files"][0]["upload"], token, 0, FILES["manifest.yaml"]).status == 204
    assert server.patch(path, token, 0, CONTENT).status == 204
    for _ in range(2):
        done = server.request("POST", complete, token)
        assert (done.status, done.json["state"]) == (202, "received")
    late = server.patch(path, token, len(CONTENT), b"")
    assert (late.status, late.json["code"]) == (409, "state")
    steps = server.request("GET", f"/v1/submissions/{submission['id']}", token).json["journal"]
    assert [step["to_state"] for step in steps] == ["uploading", "received"]


def test_a_deleted_upload_takes_nothing_more(server: IntakeServer, upload: tuple[str, dict[str, Any], str]) -> None:
    token, submission, path = upload
    with server.begin(path, token, 0, 1000, CONTENT[:500]) as connection:
        wait_for_writer(server, submission)
        assert server.request("DELETE", f"/v1/submissions/{submission['id']}", token).json["state"] == "withdrawn"
        connection.sendall(CONTENT[500:1000])
        assert connection.recv(100).startswith(b"HTTP/1.1 409")
    assert server.patch(path, token, 0, b"x").status == 410
    assert server.request("POST", f"/v1/submissions/{submission['id']}/complete", token).status == 410


@pytest.mark.threat("uploads out of order, twice, by two writers at once")
def test_idempotency_key(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    _, token = partner()
    key = {"Idempotency-Key": "one"}
    first = server.request("POST", "/v1/submissions", token, declare(FILES), key)
    again = server.request("POST", "/v1/submissions", token, declare(FILES), key)
    other = server.request("POST", "/v1/submissions", token, declare(FILES, name="other"), key)
    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert first.json["id"] == again.json["id"]
    # a key is its partner's own
    _, foreign = partner()
    assert server.request("POST", "/v1/submissions", foreign, declare(FILES), key).status == 201


@pytest.mark.threat("a service killed during an upload")
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, declare: Declare) -> None:
    """Eight uploads in small requests; the service is killed in the middle, twice, and started again."""
    server = IntakeServer(tmp_path / "data")
    server.start()
    token = server.add_partner("acme")
    made = [server.request("POST", "/v1/submissions", token, declare(FILES, name=f"m{i}")).json for i in range(8)]
    acknowledged = [0] * len(made)
    for _ in range(2):
        stop = threading.Event()

        def write(i: int, stop: threading.Event) -> None:
            while not stop.is_set() and acknowledged[i] < len(CONTENT):
                at = acknowledged[i]
                try:
                    answer: Answer = server.patch(made[i]["files"][1]["upload"], token, at, CONTENT[at : at + 7001])
                except OSError:
                    return
                if answer.status == 204:
                    acknowledged[i] = int(answer.headers["upload-offset"])

        threads = [threading.Thread(target=write, args=(i, stop)) for i in range(len(made))]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        assert sum(acknowledged) > 0
        server.start()
        for i, submission in enumerate(made):
            there = offset_of(server, token, submission["files"][1]["upload"])
            assert there >= acknowledged[i]
            assert on_disk(server, submission)[:there] == CONTENT[:there]
            acknowledged[i] = there
    for submission in made:
        path = submission["files"][1]["upload"]
        there = offset_of(server, token, path)
        assert server.patch(path, token, there, CONTENT[there:]).status == 204
        assert server.patch(submission["files"][0]["upload"], token, 0, FILES["manifest.yaml"]).status == 204
        assert server.request("POST", f"/v1/submissions/{submission['id']}/complete", token).status == 202
        assert on_disk(server, submission) == CONTENT
    server.stop()
