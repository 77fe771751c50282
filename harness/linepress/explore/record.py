"""The record of a search: every trial as a line of JSON, what was searched, front and picks; and MLflow's copy."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linepress.explore.picks import picks
from linepress.explore.space import Space, data, decoder_of
from linepress.explore.trial import OBJECTIVES, Trial, front
from linepress.records.files import write_atomically
from linepress.stages.channel.case import ChannelCase

TRIALS, SUMMARY = "trials.jsonl", "explore.json"
SETTINGS = (
    "workload", "mode", "placement", "seed", "n_requests", "load_pct_peak", "within_pct", "line_bytes", "overrides",
)  # fmt: skip


def described(space: Space, memories: Sequence[str], budget: int, cases: Sequence[ChannelCase]) -> dict[str, Any]:
    """What was searched and under what, with a hash of each codec's line sizes; enough to do it again."""
    first = asdict(cases[0])
    return {
        "space": asdict(space),
        "memories": list(memories),
        "budget": budget,
        **{name: first[name] for name in SETTINGS},
        "codecs": [
            {
                "codec": c.codec,
                "data": c.data,
                "lines": sum(c.bits_histogram),
                "table_bytes": c.table_bytes,
                "decode_latency_ns": c.decode_latency_ns,
                "encode_latency_ns": c.encode_latency_ns,
                "decode_interval_ns": c.decode_interval_ns,
                "decoder_um2": decoder_of(c.codec)[0],
                "decoder_um2_source": decoder_of(c.codec)[2],
                "sizes_sha256": hashlib.sha256(json.dumps(c.bits_histogram).encode()).hexdigest(),
            }
            for c in cases
        ],
        "area_figures": data()["sram"],
    }


def search_id(description: dict[str, Any]) -> str:
    """Eight hexadecimal digits over everything that decides what is found."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:8]


def lines_of(trials: Iterable[Trial]) -> str:
    """Trials as JSON lines; what was not measured is null."""
    return "".join(
        json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in t.record().items()})
        + "\n"
        for t in trials
    )


def summary(description: dict[str, Any], trials: Sequence[Trial]) -> dict[str, Any]:
    """Description, front, picks and the default's trial of every memory."""
    on_front = front(trials)
    per_memory = []
    for memory in dict.fromkeys(t.point.memory for t in trials):
        mine = [t for t in on_front if t.point.memory == memory]
        default = default_of(trials, memory)
        per_memory.append(
            {
                "memory": memory,
                "default": default.number,
                "dominating_default": [t.number for t in mine if not default.error and t.dominates(default)],
                "front": [t.number for t in mine],
                "picks": [{"trial": p.trial.number, "why": p.why} for p in picks(mine, default)],
            }
        )
    return {
        "id": search_id(description),
        "objectives": {name: "more" if sign > 0 else "less" for name, sign in OBJECTIVES.items()},
        "trials": len(trials),
        "refused": sum(bool(t.error) for t in trials),
        "memories": per_memory,
        "search": description,
    }


def default_of(trials: Sequence[Trial], memory: str) -> Trial:
    """The first trial on a memory: the default configuration."""
    return next(t for t in trials if t.point.memory == memory)


def write(folder: Path, description: dict[str, Any], trials: Sequence[Trial]) -> dict[str, Any]:
    """Write the record into ``folder``; returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TRIALS, lines_of(trials).encode())
    found = summary(description, trials)
    write_atomically(folder / SUMMARY, json.dumps(found, indent=1).encode() + b"\n")
    return found


def mirror(folder: Path, found: dict[str, Any], trials: Sequence[Trial], uri: str) -> str:
    """Send a written record to MLflow: one run for the search, one below it for each trial; the parent's id.

    A search that is there already, by its tag, is sent nothing again.
    """
    from linepress.tracking import mirror as tracking

    for name, value in tracking.SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    with tracking.exclusive(uri):
        client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or tracking.EXPERIMENT
        known = client.get_experiment_by_name(name)
        experiment = (
            known.experiment_id
            if known
            else client.create_experiment(name, artifact_location=tracking.artifact_place(uri))
        )
        title = f"explore-{found['id']}"
        tag = {"linepress.explore": found["id"]}
        done = client.search_runs(
            [experiment], f"tags.`linepress.explore` = '{found['id']}' and attributes.status = 'FINISHED'"
        )
        if done:
            return str(done[0].info.run_id)
        parent = str(client.create_run(experiment, tags=tag, run_name=title).info.run_id)
        client.log_batch(parent, params=[Param(k, str(found["search"][k])[:500]) for k in ("memories", *SETTINGS)])
        on_front = {number for memory in found["memories"] for number in memory["front"]}
        for trial in trials:
            child = client.create_run(
                experiment, tags={"mlflow.parentRunId": parent}, run_name=f"{title}-{trial.number}"
            )
            run_id = str(child.info.run_id)
            record = trial.record()
            figures = {k: v for k, v in record.items() if isinstance(v, float) and math.isfinite(v)}
            client.log_batch(
                run_id,
                metrics=[Metric(k, v, child.info.start_time, 0) for k, v in figures.items()],
                params=[Param(k, str(v)) for k, v in asdict(trial.point).items()],
                tags=[RunTag("on_front", str(trial.number in on_front).lower()), RunTag("error", trial.error)],
            )
            client.set_terminated(run_id, "FAILED" if trial.error else "FINISHED")
        client.log_artifacts(parent, str(folder))
        client.set_terminated(parent, "FINISHED")
    return parent
