"""The verbs from the outside: pack, submit, explain, certify, verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from linepress.cli.app import app
from linepress.errors import LinepressError
from linepress.submission.check.ledger import RULES
from linepress.submission.check.manifest import Manifest, parse_manifest, write_manifest
from linepress.submission.fixtures import FIXTURES, TERMS, model_files
from linepress.submission.pack import Terms, pack


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], standalone_mode=False)


def model(base: Path) -> Path:
    folder = base / "Tiny Model"
    folder.mkdir()
    for name, data in model_files().items():
        (folder / name).write_bytes(data)
    (folder / "modeling.py").write_text("import os\n", encoding="utf-8")
    (folder / ".gitattributes").write_text("x\n", encoding="utf-8")
    return folder


PACK = ("--partner", "acme", "--licence", "Apache-2.0", "--contact", "lab@acme.example")


def test_pack_then_submit_then_accept(tmp_path: Path) -> None:
    packed = run("pack", model(tmp_path), *PACK, "-o", tmp_path / "out", "--json")
    assert packed.return_value == 0, packed.output
    document = json.loads(packed.stdout)
    assert document["left_out"] == [".gitattributes", "modeling.py"]
    folder = tmp_path / "out" / "acme" / "tiny-model"
    assert document["folder"] == str(folder)
    checked = run("submit", folder, "--accept", "--store", tmp_path / "store", "--page", tmp_path / "v.html")
    assert checked.return_value == 0, checked.output
    lines = checked.stdout.splitlines()
    assert [line[:3] for line in lines[:21]] == list(RULES)
    assert all(line.split()[1] == "PASS" for line in lines[:21])
    assert (tmp_path / "store/submissions/acme/tiny-model/files/manifest.yaml").is_file()
    assert "accepted" in (tmp_path / "v.html").read_text(encoding="utf-8")


def test_submit_is_dry_and_says_every_rule(tmp_path: Path) -> None:
    folder = FIXTURES["S10"][1].make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found = run("submit", folder, "--json")
    assert found.return_value == 1
    document: dict[str, Any] = json.loads(found.stdout)
    assert [finding["rule"] for finding in document["findings"]] == list(RULES)
    assert document["accepted"] is None
    assert sorted(tmp_path.rglob("*")) == before


def test_submit_with_nothing_to_check(tmp_path: Path) -> None:
    assert run("submit", tmp_path).return_value == 3


def test_explain_one_and_all(tmp_path: Path) -> None:
    told = run("explain", "s07", "--make", tmp_path)
    assert told.return_value == 0
    assert told.stdout.startswith("S07 Geometry")
    assert (tmp_path / "S07/fails/submissions/partner/tiny/manifest.yaml").is_file()
    assert [line[:3] for line in run("explain").stdout.splitlines()] == list(RULES)
    assert json.loads(run("explain", "S21", "--json").stdout)["id"] == "S21"
    with pytest.raises(LinepressError, match="S01 to S21"):
        raise run("explain", "S99").exception or AssertionError("S99 was explained")


def test_certify_makes_keys_and_verify_wants_a_bundle(tmp_path: Path) -> None:
    made = run("certify", "--new-key", tmp_path / "k", "--json")
    assert len(json.loads(made.stdout)["key_id"]) == 64
    assert run("verify", __file__, "--key", tmp_path / "k.pub").return_value == 1
    assert isinstance(run("verify", tmp_path / "absent").exception, LinepressError)


@pytest.mark.parametrize("verb", ["pack", "submit", "explain", "certify", "verify"])
def test_help_has_examples(verb: str) -> None:
    assert "Examples:" in run(verb, "--help").output


def test_a_manifest_survives_being_written(tmp_path: Path) -> None:
    manifest = pack(model(tmp_path), "acme", tmp_path / "out", TERMS, name="x").manifest
    odd = manifest.model_copy(
        update={"contact": 'a "b" \\ \u2028 \x85 \U0001f600 0123 yes', "submitter": "on", "name": "1.10"}
    )
    text = write_manifest(odd)
    assert parse_manifest(text.encode()) == odd
    assert isinstance(odd, Manifest)


def test_pack_leaves_nothing_behind_when_it_cannot(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "broken.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(LinepressError, match=r"broken\.safetensors"):
        pack(folder, "acme", tmp_path / "out", TERMS)
    assert list((tmp_path / "out").rglob("*.*")) == []
    for partner, name in (("../x", "y"), ("acme", "../y"), ("Acme", "y")):
        with pytest.raises(LinepressError, match="lower-case"):
            pack(folder, partner, tmp_path / "out", TERMS, name=name)


def test_pack_by_reference_copies_nothing(tmp_path: Path) -> None:
    terms = Terms("MIT", "lab@acme.example", TERMS.source, TERMS.revision, reference=True)
    packed = pack(model(tmp_path), "acme", tmp_path / "out", terms)
    assert [path.name for path in packed.folder.iterdir()] == ["manifest.yaml"]
    assert run("submit", packed.folder).return_value == 2
