"""``linepress doctor``: what a run needs of this machine, what will bend its numbers, what it can do without."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import click

from linepress import environment
from linepress.cli.common import json_option, print_json, stdout
from linepress.tables import format as fmt

EPILOG = """\b
Examples:
  linepress doctor
  linepress doctor --offline --json

Exit codes: 0 nothing stands in the way of a run (warnings included), 1 something does.
"""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


State = Literal["ok", "warn", "fail"]
TIMEOUT_S = 3.0
MIN_MEMORY_BYTES = 2 * 10**9
MIN_DISK_BYTES = 2 * 10**9
MAX_SKEW_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do about it where it is not ok."""

    check: str
    state: State
    found: str
    advice: str = ""


def examine(runs_folder: Path = Path("runs"), offline: bool = False) -> list[Finding]:
    """Run every check; none raises. ``offline`` leaves out those that ask the network."""
    checks: list[Callable[[], Finding]] = [
        python,
        cores,
        governor,
        memory,
        numba_threads,
        ray,
        mlflow,
        lambda: disk(runs_folder),
        clock,
    ]
    if not offline:
        checks.append(hub)
    return [check() for check in checks]


def python() -> Finding:
    """The interpreter."""
    text = sys.version.split()[0]
    if (3, 11) <= sys.version_info[:2] < (3, 15):
        return Finding("python", "ok", text)
    return Finding("python", "fail", text, "use Python 3.11 to 3.14")


def cores() -> Finding:
    """Cores that this process may use, of those the machine has."""
    usable, total = environment.usable_cores(), os.cpu_count() or 1
    found = f"{usable} of {total} usable"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * usable:
        advice = f"load is {load:.1f}: other work will slow the timings; stop it, or trust ratios only"
        return Finding("cores", "warn", found, advice)
    return Finding("cores", "ok", found)


def governor(root: Path = Path("/sys/devices/system/cpu")) -> Finding:
    """Frequency governor of the first core, where the system shows one."""
    file = root / "cpu0" / "cpufreq" / "scaling_governor"
    try:
        name = file.read_text(encoding="utf-8").strip()
    except OSError:
        return Finding("governor", "ok", "not shown by this system")
    if name == "performance":
        return Finding("governor", "ok", name)
    return Finding("governor", "warn", name, "throughput will vary; set the performance governor for timings")


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is free for workers."""
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return Finding("memory", "warn", "not shown by this system", "make sure that 1 GB a worker is free")
    workers = environment.usable_cores()
    found = f"{fmt.bytes_si(available)} free, {workers} workers need up to {fmt.bytes_si(workers * 1e9)}"
    if available < MIN_MEMORY_BYTES:
        return Finding("memory", "fail", found, "free at least 2 GB, or run with --workers 1 on a larger machine")
    if available < workers * 1e9:
        return Finding("memory", "warn", found, f"run with --workers {max(1, int(available // 1e9))}")
    return Finding("memory", "ok", found)


def numba_threads() -> Finding:
    """Numba compiles and keeps what it compiled."""
    try:
        import numba
    except ImportError as error:
        return Finding("numba", "fail", f"cannot be imported ({error})", "install linepress again")
    cache = os.environ.get("NUMBA_CACHE_DIR")
    threads = getattr(numba.config, "NUMBA_NUM_THREADS", "?")
    found = f"{numba.__version__}, {threads} threads allowed, each worker is held to 1"
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return Finding("numba", "fail", found + ", compilation is off", "unset NUMBA_DISABLE_JIT")
    if cache and not os.access(cache, os.W_OK):
        return Finding(
            "numba", "warn", found, f"NUMBA_CACHE_DIR {cache} cannot be written: every start compiles anew"
        )
    if not cache and not environment.kernel_cache_writable():
        advice = "neither the installation nor the user's cache can be written: every start compiles anew"
        return Finding("numba", "warn", found, f"{advice}; set NUMBA_CACHE_DIR to a folder that can be")
    if cache and Path(cache).name.startswith("linepress-kernels-"):
        advice = (
            "neither the installation nor the user's cache can be written; set NUMBA_CACHE_DIR to a lasting folder"
        )
        return Finding("numba", "warn", f"{found}; kernels are kept in {cache} for now", advice)
    return Finding("numba", "ok", found)


def ray() -> Finding:
    """Ray is there, and what it would join."""
    installed = _version("ray")
    if installed is None:
        return Finding(
            "ray", "fail", "not installed", "install linepress again; `linepress measure` works without Ray"
        )
    address = os.environ.get("RAY_ADDRESS")
    if address:
        return Finding(
            "ray",
            "warn",
            f"{installed}, RAY_ADDRESS={address}",
            "a run joins it only with --ray-address; unset it else",
        )
    return Finding("ray", "ok", f"{installed}, local unless --ray-address is given")


def mlflow() -> Finding:
    """Where MLflow would write, and whether it answers."""
    installed = _version("mlflow")
    if installed is None:
        return Finding("mlflow", "warn", "not installed", "records stay in Parquet; `linepress sync` needs it")
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    found = f"{installed}, {uri}"
    if not uri.startswith(("http://", "https://")):
        return Finding("mlflow", "ok", found)
    answer = _head(uri.rstrip("/") + "/health")
    if isinstance(answer, str):
        advice = "records stay in Parquet; `linepress sync RUN` mirrors them when the server is back"
        return Finding("mlflow", "warn", f"{found} does not answer ({answer})", advice)
    return Finding("mlflow", "ok", found)


def disk(folder: Path) -> Finding:
    """Room for the record."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("disk", "fail", f"{place}: {error.strerror}", "choose another folder with --out")
    found = f"{fmt.bytes_si(free)} free in {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "fail", f"{place} cannot be written", "choose another folder with --out")
    if free < MIN_DISK_BYTES:
        return Finding("disk", "warn", found, "make room: records, caches and the MLflow store grow by gigabytes")
    return Finding("disk", "ok", found)


