"""A TCP proxy that can lose its server at any byte: what a client sees when a service goes away and comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class CuttingProxy:
    """Listens on 127.0.0.1 and passes connections on, until a budget of bytes sent by clients is used up.

    Attributes
    ----------
    budget_bytes : int | None
        Bytes that clients may still send; at 0 every connection is cut and new ones are closed at once. None passes
        everything.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.budget_bytes: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.budget_bytes == 0:
                client.close()
                continue
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, counted), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and self.budget_bytes is not None:
                    data = data[: self.budget_bytes]
                    self.budget_bytes -= len(data)
                sink.sendall(data)
                if self.budget_bytes == 0:
                    self._cut()
        for end in (source, sink):
            _close(end)

    def _cut(self) -> None:
        with self._lock:
            cut, self._open = self._open, set()
        for end in cut:
            _close(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
