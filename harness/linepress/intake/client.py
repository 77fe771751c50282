"""Hands a packed submission to a service: declares it, uploads what is missing, asks for the verdict.

Standard library only, so that a partner can read it whole. Every step can be repeated: the declaration carries an
Idempotency-Key made of its own content, and each file goes on at the offset the service tells. ``HTTPS_PROXY`` and
``NO_PROXY`` are honoured; plain HTTP, which is for this machine alone, goes through no proxy.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from linepress.errors import LinepressError

Row = dict[str, Any]
CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 1 << 20
TRIES = 8
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 120.0
_AGAIN = (408, 423, 429, 500, 502, 503, 504, 507)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ClientError(LinepressError):
    """The service refused, or cannot be reached."""

    exit_code = 1


class Client:
    """One service and one token.

    Parameters
    ----------
    url : str
        ``https://…``; plain ``http`` is taken for this machine only, the token would be readable on the way.
    token : str
    """

    def __init__(self, url: str, token: str, wait: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{url}: not an address; write https://host")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ClientError(f"{url}: would send the token unencrypted; use https")
        self._parts = parts
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._wait = wait
        self._say: Callable[[str], None] = lambda text: None

    def send(self, folder: Path, say: Callable[[str], None] = lambda text: None, **choice: Any) -> Row:
        """Hand in ``folder`` (as ``linepress pack`` wrote it); ``choice`` are further keys of the declaration.

        Returns the submission as the service shows it. Raises `ClientError`.
        """
        self._say = say
        body = {"name": folder.absolute().name, "files": declared(folder), **choice}
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        data = json.dumps(body).encode()
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        answer, text = self._request("POST", "/v1/submissions", data, headers)
        found: Row = json.loads(text)
        before = " (these files with these options were declared before)" if answer["status"] == "200" else ""
        say(f"submission {found['id']}: {found['state']}{before}")
        if found["state"] == "uploading":
            own = {file["path"] for file in body["files"]}
            if strange := [file["path"] for file in found["files"] if file["path"] not in own]:
                raise ClientError(f"the service asks for {strange[0]!r}, which was not declared; nothing was sent")
            for file in found["files"]:
                if not file["from_hub"]:
                    self._upload(folder / file["path"], file, say)
            found = self.call("POST", f"/v1/submissions/{found['id']}/complete")
        return found

    def status(self, submission: str) -> Row:
        """State, files and steps of a submission."""
        return self.call("GET", f"/v1/submissions/{submission}")

    def fetch(self, path: str) -> bytes:
        """The body of a GET."""
        return self._request("GET", path)[1]

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Row:
        """A JSON request, tried again while the service is busy; raises `ClientError` with the service's sentence."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        found: Row = json.loads(self._request(method, path, data, {**kind, **(headers or {})})[1] or b"{}")
        return found

    def _upload(self, path: Path, file: Row, say: Callable[[str], None]) -> None:
        """Send what the service has not acknowledged, a chunk at a time, each with its checksum."""
        offset = self._offset(file)
        with path.open("rb") as source:
            while offset < file["bytes"]:
                source.seek(offset)
                chunk = source.read(min(CHUNK_BYTES, file["bytes"] - offset))
                if not chunk:
                    raise ClientError(f"{path}: became shorter while it was sent; pack it again")
                offset = self._chunk(file, offset, chunk)
                say(f"{file['path']}: {offset} of {file['bytes']} B")

    def _chunk(self, file: Row, offset: int, chunk: bytes) -> int:
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Upload-Checksum": "sha256 " + base64.b64encode(hashlib.sha256(chunk).digest()).decode(),
        }
        try:
            answer, _ = self._request("PATCH", file["upload"], chunk, headers)
        except ClientError as error:
            # Perhaps only the answer was lost: the service knows.
            now = self._offset(file)
            if now == offset:
                raise error
            return now
        return int(answer["upload-offset"])

    def _offset(self, file: Row) -> int:
        return int(self._request("HEAD", file["upload"])[0]["upload-offset"])

    def _request(
        self, method: str, path: str, data: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[dict[str, str], bytes]:
        wait_s = FIRST_WAIT_S
        why = ""
        for attempt in range(TRIES):
            if attempt:
                self._say(f"{why}; trying again in {wait_s:.1f} s")
                self._wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                status, answer, body = self._once(method, path, data, headers or {})
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
                if method == "PATCH":
                    break  # whether it arrived is for the offset to tell
                continue
            if status < 300:
                return {**answer, "status": str(status)}, body
            why = _sentence(status, body)
            if status not in _AGAIN:
                break
            wait_s = max(wait_s, float(answer.get("retry-after", "0") or 0))
        raise ClientError(f"{method} {path}: {why}")

    def _once(
        self, method: str, path: str, data: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection()
        try:
            connection.request(
                method, self._parts.path.rstrip("/") + path, data or None, {**self._headers, **headers}
            )
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        """A connection to the service, through the proxy that the environment names for it.

        ``HTTPS_PROXY`` (http://[user:password@]host:port) is a tunnel, so the proxy sees neither token nor files;
        ``NO_PROXY`` and services of this machine go straight.
        """
        parts, host = self._parts, self._parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
        stated = None if urllib.request.proxy_bypass(parts.netloc) else urllib.request.getproxies().get("https")
        if not stated or host in _LOOPBACK:
            return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S)
        proxy = urlsplit(stated if "://" in stated else f"http://{stated}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise ClientError(
                f"HTTPS_PROXY is {proxy.scheme}://{proxy.hostname or ''}, not http://host:port; set it so, or "
                f"NO_PROXY={host}"
            )
        known: dict[str, str] = {}
        if proxy.username is not None:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            known["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        tunnel = http.client.HTTPSConnection(proxy.hostname, proxy.port or 80, timeout=TIMEOUT_S)
        tunnel.set_tunnel(host, parts.port or 443, known)
        return tunnel


def declared(folder: Path) -> list[Row]:
    """Path, size and sha256 of every file of a packed submission."""
    out = []
    for base, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = Path(base) / name
            digest = hashlib.sha256()
            with path.open("rb") as source:
                while block := source.read(BLOCK_BYTES):
                    digest.update(block)
            out.append(
                {
                    "path": path.relative_to(folder).as_posix(),
                    "bytes": path.stat().st_size,
                    "sha256": digest.hexdigest(),
                }
            )
    return out


def _sentence(status: int, body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if status == 401:
        return "the service does not know this token; set LINEPRESS_TOKEN to the one that its operator gave you"
    return str(found["error"]) if isinstance(found, dict) and "error" in found else f"status {status}"
