"""Prometheus metrics of the cases a worker ends, through Ray's own exporter; ``deploy/grafana.json`` shows them.

``linepress_cases`` and ``linepress_raw_bytes`` count by stage, codec and status, ``linepress_case_seconds`` is a
histogram by stage. Case keys are no labels: a label's values must stay few. Only on a cluster (``LINEPRESS_METRICS``,
which a run sets for its workers): a Ray of its own has no exporter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

VARIABLE = "LINEPRESS_METRICS"
_BOUNDARIES_S = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


@lru_cache(maxsize=1)
def _meters() -> tuple[Any, Any, Any] | None:
    if os.environ.get(VARIABLE, "") in ("", "0"):
        return None
    from ray.util.metrics import Counter, Histogram

    keys = ("stage", "codec", "status")
    return (
        Counter("linepress_cases", "Cases that ended", tag_keys=keys),
        Counter("linepress_raw_bytes", "Raw bytes of the cases that ended", tag_keys=keys),
        Histogram("linepress_case_seconds", "Time of a case on its worker", _BOUNDARIES_S, tag_keys=("stage",)),
    )


def count_case(stage: str, row: Mapping[str, Any], n_bytes: int) -> None:
    """Count a case that ended on this worker."""
    meters = _meters()
    if meters is None:
        return
    cases, raw_bytes, seconds = meters
    tags = {"stage": stage, "codec": str(row.get("codec") or "none").split(":")[0], "status": str(row["status"])}
    cases.inc(1, tags)
    if n_bytes > 0:
        raw_bytes.inc(n_bytes, tags)
    seconds.observe(float(row["seconds"]), {"stage": stage})
