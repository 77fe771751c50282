"""The mirror in MLflow: everything there once, in batches, and a run that never needs it."""

from __future__ import annotations

import socket
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linepress.cluster.join import Cluster
from linepress.records import RunStore
from linepress.run.engine import Run
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress.tracking import MirrorError, mirror_run, sync_run
from linepress.tracking.content import KEY_CHARACTERS, metric_key, mirror_content, model_name, short
from linepress.tracking.mirror import METRICS_PER_BATCH
from linepress.tracking.plots import plots
from linepress_kit.faults import suite_text


@pytest.fixture(scope="module")
def outcome(ray_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> RunOutcome:
    folder = tmp_path_factory.mktemp("tracked")
    suite = folder / "suite.yaml"
    sources = "synthetic:gauss?shape=64x64&tensors=3\n    casts: [none, 'e4m3:scale=tensor']"
    suite.write_text(suite_text("tracked", sources, "[raw, tans]", "seeds: {sample: 5}\n"), encoding="utf-8")
    options = RunOptions(out=folder / "run", mlflow=False)
    return Run(load_suite(str(suite)), options, Progress(live=False)).execute()


@pytest.fixture
def store(outcome: RunOutcome) -> RunStore:
    (outcome.store.path / "mlflow.json").unlink(missing_ok=True)
    return RunStore.open(outcome.store.path)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def sqlite(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return database


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def everything(uri: str, run_id: str) -> dict[str, Any]:
    """All that MLflow holds of this run, by name."""
    found = client(uri)
    experiment = found.get_experiment_by_name("linepress")
    runs = found.search_runs([experiment.experiment_id], f"tags.`linepress.run` LIKE '{run_id} %'")
    models = found.search_logged_models([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return {
        "parents": parents,
        "children": {run.info.run_name: run for run in runs if run not in parents},
        "models": {model.name: model for model in models},
        "history": {
            (run.info.run_name, key): len(found.get_metric_history(run.info.run_id, key))
            for run in runs
            for key in run.data.metrics
        },
        "artifacts": sorted(_artifacts(found, parents[0].info.run_id)) if parents else [],
    }


def _artifacts(found: Any, run_id: str, path: str | None = None) -> Iterator[str]:
    for entry in found.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from _artifacts(found, run_id, entry.path)
        else:
            yield entry.path


def test_names_fit_what_mlflow_takes() -> None:
    assert metric_key("a", "", "b=c,d") == "a/b-c-d"
    long = metric_key("x" * 300, "y")
    assert len(long) == KEY_CHARACTERS
    assert long != metric_key("x" * 300, "z")
    assert model_name("tans:layout=channel:set=0/8") == "tans layout=channel set=0-8"
    assert len(short("x" * 1000)) == 500


def test_content_is_a_parent_children_by_model_and_variant_and_models_by_variant(store: RunStore) -> None:
    content = mirror_content(store)
    assert set(content.children) == {"synthetic × raw", "synthetic × tans"}
    assert set(content.models) == {"raw", "tans"}
    points = {point.key: point for point in content.children["synthetic × tans"].points}
    rows = [r for r in store.rows("measure") if r["variant"] == "tans" and r["format"] == "bf16"]
    expected = 8 * sum(r["raw_bytes"] for r in rows) / sum(r["payload_bits"] for r in rows)
    ratio = points["weights/bf16/payload_ratio"]
    assert ratio.value == pytest.approx(expected, rel=1e-5)
    assert (ratio.model, ratio.dataset) == ("tans", "synthetic")
    assert points["weights/e4m3:scale-tensor/tensors_ok"].value == 3
    assert content.parent.params["seed.sample"] == "5"


def test_sqlite_holds_everything_once(store: RunStore, sqlite: str) -> None:
    sent, where = sync_run(store)
    assert sent
    assert sqlite in where
    found = everything(sqlite, store.run_id)
    parent = found["parents"][0]
    assert len(found["parents"]) == 1
    assert set(found["children"]) == {"synthetic × raw", "synthetic × tans"}
    assert {child.data.tags["mlflow.parentRunId"] for child in found["children"].values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    assert parent.data.params["suite"] == "tracked v1"
    assert parent.data.params["suite_sha256"] == store.manifest["suite"]["sha256"]
    assert parent.data.tags["package.numba"] == store.manifest["packages"]["numba"]
    assert [d.dataset.name for d in parent.inputs.dataset_inputs] == ["synthetic"]
    assert found["models"]["tans"].model_type == "codec"
    assert found["models"]["tans"].source_run_id == parent.info.run_id
    metrics = {(m.key, m.dataset_name) for m in found["models"]["tans"].metrics}
    assert ("weights/bf16/payload_ratio", "synthetic") in metrics
    assert "manifest.json" in found["artifacts"]
    assert "report/index.html" in found["artifacts"]
    assert any(name.startswith("tables/measure/part-") for name in found["artifacts"])
    assert any(name.startswith("plots/") for name in found["artifacts"])

    assert sync_run(store)[0] is False
    # The note of what was sent is lost: found again by tags, and nothing is there twice.
    (store.path / "mlflow.json").unlink()
    assert sync_run(store)[0] is True
    again = everything(sqlite, store.run_id)
    assert again["history"] == found["history"]
    assert {run.info.run_id for run in again["parents"]} == {parent.info.run_id}
    assert again["models"]["tans"].model_id == found["models"]["tans"].model_id
    assert len(again["models"]["tans"].metrics) == len(found["models"]["tans"].metrics)


def test_a_mirror_cut_off_in_the_middle_is_completed(
    store: RunStore, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    sync_run(store)
    whole = everything(sqlite, store.run_id)
    (store.path / "mlflow.json").unlink()
    for run in [*whole["parents"], *whole["children"].values()]:
        client(sqlite).delete_run(run.info.run_id)
    calls = 0
    log_batch = MlflowClient.log_batch

    def flaky(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise MlflowException("the store went away")
        return log_batch(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    with pytest.raises(MirrorError, match=r"the store went away.*linepress sync"):
        sync_run(store)
    assert sync_run(store)[0] is True
    found = everything(sqlite, store.run_id)
    assert found["history"] == whole["history"]
    assert len(found["parents"]) == 1


def test_metrics_go_in_batches_never_one_by_one(
    store: RunStore, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def single(*_: Any, **__: Any) -> None:
        raise AssertionError("log_metric costs a transaction for each metric")

    monkeypatch.setattr(MlflowClient, "log_metric", single)
    assert METRICS_PER_BATCH == 1000
    sync_run(store)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_away_costs_seconds_and_a_warning(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    said: list[str] = []
    start_s = time.perf_counter()
    words = mirror_run(store, said.append)
    assert time.perf_counter() - start_s < 30
    assert words == f"not mirrored; catch up with: linepress sync {store.path}"
    assert said[0].startswith("warning: MLflow at http://127.0.0.1:")


def test_plots_stand_alone() -> None:
    page = (
        '<style>:root { --ink: #111; --c0: #06c }</style><svg class="icon"><path d="M0"/></svg>'
        '<svg viewBox="0 0 9 9" role="img" aria-labelledby="speed0-t speed0-d"><rect fill="var(--c0)"/></svg>'
    )
    found = dict(plots(page))
    assert list(found) == ["01-speed0.svg"]
    root = ElementTree.fromstring(found["01-speed0.svg"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--c0: #06c" in found["01-speed0.svg"]
