"""The record of a run in an object store or on another file system: ``--out s3://bucket/runs/nightly``.

A run is always written to a folder of this machine, where renames are atomic. `RemoteCopy` carries every file on:
parts before the manifest that names them, removals last, so that a reader at any moment finds a record that is whole.
While the store is away the run goes on and files wait; what still waits at the end is an error that the same command
mends. Any URI that pyarrow knows will do (``s3://``, ``gs://``, ``abfs://``, ``file://``); credentials come from the
environment as usual (``AWS_ACCESS_KEY_ID`` …), and ``AWS_ENDPOINT_URL`` names a store other than Amazon's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from linepress.environment import cache_root
from linepress.errors import EXIT_STORE_REFUSES, RecordError

_MANIFEST = "manifest.json"
RETRY_EVERY_S = 60.0
"""A store that is away is not asked again sooner: its client retries for some 10 s, in which no case is sent."""

GCS_RETRY_S = 20
_HALF_URI = re.compile(r"(?:s3a?|gs|gcs|abfss?|hdfs|https?|file):(?!//)", re.IGNORECASE)


class RemoteError(RecordError):
    """The store cannot be reached or refuses; the record is whole in the folder of this machine."""

    exit_code = EXIT_STORE_REFUSES


def is_remote(out: str) -> bool:
    """Whether ``--out`` names a place by URI; raises `RecordError` for one that only looks like it."""
    if _HALF_URI.match(out):
        raise RecordError(f"{out}: not a URI; give one like s3://bucket/run (or ./{out} for a folder of that name)")
    return "://" in out


def open_place(uri: str) -> tuple[Any, str]:
    """pyarrow file system and path of a URI.

    Raises `RecordError` for one that names no place, which no later try mends, and `RemoteError` where the place
    cannot be reached.
    """
    import pyarrow as pa
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    wanted = uri
    if uri.startswith("gs://") and "retry_limit_seconds=" not in uri:
        # Its client else tries for a quarter of an hour before it says that a store is away.
        wanted = f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={GCS_RETRY_S}"
    if endpoint and uri.startswith("s3://") and "endpoint_override=" not in uri:
        # pyarrow itself does not look at these variables, which every other client of a store does.
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RecordError(f"AWS_ENDPOINT_URL: {endpoint} is no address; give one like https://store.example.com")
        query = urlencode({"scheme": parts.scheme, "endpoint_override": parts.netloc})
        wanted = f"{uri}{'&' if '?' in uri else '?'}{query}"
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RecordError(
            f"{uri}: names no place ({one_line(str(error))}); give a URI like s3://bucket/run"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise RemoteError(
            f"{uri}: cannot be reached ({one_line(str(error))}); check credentials and network"
        ) from None
    if not found[1].strip("/"):
        raise RecordError(f"{uri}: names no place; give a URI like s3://bucket/run")
    return found[0], found[1].rstrip("/")


def without_end_slash(uri: str) -> str:
    """A URI as it is known everywhere: ``s3://bucket/run/`` is the run ``s3://bucket/run``."""
    before, mark, query = uri.partition("?")
    stripped = before.rstrip("/")
    return (stripped if "://" in stripped else before) + mark + query


def working_folder(uri: str) -> Path:
    """The folder of this machine that a run in ``uri`` is written to first."""
    return cache_folder("runs") / folder_name(uri)


def cache_folder(name: str) -> Path:
    """A folder of the user's cache."""
    return cache_root() / "linepress" / name


def folder_name(uri: str) -> str:
    """A name on this machine for the run in ``uri``, no two alike."""
    uri = without_end_slash(uri)
    name = urlsplit(uri).path.rpartition("/")[2] or "run"
    return f"{name}-{hashlib.sha256(uri.encode()).hexdigest()[:10]}"


