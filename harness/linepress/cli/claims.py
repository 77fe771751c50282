"""``linepress claims RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json, stdout

if TYPE_CHECKING:
    from linepress.claims import Verdict
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress claims runs/smoke-1a2b3c4d
  linepress claims runs/smoke-1a2b3c4d --only 'kv-*' --json
  linepress claims runs/smoke-1a2b3c4d --claims my-claims.yaml
  linepress claims s3://bucket/runs/night

A verdict is a finding, not a failure: the exit code is 0 whatever the verdicts are. Gates decide over runs.
"""
_VERDICTS = ("reproduced", "not reproduced", "not checkable")


@click.command(name="claims", epilog=EPILOG)
@click.argument("run", type=PLACE, metavar="RUN")
@click.option("--claims", "claims_file", type=click.Path(path_type=Path), help="Another claims file.")
@click.option("--only", metavar="PATTERN", help="Only claims whose name matches this shell pattern.")
@json_option
def command(run: RunPlace, claims_file: Path | None, only: str | None, as_json: bool) -> int:
    """Verdicts on published claims: reproduced, not reproduced, or not checkable and why."""
    from fnmatch import fnmatchcase

    from linepress.claims import load_claims, verdicts
    from linepress.errors import EXIT_OK, LinepressError

    found = verdicts(run, load_claims(claims_file))
    if only is not None:
        found = [v for v in found if fnmatchcase(v.claim_id, only)]
        if not found:
            raise LinepressError(f"no claim matches {only!r}; `linepress list claims` shows their names")
    if as_json:
        print_json([v.row() for v in found])
    else:
        _print(found)
    return EXIT_OK


def _print(found: list[Verdict]) -> None:
    from itertools import groupby

    from linepress.tables import format as fmt
    from linepress.tables.model import Column, RowGroup, Table, cell, row
    from linepress.tables.text import show

    console = stdout()
    columns = (
        Column("claim"),
        Column("claimed", numeric=True),
        Column("measured", numeric=True),
        Column("bound", numeric=True),
        Column("verdict"),
        Column("why"),
    )
    groups = (
        RowGroup(
            title,
            tuple(
                row(
                    v.title,
                    *(text or fmt.ABSENT for text in (v.claimed, v.measured, v.bound.partition(" (")[0])),
                    cell(v.verdict, style=v.verdict),
                    v.reason,
                )
                for v in some
            ),
        )
        for title, some in groupby(found, lambda v: v.group)
    )
    show(Table("claims", "", columns, tuple(groups)), console)
    tally = [f"{sum(v.verdict == word for v in found)} {word}" for word in _VERDICTS]
    console.print(f"{len(found)} claims: " + ", ".join(tally))
