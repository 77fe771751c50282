"""What a run tells while it works: a live line on a terminal, one plain line every 5 s elsewhere; all on stderr."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_EVERY_S = 5.0


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
        self._reset("", 0, 0)

    def _reset(self, stage: str, planned: int, resumed: int) -> None:
        self.stage, self.planned, self.resumed = stage, planned, resumed
        self.ok = self.failed = self.n_bytes = 0
        self._start_s = time.monotonic()

    def begin(self, stage: str, planned: int, resumed: int) -> None:
        """A stage of ``planned`` cases starts, ``resumed`` of them recorded before."""
        self._reset(stage, planned, resumed)
        if self._live is not None and not self._begun:
            self._live.start()
            self._begun = True

    def advance(self, ok: bool, n_bytes: int) -> None:
        """One case ended."""
        if ok:
            self.ok += 1
            self.n_bytes += n_bytes
        else:
            self.failed += 1
        self.tick()

    def tick(self) -> None:
        """Show the state if it is time to."""
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
        rate = f"   {self.n_bytes / elapsed_s / 1e9:.2f} GB/s" if self.n_bytes and elapsed_s > 0 else ""
        here = self.ok + self.failed
        left = f"   eta {_clock(elapsed_s / here * (self.planned - done))}" if here else ""
        width = len(str(self.planned))
        counts = f"ok {self.resumed + self.ok}   failed {self.failed}"
        return f"{self.stage:<8} [{done:>{width}}/{self.planned}] {100 * share:3.0f} %{rate}   {counts}{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
