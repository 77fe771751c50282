"""What a run looks like in MLflow, as plain data: a parent, a child per model × variant, a logged model per variant.

Nothing here talks to MLflow, so that it can be tested, counted and sent in batches.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from linepress.records.measured import DATA_OF_KIND
from linepress.records.place import RunPlace
from linepress.records.store import RunStore

KEY_CHARACTERS = 250
VALUE_CHARACTERS = 500
_BAD_IN_KEY = re.compile(r"[^A-Za-z0-9_\-. :/]")
_BAD_IN_MODEL = str.maketrans({"/": "-", ":": " ", ".": "_", "%": "_", '"': "_", "'": "_"})
_COLUMNS = [
    "status",
    "lossless",
    "source",
    "kind",
    "group",
    "layer",
    "format",
    "cast",
    "variant",
    "codec",
    "options",
    "raw_bytes",
    "payload_bits",
    "packed_bytes",
    "bound_ratio",
    "encode_GBps",
    "decode_GBps",
    "measure_GBps",
]
_CHANNEL = (
    "gain_sequential",
    "gain_random",
    "gain_mixed",
    "effective_capacity_ratio",
    "effective_bandwidth_sequential_GBps",
    "effective_bandwidth_random_GBps",
    "latency_mean_ns",
    "latency_p99_ns",
)
_SYSTEM = ("speedup", "tokens_per_s", "largest_batch", "devices_needed", "ttft_s")


@dataclass(frozen=True)
class Point:
    """One metric; ``model`` and ``dataset`` name a `LoggedModel` and a `DatasetContent`."""

    key: str
    value: float
    step: int = 0
    model: str | None = None
    dataset: str | None = None


@dataclass
class RunContent:
    """A parent or child run."""

    name: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DatasetContent:
    """A source as an MLflow dataset input."""

    name: str
    digest: str
    source_type: str
    source: str
    profile: str


@dataclass(frozen=True)
class ModelContent:
    """A codec variant as a logged model."""

    variant: str
    name: str
    params: tuple[tuple[str, str], ...]


@dataclass
class Mirror:
    """Everything to send."""

    parent: RunContent
    children: dict[str, RunContent]
    models: dict[str, ModelContent]
    datasets: dict[str, DatasetContent]


def metric_key(*parts: str) -> str:
    """Parts joined by ``/`` in the characters and the length that MLflow takes; what is cut leaves a hash."""
    key = _BAD_IN_KEY.sub("-", "/".join(part for part in parts if part))
    if len(key) <= KEY_CHARACTERS:
        return key
    return f"{key[: KEY_CHARACTERS - 9]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def model_name(variant: str) -> str:
    """A variant as the name of a logged model, which may not hold ``/ : . % \" '``."""
    return variant.translate(_BAD_IN_MODEL)


