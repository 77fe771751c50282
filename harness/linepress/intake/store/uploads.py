"""Resumable uploads: bytes are appended at an offset, flushed to the disk, then acknowledged.

The offset in the database is the promise: it moves only after ``fsync`` of the file, in a transaction that is itself
flushed. Whatever the file holds past it was never acknowledged and is cut off by the next request. The exchange is
that of tus 1.0.0 (https://tus.io/protocols/resumable-upload): HEAD tells the offset, PATCH appends at it, 409 answers
any other offset, ``Upload-Checksum`` guards one request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from linepress.intake.http.answers import RefusedError, unknown_submission
from linepress.intake.settings import Settings
from linepress.intake.store import states
from linepress.intake.store.database import Database, files, submissions

COMMIT_BYTES = 64 << 20
"""Bytes after which a long request is acknowledged in the database while it still goes on."""
CHECKSUM_MISMATCH = 460
"""Status that tus 1.0.0 gives a request whose checksum does not hold."""


@dataclass(frozen=True, slots=True)
class Target:
    """One file of an upload: who may write it, its length and how much of it is acknowledged, in bytes."""

    submission: str
    number: int
    length_bytes: int
    offset_bytes: int


def part_path(settings: Settings, submission: str, number: int) -> Path:
    """Where the bytes lie until the upload is complete; no name of a partner is in it."""
    return settings.uploads / submission / f"{number}.part"


def find(db: Database, partner: str, submission: str, number: int) -> Target:
    """The file a partner may upload; raises `RefusedError` (404 for another's)."""
    query = (
        select(files, submissions.c.state)
        .join(submissions, submissions.c.id == files.c.submission)
        .where(and_(files.c.submission == submission, files.c.number == number, submissions.c.partner == partner))
    )
    with db.read() as conn:
        row = conn.execute(query).mappings().first()
    if row is None:
        raise unknown_submission()
    if row["from_hub"]:
        raise RefusedError(409, "from_hub", "this file is fetched from the hub and is not uploaded")
    if row["state"] == states.WITHDRAWN:
        raise RefusedError(410, "gone", "the submission was deleted; make a new one")
    return Target(submission, number, row["bytes"], row["offset"])


async def append(
    db: Database,
    settings: Settings,
    now: Callable[[], float],
    partner: str,
    submission: str,
    number: int,
    offset_bytes: int,
    checksum: bytes | None,
    body: AsyncIterator[bytes],
    still_may: Callable[[Connection], bool] = lambda conn: True,
) -> int:
    """Append a request's body at ``offset_bytes``; returns the acknowledged offset.

    ``still_may`` is asked in the transaction of each acknowledgement: a token that was revoked meanwhile brings
    nothing in.

    A body that breaks off, or falls silent, keeps what came unless it has a checksum. Raises `RefusedError`, or
    `OSError` where the disk does not take it.
    """
    target = await run_in_threadpool(find, db, partner, submission, number)
    writer = await run_in_threadpool(_Writer.open, db, settings, now, target, offset_bytes, still_may)
    try:
        return await _fill(writer, settings, checksum, body)
    finally:
        await run_in_threadpool(writer.close)


async def _fill(writer: _Writer, settings: Settings, checksum: bytes | None, body: AsyncIterator[bytes]) -> int:
    digest = hashlib.sha256()
    waiting = bytearray()
    broken: RefusedError | ClientDisconnect | None = None
    source = body.__aiter__()
    begun_s, came = time.monotonic(), 0
    while True:
        elapsed_s = time.monotonic() - begun_s
        if elapsed_s > settings.idle_s + came / settings.upload_Bps:
            broken = RefusedError(
                408,
                "slow",
                f"{came} B came in {elapsed_s:.0f} s; ask for the offset and go on over a faster way",
            )
            break
        try:
            piece = await asyncio.wait_for(source.__anext__(), settings.idle_s)
        except StopAsyncIteration:
            break
        except ClientDisconnect as gone:
            broken = gone
            break
        except TimeoutError:
            broken = RefusedError(
                408, "idle", f"nothing came for {settings.idle_s:g} s; ask for the offset and go on"
            )
            break
        if writer.at + len(waiting) + len(piece) > writer.target.length_bytes:
            # Nothing of a request that says more than it may is kept: it is not the file that was declared.
            await run_in_threadpool(writer.undo)
            raise RefusedError(413, "too_long", f"the file was declared with {writer.target.length_bytes} B")
        digest.update(piece)
        came += len(piece)
        waiting += piece
        if len(waiting) >= settings.chunk_bytes:
            await run_in_threadpool(writer.write, bytes(waiting), checksum is None)
            waiting.clear()
    if checksum is not None and (broken is not None or digest.digest() != checksum):
        await run_in_threadpool(writer.undo)
        if broken is None:
            raise RefusedError(CHECKSUM_MISMATCH, "checksum", "Upload-Checksum does not hold; send these bytes again")
    else:
        await run_in_threadpool(writer.write, bytes(waiting), False)
        await run_in_threadpool(writer.acknowledge)
    if broken is not None:
        raise broken
    return writer.at


def parse_checksum(header: str | None) -> bytes | None:
    """``sha256 <base64>`` as bytes; None without the header. Raises `RefusedError`."""
    if header is None:
        return None
    algorithm, _, text = header.partition(" ")
    try:
        digest = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm != "sha256" or len(digest) != 32:
        raise RefusedError(400, "checksum", "Upload-Checksum is not 'sha256 ' and 32 bytes in base64")
    return digest


def check_room(settings: Settings, wanted_bytes: int) -> None:
    """Raise `RefusedError` (507) when ``wanted_bytes`` more would not leave the reserve free."""
    free = shutil.disk_usage(settings.uploads).free
    if free - wanted_bytes < settings.disk_reserve_bytes:
        raise RefusedError(
            507, "disk", "the service has no room for this now; try again later", {"Retry-After": "3600"}
        )


def promised_bytes(conn: Connection) -> int:
    """Bytes that were declared, by any partner, and have still to come: room that is not free though it is empty."""
    coming = or_(
        submissions.c.state == states.UPLOADING,
        and_(submissions.c.state == states.RECEIVED, files.c.from_hub.is_(True)),
    )
    query = (
        select(func.coalesce(func.sum(files.c.bytes - files.c.offset), 0))
        .join(submissions, submissions.c.id == files.c.submission)
        .where(coming)
    )
    return int(conn.execute(query).scalar_one())


class _Writer:
    """The one writer of a file, holding its lock."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        now: Callable[[], float],
        target: Target,
        descriptor: int,
        still_may: Callable[[Connection], bool],
    ) -> None:
        self._settings = settings
        self._still_may = still_may
        self.target = target
        self.at = target.offset_bytes
        self._acknowledged = target.offset_bytes
        self._db = db
        self._now = now
        self._descriptor = descriptor

    @classmethod
    def open(
        cls,
        db: Database,
        settings: Settings,
        now: Callable[[], float],
        target: Target,
        offset_bytes: int,
        still_may: Callable[[Connection], bool],
    ) -> _Writer:
        # Before anything is made: a part beside a file that is complete would take its place.
        target = _refreshed(db, target)
        path = part_path(settings, target.submission, target.number)
        fresh = not path.exists()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError(
                    423, "locked", "another request is writing this file; wait for it", {"Retry-After": "1"}
                ) from None
            if fresh:
                _sync_folders(path.parent, settings.uploads)
            # The offset is read again under the lock: another request may have moved it in between.
            target = _refreshed(db, target)
            if offset_bytes != target.offset_bytes:
                raise RefusedError(
                    409,
                    "offset",
                    f"{target.offset_bytes} B are here, the request begins at {offset_bytes} B; go on from there",
                    {"Upload-Offset": str(target.offset_bytes)},
                )
            if os.fstat(descriptor).st_size < target.offset_bytes:
                raise RefusedError(
                    500, "damaged", "the service lost bytes of this file; delete the submission, start anew"
                )
            os.ftruncate(descriptor, target.offset_bytes)
            os.lseek(descriptor, target.offset_bytes, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(db, settings, now, target, descriptor, still_may)

    def write(self, data: bytes, may_acknowledge: bool) -> None:
        view = memoryview(data)
        check_room(self._settings, len(view))
        try:
            while view:
                done = os.write(self._descriptor, view)
                view = view[done:]
                self.at += done
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RefusedError(507, "disk", "the service has no room for this now; try again later") from None
            raise
        if may_acknowledge and self.at - self._acknowledged >= COMMIT_BYTES:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Flush the bytes, then move the offset; a submission that left its upload meanwhile takes nothing more."""
        if self.at == self._acknowledged:
            return
        os.fsync(self._descriptor)
        target = self.target
        uploading = select(submissions.c.id).where(
            and_(submissions.c.id == target.submission, submissions.c.state == states.UPLOADING)
        )
        mine = and_(
            files.c.submission == target.submission,
            files.c.number == target.number,
            files.c.offset == self._acknowledged,
            files.c.submission.in_(uploading),
        )
        with self._db.write() as conn:
            if not self._still_may(conn):
                raise RefusedError(401, "token", "the token was revoked while this came; nothing more is taken")
            done = conn.execute(update(files).where(mine).values(offset=self.at, updated_at=self._now()))
        if done.rowcount != 1:
            raise RefusedError(409, "state", "the submission takes no more bytes; look at its state")
        self._acknowledged = self.at

    def undo(self) -> None:
        """Forget what this request brought."""
        os.ftruncate(self._descriptor, self._acknowledged)
        os.lseek(self._descriptor, self._acknowledged, os.SEEK_SET)
        self.at = self._acknowledged

    def close(self) -> None:
        os.close(self._descriptor)


def _refreshed(db: Database, target: Target) -> Target:
    query = (
        select(files.c.offset, submissions.c.state)
        .join(submissions, submissions.c.id == files.c.submission)
        .where(and_(files.c.submission == target.submission, files.c.number == target.number))
    )
    with db.read() as conn:
        row: Any = conn.execute(query).one()
    if row.state != states.UPLOADING:
        raise RefusedError(409, "state", f"the submission is {row.state} and takes no more bytes")
    return Target(target.submission, target.number, target.length_bytes, row.offset)


def _sync_folders(*folders: Path) -> None:
    """Flush directory entries: a file whose name is lost is lost."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
