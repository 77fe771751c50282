"""S05: names that mean the same file everywhere and nothing else anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from linepress.submission.check.ledger import Ledger, name_of

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 1024
_DRIVE = re.compile(r"[A-Za-z]:")
_ELSEWHERE = ':"|?*'
"""Not for names on Windows, and a question mark begins the options of a source. (Angle brackets are not for names
there either; they are names here, escaped wherever they are shown.)"""
_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(?:\.|\Z)", re.IGNORECASE
)
"""Names of devices on Windows, whatever follows the first dot."""
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show as nothing: fillers, joiners and variation selectors
(Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties, and the blank of Braille)."""
_LATIN = re.compile("[A-Za-z]")
_ALIKE = re.compile(
    "[\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03bd\u03bf\u03c1\u03c5\u03f2\u03f3"
    "\u0405\u0406\u0408\u0410\u0412\u0415\u041a\u041c-\u041e\u0420-\u0423\u0425\u0430\u0435\u043e\u0440\u0441\u0443\u0445"
    "\u0455\u0456\u0458\u04bb\u04c0\u04cf\u0501\u051b\u051d\u0555\u0570\u057d\u0578\u0585\u13a0-\u13f5]"
)
"""Letters of Greek, Cyrillic, Armenian and Cherokee that look like Latin ones (confusables.txt of Unicode TR 39)."""


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
    if _UNSEEN.search(path):
        return "has a character that cannot be seen"
    if any(_ALIKE.search(part) and _LATIN.search(part) for part in parts):
        return "mixes Latin letters with letters of other scripts that look like them"
    if any(c in _ELSEWHERE for c in path):
        return f"has one of {_ELSEWHERE}, which means something else on some systems"
    if any(part != part.strip(" ") or part.endswith(".") for part in parts):
        return "has a component that begins or ends with a space, or ends with a dot"
    if any(_DEVICE.match(part) for part in parts):
        return "is the name of a device on some systems"
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
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
            other = folded.setdefault(key, path)
            if other is not path:
                ledger.fail("S05", f"{where}{name_of(path)} and {name_of(other)} are one name on some file systems")
    ledger.saw("S05", f"{len(set(folder) | set(manifest))} names")
