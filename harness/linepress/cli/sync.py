"""``linepress sync RUN``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from linepress.cli.common import PLACE, json_option, print_json, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

EPILOG = """\b
Examples:
  linepress sync runs/smoke-0123456789
  linepress sync s3://bucket/runs/night
  MLFLOW_TRACKING_URI=http://127.0.0.1:5000 linepress sync runs/smoke-0123456789 --json
"""


@click.command(name="sync", epilog=EPILOG)
@click.argument("run", type=PLACE, metavar="RUN")
@json_option
def command(run: RunPlace, as_json: bool) -> int:
    """Bring MLflow up to date with the record of RUN; nothing is sent twice.

    MLflow is where MLFLOW_TRACKING_URI says, else the file mlflow.db in the working folder.
    """
    from linepress import environment

    environment.prepare()
    from linepress.records import RunStore
    from linepress.tracking import sync_run
    from linepress.tracking.mirror import STATE

    store = RunStore.open(run)
    try:
        sent, where = sync_run(store)
    finally:
        noted = store.path / STATE
        store.carry(*([noted] if noted.exists() else []))
    if as_json:
        print_json({"run_id": store.run_id, "record": str(run), "sent": sent, "mlflow": where})
    else:
        console = stdout()
        console.print(f"mlflow: {where}" + ("" if sent else " (was up to date)"))
        console.print(f"record {run}    next: linepress report {run}")
    return 0
