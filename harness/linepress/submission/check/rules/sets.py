"""S03, S10, S14: the folder is the manifest, file by file, byte by byte, tensor by tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME, PARTS_FOLDER
from linepress.submission.check.manifest import Manifest
from linepress.submission.check.reading import FileFacts
from linepress.submission.check.tree import Found, Identity

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def check_set(manifest: Manifest, found: Sequence[Found], ledger: Ledger) -> None:
    """S03; with ``delivery: reference`` a file of the manifest may be absent, and none may be extra."""
    here = {file.path for file in found} - {MANIFEST_NAME}
    listed = Counter(entry.path for entry in manifest.files)
    for path, times in sorted(listed.items()):
        if times > 1:
            ledger.fail("S03", f"the manifest lists {name_of(path)} {times} times")
    for path in sorted(here - listed.keys()):
        if path.startswith(f"{PARTS_FOLDER}/"):
            ledger.fail("S03", f"{name_of(path)} is half fetched; run linepress fetch again")
        else:
            ledger.fail("S03", f"{name_of(path)} is not in the manifest")
    absent = sorted(listed.keys() - here)
    for path in absent:
        if manifest.delivery == "files":
            ledger.fail("S03", f"{name_of(path)} is in the manifest and not in the folder")
    if absent and manifest.delivery == "reference":
        for rule in ("S02", "S07", "S08", "S09", "S10", "S13", "S14"):
            ledger.doubt(
                rule, f"{len(absent)} files are referenced and not here; run linepress fetch, then submit again"
            )
    ledger.saw("S03", f"{len(listed)} files here and in the manifest")


def check_expected(manifest: Manifest, read: Mapping[str, FileFacts], ledger: Ledger) -> None:
    """S01, second half: every expected result is about a tensor of a safetensors file that the manifest lists."""
    listed = {entry.path for entry in manifest.files if entry.format == "safetensors"}
    names = {path: set(facts.tensors.names) for path, facts in read.items() if facts.tensors is not None}
    for number, entry in enumerate(manifest.expected):
        label = f"expected[{number}]"
        if entry.file not in listed:
            ledger.fail("S01", f"{label}.file {name_of(entry.file)} is no safetensors file of the manifest")
        elif entry.file not in names:
            ledger.doubt("S01", f"{label}.file {name_of(entry.file)} could not be read, see S07")
        elif entry.tensor not in names[entry.file]:
            ledger.fail("S01", f"{label}.tensor {name_of(entry.tensor)} is not in {name_of(entry.file)}")


def check_hashes(manifest: Manifest, read: Mapping[str, FileFacts], ledger: Ledger) -> None:
    """S10, first half: size and sha256 of what was read are those of the manifest."""
    for entry in manifest.files:
        if not _SHA256.match(entry.sha256):
            ledger.fail("S10", f"{name_of(entry.path)}: sha256 {name_of(entry.sha256)} is not 64 hex digits")
        facts = read.get(entry.path)
        if facts is None:
            continue
        if facts.n_bytes != entry.bytes:
            ledger.fail("S10", f"{name_of(entry.path)} has {facts.n_bytes} B, the manifest says {entry.bytes} B")
        if facts.sha256 and facts.sha256 != entry.sha256:
            ledger.fail("S10", f"{name_of(entry.path)} has sha256 {facts.sha256[:12]}…, not the manifest's")
        if facts.kind and facts.kind != entry.format:
            ledger.fail("S02", f"{name_of(entry.path)} is {facts.kind}, the manifest says {entry.format}")


def check_still(found: Sequence[Found], now: Mapping[str, Identity | None], ledger: Ledger) -> None:
    """S10, second half: at the end every name still stands for the file that was read."""
    for file in found:
        if now.get(file.path) != file.identity:
            ledger.fail("S10", f"{name_of(file.path)} changed while the submission was being checked")
    ledger.saw("S10", f"{len(found)} files hashed and still the same at the end")


def check_declared(manifest: Manifest, read: Mapping[str, FileFacts], ledger: Ledger) -> None:
    """S14."""
    tensors = [facts.tensors for facts in read.values() if facts.tensors is not None]
    dtypes = Counter(dtype for part in tensors for dtype in part.dtypes)
    count = sum(dtypes.values())
    n_bytes = sum(sum(part.ends) - sum(part.begins) for part in tensors)
    declared = manifest.declares
    for what, said, have in (
        ("tensors", declared.tensors, count),
        ("bytes of tensors", declared.tensor_bytes, n_bytes),
    ):
        if said != have:
            ledger.fail("S14", f"the manifest declares {said} {what}, the files hold {have}")
    for dtype in sorted(declared.dtypes.keys() | dtypes.keys()):
        if declared.dtypes.get(dtype, 0) != dtypes.get(dtype, 0):
            ledger.fail(
                "S14",
                f"the manifest declares {declared.dtypes.get(dtype, 0)} tensors of {name_of(dtype)}, the files hold "
                f"{dtypes.get(dtype, 0)}",
            )
    if not count:
        ledger.fail("S14", "there is no tensor in the submission")
    ledger.saw("S14", f"{count} tensors, {n_bytes} B")