def short(value: object) -> str:
    """A parameter or tag value as text of bounded length."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


@dataclass
class _Tally:
    ok: int = 0
    failed: int = 0
    lossless: int = 0
    raw_bytes: int = 0
    payload_bits: int = 0
    packed_bytes: int = 0
    bound_bytes: float = 0.0
    speeds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        if row["status"] == "failed":
            self.failed += 1
        if row["status"] != "ok":
            return
        self.ok += 1
        self.lossless += row["lossless"] is True
        self.raw_bytes += row["raw_bytes"] or 0
        self.payload_bits += row["payload_bits"] or 0
        self.packed_bytes += row["packed_bytes"] or 0
        self.bound_bytes += (row["raw_bytes"] or 0) / row["bound_ratio"] if row["bound_ratio"] else 0.0
        for name in ("encode_GBps", "decode_GBps", "measure_GBps"):
            if row[name]:
                self.speeds.setdefault(name, []).append(row[name])

    def ratios(self) -> dict[str, float]:
        found = {
            "payload_ratio": 8 * self.raw_bytes / self.payload_bits if self.payload_bits else math.nan,
            "packed_ratio": self.raw_bytes / self.packed_bytes if self.packed_bytes else math.nan,
            "bound_ratio": self.raw_bytes / self.bound_bytes if self.bound_bytes else math.nan,
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def metrics(self) -> dict[str, float]:
        counts = {"tensors_ok": float(self.ok), "tensors_failed": float(self.failed)}
        if self.ok:
            counts["lossless_share"] = self.lossless / self.ok
        return {**self.ratios(), **{name: median(found) for name, found in self.speeds.items()}, **counts}


@dataclass
class _Child:
    total: dict[str, _Tally] = field(default_factory=dict)
    by_group: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    by_layer: dict[tuple[str, int], _Tally] = field(default_factory=dict)


def mirror_content(store: RunStore) -> Mirror:
    """What MLflow should hold about a run; memory is bounded by one part of the record and the number of children."""
    sources = store.manifest.get("sources", [])
    labels = {str(source.get("uri")): str(source.get("label")) for source in sources}
    datasets = {str(source.get("label")): _dataset(source) for source in sources}
    tallies: dict[tuple[str, str], _Child] = {}
    models: dict[str, ModelContent] = {}
    for batch in store.batches("measure", _COLUMNS):
        for row in batch.to_pylist():
            label = labels.get(row["source"], row["source"])
            child = tallies.setdefault((label, row["variant"]), _Child())
            _tally(child, row)
            if row["options"] and row["variant"] not in models:
                models[row["variant"]] = _model(row)
    children = {
        f"{label} × {variant}": _child(label, variant, child, variant in models, label in datasets)
        for (label, variant), child in tallies.items()
    }
    return Mirror(_parent(store, list(datasets), models), children, models, datasets)


def _tally(child: _Child, row: Mapping[str, Any]) -> None:
    data = DATA_OF_KIND.get(row["kind"], "weights")
    where = metric_key(data, row["cast"] or row["format"])
    child.total.setdefault(where, _Tally()).add(row)
    if row["group"]:
        child.by_group.setdefault((where, row["group"]), _Tally()).add(row)
    if row["layer"] is not None:
        child.by_layer.setdefault((where, row["layer"]), _Tally()).add(row)


def _child(label: str, variant: str, child: _Child, has_model: bool, has_dataset: bool) -> RunContent:
    model, dataset = variant if has_model else None, label if has_dataset else None
    run = RunContent(
        f"{label} × {variant}",
        params={"model": short(label), "variant": short(variant)},
        tags={"linepress.kind": "model × variant", "linepress.variant": short(variant)},
        datasets=[label] if has_dataset else [],
    )
    for where, tally in child.total.items():
        run.points += [
            Point(metric_key(where, name), value, model=model, dataset=dataset)
            for name, value in tally.metrics().items()
        ]
    for (where, group), tally in child.by_group.items():
        run.points += [Point(metric_key(where, "group", group, n), v) for n, v in tally.ratios().items()]
    for (where, layer), tally in sorted(child.by_layer.items()):
        run.points += [Point(metric_key(where, "by_layer", n), v, step=layer) for n, v in tally.ratios().items()]
    return run


def _model(row: Mapping[str, Any]) -> ModelContent:
    options = json.loads(row["options"])
    params = {"codec": row["codec"], "variant": row["variant"], **{name: short(v) for name, v in options.items()}}
    return ModelContent(row["variant"], model_name(row["variant"]), tuple(sorted(params.items())))


def _dataset(source: Mapping[str, Any]) -> DatasetContent:
    text = json.dumps(source, sort_keys=True, default=str)
    uri = str(source.get("uri"))
    return DatasetContent(
        name=str(source.get("label"))[:VALUE_CHARACTERS],
        digest=hashlib.sha256(text.encode()).hexdigest()[:36],
        source_type="hf" if uri.startswith("hf://") else "synthetic" if uri.startswith("synthetic:") else "local",
        source=json.dumps({"uri": uri, "revision": source.get("revision")}),
        profile=json.dumps({name: source.get(name) for name in ("selected_tensors", "tensors", "kind")}, default=str),
    )


def _absolute(place: RunPlace) -> RunPlace:
    return place.absolute() if isinstance(place, Path) else place


def _parent(store: RunStore, datasets: list[str], models: Mapping[str, ModelContent]) -> RunContent:
    manifest = store.manifest
    suite = manifest["suite"]
    run = RunContent(store.run_id, datasets=datasets)
    run.params = {
        "suite": f"{suite['name']} v{suite['version']}",
        "suite_sha256": suite["sha256"],
        "host": short(manifest["machine"]["host"]),
        "cpu": short(manifest["machine"]["cpu"]),
        "cores": short(manifest["machine"]["cores"]),
        "repeats": short(suite["resolved"]["repeats"]),
        "packings": short(suite["resolved"]["packings"]),
        **{f"seed.{name}": short(seed) for name, seed in manifest["seeds"].items()},
        **{metric_key(f"set.{text.partition('=')[0]}"): short(text.partition("=")[2]) for text in suite["overrides"]},
    }
    git = manifest["git"]
    run.tags = {
        "linepress.kind": "suite run",
        "mlflow.source.name": short(f"linepress run {suite['name']}"),
        "mlflow.source.type": "LOCAL",
        "linepress.suite.model": suite["name"],
        "linepress.record": short(str(_absolute(store.place))),
        "linepress.schema_version": str(manifest["schema_version"]),
        "linepress.status": str(manifest["status"]),
        **({"mlflow.source.git.commit": git["commit"], "linepress.git_dirty": str(git["dirty"])} if git else {}),
        **{f"package.{name}": version for name, version in manifest["packages"].items()},
        **{metric_key(f"data.{s.get('label')}"): short(s.get("revision") or "") for s in manifest["sources"]},
    }
    for stage, counts in manifest["counts"].items():
        run.points += [Point(metric_key("cases", stage, name), float(value)) for name, value in counts.items()]
    run.points += _later(
        store.rows(
            "channel", ["status", "codec", "data", "format", "cast", "memory", "packing", "workload", *_CHANNEL]
        ),
        ("data", "memory", "packing", "workload"),
        _CHANNEL,
        "channel",
        models,
    )
    run.points += _later(
        store.rows(
            "system", ["status", "codec", "format", "cast", "model", "accelerator", "scenario", "packing", *_SYSTEM]
        ),
        ("model", "accelerator", "scenario", "packing"),
        _SYSTEM,
        "system",
        models,
    )
    for gate in store.rows("gates", ["gate", "passed", "value"]):
        run.points.append(Point(metric_key("gate", gate["gate"], "passed"), float(bool(gate["passed"]))))
    for verdict in ("reproduced", "not reproduced", "not checkable"):
        found = [row for row in store.rows("claims", ["verdict"]) if row["verdict"] == verdict]
        run.points.append(Point(metric_key("claims", verdict), float(len(found))))
    return run


def _later(
    rows: Iterable[Mapping[str, Any]],
    identity: tuple[str, ...],
    columns: tuple[str, ...],
    stage: str,
    models: Mapping[str, ModelContent],
) -> list[Point]:
    """Figures of the stages after measure, each on its codec variant's logged model."""
    points = []
    for row in rows:
        if row["status"] != "ok":
            continue
        where = [str(row[name]) for name in identity]
        model = row["codec"] if row["codec"] in models else None
        for column in columns:
            value = row[column]
            if isinstance(value, int | float) and math.isfinite(value):
                key = metric_key(stage, row["cast"] or row["format"] or "", *where, row["codec"], column)
                points.append(Point(key, float(value), model=model))
    return points
