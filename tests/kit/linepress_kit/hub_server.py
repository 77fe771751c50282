"""A stand-in for the hub on 127.0.0.1: file list, revisions and ranged files, with faults on demand.

It speaks the endpoints that huggingface_hub's real client uses for reading: ``/api/models/R[/revision/REV]``,
``/api/models/R/tree/REV[/folder]`` and ``/R/resolve/REV/F`` (HEAD and GET, one byte range; large files by a redirect
to storage), the same under ``datasets``. Errors carry the hub's ``X-Error-Code``.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

LFS_ABOVE_BYTES = 4096
SLOW_BYTES = 1 << 18
_RANGE = re.compile(r"^bytes=(\d+)-(\d+)?$")


def commit_of(files: Mapping[str, bytes]) -> str:
    """A 40-hex commit that depends on every file."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path, data in sorted(files.items()):
        digest.update(path.encode() + b"\0" + data + b"\0")
    return digest.hexdigest()


@dataclass
class Repo:
    """A repository at one commit.

    Attributes
    ----------
    files : dict
        Path -> content.
    gated : bool
        Refused without the token.
    redirect : bool
        Large files are served from another path after a redirect, as the hub does.
    """

    files: dict[str, bytes]
    gated: bool = False
    redirect: bool = True
    commit: str = ""
    branches: tuple[str, ...] = ("main",)
    _tags: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit = self.commit or commit_of(self.files)

    def tag(self, path: str) -> str:
        """Content tag of a file, hashed once for each content: a hub does not hash a file for every range of it."""
        data = self.files[path]
        known = self._tags.get(path)
        if known is None or known[0] is not data:
            large = len(data) > LFS_ABOVE_BYTES
            known = self._tags[path] = (data, hashlib.sha256(data).hexdigest() if large else _blob_id(data))
        return known[1]


@dataclass
class Fault:
    """What to do wrong with answers to ``GET`` of a file whose path ends in ``path``.

    ``kind``: ``drop`` (close after ``at`` bytes), ``drip`` (a byte every ``at`` milliseconds), ``short`` (a
    shorter answer that looks whole), ``long`` (more bytes than asked), ``shift`` (another range than asked),
    ``whole`` (200 with everything), ``tag`` (another content tag), ``commit`` (another commit), ``size`` (another
    total size in Content-Range), ``status`` (status ``at``).
    ``times``: how many answers to spoil; ``after``: how many to leave alone first.
    """

    path: str
    kind: str
    at: int = 0
    times: int = 1_000_000
    after: int = 0


@dataclass
class Request:
    """One request as seen by the server."""

    method: str
    path: str
    range: str
    authorization: str


