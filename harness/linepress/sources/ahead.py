"""The next tensor from afar, fetched while one is measured: by a process of its own, one for each worker.

Compiled loops hold the interpreter lock, so a thread would get no further than they let it. The process takes one
request a time on its standard input, a pickled ``(tensor, path)``, writes the tensor's bytes to the path, and answers
with their sha256, or with an empty line where it could not; whoever needs the tensor then fetches it and says why.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from linepress.sources.base import TensorRef
from linepress.sources.bytes import Bytes

CHUNK_BYTES = 8 << 20


class Ahead:
    """The process, started with the first request, and the one tensor that it was asked for last."""

    def __init__(self) -> None:
        self.key = ""
        self._path = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, key: str, tensor: TensorRef, path: Path) -> None:
        """Begin to fetch ``tensor`` into ``path``; nothing where another is being fetched."""
        if self.key:
            return
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from linepress.sources.ahead import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # an interrupt of the run is the worker's to handle
            )
            atexit.register(self.end)
        try:
            assert self._process.stdin is not None
            pickle.dump((tensor, path), self._process.stdin)
            self._process.stdin.flush()
        except OSError:
            return
        self.key, self._path = key, path

    def take(self) -> tuple[Path, str] | None:
        """Wait for what was asked: its path and sha256; None where it could not be fetched."""
        assert self._process is not None
        assert self._process.stdout is not None
        self.key = ""
        digest = self._process.stdout.readline().decode().strip()
        if digest:
            return self._path, digest
        self._path.unlink(missing_ok=True)
        return None

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.key = ""


def copy(tensor: TensorRef, path: Path) -> str:
    """Write the bytes of ``tensor`` to ``path``; their sha256, or nothing for a cast, whose hash nobody asks for."""
    with path.open("wb") as out:
        if tensor.cast:
            for made in _parts(tensor):
                out.write(made.data)
            return ""
        digest = hashlib.sha256()
        with ThreadPoolExecutor(1) as pool:
            # Neither hashing nor writing holds the interpreter lock: meanwhile the next part is on its way.
            parts = _parts(tensor)
            coming = pool.submit(next, parts, None)
            while (part := coming.result()) is not None:
                coming = pool.submit(next, parts, None)
                digest.update(part.data)
                out.write(part.data)
        return digest.hexdigest()


def _parts(tensor: TensorRef) -> Iterator[Bytes]:
    for start in range(0, tensor.n_bytes, CHUNK_BYTES):
        yield tensor.read(start, min(start + CHUNK_BYTES, tensor.n_bytes))


def serve() -> None:
    """Answer until the worker is gone."""
    while True:
        try:
            tensor, path = pickle.load(sys.stdin.buffer)  # from the worker that started this process
        except EOFError:
            return
        try:
            digest = copy(tensor, path)
        except Exception:  # whoever needs the tensor meets the same error, and says it
            digest = ""
        sys.stdout.write(digest + "\n")
        sys.stdout.flush()
