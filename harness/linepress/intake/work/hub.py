"""Files of a hub reference, fetched by a process of its own: ``python -m linepress.intake.work.hub PARENT``.

A hub is anybody's. It may drip, hang or lie, so what it sends is received (by the fetcher of `linepress fetch`) where
it can be ended at any moment, where nothing but the parts of this submission can be written, and without a token.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from linepress.errors import LinepressError
from linepress.intake.settings import Settings
from linepress.intake.work import processes
from linepress.submission.box import isolation, landlock
from linepress.submission.check.ledger import escaped, name_of

Row = dict[str, Any]
POLL_S = 0.1
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "HF_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ANSWER_BYTES = 1 << 16


class HubError(LinepressError):
    """A hub reference that cannot be followed: the partner's to mend."""


class FetchStoppedError(Exception):
    """Nobody wants the files any more."""


def fetch(settings: Settings, row: Row, files: Sequence[Row], folder: Path, stopped: Callable[[], bool]) -> None:
    """Bring ``files`` of a submission's hub reference into ``folder`` as ``NUMBER.part``.

    Raises `HubError` for what the hub does not give, too slowly gives or gives otherwise than declared, and
    `FetchStoppedError` once ``stopped``.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = sum(int(file["bytes"]) for file in files)
    request = {
        "repo": str(row["hub_uri"]).removeprefix("hf://"),
        "revision": row["hub_revision"],
        "folder": str(folder),
        "files": [{key: file[key] for key in ("number", "path", "bytes", "sha256")} for file in files],
    }
    names = (*KEPT, *PROXIES, *(name.lower() for name in PROXIES))
    kept = {name: os.environ[name] for name in names if name in os.environ}
    own = {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(folder / "hub")}
    process = subprocess.Popen(
        [sys.executable, "-m", "linepress.intake.work.hub", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**kept, **own},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    begun_s = time.monotonic()
    before = _received(folder, files)
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(request).encode())
        while process.poll() is None:
            if stopped():
                raise FetchStoppedError
            elapsed_s = time.monotonic() - begun_s
            came = max(0, min(_received(folder, files) - before, wanted))
            if elapsed_s > settings.hub_grace_s + came / settings.hub_Bps:
                raise HubError(f"the hub gave {came} of {wanted} B in {elapsed_s:.0f} s, which is too slow")
            time.sleep(POLL_S)
        answer = process.stdout.read(ANSWER_BYTES)
    finally:
        _end(process)
    try:
        problem = json.loads(answer)["problem"]
    except (ValueError, KeyError, TypeError):
        raise OSError(f"the fetching process ended with {process.returncode} and without an answer") from None
    if problem:
        raise HubError(escaped(str(problem))[:500])


def _received(folder: Path, files: Sequence[Row]) -> int:
    total = 0
    for file in files:
        try:
            total += (folder / f"{file['number']}.part").stat().st_size
        except FileNotFoundError:
            continue
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _answer(request: Row) -> str:
    """Fetch everything; what went wrong in one sentence, empty when nothing did."""
    from linepress.errors import SourceError
    from linepress.sources.hub import hub_endpoint, list_files

    files, revision = request["files"], request["revision"]
    uri = f"hf://{request['repo']}@{revision}"
    try:
        commit, listed = list_files(
            hub_endpoint(), request["repo"], "model", revision, uri=uri, recursive=True, token=False
        )
        if commit != revision:
            return f"{uri}: the hub answered with another commit ({commit})"
        for file in files:
            found = listed.get(file["path"])
            if found is None:
                return f"{uri} has no file {name_of(file['path'])}"
            if found.size_bytes != file["bytes"]:
                return f"{name_of(file['path'])}: the hub has {found.size_bytes} B, declared are {file['bytes']} B"
        for file in files:
            if problem := _one(Path(request["folder"]), file, listed[file["path"]]):
                return problem
    except SourceError as error:
        return str(error)
    return ""


def _one(folder: Path, file: Row, remote: Any) -> str:
    from linepress.errors import SourceError
    from linepress.submission.fetch import receive, unwanted

    def look(head: bytes) -> None:
        if reason := unwanted(head, file["bytes"]):
            raise SourceError(f"{name_of(file['path'])} is {reason}")

    part = folder / f"{file['number']}.part"
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        had = size if size <= file["bytes"] else 0
        os.ftruncate(descriptor, had)
        right = receive(descriptor, file["bytes"], file["sha256"], remote, had, look)
        if not right and had:
            os.ftruncate(descriptor, 0)
            right = receive(descriptor, file["bytes"], file["sha256"], remote, 0, look)
        if not right:
            os.ftruncate(descriptor, 0)
            return f"{name_of(file['path'])}: the hub's file has another sha256 than the declared one"
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return ""


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    processes.tie_to(int(arguments[0]))
    request = json.loads(sys.stdin.read())
    isolation.drop_capabilities()
    landlock.restrict(
        [*landlock.python_folders(), Path("/etc"), Path("/run/systemd/resolve"), Path("/usr/share")],
        writable=[Path(request["folder"]), Path("/dev/null")],
        tcp=True,
    )
    sys.stdout.write(json.dumps({"problem": _answer(request)}))


if __name__ == "__main__":
    main(sys.argv[1:])
