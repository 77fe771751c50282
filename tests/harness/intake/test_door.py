"""What raw connections and odd orders of requests did to the service, with the bytes that did it."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store import partners, uploads
from linepress.intake.store.audit import Actor
from linepress.intake.store.partners import Caller
from linepress.intake.store.uploads import part_path
from linepress.intake.work.places import Place
from linepress_kit.intake_server import OFFSET_TYPE, IntakeServer

Declare = Callable[..., dict[str, Any]]
Partner = Callable[..., tuple[str, str]]
HEADER_S, CONNECTIONS = 1.0, 20


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeServer]:
    """A service with little patience."""
    patience = {"idle_s": 1, "header_s": HEADER_S, "body_s": 1, "connections": CONNECTIONS, "upload_Bps": 1000}
    options = [word for key, value in patience.items() for word in ("--set", f"{key}={value}")]
    with IntakeServer(tmp_path_factory.mktemp("strict") / "data", ("--no-runner", *options)) as running:
        yield running


def raw(server: IntakeServer, head: str, body: bytes = b"", wait_s: float = 5.0) -> bytes:
    """What comes back for bytes as they are, until the service closes or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_s) as wire:
        wire.sendall(head.replace("\n", "\r\n").encode() + body)
        heard = b""
        try:
            while part := wire.recv(1 << 16):
                heard += part
        except TimeoutError:
            heard += b"(still open)"
        except ConnectionError:
            pass
        return heard


def head_of(server: IntakeServer, method: str, path: str, *headers: str) -> str:
    return "\n".join([f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *headers, "", ""])


ROUTES = [
    ("POST", "/v1/submissions"),
    ("POST", "/v1/submissions/s1/complete"),
    ("PATCH", "/v1/submissions/s1/files/0"),
    ("DELETE", "/v1/submissions/s1"),
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("POST", "/submissions/s1/delete"),
    ("GET", "/v1/me"),
    ("POST", "/no/such/page"),
]


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_two_ways_to_say_how_long_a_body_is(strict: IntakeServer, method: str, path: str) -> None:
    head = head_of(strict, method, path, "Content-Length: 5", "Transfer-Encoding: chunked")
    heard = raw(strict, head, b"100000\r\n" + bytes(1 << 20))
    assert heard.startswith(b"HTTP/1.1 400 "), heard[:200]


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route != ("POST", "/sign-in")])
def test_no_body_is_read_of_who_is_not_known(strict: IntakeServer, method: str, path: str) -> None:
    """The answer comes before the body does, and the connection is closed: nothing of it is read."""
    heard = raw(strict, head_of(strict, method, path, "Content-Length: 100000", f"Content-Type: {OFFSET_TYPE}"), b"x")
    assert heard.split(b" ", 2)[1] in (b"400", b"401", b"413"), heard[:200]
    assert b"(still open)" not in heard
    assert b"connection: close" in heard.lower()


def test_a_chunked_body_is_counted_as_it_comes(strict: IntakeServer) -> None:
    heard = raw(strict, head_of(strict, "POST", "/sign-in", "Transfer-Encoding: chunked"), b"5\r\nhello\r\n")
    assert heard.startswith(b"HTTP/1.1 411 "), heard[:200]
    heard = raw(strict, head_of(strict, "POST", "/sign-in", "Content-Length: 9000"), bytes(9000))
    assert heard.startswith(b"HTTP/1.1 413 "), heard[:200]


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
@pytest.mark.parametrize(
    "headers",
    [
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: identity", "Content-Length: 5"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\n chunked",),
        ("Transfer-Encoding: CHUNKED", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5, 6",),
        ("Content-Length: +5",),
        ("Content-Length: -5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5 5",),
        ("Content-Length : 5",),
        ("Content-Length: \u0665".encode().decode("latin-1"),),
        ("Content-Length: " + "9" * 5000,),
    ],
)
def test_neighbours_of_two_framings(strict: IntakeServer, headers: tuple[str, ...]) -> None:
    """No way to say it twice or oddly is taken, and nothing behind such a head is taken for another request."""
    smuggled = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{strict.port}\r\n\r\n".encode()
    heard = raw(strict, head_of(strict, "POST", "/sign-in", *headers).replace("\x0b", "\v"), b"0\r\n\r\n" + smuggled)
    assert heard.split(b" ", 2)[1] in (b"400", b"411", b"413"), heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1, heard
    assert b"(still open)" not in heard


