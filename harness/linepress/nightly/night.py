"""One night: run a suite, compare it with the last good run, apply the gates, write the report and one summary.

Everything about a night lies in its run folder, under ``nightly/``: ``compare.json`` and ``compare.md``,
``history.json``, ``summary.json`` and ``summary.md``. A night is good when its summary says PASS or ACCEPTED; a run
made by ``linepress run`` counts as good when its gates held.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linepress.compare import CompareOptions, Comparison, compare_runs
from linepress.compare.document import document
from linepress.compare.history import History, history
from linepress.compare.nights import nights
from linepress.compare.render import as_markdown
from linepress.compare.retime import RetimeError
from linepress.environment import git
from linepress.errors import (
    EXIT_CASES_FAILED,
    EXIT_GATE_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
    RecordError,
)
from linepress.records.files import write_atomically
from linepress.records.found import BLIND, FOLDER, SUMMARY, latest_good, suite_runs
from linepress.records.place import RunPlace, StorePath, place_of, same_place
from linepress.records.standing import ACCEPTED, FAIL, PASS
from linepress.records.store import RunStore, read_manifest
from linepress.run.engine import RUNS, Run
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import Suite

LATEST_GOOD = "latest-good"
SUMMARY_VERSION = 1


@dataclass(frozen=True, slots=True)
class NightlyOptions:
    """How to run a night.

    Attributes
    ----------
    baseline : str
        ``latest-good``, or the path or URI of a run.
    runs : RunPlace
        Folder of the runs, or a place like s3://bucket/runs.
    out : RunPlace | None
        Run folder or place; ``<runs>/<suite>-<date>-<commit>`` when None.
    accept : str
        Reason why worse figures are taken as the new level; empty: not accepted.
    nights : int
        Nights of history.
    """

    baseline: str = LATEST_GOOD
    runs: RunPlace = RUNS
    out: RunPlace | None = None
    night: str = ""
    accept: str = ""
    nights: int = 30
    mlflow: bool = True
    ray_address: str | None = None
    workers: int | None = None
    compare: CompareOptions = field(default_factory=CompareOptions)


@dataclass(slots=True)
class NightlyOutcome:
    """What came of a night; ``summary`` is None when it was interrupted."""

    run: RunOutcome
    exit_code: int
    baseline: RunPlace | None = None
    comparison: Comparison | None = None
    summary: dict[str, Any] | None = None


def night_folder(suite: Suite, options: NightlyOptions) -> RunPlace:
    """``<runs>/<suite>-<date>-<commit>``: the same command on the same day resumes, another commit starts anew."""
    if options.out is not None:
        return options.out
    checkout = git()
    commit = str(checkout.get("commit") or "")[:7]
    words = [suite.name, options.night or datetime.now(UTC).date().isoformat(), commit]
    if checkout.get("dirty"):
        words.append("dirty")
    return options.runs / "-".join(word for word in words if word)


def run_nightly(
    suite: Suite,
    options: NightlyOptions,
    progress: Progress | None = None,
    on_header: Callable[..., None] | None = None,
) -> NightlyOutcome:
    """Run, compare, gate, report, summarise. Raises `LinepressError` for what the user can mend."""
    progress = progress or Progress()
    folder = night_folder(suite, options)
    chosen = None if options.baseline == LATEST_GOOD else place_of(options.baseline)
    if chosen is not None:
        read_manifest(chosen)  # a wrong baseline must not be found out after hours of measuring
    check_interpreter(options.compare.retime)
    there = str(folder) if isinstance(folder, StorePath) else None
    run_options = RunOptions(
        out=None if isinstance(folder, StorePath) else folder,
        remote=there,
        ray_address=options.ray_address,
        workers=options.workers,
        mlflow=False,
        report=False,
    )
    outcome = Run(suite, run_options, progress).execute(on_header)
    if outcome.interrupted:
        return NightlyOutcome(outcome, EXIT_INTERRUPTED)
    store = outcome.store
    earlier = [path for path, _ in _before(options.runs, suite.name, store)]
    baseline = chosen or latest_good(earlier)
    found = None
    if baseline is not None:
        progress.say(f"comparing with {baseline}")
        compare = _with_history(options.compare, earlier[-options.nights :])
        # A night that saw no speed may still be the reference of every exact figure.
        speed_base = None if chosen else latest_good(earlier, speed=True)
        found = compare_runs(baseline, store, compare, progress.say, speed_base)
    past = history(nights([*earlier[-(options.nights - 1) :], store]), options.compare.min_effect_pct)
    _write(store, found, past)
    night = NightlyOutcome(outcome, exit_code(outcome, found, options.accept), baseline, found)
    night.summary = summarise(suite, night, options, past)
    _write_summary(store, night.summary)
    _publish(night, options, progress)
    return night


def _publish(night: NightlyOutcome, options: NightlyOptions, progress: Progress) -> None:
    """Report and mirror, which show the comparison; the summary is there before them and names them after."""
    from linepress.report import build_report

    store = night.run.store
    progress.say("building the report")
    night.run.report = build_report(store)
    if options.mlflow:
        from linepress.tracking import mirror_run

        night.run.mirror = mirror_run(store, progress.say)
    if night.summary is not None:
        night.summary |= {"report": str(night.run.report), "mlflow": night.run.mirror or None}
        _write_summary(store, night.summary)


def check_interpreter(python: str) -> None:
    """Raise `RetimeError` for an interpreter to time with that is not there; an empty name asks for none."""
    if python and shutil.which(python) is None:
        raise RetimeError(
            f"--retime {python}: no such interpreter; give that of the installation that made the baseline, for "
            "instance ../good/.venv/bin/python"
        )


def exit_code(outcome: RunOutcome, found: Comparison | None, accept: str) -> int:
    """Of the night: nothing measured, else a failed gate or comparison, else undecided, else failed cases without a
    baseline that knows them, else 0. ``accept`` takes worse figures as the new level, never a new failure or a broken
    gate of the suite."""
    if outcome.exit_code in (EXIT_NOTHING_MEASURED, EXIT_GATE_FAILED):
        return outcome.exit_code
    if accept and not (found and any(change.kind == "new failure" for change in found.changes)):
        return EXIT_OK
    if found is None:
        return outcome.exit_code
    return EXIT_CASES_FAILED if found.exit_code == EXIT_NOTHING_MEASURED else found.exit_code


def _before(runs: RunPlace, suite: str, store: RunStore) -> list[tuple[RunPlace, dict[str, Any]]]:
    """Complete runs of the suite that began before this one."""
    created = str(store.manifest.get("created_at"))
    return [
        (path, manifest)
        for path, manifest in suite_runs(runs, suite)
        if not same_place(path, store.place) and str(manifest.get("created_at")) <= created
    ]


def _with_history(options: CompareOptions, earlier: list[RunPlace]) -> CompareOptions:
    return options if options.history else replace(options, history=tuple(earlier))


def summarise(suite: Suite, night: NightlyOutcome, options: NightlyOptions, past: History) -> dict[str, Any]:
    """The summary as plain data; keys are those of ``summary.json``."""
    from linepress.compare.lines import covered, gate_line
    from linepress.records.summary import headline, measured

    store, found = night.run.store, night.comparison
    git_state = store.manifest.get("git") or {}
    claims = [str(row["verdict"]) for row in store.rows("claims", ["verdict"])]
    verdict = PASS if night.exit_code == EXIT_OK else FAIL
    passed_alone = exit_code(night.run, found, "") == EXIT_OK
    if options.accept and verdict == PASS and not passed_alone:
        verdict = ACCEPTED
    if verdict == PASS and found is not None and found.blind:
        verdict = BLIND
    reasons = [] if found is None else [*found.failures, *found.undecided]
    failed_gates = [gate["gate"] for gate in night.run.gates if not gate["passed"]]
    if found is None:
        reasons = [f"gate {name} failed" for name in failed_gates]
        if night.run.exit_code == EXIT_CASES_FAILED:
            reasons.append("some cases failed")
    if night.run.exit_code == EXIT_NOTHING_MEASURED:
        reasons.append("nothing was measured")
    last = len(past.nights) - 1
    return {
        "summary_version": SUMMARY_VERSION,
        "suite": suite.name,
        "suite_version": suite.model.version,
        "run_id": store.run_id,
        "created_at": store.manifest.get("created_at"),
        "commit": git_state.get("commit"),
        "dirty": bool(git_state.get("dirty")),
        "verdict": verdict,
        "exit_code": night.exit_code,
        "reasons": reasons,
        "accepted": options.accept if verdict == ACCEPTED else None,
        "baseline": str(night.baseline) if night.baseline else None,
        "compare": gate_line(found) if found else "no good run to compare with yet",
        "compared": covered(found) if found else None,
        "counts": night.run.counts,
        "gates": [
            {k: gate[k] for k in ("gate", "metric", "rule", "threshold", "value", "passed", "next_step")}
            for gate in night.run.gates
        ],
        "claims": {word: claims.count(word) for word in sorted(set(claims))},
        "headline": headline(measured(store)),
        "nights": len(past.nights),
        "steps": [
            {
                "data": line.data,
                "variant": line.variant,
                "figure": line.figure,
                "run": step.run,
                "before": step.before,
                "after": step.after,
                "change_pct": step.change_pct,
            }
            for line in past.lines
            for step in line.steps
            if step.night >= last - 1
        ],
        "record": str(store.place),
        "report": None,
        "mlflow": None,
    }


def _write(store: RunStore, found: Comparison | None, past: History) -> None:
    folder = store.path / FOLDER
    written = [folder / "history.json"]
    if found is not None:
        _json(folder / "compare.json", document(found))
        write_atomically(folder / "compare.md", as_markdown(found).encode())
        written += [folder / "compare.json", folder / "compare.md"]
    _json(folder / "history.json", past.document())
    store.carry(*written)


def _write_summary(store: RunStore, summary: dict[str, Any]) -> None:
    from linepress.nightly.summary import markdown

    page = store.path / FOLDER / "summary.md"
    _json(store.path / SUMMARY, summary)
    write_atomically(page, markdown(summary).encode())
    store.carry(store.path / SUMMARY, page)


def _json(path: Path, data: Any) -> None:
    from linepress.records.files import finite

    write_atomically(path, json.dumps(finite(data), indent=1, ensure_ascii=False).encode() + b"\n")


def read_summary(folder: RunPlace) -> dict[str, Any]:
    """The summary of a night; raises `RecordError` where there is none."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder}: has no summary ({error}); `linepress nightly` writes one") from None
    return dict(found)
