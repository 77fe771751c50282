"""``linepress doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from linepress.cli.common import json_option, print_json, stdout

EPILOG = """\b
Examples:
  linepress doctor
  linepress doctor --offline --json

Exit codes: 0 nothing stands in the way of a run (warnings included), 1 something does.
"""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(name="doctor", epilog=EPILOG)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs will be recorded.")
@click.option("--offline", is_flag=True, help="Ask nothing of the network.")
@json_option
def command(runs: Path, offline: bool, as_json: bool) -> int:
    """Check this machine for what a run needs: cores, memory, Numba, Ray, MLflow, disk, clock, hub."""
    from linepress.doctor import examine
    from linepress.errors import EXIT_GATE_FAILED, EXIT_OK

    findings = examine(runs, offline)
    if as_json:
        print_json([asdict(f) for f in findings])
    else:
        from rich.markup import escape

        console = stdout()
        wide = max(len(f.found) for f in findings)
        for f in findings:
            style = _STYLES[f.state]
            line = f"{f.check:<9} {escape(f.found):<{min(wide, 72)}}  [{style}]{f.state}[/{style}]"
            console.print(line + (f"   {escape(f.advice)}" if f.advice else ""))
    return EXIT_GATE_FAILED if any(f.state == "fail" for f in findings) else EXIT_OK
