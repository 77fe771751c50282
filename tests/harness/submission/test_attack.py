"""Submissions of the attack on the intake, and their kinds: each got through, each is refused now."""

from __future__ import annotations

import io
import json
import pickle
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from linepress.submission.box import sandbox
from linepress.submission.box.rerun import rerun
from linepress.submission.check.content import HEAD_BYTES, TAIL_BYTES, archive_of
from linepress.submission.check.inspect import inspect
from linepress.submission.check.limits import Limits
from linepress.submission.check.manifest import ManifestError, parse_manifest
from linepress.submission.check.rules.identity import SLUG, like_licence
from linepress.submission.check.rules.names import name_problem
from linepress.submission.fixtures import SHARDS, build, edit, submission, weights, with_file
from linepress.submission.submit import check_submission

RESULT = '{{file: {file}, tensor: {tensor}, variant: "huffman", payload_bits: 1, packed_bytes: 1}}'


def with_expected(base: Path, file: str, tensor: str = "a.weight") -> Path:
    folder = submission(base)
    result = RESULT.format(file=json.dumps(file), tensor=json.dumps(tensor))
    edit(folder, "expected: []", f"expected:\n  - {result}")
    return folder


def reasons(folder: Path) -> dict[str, str]:
    return {f.rule: "; ".join(f.reasons) for f in inspect(folder, Limits()).findings if f.verdict == "FAIL"}


@pytest.mark.threat("results about files that were never handed in")
@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        ("/etc/hostname", "a.weight"),
        ("../../../secret.safetensors", "a.weight"),
        ("config.json", "a.weight"),
        ("absent.safetensors", "a.weight"),
        (f"./{SHARDS[0]}", "a.weight"),
        (f"{SHARDS[0]}?local=true", "a.weight"),
        (f"memory:{SHARDS[0]}", "a.weight"),
        ("hf://org/name", "a.weight"),
        (SHARDS[0], "b.weight"),
        (SHARDS[0], "nowhere"),
    ],
)
def test_an_expected_result_is_about_a_tensor_that_was_handed_in(file: str, tensor: str, tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(build({"a.weight": ("BF16", [16, 16], weights(9))}))
    assert reasons(with_expected(tmp_path, file, tensor))["S01"].startswith("expected[0].")


@pytest.mark.threat("results about files that were never handed in")
@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ("S05", f'path: "{SHARDS[0]}"', 'path: "/etc/hostname"'),
        ("S05", f'path: "{SHARDS[0]}"', 'path: "../../../etc/hostname"'),
        ("S05", f'path: "{SHARDS[0]}"', 'path: "C:\\\\x"'),
        ("S03", f'path: "{SHARDS[0]}"', 'path: "manifest.yaml"'),
        ("S16", 'submitter: "partner"', 'submitter: "../../etc"'),
        ("S16", 'name: "tiny"', 'name: "/etc"'),
        ("S11", 'uri: "hf://partner/tiny"', 'uri: "file:///etc/hostname"'),
        ("S11", 'uri: "hf://partner/tiny"', 'uri: "hf://partner/.."'),
        ("S12", "waiver: null", 'waiver: "../waivers"'),
    ],
)
def test_no_other_field_of_a_manifest_leads_elsewhere(rule: str, old: str, new: str, tmp_path: Path) -> None:
    folder = submission(tmp_path)
    edit(folder, old, new)
    assert rule in reasons(folder)


