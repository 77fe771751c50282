"""What a run looks like in MLflow, as plain data: a parent with few metrics and tables, a child per model × variant,
a model per variant with a version for this night.

Nothing here talks to MLflow, so that it can be tested, counted and sent in batches.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linepress.records.frame import Frame
from linepress.records.place import RunPlace
from linepress.records.standing import Standing, standing
from linepress.records.store import RunStore
from linepress.records.summary import (
    Summary,
    best_line_variant,
    best_on_another_text,
    best_payload_line_variant,
    classes,
    headline,
    measured,
    summaries,
    summarise,
)
from linepress.tables.markdown import as_markdown
from linepress.tables.ratios import headline_table

KEY_CHARACTERS = 250
VALUE_CHARACTERS = 500
NOTE_CHARACTERS = 8000
_BAD_IN_KEY = re.compile(r"[^A-Za-z0-9_\-. :/]")
_BAD_IN_MODEL = str.maketrans({"/": "-", ":": " ", ".": "_", "%": "_", '"': "_", "'": "_"})
HEADLINE_METRICS = 10
RATIO_DIGITS = 6
RATE_DIGITS = 3
"""Significant digits: a ratio is exact, a rate is known to a percent at best."""
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
_STAGES = (
    ("channel", ("codec", "data", "format", "cast", "memory", "packing", "workload"), _CHANNEL),
    ("system", ("codec", "format", "cast", "model", "accelerator", "scenario", "packing"), _SYSTEM),
)


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


@dataclass(frozen=True)
class TableContent:
    """A table artifact: column names and rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class VersionContent:
    """This night of one variant in the model registry; ``best`` names the data that it codes best of all variants."""

    name: str
    description: str
    tags: dict[str, str]
    best: tuple[str, ...]


@dataclass
class Mirror:
    """Everything to send; ``versions`` by variant, ``tables`` by file name, ``registry`` the prefix of its names."""

    parent: RunContent
    children: dict[str, RunContent]
    models: dict[str, ModelContent]
    versions: dict[str, VersionContent]
    datasets: dict[str, DatasetContent]
    tables: dict[str, TableContent]
    registry: str
    good: bool


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


def rounded(name: str, value: float) -> float:
    """A figure to the digits that were measured."""
    digits = RATE_DIGITS if name.endswith(("_GBps", "_ns", "_s")) else RATIO_DIGITS
    return float(f"{value:.{digits}g}")


def mirror_content(store: RunStore) -> Mirror:
    """What MLflow should hold about a run; memory holds the scalar columns of its cases."""
    sources = store.manifest.get("sources") or []
    labels = {str(source.get("uri")): str(source.get("label")) for source in sources}
    datasets = {str(source.get("label")): _dataset(source) for source in sources}
    frame = measured(store)
    stands = standing(store)
    models: dict[str, ModelContent] = {}
    children: dict[str, RunContent] = {}
    for (variant,), rows in frame.by("variant"):
        options = next((text for text in rows.unique("options") if text), "")
        if options:
            models[variant] = _model(variant, rows, options)
    for (source, variant), rows in frame.by("source", "variant"):
        label = labels.get(source, source)
        child = _child(label, variant, rows, models.get(variant), label in datasets)
        child.tags |= {
            "mlflow.source.name": _command(store),
            "mlflow.source.type": "LOCAL",
            "report": short(f"{_absolute(store.place)}/report/index.html"),
        }
        children[child.name] = child
    tables = _tables(store, frame)
    registry = f"{_suite(store).get('name', 'run')} - ".translate(_BAD_IN_MODEL)
    versions = _versions(store, frame, models, stands, registry)
    parent = _parent(store, frame, list(datasets), stands)
    return Mirror(parent, children, models, versions, datasets, tables, registry, stands.good)


def created(store: RunStore) -> str:
    """When the run began, ISO 8601; the beginning of time where its manifest does not say."""
    return str(store.manifest.get("created_at") or "1970-01-01T00:00:00+00:00")


def _suite(store: RunStore) -> Mapping[str, Any]:
    return store.manifest.get("suite") or {}


def _command(store: RunStore) -> str:
    return short(f"linepress run {_suite(store).get('name', '')}".strip())


