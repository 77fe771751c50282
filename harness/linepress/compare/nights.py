"""Runs of a suite in order of time, each reduced to its figures: what history and spread are made from."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.compare.noise import noise
from linepress.compare.options import METRICS
from linepress.records import RunStore
from linepress.records.files import RecordWriteError, write_atomically
from linepress.records.measured import data_of, dequantised_sources
from linepress.records.place import RunPlace
from linepress.records.remote import cache_folder
from linepress.records.store import read_manifest

ALL_DATA = "all data"
EXACT_FIGURES = ("payload_ratio", "packed_ratio", "lossless")
SPEED_FIGURES = tuple(f"{metric}_GBps" for metric in METRICS)
CACHE_VERSION = 2
_COLUMNS = (
    "status",
    "source",
    "kind",
    "format",
    "cast",
    "codec",
    "variant",
    "raw_bytes",
    "payload_bits",
    "packed_bytes",
)


@dataclass(frozen=True, slots=True)
class Night:
    """One complete run, reduced.

    Attributes
    ----------
    figures : dict
        ``data|variant|figure`` -> value: payload and packed ratio (byte-weighted), lossless (share of cases), and
        rates in 10^9 B/s of raw bytes by the fastest rounds. ``data`` is for instance ``weights bf16``, or
        ``all data``.
    machine_GBps : float | None
        Geometric mean of the rates of the control codecs: what the machine did that night.
    """

    run: str
    path: str
    created_at: str
    commit: str
    dirty: bool
    suite_sha256: str
    figures: dict[str, float] = field(default_factory=dict)
    machine_GBps: float | None = None


def nights(runs: Sequence[RunPlace | RunStore]) -> list[Night]:
    """Runs reduced to their figures, in the given order; reduced once, then remembered by their content."""
    return [night(run) for run in runs]


def night(run: RunPlace | RunStore) -> Night:
    """One run reduced; raises `RecordError` for a place that is no run of this schema version."""
    path = run.place if isinstance(run, RunStore) else run
    manifest = run.manifest if isinstance(run, RunStore) else read_manifest(run)
    cache = _cache_file(manifest)
    figures, machine = _remembered(cache)
    if figures is None:
        figures, machine = reduce_run(RunStore.open(run))
        _remember(cache, figures, machine)
    git, suite = manifest.get("git") or {}, manifest.get("suite") or {}
    return Night(
        run=str(manifest.get("run_id", path.name)),
        path=str(path),
        created_at=str(manifest.get("created_at") or ""),
        commit=str(git.get("commit") or ""),
        dirty=bool(git.get("dirty")),
        suite_sha256=str(suite.get("sha256") or ""),
        figures=figures,
        machine_GBps=machine,
    )


def as_rows(found: Iterable[Night]) -> list[dict[str, Any]]:
    """Nights as plain data."""
    return [asdict(one) for one in found]


@dataclass(slots=True)
class _Sum:
    cases: int = 0
    lossless: int = 0
    raw_bytes: float = 0.0
    payload_bits: float = 0.0
    packed_bytes: float = 0.0
    timed_bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    timed_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def reduce_run(store: RunStore) -> tuple[dict[str, float], float | None]:
    """Figures of a run, and the rate of its control codecs."""
    shortest_s = noise().shortest_round_s
    sums: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    codec_of: dict[str, str] = {}
    marked = dequantised_sources(store.manifest)
    for batch in store.batches("measure", [*_COLUMNS, "lossless", *(f"{metric}_s" for metric in METRICS)]):
        fastest = {metric: _fastest(batch[f"{metric}_s"]) for metric in METRICS}
        rows = batch.select([*_COLUMNS, "lossless"]).to_pylist()
        for i, row in enumerate(rows):
            if row["status"] == "skipped":
                continue
            codec_of[row["variant"]] = row["codec"]
            cast = row["cast"] if row["cast"] not in (None, "", "none") else ""
            kind = data_of(row["kind"], row["source"], cast, marked)
            data = f"{kind} {row['format']}" + (f" ({cast})" if cast else "")
            for name in (data, ALL_DATA):
                _add(sums[name, row["variant"]], row, {m: fastest[m][i] for m in METRICS}, shortest_s)
    figures: dict[str, float] = {}
    for (data, variant), one in sums.items():
        figures |= {f"{data}|{variant}|{name}": value for name, value in _figures(one).items()}
    return figures, _machine(figures, codec_of)


def _fastest(column: Any) -> NDArray[np.float64]:
    """Fastest round of each row; NaN where there is none."""
    return np.array([min(values) if values else math.nan for values in column.to_pylist()], dtype=np.float64)


def _add(one: _Sum, row: Mapping[str, Any], fastest: Mapping[str, float], shortest_s: float) -> None:
    one.cases += 1
    if row["status"] != "ok":
        return
    one.lossless += row["lossless"] is True
    for name in ("raw_bytes", "payload_bits", "packed_bytes"):
        setattr(one, name, getattr(one, name) + (row[name] or 0))
    for metric, seconds in fastest.items():
        if seconds >= shortest_s:
            one.timed_bytes[metric] += row["raw_bytes"] or 0
            one.timed_s[metric] += seconds


def _figures(one: _Sum) -> dict[str, float]:
    found: dict[str, float] = {"lossless": one.lossless / one.cases}
    if one.payload_bits:
        found["payload_ratio"] = 8 * one.raw_bytes / one.payload_bits
    if one.packed_bytes:
        found["packed_ratio"] = one.raw_bytes / one.packed_bytes
    for metric in METRICS:
        if one.timed_s[metric]:
            found[f"{metric}_GBps"] = one.timed_bytes[metric] / one.timed_s[metric] / 1e9
    return found


def _machine(figures: Mapping[str, float], codec_of: Mapping[str, str]) -> float | None:
    controls = noise().controls
    rates = []
    for key, value in figures.items():
        data, variant, figure = key.split("|")
        if data == ALL_DATA and figure in SPEED_FIGURES and codec_of.get(variant) in controls:
            rates.append(math.log(value))
    return math.exp(sum(rates) / len(rates)) if rates else None


def _cache_file(manifest: Mapping[str, Any]) -> Path:
    parts = {name: digest for name, digest in (manifest.get("parts") or {}).items() if "/measure/" in name}
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, parts], sort_keys=True).encode()).hexdigest()
    return cache_folder("nights") / f"{digest}.json"


def _remembered(file: Path) -> tuple[dict[str, float] | None, float | None]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return dict(known["figures"]), known["machine_GBps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _remember(file: Path, figures: dict[str, float], machine: float | None) -> bool:
    """Whether it could be kept; without it the next comparison only takes longer."""
    try:
        write_atomically(file, json.dumps({"figures": figures, "machine_GBps": machine}).encode())
    except RecordWriteError:
        return False
    return True
