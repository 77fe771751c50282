"""``linepress partners`` and ``linepress serve`` from the command line: what is printed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from linepress.cli.partner.partners import command as partners
from linepress.cli.partner.send import command as send
from linepress.cli.partner.serve import command as serve
from linepress.errors import LinepressError
from linepress.intake.client import Client, ClientError
from linepress.submission.fixtures import submission


def run(*words: str) -> str:
    done = CliRunner().invoke(partners, list(words), catch_exceptions=False, standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def test_a_partner_is_added_listed_and_revoked(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "intake"))
    made = json.loads(run("add", "acme", "--contact", "lab@acme.example", "--quota", "5GB", *data, "--json"))
    assert made["token"].startswith(f"lpk_{made['token_id']}_")
    more = json.loads(run("token", "acme", "--scope", "read", "--days", "30", *data, "--json"))
    listed = json.loads(run("list", *data, "--json"))
    assert [token["scopes"] for token in listed[0]["tokens"]] == ["delete read submit", "read"]
    assert listed[0]["quota_bytes"] == 5_000_000_000
    assert made["token"].rpartition("_")[2] not in run("list", *data)
    run("revoke", "--token", more["token_id"], *data)
    run("revoke", "acme", *data)
    assert all(token["revoked_at"] for token in json.loads(run("list", *data, "--json"))[0]["tokens"])
    actions = [row["action"] for row in json.loads(run("audit", *data, "--json"))]
    assert actions == ["partner revoked", "token revoked", "token added", "token added", "partner added"]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "Acme", "--contact", "x"),
        ("add", "acme", "--contact", "x", "--quota", "lots"),
        ("token", "nobody"),
        ("revoke", "nobody"),
        ("revoke", "--token", "0"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises((LinepressError, click.BadParameter)) as error:
        run(*words, "--data", str(tmp_path / "intake"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "0.0.0.0"),
        ("--set", "nonsense=1"),
        ("--set", "attempts=-1"),
        ("--set", "attempts"),
        ("--suite", "no-such-suite"),
        ("--database", "mysql://x/y"),
        ("--database", "nonsense"),
    ],
)
def test_settings_that_are_unsafe_or_wrong_do_not_start(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(LinepressError) as error:
        CliRunner().invoke(
            serve, ["--data", str(tmp_path / "intake"), *words], catch_exceptions=False, standalone_mode=False
        )
    assert "\n" not in str(error.value)


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    run("list", "--data", str(tmp_path))
    with sqlite3.connect(tmp_path / "intake.db") as db:
        db.execute("UPDATE meta SET value = '99'")
    with pytest.raises(LinepressError, match="schema version 99"):
        run("list", "--data", str(tmp_path))


@pytest.mark.parametrize("url", ["http://intake.example.com", "ftp://x", "intake", ""])
def test_a_token_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(ClientError):
        Client(url, "lpk_x")
    Client("http://127.0.0.1:1", "lpk_x")


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret", "manifest.yaml/../../secret"])
def test_a_service_gets_no_file_that_was_not_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    asked: list[str] = []

    def once(self: Client, method: str, where: str, *_: object) -> tuple[int, dict[str, str], bytes]:
        asked.append(method)
        file = {"path": path, "bytes": 5, "from_hub": False, "upload": "/v1/x"}
        return 201, {}, json.dumps({"id": "s1", "state": "uploading", "files": [file]}).encode()

    monkeypatch.setattr(Client, "_once", once)
    with pytest.raises(ClientError, match="was not declared; nothing was sent"):
        Client("http://127.0.0.1:1", "lpk_x").send(submission(tmp_path))
    assert asked == ["POST"]


def test_send_declares_the_suite_of_the_manifest_and_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submission(tmp_path)
    declared: list[str] = []

    def handed_in(self: Client, folder: Path, say: object, **choice: str) -> dict[str, str]:
        declared.append(choice["suite"])
        return {"id": "s1", "state": "received", "reason": "", "meaning": "here"}

    monkeypatch.setattr(Client, "send", handed_in)

    def sent(where: Path, *words: str) -> int:
        words = (str(where), "--url", "http://127.0.0.1:1", "--token", "lpk_x", *words)
        return int(CliRunner().invoke(send, words, catch_exceptions=False, standalone_mode=False).return_value)

    edited = folder / "manifest.yaml"
    assert sent(folder) == 0
    edited.write_text(edited.read_text(encoding="utf-8").replace('"smoke"', '"deep"'), encoding="utf-8")
    assert sent(folder) == 0
    assert sent(folder, "--suite", "deep") == 0
    assert declared == ["smoke", "deep", "deep"]
    with pytest.raises(ClientError, match="manifest asks for suite 'deep' and the declaration for 'smoke'"):
        sent(folder, "--suite", "smoke")
    edited.unlink()
    with pytest.raises(ClientError, match=r"there is no manifest\.yaml"):
        sent(folder)
    assert len(declared) == 3