def clock() -> Finding:
    """The clock that times codecs: its resolution, and whether the wall clock is set."""
    info = time.get_clock_info("perf_counter")
    found = f"perf_counter steps {fmt.seconds(info.resolution)}, wall clock {time.strftime('%Y-%m-%d %H:%M:%S %Z')}"
    if not info.monotonic or info.resolution > 1e-6:
        return Finding("clock", "warn", found, "timings of small tensors will be coarse; use larger ones")
    if time.time() < 1_735_689_600:  # 2025-01-01: before this program existed
        return Finding("clock", "warn", found, "the clock is not set; start times and ages will be wrong")
    return Finding("clock", "ok", found)


def hub() -> Finding:
    """Whether the hub answers; being offline only rules out ``hf://`` sources. Also holds the clock against it."""
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return Finding("hub", "warn", "offline mode is on", "hf:// sources come from the local cache only")
    from huggingface_hub import constants

    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    answer = _head(endpoint)
    if isinstance(answer, str):
        return Finding(
            "hub", "warn", f"{endpoint} does not answer ({answer})", "hf:// sources need it; local files do not"
        )
    date = answer.get("date")
    if date:
        try:
            skew_s = time.time() - parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return Finding("hub", "ok", f"{endpoint} answers")
        if abs(skew_s) > MAX_SKEW_S:
            advice = "set the clock: start times, ages and signed downloads depend on it"
            return Finding("hub", "warn", f"{endpoint} answers; this clock is {skew_s:+.0f} s off", advice)
    return Finding("hub", "ok", f"{endpoint} answers")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _head(url: str) -> dict[str, str] | str:
    """Headers of an answer (any status), or in words why there was none."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S) as answer:
            return {k.lower(): v for k, v in answer.headers.items()}
    except HTTPError as error:
        return {k.lower(): v for k, v in error.headers.items()}
    except URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)


@click.command(name="doctor", epilog=EPILOG)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs will be recorded.")
@click.option("--offline", is_flag=True, help="Ask nothing of the network.")
@json_option
def command(runs: Path, offline: bool, as_json: bool) -> int:
    """Check this machine for what a run needs: cores, memory, Numba, Ray, MLflow, disk, clock, hub."""
    from linepress.errors import EXIT_GATE_FAILED, EXIT_OK

    findings = examine(runs, offline)
    if as_json:
        print_json([asdict(f) for f in findings])
    else:
        from rich.markup import escape

        console = stdout()
        wide = max(len(f.found) for f in findings)
        for f in findings:
            style = _STYLES[f.state]
            line = f"{f.check:<9} {escape(f.found):<{min(wide, 72)}}  [{style}]{f.state}[/{style}]"
            console.print(line + (f"   {escape(f.advice)}" if f.advice else ""))
    return EXIT_GATE_FAILED if any(f.state == "fail" for f in findings) else EXIT_OK
