"""``linepress compare BASE NEW``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json

if TYPE_CHECKING:
    from linepress.compare import CompareOptions
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress compare runs/nightly-2026-11-23 runs/nightly-2026-11-24
  linepress compare runs/base runs/new --markdown comment.md --json
  linepress compare runs/base runs/new --min-effect 5 --allow-growth 0.1
  linepress compare runs/a runs/b --history runs
  linepress compare s3://bucket/runs/a s3://bucket/runs/b --history s3://bucket/runs
  linepress compare runs/a --plan --min-effect 3
  linepress compare runs/a runs/b --retime ../base/.venv/bin/python --sessions 9

Exact figures (bits, bytes, losslessness, models) get no statistics: any change is a change. Speeds are judged by
their raw samples, with at most 1 % chance of any false alarm in the whole comparison.
Exit codes: 0 pass, 1 fail, 2 could not decide, 3 nothing to compare, 4 usage.
"""


@click.command(name="compare", epilog=EPILOG)
@click.argument("base", type=PLACE, metavar="BASE")
@click.argument("new", type=PLACE, metavar="[NEW]", required=False)
@click.option("--min-effect", default=3.0, show_default=True, type=click.FloatRange(0, 100), help="Least change, %.")
@click.option(
    "--alpha",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Chance of any false alarm of speed in the whole comparison.",
)
@click.option(
    "--allow-growth",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Growth of an exact figure that does not fail, %.",
)
@click.option("--hosts-alike", is_flag=True, help="Compare speeds although the hosts have other names.")
@click.option("--strict", is_flag=True, help="Do not pass when no speed could be judged.")
@click.option(
    "--history",
    type=PLACE,
    metavar="FOLDER|URI",
    help="Folder of earlier runs of the suite; their spread widens the intervals where it is larger.",
)
@click.option(
    "--retime",
    default="",
    metavar="PYTHON",
    help="Time both codes anew in turn, here: PYTHON is the interpreter of the installation that made BASE.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1),
    help="Pairs of new processes that --retime takes; 6 else. --plan says how many are needed.",
)
@click.option(
    "--plan",
    is_flag=True,
    help="Time the cases of BASE against themselves for some minutes, and say how long --retime needs to show "
    "--min-effect here.",
)
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False), help="Write Markdown to this file too.")
@json_option
def command(
    base: RunPlace,
    new: RunPlace | None,
    min_effect: float,
    alpha: float,
    allow_growth: float,
    hosts_alike: bool,
    strict: bool,
    history: RunPlace | None,
    retime: str,
    sessions: int | None,
    plan: bool,
    markdown: Path | None,
    as_json: bool,
) -> int:
    """Compare run NEW with run BASE: what changed, and a gate over it; with --plan, plan the timing of BASE's cases.

    Each is the folder of a run, or a place like s3://bucket/runs/base.
    """
    from linepress.compare import CompareOptions, compare_runs
    from linepress.compare.document import document
    from linepress.compare.options import SESSIONS
    from linepress.compare.render import as_markdown, as_text
    from linepress.errors import RecordError
    from linepress.records.files import write_atomically
    from linepress.records.found import suite_runs
    from linepress.records.store import read_manifest

    def say(text: str) -> None:
        click.echo(text, err=True)

    options = CompareOptions(
        min_effect_pct=min_effect,
        alpha=alpha,
        allow_growth_pct=allow_growth,
        hosts_alike=hosts_alike,
        strict=strict,
        retime=retime,
        sessions=sessions or SESSIONS,
    )
    if plan:
        return _plan(base, new, options, say, as_json)
    if new is None:
        raise click.UsageError("NEW is missing: name the run to compare with BASE (or give --plan)")
    if sessions and not retime:
        raise click.UsageError("--sessions belongs to --retime: name the interpreter of the other installation")
    earlier: list[RunPlace] = []
    if history is not None:
        if not history.is_dir():
            raise RecordError(f"--history {history}: there is no such folder of runs; give the one that holds them")
        suite = str((read_manifest(new).get("suite") or {}).get("name"))
        earlier = [path for path, _ in suite_runs(history, suite)]
    found = compare_runs(base, new, replace(options, history=tuple(earlier)), say)
    if markdown is not None:
        write_atomically(markdown, as_markdown(found).encode())
    if as_json:
        print_json(document(found))
    else:
        sys.stdout.write(as_text(found))
    return found.exit_code


def _plan(
    base: RunPlace, new: RunPlace | None, options: CompareOptions, say: Callable[[str], None], as_json: bool
) -> int:
    from linepress.compare.data import load_side
    from linepress.compare.planned import as_text, plan_time
    from linepress.records.store import RunStore

    if new is not None:
        raise click.UsageError("--plan times the cases of one run: leave NEW out")
    if not options.min_effect_pct:
        raise click.UsageError("--plan needs a change to show: give --min-effect above 0")
    found = plan_time(load_side(RunStore.open(base)), options, say)
    if as_json:
        print_json(asdict(found))
    else:
        sys.stdout.write(as_text(found, str(base)))
    return 0
