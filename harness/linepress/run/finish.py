"""What follows when every case is recorded: claims, failures, report and mirror, each rebuilt only when needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from linepress.claims import Verdict, verdicts
from linepress.records.store import CASE_TABLES, RunStore
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import Suite

REPORT = Path("report") / "index.html"
_INPUTS = (*CASE_TABLES, "gates")


def close_books(outcome: RunOutcome, suite: Suite, options: RunOptions, progress: Progress) -> None:
    """Write claims and failures, build the report, mirror into MLflow; nothing where nothing changed."""
    store = outcome.store
    report = store.path / REPORT
    state = _state(store)
    current = store.manifest.get("books") == state and (report.exists() or not options.report)
    if not current:
        found = write_claims(store, suite)
        store.replace("failures", store.rows("failures"))
        if options.report:
            from linepress.report import build_report  # matplotlib, which a run that builds none need not load

            progress.say("building the report")
            outcome.report = build_report(store.path, found)
        store.manifest["books"] = state
        store.save_manifest()
    elif report.exists():
        outcome.report = report
    if options.mlflow:
        from linepress.tracking import mirror_run

        outcome.mirror = mirror_run(store, progress.say)


def _state(store: RunStore) -> str:
    """Hash of what claims and report are made from: a run that was stopped before its report has none yet."""
    measured = {name: digest for name, digest in store.manifest["parts"].items() if name.split("/")[1] in _INPUTS}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()


def write_claims(store: RunStore, suite: Suite) -> list[Verdict]:
    """Verdicts on the claims that the suite wants, also as the table ``claims``."""
    wanted = suite.model.claims
    found = verdicts(store) if wanted is not False else []
    if isinstance(wanted, list):
        known = {verdict.claim_id for verdict in found}
        for place, name in enumerate(wanted):
            if name not in known:
                raise suite.at(("claims", place), f"no claim is called {name!r}; `linepress list claims` shows them")
        found = [verdict for verdict in found if verdict.claim_id in wanted]
    rows = [{**verdict.row(), "case_key": f"claim:{verdict.claim_id}", "status": "ok"} for verdict in found]
    store.replace("claims", rows)
    return found
