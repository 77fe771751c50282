"""The files of a submission, found and opened without following a link anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from linepress.errors import LinepressError
from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import Limits

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What must not change of a file while it is checked."""

    device: int
    inode: int
    n_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: its path in the submission and its identity when it was found."""

    path: str
    identity: Identity


def open_root(folder: Path) -> int:
    """Descriptor of the submission's folder; raises `LinepressError` when there is none or it is a link."""
    try:
        return os.open(folder, _FOLDER)
    except FileNotFoundError:
        raise LinepressError(f"{name_of(str(folder), 300)}: there is no such folder; check the path") from None
    except OSError as error:
        raise LinepressError(
            f"{name_of(str(folder), 300)}: no folder that can be opened ({error.strerror}; links are not followed); "
            "give the folder that linepress pack wrote"
        ) from None


def walk(root: int, limits: Limits, ledger: Ledger) -> list[Found]:
    """Regular files under ``root``; everything else is a breach of S04, too much of anything one of S06."""
    found: list[Found] = []
    folders = [("", 0)]
    counted = 0
    while folders:
        prefix, level = folders.pop()
        try:
            with _opened(root, prefix, _FOLDER) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    counted += 1
                    if counted > limits.files + limits.folders:
                        ledger.fail("S06", f"over {limits.files} files and {limits.folders} folders")
                        return found
                    path = f"{prefix}{entry.name}"
                    status = os.stat(entry.name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if level + 1 >= limits.depth:
                            ledger.fail("S06", f"folders over {limits.depth} levels deep at {name_of(path)}")
                        else:
                            folders.append((f"{path}/", level + 1))
                    elif reason := _irregular(status):
                        ledger.fail("S04", f"{name_of(path)} is {reason}")
                    else:
                        found.append(Found(path, Identity.of(status)))
        except OSError as error:
            ledger.fail("S04", f"folder {name_of(prefix)} cannot be read ({error.strerror})")
    ledger.saw("S04", f"{len(found)} regular files, each with one name")
    return sorted(found, key=lambda file: file.path)


def _irregular(status: os.stat_result) -> str | None:
    for test, meaning in _KINDS:
        if test(status.st_mode):
            return meaning
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return f"one of {status.st_nlink} hard links to a file" if status.st_nlink > 1 else None


@contextmanager
def open_file(root: int, found: Found) -> Iterator[int]:
    """Descriptor of a file found by `walk`; raises `OSError` when it is no longer that file."""
    with _opened(root, found.path, _FILE) as descriptor:
        if Identity.of(os.fstat(descriptor)) != found.identity:
            raise OSError(0, "it changed since it was found")
        yield descriptor


def identity_now(root: int, path: str) -> Identity | None:
    """Identity of what stands at ``path`` now; None when nothing can be opened there."""
    try:
        with _opened(root, path, _FILE) as descriptor:
            return Identity.of(os.fstat(descriptor))
    except OSError:
        return None


@contextmanager
def _opened(root: int, path: str, flags: int) -> Iterator[int]:
    """Open ``path`` one component at a time, so that no component may be a link."""
    parts = [part for part in path.split("/") if part]
    descriptor = os.dup(root) if parts else os.open(".", _FOLDER, dir_fd=root)
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            deeper = os.open(part, flags if last else _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)
