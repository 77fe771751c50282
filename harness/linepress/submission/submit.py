"""``linepress submit``: the whole check of a folder, S01 to S21, in a sandbox, fail closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from linepress.errors import LinepressError
from linepress.submission.box import sandbox
from linepress.submission.check.ledger import RULES, Finding, Ledger, Verdict, name_of
from linepress.submission.check.limits import Limits
from linepress.submission.check.manifest import Manifest
from linepress.submission.check.tree import open_root, walk
from linepress.submission.report import Report, harmless, render_page, skeleton
from linepress.submission.scanners import Scanner, check_scans, scan

INSPECTED = RULES[:16]
RERUN_MEMORY_BYTES = 6 << 30
RERUN_S = 600.0
Ask = Callable[[dict[str, Any], float], sandbox.Answer]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Finding(_Strict):
    rule: str
    verdict: Verdict
    reasons: list[Annotated[str, Field(max_length=1000)]]
    more: Annotated[int, Field(ge=0)] = 0


class _File(_Strict):
    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    kind: Literal["safetensors", "json", "text", ""]


class _Inspected(_Strict):
    findings: list[_Finding]
    manifest: Manifest | None
    manifest_sha256: str
    files: list[_File]
    tensors: Annotated[int, Field(ge=0)]
    tensor_bytes: Annotated[int, Field(ge=0)]
    isolation: dict[str, Any]


def check_submission(
    folder: Path | str,
    *,
    limits: Limits | None = None,
    submitter: str | None = None,
    waivers: Collection[str] = (),
    scanners: Sequence[Scanner] = (),
    ask: Ask = sandbox.ask,
    render: Callable[[dict[str, Any], str], str] = render_page,
) -> Report:
    """Judge a submission.

    Parameters
    ----------
    folder
        ``…/<submitter>/<name>`` with ``manifest.yaml``.
    limits : Limits | None
    submitter : str | None
        Who hands it in, where that is known (a service knows it from the token).
    waivers : collection of str
        Ids of licence waivers that have been granted.
    scanners : sequence of Scanner
        Scanners to ask as well.
    ask, render
        How the checking process is started and how the page is made.

    Returns
    -------
    Report
        With a finding for every rule, or with none when the folder holds no file.

    Raises `LinepressError` when there is no such folder.
    """
    start = time.monotonic()
    limits = limits or Limits()
    folder = Path(folder).absolute()
    report = Report(str(folder))
    n_bytes, n_files, largest = _size(folder, limits)
    if not n_files:
        return report
    ledger = Ledger(RULES[16:])
    allowed_s = limits.allowed_s(n_bytes)
    answer = ask(
        {
            "work": "inspect",
            "folder": str(folder),
            "limits": asdict(limits),
            "submitter": submitter,
            "waivers": list(waivers),
            "memory_bytes": limits.memory_bytes,
            # The library maps the largest file: address space, not memory.
            "mapped_bytes": (2 << 30) + largest,
            "cpu_s": allowed_s,
        },
        allowed_s,
    )
    _take(answer, report, ledger)
    _rerun(report, folder, limits, ledger, ask)
    scans = [scan(folder, scanner, allowed_s) for scanner in scanners]
    check_scans(scans, ledger)
    report.scans = [asdict(one) for one in scans]
    _finish(report, ledger, render)
    report.seconds = time.monotonic() - start
    return report


def _size(folder: Path, limits: Limits) -> tuple[int, int, int]:
    """Bytes, entries and largest file, by lstat alone; an irregular entry counts as something to judge."""
    import os

    root = open_root(folder)
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is None:
                return 0, 0, 0
        sizes = [file.identity.n_bytes for file in walk(root, limits, Ledger())]
        return sum(sizes), max(len(sizes), 1), max((s for s in sizes if s <= limits.file_bytes), default=0)
    finally:
        os.close(root)


def _take(answer: sandbox.Answer, report: Report, ledger: Ledger) -> None:
    """Findings of the checking process, or none; S19 from how it went."""
    reason, found = answer.reason, None
    if answer.document is not None:
        if set(answer.document) == {"refused", "isolation"}:
            raise LinepressError(str(answer.document["refused"]))
        try:
            found = _Inspected.model_validate(answer.document)
        except ValidationError as error:
            reason = f"its answer does not hold up ({error.error_count()} errors)"
        if found is not None and tuple(finding.rule for finding in found.findings) != INSPECTED:
            reason, found = "its answer leaves out rules", None
    if found is None:
        ledger.doubt("S19", f"the checking process gave no verdict: {reason}")
        report.findings = [
            Finding(rule, "UNDECIDED", ("the checking process gave no verdict, see S19",)) for rule in INSPECTED
        ]
        return
    report.findings = [Finding(f.rule, f.verdict, tuple(f.reasons), f.more) for f in found.findings]
    report.manifest = found.manifest.model_dump() if found.manifest else None
    report.manifest_sha256 = found.manifest_sha256
    report.files = [file.model_dump() for file in found.files]
    report.tensors, report.tensor_bytes = found.tensors, found.tensor_bytes
    report.isolation = found.isolation
    check_isolation(found.isolation, ledger)


def check_isolation(isolation: dict[str, Any], ledger: Ledger) -> None:
    """S19: the process ended in time, and says how its network was cut; a network it can still see is a breach."""
    network = isolation.get("network")
    outside = [name for name in isolation.get("interfaces", []) if name not in _QUIET]
    if network in ("namespace", "user namespace"):
        if outside:
            ledger.fail("S19", f"the checking process sees the network interface {name_of(str(outside[0]))}")
        how = f"network cut by a {network}"
    elif network == "audit hook":
        how = "sockets refused by an audit hook (this system permits no network namespace)"
    else:
        ledger.fail("S19", "the checking process does not say how its network was cut")
        how = ""
    for key in ("memory_bytes", "cpu_s"):
        if not isinstance(isolation.get(key), int | float):
            ledger.fail("S19", f"the checking process ran without a limit on {key}")
    version = isolation.get("landlock", 0)
    files = f"reads the submission alone (Landlock {version})" if version else "files not shut off (no Landlock here)"
    calls = "system calls filtered" if isolation.get("seccomp") is True else "system calls not filtered (no seccomp)"
    below = (
        "a namespace of processes ends with it"
        if isolation.get("processes") == "namespace"
        else "no namespace of processes"
    )
    memory = isolation.get("memory_bytes", 0)
    ledger.saw(
        "S19",
        f"{how}; {files}; {calls}; {below}; at most {memory} B of memory and {isolation.get('cpu_s', 0):.0f} s "
        "of CPU; ended in time",
    )


_QUIET = ("lo", "sit0", "tunl0", "ip6tnl0", "ip_vti0", "ip6_vti0", "gre0", "gretap0", "erspan0", "ip6gre0", "teql0")
"""Interfaces that a new network namespace is born with, all down."""


def _rerun(report: Report, folder: Path, limits: Limits, ledger: Ledger, ask: Ask) -> None:
    """S17."""
    if report.manifest is None:
        ledger.doubt("S17", "needs a manifest that holds up")
        return
    expected = report.manifest["expected"]
    if not expected:
        ledger.saw("S17", "no results are reported, so there are none to reproduce")
        return
    if any(finding.verdict != "PASS" for finding in report.findings):
        ledger.doubt("S17", f"{len(expected)} reported results were not re-run: other rules do not pass")
        return
    answer = ask(
        {
            "work": "rerun",
            "folder": str(folder),
            "expected": expected,
            "rerun_bytes": limits.rerun_bytes,
            "memory_bytes": RERUN_MEMORY_BYTES,
            "mapped_bytes": 64 << 30,
            "cpu_s": RERUN_S,
        },
        RERUN_S,
    )
    results = (answer.document or {}).get("results")
    if not isinstance(results, list) or len(results) != len(expected):
        ledger.doubt("S17", f"the re-run gave no verdict: {answer.reason or 'its answer does not hold up'}")
        return
    check_results(expected, results, ledger)


def check_results(expected: Sequence[dict[str, Any]], results: Sequence[Any], ledger: Ledger) -> None:
    """S17: every reported figure comes out again, to the bit."""
    for want, got in zip(expected, results, strict=True):
        label = f"{name_of(want['tensor'])} under {name_of(want['variant'])}"
        if not isinstance(got, dict) or "error" in got:
            why = got.get("error", "") if isinstance(got, dict) else ""
            ledger.fail("S17", f"{label} cannot be re-run: {str(why)[:200]}")
            continue
        if "left" in got:
            ledger.doubt("S17", f"{label}: {got['left']}")
            continue
        for column in ("payload_bits", "packed_bytes"):
            if got.get(column) != want[column]:
                ledger.fail(
                    "S17", f"{label}: {column} is reported as {want[column]} and comes out as {got.get(column)}"
                )
        if got.get("lossless") is not True:
            ledger.fail("S17", f"{label} does not come back bit for bit")
    ledger.saw("S17", f"{len(expected)} reported results reproduced to the bit")


def _finish(report: Report, ledger: Ledger, render: Callable[[dict[str, Any], str], str]) -> None:
    """S20 and S21, over everything that is about to be shown; then all findings in order."""
    inspected = list(report.findings)
    report.findings = inspected + ledger.findings()
    raw = sum(not reason.isprintable() for finding in report.findings for reason in finding.reasons)
    if raw:
        ledger.fail("S20", f"{raw} reasons hold characters that a terminal could act on")
        report.findings = inspected = [
            Finding(f.rule, f.verdict, tuple(ascii(r)[1:-1] for r in f.reasons), f.more) for f in inspected
        ]
    ledger.saw("S20", f"{sum(len(f.reasons) for f in report.findings)} reasons, all printable")
    manifest = report.manifest or {}
    name = f"{manifest.get('submitter', '?')}/{manifest.get('name', '?')}"
    document = report.document()
    if skeleton(render(document, name)) == skeleton(render(harmless(document), "x")):
        ledger.saw("S21", "the page of this verdict has no tag but its own")
    else:
        ledger.fail("S21", "text of the partner becomes markup in the page of this verdict")
    report.findings = inspected + ledger.findings()
