"""``linepress report RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress report runs/smoke-1a2b3c4d
  linepress report runs/smoke-1a2b3c4d --json
  linepress report s3://bucket/runs/night
"""


@click.command(name="report", epilog=EPILOG)
@click.argument("run", type=PLACE, metavar="RUN")
@json_option
def command(run: RunPlace, as_json: bool) -> int:
    """Build the HTML report of a run: one self-contained file, RUN/report/index.html.

    RUN is the folder that `linepress run` printed (`linepress runs list` shows them), or a place like
    s3://bucket/runs/night; then the report goes there too, and the path printed is that of the copy on this machine.
    """
    from linepress.report import build_report
    from linepress.tables import format as fmt

    path = build_report(run)
    there = "" if isinstance(run, Path) else f"   also at {run / 'report' / 'index.html'}"
    size = path.stat().st_size
    if as_json:
        print_json({"report": str(path), "bytes": size})
    else:
        stdout().print(f"{path}   {fmt.bytes_si(size)}   self-contained, no network{there}", markup=False)
    return 0