def test_a_chunked_body_of_http_1_0_is_refused(strict: IntakeServer) -> None:
    head = head_of(strict, "PATCH", "/v1/submissions/s1/files/0", "Transfer-Encoding: chunked")
    heard = raw(strict, head.replace("HTTP/1.1", "HTTP/1.0"), b"5\r\nhello\r\n0\r\n\r\n")
    assert heard.split(b" ", 2)[1] == b"400", heard[:200]


def test_one_length_said_twice_is_one_length(strict: IntakeServer) -> None:
    """RFC 9112 § 6.3 lets a receiver take equal values as one."""
    form = ("Content-Type: application/x-www-form-urlencoded", "Connection: close")
    heard = raw(strict, head_of(strict, "POST", "/sign-in", "Content-Length: 7, 7", *form), b"token=x")
    assert heard.split(b" ", 2)[1] == b"401", heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
def test_a_body_that_does_not_come_is_not_waited_for(strict: IntakeServer) -> None:
    start_s = time.monotonic()
    heard = raw(strict, head_of(strict, "POST", "/sign-in", "Content-Length: 100"), b"token=")
    assert heard.startswith(b"HTTP/1.1 408 "), heard[:200]
    assert time.monotonic() - start_s < 4


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
def test_half_open_heads_hold_up_nobody(strict: IntakeServer) -> None:
    """More than one address may hold: those are closed at once, the others when their time is over."""
    with ExitStack() as open_:
        held = []
        for _ in range(CONNECTIONS + 30):
            wire = open_.enter_context(socket.create_connection(("127.0.0.1", strict.port), timeout=5))
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            held.append(wire)
        answers = []
        for wire in held[CONNECTIONS:]:
            try:
                answers.append(wire.recv(1 << 12)[:12])
            except ConnectionError:
                answers.append(b"HTTP/1.1 429")
        assert set(answers) <= {b"HTTP/1.1 429", b""}
        end_s = time.monotonic() + HEADER_S + 3
        for wire in held[:CONNECTIONS]:
            for _ in range(3):  # a drip does not put the clock back
                try:
                    wire.sendall(b"x")
                except OSError:
                    break
            assert wire.recv(1 << 12).startswith(b"HTTP/1.1 408")
        assert time.monotonic() < end_s
    assert strict.request("GET", "/healthz").status == 200


@pytest.mark.threat("two framings, bodies of strangers, half-open heads, drips")
def test_an_upload_that_drips_is_ended_and_keeps_what_came(strict: IntakeServer, declare: Declare) -> None:
    token = strict.add_partner("dripping")
    made = strict.request("POST", "/v1/submissions", token, declare({"manifest.yaml": bytes(100_000)})).json
    path = made["files"][0]["upload"]
    start_s = time.monotonic()
    with strict.begin(path, token, 0, 100_000, b"") as wire:
        heard = b""
        wire.settimeout(0.2)
        while not heard and time.monotonic() - start_s < 8:
            try:
                wire.sendall(b"x")
                heard = wire.recv(1 << 12)
            except TimeoutError:
                continue
    assert heard.startswith(b"HTTP/1.1 408 "), heard[:200]
    assert 0 < int(strict.request("HEAD", path, token).headers["upload-offset"]) < 1000


