"""Nights in a row, on real workers: baseline, gate, report, summary, webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.nightly import command
from linepress.cluster.join import Cluster
from linepress.compare import CompareOptions
from linepress.compare.retime import RetimeError
from linepress.errors import RecordError
from linepress.nightly.night import NightlyOptions, NightlyOutcome, night_folder, read_summary, run_nightly
from linepress.nightly.summary import WebhookError, failed_summary, markdown, post
from linepress.run import plan
from linepress.run.folders import check_deletable
from linepress.run.progress import Progress
from linepress.suite.model import Suite, load_suite
from linepress_kit.faults import suite_text
from linepress_kit.worse_codecs import LOSING

SOURCE = "synthetic:gauss?shape=64x64&tensors=3"
GATE = """gates:
  - {name: lossless, column: lossless, aggregate: share, equals: 1.0, next_step: look at the failures}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def suite_of(tmp_path: Path, more: str = "") -> Suite:
    (tmp_path / "tiny.yaml").write_text(suite_text("tiny", SOURCE, "[raw, huffman]", more), encoding="utf-8")
    return load_suite(str(tmp_path / "tiny.yaml"))


def one_night(suite: Suite, date: str, report: bool = True, **options: Any) -> NightlyOutcome:
    """``report``: whether anybody looks at the report, which takes longer than the rest of such a night."""
    with pytest.MonkeyPatch.context() as patch:
        if not report:
            patch.setattr("linepress.nightly.night._publish", lambda *_: None)
        return run_nightly(suite, NightlyOptions(night=date, mlflow=False, **options), Progress(live=False))


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is sent; answers with the codes in ``answers``, then 200."""

    answers: list[int]
    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append(json.loads(body))
        self.send_response(type(self).answers.pop(0) if type(self).answers else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    handler = type("OwnHook", (Hook,), {"answers": [], "got": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_nights_in_a_row(ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes over 5 s: four real runs, two with their reports."""
    suite = suite_of(tmp_path)
    first = one_night(suite, "2026-01-01", report=False)
    assert (first.exit_code, first.baseline) == (0, None)
    assert first.summary is not None
    assert first.summary["verdict"] == "PASS"
    assert first.summary["compare"] == "no good run to compare with yet"
    folder = first.run.store.path
    assert folder.name.startswith("tiny-2026-01-01")

    second = one_night(suite, "2026-01-02", report=False)
    assert (second.exit_code, second.baseline) == (0, folder)
    assert second.summary is not None
    assert second.summary["compare"] == "gate: PASS, but blind on speed", "two tensors of kilobytes show no speed"
    assert second.summary["compared"].startswith("6 cases compared; no speed judged (")
    assert "- 6 cases compared" in (second.run.store.path / "nightly" / "summary.md").read_text(encoding="utf-8")
    good = second.run.store.path

    monkeypatch.setattr(plan, "MEASURE_TARGET", LOSING)
    third = one_night(suite, "2026-01-03")
    assert (third.exit_code, third.baseline) == (1, good)
    assert third.summary is not None
    assert third.summary["verdict"] == "FAIL"
    assert third.summary["reasons"] == ["1 new failure"]
    bad = third.run.store.path
    text = (bad / "nightly" / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("# tiny: FAIL\n\ngate: FAIL (1 new failure)\n")
    assert "line 0 did not come back bit for bit" in (bad / "nightly" / "compare.md").read_text(encoding="utf-8")
    accepted = one_night(suite, "2026-01-03", accept="no", report=False)
    assert accepted.exit_code == 1, "a lost bit is never accepted"

    monkeypatch.setattr(plan, "MEASURE_TARGET", "linepress.stages.measure.case:measure_case")
    fourth = one_night(suite, "2026-01-04")
    assert (fourth.exit_code, fourth.baseline) == (0, good), "a bad night is no baseline"
    assert fourth.summary is not None
    assert fourth.summary["nights"] == 4
    steps = {(step["variant"], step["figure"]) for step in fourth.summary["steps"]}
    assert ("huffman", "lossless") in steps
    again = one_night(suite, "2026-01-04", report=False)
    assert (again.run.done, again.run.resumed, again.exit_code) == (0, 6, 0)

    report = (fourth.run.store.path / "report" / "index.html").read_text(encoding="utf-8")
    sections = Sections()
    sections.feed(report)
    assert {"compare", "history"} <= sections.ids
    assert "Gate PASS. Baseline" in report
    assert "first night at the new level" in report
    check_deletable(bad)
    failed_report = (bad / "report" / "index.html").read_text(encoding="utf-8")
    assert "Gate FAIL: 1 new failure." in failed_report


class Sections(HTMLParser):
    """Ids of the sections of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.ids.add(dict(attrs).get("id") or "")


@pytest.mark.slow
def test_the_command_gates_posts_and_prints(
    ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: tuple[str, type[Hook]]
) -> None:
    """Takes over 5 s: a real run with its report."""
    monkeypatch.setattr(plan, "MEASURE_TARGET", LOSING)
    suite_of(tmp_path, GATE)
    url, handler = hook
    handler.answers[:] = [503]
    arguments = ["tiny.yaml", "--no-mlflow", "--night", "2026-02-01", "--webhook", url, "--json"]
    done = CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
    assert done.return_value == 1
    printed = json.loads(done.stdout)
    assert (printed["verdict"], printed["reasons"]) == ("FAIL", ["gate lossless failed"])
    assert len(handler.got) == 2, "once refused, once taken"
    sent = handler.got[-1]
    assert sent["summary"]["verdict"] == "FAIL"
    assert sent["text"].startswith("# tiny: FAIL")
    assert "gate lossless FAIL: share of lossless" in sent["text"]
    assert read_summary(Path(printed["record"]))["report"] == printed["report"]
    everything = "".join(f.read_text() for f in Path(printed["record"]).rglob("*.json")) + done.stderr
    assert "secret-path" not in everything


def test_a_night_that_cannot_start_is_told_to_the_webhook(tmp_path: Path, hook: tuple[str, type[Hook]]) -> None:
    url, handler = hook
    (tmp_path / "gone.yaml").write_text(suite_text("gone", "nowhere.safetensors"), encoding="utf-8")
    done = CliRunner().invoke(command, ["gone.yaml", "--no-mlflow", "--webhook", url], standalone_mode=False)
    assert done.exception is not None
    assert handler.got[0]["summary"]["verdict"] == "ERROR"
    assert "nowhere.safetensors" in handler.got[0]["text"]


def test_a_wrong_baseline_is_found_before_the_run(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    with pytest.raises(RecordError, match="there is no such run folder"):
        one_night(suite, "2026-01-01", baseline="runs/none")
    assert not (tmp_path / "runs").exists()


def test_a_wrong_interpreter_is_found_before_the_run(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    with pytest.raises(RetimeError, match=r"--retime gone/python: no such interpreter; give that of"):
        one_night(suite, "2026-01-01", compare=CompareOptions(retime="gone/python"))
    assert not (tmp_path / "runs").exists()


def test_folders_carry_date_and_commit(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    folder = night_folder(suite, NightlyOptions(night="2026-01-01"))
    assert folder.parent == Path("runs")
    assert folder.name.startswith("tiny-2026-01-01")
    assert night_folder(suite, NightlyOptions(out=tmp_path / "x")) == tmp_path / "x"


def test_a_webhook_that_refuses_is_one_sentence_without_its_path(hook: tuple[str, type[Hook]]) -> None:
    url, handler = hook
    handler.answers[:] = [404]
    with pytest.raises(WebhookError, match=r"webhook at 127\.0\.0\.1: answered 404") as caught:
        post(url, failed_summary("s", "no"))
    assert "secret" not in str(caught.value)
    assert len(handler.got) == 1, "a client error is not tried again"
    for wrong in ("file:///etc/passwd", "ftp://x/y", "nonsense"):
        with pytest.raises(WebhookError, match="not an http or https address"):
            post(wrong, failed_summary("s", "no"))


def test_a_webhook_that_is_away_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linepress.nightly.summary.WAIT_S", 0.0)
    with pytest.raises(WebhookError, match=r"webhook at 127\.0\.0\.1: .*refused"):
        post("http://127.0.0.1:9/x", failed_summary("s", "no"))


def test_the_summary_escapes_names() -> None:
    summary = failed_summary("a<b>|c", "x|y<script>")
    text = markdown({**summary, "steps": [], "verdict": "FAIL"})
    assert "<script>" not in text
