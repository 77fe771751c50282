"""Starts the checking process, waits no longer than allowed, and takes no answer on trust."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from linepress.submission.box.isolation import clean_environment
from linepress.submission.check.ledger import escaped

ANSWER_BYTES = 64 << 20
STDERR_BYTES = 4096
WORKER = (sys.executable, "-I", "-m", "linepress.submission.box.worker")
_RAISED = re.compile(r"(?:^|\| )(?:\w+\.)*([A-Z]\w{0,60}(?:Error|Exception|Interrupt|Exit))(?=:| \||$)")
"""Kinds of exceptions at the ends of tracebacks, whose lines are joined by `` | ``."""


@dataclass(frozen=True)
class Answer:
    """What came of a checking process.

    Attributes
    ----------
    document : dict | None
        Its answer; None when it gave none that can be used.
    reason : str
        Why there is none; holds no path of this machine.
    seconds : float
    stderr : str
        The end of what it wrote to stderr, for the operator alone.
    """

    document: dict[str, Any] | None
    reason: str = ""
    seconds: float = 0.0
    stderr: str = field(default="", repr=False)


def ask(request: dict[str, Any], timeout_s: float, command: Sequence[str] = WORKER) -> Answer:
    """Run a checking process on ``request``; a timeout, a crash and a broken answer are all no answer."""
    start = time.monotonic()
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(os.environ),
        cwd="/",
        start_new_session=True,
        close_fds=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_drain, args=(process.stdout, out, ANSWER_BYTES), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, err, 1 << 16), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
    except BrokenPipeError:
        process.stdin = None
    try:
        process.wait(timeout_s)
        ended = ""
    except subprocess.TimeoutExpired:
        ended = f"it did not end within {timeout_s:g} s"
    finally:
        _end(process)
    for reader in readers:
        reader.join(5)
    stderr = escaped(bytes(err[-STDERR_BYTES:]).decode("utf-8", "replace").replace("\n", " | "))
    seconds = time.monotonic() - start
    if not ended and process.returncode != 0:
        ended = _cause(process.returncode, stderr)
    if not ended and len(out) >= ANSWER_BYTES:
        ended = f"its answer is over {ANSWER_BYTES} B"
    if ended:
        return Answer(None, ended, seconds, stderr)
    try:
        document = json.loads(bytes(out))
    except (ValueError, RecursionError):
        return Answer(None, "its answer is not JSON", seconds, stderr)
    if not isinstance(document, dict):
        return Answer(None, "its answer is not an object", seconds, stderr)
    return Answer(document, "", seconds, stderr)


def _drain(stream: IO[bytes], into: bytearray, most: int) -> None:
    while part := stream.read1(1 << 16):  # type: ignore[attr-defined]
        if len(into) < most:
            into += part[: most - len(into)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything it started: it leads a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _cause(code: int, stderr: str) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it used up its CPU time or was killed"
    if "MemoryError" in stderr or code == -signal.SIGABRT:
        return "it ran out of the memory it may use"
    if code < 0:
        return f"it was ended by signal {-code}"
    # What it wrote names folders of this machine, and reasons are read by partners: it stays in `Answer.stderr`.
    found = _RAISED.findall(stderr)
    return f"it failed with status {code}" + (f" ({found[-1]})" if found else "")
