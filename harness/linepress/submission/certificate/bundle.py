"""The container of a certificate: an uncompressed ZIP, the same bytes for the same contents, read with caps.

Entries are stored, never compressed, so a bundle cannot grow when it is opened; names come from a closed list.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from linepress.errors import LinepressError

STATEMENT = "certificate.dsse.json"
SIGNER = "signer.pub"
BUNDLE_BYTES = 1 << 30
ENTRY_NAME = re.compile(
    r"(?:certificate\.dsse\.json|signer\.pub|manifest\.yaml|verdict\.json|verdict\.html|report\.html|run\.json|"
    r"environment\.json|bom\.json|suite\.yaml|tables/[a-z]{1,32}\.parquet)\Z"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


class BundleError(LinepressError):
    """A file that is not a certificate bundle."""

    exit_code = 1


def write_bundle(entries: Mapping[str, bytes]) -> bytes:
    """The bundle of ``entries``, in the order of their names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, entries[name])
    return out.getvalue()


def read_bundle(path: Path) -> dict[str, bytes]:
    """Every entry of a bundle; raises `BundleError` for anything but what `write_bundle` writes."""
    try:
        if path.stat().st_size > BUNDLE_BYTES:
            raise BundleError(f"{path}: over {BUNDLE_BYTES} B; it is not a certificate bundle")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise LinepressError(f"{path}: there is no such file; check the path") from None
    entries: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for info in archive.infolist():
                if not ENTRY_NAME.match(info.filename) or info.filename in entries:
                    raise BundleError(f"{path}: has an entry that no certificate has, or has it twice")
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(raw) or info.flag_bits & 1:
                    raise BundleError(f"{path}: has a compressed or encrypted entry; it is not a certificate bundle")
                entries[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError):
        raise BundleError(f"{path}: not a certificate bundle, or damaged; ask for it again") from None
    # What the ZIP does not list is not covered by the statement either, so nothing else may be in the file.
    if write_bundle(entries) != raw:
        raise BundleError(f"{path}: holds bytes besides its entries; ask for it again")
    return entries
