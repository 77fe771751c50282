"""``linepress`` with a fault in its driver: ``python -m linepress_kit.drivers FAULT=N … -- run SUITE``.

``poison=N``
    The N-th planned tensor's cases kill their worker every time.
``hang=N``
    The N-th planned tensor's cases never end.
``clock=S``
    The wall clock of this process jumps S seconds back and forth at every look of ours. Ray's own waits, which give
    up by it, keep the true one.
``file-limit=B``
    From the first part of the record on, no file can grow beyond B bytes, as on a disk that is full.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import cycle
from typing import Any


def poison(number: int) -> None:
    """See the module."""
    _retarget(number, "kills_worker")


def hang(number: int) -> None:
    """See the module."""
    _retarget(number, "hangs")


def _retarget(number: int, function: str) -> None:
    from linepress.run.plan import Case, Plan

    make = Plan.task

    def task(self: Plan, case: Case) -> Any:
        made = make(self, case)
        if case.tensor != number:
            return made
        return replace(made, target=f"linepress_kit.faults:{function}", arguments=(), options={})

    Plan.task = task  # type: ignore[method-assign]


def clock(step_s: int) -> None:
    """See the module."""
    from linepress.run import events, manifest

    true_time, offsets = time.time, cycle((0, -step_s, step_s, 0))

    class Jumping(datetime):
        """A clock that is set at every look."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Jumping:
            moment = datetime.now(tz or UTC) + timedelta(seconds=next(offsets))
            return cls.fromisoformat(moment.isoformat())

    def jumping_time() -> float:
        ours = sys._getframe(1).f_globals["__name__"].startswith("linepress")
        return true_time() + (next(offsets) if ours else 0)

    time.time = jumping_time
    for module in (manifest, events):
        vars(module)["datetime"] = Jumping


def file_limit(limit_bytes: int) -> None:
    """See the module."""
    from linepress.records import RunStore

    append = RunStore.append

    def limited(self: RunStore, table: str, rows: Any) -> Any:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        return append(self, table, rows)

    RunStore.append = limited  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[int], None]] = {
    "poison": poison,
    "hang": hang,
    "clock": clock,
    "file-limit": file_limit,
}


def main(argv: list[str]) -> None:
    """Put the faults in place and run the command after ``--``."""
    split = argv.index("--")
    for word in argv[:split]:
        name, _, argument = word.partition("=")
        FAULTS[name](int(argument))
    from linepress.cli.app import main as linepress

    sys.argv = ["linepress", *argv[split + 1 :]]
    linepress()


if __name__ == "__main__":
    main(sys.argv[1:])
