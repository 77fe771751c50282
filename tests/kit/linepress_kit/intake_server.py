"""An intake service in a process of its own, for tests and benchmarks: started, killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from linepress.intake.settings import Settings
from linepress.intake.store import partners
from linepress.intake.store.database import Database

START_S = 60.0
OFFSET_TYPE = "application/offset+octet-stream"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class IntakeServer:
    """``linepress serve`` over a data folder, on a port of its own that stays the same over restarts."""

    def __init__(self, data: Path, options: Sequence[str] = ("--no-runner",)) -> None:
        self.data = data
        self._options = list(options)
        self._process: subprocess.Popen[str] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers; raises `RuntimeError` when it does not."""
        code = "from linepress.cli.app import main; main()"
        command = [sys.executable, "-c", code, "serve", "--data", str(self.data), "--port", str(self.port)]
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("listening"):
            raise RuntimeError((self.data / "server.log").read_text(encoding="utf-8"))
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            try:
                if self.request("GET", "/healthz").status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the service does not answer")

    def kill(self) -> None:
        """SIGKILL, as a power cut would: nothing is closed."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """SIGTERM and wait."""
        if self._process is not None:
            self._process.terminate()
            self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def add_partner(self, name: str, **options: Any) -> str:
        """Add a partner beside the running service; returns a token with every scope."""
        settings = Settings(data=self.data)
        settings.prepare()
        db = Database(settings.url)
        try:
            with db.write() as conn:
                partners.add_partner(conn, time.time(), name, f"lab@{name}.example", **options)
                return partners.add_token(conn, time.time(), name).text
        finally:
            db.close()

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; a ``body`` that is not bytes goes as JSON."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before the end
                connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def patch(self, path: str, token: str, offset: int, data: bytes, headers: dict[str, str] | None = None) -> Answer:
        """Append ``data`` at ``offset`` of an upload."""
        sent = {"Content-Type": OFFSET_TYPE, "Upload-Offset": str(offset), **(headers or {})}
        return self.request("PATCH", path, token, data, sent)

    def begin(self, path: str, token: str, offset: int, length: int, sent: bytes) -> socket.socket:
        """A PATCH that declares ``length`` bytes, sends ``sent`` of them and stays open."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {OFFSET_TYPE}\r\nUpload-Offset: {offset}\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
        return connection

    def sign_in(self, token: str) -> dict[str, str]:
        """The headers of a browser that has signed in."""
        answer = self.request(
            "POST",
            "/sign-in",
            body=f"token={token}".encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status == 303, answer.text
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
