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

from linepress.compare.noise import noise
from linepress.compare.options import METRICS
from linepress.records import RunStore
from linepress.records.files import RecordWriteError, write_atomically
from linepress.records.measured import NO_CAST, data_of, dequantised_sources
from linepress.records.place import RunPlace
from linepress.records.remote import cache_folder
from linepress.records.store import read_manifest
from linepress.records.summary import classes, measured, summaries

ALL_DATA = "all data"
EXACT_FIGURES = ("payload_ratio", "packed_ratio", "lossless")
SPEED_FIGURES = tuple(f"{metric}_GBps" for metric in METRICS)
CACHE_VERSION = 3
_SHOWN = (*EXACT_FIGURES, *SPEED_FIGURES)
_COLUMNS = ["status", "source", "kind", "format", "cast", "codec", "variant", "raw_bytes"]


@dataclass(frozen=True, slots=True)
class Night:
    """One complete run, reduced.

    Attributes
    ----------
    figures : dict
        ``data|variant|figure`` -> value, as `linepress.records.summary` has it: payload and packed ratio, rates in
        10^9 B/s of raw bytes, and lossless (share of cases). ``data`` is for instance ``weights bf16``, or
        ``all data``.
    fastest : dict
        ``data|variant|metric`` -> 10^9 B/s by the fastest rounds: what spread between nights is judged by.
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
    fastest: dict[str, float] = field(default_factory=dict)
    machine_GBps: float | None = None


def nights(runs: Sequence[RunPlace | RunStore]) -> list[Night]:
    """Runs reduced to their figures, in the given order; reduced once, then remembered by their content."""
    return [night(run) for run in runs]


def night(run: RunPlace | RunStore) -> Night:
    """One run reduced; raises `RecordError` for a place that is no run of this schema version."""
    path = run.place if isinstance(run, RunStore) else run
    manifest = run.manifest if isinstance(run, RunStore) else read_manifest(run)
    cache = _cache_file(manifest)
    known = _remembered(cache)
    if known is None:
        known = reduce_run(RunStore.open(run))
        _remember(cache, *known)
    figures, fastest, machine = known
    git, suite = manifest.get("git") or {}, manifest.get("suite") or {}
    return Night(
        run=str(manifest.get("run_id", path.name)),
        path=str(path),
        created_at=str(manifest.get("created_at") or ""),
        commit=str(git.get("commit") or ""),
        dirty=bool(git.get("dirty")),
        suite_sha256=str(suite.get("sha256") or ""),
        figures=figures,
        fastest=fastest,
        machine_GBps=machine,
    )


def as_rows(found: Iterable[Night]) -> list[dict[str, Any]]:
    """Nights as plain data."""
    return [asdict(one) for one in found]


def reduce_run(store: RunStore) -> tuple[dict[str, float], dict[str, float], float | None]:
    """Figures of a run, its rates by the fastest rounds, and the rate of its control codecs."""
    frame = measured(store)
    figures: dict[str, float] = {}
    for data, rows in [*classes(frame), (None, frame)]:
        name = ALL_DATA if data is None else f"{data.data} {data.shown_format}"
        for one in summaries(rows):
            if counted := one.n_ok + one.n_failed:
                found = one.figures() | {"lossless": one.n_lossless / counted}
                told = ((figure, found[figure]) for figure in _SHOWN)
                figures |= {f"{name}|{one.variant}|{figure}": value for figure, value in told if value is not None}
    fastest, codec_of = _fastest_rates(store)
    return figures, fastest, _machine(fastest, codec_of)


def _fastest_rates(store: RunStore) -> tuple[dict[str, float], dict[str, str]]:
    """``data|variant|metric`` -> 10^9 B/s by the fastest round of each case that is long enough; variant -> codec."""
    shortest_s = noise().shortest_round_s
    spent: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    codec_of: dict[str, str] = {}
    marked = dequantised_sources(store.manifest)
    for batch in store.batches("measure", [*_COLUMNS, *(f"{metric}_s" for metric in METRICS)]):
        rounds = {metric: batch[f"{metric}_s"].to_pylist() for metric in METRICS}
        for i, row in enumerate(batch.select(_COLUMNS).to_pylist()):
            if row["status"] != "ok":
                continue
            codec_of[row["variant"]] = row["codec"]
            cast = "" if row["cast"] in NO_CAST else row["cast"] or ""
            kind = data_of(row["kind"], row["source"], cast, marked)
            for name in (f"{kind} {row['format']}" + (f" ({cast})" if cast else ""), ALL_DATA):
                for metric in METRICS:
                    best_s = min(rounds[metric][i], default=math.nan) if rounds[metric][i] else math.nan
                    if best_s >= shortest_s:
                        total = spent[name, row["variant"], f"{metric}_GBps"]
                        total[0] += row["raw_bytes"] or 0
                        total[1] += best_s
    return {"|".join(key): n_bytes / seconds / 1e9 for key, (n_bytes, seconds) in spent.items()}, codec_of


def _machine(fastest: Mapping[str, float], codec_of: Mapping[str, str]) -> float | None:
    controls = noise().controls
    rates = []
    for key, value in fastest.items():
        data, variant, _ = key.split("|")
        if data == ALL_DATA and codec_of.get(variant) in controls:
            rates.append(math.log(value))
    return math.exp(sum(rates) / len(rates)) if rates else None


def _cache_file(manifest: Mapping[str, Any]) -> Path:
    parts = {name: digest for name, digest in (manifest.get("parts") or {}).items() if "/measure/" in name}
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, parts], sort_keys=True).encode()).hexdigest()
    return cache_folder("nights") / f"{digest}.json"


def _remembered(file: Path) -> tuple[dict[str, float], dict[str, float], float | None] | None:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return dict(known["figures"]), dict(known["fastest"]), known["machine_GBps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, figures: dict[str, float], fastest: dict[str, float], machine: float | None) -> bool:
    """Whether it could be kept; without it the next comparison only takes longer."""
    try:
        document = {"figures": figures, "fastest": fastest, "machine_GBps": machine}
        write_atomically(file, json.dumps(document).encode())
    except RecordWriteError:
        return False
    return True
