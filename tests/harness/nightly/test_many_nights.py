"""Twenty nights of the same code, then five faults: every face says the same, and says what is so.

The runs are invented (`linepress_kit.timed_runs`), everything after the measuring is what a night does.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.nightly import command
from linepress.nightly import night as nights
from linepress.nightly.night import NightlyOptions, NightlyOutcome, run_nightly
from linepress.records.standing import standing
from linepress.run.engine import exit_code
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import Suite, load_suite
from linepress_kit.faults import suite_text
from linepress_kit.synthetic_run import Shape
from linepress_kit.timed_runs import Noise, Row, timed_rows, write_run

VARIANTS = ("raw", "huffman", "zstd:level=3:block=64KiB", "lz4:block=64KiB")
ROWS = [row for row in timed_rows(Shape(layers=4, failing=0)) if row["variant"] in VARIANTS]
QUIET = Noise(machine=0.01, codec=0.001, lasting=0.001, rounds=0.002, spikes=0.02)
TENSOR = "model.layers.1.q_proj"
NIGHTS = 20


def lost_bit(row: Row) -> Row:
    return row | {"lossless": False, "mismatch_line": 17} if _here(row) else row


def new_failure(row: Row) -> Row:
    if not _here(row):
        return row
    figures = {name: None for name in row if name.endswith(("_GBps", "_ratio", "_bytes", "_bits", "_s"))}
    return row | figures | {"status": "failed", "lossless": None, "error_type": "ValueError", "error": "broke"}


def larger(row: Row) -> Row:
    """A ratio that is 0.1 % worse."""
    if not _here(row):
        return row
    bits = round(row["payload_bits"] * 1.001)
    return row | {
        "payload_bits": bits,
        "payload_bytes": (bits + 7) // 8,
        "payload_ratio": 8 * row["raw_bytes"] / bits,
    }


def _here(row: Row) -> bool:
    return bool(row["variant"] == "huffman" and row["tensor"] == TENSOR and not row["cast"])


# What is done -> how the run is written, exit code, reason.
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a lost bit": ({"edit": lost_bit}, 1, "1 new failure"),
    "5 % slower": ({"slower": {("huffman", "decode"): 1.05}}, 1, "1 speed regression > 3 %"),
    "a vanished tensor": (
        {"rows": [row for row in ROWS if row["tensor"] != TENSOR]},
        2,
        f"{sum(row['tensor'] == TENSOR for row in ROWS)} cases of base without a result in new",
    ),
    "a new failure": ({"edit": new_failure}, 1, "1 new failure"),
    "0.1 % worse": ({"edit": larger}, 1, "1 exact figure worse"),
}


class Invented:
    """Stands where a night measures: writes a run over the rows instead."""

    made: dict[str, Any]

    def __init__(self, suite: Suite, options: RunOptions, progress: Progress) -> None:
        assert options.out is not None
        self.out: Path = options.out

    def execute(self, on_header: Callable[..., None] | None = None) -> RunOutcome:
        store = write_run(self.out, **self.made)
        counts = store.manifest["counts"]
        code = exit_code(counts, [])
        store.manifest["exit_code"] = code
        store.save_manifest()
        return RunOutcome(store, code, counts)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nights")


@pytest.fixture
def one_night(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NightlyOutcome]:
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    monkeypatch.setattr(nights, "Run", Invented)
    text = suite_text("invented", "synthetic:gauss?shape=64x64&tensors=3", "[raw, huffman]")
    (place / "invented.yaml").write_text(text, encoding="utf-8")
    suite = load_suite(str(place / "invented.yaml"))

    def run(date: str, publish: bool = False, **made: Any) -> NightlyOutcome:
        settings = {"rows": ROWS, "noise": QUIET, "seed": int(date[-2:]), "created_at": f"{date}T03:00:00+00:00"}
        monkeypatch.setattr(Invented, "made", settings | made, raising=False)
        with monkeypatch.context() as patch:
            if not publish:
                patch.setattr(nights, "_publish", lambda *_: None)
            return run_nightly(suite, NightlyOptions(night=date), Progress(live=False))

    return run


def test_twenty_nights_of_the_same_code_pass(one_night: Callable[..., NightlyOutcome]) -> None:
    """The nights that the faults below are held against."""
    outcomes = [one_night(f"2026-01-{day:02d}") for day in range(1, NIGHTS + 1)]
    assert [(o.exit_code, o.summary and o.summary["verdict"]) for o in outcomes] == [(0, "PASS")] * NIGHTS
    last = outcomes[-1].summary
    assert last is not None
    assert last["steps"] == []
    assert "6 of 6 speeds judged" in last["compared"]


def test_the_last_line_of_the_terminal_is_the_verdict(
    one_night: Callable[..., NightlyOutcome], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(nights, "_publish", lambda *_: None)
    monkeypatch.setattr(Invented, "made", {"rows": ROWS, "noise": QUIET, "edit": new_failure}, raising=False)
    words = ["invented.yaml", "--runs", "alone", "--night", "2026-03-01", "--no-mlflow"]
    done = CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)
    assert done.return_value == 2
    assert done.stdout.startswith("# invented: FAIL\n")
    assert done.stdout.splitlines()[-1] == "verdict: FAIL: some cases failed"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_alike_in_every_face(
    fault: str, one_night: Callable[..., NightlyOutcome], place: Path
) -> None:
    """Over 5 s on a busy machine: a report and a mirror a fault."""
    from mlflow import MlflowClient

    if not any((place / "runs").glob("invented-2026-01-2*")):
        one_night("2026-01-20")
    made, code, reason = FAULTS[fault]
    outcome = one_night(f"2026-02-{list(FAULTS).index(fault) + 1:02d}", publish=True, **made)
    assert outcome.exit_code == code
    assert "2026-01-20" in str(outcome.baseline), "no night with a fault becomes the baseline"
    assert outcome.summary is not None
    assert (outcome.summary["verdict"], outcome.summary["reasons"]) == ("FAIL", [reason])
    folder = outcome.run.store.path
    assert standing(outcome.run.store).sentence == f"FAIL: {reason}"
    assert (folder / "nightly" / "summary.md").read_text(encoding="utf-8").startswith("# invented: FAIL\n")
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<title>[^<]*FAIL[^<]*</title>", page)
    assert f"FAIL: {html.escape(reason)}" in page
    client = MlflowClient()
    experiment = client.get_experiment_by_name("linepress")
    query = f"tags.verdict = 'FAIL' AND tags.`linepress.record` = '{folder.absolute()}'"
    [run] = client.search_runs([experiment.experiment_id], query)
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"].startswith(f"**FAIL: {reason}**")
    assert run.data.metrics["cases_failed"] == (fault == "a new failure")
