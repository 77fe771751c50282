"""Doors that a checking process shuts behind itself before it looks at anything (rule S19).

Linux: no new privileges, a network namespace of its own (in a user namespace where that needs one), limits on private
memory, address space, CPU time and core dumps; on every platform an audit hook refuses sockets, new processes, code
loading and files opened for writing. What could not be shut is reported and decides rule S19.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from typing import Any

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWIPC = 0x08000000
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_DUMPABLE = 4
_REFUSED_EVENTS = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.system",
    "os.startfile",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.kill",
    "os.putenv",
    "os.setxattr",
    "shutil.",
    "pickle.find_class",
    "ctypes.",
    "urllib.",
    "ftplib.",
    "smtplib.",
)
_OUTWARD = ("socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.system")
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class IsolationError(RuntimeError):
    """Something that the checking process has no business doing."""


def limit(memory_bytes: int, mapped_bytes: int, cpu_s: float) -> None:
    """Limit private memory, address space (private memory plus ``mapped_bytes`` of files) and CPU seconds."""
    for what, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_AS, memory_bytes + mapped_bytes),
        (resource.RLIMIT_CPU, max(1, int(cpu_s))),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def cut_network() -> str:
    """How the network was cut: ``namespace``, ``user namespace`` or ``audit hook`` (the system permits no other).

    Must run while the process has one thread.
    """
    if not sys.platform.startswith("linux"):
        return "audit hook"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        return "namespace"
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        return "user namespace"
    return "audit hook"


def refuse_events() -> None:
    """From here on, this process opens no socket, starts no process, loads no pickle and writes no file."""
    sys.addaudithook(_hook)


def refuse_outward() -> None:
    """The part of `refuse_events` that a measurement can live with: no socket and no new process.

    Compiled kernels are kept in files of linepress's own cache, which are written and unpickled.
    """
    sys.addaudithook(_outward_hook)


def _outward_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(_OUTWARD):
        raise IsolationError(f"{event} is refused while a submission is measured")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    own_memory = event == "os.truncate" and bool(arguments) and isinstance(arguments[0], int)
    if event.startswith(_REFUSED_EVENTS) and not own_memory:
        raise IsolationError(f"{event} is refused while a submission is checked")
    if event == "open" and _writes(arguments):
        raise IsolationError("a file was opened for writing while a submission is checked")


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & _WRITE)


def clean_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Environment of a checking process: no proxies, tokens or paths of the user's; one thread."""
    kept = {name: base[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "NUMBA_CACHE_DIR") if name in base}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return {**kept, **single, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
