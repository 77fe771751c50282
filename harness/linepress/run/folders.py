"""Runs as things on a disk or in a store: listed, described, deleted, and never mistaken for anything else."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linepress.errors import RecordError
from linepress.records import machine_load
from linepress.records.found import found_runs, suite_runs
from linepress.records.place import RunPlace, over, place_of, same_place, size_bytes
from linepress.records.remote import cache_folder, folder_name, working_folder
from linepress.records.schema import TABLES
from linepress.records.store import MANIFEST, RunStore, mapping_in
from linepress.run.events import EVENTS
from linepress.run.recorder import only_writer

KNOWN_ENTRIES = frozenset(
    {
        MANIFEST,
        "suite.yaml",
        "tables",
        "failures.jsonl",
        EVENTS,
        machine_load.FILE,
        "report",
        ".lock",
        "mlflow.json",
        "nightly",
    }
)
"""What linepress writes into a run folder; a folder with anything else in it holds somebody's work."""


def listed(folder: RunPlace, suite: str | None = None) -> list[dict[str, Any]]:
    """Runs under ``folder``, newest first, with the verdict of a nightly and their bytes."""
    rows = runs(folder)
    if suite is not None:
        rows = [row for row in rows if row.get("suite") == suite]
    places = [place_of(row["run"]) for row in rows]
    found = zip(rows, over(places, verdict), over(places, size_bytes), strict=True)
    return [{**row, "verdict": said, "size_bytes": size} for row, said, size in found]


def described(run: RunPlace) -> dict[str, Any]:
    """What a run is, from its manifest and files; raises `RecordError` for what is not a run of this version."""
    store = RunStore.open(run)
    manifest = store.manifest
    suite, git, machine = (manifest.get(name) or {} for name in ("suite", "git", "machine"))
    report = run / "report" / "index.html"
    return {
        "run": str(run),
        "suite": f"{suite.get('name')} v{suite.get('version')} (sha {str(suite.get('sha256'))[:10]})",
        "commit": f"{git['commit'][:12]}{' (dirty)' if git.get('dirty') else ''}" if git.get("commit") else None,
        "status": manifest.get("status"),
        "exit_code": manifest.get("exit_code"),
        "verdict": verdict(run),
        "created_at": manifest.get("created_at"),
        "updated_at": manifest.get("updated_at"),
        "machine": f"{machine.get('host')}, {machine.get('cpu')}, {machine.get('usable_cores')} cores",
        "packages": manifest.get("packages") or {},
        "arguments": (manifest.get("arguments") or {}).get("given"),
        "counts": manifest.get("counts") or {},
        "sessions": [
            f"{s.get('started_at')} {s.get('ended')}: {s.get('resumed')} resumed, {s.get('done')} done"
            for s in manifest.get("sessions") or []
        ],
        "rows": {table: rows for table, rows in zip(TABLES, map(store.count_stored, TABLES), strict=True) if rows},
        "size_bytes": size_bytes(run),
        "report": str(report) if report.exists() else None,
    }


def verdict(run: RunPlace) -> str | None:
    """Verdict of the nightly that made the run; None where none did."""
    try:
        return str(json.loads((run / "nightly" / "summary.json").read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_deletable(run: RunPlace) -> None:
    """Raise `RecordError` unless ``run`` is a run folder with nothing but what linepress put there.

    A record of another schema version, or a damaged one, may be deleted; a link to a run may not.
    """
    if run.is_symlink():
        raise RecordError(f"{run}: a link, not a run folder; give the folder itself")
    if not run.is_dir():
        raise RecordError(f"{run}: there is no such run folder; `linepress runs list {run.parent}` shows the runs")
    try:
        manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or not {"schema_version", "run_id", "suite"} <= manifest.keys():
        raise RecordError(f"{run}: not a run folder (no {MANIFEST} of a run in it); nothing was deleted")
    own_temporary = f".{MANIFEST}."
    strange = sorted(
        entry.name
        for entry in run.iterdir()
        if entry.name not in KNOWN_ENTRIES and not entry.name.startswith(own_temporary)
    )
    if strange:
        raise RecordError(f"{run}: holds {strange[0]}, which linepress did not write; move it away, then delete")


def delete(run: RunPlace) -> None:
    """Delete a run, and of one in a store what this machine kept of it.

    Raises `RecordError` for what is not a run, or is being written on this machine.
    """
    check_deletable(run)
    if isinstance(run, Path):
        with only_writer(run):
            shutil.rmtree(run)
        return
    here = working_folder(str(run))
    with only_writer(here) if here.exists() else contextlib.nullcontext():
        run.remove_tree()
        for copy in (here, cache_folder("records") / folder_name(str(run))):
            if copy.exists():
                shutil.rmtree(copy)


def loss_of(runs: Sequence[RunPlace]) -> list[str]:
    """A sentence for each of ``runs`` that is the latest good run of its suite: what the nights to come lose."""
    from linepress.records.found import latest_good

    found = []
    looked: dict[tuple[str, str], list[RunPlace]] = {}  # one look a folder, however many runs of it go
    for run in runs:
        suite = suite_of(run)
        key = (str(run.parent), suite)
        if key not in looked:
            looked[key] = [path for path, _ in suite_runs(run.parent, suite)]
        nights = looked[key]
        good = latest_good(nights)
        if good is None or not same_place(good, run):
            continue
        left = [path for path in nights if not any(same_place(path, gone) for gone in runs)]
        then = latest_good(left)
        found.append(
            f"{run} is the latest good run of suite {suite}, the baseline of the next night; after it "
            + (f"that is {then}" if then else "there is none, and the next night passes by its gates alone")
        )
    return found


def suite_of(run: RunPlace) -> str:
    """Name of a run's suite, also of another schema version."""
    manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    return str((mapping_in(manifest, "suite") or {}).get("name"))


def runs(folder: RunPlace = Path("runs")) -> list[dict[str, Any]]:
    """Runs under ``folder``, newest first; a damaged or foreign record is listed with what is wrong."""

    rows = [
        {"run": str(run.place), "status": "unreadable", "problem": run.problem, "updated_at": ""}
        if run.manifest is None
        else _run_row(run.place, run.manifest)
        for run in found_runs(folder)
    ]
    return sorted(rows, key=lambda row: str(row["updated_at"]), reverse=True)


def _run_row(path: RunPlace, manifest: dict[str, Any]) -> dict[str, Any]:
    suite, git = manifest.get("suite") or {}, manifest.get("git") or {}
    counts = [c for c in (manifest.get("counts") or {}).values() if isinstance(c, dict)]
    commit = str(git.get("commit") or "")[:12]
    return {
        "run": str(path),
        "suite": suite.get("name", ""),
        "commit": commit + (" (dirty)" if commit and git.get("dirty") else ""),
        "status": manifest.get("status", ""),
        "ok": sum(int(c.get("ok") or 0) for c in counts),
        "failed": sum(int(c.get("failed") or 0) for c in counts),
        "planned": sum(int(c.get("planned") or 0) for c in counts),
        "updated_at": manifest.get("updated_at", ""),
        "age": age(str(manifest.get("updated_at") or "")),
    }


def age(then: str, now: datetime | None = None) -> str:
    """``3 h ago`` for an ISO 8601 moment; empty for anything else."""
    try:
        moment = datetime.fromisoformat(then)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    passed_s = ((now or datetime.now(UTC)) - moment).total_seconds()
    if passed_s < 0:
        return "in the future; check the clock"
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed_s >= size_s:
            return f"{int(passed_s // size_s)} {unit} ago"
    return "now"
