"""``linepress report RUN``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import json_option, print_json, stdout

EPILOG = """\b
Examples:
  linepress report runs/smoke-1a2b3c4d
  linepress report runs/smoke-1a2b3c4d --json
"""


@click.command(name="report", epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@json_option
def command(run: Path, as_json: bool) -> int:
    """Build the HTML report of a run: one self-contained file, RUN/report/index.html.

    RUN is the folder that `linepress run` printed; `linepress list runs` shows the folders.
    """
    from linepress.report import build_report
    from linepress.report import format as fmt

    path = build_report(run)
    size = path.stat().st_size
    if as_json:
        print_json({"report": str(path), "bytes": size})
    else:
        stdout().print(f"{path}   {fmt.bytes_si(size)}   self-contained, no network", markup=False)
    return 0
