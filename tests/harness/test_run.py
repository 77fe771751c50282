"""Runs: one command from suite to record, and the same command after anything that can happen to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.app import app
from linepress.cluster.join import Cluster
from linepress.errors import EXIT_CASES_FAILED, EXIT_INTERRUPTED, RecordError
from linepress.records import RunStore
from linepress.run.engine import Run, default_folder
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress_kit.faults import suite_text

LINEPRESS = [sys.executable, "-c", "from linepress.cli.app import main; main()"]
SMALL = "synthetic:gauss?shape=64x64&tensors=6"
SLOW = "synthetic:gauss?shape=512x512&tensors=120"


def write(folder: Path, text: str, name: str = "suite.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(suite: Path, **options: Any) -> RunOutcome:
    return Run(
        load_suite(str(suite)), RunOptions(mlflow=False, report=False, **options), Progress(live=False)
    ).execute()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1"}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LINEPRESS, "run", *arguments, "--no-mlflow", "--no-report", "--workers", "2"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_parts(process: subprocess.Popen[str], run_folder: Path, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not list(run_folder.glob("tables/measure/part-*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path, suite_text("small", SMALL, "[raw, tans]"))


def test_a_run_records_every_case_and_says_where_from(ray_cluster: Cluster, small: Path, tmp_path: Path) -> None:
    outcome = run(small, out=tmp_path / "run")
    assert (outcome.exit_code, outcome.done, outcome.resumed) == (0, 12, 0)
    assert outcome.counts == {"measure": {"planned": 12, "ok": 12, "failed": 0, "skipped": 0}}
    store = RunStore.open(tmp_path / "run")
    store.verify()
    manifest = store.manifest
    assert manifest["status"] == "complete"
    assert manifest["suite"]["text"] == small.read_text()
    assert manifest["suite"]["resolved"]["repeats"] == 1
    assert manifest["sources"][0]["label"] == "synthetic"
    assert manifest["packages"]["numba"]
    assert manifest["machine"]["cores"] >= 1
    assert [s["done"] for s in manifest["sessions"]] == [12]
    rows = store.rows("measure")
    assert all(row["lossless"] and row["run_id"] == "run" for row in rows)
    assert all(json.loads(row["versions"])["numpy"] for row in rows)


def test_a_complete_run_is_a_no_op(ray_cluster: Cluster, small: Path, tmp_path: Path) -> None:
    run(small, out=tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "tables").rglob("*.parquet")}
    outcome = run(small, out=tmp_path / "run")
    assert (outcome.exit_code, outcome.done, outcome.resumed) == (0, 0, 12)
    assert {file: file.read_bytes() for file in (tmp_path / "run" / "tables").rglob("*.parquet")} == before
    words = ["run", str(small), "--out", str(tmp_path / "run"), "--no-mlflow", "--no-report"]
    done = CliRunner().invoke(app, words, standalone_mode=False, catch_exceptions=False)
    assert done.return_value == 0
    assert done.stdout.splitlines()[-1] == "verdict: PASS"


def test_another_suite_into_the_same_folder_is_refused(ray_cluster: Cluster, small: Path, tmp_path: Path) -> None:
    run(small, out=tmp_path / "run")
    other = write(tmp_path, small.read_text().replace("repeats: 1", "repeats: 2"), "other.yaml")
    with pytest.raises(RecordError, match=r"holds a run of suite small v1 \(.*\), not of small v1 .* --out"):
        run(other, out=tmp_path / "run")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(RecordError, match=r"not empty and not a run folder \(holds thesis.txt\)"):
        run(small, out=foreign)


def test_folders_follow_the_suite_and_fresh_takes_a_new_one(
    ray_cluster: Cluster, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = load_suite(str(small))
    assert default_folder(suite) == Path("runs") / f"small-{suite.sha256[:10]}"
    first, again, fresh = run(small), run(small), run(small, fresh=True)
    assert again.store.path == first.store.path
    assert fresh.store.path.name == f"{first.store.path.name}-2"
    assert fresh.done == 12


def test_failed_cases_are_tried_again_and_then_everything_is_there(ray_cluster: Cluster, tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    data = tmp_path / "data.safetensors"
    save_file({f"t{i}": np.full(512, i, np.float32) for i in range(3)}, data)
    suite = write(tmp_path, suite_text("mended", "data.safetensors"))
    plan_time = load_suite(str(suite))
    wanted = Run(plan_time, RunOptions(out=tmp_path / "run", mlflow=False, report=False), Progress(live=False))

    def vanish(*_: object) -> None:
        data.rename(tmp_path / "away")

    outcome = wanted.execute(vanish)
    assert outcome.exit_code == 3  # nothing was measured
    assert outcome.counts["measure"] == {"planned": 3, "ok": 0, "failed": 3, "skipped": 0}
    failures = RunStore.open(tmp_path / "run").rows("failures")
    assert {failure["error_type"] for failure in failures} == {"SourceError"}
    assert len((tmp_path / "run" / "failures.jsonl").read_text().splitlines()) == 3
    (tmp_path / "away").rename(data)
    mended = run(suite, out=tmp_path / "run")
    assert (mended.exit_code, mended.done) == (0, 3)
    assert RunStore.open(tmp_path / "run").table("failures").num_rows == 0


def test_some_failed_cases_are_exit_2_and_a_failed_gate_exit_1(
    ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = "gates:\n  - {name: far, column: payload_ratio, aggregate: min, where: {variant: tans}, at_least: 9}\n"
    outcome = run(write(tmp_path, suite_text("gated", SMALL, "[raw, tans]", gate)), out=tmp_path / "gated")
    assert outcome.exit_code == 1
    assert outcome.gates[0]["value"] < 2
    empty = gate.replace("tans", "nothing")
    assert run(write(tmp_path, suite_text("empty", SMALL, more=empty)), out=tmp_path / "empty").exit_code == 1

    from linepress.run.plan import Plan

    task = Plan.task

    def poisoned(self: Plan, case: Any) -> Any:
        made = task(self, case)
        if self.tensors[case.tensor].name != self.tensors[0].name:
            return made
        from dataclasses import replace

        return replace(made, target="linepress_kit.faults:raises", arguments=("no",), options={})

    monkeypatch.setattr(Plan, "task", poisoned)
    outcome = run(write(tmp_path, suite_text("some", SMALL)), out=tmp_path / "some")
    assert outcome.exit_code == EXIT_CASES_FAILED
    assert outcome.counts["measure"] == {"planned": 6, "ok": 5, "failed": 1, "skipped": 0}


def test_two_writers_at_once_are_refused(ray_cluster: Cluster, small: Path, tmp_path: Path) -> None:
    from linepress.run.recorder import only_writer

    with only_writer(tmp_path / "run"), pytest.raises(RecordError, match="another linepress is writing"):
        run(small, out=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interruption_keeps_what_ended_and_prints_the_way_back(tmp_path: Path, sent: signal.Signals) -> None:
    """Over 5 s: a real driver starts a Ray of its own."""
    suite = write(tmp_path, suite_text("stopped", SLOW))
    process = start(tmp_path, str(suite))
    folder = tmp_path / "runs" / f"stopped-{load_suite(str(suite)).sha256[:10]}"
    wait_for_parts(process, folder)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED, err
    assert f"resume: linepress run {suite}" in err
    assert "Traceback" not in err
    store = RunStore.open(folder)
    store.verify()
    assert store.manifest["status"] == "interrupted"
    recorded = len(store.statuses("measure"))
    assert store.manifest["sessions"][0]["done"] <= recorded < 120
    assert recorded > 0


def test_bad_suites_are_one_sentence_and_exit_4(tmp_path: Path) -> None:
    write(tmp_path, suite_text("bad", SMALL).replace("codecs", "codec"))
    done = subprocess.run(
        [*LINEPRESS, "run", "suite.yaml"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.startswith("linepress: suite.yaml:6: codec: unknown key 'codec', did you mean 'codecs'?")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_dry_run_plans_and_writes_nothing(small: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*LINEPRESS, "run", str(small), "--dry-run", "--json"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout)
    assert (document["cases"], document["to_do"], document["to_do_bytes"]) == (12, 12, 12 * 64 * 64 * 2)
    assert 0 < document["measure_core_hours"] < 0.01
    assert document["cases_without_a_rate"] == 0
    assert not (tmp_path / "runs").exists()
