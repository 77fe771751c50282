"""Where a tensor's bytes lie, and how a range of them is read.

Each location is a small frozen value that a task can carry to another process and that reads its own bytes there.
Files are read by ``preadv`` into fresh memory and never mapped: a mapping would raise SIGBUS if the file is cut
short, and its bytes could change between the hash and the codec. A file that changed since it was opened is an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError

Bytes = NDArray[np.uint8]


@runtime_checkable
class Location(Protocol):
    """A stretch of bytes that can be read in parts."""

    @property
    def n_bytes(self) -> int: ...

    @property
    def identity(self) -> str:
        """Text that changes whenever the bytes may have changed; a key for caches of content hashes."""
        ...

    @property
    def local(self) -> bool:
        """Whether reading twice is cheap (a plain file on this machine)."""
        ...

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        """Bytes ``start_byte … end_byte`` of the stretch, uint8[end_byte - start_byte]."""
        ...


@dataclass(frozen=True, slots=True)
class FileBytes:
    """Bytes ``start … end`` of a file as it was when it had this size and modification time."""

    path: str
    start: int
    end: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, start: int, end: int) -> FileBytes:
        stat = path.stat()
        return cls(str(path.absolute()), start, end, stat.st_size, stat.st_mtime_ns)

    @property
    def n_bytes(self) -> int:
        return self.end - self.start

    @property
    def identity(self) -> str:
        return f"file:{self.path}:{self.size_bytes}:{self.mtime_ns}:{self.start}-{self.end}"

    @property
    def cache_key(self) -> str:
        """`identity` and the inode change time on this machine, which no tool can set back: a key for hashes that are
        remembered here. Empty where the file is gone."""
        try:
            return f"{self.identity}@{Path(self.path).stat().st_ctime_ns}"
        except OSError:
            return ""

    @property
    def local(self) -> bool:
        return True

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, self.path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise SourceError(f"cannot open {self.path}: {error.strerror}; is the file still there?") from None
        try:
            self._unchanged(descriptor)
            out = pread(descriptor, self.start + start_byte, end_byte - start_byte, self.path)
            self._unchanged(descriptor)
            return out
        finally:
            os.close(descriptor)

    def _unchanged(self, descriptor: int) -> None:
        stat = os.fstat(descriptor)
        if (stat.st_size, stat.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            raise SourceError(
                f"{self.path} changed while it was being read ({self.size_bytes} B then, {stat.st_size} B now); "
                "keep the file still and start again"
            )


def cache_key(location: Location) -> str:
    """Key under which this machine may remember the hash of the bytes: `FileBytes.cache_key`, else the identity."""
    return location.cache_key if isinstance(location, FileBytes) else location.identity


def pread(descriptor: int, offset: int, n_bytes: int, what: str) -> Bytes:
    """``n_bytes`` bytes at ``offset`` of an open file, or `SourceError` if the file ends before."""
    out = np.empty(n_bytes, dtype=np.uint8)
    view = out.data
    done = 0
    while done < n_bytes:
        got = os.preadv(descriptor, [view[done : done + (1 << 28)]], offset + done)
        if got == 0:
            raise SourceError(f"{what} ends {n_bytes - done} B before its header says; copy or download it again")
        done += got
    return out


def check_range(start_byte: int, end_byte: int, n_bytes: int, what: str) -> None:
    """Raise `SourceError` unless ``0 <= start_byte <= end_byte <= n_bytes``."""
    if not 0 <= start_byte <= end_byte <= n_bytes:
        raise SourceError(f"{what}: bytes {start_byte}…{end_byte} asked of a tensor of {n_bytes} B")
