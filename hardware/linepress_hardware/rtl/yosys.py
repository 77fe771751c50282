"""Yosys in a process of its own: it prints as it likes, and ends its process on an error."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from linepress_hardware.errors import ConfigurationError

_WORKER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin.read().splitlines():
    libyosys.run_pass(line, design)
"""


def check_yosys() -> None:
    """Raise `ConfigurationError` where yosys is not installed."""
    if importlib.util.find_spec("pyosys") is None:
        raise ConfigurationError("yosys is needed for this and pyosys is not installed: pip install 'linepress[rtl]'")


def yosys_version() -> str:
    check_yosys()
    return importlib.metadata.version("pyosys")


def cxxrtl_include() -> Path:
    """Folder of the headers that a CXXRTL model includes."""
    check_yosys()
    spec = importlib.util.find_spec("pyosys")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "share/include/backends/cxxrtl/runtime"


def run_yosys(passes: list[str], folder: Path) -> str:
    """Run ``passes`` in ``folder``; returns what yosys printed.

    Raises `ConfigurationError` with yosys' own reason.
    """
    check_yosys()
    done = subprocess.run(
        [sys.executable, "-c", _WORKER],
        input="\n".join(passes),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        reasons = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        reason = (reasons or done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigurationError(f"yosys stops: {reason.strip()}")
    return done.stdout
