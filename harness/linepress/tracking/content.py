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
from typing import Any

import numpy as np

from linepress.records.frame import Frame
from linepress.records.place import RunPlace
from linepress.records.standing import Standing, standing
from linepress.records.store import RunStore
from linepress.records.summary import Summary, classes, headline, measured, summarise
from linepress.tables.markdown import as_markdown
from linepress.tables.ratios import headline_table

KEY_CHARACTERS = 250
VALUE_CHARACTERS = 500
NOTE_CHARACTERS = 8000
_BAD_IN_KEY = re.compile(r"[^A-Za-z0-9_\-. :/]")
_BAD_IN_MODEL = str.maketrans({"/": "-", ":": " ", ".": "_", "%": "_", '"': "_", "'": "_"})
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


def mirror_content(store: RunStore) -> Mirror:
    """What MLflow should hold about a run; memory holds the scalar columns of its cases."""
    sources = store.manifest.get("sources", [])
    labels = {str(source.get("uri")): str(source.get("label")) for source in sources}
    datasets = {str(source.get("label")): _dataset(source) for source in sources}
    frame = measured(store)
    models: dict[str, ModelContent] = {}
    children: dict[str, RunContent] = {}
    for (variant,), rows in frame.by("variant"):
        options = next((text for text in rows.unique("options") if text), "")
        if options:
            models[variant] = _model(variant, summarise(rows, variant).codec, options)
    for (source, variant), rows in frame.by("source", "variant"):
        label = labels.get(source, source)
        child = _child(label, variant, rows, variant in models, label in datasets)
        children[child.name] = child
    return Mirror(_parent(store, list(datasets), models), children, models, datasets)


def _child(label: str, variant: str, rows: Frame, has_model: bool, has_dataset: bool) -> RunContent:
    model, dataset = variant if has_model else None, label if has_dataset else None
    run = RunContent(
        f"{label} × {variant}",
        params={"model": short(label), "variant": short(variant)},
        tags={"linepress.kind": "model × variant", "linepress.variant": short(variant)},
        datasets=[label] if has_dataset else [],
    )
    for data, part in classes(rows):
        where = metric_key(data.data, data.cast or data.format)
        total = summarise(part, variant)
        figures = _figures(total) | {"tensors_ok": float(total.n_ok), "tensors_failed": float(total.n_failed)}
        if total.n_ok:
            figures["lossless_share"] = total.n_lossless / total.n_ok
        run.points += [
            Point(metric_key(where, name), value, model=model, dataset=dataset) for name, value in figures.items()
        ]
        for (group,), some in part.by("group"):
            if group:
                run.points += _ratios(summarise(some, variant), metric_key(where, "group", group))
        layers = part.real("layer")
        for layer in np.unique(layers[np.isfinite(layers)]):
            found = summarise(part.where(layers == layer), variant)
            run.points += _ratios(found, metric_key(where, "by_layer"), int(layer))
    return run


def _figures(found: Summary) -> dict[str, float]:
    return {name: value for name, value in found.figures().items() if value is not None and name != "above_bound_pct"}


def _ratios(found: Summary, where: str, step: int = 0) -> list[Point]:
    return [
        Point(metric_key(where, name), value, step=step)
        for name, value in _figures(found).items()
        if name.endswith("_ratio")
    ]


def _model(variant: str, codec: str, options: str) -> ModelContent:
    resolved = json.loads(options)
    params = {"codec": codec, "variant": variant, **{name: short(v) for name, v in resolved.items()}}
    return ModelContent(variant, model_name(variant), tuple(sorted(params.items())))


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
    stands = standing(store)
    run.tags = {
        "linepress.kind": "suite run",
        "verdict": stands.word,
        "baseline": short(stands.baseline),
        "accepted": short(stands.accepted),
        "suite": suite["name"],
        "commit": str(git["commit"])[:12] if git else "",
        "mlflow.note.content": _note(store, stands),
        "mlflow.source.name": short(f"linepress run {suite['name']}"),
        "mlflow.source.type": "LOCAL",
        "linepress.suite": suite["name"],
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


def _note(store: RunStore, found: Standing) -> str:
    """The description of a run: the verdict first, the headline, where the record and the report are."""
    best = as_markdown(headline_table({"": headline(measured(store))}))
    lines = [f"**{found.sentence}**", "", *best, "", f"record `{store.place}`, report: artifact `report/index.html`"]
    return "\n".join(lines)[:NOTE_CHARACTERS]


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
