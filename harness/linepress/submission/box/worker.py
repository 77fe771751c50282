"""The checking process, ``python -I -m linepress.submission.box.worker``: a request on stdin, one JSON answer out.

Shuts the doors of `isolation`, `landlock` and `seccomp` before it reads a byte of a partner's, checks the folder (or
re-runs expected results) and answers. It decides nothing about itself: what it could not finish is the starter's to
judge.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linepress.submission.box import isolation, landlock, seccomp


def main() -> int:
    """Answer one request; exit status 0 whenever there is an answer."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not end up in the answer
    cut = isolation.cut_off()
    interfaces = _interfaces()
    folders = [Path(request["folder"])] if "folder" in request else []
    files = landlock.restrict([*folders, *landlock.python_folders()])
    work = {"inspect": _inspect, "rerun": _rerun, "probe": _probe}[request["work"]]
    answer = work(request)
    answer["isolation"] = {
        **cut,
        "landlock": files,
        "seccomp": _filtered(),
        "interfaces": interfaces,
        "memory_bytes": request["memory_bytes"],
        "cpu_s": request["cpu_s"],
        "peak_bytes": _peak_bytes(),
    }
    data = memoryview(json.dumps(answer).encode())
    while data:
        data = data[os.write(answers, data) :]
    return 0


def _shut(request: dict[str, Any]) -> None:
    """The last doors, once everything that has to be loaded is."""
    isolation.limit(request["memory_bytes"], request["mapped_bytes"], request["cpu_s"])
    seccomp.restrict()


def _probe(request: dict[str, Any]) -> dict[str, Any]:
    """Nothing but the doors: what this machine lets a process shut."""
    _shut(request)
    isolation.refuse_events()
    return {}


def _inspect(request: dict[str, Any]) -> dict[str, Any]:
    from linepress.errors import LinepressError
    from linepress.submission.check.inspect import inspect
    from linepress.submission.check.limits import Limits

    limits = Limits(**request["limits"])
    _shut(request)
    isolation.refuse_events()
    try:
        found = inspect(
            Path(request["folder"]), limits, submitter=request["submitter"], waivers=tuple(request["waivers"])
        )
    except LinepressError as error:
        return {"refused": str(error)}
    return {
        "findings": [asdict(finding) for finding in found.findings],
        "manifest": found.manifest.model_dump() if found.manifest else None,
        "manifest_sha256": found.manifest_sha256,
        "files": found.files,
        "tensors": found.tensors,
        "tensor_bytes": found.tensor_bytes,
    }


def _rerun(request: dict[str, Any]) -> dict[str, Any]:
    from linepress.submission.box.rerun import read_kernels_only, rerun

    # Python's own hook would refuse what compiling kernels takes (pickled caches, ctypes); the kernel's doors do not.
    read_kernels_only()
    _shut(request)
    return {"results": rerun(Path(request["folder"]), request["expected"], request["rerun_bytes"])}


def _filtered() -> bool:
    """Whether a filter of system calls is in force (proc(5): ``Seccomp`` of the status is 2)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return re.search(r"^Seccomp:\s+2$", status, re.MULTILINE) is not None


def _interfaces() -> list[str]:
    """Network interfaces this process can see; ``lo`` alone (and down) in a namespace of its own."""
    try:
        lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return []
    return [line.partition(":")[0].strip() for line in lines]


def _peak_bytes() -> int:
    """Most resident memory of this program; what its starter held before it (as in ru_maxrss) does not count."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    sys.exit(main())
