"""Runs under a folder or a place in a store, with their manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linepress.errors import EXIT_CASES_FAILED, EXIT_OK, RecordError
from linepress.records.place import RunPlace, over
from linepress.records.store import MANIFEST, read_manifest

FOLDER = "nightly"
SUMMARY = f"{FOLDER}/summary.json"
BLIND = "PASS, but blind on speed"
"""No figure became worse, and no change of speed that matters could have been seen."""
GOOD_VERDICTS = ("PASS", "ACCEPTED")


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run; ``manifest`` is None for one that cannot be read, and ``problem`` says why."""

    place: RunPlace
    manifest: dict[str, Any] | None
    problem: str = ""


def found_runs(folder: RunPlace) -> list[FoundRun]:
    """Every run right under ``folder``, by name; none where there is no such folder.

    Raises `RecordError` for a store that cannot be reached.
    """
    if not folder.is_dir():
        return []
    return [run for run in over(sorted(folder.iterdir(), key=str), _look) if run is not None]


def _look(place: RunPlace) -> FoundRun | None:
    if not (place / MANIFEST).is_file():
        return None
    try:
        return FoundRun(place, read_manifest(place))
    except RecordError as error:
        return FoundRun(place, None, str(error))


def latest_good(runs: Sequence[RunPlace], speed: bool = False) -> RunPlace | None:
    """The newest of ``runs`` (oldest first) that is good (``speed``: as a reference of speed too), or None."""
    return next((path for path in reversed(runs) if is_good(path, speed)), None)


def is_good(path: RunPlace, speed: bool = False) -> bool:
    """Whether a complete run may serve as a reference; a night that was blind on speed is none of speed."""
    manifest = read_manifest(path)
    try:
        verdict = json.loads((path / SUMMARY).read_text(encoding="utf-8"))["verdict"]
    except FileNotFoundError:
        # Failed cases are known to the comparison; a broken gate or nothing measured is no reference.
        return manifest.get("exit_code") in (EXIT_OK, EXIT_CASES_FAILED)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return verdict in GOOD_VERDICTS or (verdict == BLIND and not speed)


def suite_runs(folder: RunPlace, suite: str) -> list[tuple[RunPlace, dict[str, Any]]]:
    """Complete runs of a suite under ``folder``, the oldest first; what cannot be read is left out, as
    `linepress runs list` says."""
    found = [
        (run.place, run.manifest)
        for run in found_runs(folder)
        if run.manifest is not None
        and (run.manifest.get("suite") or {}).get("name") == suite
        and run.manifest.get("status") == "complete"
    ]
    return sorted(found, key=lambda item: (str(item[1].get("created_at")), item[0].name))
