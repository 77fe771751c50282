"""What follows when every case is recorded: claims, failures, report and mirror, each rebuilt only when needed."""

from __future__ import annotations

from pathlib import Path

from linepress.progress import Progress
from linepress.records.store import RunStore
from linepress.run_options import RunOptions, RunOutcome
from linepress.suite import Suite

REPORT = Path("report") / "index.html"


def close_books(outcome: RunOutcome, suite: Suite, options: RunOptions, progress: Progress) -> None:
    """Write claims and failures, build the report, mirror into MLflow; nothing where nothing changed."""
    store = outcome.store
    report = store.path / REPORT
    if outcome.done or not store.parts("claims") or not report.exists():
        write_claims(store, suite)
        store.replace("failures", store.rows("failures"))
        if options.report:
            progress.say("building the report")
            outcome.report = build_report(store.path)
    else:
        outcome.report = report
    if options.mlflow:
        from linepress.tracking import mirror_run

        outcome.mirror = mirror_run(store, progress.say)


def write_claims(store: RunStore, suite: Suite) -> None:
    """Verdicts on the claims that the suite wants, as the table ``claims``."""
    wanted = suite.model.claims
    if wanted is False:
        return
    from linepress.claims import verdicts

    rows = [verdict.row() for verdict in verdicts(store.path)]
    if isinstance(wanted, list):
        known = {row["claim_id"] for row in rows}
        for place, name in enumerate(wanted):
            if name not in known:
                raise suite.at(("claims", place), f"no claim is called {name!r}; `linepress list claims` shows them")
        rows = [row for row in rows if row["claim_id"] in wanted]
    store.replace("claims", [{**row, "case_key": f"claim:{row['claim_id']}", "status": "ok"} for row in rows])


def build_report(folder: Path) -> Path:
    """The report of a run folder."""
    from linepress.report import build_report as build

    return Path(build(folder))