class RemoteCopy:
    """The copy of one run folder behind a URI."""

    def __init__(self, uri: str, folder: Path, say: Callable[[str], None] = lambda text: None) -> None:
        from pyarrow import fs

        self.uri = without_end_slash(uri)
        self.folder = folder
        self.say = say
        self.away = ""
        self._asked_s = 0.0
        self._waiting: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._fs, self._base = open_place(self.uri)
        self._kinds = fs.FileType

    def pull(self) -> None:
        """Make the folder of this machine what the store holds, unless it is further than the store.

        More sessions means further; with as many, this machine is, since it writes here first. Raises `RemoteError`
        where the store cannot be read or has no such bucket, which must not be found out after the first cases.
        """
        self._check_bucket()
        there, here = self._remote_sessions(), self._local_sessions()
        if len(there) <= len(here):
            for file in self._local_files():
                self._waiting[file] = None
            return
        for entry in list(self.folder.iterdir()) if self.folder.exists() else []:
            if entry.is_dir():
                shutil.rmtree(entry)
            elif not entry.name.startswith("."):  # the lock stays
                entry.unlink()
        try:
            for name in self._listed():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._fs.open_input_stream(f"{self._base}/{name}") as source:
                    target.write_bytes(source.read())
        except OSError as error:
            raise self._error("cannot be read", error) from error

    def put(self, path: Path) -> None:
        """A file was written; it is carried on as soon as the store takes it."""
        name = path.relative_to(self.folder).as_posix()
        self._gone.pop(name, None)
        self._waiting[name] = None

    def drop(self, path: Path) -> None:
        """A file was removed."""
        name = path.relative_to(self.folder).as_posix()
        self._waiting.pop(name, None)
        self._gone[name] = None

    def push(self, at_once: bool = False) -> bool:
        """Carry on what waits; False (said once) where the store does not take it now.

        Raises `RecordError` where another run has written to the store in the meantime.
        """
        if not self._waiting and not self._gone:
            return True
        if self.away and not at_once and time.monotonic() - self._asked_s < RETRY_EVERY_S:
            return False
        try:
            if _MANIFEST in self._waiting:
                self._check_still_ours()
            for name in sorted(self._waiting, key=lambda name: name == _MANIFEST):
                self._send(name)
                del self._waiting[name]
            for name in list(self._gone):
                if self._fs.get_file_info(f"{self._base}/{name}").type != self._kinds.NotFound:
                    self._fs.delete_file(f"{self._base}/{name}")
                del self._gone[name]
        except (OSError, RemoteError) as error:
            if not self.away:
                self.say(f"warning: {self.uri} does not take the record now ({one_line(str(error))}); it waits here")
            self.away = str(error)
            self._asked_s = time.monotonic()
            return False
        if self.away:
            self.say(f"{self.uri} takes the record again")
        self.away = ""
        return True

    def finish(self) -> None:
        """Carry on everything, also what others wrote to the folder; raises `RemoteError` where the store refuses."""
        self.carry(*(self.folder / name for name in self._local_files()))

    def carry(self, *files: Path) -> None:
        """Carry on these files, and what waits; raises `RemoteError` where the store refuses."""
        for file in files:
            self.put(file)
        if not self.push(at_once=True):
            raise RemoteError(
                f"{self.uri}: cannot be written ({one_line(self.away)}); the record is whole in {self.folder}, give "
                "the same command again when the store is back"
            )

    def _send(self, name: str) -> None:
        file = self.folder / name
        if not file.exists():
            return
        target = f"{self._base}/{name}"
        if not self._is_object_store():
            self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        with self._fs.open_output_stream(target) as sink:
            sink.write(file.read_bytes())

    def _is_object_store(self) -> bool:
        return str(self._fs.type_name) != "local"

    def _check_still_ours(self) -> None:
        there, here = self._remote_sessions(), self._local_sessions()
        if there != here[: len(there)]:
            raise RecordError(
                f"{self.uri}: another linepress has written to this run since; let it end, then give the same "
                "command again, or choose another place with --out"
            )

    def _check_bucket(self) -> None:
        if not self._is_object_store():
            return
        bucket = self._base.partition("/")[0]
        try:
            missing = self._fs.get_file_info(bucket).type == self._kinds.NotFound
        except OSError:
            return  # a key may write to a bucket that it may not look at
        if missing:
            raise RemoteError(f"{self.uri}: there is no bucket {bucket}; make it, or name another, then run again")

    def _remote_sessions(self) -> list[Any]:
        """Start and host of every session of the run in the store; none where there is no run."""
        try:
            if self._fs.get_file_info(f"{self._base}/{_MANIFEST}").type == self._kinds.NotFound:
                return []
            with self._fs.open_input_stream(f"{self._base}/{_MANIFEST}") as source:
                return _sessions(source.read())
        except OSError as error:
            raise self._error("cannot be read", error) from error

    def _local_sessions(self) -> list[Any]:
        try:
            return _sessions((self.folder / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return []

    def _local_files(self) -> list[str]:
        wanted = (file for file in self.folder.rglob("*") if file.is_file() and not file.name.startswith("."))
        return sorted(file.relative_to(self.folder).as_posix() for file in wanted)

    def _listed(self) -> list[str]:
        from pyarrow import fs

        found = self._fs.get_file_info(fs.FileSelector(self._base, recursive=True, allow_not_found=True))
        return [entry.path.removeprefix(f"{self._base}/") for entry in found if entry.type == self._kinds.File]

    def _error(self, what: str, error: Exception) -> RemoteError:
        return RemoteError(
            f"{self.uri}: {what} ({one_line(str(error))}); check the URI, the credentials and the network, then "
            "give the same command again"
        )


def _sessions(manifest: bytes) -> list[Any]:
    try:
        return [(entry["started_at"], entry["host"]) for entry in json.loads(manifest)["sessions"]]
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"the manifest of the run is damaged ({error}); choose another place with --out") from None


def one_line(text: str) -> str:
    """An error of a client library on one line, cut where it goes on and on."""
    return " ".join(text.split())[:200]
