"""How to run a suite, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linepress.records.store import RunStore
from linepress.stages.measure.split import SPLIT_BYTES


@dataclass
class RunOptions:
    """How to run a suite; what the command line gives.

    Attributes
    ----------
    out : Path | None
        Run folder; `default_folder` when None.
    remote : str | None
        URI of the place that the record is carried on to, see `linepress.records.remote`.
    fresh : bool
        Start anew beside an existing run of the default folder.
    ray_address, workers
        As for `linepress.cluster.join.Cluster`.
    split_bytes : int
        Raw bytes above which a tensor is measured in parts on several workers; 0 for none.
    mlflow : bool
        Whether to mirror into MLflow.
    report : bool
        Whether to build the report.
    """

    out: Path | None = None
    remote: str | None = None
    fresh: bool = False
    ray_address: str | None = None
    workers: int | None = None
    split_bytes: int = SPLIT_BYTES
    mlflow: bool = True
    report: bool = True


@dataclass
class RunOutcome:
    """What came of a run.

    Attributes
    ----------
    counts : dict
        Stage -> planned, ok, failed, skipped, resumed.
    """

    store: RunStore
    exit_code: int
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    report: Path | None = None
    mirror: str = ""
    resumed: int = 0
    done: int = 0
    interrupted: bool = False
