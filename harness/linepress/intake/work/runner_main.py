"""The runner as a process of its own: ``python -m linepress.intake.work.runner_main PARENT < settings.json``.

What partners send is parsed on this side only, so a fault there cannot slow or end the service that takes uploads.
Settings come on standard input: a database URL may hold a password, and arguments can be read by other users.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from linepress.intake.settings import Settings
from linepress.intake.work.processes import RunnerLock, tie_to

LOCK_EVERY_S = 0.5
END_S = 30.0
"""Past this after a signal the process ends whatever it waits for; what it left is taken up by the next."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until ``stop`` is set, as the only runner of the folder on this machine."""
    from linepress import environment
    from linepress.intake.service import Service
    from linepress.intake.work.judging import signing_key
    from linepress.intake.work.runner import Runner

    environment.prepare()
    settings.prepare()
    # From here on there is something to end in order; before, while everything is loaded, a signal just ends this.
    end_on_signal(stop)
    lock = RunnerLock(settings.data)
    while not lock.take():
        if stop.wait(LOCK_EVERY_S):
            return
    service = Service(settings)
    try:
        signing_key(settings)
        Runner(service).run_forever(stop)
    finally:
        service.close()
        lock.give_back()


def end_on_signal(stop: threading.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT, and end this process `END_S` later if it still is."""

    def asked(*_: object) -> None:
        stop.set()
        late = threading.Timer(END_S, os._exit, (1,))
        late.daemon = True
        late.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)


def main() -> None:
    """Entry point of the process."""
    tie_to(int(sys.argv[1]))
    run(Settings.model_validate_json(sys.stdin.read()), threading.Event())


if __name__ == "__main__":
    main()
