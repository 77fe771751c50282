"""``linepress explain RULE``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import json_option, print_json

EPILOG = """\b
Examples:
  linepress explain S07
  linepress explain                     all rules, a line each
  linepress explain S07 --make /tmp/s07   writes the passing and the failing submission
"""


@click.command(name="explain", epilog=EPILOG)
@click.argument("rule", required=False)
@click.option(
    "--make", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the rule's two fixtures into FOLDER."
)
@json_option
def command(rule: str | None, make: Path | None, as_json: bool) -> int:
    """Say what a rule of linepress submit asks, why, what to do, and which fixtures show it."""
    from linepress.submission.fixtures import FIXTURES
    from linepress.submission.rulebook import rule_called, rules

    if rule is None:
        if make is not None:
            raise click.UsageError("--make needs a rule, for instance: linepress explain S07 --make FOLDER")
        if as_json:
            print_json([vars(one) for one in rules().values()])
        for one in () if as_json else rules().values():
            click.echo(f"{one.id}  {one.title:<26} {one.text}")
        return 0
    found = rule_called(rule)
    passing, failing = FIXTURES[found.id]
    made = {}
    if make is not None:
        for what, fixture in (("passes", passing), ("fails", failing)):
            made[what] = str(fixture.make(make / found.id / what))
    if as_json:
        print_json({**vars(found), "fixtures": {"passes": passing.says, "fails": failing.says}, "made": made})
        return 0
    click.echo(f"{found.id} {found.title}\n\n{found.text}\n\nWhy:     {found.why}\nTo mend: {found.mend}")
    click.echo(f"Passes:  {passing.says}\nFails:   {failing.says}")
    for what, folder in made.items():
        click.echo(f"{what}: linepress submit {folder}")
    return 0
