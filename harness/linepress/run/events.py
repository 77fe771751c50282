"""What happened to a run, as one JSON object a line: ``events.jsonl`` of the run folder.

Every line has ``at`` (UTC by the wall clock), ``since_s`` (seconds since the session began, by a clock that never
jumps), ``level``, ``event`` and ``run``; lines about cases have their ``stage`` and ``case_key``. With
``LINEPRESS_LOG=stderr`` the lines also go to standard error, where a container's log collector finds them, and with
``LINEPRESS_LOG_CASES=1`` every case that ended has a line, not only those that failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"
CLOCK_STEP_S = 5.0
"""A wall clock that strays so far from the steady clock between two events has been set."""


class EventLog:
    """Writer of the events of one session; a log that cannot be written never stops a run, it counts what it lost."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.path = folder / EVENTS
        self.run_id = run_id
        self.lost = 0
        self.clock_steps: list[float] = []
        self._begin_s = time.monotonic()
        self._last = (time.time(), self._begin_s)
        self._to_stderr = os.environ.get("LINEPRESS_LOG") == "stderr"
        self._every_case = os.environ.get("LINEPRESS_LOG_CASES", "") not in ("", "0")

    @property
    def seconds(self) -> float:
        """Since the session began, by the steady clock."""
        return time.monotonic() - self._begin_s

    def note(self, event: str, level: str = "info", **what: Any) -> None:
        """One line."""
        self.check_clock()
        self._write(event, level, what)

    def case(self, stage: str, row: Mapping[str, Any]) -> None:
        """A case that ended: a line if it failed, or if every case is wanted."""
        failed = row.get("status") == "failed"
        if not failed and not self._every_case:
            return
        names = ("case_key", "status", "attempts", "seconds", "host", "error_type", "error")
        what = {name: row[name] for name in names if row.get(name) is not None}
        self._write("case", "error" if failed else "info", {"stage": stage, **what})

    def check_clock(self) -> None:
        """Note a wall clock that was set since the last look: its times are then not those of one clock."""
        wall_s, steady_s = time.time(), time.monotonic()
        step_s = (wall_s - self._last[0]) - (steady_s - self._last[1])
        self._last = (wall_s, steady_s)
        if abs(step_s) > CLOCK_STEP_S:
            self.clock_steps.append(round(step_s, 3))
            self._write("clock set", "warning", {"step_s": round(step_s, 3)})

    def _write(self, event: str, level: str, what: Mapping[str, Any]) -> None:
        line = json.dumps(
            {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "since_s": round(self.seconds, 3),
                "level": level,
                "event": event,
                "run": self.run_id,
                **what,
            },
            ensure_ascii=False,
            default=str,
        )
        if self._to_stderr:
            sys.stderr.write(line + "\n")
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            self.lost += 1
