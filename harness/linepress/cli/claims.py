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
_STYLES = {"reproduced": "green", "not reproduced": "red", "not checkable": "dim"}


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
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = stdout()
    if not console.is_terminal:
        console.width = 10_000
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, right in (
        ("claim", False),
        ("claimed", True),
        ("measured", True),
        ("bound", True),
        ("verdict", False),
        ("why", False),
    ):
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    group = ""
    for v in found:
        if v.group != group:
            group = v.group
            table.add_row(f"[bold]{escape(group)}[/bold]")
        bound = v.bound.partition(" (")[0]
        style = _STYLES[v.verdict]
        table.add_row(
            escape(v.title),
            escape(v.claimed) or "–",
            escape(v.measured) or "–",
            escape(bound) or "–",
            f"[{style}]{v.verdict}[/{style}]",
            escape(v.reason),
        )
    console.print(table)
    tally = [f"{sum(v.verdict == word for v in found)} {word}" for word in _STYLES]
    console.print(f"{len(found)} claims: " + ", ".join(tally))
