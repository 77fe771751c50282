"""docs/partners.md, followed literally: the commands of its first block, taken from the page, by a newcomer, with the
status page in a real browser meanwhile; and what everybody else then sees.

Slow: it starts a service with its runner, and the one validation starts Ray.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
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
from click.testing import CliRunner, Result

from linepress.cli.partner.send import command as send
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store.audit import entries
from linepress.intake.store.states import FINAL, MEANING
from linepress.submission.certificate.bundle import read_bundle
from linepress.submission.fixtures import build
from linepress_kit.browser import CHROMIUM, Browser
from linepress_kit.intake_server import IntakeServer

PAGE = Path(__file__).parents[3] / "docs" / "partners.md"
ADDRESS = "https://intake.example.com"
WIDTH_PX = 1200
SUITE = """\
name: smoke
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
"""What the page's commands ask for by default, made small."""
pytestmark = pytest.mark.slow


def commands() -> list[str]:
    """The lines of the page's first block."""
    section = PAGE.read_text(encoding="utf-8").partition("## The whole way")[2]
    return [line for line in section.split("```")[1].splitlines() if line.strip()]


@dataclass
class House:
    """A running service, and a newcomer with a model and the page.

    Attributes
    ----------
    said : list of str
        What each command of the page printed, in the page's order.
    seen : list of str
        States that the status page showed in the browser.
    too_wide : dict
        Address of a page -> pixels by which it is wider than a window of `WIDTH_PX`.
    sent : dict
        The submission, as the service shows it.
    """

    server: IntakeServer
    token: str
    base: Path
    said: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    too_wide: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)

    @property
    def certificate(self) -> Path:
        return self.base / "smollm2-135m.lpcert"

    def words(self, line: str) -> list[str]:
        """A command of the page, with this service's address and token."""
        line = line.replace(ADDRESS, self.server.url).replace("$LINEPRESS_TOKEN", self.token)
        found = shlex.split(line)
        if found[0] == "linepress":
            found[:1] = [sys.executable, "-c", "from linepress.cli.app import main; main()"]
        return found

    def go(self) -> None:
        """Every command of the page; the browser looks on while `linepress send` waits."""
        environment = {**os.environ, "LINEPRESS_TOKEN": ""}
        for line in commands():
            if line.startswith("export "):
                assert line == "export LINEPRESS_TOKEN=lpk_…"
                environment["LINEPRESS_TOKEN"] = self.token
                continue
            with subprocess.Popen(
                self.words(line),
                cwd=self.base,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                try:
                    if line.startswith("linepress send") and CHROMIUM is not None:
                        self.watch(self.declared(process))
                    said, _ = process.communicate(timeout=300)
                finally:
                    process.kill()
            log = (self.server.data / "server.log").read_text(encoding="utf-8")
            assert process.returncode == 0, f"{line}\n{said}\n{log}"
            self.said.append(said)
        (found,) = self.server.request("GET", "/v1/submissions", self.token).json["submissions"]
        self.sent = self.server.request("GET", f"/v1/submissions/{found['id']}", self.token).json

    def declared(self, process: subprocess.Popen[str]) -> str:
        """Id of the submission, once there is one."""
        while process.poll() is None:
            if found := self.server.request("GET", "/v1/submissions", self.token).json["submissions"]:
                return str(found[0]["id"])
            time.sleep(0.1)
        raise AssertionError(process.communicate()[0])

    def watch(self, submission: str) -> None:
        """Sign in with the keyboard, open the status page once and let it look again by itself until the end; then
        every page that a partner sees, in a window of `WIDTH_PX`."""
        with Browser(self.base / "profile", WIDTH_PX) as browser:
            browser.open(self.server.url)
            browser.type("#token", self.token)
            browser.enter()
            listing = browser.html()
            assert f"/submissions/{submission}" in listing
            assert "Submissions" in text_of(listing)
            status = f"{self.server.url}/submissions/{submission}"
            browser.open(status)
            end_s = time.monotonic() + 300
            while not {"validated", "rejected"} & set(self.seen):
                assert time.monotonic() < end_s, self.seen
                page = browser.settled()
                shown = re.search(r'id="state"><strong>(\w+)</strong>', page)
                assert shown is not None, page
                if shown[1] in self.seen:
                    time.sleep(0.2)
                    continue
                self.seen.append(shown[1])
                text = text_of(page)
                assert f"{shown[1]} : {MEANING[shown[1]]}" in text
                assert f'<li aria-current="step">{shown[1]}</li>' in page
                assert ("This page looks again every" in text) == (shown[1] not in FINAL)
                assert ("check it with linepress verify" in text) == (shown[1] == "validated")
            assert len(browser.screenshot()) > 10_000
            for path in (
                f"/submissions/{submission}",
                f"/submissions/{submission}/report",
                "/submissions",
                "/leaderboard",
            ):
                browser.open(self.server.url + path)
                self.too_wide[path] = browser.overflow_px()

    def again(self, *more: str, token: str | None = None) -> Result:
        """The page's `linepress send` once more, without waiting."""
        line = next(line for line in commands() if line.startswith("linepress send")).partition(" --wait")[0]
        folder, *options = self.words(line)[4:]
        words = [str(self.base / folder), *options, *more]
        return CliRunner(env={"LINEPRESS_TOKEN": token or self.token}).invoke(send, words, standalone_mode=False)


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house after the whole way."""
    if shutil.which("curl") is None:
        pytest.skip("the page uses curl, which this machine has not")
    base = tmp_path_factory.mktemp("way")
    values = np.random.Generator(np.random.PCG64(7)).normal(0, 0.02, 64 * 256).astype(np.float32)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    model = base / "SmolLM2-135M"
    model.mkdir()
    (model / "model.safetensors").write_bytes(build({"model.layers.0.mlp.up_proj.weight": ("BF16", [64, 256], bf16)}))
    (model / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (model / "LICENSE").write_text("Apache License 2.0\n", encoding="utf-8")
    (base / "smoke.yaml").write_text(SUITE, encoding="utf-8")
    with IntakeServer(base / "data", ("--suite", str(base / "smoke.yaml"))) as server:
        found = House(server, server.add_partner("acme"), base)
        found.go()
        yield found


def text_of(html: str) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_the_page_shows_each_step_of_the_way() -> None:
    verbs = [line.split()[1] for line in commands() if line.startswith("linepress ")]
    assert verbs == ["pack", "submit", "send", "verify", "verify"]
    text = PAGE.read_text(encoding="utf-8")
    for said in ("status page", "sign in", "/v1/signing-key", "--kind", "HTTPS_PROXY", "linepress-verify"):
        assert said in text


def test_a_newcomer_who_follows_the_page_gets_a_certificate(validated: House) -> None:
    signed, again = validated.said[-2:]
    assert "signature    PASS" in signed
    assert re.search(r"rerun +PASS +\d+ results reproduced to the bit", again)
    sent = validated.sent
    assert [step["to_state"] for step in sent["journal"]] == [
        *("uploading", "received", "checked", "queued", "running", "validated")
    ]
    assert "manifest.yaml" in {file["path"] for file in sent["files"]}
    assert all(file["offset"] == file["bytes"] for file in sent["files"])


def test_the_verdict_has_rules_losslessness_results_hardware_claims_and_place(validated: House) -> None:
    result = validated.server.request("GET", f"/v1/submissions/{validated.sent['id']}/result", validated.token).json
    assert [finding["verdict"] for finding in result["check"]["findings"]] == ["PASS"] * 21
    verdict = result["verdict"]
    assert [line["answer"] for line in verdict["lines"]] == ["yes", "yes", "yes"]
    assert verdict["seeds"] == {"sample": 1, "channel": 1, "system": 1}
    assert {row["figure"]: row["standing"] for row in verdict["expected"]} == {
        "payload_bits": "exact",
        "packed_bytes": "exact",
    }
    assert {row["memory"] for row in verdict["channel"]} == {"lpddr5x"}
    assert {row["accelerator"] for row in verdict["system"]} == {"h100-sxm"}
    assert verdict["claims"] or verdict["claims_not_checkable"]
    assert verdict["place"] == {"place": 1, "of": 1}
    huffman = next(row for row in verdict["ratios"] if row["variant"] == "huffman")
    assert 1 < huffman["payload_ratio"] <= huffman["bound_ratio"]
    rows = validated.server.request("GET", "/v1/leaderboard", validated.token).json["rows"]
    assert [(row["model"], row["place"], row["own"]) for row in rows] == [("acme/smollm2-135m", 1, True)]
    assert rows[0]["packed_ratio"] == pytest.approx(verdict["packed_ratio"])


@pytest.mark.browser
def test_the_status_page_moves_on_and_no_page_scrolls_sideways(validated: House) -> None:
    if CHROMIUM is None:
        warnings.warn("no Chromium on this machine: the pages were not looked at", stacklevel=1)
        pytest.skip("no Chromium on this machine")
    assert validated.seen[-1] == "validated"
    assert len(validated.seen) > 1, "the page was never seen before the end"
    assert set(validated.too_wide.values()) == {0}, validated.too_wide


def test_the_certificate_does_not_tell_where_it_was_made(validated: House) -> None:
    bundle = read_bundle(validated.certificate)
    told = json.loads(bundle["run.json"])
    assert told["machine"]["host"] == "operator"
    assert {session["host"] for session in told["sessions"]} == {"operator"}
    assert json.loads(bundle["environment.json"])["machine"] == told["machine"]
    measured = pq.read_table(pa.BufferReader(bundle["tables/measure.parquet"]))
    assert set(measured["host"].to_pylist()) == {"operator"}
    assert set(measured["source"].to_pylist()) == {"in/acme/smollm2-135m/model.safetensors"}
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


def test_the_report_runs_no_script_and_says_whose_it_is(validated: House) -> None:
    path = f"/v1/submissions/{validated.sent['id']}/report"
    report = validated.server.request("GET", path, validated.token)
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert "acme/smollm2-135m: validated" in report.text
    assert f"<dd>{os.uname().nodename}" not in report.text
    assert str(validated.base) not in report.text


def test_the_final_page_has_no_script_and_stands_still(validated: House) -> None:
    page = validated.server.request(
        "GET", f"/submissions/{validated.sent['id']}", headers=validated.server.sign_in(validated.token)
    ).text
    assert "<script" not in page
    assert page.count('<td class="PASS">PASS</td>') == 21
    assert 'http-equiv="refresh"' not in page  # nothing changes any more
    text = text_of(page)
    for said in (
        "Run complete yes",
        "Lossless yes",
        "Reported results yes",
        "Place 1 by packed ratio",
        "lpddr5x",
        "Certificate",
    ):
        assert said in text


def test_the_style_sheet_is_packaged() -> None:
    assert files("linepress.intake").joinpath("static/intake.css").is_file()


def test_what_sending_again_means(validated: House) -> None:
    """The last of this file: it deletes the submission. The same files with the same options are told to be the same,
    with others another; after a delete they are new."""
    assert "were declared before" in validated.again().stderr
    other = validated.again("--publish")
    assert other.exit_code == 0, other.output
    assert "were declared before" not in other.stderr
    path = f"/v1/submissions/{other.stdout.split()[0]}"
    assert validated.server.request("DELETE", path, validated.token).status == 200  # before it is run as well
    own = validated.sent["id"]
    assert validated.server.request("DELETE", f"/v1/submissions/{own}", validated.token).status == 200
    fresh = validated.again()
    assert fresh.exit_code == 0, fresh.output
    assert own not in fresh.stdout
    refused = validated.again(token="lpk_wrong")
    assert "set LINEPRESS_TOKEN" in str(refused.exception)