@pytest.mark.threat("a PATCH after complete, more declared than there is room for, a token revoked meanwhile")
def test_a_patch_after_complete_leaves_the_file_alone(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    _, token = partner()
    data = b"schema_version: 1\n"
    made = server.request("POST", "/v1/submissions", token, declare({"manifest.yaml": data})).json
    path = made["files"][0]["upload"]
    assert server.patch(path, token, 0, data).status == 204
    assert server.request("POST", f"/v1/submissions/{made['id']}/complete", token).status == 202
    part = part_path(Settings(data=server.data), made["id"], 0)
    kept = part.read_bytes()
    assert kept == data
    part.unlink()  # as the runner does when it takes the file
    for offset, body in ((0, b""), (len(data), b""), (0, data)):
        assert server.patch(path, token, offset, body).status == 409
        assert not part.exists(), "an empty part would have taken the file's place"


@pytest.mark.threat("a PATCH after complete, more declared than there is room for, a token revoked meanwhile")
@pytest.mark.parametrize("stray", [b"", b"other", b"x" * 18])
def test_a_file_that_is_there_is_not_replaced(service: Service, stray: bytes) -> None:
    row = {"id": "s1", "partner": "acme", "name": "tiny", "hub_uri": None, "hub_revision": None}
    data = b"schema_version: 1\n"
    file = {"number": 0, "path": "manifest.yaml", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    place = Place(service.settings, row)
    part = part_path(service.settings, "s1", 0)
    part.parent.mkdir(parents=True)
    part.write_bytes(data)
    place.assemble([{**file, "from_hub": False}])
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(stray)
    place.assemble([{**file, "from_hub": False}])
    assert (place.files / "manifest.yaml").read_bytes() == data
    assert not part.exists()


def test_a_part_of_another_length_never_becomes_the_file(service: Service) -> None:
    row = {"id": "s2", "partner": "acme", "name": "tiny", "hub_uri": None, "hub_revision": None}
    part = part_path(service.settings, "s2", 0)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"short")
    file = {"number": 0, "path": "manifest.yaml", "bytes": 18, "sha256": "0" * 64, "from_hub": False}
    place = Place(service.settings, row)
    with pytest.raises(OSError, match="5 of 18 B"):
        place.assemble([file])
    assert not (place.files / "manifest.yaml").exists()


@pytest.fixture
def caller(service: Service) -> Caller:
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "acme", "a@b.example", quota_bytes=1 << 40)
    return Caller("acme", "token", ("submit", "read", "delete"), 1 << 40)


class Disk:
    """A disk of which so much is free."""

    def __init__(self, free: int) -> None:
        self.free = free


@pytest.mark.threat("a PATCH after complete, more declared than there is room for, a token revoked meanwhile")
def test_what_is_declared_and_still_to_come_is_not_free(
    service: Service, caller: Caller, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.2 GB in three declarations, with 400 MB above the reserve: the first alone fits."""
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: Disk((1 << 30) + 400_000_000))
    body = declare({"manifest.yaml": b"x"})
    body["files"].append({"path": "a.safetensors", "bytes": 399_000_000, "sha256": "0" * 64})
    names = [NewSubmission.model_validate({**body, "name": f"n{number}"}) for number in range(3)]
    taken = [service.create(caller, Actor("acme"), names[0], None)[0]]
    for wanted in names[1:]:
        with pytest.raises(RefusedError) as refused:
            service.create(caller, Actor("acme"), wanted, None)
        assert refused.value.status == 507
        assert refused.value.headers["Retry-After"]
    service.withdraw(caller, Actor("acme"), taken[0]["id"])
    wanted = NewSubmission.model_validate({**body, "name": "n9"})
    assert service.create(caller, Actor("acme"), wanted, None)[1], "what was deleted is free again"


@pytest.mark.threat("a PATCH after complete, more declared than there is room for, a token revoked meanwhile")
def test_the_reserve_is_kept_while_writing(
    service: Service, caller: Caller, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(3 << 20)
    wanted = NewSubmission.model_validate(declare({"manifest.yaml": data}))
    row, _ = service.create(caller, Actor("acme"), wanted, None)
    target = uploads.find(service.db, "acme", row["id"], 0)
    writer = uploads._Writer.open(service.db, service.settings, service.now, target, 0, lambda conn: True)
    writer.write(data[: 1 << 20], True)
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: Disk((1 << 30) + 1000))
    with pytest.raises(RefusedError) as refused:
        writer.write(data[1 << 20 :], True)
    writer.close()
    assert refused.value.status == 507
    assert part_path(service.settings, row["id"], 0).stat().st_size == 1 << 20


@pytest.mark.threat("a PATCH after complete, more declared than there is room for, a token revoked meanwhile")
def test_a_token_that_is_revoked_meanwhile_brings_nothing_in(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    name, token = partner()
    data = bytes(50_000)
    made = server.request("POST", "/v1/submissions", token, declare({"manifest.yaml": data})).json
    path = made["files"][0]["upload"]
    with server.begin(path, token, 0, len(data), data[:1000]) as wire:
        time.sleep(0.2)
        service = Service(Settings(data=server.data))
        with service.db.write() as conn:
            partners.revoke_token(conn, time.time(), token.split("_")[1])
            other = partners.add_token(conn, time.time(), name).text
        service.close()
        wire.sendall(data[1000:])
        heard = wire.recv(1 << 12)
    assert heard.startswith(b"HTTP/1.1 401 "), heard[:100]
    assert server.request("HEAD", path, other).headers["upload-offset"] == "0"
