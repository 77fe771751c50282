"""Processes of the service, told apart from later ones of the same number by when they began."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

GRACE_S = 20.0


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
