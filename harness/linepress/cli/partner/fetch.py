"""``linepress fetch DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import BYTES, json_option, print_json, stderr

EPILOG = """\b
Examples:
  linepress fetch submissions/acme/smollm2-135m
  linepress fetch submissions/acme/smollm2-135m --budget 20GiB --json
  HF_TOKEN=hf_… linepress fetch submissions/acme/gated --use-token
  linepress submit submissions/acme/smollm2-135m

Exit codes: 0 every file is there, 3 the hub does not give what the manifest says, 4 folder or budget forbid it.
"""


@click.command(name="fetch", epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--budget", type=BYTES, metavar="SIZE", default="64GiB", help="Most bytes to receive (64 GiB).")
@click.option("--use-token", is_flag=True, help="Ask with your hub token (HF_TOKEN); without it, as nobody.")
@json_option
def command(folder: Path, budget: int, use_token: bool, as_json: bool) -> int:
    """Fetch the files of a submission that holds references only (pack --reference), so that submit can decide.

    Each file is checked against the manifest while it comes (size, sha256, content) and stands under its name only
    when it is whole; a fetch that broke off goes on where it was. Nothing is written outside DIR.
    """
    from linepress.submission.check.ledger import name_of
    from linepress.submission.fetch import fetch

    console = stderr()

    def progress(path: str, done: int, of: int) -> None:
        if done == of:
            console.print(f"fetched {name_of(path)}: {of} B", markup=False)

    found = fetch(folder, budget_bytes=budget, token=use_token, progress=progress)
    if as_json:
        print_json(vars(found))
        return 0
    click.echo(
        f"{folder}: {len(found.fetched)} files fetched ({found.received_bytes} B received, {found.resumed_bytes} B"
        f" from earlier), {len(found.kept)} were there"
    )
    console.print(f"next: linepress submit {folder}", markup=False)
    return 0
