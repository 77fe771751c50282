"""``linepress runs list|show|delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json, stderr, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress runs list
  linepress runs list /data/runs --suite nightly --json
  linepress runs list s3://bucket/runs
  linepress runs show runs/smoke-1a2b3c4d
  linepress runs delete runs/smoke-1a2b3c4d --yes
"""
_COLUMNS = ("run", "suite", "commit", "status", "verdict", "ok", "failed", "planned", "size_bytes", "age")


@click.group(name="runs", epilog=EPILOG)
def command() -> None:
    """List, show or delete runs."""


@command.command(name="list")
@click.argument("place", type=PLACE, default="runs", metavar="[FOLDER|URI]")
@click.option("--folder", type=PLACE, metavar="FOLDER|URI", help="The same, as an option.")
@click.option("--suite", help="Only runs of this suite.")
@json_option
def list_command(place: RunPlace, folder: RunPlace | None, suite: str | None, as_json: bool) -> int:
    """Runs in a folder (`runs` else) or in a store, the newest first, with verdict and size."""
    from linepress.run.folders import listed
    from linepress.tables.plain import plain_table
    from linepress.tables.text import show

    where = folder or place
    rows = listed(where, suite)
    if as_json:
        print_json(rows)
        return 0
    console = stdout()
    if not rows:
        console.print(f"no runs under {where}; `linepress run smoke` makes one", markup=False)
        return 0
    show(plain_table(rows, {name: name.removesuffix("_bytes") for name in _COLUMNS}), console)
    for row in rows:
        if row.get("problem"):
            console.print(f"{row['run']}: {row['problem']}", markup=False)
    return 0


@command.command(name="show")
@click.argument("run", type=PLACE, metavar="RUN")
@json_option
def show_command(run: RunPlace, as_json: bool) -> int:
    """What a run is: suite, commit, machine, sessions, counts, tables, verdict."""
    from linepress.run.folders import described
    from linepress.tables.plain import value_text

    found = described(run)
    if as_json:
        print_json(found)
        return 0
    console = stdout()
    width = max(map(len, found))
    for name, value in found.items():
        console.print(f"{name.ljust(width)}  {value_text(name, value)}", markup=False)
    return 0


@command.command(name="delete")
@click.argument("runs", nargs=-1, required=True, type=PLACE, metavar="RUN...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete_command(runs: tuple[RunPlace, ...], yes: bool, as_json: bool) -> int:
    """Delete runs, after asking. A folder that is not a run, or holds anything else, is never touched.

    Says so when a run is the latest good one of its suite, which the next night would be compared with.
    """
    from linepress.records.place import size_bytes
    from linepress.run.folders import check_deletable, delete, loss_of
    from linepress.tables import format as fmt

    for run in runs:
        check_deletable(run)
    sizes = {run: size_bytes(run) for run in runs}
    lost = loss_of(runs)
    for sentence in lost:
        stderr().print(f"note: {sentence}", markup=False)
    if not yes:
        names = ", ".join(f"{run} ({fmt.bytes_si(size)})" for run, size in sizes.items())
        if not click.confirm(f"delete {names}?", default=False, err=True):
            if as_json:
                print_json({"deleted": [], "freed_bytes": 0, "notes": lost})
            else:
                stdout().print("nothing deleted")
            return 0
    for run in runs:
        delete(run)
    if as_json:
        print_json({"deleted": [str(run) for run in runs], "freed_bytes": sum(sizes.values()), "notes": lost})
    else:
        words = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
        stdout().print(f"deleted {words}, {fmt.bytes_si(sum(sizes.values()))} freed", markup=False)
    return 0