def test_a_file_that_was_not_handed_in_is_not_opened(tmp_path: Path) -> None:
    asked = []

    def ask(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
        asked.append(request["work"])
        return sandbox.ask(request, timeout_s)

    report = check_submission(with_expected(tmp_path, "/etc/hostname"), ask=ask)
    assert report.exit_code == 1
    assert asked == ["inspect"]


@pytest.mark.threat("results about files that were never handed in")
def test_the_re_run_opens_nothing_beside_the_submission(tmp_path: Path) -> None:
    """Were S01 to fail, Landlock would still hold: the re-run is asked for a file beside the submission."""
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(build({"a.weight": ("BF16", [16, 16], weights(9))}))
    folder = submission(tmp_path)
    expected = [{"file": path, "tensor": "a.weight", "variant": "huffman"} for path in (str(secret), SHARDS[0])]
    request = {"work": "rerun", "folder": str(folder), "expected": expected, "rerun_bytes": 1 << 20}
    answer = sandbox.ask({**request, "memory_bytes": 6 << 30, "mapped_bytes": 64 << 30, "cpu_s": 60}, 60)
    assert answer.document is not None, answer.reason + answer.stderr
    if not answer.document["isolation"]["landlock"]:
        pytest.skip("this kernel has no Landlock")
    beside, inside = answer.document["results"]
    assert beside == {"error": "it could not be measured"}
    assert inside["lossless"] is True


@pytest.mark.threat("results about files that were never handed in")
@pytest.mark.parametrize("file", ["/etc/hostname", "/nowhere/at/all", "../x"])
def test_a_reason_of_the_re_run_tells_nothing_of_this_machine(file: str, tmp_path: Path) -> None:
    (found,) = rerun(tmp_path, [{"file": file, "tensor": "t", "variant": "huffman"}], 1 << 20)
    assert found == {"error": "it could not be measured"}
    (found,) = rerun(tmp_path, [{"file": file, "tensor": "t", "variant": "hufman"}], 1 << 20)
    assert "hufman" in found["error"]
    assert "/" not in found["error"].replace("KiB/", "")


def ends(data: bytes) -> str | None:
    return archive_of(data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data), lambda at, n: data[at : at + n])


