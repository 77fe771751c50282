"""Runs under a folder or a place in a store, with their manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linepress.errors import RecordError
from linepress.records.place import RunPlace, over
from linepress.records.store import MANIFEST, read_manifest


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
