"""What runs on a worker: a group of cases, each turned into rows whatever happens to it.

A task names its stage function as ``module:function``, so that the same code runs in a test, a loop or on a hundred
nodes. An exception becomes a failed row. A case that does not end is ended by a watchdog below the interpreter (it
works even while a compiled loop holds the interpreter lock), which takes the worker with it; its stack stays in a
marker file, by which the next try of the case knows what happened and fails it at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from linepress.cluster.metrics import count_case
from linepress.environment import THREAD_VARIABLES, worker_versions

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Split:
    """How a large case is measured in parts on several workers, see `linepress.cluster.split`.

    Attributes
    ----------
    module : str
        Has ``fit(*arguments, **options) -> bytes``, ``part(*arguments, start, where, **options) -> bytes`` and
        ``merge(*arguments, start, parts, **options)``, which gives what the task's target would.
    parts : tuple
        ``where`` of each part.
    memory_bytes : int
        As `Task.memory_bytes`, of ``fit`` and of one part; a merge takes what the whole case would.
    """

    module: str
    parts: tuple[Any, ...]
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One case on its way to a worker.

    Attributes
    ----------
    key : str
        Case key.
    stage : str
        Table that the rows belong to.
    target : str
        ``module:function`` that gives one row or a list of rows.
    arguments : tuple
        Positional arguments of the target.
    options : Mapping
        Keyword arguments of the target.
    identity : Mapping
        Columns that say which case it is, for the row of a case that fails.
    n_bytes : int
        Raw bytes the case goes through, for grouping and progress.
    content_sha256 : str
        Hash the data had when the run was planned; empty where it is not known.
    memory_bytes : int
        Most memory that the case takes on its worker, so that Ray admits no more cases to a node than fit; 0 asks
        for none.
    data : str
        What the case must fetch from afar, empty where its bytes are at hand: neighbours that share it go to one
        worker, which fetches it once.
    afar : Any
        The tensor that this is, where it comes over a network: a worker fetches the next of its group while it
        measures one.
    split : Split | None
        How to spread the case over workers; `run_task` does not look at it and gives the same row.
    """

    key: str
    stage: str
    target: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    n_bytes: int = 0
    content_sha256: str = ""
    memory_bytes: int = 0
    data: str = ""
    afar: Any = None
    split: Split | None = None


class ContentChangedError(RuntimeError):
    """The bytes of a tensor are not those that the run was planned with."""


class CaseTimeoutError(RuntimeError):
    """The case did not end in its time."""


def run_group(tasks: Sequence[Task], timeout_s: float, session: str) -> list[list[Row]]:
    """Rows of each task, in order; never raises on account of a case."""
    pin_threads()
    rows = []
    for number, task in enumerate(tasks):
        following = next((other for other in tasks[number + 1 :] if other.data != task.data), None)
        if following is not None and following.afar is not None:
            from linepress.sources.staging import fetch_ahead

            fetch_ahead(following.afar)
        rows.append(run_task(task, timeout_s, session))
    return rows


def run_task(task: Task, timeout_s: float, session: str) -> list[Row]:
    """Rows of one task, with the common columns filled in; a failed case is one row with status ``failed``."""
    started_at = datetime.now(UTC)
    start = time.perf_counter()
    try:
        function = target_of(task.target)  # outside the watch: a new worker's imports are no fault of its first case
        with within(timeout_s, session, task.key):
            found = function(*task.arguments, **task.options)
        rows = checked(task, found)
    except Exception as error:  # the one place where any exception becomes a failed record
        rows = [{**task.identity, **failure(error)}]
    return completed(task, rows, started_at, time.perf_counter() - start)


@contextlib.contextmanager
def within(timeout_s: float, session: str, name: str) -> Iterator[None]:
    """Run the block under the watchdog; raises `CaseTimeoutError` at once where an earlier try of it was ended."""
    marker = _marker(session, name)
    left_behind = _left_behind(marker)
    if left_behind:
        raise CaseTimeoutError(f"did not end within {timeout_s:g} s; it was in {left_behind}")
    with _watchdog(marker, timeout_s):
        yield


def checked(task: Task, found: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Row]:
    """What a target gave, as rows; raises `ContentChangedError` where the bytes are not those of the plan."""
    rows = [dict(found)] if isinstance(found, Mapping) else [dict(row) for row in found]
    _check_content(task, rows)
    for row in rows:
        row.setdefault("status", "ok")
    return rows


def completed(task: Task, rows: Sequence[Row], started_at: datetime, seconds: float) -> list[Row]:
    """Rows with the columns that every case has."""
    common = {
        "case_key": task.key,
        "seconds": seconds,
        "host": socket.gethostname(),
        "versions": worker_versions(),
        "started_at": started_at,
    }
    if rows:
        count_case(task.stage, {**rows[0], **common}, task.n_bytes)
    return [{**row, **common, "row": number, "attempts": 1} for number, row in enumerate(rows)]


def failure(error: BaseException) -> Row:
    """Status, class, sentence and place of an exception, as columns."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    sentence = " ".join(str(error).split()) or type(error).__name__
    return {
        "status": "failed",
        "error_type": type(error).__name__,
        "error": sentence[:2000],
        "extra": {"raised_at": place},
    }


def _check_content(task: Task, rows: Sequence[Row]) -> None:
    for row in rows:
        found = row.get("content_sha256")
        if task.content_sha256 and found and found != task.content_sha256:
            raise ContentChangedError(
                f"the stored bytes are not those the run was planned with (sha256 {found[:12]}… instead of "
                f"{task.content_sha256[:12]}…); keep the file still and give the same command again"
            )


@lru_cache(maxsize=64)
def target_of(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise TypeError(f"{name} is not a function")
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def pin_threads() -> None:
    """One thread for a case, checked where the library can say so."""
    for name, value in THREAD_VARIABLES.items():
        os.environ[name] = value
    import numba
    import pyarrow

    pyarrow.set_cpu_count(1)
    numba.set_num_threads(1)
    if numba.get_num_threads() != 1:
        raise RuntimeError("Numba does not keep to one thread; set NUMBA_NUM_THREADS=1")


def _marker(session: str, key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"linepress-watchdog-{os.getuid()}" / f"{session}-{key}"


def _left_behind(marker: Path) -> str:
    """Where an earlier try of this case was when the watchdog ended it; empty when none was ended."""
    try:
        lines = marker.read_text(encoding="utf-8", errors="replace").splitlines()
        marker.unlink()
    except FileNotFoundError:
        return ""
    # The dump lists threads newest first; the case runs in the oldest, the main one, at the end.
    stack: list[str] = []
    for line in lines:
        if line.startswith(("Thread ", "Current thread ")):
            stack = []
        elif line.strip().startswith("File "):
            stack.append(line.strip())
    return stack[0] if stack else ""


class _watchdog(contextlib.AbstractContextManager[None]):  # noqa: N801
    """End this process if the block takes longer than ``timeout_s``, leaving its stack in ``marker``."""

    def __init__(self, marker: Path, timeout_s: float) -> None:
        self.marker = marker
        self.timeout_s = timeout_s

    def __enter__(self) -> None:
        self.marker.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.marker.open("wb", buffering=0)
        faulthandler.dump_traceback_later(self.timeout_s, exit=True, file=self.file)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.file.close()
        self.marker.unlink(missing_ok=True)
