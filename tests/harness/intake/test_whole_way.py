"""A partner's whole way over HTTP in one test: pack, send, status page in a real browser, certificate, verify.

Slow: it starts a service with its runner, and the validation starts Ray (about 20 s of the test on two cores).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store.audit import entries
from linepress.intake.store.states import FINAL, MEANING
from linepress.submission.certificate.bundle import read_bundle
from linepress.submission.fixtures import build
from linepress_kit.browser import CHROMIUM, Browser
from linepress_kit.intake_server import IntakeServer

SUITE = """\
name: quick
version: 1
sources: [{uri: taken-from-the-submission.safetensors}]
codecs: [raw, huffman]
packings: [stream]
channel: {memories: [lpddr5x], workloads: [sequential], codecs: [huffman], n_requests: 1000}
system:
  models: [llama-3.1-8b]
  accelerators: [h100-sxm]
  codecs: [huffman]
  scenarios: [{name: decode-8k-b16, context_tokens: 8192, batch: 16, precision: w16a16kv16}]
seeds: {sample: 1, channel: 1, system: 1}
repeats: 1
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def linepress(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from linepress.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@dataclass
class House:
    """A running service, and a partner with a model; steps that were taken are not taken again."""

    server: IntakeServer
    token: str
    base: Path
    quick: tuple[str, ...] = ("--suite", "quick", "--memory", "hbm3")
    sent: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.base / "packed" / "acme" / "tiny"

    @property
    def certificate(self) -> Path:
        return self.base / "tiny.lpcert"

    def pack(self) -> dict[str, Any]:
        """`linepress pack` over a model of one BF16 tensor, with exact results."""
        values = np.random.Generator(np.random.PCG64(7)).normal(0, 0.02, 64 * 256).astype(np.float32)
        bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
        model = self.base / "tiny.safetensors"
        model.write_bytes(build({"model.layers.0.mlp.up_proj.weight": ("BF16", [64, 256], bf16.tobytes())}))
        terms = ("--licence", "Apache-2.0", "--contact", "lab@acme.example", "--suite", "quick")
        done = linepress(
            *("pack", str(model), "--partner", "acme", *terms, "--expect", "huffman"),
            *("--out", str(self.base / "packed"), "--json"),
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout)["manifest"])

    def send(self, *more: str) -> dict[str, Any]:
        """`linepress send`; sending again is the same submission."""
        done = linepress(
            *("send", str(self.folder), "--url", self.server.url, *self.quick, "--json", *more),
            LINEPRESS_TOKEN=self.token,
        )
        log = (self.server.data / "server.log").read_text(encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr + log
        self.sent = json.loads(done.stdout)
        return self.sent


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    base = tmp_path_factory.mktemp("way")
    (base / "quick.yaml").write_text(SUITE, encoding="utf-8")
    with IntakeServer(base / "data", ("--suite", str(base / "quick.yaml"))) as server:
        yield House(server, server.add_partner("acme"), base)


@pytest.fixture
def validated(house: House) -> House:
    """The house once the submission is validated: at once after the test of the whole way, else by going it."""
    if not house.folder.exists():
        house.pack()
    house.send("--wait", "--timeout", "180", "--certificate", str(house.certificate))
    return house


def words(html: str) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def watch(house: House, submission: str, profile: Path) -> list[str]:
    """Sign in with the keyboard, open the status page once and let it look again by itself until the end.

    Returns the states that the page showed, in their order; what the pages say is asserted on the way.
    """
    seen: list[str] = []
    with Browser(profile) as browser:
        browser.open(house.server.url)
        browser.type("#token", house.token)
        browser.enter()
        listing = browser.html()
        assert f"/submissions/{submission}" in listing
        assert "Submissions" in words(listing)
        browser.open(f"{house.server.url}/submissions/{submission}")
        end_s = time.monotonic() + 150
        while "validated" not in seen:
            assert time.monotonic() < end_s, seen
            page = browser.settled()
            shown = re.search(r'id="state"><strong>(\w+)</strong>', page)
            assert shown is not None, page
            if shown[1] in seen:
                time.sleep(0.2)
                continue
            seen.append(shown[1])
            text = words(page)
            assert f"{shown[1]} : {MEANING[shown[1]]}" in text
            assert f'<li aria-current="step">{shown[1]}</li>' in page
            assert ("This page looks again every" in text) == (shown[1] not in FINAL)
            assert ("check it with linepress verify" in text) == (shown[1] == "validated")
            assert shown[1] != "rejected", text
        assert page.count('class="PASS"') == 21
        assert "Run complete yes" in text
        assert "Lossless yes" in text
        assert "Reported results yes" in text
        assert "Place 1 by packed ratio" in text
        assert "hbm3" in text
        assert len(browser.screenshot()) > 10_000
    return seen


@pytest.mark.browser
def test_a_partner_goes_the_whole_way_from_pack_to_verify(house: House, tmp_path: Path) -> None:
    # The partner packs a model, with the exact results of a codec.
    manifest = house.pack()
    assert [(row["variant"], row["payload_bits"] > 0) for row in manifest["expected"]] == [("huffman", True)]

    # It is declared and uploaded over HTTP; every byte is acknowledged.
    sent = house.send()
    assert sent["state"] not in ("uploading", "rejected")
    files = house.server.request("GET", f"/v1/submissions/{sent['id']}", house.token).json["files"]
    assert {file["path"] for file in files} == {"manifest.yaml", *(entry["path"] for entry in manifest["files"])}
    assert all(file["offset"] == file["bytes"] for file in files)

    # The status page in a real browser, while the submission moves on and at the end.
    if CHROMIUM is None:
        warnings.warn("no Chromium on this machine: the status page was not looked at", stacklevel=1)
    else:
        seen = watch(house, sent["id"], tmp_path / "profile")
        assert seen[-1] == "validated"
        assert len(seen) > 1, "the page was never seen before the end"

    # The same command again waits for the verdict and fetches the certificate: nothing is sent twice.
    done = house.send("--wait", "--timeout", "180", "--certificate", str(house.certificate))
    assert (done["id"], done["state"]) == (sent["id"], "validated")
    assert [step["to_state"] for step in done["journal"]] == [
        *("uploading", "received", "checked", "queued", "running", "validated")
    ]
    assert len(house.server.request("GET", "/v1/submissions", house.token).json["submissions"]) == 1

    # The verdict: rules, losslessness, reported results, the chosen hardware, claims, place.
    result = house.server.request("GET", f"/v1/submissions/{sent['id']}/result", house.token).json
    assert [finding["verdict"] for finding in result["check"]["findings"]] == ["PASS"] * 21
    verdict = result["verdict"]
    assert [line["answer"] for line in verdict["lines"]] == ["yes", "yes", "yes"]
    assert verdict["seeds"] == {"sample": 1, "channel": 1, "system": 1}
    assert {row["figure"]: row["standing"] for row in verdict["expected"]} == {
        "payload_bits": "exact",
        "packed_bytes": "exact",
    }
    assert {row["memory"] for row in verdict["channel"]} == {"hbm3"}  # the partner's choice, not the suite's
    assert {row["accelerator"] for row in verdict["system"]} == {"h100-sxm"}
    assert verdict["claims"] or verdict["claims_not_checkable"]
    assert verdict["place"] == {"place": 1, "of": 1}
    huffman = next(row for row in verdict["ratios"] if row["variant"] == "huffman")
    assert 1 < huffman["payload_ratio"] <= huffman["bound_ratio"]
    rows = house.server.request("GET", "/v1/leaderboard", house.token).json["rows"]
    assert [(row["model"], row["place"], row["own"]) for row in rows] == [("acme/tiny", 1, True)]
    assert rows[0]["packed_ratio"] == pytest.approx(verdict["packed_ratio"])

    # The certificate holds, and a re-run gives the same bytes; without the key the signer is undecided.
    key = tmp_path / "service.pub"
    key.write_bytes(house.server.request("GET", "/v1/signing-key", house.token).body)
    assert linepress("verify", str(house.certificate)).returncode == 2
    plain = linepress("verify", str(house.certificate), "--key", str(key))
    assert plain.returncode == 0, plain.stdout + plain.stderr
    again = linepress("verify", str(house.certificate), "--key", str(key), "--rerun", str(house.folder))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "signature    PASS" in again.stdout
    assert re.search(r"rerun +PASS +\d+ results reproduced to the bit", again.stdout)


def test_the_certificate_does_not_tell_where_it_was_made(validated: House) -> None:
    bundle = read_bundle(validated.certificate)
    told = json.loads(bundle["run.json"])
    assert told["machine"]["host"] == "operator"
    assert {session["host"] for session in told["sessions"]} == {"operator"}
    assert json.loads(bundle["environment.json"])["machine"] == told["machine"]
    measured = pq.read_table(pa.BufferReader(bundle["tables/measure.parquet"]))
    assert set(measured["host"].to_pylist()) == {"operator"}
    assert set(measured["source"].to_pylist()) == {"in/acme/tiny/tiny.safetensors"}
    assert b"<dt>hosts</dt><dd>operator</dd>" in bundle["report.html"]
    for name, data in bundle.items():
        assert str(validated.base).encode() not in data, name


@pytest.mark.threat("a token of another partner")
def test_another_partner_sees_none_of_it(validated: House) -> None:
    foreign = validated.server.add_partner("rival")
    for what in ("", "/log", "/result", "/report", "/certificate"):
        path = f"/v1/submissions/{validated.sent['id']}{what}"
        assert validated.server.request("GET", path, validated.token).status == 200
        assert validated.server.request("GET", path, foreign).status == 404
    board = validated.server.request("GET", "/v1/leaderboard", foreign)
    assert [(row["model"], row["submission"]) for row in board.json["rows"]] == [(None, None)]
    assert b"acme" not in board.body
    shown = validated.server.request("GET", "/leaderboard", headers=validated.server.sign_in(foreign))
    assert "acme" not in shown.text


def test_everything_is_in_the_audit_log(validated: House) -> None:
    service = Service(Settings(data=validated.server.data))
    with service.db.read() as conn:
        actions = [row["action"] for row in entries(conn, "acme")]
    service.close()
    assert {"submission created", "upload completed", "certificate fetched"} <= set(actions)


def test_the_report_runs_no_script(validated: House) -> None:
    path = f"/v1/submissions/{validated.sent['id']}/report"
    report = validated.server.request("GET", path, validated.token)
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert str(validated.server.data) not in report.text


def test_the_final_page_has_no_script_and_stands_still(validated: House) -> None:
    page = validated.server.request(
        "GET", f"/submissions/{validated.sent['id']}", headers=validated.server.sign_in(validated.token)
    ).text
    assert "<script" not in page
    assert page.count('<td class="PASS">PASS</td>') == 21
    assert 'http-equiv="refresh"' not in page  # nothing changes any more


def test_the_style_sheet_is_packaged() -> None:
    assert files("linepress.intake").joinpath("static/intake.css").is_file()
