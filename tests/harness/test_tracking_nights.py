"""Nights in MLflow: few metrics on the parent, the rest as tables, one model a variant with a version a night."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from linepress.errors import EXIT_CASES_FAILED
from linepress.records import RunStore
from linepress.records.machine_load import MachineLoad
from linepress.tracking import MirrorError, sync_run
from linepress.tracking.content import HEADLINE_METRICS, mirror_content
from linepress_kit.synthetic_run import Shape, make_run
from linepress_kit.timed_runs import timed_rows, write_run

SMALL = Shape(layers=1, failing=0)
SYSTEM_METRICS = {
    f"system/{name}"
    for name in (
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
        "disk_usage_megabytes",
        "disk_usage_percentage",
        "disk_available_megabytes",
        "network_receive_megabytes",
        "network_transmit_megabytes",
    )
}
"""Those that ``mlflow.system_metrics`` logs, by its names."""
CODECS = ("raw", "huffman", "window:bits=3")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables: making them takes MLflow seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


def night(path: Path, day: int, verdict: str = "", **options: Any) -> RunStore:
    rows = [row for row in timed_rows(SMALL) if row["variant"] in CODECS]
    write_run(path, rows, created_at=f"2026-01-{day:02d}T03:00:00+00:00", seed=day, **options)
    if verdict:
        (path / "nightly").mkdir()
        (path / "nightly" / "summary.json").write_text(json.dumps({"verdict": verdict, "reasons": ["why"]}))
    return RunStore.open(path)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_nights_are_versions_of_one_model_a_variant(tmp_path: Path, uri: str) -> None:
    first, second, bad = night(tmp_path / "a", 1), night(tmp_path / "b", 2), night(tmp_path / "c", 3, "FAIL")
    for store in (second, first, bad):  # the first night is mirrored late
        sync_run(store)
    (first.path / "mlflow.json").unlink()
    sync_run(first)
    found = client(uri)
    [experiment] = [e.experiment_id for e in found.search_experiments() if e.name == "linepress"]
    assert {model.name for model in found.search_logged_models([experiment])} == {"raw", "huffman", "window bits=3"}
    models = {model.name: model for model in found.search_registered_models()}
    assert set(models) == {f"invented - {name}" for name in ("raw", "huffman", "window bits=3")}
    assert len(found.search_model_versions("name = 'invented - huffman'")) == 3, (
        "one a night, however often it is sent"
    )
    # What is best in the last good night: neither the night that failed nor the older one moved it.
    for alias, name in (("best-kv", "huffman"), ("best-weights", "huffman"), ("last-good", "raw")):
        version = found.get_model_version_by_alias(f"invented - {name}", alias)
        assert version.tags["night"].startswith("2026-01-02"), alias
    assert [name for name, model in models.items() if "best-kv" in model.aliases] == ["invented - huffman"]
    assert float(version.tags["kv/bf16/payload_ratio"]) == 1.0
    assert models["invented - huffman"].tags == {"best": "kv, weights"}, "the list shows tags, and one alias only"
    assert models["invented - raw"].tags == {}
    best = found.get_model_version_by_alias("invented - huffman", "best-kv")
    assert f"kv/bf16 {float(best.tags['kv/bf16/packed_ratio']):.4g}" in best.description.partition(" packed: PASS")[0]
    failed = found.search_runs([experiment], "tags.verdict = 'FAIL'")
    assert [run.data.tags["linepress.record"] for run in failed] == [str(bad.path)]
    assert failed[0].info.status == "FAILED"


def test_the_parent_has_few_metrics_and_tables_that_mlflow_reads(tmp_path: Path, uri: str) -> None:
    store = night(tmp_path / "a", 1)
    load = MachineLoad(store.path)
    load.tick(at_once=True)
    load.save()
    sync_run(store)
    found = client(uri)
    experiment = found.get_experiment_by_name("linepress").experiment_id
    [parent] = found.search_runs([experiment], "tags.`linepress.kind` = 'suite run'")
    ours = [name for name in parent.data.metrics if not name.startswith("system/")]
    assert 5 <= len(ours) <= HEADLINE_METRICS
    assert set(parent.data.metrics) - set(ours) == SYSTEM_METRICS
    memory = found.get_metric_history(parent.info.run_id, "system/system_memory_usage_percentage")
    assert [0 < one.value < 100 for one in memory] == [True] * 2
    assert memory[0].timestamp <= memory[1].timestamp <= 1000 * time.time()
    assert parent.data.metrics["cases_failed"] == 0
    table = found.load_table(experiment, "results/variants.json", run_ids=[parent.info.run_id])
    kv = table[(table["variant"] == "huffman") & (table["data"] == "kv")]
    assert kv["payload_ratio"].tolist() == [parent.data.metrics["kv/bf16/best_payload_ratio"]]
    (store.path / "mlflow.json").unlink()
    sync_run(store)
    again = found.load_table(experiment, "results/variants.json", run_ids=[parent.info.run_id])
    assert len(again) == len(table), "sent again, not appended"
    [child] = found.search_runs([experiment], "params.variant = 'window:bits=3'")
    assert {name: child.data.params[name] for name in ("codec", "layout", "packing")} == {
        "codec": "window",
        "layout": "row",
        "packing": "classes",
    }
    assert child.data.tags["report"] == f"{store.path}/report/index.html"
    assert f"runs/{parent.info.run_id}/artifacts/report" in child.data.tags["mlflow.note.content"]


def test_every_figure_is_rounded_and_none_is_under_a_reserved_name(tmp_path: Path) -> None:
    content = mirror_content(make_run(tmp_path / "run"))
    points = [*content.parent.points, *(point for child in content.children.values() for point in child.points)]
    assert not [point.key for point in points if point.key.startswith("system/")]
    rates = [point.value for point in points if point.key.endswith("_GBps")]
    assert rates
    assert all(value == float(f"{value:.3g}") for value in rates)
    assert {"variants", "channel_results", "system_results", "gates"} <= set(content.tables)
    assert {point.key: point.value for point in content.parent.points}["kv/other_text/best_payload_ratio"] == 1.57
    assert len(content.parent.points) <= HEADLINE_METRICS


ESSENTIAL = {"schema_version", "parts", "run_id"}


def test_a_manifest_that_lacks_optional_keys_is_mirrored(tmp_path: Path, uri: str) -> None:
    store = night(tmp_path / "a", 1)
    whole = dict(store.manifest)
    inner = [
        (name, key) for name, value in whole.items() if isinstance(value, dict) for key in value if name != "parts"
    ]
    for name in [*(set(whole) - ESSENTIAL), *inner]:
        lacking = dict(whole)
        if isinstance(name, str):
            del lacking[name]
        else:
            lacking[name[0]] = {key: value for key, value in whole[name[0]].items() if key != name[1]}
        store.manifest.clear()
        store.manifest.update(lacking)
        assert mirror_content(store).parent.name == "a", name
    store.manifest.clear()
    store.manifest.update({name: whole[name] for name in ESSENTIAL})
    store.save_manifest()
    assert sync_run(RunStore.open(store.path))[0]


def test_a_store_that_is_no_database_is_refused_at_once(tmp_path: Path, uri: str) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, and long enough to be read as one " * 40)
    begun_s = time.perf_counter()
    with pytest.raises(MirrorError, match="not a database") as refused:
        sync_run(night(tmp_path / "a", 1))
    assert time.perf_counter() - begun_s < 20
    assert refused.value.exit_code == EXIT_CASES_FAILED


def test_a_store_that_cannot_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow itself tries for a hundred seconds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    begun_s = time.perf_counter()
    with pytest.raises(MirrorError, match="none cannot be written"):
        sync_run(night(tmp_path / "a", 1))
    assert time.perf_counter() - begun_s < 20
