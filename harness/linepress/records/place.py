"""Where records lie: folders of this machine as `pathlib.Path`, and places behind a URI as `StorePath`.

A `StorePath` answers the few questions of ``pathlib.Path`` that readers of records ask, so that the same code lists
and reads runs in ``runs`` and in ``s3://bucket/runs``.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from linepress.errors import RecordError
from linepress.records.remote import RemoteError, is_remote, one_line, open_place, without_end_slash

READERS = 16
"""Requests under way at a time; each waits for the store, not for this machine."""

A = TypeVar("A")
B = TypeVar("B")


class StorePath:
    """A file or folder behind a URI that pyarrow knows; opened when first asked something.

    Every method raises `RecordError` where the store is away or refuses; reading what is not there raises
    ``FileNotFoundError``.
    """

    def __init__(self, uri: str, opened: tuple[Any, str] | None = None) -> None:
        before, mark, query = without_end_slash(uri).partition("?")
        if not before.partition("://")[2].strip("/"):
            raise RecordError(f"{uri}: names no place; give a URI like s3://bucket/run")
        self._before, self._query = before, mark + query
        self._opened = opened

    def __str__(self) -> str:
        return self._before + self._query

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> StorePath:
        filesystem, base = self.open()
        return StorePath(f"{self._before}/{quote(name)}{self._query}", (filesystem, f"{base}/{name}"))

    @property
    def name(self) -> str:
        return unquote(urlsplit(self._before).path.rpartition("/")[2]) or urlsplit(self._before).netloc

    @property
    def parent(self) -> StorePath:
        before = self._before.rpartition("/")[0]
        return StorePath(before + self._query) if before.partition("://")[2] else self

    def open(self) -> tuple[Any, str]:
        """pyarrow file system and path in it."""
        if self._opened is None:
            try:
                self._opened = open_place(str(self))
            except RemoteError as error:  # its exit code is that of a run whose record waits
                raise RecordError(str(error)) from error
        return self._opened

    def resolve(self) -> StorePath:
        """Itself: a store has no links."""
        return self

    def is_symlink(self) -> bool:
        """False: a store has no links."""
        return False

    def is_dir(self) -> bool:
        """Whether anything lies under it."""
        return self._kind() == "Directory"

    def is_file(self) -> bool:
        return self._kind() == "File"

    def exists(self) -> bool:
        return self._kind() != "NotFound"

    def iterdir(self) -> Iterator[StorePath]:
        """What lies in the folder; nothing where there is none."""
        for entry in self._entries(recursive=False):
            yield self / entry.base_name

    def files(self) -> dict[str, int]:
        """Every file under it: name relative to it -> bytes."""
        start = len(self.open()[1]) + 1
        return {entry.path[start:]: int(entry.size) for entry in self._entries(recursive=True) if entry.is_file}

    def read_bytes(self) -> bytes:
        filesystem, path = self.open()
        with self._asking(), filesystem.open_input_stream(path) as source:
            return bytes(source.read())

    @contextlib.contextmanager
    def seekable(self) -> Iterator[Any]:
        """The file, open for reading at any place."""
        filesystem, path = self.open()
        with self._asking(), filesystem.open_input_file(path) as source:
            yield source

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def remove_tree(self) -> None:
        """Delete it with everything under it, a manifest first, so that no reader finds half a record."""
        filesystem, path = self.open()
        with self._asking():
            for name in sorted(self.files(), key=lambda name: name != "manifest.json"):
                filesystem.delete_file(f"{path}/{name}")
            if filesystem.get_file_info(path).type.name == "Directory":
                filesystem.delete_dir(path)

    def _kind(self) -> str:
        filesystem, path = self.open()
        with self._asking():
            return str(filesystem.get_file_info(path).type.name)

    def _entries(self, recursive: bool) -> list[Any]:
        from pyarrow import fs

        filesystem, path = self.open()
        with self._asking():
            found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=True))
        return sorted(found, key=lambda entry: str(entry.path))

    def _asking(self) -> _Asking:
        return _Asking(str(self))


class _Asking:
    """Turns what a store answers into one sentence; what is not there stays ``FileNotFoundError``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise RecordError(
                f"{self.uri}: the store cannot be read ({one_line(str(error))}); check the URI, the credentials, "
                "AWS_ENDPOINT_URL and the network, then give the same command again"
            ) from error


RunPlace = Path | StorePath
"""Where a run, or a folder of runs, lies."""


def place_of(text: str | RunPlace) -> RunPlace:
    """A path or a URI as what it names."""
    if not isinstance(text, str):
        return text
    return StorePath(text) if is_remote(text) else Path(text)


def same_place(one: RunPlace, other: RunPlace) -> bool:
    """Whether both name the same folder."""
    return str(one.resolve()) == str(other.resolve())


def size_bytes(place: RunPlace) -> int:
    """Bytes of all files under a place."""
    if isinstance(place, StorePath):
        return sum(place.files().values())
    total = 0
    for file in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a writer replaced it meanwhile
            seen = file.lstat()
            total += seen.st_size if stat.S_ISREG(seen.st_mode) else 0
    return total


def at_once(items: Iterable[A], ask: Callable[[A], B]) -> list[B]:
    """``ask`` of each item, in order, many under way at a time: for what waits for a store."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(ask, items))


def over(places: Sequence[RunPlace], ask: Callable[[RunPlace], B]) -> list[B]:
    """``ask`` of each place, in order; many requests at a time where they are in a store."""
    if any(isinstance(place, StorePath) for place in places):
        return at_once(places, ask)
    return [ask(place) for place in places]
