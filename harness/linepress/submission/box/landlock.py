"""Landlock (Linux 5.13): a process gives up the file system but for a few folders, and TCP (Linux 6.7).

Structures, numbers and access bits: linux/landlock.h and the kernel's userspace-api/landlock document. The system
calls have the same numbers on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR, _IOCTL_DEVICE = 1 << 0, 1 << 2, 1 << 3, 1 << 15
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""ABI version -> number of access rights to the file system, all of which are given up."""
_NET_BITS = 0b11  # bind and connect TCP, since ABI 4
_SCOPE_BITS = 0b11  # abstract UNIX sockets and signals, since ABI 6


def abi(libc: ctypes.CDLL | None = None) -> int:
    """Version of Landlock that the kernel offers; 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    libc = libc or ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def restrict(
    readable: Iterable[Path],
    *,
    runnable: Iterable[Path] = (),
    writable: Iterable[Path] = (),
    tcp: bool = False,
) -> int:
    """Give up the file system but beneath ``readable`` (to read), ``runnable`` (to read and execute) and ``writable``
    (to read, write, make and remove), and TCP unless ``tcp``.

    Returns the version in force, 0 when the kernel has none. The process must have given up new privileges. There is
    no way back, and threads that run already are not bound.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = abi(libc)
    if not version:
        return 0
    files = (1 << _FS_BITS.get(version, _FS_BITS[5])) - 1
    attributes = struct.pack("=QQQ", files, 0 if tcp else _NET_BITS, _SCOPE_BITS)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return 0
    reading = _READ_FILE | _READ_DIR
    try:
        for paths, access in (
            (readable, reading),
            (runnable, reading | _EXECUTE),
            (writable, files & ~_EXECUTE),
        ):
            for path in paths:
                _allow(libc, ruleset, path, access)
        return version if libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


_FILE_ACCESS = _EXECUTE | 1 << 1 | _READ_FILE | 1 << 14 | _IOCTL_DEVICE
"""Rights that a rule about a file, not a folder, may give: also to write and truncate."""


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    """``access`` beneath ``path``; one that does not exist stays out of reach."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        access &= ~0 if path.is_dir() else _FILE_ACCESS
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", access, descriptor), 0)
    finally:
        os.close(descriptor)


def python_folders() -> list[Path]:
    """What this interpreter may still have to import or load: its own folders and the system's libraries."""
    own = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    system = [Path(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom")]
    return [*own, Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib", Path("/proc/self"), *system]
