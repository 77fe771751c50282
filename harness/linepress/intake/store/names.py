"""Names that were validated: a partner's name stands for one content for good, also when it was deleted since.

Content are the files without the manifest, so the same files may be validated again with another suite or hardware.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, and_, insert, select

from linepress.intake.http.answers import RefusedError
from linepress.intake.store.database import names
from linepress.submission.check.limits import MANIFEST_NAME


def content_of(files: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over path and sha256 of every file but the manifest."""
    digest = hashlib.sha256()
    for path, sha256 in sorted((str(file["path"]), str(file["sha256"])) for file in files):
        if path != MANIFEST_NAME:
            digest.update(path.encode("utf-8", "surrogatepass") + b"\0" + sha256.encode() + b"\n")
    return digest.hexdigest()


def check(conn: Connection, partner: str, name: str, content: str) -> bool:
    """Whether the name is taken by this very content; raises `RefusedError` (409) when it is by another."""
    query = select(names.c.content).where(and_(names.c.partner == partner, names.c.name == name))
    kept = conn.execute(query).scalar()
    if kept is not None and kept != content:
        raise RefusedError(409, "name_taken", f"{name} was validated with other files; pack these under a new --name")
    return kept is not None


def claim(conn: Connection, now: float, partner: str, name: str, content: str, submission: str) -> None:
    """Give the name to this content for good; raises `RefusedError` (409) when another has it."""
    if not check(conn, partner, name, content):
        row = {"partner": partner, "name": name, "content": content, "submission": submission, "at": now}
        conn.execute(insert(names).values(**row))
