"""States of a submission and the ways between them."""

from __future__ import annotations

UPLOADING = "uploading"
RECEIVED = "received"
CHECKED = "checked"
QUEUED = "queued"
RUNNING = "running"
VALIDATED = "validated"
REJECTED = "rejected"
WITHDRAWN = "withdrawn"

MEANING: dict[str, str] = {
    UPLOADING: "files are coming in",
    RECEIVED: "every byte is here; the check of the rules has not ended",
    CHECKED: "every rule passed",
    QUEUED: "waits for a place to run",
    RUNNING: "the suite is running over the tensors",
    VALIDATED: "the verdict is good",
    REJECTED: "a rule or a result refused it, or it could not be decided",
    WITHDRAWN: "deleted by the partner, or given up",
}

FINAL = (VALIDATED, REJECTED, WITHDRAWN)
WORK = (RECEIVED, CHECKED, QUEUED, RUNNING)
"""States in which a runner has something to do."""

NEXT: dict[str, tuple[str, ...]] = {
    UPLOADING: (RECEIVED, WITHDRAWN),
    RECEIVED: (CHECKED, REJECTED, WITHDRAWN),
    CHECKED: (QUEUED, REJECTED, WITHDRAWN),
    QUEUED: (RUNNING, REJECTED, WITHDRAWN),
    RUNNING: (VALIDATED, REJECTED, QUEUED, WITHDRAWN),
    VALIDATED: (WITHDRAWN,),
    REJECTED: (WITHDRAWN,),
    WITHDRAWN: (),
}
"""Every allowed step; back from running to queued only when a runner was lost."""


def allowed(before: str, after: str) -> bool:
    """Whether a submission may go from ``before`` to ``after``."""
    return after in NEXT[before]
