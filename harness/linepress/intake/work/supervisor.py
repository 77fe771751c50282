"""Keeps a runner process beside the service: starts it, starts it again when it dies, ends it with the service."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from linepress.intake.settings import Settings

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
STOP_S = 40.0


class Supervisor:
    """A runner process that is there while the context is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        # The thread lives as long as the service: Linux ties a child to the thread that started it.
        self._thread = threading.Thread(target=self._keep, name="runner supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def stop_soon(self) -> None:
        """Begin to end the runner, without waiting for it."""
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            process = self._start()
            while process.poll() is None and not self._stop.wait(0.1):
                continue
            if process.poll() is None:
                self._end(process)
                return
            sys.stderr.write(f"runner ended with {process.returncode}; starting another in {wait_s:g} s\n")
            self._stop.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "linepress.intake.work.runner_main", str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                pipe.write(self._settings.model_dump_json().encode())
        except BrokenPipeError:
            sys.stderr.write("runner ended before it read its settings\n")
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
