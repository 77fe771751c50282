"""Who may see and do what: tokens of others, scopes, sessions, forms, quota, rate limit, names, headers, bodies."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from linepress.intake.service import Service
from linepress.intake.settings import IntakeError, Settings
from linepress.intake.store import partners
from linepress.intake.store.audit import entries
from linepress_kit.intake_server import IntakeServer

FILES = {"manifest.yaml": b"schema_version: 1\n", "model.safetensors": b"x" * 100}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Declare = Callable[..., dict[str, Any]]
Partner = Callable[..., tuple[str, str]]


def make(server: IntakeServer, token: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.request("POST", "/v1/submissions", token, body)
    assert answer.status == 201, answer.text
    found = answer.json
    assert isinstance(found, dict)
    return found


def routes(submission: str) -> list[tuple[str, str]]:
    base = f"/v1/submissions/{submission}"
    return [
        ("GET", base),
        ("HEAD", f"{base}/files/0"),
        ("PATCH", f"{base}/files/0"),
        ("POST", f"{base}/complete"),
        ("GET", f"{base}/log"),
        ("GET", f"{base}/result"),
        ("GET", f"{base}/report"),
        ("GET", f"{base}/certificate"),
        ("DELETE", base),
    ]


@pytest.mark.threat("a token of another partner")
def test_another_partners_submission_is_as_if_it_were_not_there(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    (_, mine), (_, foreign) = partner(), partner()
    own = make(server, mine, declare(FILES, name="secret-model"))["id"]
    headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    for known, nothing in zip(routes(own), routes("s" + "a" * 24), strict=True):
        body = b"x" if known[0] == "PATCH" else None
        there = server.request(*known, foreign, body, headers if body else None)
        none = server.request(*nothing, foreign, body, headers if body else None)
        assert there.status == none.status == 404
        assert there.body == none.body
        assert server.request(*known, None, body, headers if body else None).status == 401
    assert server.request("GET", "/v1/submissions", foreign).json == {"submissions": [], "next": ""}
    browser = server.sign_in(foreign)
    for path in ("", "/log", "/report", "/certificate"):
        page = server.request("GET", f"/submissions/{own}{path}", headers=browser)
        assert page.status == 404
        assert "secret-model" not in page.text
    assert server.request("GET", f"/v1/submissions/{own}", mine).json["state"] == "uploading"


@pytest.mark.threat("a token of another partner")
@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "lpk_",
        "lpk_0000000000000000_" + "A" * 43,
        "lpk_0000000000000000_" + "A" * 42,
        "Bearer",
        "' OR 1=1 --",
        "lpk_%00",
    ],
)
def test_wrong_tokens(server: IntakeServer, token: str) -> None:
    answer = server.request("GET", "/v1/me", token)
    assert (answer.status, answer.json["code"]) == (401, "token")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_scopes(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    name, token = partner()
    own = make(server, token, declare(FILES))["id"]
    db = Service(Settings(data=server.data))
    with db.db.write() as conn:
        reader = partners.add_token(conn, time.time(), name, ["read"]).text
    db.close()
    assert server.request("GET", f"/v1/submissions/{own}", reader).status == 200
    for method, path in (("POST", f"/v1/submissions/{own}/complete"), ("DELETE", f"/v1/submissions/{own}")):
        answer = server.request(method, path, reader)
        assert (answer.status, answer.json["code"]) == (403, "scope")
    assert server.request("POST", "/v1/submissions", reader, declare(FILES)).status == 403
    browser = server.sign_in(reader)
    assert "Delete this submission" not in server.request("GET", f"/submissions/{own}", headers=browser).text


def test_revoked_and_expired_tokens_end_at_once_with_their_sessions(service: Service, clock: Any) -> None:
    with service.db.write() as conn:
        partners.add_partner(conn, clock(), "acme", "a@b.example")
        short = partners.add_token(conn, clock(), "acme", life_s=60)
        long = partners.add_token(conn, clock(), "acme")
        caller = partners.caller_of_token(conn, clock(), long.text)
        assert caller is not None
        session = partners.open_session(conn, clock(), caller, 3600)
        assert partners.caller_of_session(conn, clock(), session) is not None
        assert partners.caller_of_token(conn, clock(), short.text) is not None
        assert partners.caller_of_token(conn, clock() + 61, short.text) is None
        assert partners.caller_of_session(conn, clock() + 3601, session) is None
        partners.revoke_token(conn, clock(), long.id)
        assert partners.caller_of_token(conn, clock(), long.text) is None
        assert partners.caller_of_session(conn, clock(), session) is None
        partners.revoke_partner(conn, clock(), "acme")
        assert partners.caller_of_token(conn, clock(), short.text) is None
        with pytest.raises(IntakeError, match="revoked"):
            partners.add_token(conn, clock(), "acme")


def test_no_secret_is_kept(service: Service, clock: Any) -> None:
    with service.db.write() as conn:
        partners.add_partner(conn, clock(), "acme", "a@b.example")
        minted = partners.add_token(conn, clock(), "acme")
    secret = minted.text.rpartition("_")[2] if minted.text.count("_") == 2 else minted.text[21:]
    with service.db.read() as conn:
        kept = [
            str(tuple(row)) for table in ("tokens", "audit") for row in conn.execute(text(f"SELECT * FROM {table}"))
        ]
    assert kept
    assert not any(secret in row or minted.text in row for row in kept)


@pytest.mark.threat("two partners with one name")
def test_two_partners_with_one_name(service: Service, clock: Any) -> None:
    with service.db.write() as conn:
        partners.add_partner(conn, clock(), "acme", "a@b.example")
        for again in ("acme", "Acme", "ACME", "acme ", "acme\n", "аcme", "ａcme", "", "-acme", "linepress", "a" * 65):
            with pytest.raises(IntakeError):
                partners.add_partner(conn, clock(), again, "thief@example")
        partners.revoke_partner(conn, clock(), "acme")
        with pytest.raises(IntakeError, match="never given twice"):
            partners.add_partner(conn, clock(), "acme", "thief@example")


def test_two_partners_may_each_have_a_submission_of_one_name(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    (_, one), (_, two) = partner(), partner()
    assert make(server, one, declare(FILES))["id"] != make(server, two, declare(FILES))["id"]
    assert len(server.request("GET", "/v1/submissions", one).json["submissions"]) == 1


def test_quota_counts_what_is_declared_and_frees_what_is_deleted(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    total = sum(map(len, FILES.values()))
    _, token = partner(quota_bytes=2 * total)
    first = make(server, token, declare(FILES))
    make(server, token, declare(FILES))
    over = server.request("POST", "/v1/submissions", token, declare(FILES))
    assert (over.status, over.json["code"]) == (413, "quota")
    assert server.request("GET", "/v1/me", token).json["used_bytes"] == 2 * total
    # the room comes back when the files are gone, which the sweep does
    server.request("DELETE", f"/v1/submissions/{first['id']}", token)
    from linepress.intake.store.retention import sweep

    beside = Service(Settings(data=server.data))
    sweep(beside)
    beside.close()
    make(server, token, declare(FILES))


def test_rate_limit(server: IntakeServer, partner: Partner) -> None:
    _, token = partner(requests_per_s=0.5, burst=3)
    seen = [server.request("GET", "/v1/me", token) for _ in range(5)]
    assert [answer.status for answer in seen[:3]] == [200] * 3
    assert seen[-1].status == 429
    assert int(seen[-1].headers["retry-after"]) >= 1
    _, other = partner()
    assert server.request("GET", "/v1/me", other).status == 200


def test_wrong_tokens_slow_their_address_and_never_a_right_one(tmp_path: Any) -> None:
    options = ("--no-runner", "--set", "failures_per_minute=5")
    with IntakeServer(tmp_path / "data", options) as server:
        token = server.add_partner("acme")
        seen = [server.request("GET", "/v1/me", "lpk_wrong").status for _ in range(8)]
        assert seen[:5] == [401] * 5
        assert seen[-1] == 429
        assert server.request("GET", "/v1/me", token).status == 200
        service = Service(Settings(data=server.data))
        with service.db.read() as conn:
            failed = [row for row in entries(conn, "anonymous") if row["action"] == "token"]
        service.close()
        assert 5 <= len(failed) <= 7
        assert failed[0]["address"] == "127.0.0.1"


def test_security_headers_are_on_every_answer(server: IntakeServer, partner: Partner) -> None:
    _, token = partner()
    for path in ("/", "/nowhere", "/v1/me", "/v1/nowhere", "/static/intake.css", "/healthz", "/v1/openapi.json"):
        answer = server.request("GET", path, token)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "script-src" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers


def test_session_cookie(server: IntakeServer, partner: Partner) -> None:
    _, token = partner()
    answer = server.request("POST", "/sign-in", body=f"token={token}".encode(), headers=FORM)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    browser = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert server.request("GET", "/submissions", headers=browser).status == 200
    assert server.request("GET", "/v1/me", headers=browser).status == 401  # a page cannot act as a program


def test_forms_of_other_sites_do_nothing(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    _, token = partner()
    own = make(server, token, declare(FILES))["id"]
    browser = server.sign_in(token)
    path = f"/submissions/{own}/delete"
    page = server.request("GET", f"/submissions/{own}", headers=browser).text
    key = page.split('name="form" value="')[1].split('"')[0]
    right = f"form={key}".encode()
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert server.request("POST", path, body=right, headers={**FORM, **browser, **headers}).status == 403
    for body in (b"", b"form=", b"form=" + b"0" * 64, b"form=%ff"):
        assert server.request("POST", path, body=body, headers={**FORM, **browser}).status == 403
    assert server.request("POST", path, body=right, headers=FORM).status == 303  # nobody signed in: to the start
    assert server.request("GET", f"/v1/submissions/{own}", token).json["state"] == "uploading"
    assert server.request("POST", path, body=right, headers={**FORM, **browser}).status == 303
    assert server.request("GET", f"/v1/submissions/{own}", token).json["state"] == "withdrawn"
    out = server.request("POST", "/sign-out", body=right, headers={**FORM, **browser})
    assert out.status == 303
    assert server.request("GET", "/submissions", headers=browser).status == 303


def test_foreign_hosts_large_bodies_and_bodies_without_length(server: IntakeServer, partner: Partner) -> None:
    _, token = partner()
    assert server.request("GET", "/v1/me", token, headers={"Host": "evil.example"}).status == 400
    assert server.request("POST", "/v1/submissions", token, b"[" * ((2 << 20) + 1)).status == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(
            b"POST /v1/submissions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        assert raw.recv(20).startswith(b"HTTP/1.1 411")
    deep = server.request("POST", "/v1/submissions", token, b"[" * 100_000, {"Content-Type": "application/json"})
    assert deep.status == 400


def test_everything_done_is_in_the_audit_log(server: IntakeServer, partner: Partner, declare: Declare) -> None:
    name, token = partner()
    own = make(server, token, declare(FILES))
    for file, data in zip(own["files"], FILES.values(), strict=True):
        server.patch(file["upload"], token, 0, data)
    server.request("POST", f"/v1/submissions/{own['id']}/complete", token)
    server.request("DELETE", f"/v1/submissions/{own['id']}", token)
    service = Service(Settings(data=server.data))
    with service.db.read() as conn:
        rows = [row for row in entries(conn, name) if row["target"] == own["id"]]
    service.close()
    assert [row["action"] for row in rows] == ["submission deleted", "upload completed", "submission created"]
    assert all(row["address"] == "127.0.0.1" and row["actor"].startswith(f"{name}/token ") for row in rows)
