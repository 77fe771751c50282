"""Run folders with invented timings that are as noisy as real ones: for tests and benchmarks of the comparison.

The noise has the parts that A/A runs on a shared machine show: the state of the machine in a run, a smaller part of
each codec's own, disturbances that last for several cases, and rounds that are only ever slower than the fastest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from linepress.records import RunStore
from linepress_kit.synthetic_run import Shape, measure_rows

METRICS = ("encode", "decode", "measure")
TIME_SCALE = 4.0
"""Invented tensors are small; their rounds are stretched so that none is too short to time."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log time, and how rounds scatter above the fastest.

    Attributes
    ----------
    machine, codec : float
        Of a whole run, and of one codec and metric in a run.
    lasting : float
        Of a disturbance that lasts for about ten cases.
    rounds : float
        Mean of the exponential excess of a round.
    spikes : float
        Share of rounds that take up to half as long again.
    """

    machine: float = 0.02
    codec: float = 0.004
    lasting: float = 0.004
    rounds: float = 0.006
    spikes: float = 0.05


def timed_rows(shape: Shape | None = None, seed: int = 7) -> list[Row]:
    """Rows of ``measure`` without timings: the same for every run over the same data."""
    rng = np.random.Generator(np.random.PCG64(seed))
    rows = list(measure_rows(shape or Shape(layers=2, failing=0), rng))
    for row in rows:
        if row["status"] == "ok":
            row |= {
                "content_sha256": hashlib.sha256(row["tensor"].encode()).hexdigest(),
                "options": "{}",
                "format_version": 1,
                "table_bytes": 200,
                "bits_histogram": None if row["bits_histogram"] is None else np.array(row["bits_histogram"]),
                "packings": [{"packing": "stream", "packed_bytes": row["packed_bytes"]}],
            }
    return rows


def write_run(
    path: Path,
    rows: Sequence[Row],
    *,
    noise: Noise | None = None,
    seed: int = 0,
    rounds: int = 5,
    slower: Mapping[tuple[str, str], float] | None = None,
    edit: Callable[[Row], Row] | None = None,
    manifest: Callable[[dict[str, Any]], None] | None = None,
    created_at: str = "2026-01-02T03:04:05+00:00",
) -> RunStore:
    """A run over ``rows``.

    Parameters
    ----------
    noise, seed, rounds
        Of the timings.
    slower : mapping (variant, metric) -> factor
        Injected change of time.
    edit : callable
        Changes a copy of each row before it is written.
    manifest : callable
        Changes the manifest before it is written.
    """
    noise = noise or Noise()
    rng = np.random.Generator(np.random.PCG64(seed))
    document = _manifest(path.name, created_at)
    if manifest is not None:
        manifest(document)
    store = RunStore.create(path, document)
    state = noise.machine * rng.standard_normal()
    own = {key: noise.codec * rng.standard_normal() for key in _keys(rows)}
    lasting = _lasting(len(rows), noise.lasting, rng)
    begin = datetime.fromisoformat(created_at).astimezone(UTC)
    written = []
    for i, row in enumerate(rows):
        copy = {**row, "started_at": begin + timedelta(seconds=0.05 * i)}
        if row["status"] == "ok":
            for metric in METRICS:
                rate = row.get(f"{metric}_GBps")
                if not rate:
                    copy[f"{metric}_s"] = []
                    continue
                level = TIME_SCALE * row["raw_bytes"] / (_nominal(row, metric) * 1e9)
                level *= np.exp(state + own[row["variant"], metric] + lasting[i])
                level *= (slower or {}).get((row["variant"], metric), 1.0)
                samples = level * (1 + rng.exponential(noise.rounds, rounds))
                samples *= 1 + np.where(rng.random(rounds) < noise.spikes, 0.5 * rng.random(rounds), 0.0)
                copy |= {
                    f"{metric}_s": samples.tolist(),
                    f"{metric}_GBps": row["raw_bytes"] / np.median(samples) / 1e9,
                }
        written.append(edit(deepcopy(copy)) if edit is not None else copy)
    store.append("measure", written)
    statuses = [row["status"] for row in written]
    store.manifest["counts"] = {
        "measure": {"planned": len(rows), **{s: statuses.count(s) for s in ("ok", "failed", "skipped")}}
    }
    store.save_manifest()
    return store


def _nominal(row: Row, metric: str) -> float:
    """The rate of a codec without the noise that its row was invented with: alike over all rows of a variant."""
    return float(f"{row[f'{metric}_GBps']:.1g}")


def _keys(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["variant"], metric) for row in rows for metric in METRICS))


def _lasting(n: int, sigma: float, rng: np.random.Generator) -> Any:
    """A first-order autoregressive series with a memory of ten cases."""
    keep = np.exp(-1 / 10)
    steps = sigma * np.sqrt(1 - keep**2) * rng.standard_normal(n)
    series = np.zeros(n)
    for i in range(1, n):
        series[i] = keep * series[i - 1] + steps[i]
    return series


def _manifest(run_id: str, created_at: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "suite": {
            "name": "invented",
            "version": 1,
            "sha256": "ab" * 32,
            "text": "name: invented\n",
            "resolved": {"chunk_bytes": 8 << 20, "repeats": 5},
        },
        "status": "complete",
        "created_at": created_at,
        "updated_at": created_at,
        "exit_code": 0,
        "git": {"commit": "c0ffee" * 6 + "c0ff", "dirty": False},
        "packages": {"linepress": "0.1.0", "numpy": "2.4.6", "zstandard": "0.25.0", "lz4": "4.4.5"},
        "machine": {"host": "node-1", "cpu": "Example CPU", "usable_cores": 2, "os": "Linux", "python": "3.11.7"},
        "cluster": {"address": "local", "nodes": 1, "cores": 2},
        "sources": [{"uri": "hf://example/model", "label": "example", "revision": "0" * 40}],
        "seeds": {"sample": 1},
    }
