"""What a run tells while it works: a live line on a terminal, one plain line every 5 s elsewhere; all on stderr."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import deque
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY_S = 5.0
SPEED_CASES = 64
LONG_S = 10.0
"""A case that takes longer is named."""


class Progress:
    """Counts of one stage after the other.

    Parameters
    ----------
    stream : TextIO
        Where to write; standard error by default.
    live : bool | None
        Whether to redraw one line; by default only on a terminal, and not with NO_COLOR or a dumb terminal.
    """

    def __init__(self, stream: TextIO | None = None, live: bool | None = None) -> None:
        self.stream = stream if stream is not None else sys.stderr
        if live is None:
            plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
            live = self.stream.isatty() and not plain
        self._live = Live(console=Console(file=self.stream), refresh_per_second=4, transient=True) if live else None
        self._begun = False
        self._last_s = time.monotonic()
        self._reset("", 0, 0, 0.0)

    def _reset(self, stage: str, planned: int, resumed: int, work: float, cores: int = 1) -> None:
        self.stage, self.planned, self.resumed = stage, planned, resumed
        self.work, self.cores = work, max(cores, 1)
        self._slowness: deque[float] = deque(maxlen=SPEED_CASES)
        self.ok = self.failed = self.n_bytes = 0
        self.worked = 0.0
        self.at = ""
        self._start_s = time.monotonic()

    def begin(self, stage: str, planned: int, resumed: int, work: float = 0.0, cores: int = 1) -> None:
        """A stage of ``planned`` cases starts, ``resumed`` of them recorded before.

        ``work`` is the core-seconds, about, that are left to do on ``cores``; 0 where all cases are alike.
        """
        self._reset(stage, planned, resumed, work, cores)
        if self._live is not None and not self._begun:
            self._live.start()
            self._begun = True

    def advance(self, ok: bool, n_bytes: int, work: float = 0.0, seconds: float = 0.0) -> None:
        """One case ended, ``work`` of what `begin` was told, which took its core ``seconds``."""
        self.worked += work
        if work and seconds and ok:
            self._slowness.append(seconds / work)
        if ok:
            self.ok += 1
            self.n_bytes += n_bytes
        else:
            self.failed += 1
        self.tick()

    def tick(self, at: str = "", since_s: float = 0.0) -> None:
        """Show the state if it is time to; ``at`` is the case that has been worked on longest, for ``since_s``."""
        self.at = f"   at {at} for {_clock(since_s)}" if at and since_s >= LONG_S else ""
        now_s = time.monotonic()
        if self._live is not None and self._begun:
            self._live.update(Text(self.line()))
        elif self._live is None and now_s - self._last_s >= PLAIN_EVERY_S:
            self.say(self.line())
            self._last_s = now_s

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._live is not None and self._begun:
            self._live.console.print(Text(text))
        else:
            self.stream.write(text + "\n")
            self.stream.flush()

    def end(self) -> None:
        """Take the live line away."""
        if self._live is not None and self._begun:
            self._live.stop()
            self._begun = False

    def line(self) -> str:
        """The state in one line."""
        done = self.resumed + self.ok + self.failed
        share = done / self.planned if self.planned else 1.0
        elapsed_s = time.monotonic() - self._start_s
        rate = f"   {_rate(self.n_bytes / elapsed_s)}" if self.n_bytes and elapsed_s > 0 else ""
        left_s = self._left_s(elapsed_s, done)
        left = "" if left_s is None else f"   eta {_clock(left_s)}"
        width = len(str(self.planned))
        counts = f"ok {self.resumed + self.ok}   failed {self.failed}"
        return (
            f"{self.stage:<8} [{done:>{width}}/{self.planned}] {100 * share:3.0f} %{rate}   {counts}{left}{self.at}"
        )

    def _left_s(self, elapsed_s: float, done: int) -> float | None:
        """Seconds to the end; None where nothing is known yet.

        Cases go largest first, so that a share of cases would promise hours at the start and minutes at the end, and
        the first of them may take minutes: until they end, what they should take is all that is known. What the first
        that ended took then says how slow this machine is, and the share that is done takes over as it grows.
        """
        here = self.ok + self.failed
        if not self.work:
            return elapsed_s * (self.planned - done) / here if here else None
        slowness = statistics.median(self._slowness) if self._slowness else 1.0
        expected_s = self.work * slowness / self.cores - elapsed_s
        share = min(self.worked / self.work, 1.0)
        if not share:
            return expected_s if expected_s > 0 else None
        return (1 - share) * max(expected_s, 0.0) + share * elapsed_s * (1 / share - 1)


def _rate(bytes_per_s: float) -> str:
    """In a unit in which it is not nothing."""
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6)):
        if bytes_per_s >= size / 10:
            return (
                f"{bytes_per_s / size:.2f} {unit}" if bytes_per_s < 10 * size else f"{bytes_per_s / size:.0f} {unit}"
            )
    return f"{bytes_per_s / 1e3:.1f} kB/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
