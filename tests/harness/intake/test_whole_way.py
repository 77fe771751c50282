"""A partner's whole way over HTTP: pack, send, check, run, status page in a real browser, certificate, verify.

Slow: it starts a service with its runner, and the validation starts Ray (about 20 s of the test on two cores).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress.intake.audit import entries
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.testing.browser import CHROMIUM, Browser
from linepress.testing.intake_server import IntakeServer
from linepress.testing.safetensors_files import build

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
class Way:
    """What the whole way left."""

    server: IntakeServer
    token: str
    submission: dict[str, Any]
    folder: Path
    certificate: Path


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    base = tmp_path_factory.mktemp("way")
    (base / "quick.yaml").write_text(SUITE, encoding="utf-8")
    exponents = np.random.Generator(np.random.PCG64(7)).normal(0, 0.02, 64 * 256).astype(np.float32)
    bf16 = (exponents.view(np.uint32) >> 16).astype(np.uint16)
    model = base / "tiny.safetensors"
    model.write_bytes(build({"model.layers.0.mlp.up_proj.weight": ("BF16", [64, 256], bf16.tobytes())}))
    terms = ("--licence", "Apache-2.0", "--contact", "lab@acme.example", "--suite", "quick", "--expect", "huffman")
    packed = linepress("pack", str(model), "--partner", "acme", *terms, "--out", str(base / "packed"), "--json")
    assert packed.returncode == 0, packed.stderr
    folder = base / "packed" / "acme" / "tiny"
    with IntakeServer(base / "data", ("--suite", str(base / "quick.yaml"))) as server:
        token = server.add_partner("acme")
        certificate = base / "tiny.lpcert"
        sent = linepress(
            *("send", str(folder), "--url", server.url, "--suite", "quick", "--memory", "hbm3", "--wait"),
            *("--certificate", str(certificate), "--timeout", "180", "--json"),
            LINEPRESS_TOKEN=token,
        )
        log = server.data / "server.log"
        assert sent.returncode == 0, sent.stdout + sent.stderr + log.read_text(encoding="utf-8")
        yield Way(server, token, json.loads(sent.stdout), folder, certificate)


def test_every_state_is_journalled_and_the_verdict_is_whole(way: Way) -> None:
    steps = [step["to_state"] for step in way.submission["journal"]]
    assert steps == ["uploading", "received", "checked", "queued", "running", "validated"]
    base = f"/v1/submissions/{way.submission['id']}"
    result = way.server.request("GET", f"{base}/result", way.token).json
    assert [finding["verdict"] for finding in result["check"]["findings"]] == ["PASS"] * 21
    verdict = result["verdict"]
    assert [line["answer"] for line in verdict["lines"]] == ["yes", "yes", "yes"]
    assert verdict["seeds"] == {"sample": 1, "channel": 1, "system": 1}
    assert {row["figure"]: row["standing"] for row in verdict["expected"]} == {
        "payload_bits": "exact",
        "packed_bytes": "exact",
    }
    assert {row["memory"] for row in verdict["channel"]} == {"hbm3"}  # the partner's choice, not the suite's
    assert [row["accelerator"] for row in verdict["system"]] == ["h100-sxm"] * len(verdict["system"])
    assert verdict["system"]
    assert verdict["claims"] or verdict["claims_not_checkable"]
    assert verdict["place"] == {"place": 1, "of": 1}
    huffman = next(row for row in verdict["ratios"] if row["variant"] == "huffman")
    assert 1 < huffman["payload_ratio"] <= huffman["bound_ratio"]
    rows = way.server.request("GET", "/v1/leaderboard", way.token).json["rows"]
    assert [(row["model"], row["place"], row["own"]) for row in rows] == [("acme/tiny", 1, True)]
    assert rows[0]["packed_ratio"] == pytest.approx(verdict["packed_ratio"])


def test_the_certificate_holds_anywhere_and_a_rerun_gives_the_same_bytes(way: Way, tmp_path: Path) -> None:
    key = tmp_path / "service.pub"
    key.write_bytes(way.server.request("GET", "/v1/signing-key", way.token).body)
    done = linepress("verify", str(way.certificate), "--key", str(key), "--rerun", str(way.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "signature    PASS" in done.stdout
    damaged = tmp_path / "damaged.lpcert"
    raw = bytearray(way.certificate.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    assert linepress("verify", str(damaged), "--key", str(key)).returncode == 1


def test_another_partner_sees_none_of_it(way: Way) -> None:
    foreign = way.server.add_partner("rival")
    for what in ("", "/log", "/result", "/report", "/certificate"):
        path = f"/v1/submissions/{way.submission['id']}{what}"
        assert way.server.request("GET", path, way.token).status == 200
        assert way.server.request("GET", path, foreign).status == 404
    board = way.server.request("GET", "/v1/leaderboard", foreign)
    assert [(row["model"], row["submission"]) for row in board.json["rows"]] == [(None, None)]
    assert b"acme" not in board.body
    assert "acme" not in way.server.request("GET", "/leaderboard", headers=way.server.sign_in(foreign)).text


def test_the_report_runs_no_script(way: Way) -> None:
    report = way.server.request("GET", f"/v1/submissions/{way.submission['id']}/report", way.token)
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert str(way.server.data) not in report.text


def test_everything_is_in_the_audit_log(way: Way) -> None:
    service = Service(Settings(data=way.server.data))
    with service.db.read() as conn:
        actions = [row["action"] for row in entries(conn, "acme")]
    service.close()
    assert {"submission created", "upload completed", "certificate fetched"} <= set(actions)


def test_the_page_says_it_in_html(way: Way) -> None:
    page = way.server.request(
        "GET", f"/submissions/{way.submission['id']}", headers=way.server.sign_in(way.token)
    ).text
    assert "<script" not in page
    assert page.count('<td class="PASS">PASS</td>') == 21
    assert 'http-equiv="refresh"' not in page  # nothing changes any more


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_person_signs_in_and_reads_the_verdict_without_javascript(way: Way, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(way.server.url)
        browser.type("#token", way.token)
        browser.enter()
        listing = browser.html()
        assert "Submissions" in listing
        assert f"/submissions/{way.submission['id']}" in listing
        browser.open(f"{way.server.url}/submissions/{way.submission['id']}")
        page = browser.html()
        assert "<strong>validated</strong>" in page
        assert "Certificate" in page
        assert page.count('class="PASS"') == 21
        assert len(browser.screenshot()) > 10_000


def test_the_style_sheet_is_packaged() -> None:
    assert files("linepress.intake").joinpath("static/intake.css").is_file()
