"""What follows when every case is recorded: claims, failures, report and mirror, each rebuilt only when needed."""

from __future__ import annotations

from pathlib import Path

from linepress.claims import Verdict, verdicts
from linepress.progress import Progress
from linepress.records.store import RunStore
from linepress.report import build_report
from linepress.run_options import RunOptions, RunOutcome
from linepress.suite import Suite

REPORT = Path("report") / "index.html"


def close_books(outcome: RunOutcome, suite: Suite, options: RunOptions, progress: Progress) -> None:
    """Write claims and failures, build the report, mirror into MLflow; nothing where nothing changed."""
    store = outcome.store
    report = store.path / REPORT
    if outcome.done or not store.parts("claims") or not report.exists():
        found = write_claims(store, suite)
        store.replace("failures", store.rows("failures"))
        if options.report:
            progress.say("building the report")
            outcome.report = build_report(store.path, found)
    else:
        outcome.report = report
    if options.mlflow:
        from linepress.tracking import mirror_run

        outcome.mirror = mirror_run(store, progress.say)


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
