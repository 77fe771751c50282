"""Sending a run to MLflow: in batches, from the driver, so that a second time adds nothing.

What was sent is noted in ``mlflow.json`` of the run folder after every step. A mirror that was cut off goes on from
there; runs and models that it had created without noting are found again by their tags.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from linepress.records.files import write_atomically
from linepress.records.machine_load import samples_of
from linepress.records.standing import standing
from linepress.records.store import MANIFEST, RunStore
from linepress.tracking.content import (
    DatasetContent,
    Mirror,
    ModelContent,
    Point,
    RunContent,
    TableContent,
    VersionContent,
    created,
    mirror_content,
)
from linepress.tracking.plots import plots

EXPERIMENT = "linepress"
DEFAULT_STORE = "mlflow.db"
STATE = "mlflow.json"
LAST_GOOD = "last-good"
BEST = "best-"
LOCK_WAIT_S = 120.0
METRICS_PER_BATCH = 1000
TAGS_PER_BATCH = 100
_STATUS = {"complete": "FINISHED", "interrupted": "KILLED", "failed": "FAILED", "running": "RUNNING"}
_KEY_TAG = "linepress.key"
_RUN_TAG = "linepress.run"
T = TypeVar("T")

# A server that is away must cost seconds, not minutes, and standard output belongs to the result, where MLflow would
# print a link for every run; the user's own settings win.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass
class State:
    """What of this run is in which MLflow.

    Attributes
    ----------
    uri : str
        Tracking URI; another one starts from nothing.
    fingerprint : str
        Hash of the record and report as last mirrored completely; empty while under way.
    runs, models : dict
        Key of a run or variant -> its id in MLflow.
    sent : list of str
        Hashes of batches and files that arrived.
    """

    uri: str = ""
    fingerprint: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path, uri: str) -> State:
        """The state noted for ``uri``; an empty one where there is none or it cannot be read."""
        try:
            known = json.loads((folder / STATE).read_text(encoding="utf-8"))
            state = cls(**known)
        except (OSError, ValueError, TypeError):
            return cls(uri)
        return state if state.uri == uri else cls(uri)

    def save(self, folder: Path) -> None:
        """Write the state beside the record."""
        write_atomically(folder / STATE, json.dumps(self.__dict__, indent=1).encode() + b"\n")


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, or a SQLite file in the working folder.

    A path with characters that mean something in a URI is given as relative to the working folder, where nothing of
    it is read as an escape, a query or a fragment.
    """
    stated = os.environ.get("MLFLOW_TRACKING_URI")
    if stated:
        return stated
    path = Path(DEFAULT_STORE).absolute()
    return f"sqlite:///{DEFAULT_STORE if set(str(path)) & set('%?#') else path}"


def store_file(uri: str) -> Path | None:
    """The SQLite file behind a tracking URI, None for a server or another database."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def shown_store(uri: str) -> str:
    """A tracking URI as it is told to people: the file itself where there is one, without a password."""
    path = store_file(uri)
    return f"sqlite:///{path}" if path is not None else re.sub(r"(?<=://)[^/@]*@", "", uri)


def artifact_place(uri: str) -> str | None:
    """Where artifacts of a new experiment go: MLflow's own choice, but escaped where it would misread the path."""
    path = store_file(uri)
    if path is None or not set(str(path)) & set("%?#"):
        return None
    return (path.parent / "mlruns" / EXPERIMENT).as_uri()


