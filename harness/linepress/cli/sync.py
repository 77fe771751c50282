"""``linepress sync RUN``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import json_option, print_json, stdout

EPILOG = """\b
Examples:
  linepress sync runs/smoke-0123456789
  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 linepress sync runs/smoke-0123456789 --json
"""


@click.command(name="sync", epilog=EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def command(run: Path, as_json: bool) -> int:
    """Bring MLflow up to date with the record of RUN; nothing is sent twice.

    MLflow is where MLFLOW_TRACKING_URI says, else the file mlflow.db in the working folder.
    """
    from linepress import environment

    environment.prepare()
    from linepress.records import RunStore
    from linepress.tracking import sync_run

    store = RunStore.open(run)
    sent, where = sync_run(store)
    if as_json:
        print_json({"run_id": store.run_id, "record": str(run), "sent": sent, "mlflow": where})
    else:
        console = stdout()
        console.print(f"mlflow: {where}" + ("" if sent else " (was up to date)"))
        console.print(f"record {run}    next: linepress report {run}")
    return 0
