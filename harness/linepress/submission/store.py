"""Where accepted submissions are kept: every file once, under its sha256.

::

    objects/ab/ab12…                            bytes, read-only
    submissions/<submitter>/<name>/verdict.json   what was found
    submissions/<submitter>/<name>/files/…        manifest and files, links to the objects

What is stored is hashed while it is copied and must be what was checked, so a file that changes between check and use
cannot get in. A crash leaves leftovers in ``incoming/`` and never a submission in part.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from linepress.errors import LinepressError
from linepress.submission.check.ledger import EXIT_REFUSED, Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME, Limits
from linepress.submission.check.tree import Found, open_file, open_root, walk
from linepress.submission.report import Report

BUFFER_BYTES = 1 << 20
VERDICT = "verdict.json"


class StoreError(LinepressError):
    """A submission that cannot be kept: not accepted, changed since its check, or of a name already taken."""

    exit_code = EXIT_REFUSED


class SubmissionStore:
    """A folder of accepted submissions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self, submitter: str, name: str) -> Path:
        """Folder with the files of an accepted submission."""
        return self._place(submitter, name) / "files"

    def accept(self, report: Report) -> Path:
        """Keep the submission of ``report`` and return its folder; the same content twice is kept once.

        Raises `StoreError` when the report is not an acceptance, when a file is no longer what was checked, and when
        other content of that name is there already.
        """
        if report.exit_code != 0 or report.manifest is None:
            raise StoreError(f"{name_of(report.folder, 300)}: {report.verdict}; only what passes every rule is kept")
        place = self._place(report.manifest["submitter"], report.manifest["name"])
        if place.exists():
            return self._same(place, report)
        wanted = {file["path"]: file["sha256"] for file in report.files} | {MANIFEST_NAME: report.manifest_sha256}
        (self.path / "incoming").mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(dir=self.path / "incoming"))
        try:
            self._copy(Path(report.folder), wanted, incoming)
            (incoming / VERDICT).write_text(
                json.dumps({**report.document(), "manifest": report.manifest}, indent=2) + "\n", encoding="utf-8"
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                incoming.rename(place)
            except OSError:
                # another process was first with this name
                if not place.exists():
                    raise
                return self._same(place, report)
            _sync(place.parent)
        except OSError as error:
            raise LinepressError(
                f"{self.path}: the submission cannot be stored ({error.strerror or error}); make room or mend the "
                "folder and submit again"
            ) from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return place

    def _place(self, submitter: str, name: str) -> Path:
        return self.path / "submissions" / submitter / name

    def _same(self, place: Path, report: Report) -> Path:
        kept = json.loads((place / VERDICT).read_text(encoding="utf-8"))["manifest_sha256"]
        if kept != report.manifest_sha256:
            raise StoreError(
                f"{place.parent.name}/{place.name} is accepted already with other content; give this one a new name"
            )
        return place

    def _copy(self, folder: Path, wanted: dict[str, str], incoming: Path) -> None:
        root = open_root(folder)
        try:
            found = {file.path: file for file in walk(root, Limits(), Ledger())}
            if found.keys() != wanted.keys():
                raise StoreError(f"{name_of(str(folder), 300)} changed since it was checked; submit it again")
            for path, sha256 in wanted.items():
                stored = self._store(root, found[path], sha256)
                target = incoming / "files" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.hardlink_to(stored)
        finally:
            os.close(root)

    def _store(self, root: int, found: Found, sha256: str) -> Path:
        place = self.path / "objects" / sha256[:2] / sha256
        place.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        descriptor, temporary = tempfile.mkstemp(dir=self.path / "incoming")
        try:
            with os.fdopen(descriptor, "wb") as out, open_file(root, found) as source:
                while part := os.read(source, BUFFER_BYTES):
                    digest.update(part)
                    out.write(part)
                    if out.tell() > found.identity.n_bytes:
                        break
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != sha256:
                raise StoreError(f"{name_of(found.path)} changed since it was checked; submit it again")
            Path(temporary).chmod(0o444)
            Path(temporary).replace(place)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync(place.parent)
        return place


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
