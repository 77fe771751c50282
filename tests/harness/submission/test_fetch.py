"""`linepress fetch` with the hub's real client against a hub on loopback: what it brings, and what it refuses."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from linepress.cli.app import app
from linepress.errors import EXIT_NOTHING_MEASURED, EXIT_USAGE, LinepressError, SourceError
from linepress.sources import hub
from linepress.submission import fetch as fetching
from linepress.submission.check.limits import PARTS_FOLDER
from linepress.submission.check.manifest import Manifest, write_manifest
from linepress.submission.fetch import fetch
from linepress.submission.fixtures import build, model_files, weights
from linepress.submission.pack import Terms, pack
from linepress_kit.hub_server import Fault, HubServer, Repo


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(hub, "LONGEST_WAIT_S", 0.002)
    monkeypatch.setattr(fetching, "PIECE_BYTES", 16 << 10)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")


def single() -> dict[str, bytes]:
    """One model file, a configuration and a licence."""
    files = model_files()
    big = build({"w": ("BF16", [98304], weights(3, 98304))})
    return {"config.json": files["config.json"], "LICENSE": files["LICENSE"], "sub/model.safetensors": big}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"acme/tiny": Repo({**single(), "modeling.py": b"import os\n"})}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def package(tmp_path: Path, server: HubServer) -> Callable[..., Path]:
    """Writes a submission by reference to the repository; ``changes`` may spoil its manifest."""

    def make(changes: Callable[[dict[str, Any]], None] = lambda manifest: None) -> Path:
        model = tmp_path / "model"
        for name, data in single().items():
            (model / name).parent.mkdir(parents=True, exist_ok=True)
            (model / name).write_bytes(data)
        commit = server.repos["acme/tiny"].commit
        terms = Terms("Apache-2.0", "lab@acme.example", "hf://acme/tiny", commit, reference=True)
        packed = pack(model, "acme", tmp_path / "out", terms, name="tiny")
        document = packed.manifest.model_dump()
        changes(document)
        text = write_manifest(Manifest.model_validate(document))
        (packed.folder / "manifest.yaml").write_text(text, encoding="utf-8")
        return packed.folder

    return make


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], standalone_mode=False)


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_references_are_undecided_until_fetched_and_decided_after(
    server: HubServer, package: Callable[..., Path]
) -> None:
    folder = package()
    before = run("submit", folder)
    assert before.return_value == 2
    assert f"next: linepress fetch {folder}" in before.stderr.replace("\n", "")
    got = run("fetch", folder, "--json")
    assert got.return_value == 0, got.output
    document = json.loads(got.stdout)
    assert document["fetched"] == sorted(single())
    assert document["received_bytes"] == sum(map(len, single().values()))
    assert {name: (folder / name).read_bytes() for name in single()} == single()
    assert contents(folder) == {*single(), "manifest.yaml"}
    assert not (folder / PARTS_FOLDER).exists()
    assert run("submit", folder, "--accept", "--store", folder.parent / "store").return_value == 0
    # nobody's token goes to a hub that a partner names, unless it is asked for
    assert {request.authorization for request in server.requests} == {""}


def test_a_second_call_asks_for_nothing(server: HubServer, package: Callable[..., Path]) -> None:
    folder = package()
    run("fetch", folder)
    server.requests.clear()
    again = run("fetch", folder)
    assert again.return_value == 0
    assert "0 files fetched (0 B received, 0 B from earlier), 3 were there" in again.stdout
    assert server.requests == []


def test_the_token_is_sent_when_asked_for_and_not_to_the_storage(
    server: HubServer, package: Callable[..., Path]
) -> None:
    folder = package()
    server.repos["acme/tiny"].gated = True
    with pytest.raises(SourceError, match=r"acme/tiny@\w+ is gated; .* \(asked without a token: --use-token"):
        fetch(folder)
    assert contents(folder) == {"manifest.yaml"}
    assert run("fetch", folder, "--use-token").return_value == 0
    stored = [request for request in server.requests if request.path.startswith("/storage/")]
    assert stored
    assert {request.authorization for request in stored} == {""}


def test_a_fetch_that_broke_off_counts_for_nothing_and_goes_on_where_it_was(
    server: HubServer, package: Callable[..., Path]
) -> None:
    folder = package()
    server.faults.append(Fault("model.safetensors", "status", 503, times=hub.TRIES, after=3))
    with pytest.raises(SourceError, match=r"no complete answer in 5 tries \(status 503\); check the network"):
        fetch(folder)
    had = sum(path.stat().st_size for path in (folder / PARTS_FOLDER).iterdir())
    assert 0 < had < len(single()["sub/model.safetensors"])
    assert "sub/model.safetensors" not in contents(folder)
    refused = run("submit", folder)
    assert refused.return_value == 1
    assert "is half fetched; run linepress fetch again" in refused.stdout
    server.faults.clear()
    done = fetch(folder)
    assert done.resumed_bytes == had
    assert done.received_bytes == len(single()["sub/model.safetensors"]) - had
    assert run("submit", folder).return_value == 0


@pytest.mark.parametrize("kind", ["drop", "short"])
def test_a_connection_that_breaks_is_resumed_within_a_call(
    server: HubServer, package: Callable[..., Path], kind: str
) -> None:
    folder = package()
    server.faults.append(Fault("model.safetensors", kind, 4000, times=2, after=1))
    done = fetch(folder)
    assert done.received_bytes == sum(map(len, single().values()))
    assert run("submit", folder).return_value == 0


def test_a_part_of_another_content_is_not_built_upon(server: HubServer, package: Callable[..., Path]) -> None:
    folder = package()
    data = single()["sub/model.safetensors"]
    parts = folder / PARTS_FOLDER
    parts.mkdir()
    (parts / f"{hashlib.sha256(data).hexdigest()}.part").write_bytes(bytes(1000))
    (parts / f"{'0' * 64}.part").write_bytes(b"of a manifest that was")
    done = fetch(folder)
    assert done.resumed_bytes == 0
    assert (folder / "sub/model.safetensors").read_bytes() == data
    assert not parts.exists()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("long", "sent more than"),
        ("shift", "the file changed or the mirror lies"),
        ("tag", "its content changed since the file list was read"),
        ("commit", "answered from commit"),
        ("size", "the file changed or the mirror lies"),
    ],
)
def test_a_lying_hub_is_found_out(server: HubServer, package: Callable[..., Path], kind: str, sentence: str) -> None:
    folder = package()
    server.faults.append(Fault("model.safetensors", kind))
    with pytest.raises(SourceError, match=sentence):
        fetch(folder)
    assert "sub/model.safetensors" not in contents(folder)


def test_content_other_than_the_file_list_said_is_not_kept(server: HubServer, package: Callable[..., Path]) -> None:
    folder = package()
    data = single()["sub/model.safetensors"]
    repo = server.repos["acme/tiny"]
    right = repo.tag("sub/model.safetensors")
    other = data[:-1] + bytes([data[-1] ^ 1])
    repo.files["sub/model.safetensors"] = other
    repo._tags["sub/model.safetensors"] = (other, right)
    with pytest.raises(SourceError, match="its sha256 is not the manifest's"):
        fetch(folder)
    assert contents(folder) == {"manifest.yaml", "config.json", "LICENSE"}


def test_what_the_manifest_calls_safetensors_is_looked_at_before_it_is_fetched(
    server: HubServer, package: Callable[..., Path]
) -> None:
    pickle = b"PK\x03\x04" + bytes(1 << 20)

    def changes(manifest: dict[str, Any]) -> None:
        for entry in manifest["files"]:
            if entry["format"] == "safetensors":
                entry |= {"bytes": len(pickle), "sha256": hashlib.sha256(pickle).hexdigest()}

    folder = package(changes)
    server.repos["acme/tiny"].files["sub/model.safetensors"] = pickle
    with pytest.raises(SourceError, match=r"is a ZIP archive .* not fetched"):
        fetch(folder)
    # 512 B were asked for, and no more
    ranges = [r.range for r in server.requests if r.path.endswith("model.safetensors") and r.range]
    assert set(ranges) == {"bytes=0-511"}
    assert contents(folder) == {"manifest.yaml", "config.json", "LICENSE"}


def _entry(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][-1].update(changes)

    return change


def _source(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["source"].update(changes)

    return change


@pytest.mark.parametrize(
    ("changes", "exit_code", "sentence"),
    [
        (_entry(path="../escaped.safetensors"), EXIT_USAGE, r"S05: .*climbs out of the folder"),
        (_entry(path="/tmp/escaped.safetensors"), EXIT_USAGE, "S05: .*is absolute"),
        (_entry(path=f"{PARTS_FOLDER}/x"), EXIT_USAGE, "S05: .*leading dot"),
        (_entry(path="config.json"), EXIT_USAGE, "S05: "),
        (_entry(path="a/b/c/d/e.safetensors"), EXIT_USAGE, "S06: .*levels deep"),
        (_entry(bytes=1 << 50), EXIT_USAGE, "S06: "),
        (_entry(format="json", bytes=17 << 20), EXIT_USAGE, "S06: .*over 16777216 B"),
        (_entry(sha256="../../x"), EXIT_USAGE, "S10: .*not 64 hex digits"),
        (_source(revision="main"), EXIT_USAGE, "S11: .*give the commit"),
        (_source(uri="upload", revision=None), EXIT_USAGE, "S11: .*hf://org/name"),
        (_source(uri="http://127.0.0.1/x"), EXIT_USAGE, "S11: "),
        (lambda manifest: manifest.update(delivery="files"), EXIT_USAGE, "nothing to fetch; submit it"),
        (_source(uri="hf://acme/absent"), EXIT_NOTHING_MEASURED, "acme/absent@.* does not exist on this hub"),
        (_source(revision="0" * 40), EXIT_NOTHING_MEASURED, "has no such revision"),
        (_entry(path="absent.safetensors"), EXIT_NOTHING_MEASURED, r"has no file 'absent\.safetensors'"),
        (_entry(bytes=5), EXIT_NOTHING_MEASURED, "other than the manifest's"),
        (_entry(sha256="0" * 64), EXIT_NOTHING_MEASURED, "other than the manifest's"),
    ],
)
def test_what_must_not_be_fetched_is_refused_in_one_sentence(
    server: HubServer,
    package: Callable[..., Path],
    changes: Callable[[dict[str, Any]], None],
    exit_code: int,
    sentence: str,
) -> None:
    folder = package(changes)
    with pytest.raises(LinepressError, match=sentence) as caught:
        fetch(folder)
    assert caught.value.exit_code == exit_code
    assert "\n" not in str(caught.value)
    assert contents(folder) == {"manifest.yaml"}
    assert not (folder / PARTS_FOLDER).exists()
    assert [r for r in server.requests if "/resolve/" in r.path] == []


def test_budget_and_disk_are_held_before_anything_is_asked_for(
    server: HubServer, package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package()
    n_bytes = sum(map(len, single().values()))
    with pytest.raises(LinepressError, match=rf"{n_bytes} B .* budget of 1024 B; give --budget {n_bytes}"):
        raise run("fetch", folder, "--budget", "1KiB").exception or AssertionError("fetched over budget")
    full = os.statvfs_result((4096, 4096, 9, 1, 1, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: full)
    with pytest.raises(LinepressError, match="4096 B are free on the disk"):
        fetch(folder)
    assert server.requests == []


def test_no_hub_and_offline_mode_are_one_sentence(
    server: HubServer, package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be reached .* check the network and HF_ENDPOINT"):
        fetch(folder)
    monkeypatch.setattr(fetching, "is_offline", lambda: True)
    with pytest.raises(SourceError, match=r"hf://acme/tiny@\w+ cannot be asked in offline mode"):
        fetch(folder)
    assert contents(folder) == {"manifest.yaml"}
    assert run("submit", folder).return_value == 2


def test_links_are_never_followed_or_written_through(
    server: HubServer, package: Callable[..., Path], tmp_path: Path
) -> None:
    folder = package()
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("mine", encoding="utf-8")
    (folder / "sub").symlink_to(outside)
    with pytest.raises(LinepressError, match="links are not followed"):
        fetch(folder)
    (folder / "sub").unlink()
    (folder / "config.json").symlink_to(victim)
    with pytest.raises(LinepressError, match="links are not followed"):
        fetch(folder)
    (folder / "config.json").unlink()
    (folder / PARTS_FOLDER).symlink_to(outside)
    with pytest.raises(LinepressError, match="is no folder"):
        fetch(folder)
    (folder / PARTS_FOLDER).unlink()
    (folder / PARTS_FOLDER).mkdir()
    data = single()["LICENSE"]
    os.link(victim, folder / PARTS_FOLDER / f"{hashlib.sha256(data).hexdigest()}.part")
    with pytest.raises(LinepressError, match="no file of one name"):
        fetch(folder)
    assert victim.read_text(encoding="utf-8") == "mine"
    assert list(outside.iterdir()) == [victim]


def test_a_file_that_is_there_and_is_another_is_not_written_over(
    server: HubServer, package: Callable[..., Path]
) -> None:
    folder = package()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LinepressError, match=r"'config\.json' is in the folder and is not the manifest's"):
        fetch(folder)
    assert (folder / "config.json").read_text(encoding="utf-8") == "{}"
    assert server.requests == []


def test_one_fetch_at_a_time(server: HubServer, package: Callable[..., Path]) -> None:
    folder = package()
    (folder / PARTS_FOLDER).mkdir()
    held = os.open(folder / PARTS_FOLDER, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(LinepressError, match="another linepress fetch"):
            fetch(folder)
    finally:
        os.close(held)
    assert fetch(folder).fetched == sorted(single())
