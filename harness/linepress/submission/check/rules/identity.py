"""S11, S12, S16: where it comes from, whether it may be passed on, whose it is."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path

from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.manifest import Manifest
from linepress.suite.yaml12 import parse_yaml

UPLOAD = "upload"
_REVISION = re.compile(r"[0-9a-f]{40}\Z")
_HUB = re.compile(r"hf://[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}\Z", re.ASCII)
SLUG = re.compile(
    r"(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z))"  # devices on Windows, with any suffix
    r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?\Z"
)
"""Name of a partner or a submission: both become names of folders."""


def like_licence(spdx: str) -> str:
    """``; did you mean Apache-2.0?`` for what is nearly the identifier of a licence on the list, else empty."""
    known = {known.casefold(): known for known in licences()}
    plain = "-".join(spdx.casefold().replace("license", " ").replace("licence", " ").split())
    near = known.get(plain) or next(
        (known[one] for one in difflib.get_close_matches(plain, known, n=1, cutoff=0.75)), None
    )
    return f"; did you mean {near}?" if near is not None and near != spdx else ""


@functools.cache
def licences() -> tuple[str, ...]:
    """SPDX identifiers that allow redistribution, from ``data/licences.yaml``."""
    text = files("linepress.submission").joinpath("data/licences.yaml").read_text(encoding="utf-8")
    return tuple(entry["spdx"] for entry in parse_yaml(text, Path("licences.yaml")).data["licences"])


def check_source(manifest: Manifest, ledger: Ledger) -> None:
    """S11."""
    uri, revision = manifest.source.uri, manifest.source.revision
    if uri == UPLOAD:
        if revision is not None:
            ledger.fail("S11", "source upload has a revision; the files' own sha256 are its identity, leave it out")
        if manifest.delivery == "reference":
            ledger.fail("S11", "files by reference need a source they can be fetched from: hf://org/name")
        ledger.saw("S11", "uploaded files, each pinned by its sha256")
        return
    if not _HUB.match(uri):
        ledger.fail("S11", f"source {name_of(uri)} is neither hf://org/name nor {UPLOAD}")
    if revision is None or not _REVISION.match(revision):
        shown = name_of(revision) if revision is not None else "missing"
        ledger.fail("S11", f"revision {shown} is not 40 hex digits; a branch or tag can move, give the commit")
    ledger.saw("S11", f"{uri}@{revision}")


def check_licence(manifest: Manifest, waivers: Collection[str], ledger: Ledger) -> None:
    """S12; ``waivers`` are the ids that the receiving side has granted."""
    licence = manifest.licence
    waived = licence.waiver is not None and licence.waiver in waivers
    if licence.waiver is not None and not waived:
        ledger.fail("S12", f"waiver {name_of(licence.waiver)} has not been granted; ask for one and submit again")
    reasons = []
    if licence.spdx not in licences():
        reasons.append(
            f"licence {name_of(licence.spdx)} is not on the list of licences that allow redistribution"
            f"{like_licence(licence.spdx)}"
        )
    if not licence.redistribution:
        reasons.append("the licence forbids redistribution")
    if licence.gated:
        reasons.append("the source is gated")
    for reason in reasons:
        if not waived:
            ledger.fail("S12", f"{reason}, and no waiver covers it")
    ledger.saw("S12", f"{licence.spdx}" + (f" under waiver {licence.waiver}" if waived and reasons else ""))


def check_owner(manifest: Manifest, folder: Path, submitter: str | None, ledger: Ledger) -> None:
    """S16: the folder is ``…/<submitter>/<name>``, and ``submitter`` (who hands it in, if known) agrees."""
    for what, text in (("submitter", manifest.submitter), ("name", manifest.name)):
        if not SLUG.match(text):
            ledger.fail("S16", f"{what} {name_of(text)} is not lower-case letters, digits, '.' and '-' (at most 64)")
    if folder.parent.name != manifest.submitter:
        ledger.fail(
            "S16",
            f"folder {name_of(folder.parent.name)} is not the manifest's submitter {name_of(manifest.submitter)}",
        )
    if folder.name != manifest.name:
        ledger.fail("S16", f"folder {name_of(folder.name)} is not the manifest's name {name_of(manifest.name)}")
    if submitter is not None and submitter != manifest.submitter:
        ledger.fail("S16", f"handed in by {name_of(submitter)} for {name_of(manifest.submitter)}")
    ledger.saw("S16", f"{manifest.submitter}/{manifest.name}")
