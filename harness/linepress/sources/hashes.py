"""Hashes of contents, remembered on this machine: by path, size, modification and change time and range."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from linepress.environment import cache_root

_QUERY_ROWS = 500


class HashCache:
    """sha256 by identity in a small SQLite file; a file that cannot be used only costs time.

    Parameters
    ----------
    path : Path | None
        The file; ``$XDG_CACHE_HOME/linepress/content.sqlite`` by default.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_root() / "linepress" / "content.sqlite"

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=5)
        connection.execute("CREATE TABLE IF NOT EXISTS content (identity TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
        return connection

    def get(self, identities: Sequence[str]) -> dict[str, str]:
        """The known ones among ``identities``."""
        found: dict[str, str] = {}
        try:
            with closing(self._connect()) as connection:
                for start in range(0, len(identities), _QUERY_ROWS):
                    some = identities[start : start + _QUERY_ROWS]
                    marks = ",".join("?" * len(some))
                    query = f"SELECT identity, sha256 FROM content WHERE identity IN ({marks})"
                    found.update(dict(connection.execute(query, list(some)).fetchall()))
        except (sqlite3.Error, OSError):
            return found
        return found

    def put(self, entries: Mapping[str, str]) -> bool:
        """Remember; False where the file cannot be written."""
        try:
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR REPLACE INTO content VALUES (?, ?)", list(entries.items()))
        except (sqlite3.Error, OSError):
            return False
        return True
