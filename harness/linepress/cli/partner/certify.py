"""``linepress certify SUBMISSION RUN``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import json_option, print_json

EPILOG = """\b
Examples:
  linepress certify --new-key linepress.key
  linepress certify accepted/submissions/acme/smollm2-135m runs/acme-smollm2 --key linepress.key -o smollm2.lpcert
  linepress verify smollm2.lpcert --key linepress.key.pub

Exit codes: 0 issued, 1 the submission or the run cannot be certified, 4 usage.
"""


@click.command(name="certify", epilog=EPILOG)
@click.argument("submission", required=False, type=click.Path(path_type=Path))
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="The signing key, PEM, Ed25519.")
@click.option("--new-key", type=click.Path(path_type=Path), metavar="FILE", help="Make a signing key and stop.")
@click.option("--waiver", "waivers", multiple=True, metavar="ID", help="A licence waiver you have granted.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="NAME.lpcert by default.")
@json_option
def command(
    submission: Path | None,
    run: Path | None,
    key: Path | None,
    new_key: Path | None,
    waivers: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> int:
    """Sign what a run found about a submission: manifest, results, report, environment and hashes in one file.

    RUN must be complete and have measured every tensor of SUBMISSION and no other.
    """
    from linepress.records.files import write_atomically
    from linepress.submission.certificate import dsse
    from linepress.submission.certificate.issue import issue

    if new_key is not None:
        made = dsse.key_id(dsse.new_key(new_key).public_key())
        if as_json:
            print_json({"key": str(new_key), "public": f"{new_key}.pub", "key_id": made})
        else:
            click.echo(f"{new_key} (keep it secret), {new_key}.pub (hand it out): key {made}")
        return 0
    if submission is None or run is None or key is None:
        raise click.UsageError("give SUBMISSION, RUN and --key FILE (or --new-key FILE to make one)")
    issued = issue(submission, run, dsse.load_private(key), waivers=waivers)
    path = out or Path(f"{submission.absolute().name}.lpcert")
    write_atomically(path, issued.bundle)
    if as_json:
        print_json({"bundle": str(path), "bytes": len(issued.bundle), "statement": issued.statement})
    else:
        click.echo(f"{path}: {len(issued.bundle)} B, {len(issued.statement['subject'])} hashes signed")
    return 0