def a_zip(entries: int, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(entries):
            archive.writestr(f"{number}/evil.py", b"import os\n")
        archive.comment = comment
    return out.getvalue()


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
@pytest.mark.parametrize("behind", [0, 1, 2, 21, 22, 100, 65_535 - 22, 65_535, 65_536, 65_537, 70_000])
@pytest.mark.parametrize("entries", [0, 1, 3])
def test_what_zipfile_opens_is_an_archive(entries: int, behind: int) -> None:
    data = b"\x00" * 40 + a_zip(entries) + b"\x01" * behind
    try:
        with zipfile.ZipFile(io.BytesIO(data)):
            opens = True
    except zipfile.BadZipFile:
        opens = False
    assert ends(data) is not None or not opens
    assert (behind > 65_536) == (not opens), "the reach of zipfile has changed"


def test_an_end_record_with_another_within_it_is_one(tmp_path: Path) -> None:
    """zipfile looks 22 bytes before the end first; the last signature is not always the record (found by fuzzing)."""
    data = bytes(40) + b"PK\x05\x06\0PK\x05\x06" + bytes(13)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == []
    assert ends(data) is not None
    assert ends(bytes(40) + b"PK\x05\x06" * 16_000 + b"\x07" * 9) is None


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
def test_zipfile_and_the_check_over_damaged_archives() -> None:
    """20,000 archives with a few bytes changed, cut or put in: nothing that zipfile opens is let through."""
    rng = random.Random(1)
    opened = 0
    seeds = [
        b"{}" * 20 + a_zip(n, comment) for n in (0, 1, 4) for comment in (b"", b"PK\x05\x06" + bytes(18), b"c" * 9)
    ]
    for _ in range(20_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        data += bytes(rng.randrange(4))
        try:
            with zipfile.ZipFile(io.BytesIO(data)):
                opened += 1
        except Exception:
            continue
        assert ends(bytes(data)) is not None, bytes(data).hex()
    assert opened > 5000


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
def test_a_zip_behind_a_tensor_with_one_more_byte(tmp_path: Path) -> None:
    hidden = a_zip(1) + b"\x00"
    body = weights(2, 256)[: 512 - len(hidden)] + hidden
    found = reasons(with_file("more.safetensors", build({"c": ("U8", [len(body)], body)}), "safetensors")(tmp_path))
    assert "ZIP" in found["S15"]
    assert "ZIP" in found["S02"]


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
@pytest.mark.parametrize(
    ("at", "hidden", "kind"),
    [
        (100, b"7z\xbc\xaf\x27\x1c\x00\x04", "7z"),
        (1 << 20, b"7z\xbc\xaf\x27\x1c\x00\x04", "7z"),
        (101, b"Rar!\x1a\x07\x00", "RAR"),
        (4000, b"Rar!\x1a\x07\x01\x00", "RAR"),
        (0x8001, b"CD001\x01", "image of a disc"),
    ],
)
def test_what_programs_find_behind_a_header_is_an_archive(at: int, hidden: bytes, kind: str) -> None:
    data = bytearray(build({"c": ("U8", [2 << 20], bytes(2 << 20))}))
    assert ends(bytes(data)) is None
    data[at : at + len(hidden)] = hidden
    assert kind in str(ends(bytes(data)))


def test_four_bytes_in_a_tensor_are_no_archive(tmp_path: Path) -> None:
    body = bytes(100) + b"PK\x05\x06" + b"\x07" * 60
    assert ends(build({"c": ("U8", [len(body)], body)})) is None


def test_a_tar_without_magic_in_a_header(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert ends(bytes(block) + bytes(1024)) == "a tar archive"


TEXTS = {
    "model.pth": b"import os; os.system('true')\n",
    "setup.pth": b"hello\n",
    "x.py": b"print\n",
    "x.js": b"fetch('//evil')\n",
    "x.html": b"hello\n",
    "notes.txt": b"hello\n",
    "LICENSE.js": b"alert(1)\n",
    "NOTICE.html": b"hello\n",
    "LICENSE": pickle.dumps(pickle.dumps, 0),
    "LICENSE.txt": b"cos\nsystem\n(S'true'\ntR.",
    "NOTICE": b"(S'true'\nios\nsystem\n.",
    "README.md": b"# model\n<script>alert(1)</script>\n",
    "README": b"see <img src=x onerror=alert(1)>\n",
    "README.txt": b"%PDF-1.7\n",
    "COPYING": b"%!PS-Adobe-3.0\n",
    "NOTICE.md": b"{\\rtf1 hello}\n",
    "x.json5": b"{}",
    "config": b"{}",
}


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
@pytest.mark.parametrize("name", TEXTS)
def test_text_is_taken_by_name_and_holds_nothing_that_runs(name: str, tmp_path: Path) -> None:
    assert "S02" in reasons(with_file(name + ("" if name != "LICENSE" else "-2"), TEXTS[name])(tmp_path))


@pytest.mark.parametrize("name", ["LICENSE-MIT", "NOTICE.txt", "README.md", "COPYING", "licence.md"])
def test_licences_and_notices_are_taken(name: str, tmp_path: Path) -> None:
    text = (
        b"(c) 2026 Acme. All rights.\n```python\nimport torch\n```\n" if name == "README.md" else b"(c) 2026 Acme.\n"
    )
    assert reasons(with_file(name, text)(tmp_path)) == {}


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
@pytest.mark.parametrize(
    "name",
    [
        "CON", "con.txt", "aux.json", "NUL", "nul.tar.gz", "COM1", "lpt9.txt", "COM\u00b9", "conin$", "a/prn/b",
        "a.", "a ", " a", "a./b", "\u3164", "x\u3164.json", "\u115f", "\uffa0", "a\ufe0f", "\u2800", "a\U000e0100",
        "clock$", "CON .txt", "a/b. ", "a\u00a0", "a\u3000", "a\u200b", "a\u202e",
        "c\u043enfig.json", "m\u03bfdel", "\u0455hard.json",
        'a"b', "a|b", "a?b=c", "a*", "a:b",
    ],
)  # fmt: skip
def test_names_that_are_something_else_elsewhere(name: str) -> None:
    assert name_problem(name) is not None
    assert name_problem("console.json") is None
    assert name_problem("auxiliary/nulls.txt") is None
    assert name_problem("\u043c\u043e\u0434\u0435\u043b\u044c/\u6a21\u578b-v1.json") is None  # each script by itself


@pytest.mark.parametrize("name", ["con", "aux", "nul.x", "com1", "lpt0.json", "a.", "-a"])
def test_names_of_partners_and_submissions_are_names_of_folders_anywhere(name: str) -> None:
    assert not SLUG.match(name)
    assert SLUG.match("conrad")


def test_wide_letters_are_their_narrow_ones(tmp_path: Path) -> None:
    folder = with_file("LICENSE-A", b"x\n")(tmp_path)
    (folder / "LICENSE-\uff21").write_bytes(b"x\n")
    assert "one name on some file systems" in reasons(folder)["S05"]


@pytest.mark.threat(
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
)
@pytest.mark.parametrize(
    "number", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 5000, "1." + "0" * 5000]
)
def test_a_number_of_5000_digits_is_a_sentence(number: str) -> None:
    with pytest.raises(ManifestError, match=r"a number of 500[0-9] characters"):
        parse_manifest(b"schema_version: " + number.encode())


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("mit", "MIT"),
        ("MIT License", "MIT"),
        ("cc-by-4.0", "CC-BY-4.0"),
    ],
)
def test_a_licence_nearly_written_is_answered_with_the_right_one(said: str, meant: str) -> None:
    assert like_licence(said) == f"; did you mean {meant}?"
    assert like_licence("LicenseRef-Proprietary") == ""
    assert like_licence(meant) == ""
