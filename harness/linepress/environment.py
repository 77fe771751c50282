"""Where a run happens: commit, packages, machine. Also the environment variables that every run sets for itself."""

from __future__ import annotations

import functools
import json
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "linepress",
    "numpy",
    "numba",
    "ray",
    "mlflow",
    "pyarrow",
    "safetensors",
    "huggingface_hub",
    "ml_dtypes",
    "zstandard",
    "lz4",
    "cramjam",
    "isal",
    "deflate",
)
WORKER_PACKAGES = ("linepress", "numpy", "numba", "ml_dtypes", "zstandard", "lz4", "cramjam", "isal", "deflate")

RUN_VARIABLES = {
    # Ray: no usage report, no authentication guessed from a stale head, no environment rebuilt on every node.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
THREAD_VARIABLES = {
    # One case, one core: otherwise every library starts a pool as wide as the machine in every worker.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
}


def prepare() -> None:
    """Set the variables of a run where the user has not; before Ray or MLflow are imported."""
    for name, value in RUN_VARIABLES.items():
        os.environ.setdefault(name, value)


def packages(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Installed version of each package; the ones that are missing are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def worker_versions() -> str:
    """JSON object of what a case's numbers depend on, in this process."""
    return json.dumps({"python": platform.python_version(), **packages(WORKER_PACKAGES)})


def git(folder: Path | None = None) -> dict[str, Any]:
    """Commit and dirty flag of the checkout that linepress runs from; empty when it is installed without one."""
    here = folder or Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None:
        return {}
    status = _git(here, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Host, CPU, cores, memory and operating system of this machine."""
    return {
        "host": socket.gethostname(),
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "os": platform.platform(),
        "python": sys.version.split()[0],
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _first_value(file: Path, key: str) -> str | None:
    try:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() == key:
                return value.strip()
    except OSError:
        return None
    return None


def _memory_bytes() -> int | None:
    text = _first_value(Path("/proc/meminfo"), "MemTotal")
    return int(text.split()[0]) * 1024 if text else None
