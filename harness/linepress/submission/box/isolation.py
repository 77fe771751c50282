"""Doors that a checking process shuts behind itself before it looks at anything (rule S19).

Linux: no new privileges and no capability but to read, namespaces of its own for network, shared memory and processes
(in a user namespace where those need one), limits on private memory, address space, CPU time, processes and core
dumps, and the filter of `seccomp`; on every platform an audit hook refuses sockets, new processes, code loading and
files opened for writing. What could not be shut is reported and decides rule S19.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_DUMPABLE = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_READ_SEARCH = 1 << 2
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
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class IsolationError(RuntimeError):
    """Something that the checking process has no business doing."""


def limit(memory_bytes: int, mapped_bytes: int, cpu_s: float) -> None:
    """Limit private memory, address space (private memory plus ``mapped_bytes`` of files), CPU seconds, processes."""
    for what, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_AS, memory_bytes + mapped_bytes),
        (resource.RLIMIT_CPU, max(1, int(cpu_s))),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def cut_off() -> dict[str, str]:
    """Give up privileges, the network and sight of other processes.

    Returns ``network``: ``namespace``, ``user namespace`` or ``audit hook`` (the system permits no other), and
    ``processes``: ``namespace`` or empty. With a namespace, the caller goes on as a child in it, whose end is its
    parent's end and which the kernel ends with everything that it may have started. Must run while the process has
    one thread.
    """
    if not sys.platform.startswith("linux"):
        return {"network": "audit hook", "processes": ""}
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    cut = _CLONE_NEWNET | _CLONE_NEWIPC
    for extra, how in ((0, "namespace"), (_CLONE_NEWUSER, "user namespace")):
        if libc.unshare(cut | _CLONE_NEWPID | extra) == 0:
            _into_namespace(libc)
            drop_capabilities()
            return {"network": how, "processes": "namespace"}
        if libc.unshare(cut | extra) == 0:
            drop_capabilities()
            return {"network": how, "processes": ""}
    drop_capabilities()
    return {"network": "audit hook", "processes": ""}


def _into_namespace(libc: ctypes.CDLL) -> None:
    """Go on as a child in the new namespace of processes, below a first process that does nothing but wait for it.

    The first process of a namespace is deaf to most signals, so it must not be the one that works; when it ends, the
    kernel kills what is left in the namespace.
    """
    first = os.fork()
    if first:
        _mirror(first)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    worker = os.fork()
    if worker:
        # The signal that ended the worker travels as a status: the first process cannot end itself by one.
        _, status = os.waitpid(worker, 0)
        os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _mirror(child: int) -> None:
    """End as ``child`` ends, by the same status or signal."""
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if code > 128:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(code - 128, signal.SIG_DFL) if code - 128 not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), code - 128)
    os._exit(code)


def drop_capabilities() -> None:
    """Keep no capability (capabilities(7)) but to read files, which a root that checks others' folders needs."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    now = ctypes.create_string_buffer(24)
    if libc.capget(head, now) != 0:
        return
    effective, permitted, _, *_ = struct.unpack("=6I", now.raw)
    libc.capset(
        head, struct.pack("=6I", effective & _CAP_DAC_READ_SEARCH, permitted & _CAP_DAC_READ_SEARCH, *[0] * 4)
    )


def refuse_events() -> None:
    """From here on, this process opens no socket, starts no process, loads no pickle and writes no file."""
    sys.addaudithook(_hook)


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
