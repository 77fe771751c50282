"""Waivers of the licence rule: granted by the operator, written down, good for one partner until they are revoked."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.partner.partners import command as partners_command
from linepress.errors import LinepressError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.http.views import certificate_path
from linepress.intake.service import Service
from linepress.intake.settings import IntakeError
from linepress.intake.store import partners, states, submissions, waivers
from linepress.intake.store.audit import Actor
from linepress.intake.store.partners import Caller
from linepress.intake.store.uploads import part_path
from linepress.intake.work.places import Place
from linepress.intake.work.runner import Runner
from linepress.records import RunStore
from linepress.sources import open_source
from linepress.stages.measure.case import measure_case
from linepress.submission.fixtures import TERMS, build, weights
from linepress.submission.pack import pack
from linepress_codecs.variant import Variant

TERMS_OF_WAIVER = replace(TERMS, licence="Llama-3", redistribution=False, gated=True, waiver="W-1")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Packs, for a partner, one small tensor under a licence that only waiver W-1 lets in."""
    base = tmp_path_factory.mktemp("packed")
    model = base / "tiny.safetensors"
    model.write_bytes(build({"a": ("BF16", [16, 16], weights(1))}))
    return cache(lambda partner: pack(model, partner, base / "out", TERMS_OF_WAIVER).folder)