@dataclass
class HubServer:
    """Serve ``repos`` (by ``org/name``, datasets by ``datasets/org/name``) until the ``with`` block ends."""

    repos: dict[str, Repo]
    token: str = "hf_stand_in"
    faults: list[Fault] = field(default_factory=list)
    bytes_per_s: float = 0.0
    """Of the network before it, shared by all who ask; 0 for as fast as it goes."""
    line: threading.Lock = field(default_factory=threading.Lock)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """What ``HF_ENDPOINT`` must be."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def storage(self) -> str:
        """Where large files are: the same server under another host name, so that the token must not follow."""
        return f"http://localhost:{self._server.server_address[1]}"

    def fault_for(self, path: str) -> Fault | None:
        """The fault to apply to this answer, used up by one."""
        for fault in self.faults:
            if path.endswith(fault.path) and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up on a lie is what the tests want; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[HubServer]

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent; `HubServer.requests` has them."""

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization", "")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range", ""), authorization))
        if path.startswith("/storage/"):
            self._storage(path.removeprefix("/storage/"), head)
            return
        api = re.match(r"^/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?$", path)
        file = re.match(r"^/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path)
        if api:
            name = f"datasets/{api[2]}" if api[1] == "datasets" else api[2]
            repo = self._repo(name, api[4])
            if repo is not None:
                self._tree(repo, api[5] or "") if api[3] == "tree" else self._info(name, repo)
        elif file:
            repo = self._repo(file[1], file[2])
            if repo is not None:
                self._file(file[1], repo, file[3], head)
        else:
            self._error(404, "", "no such page")

    def _repo(self, name: str, revision: str | None) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._error(401, "RepoNotFound", "Repository not found")
        elif repo.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._error(403, "GatedRepo", "Access to this repository is restricted")
        elif revision is not None and revision not in (repo.commit, *repo.branches):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    def _info(self, name: str, repo: Repo) -> None:
        siblings = [{"rfilename": path} for path in sorted(repo.files)]
        self._json(
            {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "private": False}
        )

    def _tree(self, repo: Repo, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        recursive = "recursive=true" in urlsplit(self.path).query.lower()
        entries: list[dict[str, object]] = []
        folders: set[str] = set()
        for path, data in sorted(repo.files.items()):
            if not path.startswith(prefix):
                continue
            below = path[len(prefix) :]
            if "/" in below and not recursive:
                folders.add(prefix + below.split("/")[0])
                continue
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": _blob_id(data)}
            if len(data) > LFS_ABOVE_BYTES:
                entry["lfs"] = {"oid": repo.tag(path), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        if not entries:
            self._error(404, "EntryNotFound", f"{folder} does not exist")
            return
        self._json(entries)

    def _file(self, name: str, repo: Repo, path: str, head: bool) -> None:
        data = repo.files.get(path)
        if data is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        fault = None if head else self.hub.fault_for(path)
        large = len(data) > LFS_ABOVE_BYTES
        tag = repo.tag(path)
        if fault and fault.kind == "tag":
            tag = "0" * len(tag)
        headers = {
            "X-Repo-Commit": "f" * 40 if fault and fault.kind == "commit" else repo.commit,
            "X-Linked-Etag" if large and repo.redirect else "ETag": f'"{tag}"',
        }
        if large and repo.redirect:
            headers |= {"X-Linked-Size": str(len(data)), "Location": f"{self.hub.storage}/storage/{name}/{path}"}
            if fault:
                self.hub.faults.insert(0, Fault(f"storage:{path}", fault.kind, fault.at, 1))
            self._send(302, headers, b"", head)
            return
        self._body(data, headers, fault, head)

    def _storage(self, path: str, head: bool) -> None:
        for name, repo in self.hub.repos.items():
            inner = path.removeprefix(f"{name}/")
            if inner != path and inner in repo.files:
                fault = None if head else self.hub.fault_for(f"storage:{inner}")
                self._body(repo.files[inner], {"ETag": '"of-the-storage"'}, fault, head)
                return
        self._error(404, "", "no such object")

    def _body(self, data: bytes, headers: dict[str, str], fault: Fault | None, head: bool) -> None:
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            self._error(fault.at, "", "the server has a bad day")
            return
        asked = _RANGE.match(self.headers.get("Range", ""))
        headers["Accept-Ranges"] = "bytes"
        if asked is None or kind == "whole":
            self._send(200, headers, data, head, fault)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(data) - 1) + 1, len(data))
        if kind == "shift":
            start, end = start + 8, end + 8
        if kind == "short":
            end = start + max((end - start) // 2, 1)
        if start >= len(data):
            self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", head)
            return
        total = len(data) + 64 if kind == "size" else len(data)
        stated = (
            f"bytes {asked[1]}-{asked[2]}/{total}"
            if kind in ("short", "long")
            else f"bytes {start}-{end - 1}/{total}"
        )
        headers["Content-Range"] = stated
        self._send(206, headers, data[start:end] + (b"more" if kind == "long" else b""), head, fault)

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes, head: bool, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if head:
            return
        if fault and fault.kind == "drop":
            self.wfile.write(body[: fault.at])
            self.wfile.flush()
            self.close_connection = True
            return
        if fault and fault.kind == "drip":
            with suppress(OSError):  # whoever asked has gone
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(fault.at / 1000)
            return
        if self.hub.bytes_per_s:
            for start in range(0, len(body), SLOW_BYTES):
                with self.hub.line:  # one line to the hub for all who ask
                    time.sleep(min(SLOW_BYTES, len(body) - start) / self.hub.bytes_per_s)
                self.wfile.write(body[start : start + SLOW_BYTES])
            return
        self.wfile.write(body)

    def _json(self, document: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode(), self.command == "HEAD")

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"Content-Type": "application/json", "X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        self._send(status, headers, json.dumps({"error": message}).encode(), self.command == "HEAD")


def _blob_id(data: bytes) -> str:
    """Git's id of a small file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
