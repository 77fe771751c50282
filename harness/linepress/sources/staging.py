"""A tensor made cheap to read again: bytes that cost a download, a draw or a cast are written to a local file once.

A case reads its tensor several times (hash, tables, bounds, codec). `staged` gives the same bytes in a temporary
file; the last few are kept per process for the next variants of the same tensor, within a byte budget, and are gone
when the process ends. Plain files are read in place.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.ahead import Ahead, copy
from linepress.sources.base import TensorRef
from linepress.sources.bytes import FileBytes, cache_key
from linepress.sources.hashes import HashCache
from linepress.sources.memo import Memo

BUDGET_BYTES = int(os.environ.get("LINEPRESS_STAGING_BYTES", 8 << 30))
"""Bytes of staged files kept per process; the tensor in use may exceed it."""
IN_USE = 4
"""Staged files, the newest, that the case at work may be reading: a tensor and its base, as stored and cast."""
PREFIX = "linepress-stage-"


@dataclass(frozen=True, slots=True)
class Staged:
    """A tensor ready to be read many times.

    Attributes
    ----------
    tensor : TensorRef
        The bytes after the cast, from a local file; its ``cast`` is empty and its format the cast's.
    content_sha256 : str
        Hash of the bytes as stored, before the cast.
    stored, key
        The tensor as stored, and what `cache_key` said of it before it was hashed.
    """

    tensor: TensorRef
    content_sha256: str
    stored: TensorRef
    key: str

    def check_unchanged(self) -> None:
        """Raise `SourceError` if the stored bytes may have changed since they were hashed, whatever its date says."""
        if cache_key(self.stored.location) != self.key:
            raise SourceError(
                f"{self.stored.uri}: tensor {self.stored.name!r} was written to while it was measured; keep the file "
                "still and give the same command again"
            )


class _Stage:
    """Staged files of this process, oldest first."""

    def __init__(self) -> None:
        self._pid = -1
        self._folder = Path()
        self._kept: OrderedDict[str, tuple[FileBytes, str]] = OrderedDict()
        self._ahead = Ahead()

    def of(self, tensor: TensorRef) -> tuple[FileBytes, str]:
        """Where the bytes of ``tensor`` lie locally, and their sha256."""
        if self._pid != os.getpid():
            self._begin()
        key = _key(tensor)
        kept = self._kept.get(key)
        if kept is None and self._ahead.key == key:
            self._collect()
            kept = self._kept.get(key)
        if kept is None:
            self._make_room(tensor)
            kept = self._kept[key] = self._write(tensor)
        self._kept.move_to_end(key)
        return kept

    def ahead(self, tensor: TensorRef) -> None:
        """Begin to fetch a tensor that is needed next, after waiting for the one asked before: it is needed now."""
        if self._pid != os.getpid():
            self._begin()
        key = _key(tensor)
        if key in self._kept or key == self._ahead.key:
            return
        if self._ahead.key:
            self._collect()
        self._make_room(tensor, IN_USE)
        self._ahead.ask(key, tensor, self._folder / f"ahead-{hashlib.sha256(key.encode()).hexdigest()[:16]}")

    def _collect(self) -> None:
        """Keep what was fetched ahead, if that went well."""
        key, fetched = self._ahead.key, self._ahead.take()
        if fetched is not None:
            path, digest = fetched
            self._kept[key] = FileBytes.of(path, 0, path.stat().st_size), digest

    def _make_room(self, tensor: TensorRef, in_use: int = 0) -> None:
        held = sum(file.n_bytes for file, _ in self._kept.values())
        while len(self._kept) > in_use and held + tensor.n_bytes > BUDGET_BYTES:
            _, (oldest, _) = self._kept.popitem(last=False)
            held -= oldest.n_bytes
            Path(oldest.path).unlink(missing_ok=True)
        if shutil.disk_usage(self._folder).free < tensor.n_bytes:
            raise SourceError(
                f"tensor {tensor.name!r} needs {tensor.n_bytes} B of temporary space in {self._folder.parent}; "
                "free some or set TMPDIR to a larger disk"
            )

    def _write(self, tensor: TensorRef) -> tuple[FileBytes, str]:
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        path = Path(name)
        try:
            digest = copy(tensor, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return FileBytes.of(path, 0, tensor.n_bytes), digest

    def _begin(self) -> None:
        # a forked worker must neither use nor delete its parent's files
        prefix = f"{PREFIX}{socket.gethostname()}-"
        _sweep(Path(tempfile.gettempdir()), prefix)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
        self._pid, self._kept, self._ahead = os.getpid(), OrderedDict(), Ahead()
        atexit.register(_remove, self._pid, self._folder)


def _key(tensor: TensorRef) -> str:
    return f"{tensor.identity}|{cache_key(tensor.location)}"


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what workers of this host left behind when they were killed; a live process keeps its files."""
    for old in folder.glob(f"{prefix}*"):
        pid = old.name.removeprefix(prefix).partition("-")[0]
        try:
            if not pid.isdecimal() or old.lstat().st_uid != os.getuid():
                continue
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(old, ignore_errors=True)
        except (PermissionError, FileNotFoundError):
            continue  # somebody else's process, or another worker swept it first


def _remove(pid: int, folder: Path) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def fetch_ahead(tensor: TensorRef) -> None:
    """Begin to fetch the stored bytes of a tensor from afar that `staged` will be asked for next."""
    with contextlib.suppress(SourceError, OSError):  # no room now: whoever needs it says so
        _STAGE.ahead(tensor.stored())


def _remembered(tensor: TensorRef, key: str) -> str:
    """The hash of a tensor that planning has read on this machine, else by reading."""
    return HashCache().get([key]).get(key) or tensor.content_sha256()


_STAGE = _Stage()
_CONTENT: Memo[str] = Memo(4096)


def staged(tensor: TensorRef) -> Staged:
    """The tensor's bytes on local disk, each fetched, drawn or cast once, with the hash of the bytes as stored."""
    if tensor.base is not None:
        tensor = replace(tensor, base=staged(tensor.base).tensor)
    source = stored = tensor.stored()
    key = cache_key(stored.location)
    if stored.location.local:
        content = _CONTENT.get(key, lambda: _remembered(stored, key)) if key else stored.content_sha256()
    else:
        where, content = _STAGE.of(stored)
        stored = replace(stored, location=where)
    if not tensor.cast:
        return Staged(stored, content, source, key)
    where, _ = _STAGE.of(replace(tensor, location=stored.location))
    local = replace(tensor, location=where, stored_format=tensor.format.name, cast="", stored_shape=())
    return Staged(local, content, source, key)
