"""``manifest.json``: everything about a run that is not a row.

Keys: ``schema_version``, ``run_id``, ``suite`` (name, version, title, sha256, path, text, overrides, resolved),
``status`` (running, interrupted, complete), ``created_at``, ``updated_at``, ``git`` (commit, dirty), ``packages``,
``machine``, ``cluster``, ``arguments`` (given, resolved), ``seeds``, ``sources`` (what each says about itself),
``unavailable`` (optional sources that could not be opened), ``counts`` (stage -> planned, ok, failed, skipped),
``sessions`` (one entry a start: when, where, by which commit, how many cases were resumed and done), ``exit_code``,
``books`` (hash of what claims and report were made from) and ``parts`` (part file -> sha256).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from linepress import environment
from linepress.run.plan import Plan
from linepress.suite.model import Suite


def now() -> str:
    """This moment in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_suite(suite: Suite) -> dict[str, Any]:
    """The suite as recorded: text as written and values as resolved."""
    return {
        "name": suite.name,
        "version": suite.model.version,
        "title": suite.model.title,
        "sha256": suite.sha256,
        "path": str(suite.document.path),
        "text": suite.document.text,
        "overrides": list(suite.overrides),
        "resolved": suite.resolved,
    }


def new_manifest(run_id: str, suite: Suite, plan: Plan, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a run that is about to start; see the module for the keys."""
    return {
        "run_id": run_id,
        "suite": describe_suite(suite),
        "status": "running",
        "created_at": now(),
        "updated_at": now(),
        "git": environment.git(),
        "packages": environment.packages(),
        "machine": environment.machine(),
        "cluster": None,
        "arguments": {"given": sys.argv[1:], "resolved": dict(arguments)},
        "seeds": suite.model.seeds.model_dump(),
        "sources": plan.provenance,
        "unavailable": plan.unavailable,
        "counts": {},
        "sessions": [],
        "exit_code": None,
    }


def new_session(resumed: int) -> dict[str, Any]:
    """An entry of ``sessions``."""
    return {
        "started_at": now(),
        "ended_at": None,
        "command": sys.argv[1:],
        "git": environment.git(),
        "host": environment.machine()["host"],
        "resumed": resumed,
        "done": 0,
        "ended": "running",
    }
