"""The runner as a process of its own: ``python -m linepress.intake.work.runner_main PARENT < settings.json``.

What partners send is parsed on this side only, so a fault there cannot slow or end the service that takes uploads.
Settings come on standard input: a database URL may hold a password, and arguments can be read by other users.
"""

from __future__ import annotations

import signal
import sys
import threading

from linepress.cli.tied import tie_to
from linepress.intake.settings import Settings


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until ``stop`` is set."""
    from linepress import environment
    from linepress.intake.service import Service
    from linepress.intake.work.judging import signing_key
    from linepress.intake.work.runner import Runner

    environment.prepare()
    service = Service(settings)
    try:
        signing_key(settings)
        Runner(service).run_forever(stop)
    finally:
        service.close()


def main() -> None:
    """Entry point of the process."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    tie_to(int(sys.argv[1]))
    run(Settings.model_validate_json(sys.stdin.read()), stop)


if __name__ == "__main__":
    main()
