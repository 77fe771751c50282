"""Submissions that mean harm, each of real bytes, and what is said about them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import socket
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress.errors import LinepressError
from linepress.submission.box import sandbox
from linepress.submission.check import inspect as checking
from linepress.submission.check.inspect import inspect
from linepress.submission.check.ledger import Ledger
from linepress.submission.check.limits import Limits
from linepress.submission.check.manifest import MANIFEST_NAME, ManifestError, parse_manifest
from linepress.submission.fixtures import (
    SHARDS,
    build,
    declare,
    edit,
    make_hard_link,
    model_files,
    resign,
    submission,
    weights,
    with_file,
)
from linepress.submission.store import StoreError, SubmissionStore
from linepress.submission.submit import check_isolation, check_submission


def verdicts(folder: Path, **limits: Any) -> dict[str, str]:
    return {finding.rule: finding.verdict for finding in inspect(folder, Limits(**limits)).findings}


def reasons(folder: Path, rule: str) -> str:
    return next("; ".join(f.reasons) for f in inspect(folder, Limits()).findings if f.rule == rule)


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(64 << 20))
    return out.getvalue()


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("../../escape")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(4, dtype=np.float32))
    return out.getvalue()


CONTENT = {
    "a pickle": pickle.dumps({"weights": [1, 2]}),
    "a pickle of protocol 0 and a lie": b"cos\nsystem\n(S'true'\ntR.\x00",
    "a ZIP bomb": zip_bomb(),
    "a tar": tar(),
    "gzip": gzip.compress(bytes(100)),
    "NumPy": npy(),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(16),
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(57),
    "PE": b"MZ" + bytes(62),
    "a shell script": b"#!/bin/sh\ntrue\n",
    "Python": b"from torch import nn\n\nclass Evil(nn.Module):\n    pass\n",
    "Python in one line": b"import os\n",
    "HTML": b"<!DOCTYPE html><script>alert(1)</script>",
    "SVG": b'<svg onload="alert(1)">',
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "control characters": b"hello \x1b[2J\n",
    "noise": bytes(range(256)),
}


@pytest.mark.threat("pickles, archives, programs, scripts, pointers under another name", "a pickle")
@pytest.mark.parametrize("name", ["LICENSE.txt", "notes.json", "w.safetensors"])
@pytest.mark.parametrize("kind", CONTENT)
def test_content_is_told_by_its_bytes(kind: str, name: str, tmp_path: Path) -> None:
    folder = with_file(name, CONTENT[kind])(tmp_path)
    found = verdicts(folder)
    assert "FAIL" in (found["S02"], found["S07"]), found
    if name == "LICENSE.txt":
        assert found["S02"] == "FAIL"
    assert found["S10"] == "PASS"


@pytest.mark.threat("pickles, archives, programs, scripts, pointers under another name")
def test_a_pointer_is_named_as_one(tmp_path: Path) -> None:
    folder = with_file("w.safetensors", CONTENT["a Git LFS pointer"], "safetensors")(tmp_path)
    assert "git lfs pull" in reasons(folder, "S02")


@pytest.mark.threat("an archive bomb")
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    data = CONTENT["a ZIP bomb"]
    folder = with_file("w.bin", data)(tmp_path)
    assert verdicts(folder)["S15"] == "FAIL"


JSON = {
    "a duplicate key": b'{"hidden_size": 1, "hidden_size": 2}',
    "deep": b"[" * 100 + b"]" * 100,
    "deep beyond recursion": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "NaN": b'{"a": NaN}',
    "a number of a million digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
    "not closed": b'{"a": 1',
    "over 16 MiB": b'{"a": "' + b"x" * (16 << 20) + b'"}',
    "code below": b'{"text_config": [{"custom_code": true}]}',
    "trust": b'{"trust_remote_code": false}',
}


@pytest.mark.threat("configurations that load code, or are too deep", "trust", "deep beyond recursion")
@pytest.mark.parametrize("kind", JSON)
def test_configurations_within_caps_and_without_code(kind: str, tmp_path: Path) -> None:
    folder = submission(tmp_path)
    (folder / "config.json").write_bytes(JSON[kind])
    resign(folder)
    assert verdicts(folder)["S13"] == "FAIL"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    os.mknod(path, 0o020600, os.makedev(1, 5))  # /dev/zero never ends


IRREGULAR: dict[str, Callable[[Path], None]] = {
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a link within": lambda path: path.symlink_to("config.json"),
    "a link to a folder": lambda path: path.symlink_to("/etc"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a pipe": _fifo,
    "a socket": _socket,
    "a device": _device,
}


@pytest.mark.threat("symbolic links", "a link")
@pytest.mark.threat("devices, pipes, sockets", "a device", "a pipe")
@pytest.mark.parametrize("kind", IRREGULAR)
def test_only_regular_files(kind: str, tmp_path: Path) -> None:
    folder = submission(tmp_path)
    try:
        IRREGULAR[kind](folder / "thing")
    except PermissionError:
        pytest.skip("only root may make a device")
    assert verdicts(folder)["S04"] == "FAIL"


@pytest.mark.threat("hard links")
def test_a_hard_link_is_a_second_name(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    make_hard_link(folder)
    assert "hard links" in reasons(folder, "S04")


@pytest.mark.threat("symbolic links")
def test_the_folder_itself_is_no_link(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    link = folder.with_name("link")
    link.symlink_to(folder)
    with pytest.raises(LinepressError, match="links are not followed"):
        check_submission(link)


NAMES = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "C:/x",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x1b[2J",
    ".x",
    "a/.x",
    "n" * 256,
    "a//b",
    "",
]


@pytest.mark.threat("names of files with `../`, NUL, newline, over 255 bytes")
@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_manifest_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    folder = submission(tmp_path)
    quoted = name.replace("\\", "\\\\").replace("\0", "\\0").replace("\n", "\\n").replace("\x1b", "\\e")
    edit(folder, '"config.json"', f'"{quoted}"')
    found = inspect(folder, Limits())
    by_rule = {f.rule: f for f in found.findings}
    assert by_rule["S05"].verdict == "FAIL"
    assert all(reason.isprintable() for f in found.findings for reason in f.reasons)


@pytest.mark.threat("names that are one name elsewhere, or no text")
@pytest.mark.parametrize("pair", [("README", "readme"), ("stra\u00dfe", "strasse"), ("\u00e9", "e\u0301")])
def test_names_that_are_one_elsewhere_collide(pair: tuple[str, str], tmp_path: Path) -> None:
    folder = submission(tmp_path)
    for name in pair:
        (folder / name).write_text("text\n", encoding="utf-8")
        declare(folder, name, "text")
    assert verdicts(folder)["S05"] == "FAIL"


@pytest.mark.threat("names that are one name elsewhere, or no text")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b\n")).write_text("text\n", encoding="utf-8")
    report = check_submission(folder)
    assert report.exit_code == 1
    assert all(reason.isprintable() for f in report.findings for reason in f.reasons)


def test_limits_hold_before_anything_is_read(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    with (folder / "huge.safetensors").open("wb") as file:
        file.truncate(5 << 40)  # sparse: takes no room, and would take an hour to read
    assert verdicts(folder)["S06"] == "FAIL"
    assert check_submission(folder).exit_code == 1


def test_too_many_files_and_too_deep(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    assert verdicts(folder, files=2)["S06"] == "FAIL"
    assert verdicts(folder, total_bytes=100)["S06"] == "FAIL"
    assert verdicts(folder, file_bytes=100)["S06"] == "FAIL"
    (folder / "a/b/c/d/e/f").mkdir(parents=True)
    assert verdicts(folder)["S06"] == "FAIL"


def test_an_empty_folder_is_nothing_to_check(tmp_path: Path) -> None:
    assert check_submission(tmp_path).exit_code == 3
    with pytest.raises(LinepressError, match="no such folder"):
        check_submission(tmp_path / "absent")


@pytest.mark.threat("10^6 tiny tensors")
def test_a_million_tiny_tensors_cost_little(tmp_path: Path) -> None:
    n = 1_000_000
    header = bytearray(b"{")
    for i in range(n):
        header += b'"t%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]},' % (i, i, i + 1)
    header[-1:] = b"}"
    folder = submission(tmp_path)
    (folder / SHARDS[1]).write_bytes(len(header).to_bytes(8, "little") + header + bytes(n))
    resign(folder)
    report = check_submission(folder)
    assert {f.rule: f.verdict for f in report.findings}["S06"] == "FAIL"
    assert report.isolation["peak_bytes"] < 300e6


@pytest.mark.threat("a header of 100 MB")
def test_a_header_of_100_MB_costs_little(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    n = 100_000_000
    (folder / SHARDS[1]).write_bytes(n.to_bytes(8, "little") + b"{}" + b" " * (n - 2))
    resign(folder)
    report = check_submission(folder)
    found = {f.rule: f.verdict for f in report.findings}
    assert (found["S06"], found["S07"], found["S08"]) == ("PASS", "PASS", "PASS")
    assert found["S14"] == "FAIL"
    assert report.isolation["peak_bytes"] < 300e6


@pytest.mark.threat("a file that changes between check and use")
def test_a_file_that_changes_while_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = submission(tmp_path)
    real = checking.check_documents

    def meanwhile(*arguments: Any) -> None:
        data = bytearray((folder / SHARDS[0]).read_bytes())
        data[-1] ^= 1
        (folder / SHARDS[0]).write_bytes(bytes(data))
        real(*arguments)

    monkeypatch.setattr(checking, "check_documents", meanwhile)
    assert verdicts(folder)["S10"] == "FAIL"


@pytest.mark.threat("a file that changes between check and use")
def test_a_file_that_is_exchanged_while_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = submission(tmp_path)
    real = checking.check_documents

    def meanwhile(*arguments: Any) -> None:
        (tmp_path / "other").write_bytes((folder / SHARDS[0]).read_bytes())
        (tmp_path / "other").replace(folder / SHARDS[0])
        real(*arguments)

    monkeypatch.setattr(checking, "check_documents", meanwhile)
    assert verdicts(folder)["S10"] == "FAIL"


@pytest.mark.threat("a file that changes between check and use")
def test_a_file_that_changes_between_check_and_acceptance(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    report = check_submission(folder)
    assert report.exit_code == 0
    status = (folder / SHARDS[0]).stat()
    data = bytearray((folder / SHARDS[0]).read_bytes())
    data[-1] ^= 1
    (folder / SHARDS[0]).write_bytes(bytes(data))
    os.utime(folder / SHARDS[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    store = SubmissionStore(tmp_path / "store")
    with pytest.raises(StoreError, match="changed since it was checked"):
        store.accept(report)
    assert not (tmp_path / "store" / "submissions").exists()
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


@pytest.mark.threat("two partners with one name")
def test_acceptance_keeps_content_once_and_names_apart(tmp_path: Path) -> None:
    store = SubmissionStore(tmp_path / "store")
    folder = submission(tmp_path)
    report = check_submission(folder)
    place = store.accept(report)
    assert store.accept(report) == place
    assert {path.name for path in (place / "files").iterdir()} == {*model_files(), MANIFEST_NAME}
    # another partner may use the same name; the same partner may not with other content
    edit(folder, 'submitter: "partner"', 'submitter: "other"')
    folder.parent.rename(folder.parent.with_name("other"))
    other = store.accept(check_submission(folder.parent.with_name("other") / "tiny"))
    assert other != place
    assert len([p for p in (tmp_path / "store" / "objects").rglob("*") if p.is_file()]) == len(model_files()) + 2
    changed = submission(tmp_path / "again", {**model_files(), "LICENSE": b"MIT\n"})
    with pytest.raises(StoreError, match="other content"):
        store.accept(check_submission(changed))


def test_what_is_refused_is_not_kept(tmp_path: Path) -> None:
    folder = with_file("x.txt", b"\x80\x04.")(tmp_path)
    with pytest.raises(StoreError):
        SubmissionStore(tmp_path / "store").accept(check_submission(folder))
    assert not (tmp_path / "store").exists()


def test_under_another_name_is_refused(tmp_path: Path) -> None:
    report = check_submission(submission(tmp_path), submitter="somebody")
    assert {f.rule: f.verdict for f in report.findings}["S16"] == "FAIL"


@pytest.mark.threat("a licence that forbids redistribution")
def test_a_licence_that_forbids_needs_a_waiver_we_granted(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    edit(folder, "redistribution: true", "redistribution: false")
    edit(folder, "waiver: null", 'waiver: "W-1"')
    assert verdicts(folder)["S12"] == "FAIL"
    found = {f.rule: f.verdict for f in inspect(folder, Limits(), waivers=("W-1",)).findings}
    assert found["S12"] == "PASS"


def test_files_by_reference_stay_undecided(tmp_path: Path) -> None:
    folder = submission(tmp_path)
    edit(folder, 'delivery: "files"', 'delivery: "reference"')
    for name in SHARDS:
        (folder / name).unlink()
    found = inspect(folder, Limits())
    by_rule = {f.rule: f.verdict for f in found.findings}
    assert by_rule["S03"] == "PASS"
    assert "PASS" not in (by_rule["S07"], by_rule["S10"], by_rule["S14"])


MANIFESTS = {
    "a tag": b"!!python/object/apply:os.system [true]\n",
    "an alias": b"a: &x [1]\nb: *x\n",
    "a duplicate key": b"schema_version: 1\nschema_version: 1\n",
    "an unknown key": b"schema_version: 1\nevil: 1\n",
    "no version": b"submitter: x\n",
    "another version": b"schema_version: 2\n",
    "not UTF-8": b"\xff\xfe",
    "over 64 KiB": b"#" * (65 << 10),
    "a bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\n",
    "empty": b"",
    "deep": b"[" * 20_000,
    "deep in one line": b"- " * 20_000,
    "deep keys": b"? " * 20_000,
    "deep and quoted": b"a: '" + b'"' + b"': " + b"[" * 20_000,
    "two documents": b"a: 1\n---\nb: 1\n",
}


@pytest.mark.threat("YAML with tags, aliases, a key twice, a bomb", "a tag", "a bomb")
@pytest.mark.parametrize("kind", MANIFESTS)
def test_manifests_by_a_strict_loader(kind: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(MANIFESTS[kind])


def worker(code: str, **more: Any) -> sandbox.Answer:
    prelude = "import sys, json, os\nfrom linepress.submission.box import isolation\n"
    request = {"work": "inspect", **more}
    return sandbox.ask(request, 10, (sys.executable, "-I", "-c", prelude + code))


@pytest.mark.threat("an attack on the checking process: network, files, memory, a lie in its answer")
def test_the_sandbox_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = worker(
            "import socket\n"
            "request = json.loads(sys.stdin.read())\n"
            "how = isolation.cut_off()['network']\n"
            "try: socket.create_connection(('127.0.0.1', request['port']), 2); said = 'connected'\n"
            "except OSError: said = 'cut'\n"
            "isolation.refuse_events()\n"
            "try: socket.socket(); hook = 'open'\n"
            "except isolation.IsolationError: hook = 'refused'\n"
            "print(json.dumps({'how': how, 'said': said, 'hook': hook}))",
            port=server.getsockname()[1],
        )
    assert answer.document is not None, answer.reason
    assert answer.document["hook"] == "refused"
    # where the system permits no namespace, the hook is all there is, and S19 says so
    assert answer.document["said"] == ("connected" if answer.document["how"] == "audit hook" else "cut")


@pytest.mark.threat("an attack on the checking process: network, files, memory, a lie in its answer")
def test_the_sandbox_reads_the_submission_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("a", encoding="utf-8")
    (tmp_path / "other").write_text("secret", encoding="utf-8")
    answer = worker(
        "from linepress.submission.box import landlock\n"
        "from pathlib import Path\n"
        "request = json.loads(sys.stdin.read())\n"
        "base = Path(request['base'])\n"
        "isolation.cut_off()\n"
        "version = landlock.restrict([base / 'mine'])\n"
        "def attempt(act):\n"
        "    try: act()\n"
        "    except PermissionError: return 'refused'\n"
        "    return 'done'\n"
        "print(json.dumps({'version': version, 'mine': attempt((base / 'mine/a').read_text),\n"
        "    'other': attempt((base / 'other').read_text), 'list': attempt(lambda: os.listdir(base)),\n"
        "    'write': attempt(lambda: (base / 'mine/b').write_text('x')),\n"
        "    'run': attempt(lambda: os.execv('/bin/true', ['true']))}))",
        base=str(tmp_path),
    )
    assert answer.document is not None, answer.reason
    version = answer.document.pop("version")
    if not version:
        pytest.skip("this kernel has no Landlock; S19 says so")
    assert answer.document == {
        k: "done" if k == "mine" else "refused" for k in ("mine", "other", "list", "write", "run")
    }


def test_a_network_that_is_still_there_is_a_breach() -> None:
    ledger = Ledger(["S19"])
    check_isolation({"network": "namespace", "interfaces": ["lo", "eth0"], "memory_bytes": 1, "cpu_s": 1}, ledger)
    assert ledger.findings()[0].verdict == "FAIL"
    ledger = Ledger(["S19"])
    check_isolation({"network": "audit hook", "interfaces": ["lo", "eth0"], "memory_bytes": 1, "cpu_s": 1}, ledger)
    assert ledger.findings()[0].verdict == "PASS"
    assert "no network namespace" in ledger.findings()[0].reasons[0]


@pytest.mark.threat("an attack on the checking process: network, files, memory, a lie in its answer")
@pytest.mark.parametrize(
    "attempt",
    [
        "__import__('subprocess').Popen(['true'])",
        "os.system('true')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "open('/tmp/evil', 'w')",
        "os.open('/tmp/evil', os.O_WRONLY | os.O_CREAT)",
        "os.remove('/tmp/evil')",
        "__import__('pickle').loads(b'cos\\nsystem\\n(S\"true\"\\ntR.')",
        "__import__('ctypes').CDLL(None)",
    ],
)
def test_the_sandbox_refuses(attempt: str) -> None:
    answer = worker(
        "isolation.cut_off(); isolation.refuse_events()\n"
        f"try: {attempt}; said = 'done'\n"
        "except isolation.IsolationError: said = 'refused'\n"
        "print(json.dumps({'said': said}))"
    )
    assert answer.document == {"said": "refused"}, answer


@pytest.mark.threat("an attack on the checking process: network, files, memory, a lie in its answer")
def test_the_sandbox_limits_memory_and_cpu() -> None:
    answer = worker("isolation.limit(200 << 20, 1 << 30, 5)\nx = bytearray(400 << 20)\nprint('{}')")
    assert answer.document is None
    assert "memory" in answer.reason
    answer = worker("isolation.limit(500 << 20, 1 << 30, 1)\nwhile True: pass")
    assert answer.document is None
    assert "CPU" in answer.reason


@pytest.mark.threat("an attack on the checking process: network, files, memory, a lie in its answer")
@pytest.mark.parametrize(
    "code",
    [
        "print('not json')",
        "print('[1]')",
        "print('{\"findings\": []}')",
        'print(\'{"findings": [{"rule": "S01", "verdict": "PASS", "reasons": []}]}\')',
        "sys.exit(0)",
        "os.kill(os.getpid(), 11)",
        "os.write(1, b'x' * (1 << 20))",
        "[os.write(1, bytes(1 << 20)) for _ in range(100)]",
    ],
)
def test_an_answer_that_does_not_hold_up_is_no_verdict(code: str, tmp_path: Path) -> None:
    def ask(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
        return worker(code)

    report = check_submission(submission(tmp_path), ask=ask)
    assert report.exit_code == 2
    assert {f.verdict for f in report.findings if f.rule <= "S17" or f.rule == "S19"} == {"UNDECIDED"}


def test_a_checking_process_that_breaks_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    def ask(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
        return worker("open('/srv/operator/secret-place')")

    answer = ask({}, 1)
    assert answer.reason == "it failed with status 1 (FileNotFoundError)"
    assert "/srv/operator/secret-place" in answer.stderr
    report = check_submission(submission(tmp_path), ask=ask)
    assert report.exit_code == 2
    assert not any("/" in reason for f in report.findings if f.rule >= "S17" for reason in f.reasons)


@pytest.mark.threat("names that are HTML")
def test_the_page_of_a_hostile_submission_is_only_text(tmp_path: Path) -> None:
    from linepress.submission.report import render_page

    name = "<script>alert(1)</script>"
    folder = submission(tmp_path)
    (folder / SHARDS[1]).write_bytes(build({name: ("BF16", [8, 32], weights(2))}))
    resign(folder)
    report = check_submission(folder)
    page = render_page(report.document(), name)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert any(name in reason for f in report.findings for reason in f.reasons)
