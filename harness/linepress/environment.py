"""Where a run happens: commit, packages, machine. Also the environment variables that every run sets for itself."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import socket
import stat
import subprocess
import sys
import tempfile
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

KERNEL_PACKAGES = ("linepress_codecs", "linepress_hardware")

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


def cache_root() -> Path:
    """The user's cache folder: ``XDG_CACHE_HOME``, ``~/.cache``, or a private temporary one without a home."""
    stated = os.environ.get("XDG_CACHE_HOME")
    if stated:
        return Path(stated)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor an entry in the user database
        return private_folder("cache")


def expanded(text: str) -> Path:
    """A path with ``~`` put in, where that succeeds and no file has the name as it is written."""
    path = Path(text)
    if not text.startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def private_folder(name: str) -> Path:
    """A folder for this user alone in the temporary one; under another name where someone else has taken its own."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"linepress-{name}-{user}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        held = path.lstat()
        if stat.S_ISDIR(held.st_mode) and held.st_uid == user and not held.st_mode & 0o077:
            return path
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"linepress-{name}-"))


def prepare_kernel_cache() -> None:
    """Give Numba a place for compiled kernels where neither the installation nor the user's cache can be written.

    Numba refuses to import a cached kernel without such a place; a temporary one costs compiling anew now and then.
    """
    if os.environ.get("NUMBA_CACHE_DIR") or kernel_cache_writable():
        return
    try:
        os.environ["NUMBA_CACHE_DIR"] = str(private_folder("kernels"))
    except OSError:
        forgo_kernel_cache()


def forgo_kernel_cache() -> None:
    """Let kernels that ask for a cache compile without one where there is no place for it at all."""
    from numba.core.dispatcher import Dispatcher

    enable = Dispatcher.enable_caching

    def enable_if_possible(self: Dispatcher) -> None:
        try:
            enable(self)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise

    Dispatcher.enable_caching = enable_if_possible  # type: ignore[method-assign]


def kernel_cache_writable() -> bool:
    """Whether Numba finds a place by itself: beside the kernels, or in the user's cache."""
    beside = [folder for name in KERNEL_PACKAGES for folder in _kernel_folders(name)]
    if beside and all(_writable(folder / "__pycache__") for folder in beside):
        return True
    stated = os.environ.get("XDG_CACHE_HOME")
    try:
        return _writable((Path(stated) if stated else Path.home() / ".cache") / "numba")
    except RuntimeError:
        return False


def _kernel_folders(package: str) -> list[Path]:
    found = importlib.util.find_spec(package)
    roots = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    return [
        folder for root in roots for folder in (root, *(p for p in root.iterdir() if (p / "__init__.py").exists()))
    ]


def _writable(folder: Path) -> bool:
    """Whether a file could be made in `folder`, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


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
