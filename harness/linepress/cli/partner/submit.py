"""``linepress submit DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from linepress.cli.common import json_option, print_json, stderr

EPILOG = """\b
Examples:
  linepress submit submissions/acme/smollm2-135m
  linepress submit submissions/acme/smollm2-135m --accept --store accepted
  linepress submit submissions/acme/smollm2-135m --scanner picklescan --page verdict.html --json
  linepress explain S07

Exit codes: 0 every rule passes, 1 a rule fails, 2 undecided (counts as refused), 3 nothing to check, 4 usage.
"""


@click.command(name="submit", epilog=EPILOG)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--accept", is_flag=True, help="Keep what passes every rule; without it nothing is written.")
@click.option("--store", type=click.Path(path_type=Path), default=Path("accepted"), show_default=True)
@click.option("--submitter", metavar="NAME", help="Who hands it in, where that is known.")
@click.option("--waiver", "waivers", multiple=True, metavar="ID", help="A waiver you have granted; may be repeated.")
@click.option("--scanner", "scanners", multiple=True, metavar="NAME", help="picklescan, modelscan or clamscan.")
@click.option("--page", type=click.Path(path_type=Path), metavar="FILE", help="Write the verdict as an HTML page.")
@json_option
def command(
    folder: Path,
    accept: bool,
    store: Path,
    submitter: str | None,
    waivers: tuple[str, ...],
    scanners: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> int:
    """Check a submission against rules S01 to S21, in a sandbox; one line a rule, never stopping at the first.

    Nothing in DIR is unpickled, unpacked or executed. What cannot be decided counts as refused.
    """
    from linepress.records.files import write_atomically
    from linepress.submission.report import render_page
    from linepress.submission.scanners import scanner_named
    from linepress.submission.store import SubmissionStore
    from linepress.submission.submit import check_submission

    report = check_submission(
        folder, submitter=submitter, waivers=waivers, scanners=[scanner_named(name) for name in scanners]
    )
    document = report.document()
    if page is not None:
        write_atomically(page, render_page(document, folder.name).encode())
    kept = None
    if accept and report.exit_code == 0:
        kept = SubmissionStore(store).accept(report)
    if as_json:
        print_json({**document, "accepted": str(kept) if kept else None})
        return report.exit_code
    for finding in report.findings:
        click.echo(finding.line)
    n_bytes = sum(file["bytes"] for file in report.files)
    click.echo(f"{report.verdict}: {len(report.files)} files, {n_bytes} B in {report.seconds:.1f} s")
    if kept is not None:
        click.echo(f"kept in {kept}")
    failed = next((finding.rule for finding in report.findings if finding.verdict == "FAIL"), None)
    hint = f"linepress explain {failed}" if failed else ""
    if report.exit_code == 0 and not accept:
        hint = f"linepress submit {folder} --accept"
    here = {file["path"] for file in report.files}
    if report.manifest and report.manifest["delivery"] == "reference":
        absent = [entry for entry in report.manifest["files"] if entry["path"] not in here]
        hint = f"linepress fetch {folder}" if absent and failed is None else hint
    if hint:
        stderr().print(f"next: {hint}", markup=False)
    return report.exit_code
