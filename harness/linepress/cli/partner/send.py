"""``linepress send DIR``: hand a packed submission to an intake service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from linepress.cli.common import json_option, print_json, stderr

EPILOG = """\b
Examples:
  export LINEPRESS_TOKEN=lpk_…
  linepress send submissions/acme/smollm2-135m --url https://intake.example.com
  linepress send submissions/acme/smollm2-135m --url https://intake.example.com --memory hbm3 --wait
  linepress send submissions/acme/llama --url https://intake.example.com --wait --certificate llama.lpcert

Sending again goes on where it stopped.
Exit codes: 0 sent (with --wait: validated), 1 refused, 2 not decided in time, 4 usage.
"""
POLL_S = 1.0


@click.command(name="send", epilog=EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--url", required=True, help="Address of the service.")
@click.option("--token", envvar="LINEPRESS_TOKEN", required=True, help="Better given as LINEPRESS_TOKEN.")
@click.option("--suite", metavar="NAME", help="Suite to be validated with; the one that the manifest asks for.")
@click.option("--memory", "memories", multiple=True, help="Memory to simulate; the suite's else.")
@click.option("--accelerator", "accelerators", multiple=True, help="Accelerator to model; the suite's else.")
@click.option("--hub", metavar="hf://ORG/NAME@COMMIT", help="Send the manifest only; the service fetches the rest.")
@click.option("--publish", is_flag=True, help="Show the name on the leaderboard to other partners.")
@click.option("--wait", is_flag=True, help="Wait for the verdict.")
@click.option("--timeout", type=click.FloatRange(min=0), default=86_400.0, show_default=True, help="Longest wait, s.")
@click.option("--certificate", type=click.Path(path_type=Path), metavar="FILE", help="With --wait: fetch it.")
@json_option
def command(
    folder: Path,
    url: str,
    token: str,
    suite: str | None,
    memories: tuple[str, ...],
    accelerators: tuple[str, ...],
    hub: str | None,
    publish: bool,
    wait: bool,
    timeout: float,
    certificate: Path | None,
    as_json: bool,
) -> int:
    """Upload a submission that `linepress pack` wrote, resuming where an earlier try stopped."""
    from linepress.intake.client import Client, ClientError
    from linepress.records.files import write_atomically

    client = Client(url, token)
    choice: dict[str, Any] = {"suite": _agreed(folder, suite), "memories": list(memories)}
    choice.update(accelerators=list(accelerators), publish=publish)
    if hub is not None:
        uri, at, revision = hub.rpartition("@")
        if not at:
            raise ClientError(f"--hub {hub}: write hf://ORG/NAME@COMMIT with the 40 hex digits of the commit")
        choice["hub"] = {"uri": uri, "revision": revision}
    console = stderr()
    found = client.send(folder, lambda text: console.print(text, markup=False), **choice)
    end_s = time.monotonic() + timeout
    while wait and found["state"] not in ("validated", "rejected", "withdrawn") and time.monotonic() < end_s:
        time.sleep(POLL_S)
        found = client.status(found["id"])
    if certificate is not None and found["state"] == "validated":
        write_atomically(certificate, client.fetch(f"/v1/submissions/{found['id']}/certificate"))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['id']} {found['state']}: {found['reason'] or found['meaning']}")
        click.echo(f"status page: {url.rstrip('/')}/submissions/{found['id']}")
    if not wait or found["state"] == "validated":
        return 0
    return 1 if found["state"] in ("rejected", "withdrawn") else 2


def _agreed(folder: Path, suite: str | None) -> str:
    """The suite that the manifest asks for; raises before anything is sent where ``suite`` is another one."""
    from linepress.intake.client import ClientError
    from linepress.submission.check.limits import MANIFEST_NAME
    from linepress.submission.check.manifest import parse_manifest, suite_conflict

    try:
        asked = parse_manifest((folder / MANIFEST_NAME).read_bytes()).suite
    except FileNotFoundError:
        raise ClientError(f"{folder}: there is no {MANIFEST_NAME}; write one with linepress pack") from None
    conflict = suite_conflict(asked, asked if suite is None else suite)
    if conflict:
        raise ClientError(f"{folder}: {conflict}")
    return asked