@contextmanager
def exclusive(uri: str, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the local store: runs that end together in one folder make and fill it one after the other.

    Raises `OSError` at once where the folder cannot be written or the file is no database, which MLflow would try
    for a hundred seconds; `TimeoutError` (an `OSError`) after ``wait_s``.
    """
    path = store_file(uri)
    if path is None:
        yield
        return
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(f"{path.parent} cannot be written")
    if path.exists():
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
                database.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError as error:
            raise OSError(f"{path}: {error}") from None
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("ab") as file:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another run has held {path} for {wait_s:.0f} s") from None
                time.sleep(0.05)
        yield


def fingerprint(store: RunStore) -> str:
    """Hash of everything that is mirrored: parts, suite, status, counts and report."""
    manifest = store.manifest
    digest = hashlib.sha256()
    known = {name: manifest.get(name) for name in ("suite", "status", "counts", "parts")}
    digest.update(json.dumps(known, sort_keys=True, default=str).encode())
    for file in _files(store.path):
        if file.parent.name == "report" and file.suffix == ".html":
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Files of a run that MLflow gets as artifacts."""
    for name in (MANIFEST, "failures.jsonl"):
        if (folder / name).exists():
            yield folder / name
    for part in ("tables", "report"):
        yield from sorted(file for file in (folder / part).rglob("*") if file.is_file() and file.suffix != ".tmp")


class Mirroring:
    """One attempt to bring MLflow up to date with a run."""

    def __init__(self, store: RunStore, uri: str) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.tracking import MlflowClient

        mlflow.set_tracking_uri(uri)
        self.store = store
        self.uri = uri
        self.state = State.load(store.path, uri)
        self.client = MlflowClient(tracking_uri=uri)
        self.mlflow = mlflow
        # Everything of one mirror carries the same moment, so that sending a batch again changes nothing.
        self.moment_ms = _milliseconds(created(store))
        self.experiment = ""

    def run(self, target: str) -> str:
        """Send what is missing; ``target`` is the fingerprint that is reached then. The parent's id."""
        if self.state.fingerprint:
            # The record changed since: what was sent stays known by its hash, the rest is sent now.
            self.state.fingerprint = ""
        content = mirror_content(self.store)
        self.experiment = self._experiment()
        parent = self._run("parent", content.parent, None)
        for model in content.models.values():
            self._model(model, parent)
        self._fill(parent, content.parent, content)
        self._tables(parent, content.tables)
        for key, child in content.children.items():
            run_id = self._run(key, child, parent)
            page = f"#/experiments/{self.experiment}/runs/{parent}/artifacts/report/index.html"
            child.tags["mlflow.note.content"] = f"[report]({page}) of run {self.store.run_id}"
            self._fill(run_id, child, content)
            self._end(run_id)
        for file in _files(self.store.path):
            self._artifact(parent, file)
        report = self.store.path / "report" / "index.html"
        if report.exists():
            for name, svg in plots(report.read_text(encoding="utf-8")):
                self._once(f"{parent} plot {name} {svg}", self.client.log_text, parent, svg, f"plots/{name}")
        self._register(parent, content)
        self._machine_load(parent)
        self._end(parent)
        self.state.fingerprint = target
        self.state.save(self.store.path)
        return parent

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifact_place(self.uri)))

    def _identity(self, key: str) -> dict[str, str]:
        manifest = self.store.manifest
        suite = str((manifest.get("suite") or {}).get("sha256") or "")
        unique = f"{self.store.run_id} {created(self.store)} {suite[:16]}".strip()
        return {_RUN_TAG: unique, _KEY_TAG: hashlib.sha256(key.encode()).hexdigest()[:32]}

    def _run(self, key: str, content: RunContent, parent: str | None) -> str:
        if key in self.state.runs:
            return self.state.runs[key]
        identity = self._identity(key)
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
        found = self.client.search_runs([self.experiment], query, max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
        else:
            tags = {**identity, **({"mlflow.parentRunId": parent} if parent else {})}
            run = self.client.create_run(self.experiment, self.moment_ms, tags, content.name)
            run_id = str(run.info.run_id)
        self.state.runs[key] = run_id
        self.state.save(self.store.path)
        return run_id

    def _model(self, model: ModelContent, source_run: str) -> None:
        """One logged model a variant and options, whatever the night: its metrics are then a series over nights."""
        if model.variant in self.state.models:
            return
        key = hashlib.sha256(f"{model.variant} {model.params}".encode()).hexdigest()[:32]
        found = self.client.search_logged_models([self.experiment], f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
        if found:
            model_id = str(found[0].model_id)
        else:
            created = self.mlflow.create_external_model(
                name=model.name,
                source_run_id=source_run,
                params=dict(model.params),
                tags={_KEY_TAG: key, "linepress.variant": model.variant},
                model_type="codec",
                experiment_id=self.experiment,
            )
            model_id = str(created.model_id)
        self.state.models[model.variant] = model_id
        self.state.save(self.store.path)

    def _tables(self, run_id: str, tables: dict[str, TableContent]) -> None:
        """As `MlflowClient.log_table` writes them, which would append to what a cut-off attempt left there."""
        names = {name: f"results/{name}.json" for name in tables}
        for name, table in tables.items():
            document = {"columns": list(table.columns), "data": [list(row) for row in table.rows]}
            self._once(f"{run_id} table {name} {document}", self.client.log_dict, run_id, document, names[name])
        listed = json.dumps([{"path": path, "type": "table"} for path in names.values()])
        self._once(f"{run_id} tables {listed}", self.client.set_tag, run_id, "mlflow.loggedArtifacts", listed)

    def _machine_load(self, run_id: str) -> None:
        """What the driver's machine did, as MLflow's own monitor logs it: under ``system/``, by the clock."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"system/{name}", value, int(sample["at_ms"]), step)
            for step, sample in enumerate(samples_of(self.store.path))
            for name, value in sample.items()
            if name != "at_ms"
        ]
        for some in _batches(metrics, METRICS_PER_BATCH):
            what = [(metric.key, metric.value, metric.timestamp) for metric in some]
            self._once(f"{run_id} machine {what}", self.client.log_batch, run_id, metrics=some)

    def _register(self, parent: str, content: Mirror) -> None:
        """This night as a version of every variant's registered model, and the aliases of the newest good night."""
        there = {v.name: v for v in self.client.search_model_versions(f"run_id = '{parent}'", max_results=10_000)}
        for variant, wanted in content.versions.items():
            version = there.get(wanted.name) or self._version(wanted, parent, self.state.models[variant])
            for key, value in wanted.tags.items():
                if version.tags.get(key) != value:
                    self.client.set_model_version_tag(wanted.name, version.version, key, value)
            there[wanted.name] = version
        if content.good:
            self._aliases(content, {name: str(version.version) for name, version in there.items()})

    def _version(self, wanted: VersionContent, parent: str, model_id: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(wanted.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.create_model_version(
            wanted.name,
            source=f"models:/{model_id}",
            run_id=parent,
            tags=wanted.tags,
            description=wanted.description,
            model_id=model_id,
        )

    def _aliases(self, content: Mirror, versions: dict[str, str]) -> None:
        """``last-good`` on every variant; ``best-kv`` and the like on one variant of the suite only.

        An older night that is mirrored late moves nothing. The tag ``best`` says it in the list of models, which of
        several aliases hides all but one.
        """
        models = self.client.search_registered_models(f"name LIKE '{content.registry}%'", max_results=1000)
        aliases = {model.name: dict(model.aliases) for model in models}
        holders = {alias: name for name, known in aliases.items() for alias in known}
        for wanted in content.versions.values():
            for alias in (LAST_GOOD, *(f"{BEST}{data.replace(' ', '-')}" for data in wanted.best)):
                holder = wanted.name if alias == LAST_GOOD else holders.get(alias, wanted.name)
                held = aliases.get(holder, {}).get(alias)
                if held is not None:
                    night = self.client.get_model_version(holder, held).tags.get("night", "")
                    if night > wanted.tags["night"]:
                        continue
                    if holder != wanted.name:
                        self.client.delete_registered_model_alias(holder, alias)
                self.client.set_registered_model_alias(wanted.name, alias, versions[wanted.name])
        for model in self.client.search_registered_models(f"name LIKE '{content.registry}%'", max_results=1000):
            best = ", ".join(sorted(alias.removeprefix(BEST) for alias in model.aliases if alias.startswith(BEST)))
            if best and model.tags.get("best") != best:
                self.client.set_registered_model_tag(model.name, "best", best)
            elif not best and "best" in model.tags:
                self.client.delete_registered_model_tag(model.name, "best")

    def _fill(self, run_id: str, run: RunContent, content: Mirror) -> None:
        from mlflow.entities import Metric, Param, RunTag

        step = len(self.store.manifest.get("sessions") or ())
        params = [Param(name, value) for name, value in sorted(run.params.items())]
        tags = [RunTag(name, value) for name, value in sorted(run.tags.items())]
        for some in _batches(params, TAGS_PER_BATCH):
            self._once(
                f"{run_id} params {[(p.key, p.value) for p in some]}", self.client.log_batch, run_id, params=some
            )
        for few in _batches(tags, TAGS_PER_BATCH):
            self._once(f"{run_id} tags {[(t.key, t.value) for t in few]}", self.client.log_batch, run_id, tags=few)
        if run.datasets:
            inputs = [_input(content.datasets[name]) for name in run.datasets]
            self._once(f"{run_id} inputs {run.datasets}", self.client.log_inputs, run_id, inputs)
        for points in _batches(run.points, METRICS_PER_BATCH):
            metrics = [self._metric(Metric, point, run_id, step, content) for point in points]
            self._once(f"{run_id} metrics {points}", self.client.log_batch, run_id, metrics=metrics)

    def _metric(self, kind: Any, point: Point, run_id: str, step: int, content: Mirror) -> Any:
        dataset = content.datasets.get(point.dataset) if point.dataset else None
        # A series over layers keeps its steps; a plain figure counts the sessions, so that the last one shows.
        return kind(
            key=point.key,
            value=point.value,
            timestamp=self.moment_ms + step,
            step=point.step if "by_layer" in point.key else step,
            model_id=self.state.models.get(point.model) if point.model else None,
            dataset_name=dataset.name if dataset else None,
            dataset_digest=dataset.digest if dataset else None,
            run_id=run_id,
        )

    def _artifact(self, run_id: str, file: Path) -> None:
        where = file.relative_to(self.store.path).parent
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self._once(
            f"{run_id} file {where}/{file.name} {digest}",
            self.client.log_artifact,
            run_id,
            str(file),
            None if str(where) == "." else str(where),
        )

    def _end(self, run_id: str) -> None:
        manifest = self.store.manifest
        status = _STATUS.get(str(manifest.get("status")), "FAILED")
        if status == "FINISHED" and not standing(self.store).good:
            status = "FAILED"
        ended_ms = _milliseconds(str(manifest.get("updated_at") or created(self.store)))
        self._once(f"{run_id} ended {status} {ended_ms}", self.client.set_terminated, run_id, status, ended_ms)

    def _once(self, what: str, send: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        digest = hashlib.sha256(what.encode()).hexdigest()[:24]
        if digest in self.state.sent:
            return
        send(*arguments, **named)
        self.state.sent.append(digest)
        self.state.save(self.store.path)


def _input(dataset: DatasetContent) -> Any:
    from mlflow.entities import Dataset, DatasetInput

    return DatasetInput(
        Dataset(dataset.name, dataset.digest, dataset.source_type, dataset.source, profile=dataset.profile), tags=[]
    )


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
