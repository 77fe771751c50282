"""The check itself, rule by rule over one folder. Runs inside the sandbox; `submit` starts it there.

Pure but for the reading: the same folder and limits give the same findings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linepress.submission.check.ledger import Finding, Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME, Limits
from linepress.submission.check.manifest import Manifest, ManifestError, parse_manifest
from linepress.submission.check.reading import FileFacts, read_file
from linepress.submission.check.rules.documents import check_documents
from linepress.submission.check.rules.identity import check_licence, check_owner, check_source
from linepress.submission.check.rules.names import check_names
from linepress.submission.check.rules.sets import check_declared, check_expected, check_hashes, check_set, check_still
from linepress.submission.check.tree import Found, identity_now, open_file, open_root, walk

INSPECTED = tuple(f"S{n:02d}" for n in range(1, 17))
"""The rules decided here; S17 to S21 are about the checking and belong to `submit`."""
_NEEDS_MANIFEST = ("S03", "S11", "S12", "S14", "S16")


@dataclass
class Inspection:
    """What the check of a folder found.

    Attributes
    ----------
    findings : list of Finding
        One for each of `INSPECTED`.
    manifest : Manifest | None
        None when it is not one.
    manifest_sha256 : str
        Of the bytes it was parsed from.
    files : list of dict
        ``path``, ``bytes``, ``sha256``, ``kind`` of every file read.
    tensors, tensor_bytes : int
    """

    findings: list[Finding]
    manifest: Manifest | None
    manifest_sha256: str = ""
    files: list[dict[str, Any]] = field(default_factory=list)
    tensors: int = 0
    tensor_bytes: int = 0


def inspect(
    folder: Path, limits: Limits, *, submitter: str | None = None, waivers: Collection[str] = ()
) -> Inspection:
    """Judge the submission in ``folder``; raises `LinepressError` only when there is no such folder."""
    ledger = Ledger(INSPECTED)
    root = open_root(folder)
    try:
        found = walk(root, limits, ledger)
        readable = _within_limits(found, limits, ledger)
        manifest, manifest_sha256 = _manifest(root, found, limits, ledger)
        check_names(
            [file.path for file in found], [entry.path for entry in manifest.files] if manifest else [], ledger
        )
        if manifest is None:
            for rule in _NEEDS_MANIFEST:
                ledger.doubt(rule, "needs a manifest that holds up")
        else:
            check_source(manifest, ledger)
            check_licence(manifest, waivers, ledger)
            check_owner(manifest, folder, submitter, ledger)
            check_set(manifest, found, ledger)
        read = _read(root, readable, limits, ledger)
        _judge(manifest, read, limits, ledger)
        check_still(found, {file.path: identity_now(root, file.path) for file in found}, ledger)
    finally:
        os.close(root)
    parts = [facts.tensors for facts in read.values() if facts.tensors is not None]
    return Inspection(
        ledger.findings(),
        manifest,
        manifest_sha256,
        [{"path": f.path, "bytes": f.n_bytes, "sha256": f.sha256, "kind": f.kind} for f in read.values()],
        sum(len(part.names) for part in parts),
        sum(sum(part.ends) - sum(part.begins) for part in parts),
    )


def _within_limits(found: Sequence[Found], limits: Limits, ledger: Ledger) -> list[Found]:
    """The files that may be read: every one, unless it or the whole is over a limit (S06)."""
    total = sum(file.identity.n_bytes for file in found)
    if len(found) > limits.files:
        ledger.fail("S06", f"{len(found)} files, over {limits.files}")
    if total > limits.total_bytes:
        ledger.fail("S06", f"{total} B in all, over {limits.total_bytes} B")
        ledger.doubt("S10", "not read past the limits of S06")
        return []
    readable = []
    for file in found:
        if file.identity.n_bytes > limits.file_bytes:
            ledger.fail("S06", f"{name_of(file.path)} has {file.identity.n_bytes} B, over {limits.file_bytes} B")
            ledger.doubt("S10", f"{name_of(file.path)} was not read past the limits of S06")
        elif file.path != MANIFEST_NAME:
            readable.append(file)
    ledger.saw("S06", f"{len(found)} files, {total} B")
    return readable[: limits.files]


def _manifest(root: int, found: Sequence[Found], limits: Limits, ledger: Ledger) -> tuple[Manifest | None, str]:
    mine = next((file for file in found if file.path == MANIFEST_NAME), None)
    if mine is None:
        ledger.fail("S01", f"there is no {MANIFEST_NAME}; linepress pack writes one")
        return None, ""
    try:
        with open_file(root, mine) as descriptor:
            raw = os.read(descriptor, limits.manifest_bytes + 1)
    except OSError as error:
        ledger.fail("S01", f"{MANIFEST_NAME} cannot be read ({error.strerror})")
        return None, ""
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        manifest = parse_manifest(raw, limits)
    except ManifestError as error:
        ledger.fail("S01", str(error))
        return None, sha256
    if len(manifest.expected) > limits.expected:
        ledger.fail("S01", f"{len(manifest.expected)} expected results, over {limits.expected}")
    ledger.saw("S01", f"schema version {manifest.schema_version}, {len(raw)} B")
    return manifest, sha256


def _read(root: int, files: Sequence[Found], limits: Limits, ledger: Ledger) -> dict[str, FileFacts]:
    read: dict[str, FileFacts] = {}
    tensors = geometries = 0
    for file in files:
        try:
            with open_file(root, file) as descriptor:
                facts = read_file(file.path, descriptor, file.identity.n_bytes, limits, ledger, tensors)
        except OSError as error:
            ledger.fail("S10", f"{name_of(file.path)} cannot be read as it was found ({error.strerror})")
            continue
        read[file.path] = facts
        if facts.tensors is not None:
            tensors += len(facts.tensors.names)
            geometries += 1
    if not geometries and not ledger.failed("S07"):
        ledger.fail("S07", "there is no safetensors file in the submission")
    ledger.saw("S07", f"{geometries} files, {tensors} tensors; the own reader and the safetensors library agree")
    ledger.saw("S08", f"{geometries} files, {tensors} tensors")
    return read


def _judge(manifest: Manifest | None, read: dict[str, FileFacts], limits: Limits, ledger: Ledger) -> None:
    if manifest is not None:
        check_expected(manifest, read, ledger)
        check_hashes(manifest, read, ledger)
        if ledger.failed("S06", "S07"):
            ledger.doubt("S14", "not every tensor could be counted, see S06 and S07")
        if not ledger.failed("S14"):
            check_declared(manifest, read, ledger)
    else:
        ledger.doubt("S10", "needs a manifest that holds up")
    check_documents(read, limits, ledger)
