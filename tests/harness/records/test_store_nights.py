"""Nights that lie in a store only: baseline, history and summary are found there by another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.app import app
from linepress.cluster.join import Cluster
from linepress.nightly.night import NightlyOptions, NightlyOutcome, run_nightly
from linepress.records.place import StorePath, place_of
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress_kit.faults import suite_text
from linepress_kit.object_store import bucket, environment

RUNS = "s3://nights/runs"


@pytest.fixture
def machine(object_store: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose cache is new, before an empty bucket; its cache folder."""
    with bucket(object_store, "nights") as proxy:
        for name, value in environment(proxy).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.chdir(tmp_path)
        yield tmp_path / "cache"


def answer(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"], standalone_mode=False, catch_exceptions=False)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_nights_in_a_store(ray_cluster: Cluster, tmp_path: Path, machine: Path) -> None:
    """Over 5 s: two real runs with their reports, and MLflow makes its tables."""
    text = suite_text("tiny", "synthetic:gauss?shape=64x64&tensors=3", "[raw, huffman]", "")
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    suite = load_suite(str(tmp_path / "tiny.yaml"))

    def night(date: str, report: bool = True) -> NightlyOutcome:
        options = NightlyOptions(runs=place_of(RUNS), night=date, mlflow=False)
        with pytest.MonkeyPatch.context() as patch:
            if not report:  # nobody looks at it, and it takes longer than the rest of the night
                patch.setattr("linepress.nightly.night._publish", lambda *_: None)
            return run_nightly(suite, options, Progress(live=False))

    first = night("2026-01-01", report=False)
    assert (first.exit_code, first.baseline) == (0, None)
    shutil.rmtree(machine)  # the second night is another machine's
    second = night("2026-01-02")
    assert second.exit_code == 0
    assert second.summary is not None
    assert isinstance(second.baseline, StorePath)
    assert second.baseline.name.startswith("tiny-2026-01-01")
    assert second.summary["nights"] == 2
    assert second.summary["compare"].startswith("gate: PASS")  # perhaps blind on speed
    place = second.run.store.place
    assert second.summary["record"] == str(place)
    assert json.loads((place / "nightly" / "summary.json").read_text(encoding="utf-8")) == second.summary
    assert "gate: PASS" in (place / "nightly" / "compare.md").read_text(encoding="utf-8")
    assert "History" in (place / "report" / "index.html").read_text(encoding="utf-8")

    shutil.rmtree(machine)
    rows = answer("runs", "list", RUNS)
    said = [(row["verdict"].partition(",")[0], row["status"], row["ok"]) for row in rows]
    assert said == [("PASS", "complete", 6)] * 2
    again = night("2026-01-02", report=False)
    assert (again.run.done, again.run.resumed, again.exit_code) == (0, 6, 0)

    (place / "report").remove_tree()
    shutil.rmtree(machine)
    answer("report", str(place))
    assert "History" in (place / "report" / "index.html").read_text(encoding="utf-8")

    shutil.rmtree(machine)
    sent = answer("sync", str(place))
    assert (sent["sent"], sent["record"]) == (True, str(place))
    shutil.rmtree(machine)
    assert answer("sync", str(place))["sent"] is False, "what was sent is noted in the store"

    noted = answer("runs", "delete", str(place), "--yes")["notes"]
    then = f"after it that is {second.baseline}"
    assert noted == [f"{place} is the latest good run of suite tiny, the baseline of the next night; {then}"]
