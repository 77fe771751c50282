"""Rows of the database as the API shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from linepress.intake.http.forms import FileState, Step, SubmissionState
from linepress.intake.settings import Settings
from linepress.intake.store import states
from linepress.submission.check.ledger import escaped

Row = dict[str, Any]
LOG_BYTES = 256 << 10


def state_of(row: Row, files: list[Row] | None = None, journal: list[Row] | None = None) -> SubmissionState:
    """One submission; links only to what its state can have."""
    base = f"/v1/submissions/{row['id']}"
    links = {"self": base, "page": f"/submissions/{row['id']}"}
    if row["state"] == states.UPLOADING:
        links["complete"] = f"{base}/complete"
    elif row["state"] != states.WITHDRAWN:
        links["log"] = f"{base}/log"
        links["result"] = f"{base}/result"
    hub = f"{row['hub_uri']}@{row['hub_revision']}" if row["hub_uri"] else None
    return SubmissionState(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        meaning=states.MEANING[row["state"]],
        reason=row["reason"],
        suite=row["suite"],
        memories=json.loads(row["memories"]),
        accelerators=json.loads(row["accelerators"]),
        hub=hub,
        publish=row["publish"],
        total_bytes=row["total_bytes"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        files=[
            FileState(
                path=file["path"],
                bytes=file["bytes"],
                sha256=file["sha256"],
                offset=file["offset"],
                from_hub=file["from_hub"],
                upload=f"{base}/files/{file['number']}",
            )
            for file in files or []
        ],
        journal=[
            Step(
                at=step["at"],
                from_state=step["from_state"],
                to_state=step["to_state"],
                actor=step["actor"],
                reason=step["reason"],
            )
            for step in journal or []
        ],
        links=links,
    )


def report_path(settings: Settings, submission: str) -> Path:
    """The HTML report of the validation run, as its partner may see it."""
    return settings.work / submission / "report.html"


def certificate_path(settings: Settings, submission: str) -> Path:
    """The signed bundle."""
    return settings.work / submission / "certificate.lpcert"


def log_text(settings: Settings, submission: str) -> str:
    """The end of a submission's log: control characters escaped, paths of this machine left out."""
    folder = settings.work / submission
    try:
        with (folder / "log.txt").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            raw = file.read()
    except FileNotFoundError:
        return ""
    text = raw.decode("utf-8", "replace")
    for path in {str(folder), str(folder.absolute()), str(settings.data), str(settings.data.absolute())}:
        text = text.replace(path, "…")
    lines = [escaped(line) for line in text.split("\n")]
    return "\n".join(["… (the beginning is left out)", *lines[1:]] if size > LOG_BYTES else lines)
