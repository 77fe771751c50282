"""The run of a partner's tensors, shut in: ``python -P -m linepress.intake.work.jail PARENT '{…}' run …``.

It sees its own work folder, a folder for what is temporary, the interpreter with its packages and the system's
programs; no other file of the service, so neither the signing key nor the database nor another partner. Its network
is a loopback of its own (unless it joins a cluster), where the Ray of the run is all there is. It ends with PARENT.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from linepress.intake.work import group
from linepress.intake.work.processes import tie_to
from linepress.submission.box import isolation, landlock

_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_NO_NEW_PRIVILEGES = 38
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP: netdevice(7)
SYSTEM = tuple(Path(p) for p in ("/usr", "/bin", "/sbin", "/lib", "/lib64"))
READ = tuple(Path(p) for p in ("/etc", "/proc", "/sys", "/run/systemd/resolve"))
DEVICES = tuple(Path(p) for p in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/tty", "/dev/shm"))


def enter(work: Path, temporary: Path, network: bool = False) -> dict[str, object]:
    """Shut this process in for good; says how far that went.

    Parameters
    ----------
    work, temporary : Path
        Folders that may be read and written.
    network : bool
        Keep the network: the run joins a cluster.

    Returns
    -------
    dict
        ``network``: ``kept``, ``namespace``, ``user namespace`` or empty (this system permits none); ``landlock``:
        its version, 0 where the kernel has none.
    """
    how = "kept" if network else ""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if not network:
            how = _own_network(libc)
        isolation.drop_capabilities()
    version = landlock.restrict(
        READ,
        runnable=[*SYSTEM, *readable()],
        writable=[work, temporary, *DEVICES],
        tcp=True,
    )
    return {"network": how, "landlock": version}


def readable() -> list[Path]:
    """Folders of this interpreter and its packages, and the repository's own notes of its commit."""
    roots = {root for folder in map(Path, sys.path) for root in (folder.parent,) if (root / ".git").exists()}
    return [*landlock.python_folders(), Path(sys.prefix), Path(sys.base_prefix), *(root / ".git" for root in roots)]


def exposed(data: Path) -> Path | None:
    """A folder that every run may read and that holds ``data`` of the service; None when there is none."""
    place = data.resolve()
    for folder in (*SYSTEM, *READ, *readable()):
        if place.is_relative_to(folder.resolve()):
            return folder
    return None


def _own_network(libc: ctypes.CDLL) -> str:
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NETWORK | _NEW_IPC) == 0:
        how = "namespace"
    elif libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) == 0:
        how = "user namespace"
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    else:
        return ""
    with socket.socket() as any_socket:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _GET_FLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    return how


def copy_kernels(into: Path) -> None:
    """Give a run the kernels that this installation has compiled; what the run compiles or breaks is its own copy.

    Reads Numba's caches where they lie (beside the modules, or in ``NUMBA_CACHE_DIR``) and lays them out as
    ``NUMBA_CACHE_DIR`` does.
    """
    central = os.environ.get("NUMBA_CACHE_DIR")
    if central:
        shutil.copytree(central, into, dirs_exist_ok=True)
        return
    from numba.core import caching

    place_of: Callable[[str], str] = caching._CacheLocator.get_suitable_cache_subpath
    import linepress_codecs
    import linepress_hardware

    for package in (linepress_codecs, linepress_hardware):
        for found in Path(package.__path__[0]).rglob("*.nb[ic]"):
            module = found.parent.parent / "any.py"
            place = into / place_of(str(module))
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, place / found.name)


def main(arguments: Sequence[str]) -> None:
    """Entry point: the parent's id; work, temporary, network, memory_bytes and group as JSON; the verb with its
    arguments."""
    parent, shut, *verb = arguments
    tie_to(int(parent))
    asked = json.loads(shut)
    memory = group.enter(Path(asked["group"]) if asked["group"] else None, asked["memory_bytes"])
    found = enter(Path(asked["work"]), Path(asked["temporary"]), asked["network"])
    print(
        f"jail: network {found['network'] or 'not cut'}, Landlock {found['landlock'] or 'missing'}, "
        f"{asked['memory_bytes']} B of memory by {memory}",
        file=sys.stderr,
    )
    sys.argv = ["linepress", *verb]
    from linepress.cli.app import main as run

    run()


if __name__ == "__main__":
    main(sys.argv[1:])
