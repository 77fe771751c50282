"""S05: names that mean the same file everywhere and nothing else anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from linepress.submission.check.ledger import Ledger, name_of

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 1024
_DRIVE = re.compile(r"[A-Za-z]:")


def name_problem(path: str) -> str | None:
    """Why ``path`` is no name for a file of a submission; None when it is one."""
    if not path:
        return "is empty"
    if path.startswith("/") or _DRIVE.match(path):
        return "is absolute"
    if "\\" in path:
        return "has a backslash"
    if not path.isprintable():
        return "has a control character or one that cannot be printed"
    parts = path.split("/")
    if ".." in parts:
        return "climbs out of the folder ('..')"
    if any(not part for part in parts):
        return "has an empty component"
    if any(part.startswith(".") for part in parts):
        return "has a component with a leading dot"
    encoded = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    if max(encoded) > MAX_COMPONENT_BYTES:
        return f"has a component over {MAX_COMPONENT_BYTES} B"
    if sum(encoded) + len(parts) - 1 > MAX_PATH_BYTES:
        return f"is over {MAX_PATH_BYTES} B"
    return None


def check_names(in_folder: Iterable[str], in_manifest: Iterable[str], ledger: Ledger) -> None:
    """Judge every name, of the folder and of the manifest, and collisions within each."""
    folder, manifest = list(in_folder), list(in_manifest)
    for where, names in (("", folder), ("manifest: ", manifest)):
        folded: dict[str, str] = {}
        for path in names:
            if reason := name_problem(path):
                ledger.fail("S05", f"{where}{name_of(path)} {reason}")
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
            other = folded.setdefault(key, path)
            if other is not path:
                ledger.fail("S05", f"{where}{name_of(path)} and {name_of(other)} are one name on some file systems")
    ledger.saw("S05", f"{len(set(folder) | set(manifest))} names")
