"""Names and bodies that mean harm: refused with one sentence, never echoed raw, never a way out of the folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store import partners, states, submissions
from linepress.intake.store.audit import SERVICE, Actor
from linepress.intake.store.partners import Caller
from linepress_kit.browser import CHROMIUM, Browser
from linepress_kit.intake_server import IntakeServer

SHA = "0" * 64
Declare = Callable[..., dict[str, Any]]
Partner = Callable[..., tuple[str, str]]


def body(*paths: str, **more: Any) -> dict[str, Any]:
    files = [{"path": path, "bytes": 1, "sha256": SHA} for path in ("manifest.yaml", *paths)]
    return {"name": "tiny", "files": files, **more}


@pytest.mark.threat("names of files with `../`, NUL, newline, over 255 bytes")
@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\\b",
        "C:x",
        "a\0b",
        "a\nb",
        "a\rb",
        "a\x1b[31mb",
        "\u202egnp.exe",
        ".hidden",
        "a/.git/config",
        "a//b",
        "a/",
        "",
        "x" * 256,
        "x/" * 600 + "x",
        "manifest.yaml",
        "MANIFEST.yaml",
        "manifest.yaml/x",
        "\ud800",
    ],
)
def test_names_of_files(server: IntakeServer, partner: Partner, path: str) -> None:
    _, token = partner()
    answer = server.request("POST", "/v1/submissions", token, body(path))
    assert answer.status == 422, answer.text
    assert set(answer.json) == {"code", "error"}
    assert answer.json["error"].isprintable()
    assert server.request("GET", "/v1/submissions", token).json["submissions"] == []


@pytest.mark.parametrize(
    "name", ["", "../x", "A", "a b", "a/b", "a\0", "<script>", "-a", "a-", "x" * 65, ".", "..", 5, None, ["a"]]
)
def test_names_of_submissions(server: IntakeServer, partner: Partner, name: object) -> None:
    _, token = partner()
    assert server.request("POST", "/v1/submissions", token, {**body(), "name": name}).status == 422


@pytest.mark.parametrize(
    "more",
    [
        {"unknown": 1},
        {"suite": "no-such-suite"},
        {"suite": "../../etc/passwd"},
        {"memories": ["no-such-memory"]},
        {"memories": ["hbm3"] * 5},
        {"accelerators": ["no-such"]},
        {"publish": "yes"},
        {"files": []},
        {"files": [{"path": "x", "bytes": 1, "sha256": SHA}]},
        {"files": [{"path": "manifest.yaml", "bytes": -1, "sha256": SHA}]},
        {"files": [{"path": "manifest.yaml", "bytes": 1.5, "sha256": SHA}]},
        {"files": [{"path": "manifest.yaml", "bytes": 10**30, "sha256": SHA}]},
        {"files": [{"path": "manifest.yaml", "bytes": True, "sha256": SHA}]},
        {"files": [{"path": "manifest.yaml", "bytes": 1, "sha256": "A" * 64}]},
        {"hub": {"uri": "https://evil.example/x", "revision": "0" * 40}},
        {"hub": {"uri": "hf://a/b", "revision": "main"}},
        {"hub": {"uri": "hf://a/../b", "revision": "0" * 40}},
        {"hub": {"uri": "hf://a/b", "revision": "0" * 40}},
    ],
)
def test_declarations_that_do_not_hold_up(server: IntakeServer, partner: Partner, more: dict[str, Any]) -> None:
    _, token = partner()
    answer = server.request("POST", "/v1/submissions", token, {**body(), **more})
    assert answer.status == 422, answer.text
    assert answer.json["error"].isprintable()


@pytest.mark.parametrize("raw", [b"", b"{", b"null", b"[]", b"\xff", b'{"a":1}' * 2, b"NaN", b'"x"'])
def test_bodies_that_are_no_declaration(server: IntakeServer, partner: Partner, raw: bytes) -> None:
    _, token = partner()
    answer = server.request("POST", "/v1/submissions", token, raw, {"Content-Type": "application/json"})
    assert answer.status == (400 if raw == b"\xff" else 422), answer.text


def test_over_the_services_limits(tmp_path: Path, declare: Declare) -> None:
    service = Service(Settings(data=tmp_path / "data", files=2, file_bytes=10, submission_bytes=15))
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "acme", "a@b.example")
    acme = Caller("acme", "token", ("submit",), 1 << 30)
    for files, code in (
        ({"manifest.yaml": b"m", "a": b"a", "b": b"b"}, "too_many_files"),
        ({"manifest.yaml": b"m", "a": b"a" * 11}, "too_large"),
        ({"manifest.yaml": b"m" * 8, "a": b"a" * 8}, "too_large"),
        ({"manifest.yaml": b"m"}, ""),
    ):
        wanted = NewSubmission.model_validate(declare(files))
        with pytest.raises(RefusedError) if code else contextlib.nullcontext() as refused:
            service.create(acme, Actor("acme", "token"), wanted, None)
        if refused is not None:
            assert (refused.value.status, refused.value.code) == (413, code)
    service.close()


class Tags(HTMLParser):
    """Tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.tags.update(f"@{name}" for name, _ in attrs)


@pytest.mark.threat("names that are HTML")
def test_markup_in_names_and_reasons_is_text(server: IntakeServer, partner: Partner) -> None:
    _, token = partner()
    evil = "<img src=x onerror=alert(1)>.safetensors"
    made = server.request("POST", "/v1/submissions", token, body(evil)).json
    service = Service(Settings(data=server.data))
    with service.db.write() as conn:
        reason = "<script>alert(2)</script>\n\x1b[31m"
        submissions.move(conn, 1.0, made["id"], states.RECEIVED, SERVICE, reason)
    service.close()
    page = server.request("GET", f"/submissions/{made['id']}", headers=server.sign_in(token)).text
    parser = Tags()
    parser.feed(page)
    assert not parser.tags & {"img", "script", "@onerror", "@src", "@style"}
    assert "&lt;img src=x" in page
    assert "&lt;script&gt;alert(2)" in page
    assert "\x1b" not in page


@pytest.mark.browser
def test_no_page_scrolls_sideways_whatever_its_words(server: IntakeServer, partner: Partner, tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    _, token = partner()
    made = server.request(
        "POST", "/v1/submissions", token, {**body("x" * 255, "y/" * 300 + "y"), "name": "n" * 64}
    ).json
    service = Service(Settings(data=server.data))
    with service.db.write() as conn:
        submissions.move(conn, 1.0, made["id"], states.RECEIVED, SERVICE, "w" * 2000)
    service.close()
    with Browser(tmp_path / "profile", 1200) as browser:
        browser.open(server.url)
        browser.type("#token", token)
        browser.enter()
        wide = {}
        for path in (f"/submissions/{made['id']}", "/submissions", "/leaderboard"):
            browser.open(server.url + path)
            wide[path] = browser.overflow_px()
    assert set(wide.values()) == {0}, wide


def test_a_log_shows_no_control_character_and_no_path_of_this_machine(
    server: IntakeServer, partner: Partner, declare: Declare
) -> None:
    _, token = partner()
    made = server.request("POST", "/v1/submissions", token, declare({"manifest.yaml": b"m"})).json
    folder = server.data / "work" / made["id"]
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(f"{folder}/in: \x1b]0;owned\x07 \xff".encode("latin-1") + b"\nnext\n")
    log = server.request("GET", f"/v1/submissions/{made['id']}/log", token)
    assert log.headers["content-type"].startswith("text/plain")
    assert all(line.isprintable() for line in log.text.split("\n"))
    assert str(server.data) not in log.text
    assert "next" in log.text
