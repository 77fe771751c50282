"""An MLflow server that is away when a run ends, goes away in the middle of a mirror, and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linepress.cluster.join import Cluster
from linepress.run.engine import Run
from linepress.run.options import RunOptions
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress.tracking import MirrorError, sync_run
from linepress_kit.faults import suite_text
from linepress_kit.loopback import free_port
from linepress_kit.proxy import CuttingProxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[CuttingProxy]:
    """A real ``mlflow server`` behind a proxy that can lose it."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.2)
        with CuttingProxy(("127.0.0.1", port)) as made:
            yield made
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)


def held(uri: str) -> dict[str, Any]:
    """What the server holds: names of runs and models, how often each metric was logged, artifacts of the parent."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("linepress")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return {
        "parents": len(parents),
        "children": sorted(run.info.run_name or "" for run in runs if run not in parents),
        "models": sorted(model.name for model in client.search_logged_models([experiment.experiment_id])),
        "times": {
            len(client.get_metric_history(run.info.run_id, key))
            for run in runs
            for key in [key for key in run.data.metrics if not key.startswith("system/")][:3]
        },
        "artifacts": sorted(entry.path for entry in client.list_artifacts(parents[0].info.run_id)),
        "statuses": {run.info.status for run in runs},
    }


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_mlflow_down_at_the_start_in_the_middle_and_for_good(
    ray_cluster: Cluster,
    proxy: CuttingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over 5 s: starts ``mlflow server``."""
    uri = f"http://127.0.0.1:{proxy.port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    suite = tmp_path / "suite.yaml"
    suite.write_text(suite_text("down", "synthetic:gauss?shape=64x64&tensors=3", "[raw, tans]"), encoding="utf-8")

    proxy.budget_bytes = 0  # down at the start, and for good as far as the run can tell
    outcome = Run(load_suite(str(suite)), RunOptions(out=tmp_path / "run"), Progress(live=False)).execute()
    assert outcome.exit_code == 0
    assert outcome.counts["measure"]["ok"] == 6
    assert outcome.mirror == f"not mirrored; catch up with: linepress sync {tmp_path / 'run'}"
    assert not list((tmp_path / "run").glob("mlflow.json"))

    for budget_bytes in (6_000, 14_000, 30_000):  # in the middle, three times, each a little further
        proxy.budget_bytes = budget_bytes
        with pytest.raises(MirrorError, match="then `linepress sync"):
            sync_run(outcome.store)
        assert proxy.budget_bytes == 0

    proxy.budget_bytes = None
    capsys.readouterr()
    assert sync_run(outcome.store)[0] is True
    assert capsys.readouterr().out == "", "standard output is for the one JSON document"
    assert sync_run(outcome.store)[0] is False
    assert held(uri) == {
        "parents": 1,
        "children": ["synthetic × raw", "synthetic × tans"],
        "models": ["raw", "tans"],
        "times": {1},
        "artifacts": ["manifest.json", "plots", "report", "results", "tables"],
        "statuses": {"FINISHED"},
    }
