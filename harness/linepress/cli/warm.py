"""``linepress warm [SUITE]``."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import click

from linepress.cli.common import json_option, print_json, stdout
from linepress.errors import EXIT_INTERRUPTED, EXIT_OK

EPILOG = """\b
Examples:
  linepress warm
  linepress warm suites/my-model.yaml
"""


@click.command(name="warm", epilog=EPILOG)
@click.argument("suite_name", metavar="[SUITE]", default="smoke")
@json_option
def command(suite_name: str, as_json: bool) -> int:
    """Compile the kernels that SUITE (smoke unless given) needs, once, so that the next run starts at full speed.

    Runs the suite into a folder that is thrown away. Compiled kernels stay beside the sources, or where
    NUMBA_CACHE_DIR says; a container image is best built with this as its last step.
    """
    from linepress import environment

    environment.prepare()
    from linepress.run.engine import Run
    from linepress.run.options import RunOptions
    from linepress.suite.model import load_suite

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="linepress-warm-") as folder, contextlib.redirect_stdout(sys.stderr):
        options = RunOptions(out=Path(folder) / "run", mlflow=False)
        outcome = Run(load_suite(suite_name, ("repeats=1",)), options).execute()
    seconds = time.perf_counter() - start
    if as_json:
        print_json({"suite": suite_name, "seconds": seconds, "interrupted": outcome.interrupted})
    elif not outcome.interrupted:
        stdout().print(
            f"kernels of suite {suite_name} are compiled ({seconds:.0f} s)    next: linepress run {suite_name}"
        )
    # A case that fails or a gate that does not hold is for the run itself to report.
    return EXIT_INTERRUPTED if outcome.interrupted else EXIT_OK
