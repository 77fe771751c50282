"""Run folders as things on a disk: listed, described, deleted, and never mistaken for anything else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from linepress.errors import RecordError
from linepress.listing import runs as list_runs
from linepress.records.schema import TABLES
from linepress.records.store import MANIFEST, RunStore
from linepress.run_record import only_writer

KNOWN_ENTRIES = frozenset(
    {MANIFEST, "suite.yaml", "tables", "failures.jsonl", "report", ".lock", "mlflow.json", "nightly"}
)
"""What linepress writes into a run folder; a folder with anything else in it holds somebody's work."""


def listed(folder: Path, suite: str | None = None) -> list[dict[str, Any]]:
    """Runs under ``folder``, newest first, with the verdict of a nightly and bytes on disk."""
    rows = list_runs(folder)
    if suite is not None:
        rows = [row for row in rows if row.get("suite") == suite]
    return [{**row, "verdict": verdict(Path(row["run"])), "size_bytes": size_bytes(Path(row["run"]))} for row in rows]


def described(run: Path) -> dict[str, Any]:
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
        "rows": {
            table: sum(pq.ParquetFile(part).metadata.num_rows for part in store.parts(table))
            for table in TABLES
            if store.parts(table)
        },
        "size_bytes": size_bytes(run),
        "report": str(report) if report.exists() else None,
    }


def verdict(run: Path) -> str | None:
    """Verdict of the nightly that made the run; None where none did."""
    try:
        return str(json.loads((run / "nightly" / "summary.json").read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def size_bytes(run: Path) -> int:
    """Bytes of all files of a run."""
    return sum(file.stat().st_size for file in run.rglob("*") if file.is_file() and not file.is_symlink())


def check_deletable(run: Path) -> None:
    """Raise `RecordError` unless ``run`` is a run folder with nothing but what linepress put there.

    A record of another schema version, or a damaged one, may be deleted; a link to a run may not.
    """
    if run.is_symlink():
        raise RecordError(f"{run}: a link, not a run folder; give the folder itself")
    if not run.is_dir():
        raise RecordError(f"{run}: there is no such run folder; `linepress runs list` shows the runs")
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


def delete(run: Path) -> None:
    """Delete a run; raises `RecordError` for what is not one, or is being written."""
    check_deletable(run)
    with only_writer(run):
        shutil.rmtree(run)
