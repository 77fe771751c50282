"""Prometheus metrics of a run on a cluster, through Ray's own exporter; ``deploy/grafana.json`` shows them.

Workers count the cases they end, the driver says what is left. Every series carries the run, since a node keeps what
earlier runs counted. Case keys are no labels: a label's values must stay few. Ray puts ``ray_`` before each name, and
``_total`` after a counter's. Only on a cluster: a local Ray of a run's own has no exporter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

RUN_VARIABLE = "LINEPRESS_METRICS_RUN"
"""Set for the workers of a run: the run's id, the value of the label ``run``."""
SWITCH_VARIABLE = "LINEPRESS_METRICS"
"""The user's: ``0`` keeps a run from counting."""
CASES, RAW_BYTES, CASE_SECONDS = "linepress_cases", "linepress_raw_bytes", "linepress_case_seconds"
CASES_WAITING, CASES_IN_FLIGHT = "linepress_cases_waiting", "linepress_cases_in_flight"
EXPORTED = (
    f"ray_{CASES}_total",
    f"ray_{RAW_BYTES}_total",
    *(f"ray_{CASE_SECONDS}_{part}" for part in ("bucket", "count", "sum")),
    f"ray_{CASES_WAITING}",
    f"ray_{CASES_IN_FLIGHT}",
)
"""Every series of linepress as it stands on a scrape."""
_BOUNDARIES_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


def run_variables(run: str) -> dict[str, str]:
    """Environment of the workers of ``run``; empty where nothing is to be counted."""
    return {RUN_VARIABLE: run} if run and os.environ.get(SWITCH_VARIABLE, "1") != "0" else {}


@lru_cache(maxsize=1)
def _counters() -> tuple[str, Any, Any, Any] | None:
    run = os.environ.get(RUN_VARIABLE, "")
    if not run:
        return None
    from ray.util.metrics import Counter, Histogram

    keys = ("run", "stage", "status")
    return (
        run,
        Counter(CASES, "Cases that ended", tag_keys=keys),
        Counter(RAW_BYTES, "Raw bytes of the cases that ended", tag_keys=keys),
        Histogram(CASE_SECONDS, "Time of a case on its worker in s", _BOUNDARIES_S, tag_keys=("run", "stage")),
    )


def count_case(stage: str, row: Mapping[str, Any], n_bytes: int) -> None:
    """Count a case that ended on this worker: its first row, and the raw bytes that it went through."""
    counters = _counters()
    if counters is None:
        return
    run, cases, raw_bytes, seconds = counters
    tags = {"run": run, "stage": stage, "status": str(row["status"])}
    cases.inc(1, tags)
    if n_bytes > 0:
        raw_bytes.inc(n_bytes, tags)
    seconds.observe(float(row["seconds"]), {"run": run, "stage": stage})


class DriverGauges:
    """Cases of a stage that wait in the driver, and those sent to workers; nothing for an empty ``run``."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._meters: tuple[Any, Any] | None = None
        if run_variables(run):
            from ray.util.metrics import Gauge

            keys = ("run", "stage")
            self._meters = (
                Gauge(CASES_WAITING, "Cases that wait in the driver", tag_keys=keys),
                Gauge(CASES_IN_FLIGHT, "Cases sent to workers and not back", tag_keys=keys),
            )

    def set(self, stage: str, left: int, in_flight: int) -> None:
        """Take note of a stage that has ``left`` cases to go, ``in_flight`` of them with workers."""
        if self._meters is None:
            return
        tags = {"run": self._run, "stage": stage}
        for meter, count in zip(self._meters, (max(left - in_flight, 0), in_flight), strict=True):
            meter.set(count, tags)
