"""``linepress pack MODEL --partner NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from linepress.cli.common import json_option, print_json, stderr, stdout

EPILOG = """\b
Examples:
  linepress pack ./SmolLM2-135M --partner acme --licence Apache-2.0 --contact lab@acme.example
  linepress pack kv.safetensors --partner acme --licence CC-BY-4.0 --contact lab@acme.example --kind snapshot
  linepress pack ./model --partner acme --licence MIT --contact lab@acme.example \\
      --source hf://acme/model --revision 0123456789abcdef0123456789abcdef01234567 --reference

Exit codes: 0 packed, 4 the model cannot become a submission.
"""


@click.command(name="pack", epilog=EPILOG)
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL|SNAPSHOT")
@click.option("--partner", required=True, metavar="NAME", help="The submitter: lower-case letters, digits, . and -.")
@click.option("--licence", "--license", required=True, metavar="SPDX", help="SPDX identifier of the licence.")
@click.option("--contact", required=True, metavar="ADDRESS", help="Whom to ask about it.")
@click.option("--name", metavar="NAME", help="Name of the submission; that of MODEL by default.")
@click.option("--source", default="upload", show_default=True, metavar="URI", help="upload or hf://org/name.")
@click.option("--revision", metavar="COMMIT", help="The 40 hex digits of the source's commit.")
@click.option("--no-redistribution", is_flag=True, help="The licence forbids passing the bytes on.")
@click.option("--gated", is_flag=True, help="The source is gated.")
@click.option("--waiver", metavar="ID", help="Id of a waiver that the receiving side has granted.")
@click.option("--kind", type=click.Choice(["model", "snapshot"]), help="Weights, or KV caches; told by names else.")
@click.option("--suite", default="smoke", show_default=True, metavar="NAME", help="Suite to be validated with.")
@click.option("--expect", "variants", multiple=True, metavar="CODEC", help="Measure and report exact results.")
@click.option("--reference", is_flag=True, help="Write the manifest only; the files stay at --source.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("submissions"), show_default=True)
@json_option
def command(
    model: Path,
    partner: str,
    licence: str,
    contact: str,
    name: str | None,
    source: str,
    revision: str | None,
    no_redistribution: bool,
    gated: bool,
    waiver: str | None,
    kind: Literal["model", "snapshot"] | None,
    suite: str,
    variants: tuple[str, ...],
    reference: bool,
    out: Path,
    as_json: bool,
) -> int:
    """Write a submission: the files of a model or KV snapshot, and manifest.yaml with their hashes.

    The folder is OUT/PARTNER/NAME. Only safetensors, their index, config.json and the licence are taken.
    """
    from linepress.submission.check.ledger import escaped
    from linepress.submission.pack import Terms, pack

    terms = Terms(
        licence=licence,
        contact=contact,
        source=source,
        revision=revision,
        redistribution=False if no_redistribution else None,
        gated=gated,
        waiver=waiver,
        kind=kind,
        suite=suite,
        reference=reference,
    )
    packed = pack(model, partner, out, terms, name=name, variants=variants)
    manifest = packed.manifest
    if as_json:
        print_json(
            {
                "folder": str(packed.folder),
                "left_out": packed.left_out,
                "normalised": packed.normalised,
                "manifest": manifest.model_dump(),
            }
        )
        return 0
    for path in packed.normalised:
        stderr().print(
            f"normalised {path}: Infinity or NaN, which JSON has not, written as 1e999 or null", markup=False
        )
    for path in packed.left_out:
        stderr().print(f"left out: {escaped(path)}", markup=False)
    n_bytes = sum(entry.bytes for entry in manifest.files)
    console = stdout()
    console.print(
        f"{packed.folder}: {len(manifest.files)} files, {n_bytes} B, {manifest.declares.tensors} tensors",
        markup=False,
    )
    console.print(f"next: linepress submit {packed.folder}", markup=False)
    return 0
