"""A control group of a validation run: one limit on the memory of all its processes together, and one end for all.

Linux's cgroup v2 (files and rules: admin-guide/cgroup-v2 of the kernel's documentation). A group can be made where
this service's own group, or the one around it, hands the controller ``memory`` down and may be written by its user:
systemd's ``Delegate=memory`` with ``DelegateSubgroup=``. Without, every process of the run has the limit for itself.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
END_S = 10.0


def place(root: Path = ROOT, own: Path = OWN) -> Path | None:
    """The group in which one with a limit on memory can be made; None where there is none."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::/"):  # the line of the v2 hierarchy
            here = root / line[4:]
            for group in (here, here.parent):
                if group.is_relative_to(root) and _hands_down(group):
                    return group
    return None


def _hands_down(group: Path) -> bool:
    """Whether groups made in ``group`` have a limit on memory, and this process may make one and move into it."""
    try:
        handed = (group / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return False
    return "memory" in handed and os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)


@contextlib.contextmanager
def limited(memory_bytes: int, root: Path = ROOT, own: Path = OWN) -> Iterator[Path | None]:
    """A new group whose processes have ``memory_bytes`` together; None where this machine gives none.

    What is still in it ends with the block.
    """
    around = place(root, own)
    made = None
    if around is not None:
        try:
            made = Path(tempfile.mkdtemp(prefix="linepress-run-", dir=around))
            (made / "memory.max").write_text(str(memory_bytes), encoding="ascii")
            for name, text in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with contextlib.suppress(OSError):  # kernels without swap, or before 4.19
                    (made / name).write_text(text, encoding="ascii")
        except OSError:
            _remove(made)
            made = None
    try:
        yield made
    finally:
        _remove(made)


def enter(group: Path | None, memory_bytes: int) -> str:
    """Move this process into ``group``, or limit it and each process that it starts; says which it was."""
    if group is not None:
        with contextlib.suppress(OSError):
            (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
            return "cgroup"
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return "each process alone"


def overran(group: Path | None) -> bool:
    """Whether the kernel has ended a process of ``group`` because the group was at its limit."""
    if group is None:
        return False
    try:
        lines = (group / "memory.events").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)


def _remove(group: Path | None) -> None:
    """End what is in ``group`` (Linux 5.14; the process group is ended besides) and take it away."""
    if group is None:
        return
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1", encoding="ascii")
    end_s = time.monotonic() + END_S
    while time.monotonic() < end_s:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)  # what was killed is still going
        else:
            return
