"""``linepress run SUITE``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import BYTES, json_option, print_json, stdout
from linepress.tables import format as fmt

if TYPE_CHECKING:
    from linepress.run.engine import Run
    from linepress.run.options import RunOutcome
    from linepress.run.plan import Plan
    from linepress.suite.model import Suite

EPILOG = """\b
Examples:
  linepress run smoke
  linepress run smoke --set repeats=1 --set channel.n_requests=2000
  linepress run suites/my-model.yaml --out runs/my-model --workers 8
  linepress run nightly --ray-address ray://head:10001 --json
  linepress run nightly --out s3://bucket/runs/nightly
  linepress run llama-3.1-8b --dry-run

The same command resumes: cases already recorded are not run again.
Exit codes: 0 ok, 1 a gate failed, 2 some cases failed, 3 nothing was measured, 4 usage, 5 the store of the record
cannot be reached or refuses, 130 interrupted.
"""


@click.command(name="run", epilog=EPILOG)
@click.argument("suite_name", metavar="SUITE")
@click.option(
    "--out", metavar="FOLDER|URI", help="Run folder, or a place like s3://bucket/run; runs/<suite>-<hash> else."
)
@click.option("--fresh", is_flag=True, help="Start anew in another folder, even if this suite was run before.")
@click.option("--ray-address", metavar="A", help="Join this Ray cluster (auto, host:port, ray://…); local else.")
@click.option("--workers", type=click.IntRange(min=1), help="Cores to use; all of the machine or cluster else.")
@click.option(
    "--split-bytes",
    metavar="SIZE",
    type=BYTES,
    help="Measure larger local tensors in parts on several cores; 1GiB else, 0 never.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the suite.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and stop.")
@click.option("--no-mlflow", is_flag=True, help="Leave MLflow alone; `linepress sync RUN` mirrors later.")
@click.option("--no-report", is_flag=True, help="Build no report; `linepress report RUN` does later.")
@json_option
def command(
    suite_name: str,
    out: str | None,
    fresh: bool,
    ray_address: str | None,
    workers: int | None,
    split_bytes: int | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    no_mlflow: bool,
    no_report: bool,
    as_json: bool,
) -> int:
    """Run a suite: every stage, every case, recorded and reported.

    SUITE is the name of a suite that comes with linepress (`linepress list suites`) or the path of a YAML file.
    """
    from linepress import environment

    environment.prepare()
    from linepress.records.remote import is_remote
    from linepress.run.engine import Run
    from linepress.run.options import RunOptions
    from linepress.suite.model import load_suite

    suite = load_suite(suite_name, overrides)
    remote = out if out is not None and is_remote(out) else None
    if remote is not None and fresh:
        raise click.UsageError(f"--fresh does not go with {remote}: give --out another URI for another run")
    options = RunOptions(
        out=Path(out) if out is not None and remote is None else None,
        remote=remote,
        fresh=fresh,
        ray_address=ray_address,
        workers=workers,
        mlflow=not no_mlflow,
        report=not no_report,
    )
    if split_bytes is not None:
        options.split_bytes = split_bytes
    run = Run(suite, options)
    if dry_run:
        return _dry_run(run, as_json)
    resume = resume_command(
        suite_name,
        remote or str(run.folder),
        out is not None or fresh,
        ray_address,
        workers,
        overrides,
        no_mlflow,
        no_report,
        split_bytes,
    )
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what its nodes go through on standard output
        outcome = run.execute(_header)
    if outcome.interrupted:
        sys.stderr.write(f"interrupted; everything that ended is recorded in {run.folder}\nresume: {resume}\n")
    document = _document(run, outcome, resume)
    if as_json:
        print_json(document)
    elif not outcome.interrupted:
        _table(suite, document)
    return outcome.exit_code


def resume_command(
    suite: str,
    folder: str,
    name_folder: bool,
    ray_address: str | None,
    workers: int | None,
    overrides: tuple[str, ...],
    no_mlflow: bool,
    no_report: bool,
    split_bytes: int | None,
) -> str:
    """The command that goes on where this one stopped."""
    words = ["linepress", "run", suite]
    if name_folder:
        words += ["--out", folder]
    if ray_address:
        words += ["--ray-address", ray_address]
    if workers:
        words += ["--workers", str(workers)]
    if split_bytes is not None:
        words += ["--split-bytes", str(split_bytes)]
    for override in overrides:
        words += ["--set", override]
    if no_mlflow:
        words.append("--no-mlflow")
    if no_report:
        words.append("--no-report")
    return shlex.join(words)


def _header(run: Run, plan: Plan, recorded: int) -> None:
    """Orientation, before the first case."""
    from linepress.environment import usable_cores

    suite = run.suite
    workers = run.options.workers or ("cluster's" if run.options.ray_address else usable_cores())
    sys.stderr.write(
        f"suite {suite.name} v{suite.model.version} (sha {suite.sha256[:10]})   {len(plan.tensors):,} tensors × "
        f"{len(plan.variants):,} variants = {len(plan.cases):,} cases, {fmt.bytes_si(plan.raw_bytes)}   "
        f"{workers} workers   "
        f"resume: {recorded:,} done\n"
    )
    for problem in plan.unavailable:
        sys.stderr.write(f"warning: source left out: {problem}\n")
    if plan.duplicates:
        sys.stderr.write(f"{plan.duplicates:,} cases left out: another case computes the same\n")
    sys.stderr.flush()


def _dry_run(run: Run, as_json: bool) -> int:
    from linepress.environment import usable_cores
    from linepress.errors import EXIT_NOTHING_MEASURED
    from linepress.records.store import MANIFEST, RunStore
    from linepress.run.estimate import estimate_plan
    from linepress.run.later_stages import check_later_stages
    from linepress.run.plan import make_plan

    check_later_stages(run.suite)
    plan = make_plan(run.suite)
    known = RunStore.open(run.folder).statuses("measure") if (run.folder / MANIFEST).exists() else {}
    to_do = [case for case in plan.cases if not case.skip and known.get(case.key) != "ok"]
    recorded = sum(known.get(case.key) == "ok" for case in plan.cases)
    to_do_bytes = sum(plan.tensors[case.tensor].n_bytes for case in to_do)
    cores = run.options.workers or usable_cores()
    plan.split_bytes = run.options.split_bytes
    cost = estimate_plan(plan, known, cores)
    document = {
        "suite": run.suite.name,
        "sha256": run.suite.sha256,
        "folder": str(run.folder),
        "tensors": len(plan.tensors),
        "variants": [planned.spec for planned in plan.variants],
        "cases": len(plan.cases),
        "skipped": sum(bool(case.skip) for case in plan.cases),
        "recorded": recorded,
        "to_do": len(to_do),
        "raw_bytes": plan.raw_bytes,
        "to_do_bytes": to_do_bytes,
        "measure_core_hours": cost.core_s / 3600,
        "measure_hours": cost.wall_s(cores) / 3600,
        "cores": cores,
        "cases_without_a_rate": cost.guessed,
        "unavailable": plan.unavailable,
    }
    if as_json:
        print_json(document)
    else:
        _header(run, plan, recorded)
        console = stdout()
        console.print(
            f"to do: {len(to_do):,} cases over {fmt.bytes_si(to_do_bytes)} (each case reads its tensor, "
            f"{run.suite.model.repeats} timed rounds)"
        )
        console.print(
            f"measure: about {cost.core_s / 60:.3g} core-minutes, {cost.wall_s(cores) / 60:.3g} min on {cores} cores "
            f"as fast as this machine is now"
            + (f"; {cost.guessed:,} cases have no rate and are taken at the slowest" if cost.guessed else "")
        )
        console.print(f"record would be {run.folder}")
    return 0 if plan.cases else EXIT_NOTHING_MEASURED


def _document(run: Run, outcome: RunOutcome, resume: str) -> dict[str, Any]:
    from linepress.records.standing import standing
    from linepress.records.summary import headline, measured

    store = outcome.store
    stands = standing(store)
    claims = [str(row["verdict"]) for row in store.rows("claims", ["verdict"])]
    failures = store.rows("failures", ["stage", "label", "error_type", "error", "attempts"])
    return {
        "run_id": store.run_id,
        "suite": run.suite.name,
        "suite_sha256": run.suite.sha256,
        "status": store.manifest["status"],
        "exit_code": outcome.exit_code,
        "verdict": stands.word,
        "verdict_sentence": stands.sentence,
        "counts": outcome.counts,
        "resumed": outcome.resumed,
        "done": outcome.done,
        "summary": headline(measured(store)),
        "gates": [
            {k: gate[k] for k in ("gate", "metric", "rule", "threshold", "value", "passed", "next_step")}
            for gate in outcome.gates
        ],
        "claims": {verdict: claims.count(verdict) for verdict in sorted(set(claims))},
        "failures": failures,
        "record": str(store.path),
        "remote": store.copy.uri if store.copy is not None else None,
        "report": str(outcome.report) if outcome.report else None,
        "mlflow": outcome.mirror,
        "resume": resume,
    }


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _table(suite: Suite, document: dict[str, Any]) -> None:
    from linepress.tables.ratios import headline_table
    from linepress.tables.text import show

    console = stdout()
    show(headline_table({"": document["summary"]}), console)
    console.print(
        f"ratios are Σ raw / Σ coded bytes; packed counts metadata and tables ({suite.model.packings[0]} else)"
    )
    for stage, counts in document["counts"].items():
        console.print(
            f"{stage:<8} ok {counts['ok']:,}   failed {counts['failed']:,}   skipped {counts['skipped']:,}   of "
            f"{counts['planned']:,} planned"
        )
    console.print(f"resumed {document['resumed']:,} cases, ran {document['done']:,}")
    for failure in document["failures"][:5]:
        console.print(f"failed {failure['stage']}: {failure['label']}   {failure['error_type']}: {failure['error']}")
    if len(document["failures"]) > 5:
        console.print(f"… and {len(document['failures']) - 5} more, see {document['record']}/failures.jsonl")
    for gate in document["gates"]:
        verdict = "PASS" if gate["passed"] else "FAIL"
        tail = "" if gate["passed"] or not gate["next_step"] else f"   {gate['next_step']}"
        console.print(
            f"gate {gate['gate']}: {verdict}   {gate['metric']} = {_number(gate['value'], 4)}, "
            f"{gate['rule'].replace('_', ' ')} {gate['threshold']:g}{tail}"
        )
    if document["claims"]:
        console.print("claims: " + ", ".join(f"{count} {verdict}" for verdict, count in document["claims"].items()))
    if document["mlflow"]:
        console.print(f"mlflow: {document['mlflow']}")
    if document["report"]:
        console.print(f"report {document['report']}")
    if document["remote"]:
        console.print(f"remote {document['remote']}")
    console.print(f"record {document['record']}    next: linepress claims {document['record']}")
    console.print(f"verdict: {document['verdict_sentence']}")
