"""The record of a run in a store, brought here table by table as it is asked for.

What is fetched stays in the cache, checked against the manifest's sha256 each time it is used, so that a second look
at a run costs a request for its manifest and one a table. Nothing here writes to the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linepress.errors import RecordError
from linepress.records.files import footer_rows, write_atomically
from linepress.records.place import StorePath, at_once
from linepress.records.remote import cache_folder, folder_name

UNUSED_DAYS = 30
"""A copy that nothing looked at for so long goes when another run is fetched."""


class FetchedRecord:
    """One run in a store and its copy in the cache.

    Attributes
    ----------
    folder : Path
        The copy; holds what was fetched, in the layout of a run folder.
    """

    def __init__(self, place: StorePath, manifest: Mapping[str, Any]) -> None:
        self.place = place
        self.folder = cache_folder("records") / folder_name(str(place))
        self._known: Mapping[str, str] = manifest.get("parts") or {}
        self._parts: dict[str, list[Path]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
        except OSError as error:
            raise RecordError(
                f"{self.folder}: no place for a copy of {place} ({error.strerror}); set XDG_CACHE_HOME to a folder "
                "that can be written"
            ) from None
        self._forget_unused()

    def parts(self, table: str) -> list[Path]:
        """Part files of a table, fetched, in the order in which they were written."""
        if table not in self._parts:
            sizes = self._listed(table)
            self._parts[table] = at_once(sizes.items(), self._bring)
        return self._parts[table]

    def count_rows(self, table: str) -> int:
        """Rows stored of a table, superseded ones included, from the footers of its parts."""
        return sum(at_once(self._listed(table), self._footer_rows))

    def fetch(self, *names: str) -> None:
        """Bring files or folders, everything without a name; what is not in the store goes from the copy too."""

        def wanted(file: str) -> bool:
            return not names or any(file == name or file.startswith(f"{name}/") for name in names)

        listed = self.place.files()
        for file in [file for file in self.folder.rglob("*") if file.is_file()]:
            name = file.relative_to(self.folder).as_posix()
            if wanted(name) and name not in listed:
                file.unlink(missing_ok=True)
        at_once([(name, size) for name, size in listed.items() if wanted(name)], self._bring)

    def _listed(self, table: str) -> dict[str, int]:
        found = (self.place / "tables" / table).files()
        return {f"tables/{table}/{name}": size for name, size in found.items() if name.startswith("part-")}

    def _footer_rows(self, name: str) -> int:
        part = self.place / name
        with part.seekable() as file:
            return footer_rows(part, file)

    def _bring(self, listed: tuple[str, int]) -> Path:
        """One file of the record as it is in the store; raises `RecordError` for one that is not what was written."""
        name, size = listed
        target, wanted = self.folder / name, self._known.get(name)
        here = wanted is not None and target.is_file() and target.stat().st_size == size
        if here and hashlib.sha256(target.read_bytes()).hexdigest() == wanted:
            return target
        try:
            data = (self.place / name).read_bytes()
        except FileNotFoundError:
            raise RecordError(
                f"{self.place / name}: went while it was read, the run is being written; give the same command again"
            ) from None
        if wanted is not None and hashlib.sha256(data).hexdigest() != wanted:
            raise RecordError(
                f"{self.place / name}: differs from what was written (sha256); put it back, or run anew elsewhere"
            )
        write_atomically(target, data)
        return target

    def _forget_unused(self) -> None:
        for other in self.folder.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process forgot it first
                if other != self.folder and time.time() - other.stat().st_mtime > UNUSED_DAYS * 86_400:
                    shutil.rmtree(other, ignore_errors=True)