def _child(label: str, variant: str, rows: Frame, model: ModelContent | None, has_dataset: bool) -> RunContent:
    named, dataset = variant if model else None, label if has_dataset else None
    codec = dict(model.params) if model else {"codec": summarise(rows, variant).codec}
    run = RunContent(
        f"{label} × {variant}",
        params={**codec, "model": short(label), "variant": short(variant)},
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
            Point(metric_key(where, name), value, model=named, dataset=dataset) for name, value in figures.items()
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
    return {
        name: rounded(name, value)
        for name, value in found.figures().items()
        if value is not None and name != "above_bound_pct"
    }


def _ratios(found: Summary, where: str, step: int = 0) -> list[Point]:
    return [
        Point(metric_key(where, name), value, step=step)
        for name, value in _figures(found).items()
        if name.endswith("_ratio")
    ]


def _model(variant: str, rows: Frame, options: str) -> ModelContent:
    """The options as single params; ``layout`` and ``packing`` as measured where the codec has no such option."""
    found = summarise(rows, variant)
    params = {
        "codec": found.codec,
        "variant": short(variant),
        "layout": found.layout,
        "packing": found.packing,
        **{name: short(value) for name, value in json.loads(options).items()},
    }
    return ModelContent(variant, model_name(variant), tuple(sorted((k, v) for k, v in params.items() if v)))


def _tables(store: RunStore, frame: Frame) -> dict[str, TableContent]:
    """The figures that are too many for metrics: one row a variant and kind of data, and those of later stages."""
    found = {"variants": headline(frame)}
    for stage, identity, figures in _STAGES:
        names = ["status", *identity, *figures]
        found[f"{stage}_results"] = [
            {name: row[name] for name in names} for row in store.rows(stage, names) if row["status"] == "ok"
        ]
    found["gates"] = list(store.rows("gates", ["gate", "metric", "rule", "threshold", "value", "passed"]))
    found["claims"] = list(store.rows("claims", ["claim_id", "title", "claimed", "measured", "bound", "verdict"]))
    return {name: _table(rows) for name, rows in found.items() if rows}


def _table(rows: list[dict[str, Any]]) -> TableContent:
    columns = tuple(rows[0])
    return TableContent(columns, tuple(tuple(_cell(name, row[name]) for name in columns) for row in rows))


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return rounded(name, value) if math.isfinite(value) else None
    return value


def _versions(
    store: RunStore, frame: Frame, models: Mapping[str, ModelContent], stands: Standing, registry: str
) -> dict[str, VersionContent]:
    """This night of every variant: its verdict and its ratios as tags, and what it is best on.

    The table of versions cuts tags and descriptions off after some 20 characters, so the ratios begin the latter.
    """
    manifest = store.manifest
    common = {
        "verdict": stands.word,
        "night": created(store),
        "commit": str((manifest.get("git") or {}).get("commit") or "")[:12],
        "linepress.record": short(str(_absolute(store.place))),
    }
    tags: dict[str, dict[str, str]] = {variant: dict(common) for variant in models}
    ratios: dict[str, list[str]] = {variant: [] for variant in models}
    best: dict[str, list[str]] = {variant: [] for variant in models}
    judged: set[str] = set()
    for data, part in classes(frame):
        found = summaries(part)
        for one in found:
            for name, value in _figures(one).items():
                if one.variant in tags and name in ("payload_ratio", "packed_ratio"):
                    key = metric_key(data.data, data.cast or data.format, name)
                    tags[one.variant][key] = f"{value:g}"
                    if name == "packed_ratio":
                        ratios[one.variant].append(f"{key.removesuffix(f'/{name}')} {value:.4g}")
        winner = best_line_variant(found)
        # A cast is not what is stored; of several stored formats the first decides, as in every table.
        if winner is not None and winner.variant in models and not data.cast and data.data not in judged:
            judged.add(data.data)
            best[winner.variant].append(data.data)
    packed = {variant: f"{', '.join(some)} packed: " if some else "" for variant, some in ratios.items()}
    return {
        variant: VersionContent(
            f"{registry}{model.name}",
            f"{packed[variant]}{stands.sentence}\n\nrun `{store.run_id}`, record `{store.place}`"[:NOTE_CHARACTERS],
            tags[variant],
            tuple(best[variant]),
        )
        for variant, model in models.items()
    }


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


def _parent(store: RunStore, frame: Frame, datasets: list[str], stands: Standing) -> RunContent:
    """Params and tags say what it is; metrics are few, so that the list of runs with its columns is the history.

    A record of another hand may lack every key but those that make it one; what it lacks is left out.
    """
    manifest, suite = store.manifest, _suite(store)
    machine, resolved = manifest.get("machine") or {}, suite.get("resolved") or {}
    known = {
        "suite": f"{suite.get('name', '')} v{suite.get('version', '')}",
        "suite_sha256": suite.get("sha256"),
        "host": machine.get("host"),
        "cpu": machine.get("cpu"),
        "cores": machine.get("cores", machine.get("usable_cores")),
        "repeats": resolved.get("repeats"),
        "packings": resolved.get("packings"),
        **{f"seed.{name}": seed for name, seed in (manifest.get("seeds") or {}).items()},
        **{
            metric_key(f"set.{text.partition('=')[0]}"): text.partition("=")[2]
            for text in suite.get("overrides") or ()
        },
    }
    run = RunContent(store.run_id, datasets=datasets)
    run.params = {name: short(value) for name, value in known.items() if value is not None}
    git = manifest.get("git") or {}
    commit = str(git.get("commit") or "")
    run.tags = {
        "linepress.kind": "suite run",
        "verdict": stands.word,
        "baseline": short(stands.baseline),
        "accepted": short(stands.accepted),
        "suite": short(str(suite.get("name", ""))),
        "commit": commit[:12],
        "report": short(f"{_absolute(store.place)}/report/index.html"),
        "mlflow.note.content": _note(store, frame, stands),
        "mlflow.source.name": _command(store),
        "mlflow.source.type": "LOCAL",
        "linepress.suite": short(str(suite.get("name", ""))),
        "linepress.record": short(str(_absolute(store.place))),
        "linepress.schema_version": str(manifest.get("schema_version")),
        "linepress.status": str(manifest.get("status")),
        **({"mlflow.source.git.commit": commit, "linepress.git_dirty": str(git.get("dirty"))} if commit else {}),
        **{f"package.{name}": str(version) for name, version in (manifest.get("packages") or {}).items()},
        **{
            metric_key(f"data.{s.get('label')}"): short(s.get("revision") or "")
            for s in manifest.get("sources") or ()
        },
    }
    run.points = _headline_metrics(store, frame)
    return run


def _headline_metrics(store: RunStore, frame: Frame) -> list[Point]:
    """At most `HEADLINE_METRICS`: failed cases, best gain, KV on another text, best ratios by data, casts last."""
    counts = (store.manifest.get("counts") or {}).values()
    found = {"cases_failed": float(sum(int(count.get("failed") or 0) for count in counts))}
    gains = [
        float(row["gain_sequential"])
        for row in store.rows("channel", ["status", "gain_sequential"])
        if row["status"] == "ok" and row["gain_sequential"] is not None and math.isfinite(row["gain_sequential"])
    ]
    if gains:
        found["best_gain"] = max(gains)
    other = best_on_another_text(store)
    if other is not None:
        found[metric_key("kv", "other_text", "best_payload_ratio")] = float(other["ratio"])
    for data, part in classes(frame):
        all_of_them = summaries(part)
        for name, best in (
            ("payload_ratio", best_payload_line_variant(all_of_them)),
            ("packed_ratio", best_line_variant(all_of_them)),
        ):
            value = getattr(best, name) if best is not None else math.nan
            if math.isfinite(value) and len(found) < HEADLINE_METRICS:
                found[metric_key(data.data, data.cast or data.format, f"best_{name}")] = value
    return [Point(name, rounded(name, value)) for name, value in found.items()]


def _note(store: RunStore, frame: Frame, found: Standing) -> str:
    """The description of a run: the verdict first, the headline, where the record and the report are."""
    best = as_markdown(headline_table({"": headline(frame)}))
    lines = [f"**{found.sentence}**", "", *best, "", f"record `{store.place}`, report: artifact `report/index.html`"]
    return "\n".join(lines)[:NOTE_CHARACTERS]
