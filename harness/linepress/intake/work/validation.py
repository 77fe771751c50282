"""From an accepted submission to a suite: the operator's suite, with the partner's tensors as its only sources.

Codecs, packings, stages, seeds and repeats are the suite's own and fixed; of the hardware the partner may choose. The
gates are replaced by the one that every submission can meet, losslessness: gates of a suite watch that suite's data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from linepress.errors import LinepressError, SuiteError
from linepress.intake.work.places import Place
from linepress.records.files import write_atomically
from linepress.suite.model import Suite, load_suite

GATE = {
    "name": "lossless",
    "column": "lossless",
    "aggregate": "share",
    "equals": 1.0,
    "next_step": "a codec that loses a bit is a fault of linepress; the operator has to look",
}


def write_suite(place: Place, template: Suite, tensor_paths: Sequence[str]) -> Suite:
    """Write ``suite.yaml`` into the work folder and read it back.

    Parameters
    ----------
    place
    template
        The suite asked for.
    tensor_paths
        Files with tensors, relative to the submission.

    Raises `SuiteError` for a choice of hardware that cannot be run together.
    """
    suite: dict[str, Any] = json.loads(json.dumps(template.resolved))
    label = f"{place.row['partner']}/{place.row['name']}"
    inside = place.files.relative_to(place.path)
    suite["sources"] = [{"uri": str(inside / path), "label": label} for path in tensor_paths]
    memories, accelerators = json.loads(place.row["memories"]), json.loads(place.row["accelerators"])
    if memories:
        if suite["channel"] is None:
            raise SuiteError(f"suite {template.name} has no channel stage; leave the memories out")
        suite["channel"]["memories"] = memories
    if accelerators:
        stages = [suite[stage] for stage in ("system", "fabric") if suite[stage] is not None]
        if not stages:
            raise SuiteError(f"suite {template.name} has no system stage; leave the accelerators out")
        for stage in stages:
            stage["accelerators"] = accelerators
    suite["gates"] = [GATE]
    bare = {key: value for key, value in suite.items() if value is not None}
    # JSON is YAML 1.2, and no text in it can be taken for anything else.
    write_atomically(place.suite, json.dumps(bare, indent=1, ensure_ascii=True).encode() + b"\n")
    return load_suite(str(place.suite))


def check_runnable(suite: Suite) -> str:
    """Why a suite cannot be run with this choice of hardware; empty when it can."""
    from linepress.run.later_stages import check_later_stages

    try:
        check_later_stages(suite)
    except LinepressError as error:
        return str(error)
    return ""
