"""``linepress nightly SUITE``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress nightly nightly
  linepress nightly suites/my-model.yaml --baseline latest-good --webhook https://hooks.example.com/T0/B0
  linepress nightly smoke --no-mlflow --json
  linepress nightly nightly --runs s3://bucket/runs
  linepress nightly nightly --retime ../good/.venv/bin/python
  linepress nightly nightly --accept 'new tables, 0.2 % larger, twice as fast'

The run goes to RUNS/SUITE-DATE-COMMIT, so the same command on the same day resumes. A night is good when its verdict
is PASS or ACCEPTED. LINEPRESS_WEBHOOK gives the webhook without showing it to `ps`.
Exit codes: 0 pass, 1 a gate or the comparison failed, 2 some cases failed or it could not be decided, 3 nothing was
measured, 4 usage, 5 the store of the record cannot be reached or refuses, 130 interrupted.
"""


@click.command(name="nightly", epilog=EPILOG)
@click.argument("suite_name", metavar="SUITE")
@click.option(
    "--baseline", default="latest-good", show_default=True, help="latest-good, or the folder or URI of a run."
)
@click.option(
    "--runs", type=PLACE, metavar="FOLDER|URI", default="runs", show_default=True, help="Where the runs lie."
)
@click.option("--out", type=PLACE, metavar="FOLDER|URI", help="Where this run goes; RUNS/SUITE-DATE-COMMIT else.")
@click.option("--night", default="", metavar="DATE", help="Date in the folder's name; today (UTC) else.")
@click.option("--nights", default=30, show_default=True, type=click.IntRange(2, 400), help="Nights of history.")
@click.option("--accept", default="", metavar="REASON", help="Take worse figures as the new level.")
@click.option("--webhook", envvar="LINEPRESS_WEBHOOK", metavar="URL", help="Post the summary there as JSON.")
@click.option("--min-effect", default=3.0, show_default=True, type=click.FloatRange(0, 100), help="Of speeds, %.")
@click.option("--allow-growth", default=0.0, show_default=True, type=click.FloatRange(0), help="Of exact figures, %.")
@click.option("--hosts-alike", is_flag=True, help="Compare speeds although the hosts have other names.")
@click.option("--strict", is_flag=True, help="Do not pass when no speed could be judged.")
@click.option(
    "--retime",
    default="",
    metavar="PYTHON",
    help="Time both codes anew in turn, here: PYTHON is the interpreter of the installation that made the baseline.",
)
@click.option("--ray-address", metavar="A", help="Join this Ray cluster (auto, host:port, ray://…); local else.")
@click.option("--workers", type=click.IntRange(min=1), help="Cores to use; all of the machine or cluster else.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the suite.")
@click.option("--no-mlflow", is_flag=True, help="Leave MLflow alone; `linepress sync RUN` mirrors later.")
@json_option
def command(
    suite_name: str,
    baseline: str,
    runs: RunPlace,
    out: RunPlace | None,
    night: str,
    nights: int,
    accept: str,
    webhook: str | None,
    min_effect: float,
    allow_growth: float,
    hosts_alike: bool,
    strict: bool,
    retime: str,
    ray_address: str | None,
    workers: int | None,
    overrides: tuple[str, ...],
    no_mlflow: bool,
    as_json: bool,
) -> int:
    """Run SUITE, compare it with the last good run, apply the gates, write report and summary."""
    from linepress import environment

    environment.prepare()
    from linepress.compare import CompareOptions
    from linepress.errors import LinepressError
    from linepress.nightly.night import NightlyOptions, night_folder, run_nightly
    from linepress.nightly.summary import WebhookError, failed_summary, markdown, post
    from linepress.records.standing import standing
    from linepress.suite.model import load_suite

    def tell(summary: dict[str, object]) -> None:
        if not webhook:
            return
        try:
            post(webhook, summary)
        except WebhookError as error:
            sys.stderr.write(f"warning: {error}\n")

    suite = load_suite(suite_name, overrides)
    options = NightlyOptions(
        baseline=baseline,
        runs=runs,
        out=out,
        night=night,
        accept=accept,
        nights=nights,
        mlflow=not no_mlflow,
        ray_address=ray_address,
        workers=workers,
        compare=CompareOptions(
            min_effect_pct=min_effect,
            allow_growth_pct=allow_growth,
            hosts_alike=hosts_alike,
            strict=strict,
            retime=retime,
        ),
    )
    try:
        outcome = run_nightly(suite, options)
    except LinepressError as error:
        tell(failed_summary(suite.name, str(error)))
        raise
    if outcome.summary is None:
        words = ["linepress", *sys.argv[1:]]
        if not (night or out):
            words += ["--out", str(night_folder(suite, options))]
        sys.stderr.write(f"interrupted; everything that ended is recorded\nresume: {shlex.join(words)}\n")
        return outcome.exit_code
    tell(outcome.summary)
    if as_json:
        print_json(outcome.summary)
    else:
        verdict = standing(outcome.run.store).sentence
        sys.stdout.write(f"{markdown(outcome.summary)}\nverdict: {verdict}\n")
    return outcome.exit_code
