"""Real ``linepress run`` processes against a cluster, and what a run must look like after whatever happened to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linepress.records import RunStore
from linepress_kit.records import stable_bytes, stored_times

CASES = 96
LEAN = ("--no-mlflow", "--no-report")
SOURCE = f"synthetic:gauss?shape=512x512&tensors={CASES}"


@dataclass
class Drivers:
    """Real ``linepress`` processes in a folder, all against the same two nodes."""

    folder: Path
    address: str
    suite: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, faults: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """``linepress run`` of the suite into ``run``, as a process of its own, without what follows the record."""
        command = [sys.executable, "-m", "linepress_kit.drivers", *faults, "--", "run", str(self.suite)]
        process = subprocess.Popen(
            [*command, "--json", "--out", "run", "--ray-address", self.address, *LEAN, *arguments],
            cwd=self.folder,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "NO_COLOR": "1", **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], limit_s: float = 90.0) -> tuple[int, Any, str]:
        """Exit code, document on standard output (None where there is none) and standard error."""
        out, err = process.communicate(timeout=limit_s)
        return process.returncode, json.loads(out) if out.strip() else None, err

    def run(self, *arguments: str, faults: tuple[str, ...] = ()) -> tuple[int, Any, str]:
        """Start and finish."""
        return self.finish(self.start(*arguments, faults=faults))

    def half_way(self, *arguments: str, faults: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Started, and the first results are on disk."""
        process = self.start(*arguments, faults=faults)
        deadline_s = time.monotonic() + 60
        while not list(self.folder.glob("run/tables/measure/part-*.parquet")):
            if process.poll() is not None or time.monotonic() > deadline_s:
                process.kill()
                raise AssertionError(f"no result on disk: {process.communicate()}")
            time.sleep(0.02)
        return process

    @property
    def store(self) -> RunStore:
        return RunStore.open(self.folder / "run")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of ``events.jsonl`` about ``name``."""
        lines = (self.folder / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def check_whole(self, wanted: bytes, cases: int = CASES) -> None:
        """Complete, each case exactly once, and the same bytes as an undisturbed run."""
        store = self.store
        store.verify()
        times = stored_times(store.path)
        found = (store.manifest["status"], len(times), set(times.values()), stable_bytes(store.path) == wanted)
        if found != ("complete", cases, {1}, True):
            raise AssertionError(f"status, cases, rows a case and same bytes are {found}")
