"""Processes of the service, told apart from later ones of the same number by when they began, and ended together.

A service that is killed cannot stop what it started; Linux can (prctl(2), PR_SET_PDEATHSIG). SIGTERM lets a run close
its record, so the next service resumes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path

GRACE_S = 20.0
_PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> None:
    """Have SIGTERM sent to this process when ``parent`` dies; exits at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


class RunnerLock:
    """The right to be the runner of a data folder on this machine; it dies with the process that holds it."""

    def __init__(self, data: Path) -> None:
        self._path = data / f"runner-{socket.gethostname()}.lock"
        self._held: int | None = None

    def take(self) -> bool:
        """Take it; False while another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True

    def give_back(self) -> None:
        """Let the next one have it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def is_held(self) -> bool:
        """Whether any process has it now."""
        if self._held is None and self.take():
            self.give_back()
            return False
        return True


def birth_of(pid: int) -> str | None:
    """Start time of a living process in clock ticks since boot (proc(5), field 22 of stat); None for none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def identity(pid: int | None = None) -> str:
    """``host:pid:birth`` of a process, this one by default."""
    number = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{number}:{birth_of(number) or '-'}"


def is_dead(owner: str) -> bool:
    """Whether ``owner`` (as `identity` writes it) was a process of this machine and is no more."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    birth = owner.rpartition(":")[2]
    return host == socket.gethostname() and rest.isdigit() and birth_of(int(rest)) != birth


def stop_group(pid: int, birth: str, grace_s: float = GRACE_S) -> None:
    """End a process group: SIGTERM, then SIGKILL after ``grace_s``; nothing when its leader is another by now."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        if birth_of(pid) != birth:
            return
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        end_s = time.monotonic() + wait_s
        while time.monotonic() < end_s and birth_of(pid) == birth:
            time.sleep(0.05)
