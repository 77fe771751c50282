"""``linepress verify BUNDLE``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from linepress.cli.common import json_option, print_json
from linepress.errors import EXIT_USAGE, LinepressError

EPILOG = """\b
Examples:
  linepress verify smollm2.lpcert --key linepress.pub
  linepress verify smollm2.lpcert --key linepress.pub --rerun submissions/acme/smollm2-135m
  linepress verify smollm2.lpcert --key linepress.pub --rerun DIR --rows 20 --json

Exit codes: 0 everything holds, 1 something does not, 2 undecided (the signer is not known to you), 4 usage.
"""


@click.command(name="verify", epilog=EPILOG)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), metavar="FILE.pub", help="A signer you trust."
)
@click.option("--rerun", type=click.Path(path_type=Path), metavar="DIR", help="Measure the submission in DIR again.")
@click.option("--rows", type=click.IntRange(1), metavar="N", help="Re-run N results only.")
@json_option
def command(bundle: Path, keys: tuple[Path, ...], rerun: Path | None, rows: int | None, as_json: bool) -> int:
    """Check a certificate: its signature, its hashes, that its parts agree, and with --rerun its bytes.

    Needs neither network nor the machine that issued it.
    """
    from linepress.submission.certificate.dsse import load_public
    from linepress.submission.certificate.verify import verify_bundle
    from linepress.submission.check.ledger import escaped, exit_code

    trusted = [load_public(path.read_bytes(), str(path)) for path in keys]
    findings, statement = verify_bundle(bundle, trusted, rerun, rows)
    code = exit_code(findings)
    if as_json:
        print_json({"exit_code": code, "checks": [asdict(finding) for finding in findings], "statement": statement})
        return code
    for finding in findings:
        click.echo(f"{finding.rule:<12} {finding.verdict:<9} {'; '.join(finding.reasons)}")
    if statement is not None and code == 0:
        who = statement["predicate"]["submission"]
        click.echo(escaped(f"certified: {who['submitter']}/{who['name']}"))
        for variant, sums in statement["predicate"]["totals"].items():
            if sums["packed_bytes"] and sums["payload_bits"]:
                payload = 8 * sums["raw_bytes"] / sums["payload_bits"]
                packed = sums["raw_bytes"] / sums["packed_bytes"]
                lossless = f"{sums['lossless']} of {sums['ok']} lossless"
                click.echo(escaped(f"  {variant}: payload {payload:.4f}, packed {packed:.4f}, {lossless}"))
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """``linepress-verify``: this verb alone, for those who install no more than it takes (``verify.txt``)."""
    try:
        code = command.main(None if arguments is None else list(arguments), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except LinepressError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    raise SystemExit(code)
