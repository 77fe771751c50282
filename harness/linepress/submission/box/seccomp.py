"""A seccomp filter (Linux 3.5): the system calls that a checking process gives up once it is set up.

What is refused answers EPERM, so that a library says what it missed; calls of another architecture end the process.
Structures and constants: linux/seccomp.h, linux/filter.h, linux/audit.h; numbers: arch/x86/entry/syscalls and
asm-generic/unistd.h of the kernel. Native code is bound as Python is; threads that run already are bound with
`TSYNC`.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Iterable

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_CLONE_THREAD = 0x00010000
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20
_PROT_WRITE = 0x2
_OPEN_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND
_X32 = 0x40000000

# architecture -> (audit number, system call -> number); a call that the architecture lacks has none
_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_send_signal": 424,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_X86_64 = {
    "open": 2, "mmap": 9, "shmget": 29, "shmat": 30, "shmctl": 31, "socket": 41, "connect": 42, "accept": 43,
    "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58,
    "execve": 59, "kill": 62, "semget": 64, "msgget": 68, "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84,
    "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "ptrace": 101,
    "setpgid": 109, "setsid": 112, "personality": 135, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
    "swapon": 167, "swapoff": 168, "reboot": 169, "iopl": 172, "ioperm": 173, "init_module": 175,
    "delete_module": 176, "setxattr": 188, "lsetxattr": 189, "tkill": 200, "mq_open": 240, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "openat": 257, "mkdirat": 258, "mknodat": 259,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "unshare": 272,
    "accept4": 288, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "finit_module": 313, "renameat2": 316, "memfd_create": 319, "bpf": 321,
    "execveat": 322, "userfaultfd": 323, "mknod": 133, "sendmmsg": 307,
}  # fmt: skip
_AARCH64 = {
    "setxattr": 5, "lsetxattr": 6, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
    "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41, "truncate": 45, "chroot": 51, "fchmodat": 53,
    "openat": 56, "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "ptrace": 117, "kill": 129, "tkill": 130, "reboot": 142, "setpgid": 154, "setsid": 157, "mq_open": 180,
    "msgget": 186, "semget": 190, "shmget": 194, "shmctl": 195, "shmat": 196, "socket": 198, "socketpair": 199,
    "bind": 200, "listen": 201, "accept": 202, "connect": 203, "sendto": 206, "sendmsg": 211, "add_key": 217,
    "request_key": 218, "keyctl": 219, "clone": 220, "execve": 221, "mmap": 222, "swapon": 224, "swapoff": 225,
    "perf_event_open": 241, "accept4": 242, "open_by_handle_at": 265, "setns": 268, "sendmmsg": 269,
    "process_vm_readv": 270, "process_vm_writev": 271, "finit_module": 273, "renameat2": 276, "memfd_create": 279,
    "bpf": 280, "execveat": 281, "userfaultfd": 282,
}  # fmt: skip
_MACHINES = {"x86_64": (0xC000003E, 317, _X86_64), "aarch64": (0xC00000B7, 277, _AARCH64)}
"""Machine -> (AUDIT_ARCH number, number of ``seccomp`` itself, its calls)."""
_BY_ARGUMENT = ("clone", "mmap", "open", "openat")
_ABSENT = ("clone3", "openat2")
"""Answered as a kernel that lacks them would: the arguments lie in memory, which a filter cannot read, and the C
library then asks in the old way."""


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _answer(number: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | number)


def _load_argument(index: int) -> bytes:
    """The low 32 bits of an argument; both machines are little-endian."""
    return _instruction(_LOAD, _ARGUMENTS_AT + 8 * index)


def _program(audit: int, calls: dict[str, int]) -> bytes:
    allow = _instruction(_RETURN, _ALLOW)
    out = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, audit, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _KILL),
    ]
    for name, number in sorted(calls.items()):
        if name not in _BY_ARGUMENT:
            out += [_instruction(_JUMP_EQUAL, number, 0, 1), _answer(_ENOSYS if name in _ABSENT else _EPERM)]

    def ruled(name: str, body: Iterable[bytes]) -> None:
        """``body`` ends in a return on every way, and is skipped for other calls."""
        if name in calls:
            rule = list(body)
            out.extend([_instruction(_JUMP_EQUAL, calls[name], 0, len(rule)), *rule])

    ruled("clone", [_load_argument(0), _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, 0, 1), allow, _answer(_EPERM)])
    for name, at in (("open", 1), ("openat", 2)):
        ruled(name, [_load_argument(at), _instruction(_JUMP_ANY_BIT, _OPEN_WRITES, 0, 1), _answer(_EPERM), allow])
    # Shared memory is counted by no limit of a process: only files may be shared, and only to read them.
    ruled(
        "mmap",
        [
            _load_argument(3),
            _instruction(_JUMP_ANY_BIT, _MAP_SHARED, 0, 4),
            _instruction(_JUMP_ANY_BIT, _MAP_ANONYMOUS, 2, 0),
            _load_argument(2),
            _instruction(_JUMP_ANY_BIT, _PROT_WRITE, 0, 1),
            _answer(_EPERM),
            allow,
        ],
    )
    return b"".join([*out, allow])


def restrict() -> bool:
    """Give the calls up for good; False where the kernel or the machine knows no such filter.

    The process must be done with starting others and opening files for writing.
    """
    machine = _MACHINES.get(platform.machine())
    if not sys.platform.startswith("linux") or machine is None or struct.calcsize("P") != 8:
        return False
    audit, own_number, calls = machine
    program = _program(audit, {**_COMMON, **calls})
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    held = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    return int(libc.syscall(own_number, _SET_MODE_FILTER, _FLAG_TSYNC, head)) == 0
