"""Stage functions that go wrong on purpose, and suites small enough to run them: for tests of the run engine.

Each function is named in a `linepress.cluster.tasks.Task` as ``linepress_kit.faults:<name>`` and runs on a real
worker.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np


def fine(number: int) -> dict[str, Any]:
    """A case that works."""
    return {"tensor": f"t{number}", "variant": "raw", "raw_bytes": number, "lossless": True}


def several(number: int) -> list[dict[str, Any]]:
    """A case of ``number`` rows."""
    return [{"memory": "m", "codec": "raw", "workload": str(i)} for i in range(number)]


def raises(text: str) -> dict[str, Any]:
    """A case that raises."""
    raise ValueError(text)


def exits() -> dict[str, Any]:
    """A case that asks the interpreter to end, which is no `Exception`."""
    raise SystemExit(3)


def kills_worker() -> dict[str, Any]:
    """A case that takes its worker down, as the out-of-memory killer or a broken library would."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def kills_worker_once(marker: str) -> dict[str, Any]:
    """A case that takes its worker down the first time only."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"tensor": "once", "variant": "raw"}


@numba.njit(cache=True)
def _spin(flag: Any) -> int:
    n = 0
    while flag[0] == 0:
        n += 1
    return n


@numba.njit(cache=True)
def _steps(count: Any) -> Any:
    state = np.uint64(1)
    for _ in range(count):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
    return state


def computes(steps: int) -> dict[str, Any]:
    """A case bound by its core: so many steps of xorshift64, about 2 ns each."""
    return {"tensor": "computed", "variant": "raw", "raw_bytes": int(_steps(steps)) & 1}


def hangs() -> dict[str, Any]:
    """A case that never ends, inside compiled code that holds the interpreter lock."""
    return {"raw_bytes": int(_spin(np.zeros(1, np.int64)))}


def sleeps(seconds: float) -> dict[str, Any]:
    """A case that takes its time."""
    time.sleep(seconds)
    return {"tensor": "slept", "variant": "raw"}


def other_content() -> dict[str, Any]:
    """A case whose bytes are not those of the plan."""
    return {"tensor": "t", "variant": "raw", "content_sha256": "f" * 64}


def resident_bytes() -> dict[str, Any]:
    """Peak resident memory of the worker."""
    import resource

    return {"raw_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def suite_text(name: str, sources: str, codecs: str = "[raw]", more: str = "") -> str:
    """A suite of the measure stage only; ``sources`` is one URI."""
    return (
        f"name: {name}\nversion: 1\nsources:\n  - uri: {sources}\n    label: synthetic\ncodecs: {codecs}\n"
        f"packings: [stream]\nclaims: false\nrepeats: 1\ntimeout_s: 60\n{more}"
    )
