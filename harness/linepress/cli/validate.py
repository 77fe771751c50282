"""``linepress validate PATH…``: whether a snapshot or a model's files are what they claim to be, every byte read."""

from __future__ import annotations

import click

from linepress.cli.common import json_option, print_json, stdout
from linepress.errors import EXIT_GATE_FAILED, EXIT_OK

EPILOG = """\b
Examples:
  linepress validate cache.safetensors
  linepress validate caches/*.safetensors --json
  linepress validate memory:cache.safetensors

Exit codes: 0 everything passes (warnings included), 1 something failed, 4 usage.
"""


@click.command(name="validate", epilog=EPILOG)
@click.argument("uris", metavar="PATH…", nargs=-1, required=True)
@json_option
def command(uris: tuple[str, ...], as_json: bool) -> int:
    """Check snapshots (docs/snapshot-format.md) and tensor files: headers, tables, and every value once.

    PATH is whatever linepress measure takes; memory:PATH checks the engine's pages as they lie.
    """
    from linepress.sources.snapshot.validate import FAIL, validate

    failed = False
    document = []
    for uri in uris:
        findings, facts = validate(uri)
        bad = any(f.outcome == FAIL for f in findings)
        failed |= bad
        document.append(
            {
                **facts,
                "valid": not bad,
                "checks": [{"rule": f.rule, "outcome": f.outcome, "text": f.text} for f in findings],
            }
        )
        if not as_json:
            stdout().print(f"{uri}: {'REJECTED' if bad else 'valid'}", markup=False)
            for finding in findings:
                stdout().print(f"  {finding.outcome}  {finding.rule:<9} {finding.text}", markup=False)
    if as_json:
        print_json({"sources": document})
    return EXIT_GATE_FAILED if failed else EXIT_OK