def handed_in(service: Service, partner: str, folder: Path) -> dict[str, Any]:
    """A submission of ``partner``, new to the service, whose bytes are all here."""
    caller, actor = Caller(partner, "token", ("submit", "read"), 1 << 30), Actor(partner, "token")
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = [
        {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(contents.items())
    ]
    with service.db.write() as conn:
        if partner not in [row["id"] for row in partners.list_partners(conn)]:
            partners.add_partner(conn, service.now(), partner, f"lab@{partner}.example")
    body = NewSubmission.model_validate({"name": "tiny", "files": files})
    row, _ = service.create(caller, actor, body, None)
    for number, file in enumerate(files):
        part = part_path(service.settings, row["id"], number)
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(contents[str(file["path"])])
    with service.db.write() as conn:
        conn.exec_driver_sql("UPDATE files SET offset = bytes")
    return service.complete(caller, actor, row["id"])


def grant(service: Service, partner: str, waiver: str = "W-1") -> None:
    with service.db.write() as conn:
        waivers.grant(conn, service.now(), waiver, partner, "S12", "agreement of 3 May", "Jo Lee")


def revoke(service: Service, waiver: str = "W-1") -> None:
    with service.db.write() as conn:
        waivers.revoke(conn, service.now(), waiver)


def now(service: Service, row: dict[str, Any]) -> dict[str, Any]:
    with service.db.read() as conn:
        return submissions.of_partner(conn, row["partner"], row["id"])


def steps(service: Service, row: dict[str, Any], count: int) -> dict[str, Any]:
    runner = Runner(service)
    for _ in range(count):
        assert runner.step()
    return now(service, row)


def measured(self: Runner, place: Place, stopped: Callable[[], bool]) -> tuple[int, str]:
    """In place of the process of the run: every tensor measured here, recorded as a run records it."""
    store = RunStore.create(
        place.run, {"run_id": "run", "status": "complete", "suite": {"name": "smoke", "text": "", "sha256": "0" * 64}}
    )
    inside = place.files.relative_to(place.path)
    rows = [
        {**measure_case(tensor, Variant.parse("huffman"), repeats=0), "case_key": tensor.name, "status": "ok"}
        for tensor in open_source(str(place.files)).tensors()
    ]
    store.append("measure", [{**row, "source": str(inside / "tiny.safetensors")} for row in rows])
    counts = {"planned": len(rows), "ok": len(rows), "failed": 0, "skipped": 0}
    store.manifest.update(counts={"measure": counts}, exit_code=0)
    store.save_manifest()
    return 0, ""


def test_a_waived_submission_is_checked_run_and_certified_under_its_waiver(
    service: Service, packed: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, "_execute", measured)
    row = handed_in(service, "acme", packed("acme"))
    grant(service, "acme")
    done = steps(service, row, 3)
    assert done["state"] == states.VALIDATED, done["reason"]
    with zipfile.ZipFile(certificate_path(service.settings, row["id"])) as bundle:
        findings = json.loads(bundle.read("verdict.json"))["findings"]
    licence = next(finding for finding in findings if finding["rule"] == "S12")
    assert licence["verdict"] == "PASS"
    assert "under waiver W-1" in licence["reasons"][0]


@pytest.mark.threat("a licence that forbids redistribution")
def test_a_waiver_that_is_missing_foreign_or_revoked_lets_nothing_in(
    service: Service, packed: Callable[[str], Path]
) -> None:
    refused = "S12 FAIL: waiver 'W-1' has not been granted"
    missing = handed_in(service, "acme", packed("acme"))
    assert refused in steps(service, missing, 1)["reason"]
    grant(service, "acme")
    foreign = handed_in(service, "rival", packed("rival"))
    assert refused in steps(service, foreign, 1)["reason"]
    revoke(service)
    revoked = handed_in(service, "acme", packed("acme"))
    done = steps(service, revoked, 1)
    assert (done["state"], refused in done["reason"]) == (states.REJECTED, True)


def test_a_waiver_revoked_during_the_run_ends_in_a_refusal_without_a_certificate(
    service: Service, packed: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def revoked_meanwhile(self: Runner, place: Place, stopped: Callable[[], bool]) -> tuple[int, str]:
        revoke(service)
        return measured(self, place, stopped)

    monkeypatch.setattr(Runner, "_execute", revoked_meanwhile)
    row = handed_in(service, "acme", packed("acme"))
    grant(service, "acme")
    done = steps(service, row, 3)
    assert (done["state"], done["reason"]) == (
        states.REJECTED,
        "S12 FAIL: waiver 'W-1' was revoked before the verdict",
    )
    assert not certificate_path(service.settings, row["id"]).exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rule": "S02"}, "rule 'S02' cannot be waived"),
        ({"waiver": "../W"}, "not an id"),
        ({"waiver": "W\n1"}, "not an id"),
        ({"reason": " "}, "--reason"),
        ({"reason": "x" * 1001}, "1001 characters"),
        ({"who": ""}, "--by"),
        ({"partner": "nobody"}, "partner 'nobody': none such"),
        ({"waiver": "W-0"}, "never given twice"),
    ],
)
def test_what_is_no_waiver_is_refused_in_one_sentence(service: Service, change: dict[str, str], says: str) -> None:
    words = {"waiver": "W-1", "partner": "acme", "rule": "S12", "reason": "agreed", "who": "Jo Lee"} | change
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "acme", "lab@acme.example")
    grant(service, "acme", "W-0")
    with pytest.raises(IntakeError, match=says) as error, service.db.write() as conn:
        waivers.grant(conn, service.now(), **words)
    assert "\n" not in str(error.value)
    with service.db.read() as conn:
        assert waivers.granted(conn, "acme") == ("W-0",)


def test_the_operator_grants_lists_and_revokes_on_the_command_line_and_it_is_audited(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "intake"))

    def run(*words: str) -> str:
        done = CliRunner().invoke(partners_command, [*words, *data], catch_exceptions=False, standalone_mode=False)
        return done.stdout

    run("add", "acme", "--contact", "lab@acme.example")
    run("waive", "acme", "--id", "W-1", "--reason", "agreement\n\x1b[2J of 3 May", "--by", "Jo Lee")
    listed = json.loads(run("waivers", "acme", "--json"))
    assert [(row["id"], row["partner"], row["rule"], row["granted_by"]) for row in listed] == [
        ("W-1", "acme", "S12", "Jo Lee")
    ]
    shown = run("waivers")
    assert "holds" in shown
    assert "\x1b" not in shown
    assert shown.count("\n") == 1
    run("revoke", "--waiver", "W-1")
    assert "revoked" in run("waivers")
    audit = [(row["action"], row["target"], row["outcome"]) for row in json.loads(run("audit", "--json"))]
    assert audit[:2] == [("waiver revoked", "W-1", "ok"), ("waiver granted", "acme/W-1", "S12 by Jo Lee")]
    with pytest.raises(LinepressError, match="revoked already"):
        run("revoke", "--waiver", "W-1")
