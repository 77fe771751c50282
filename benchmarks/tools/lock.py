"""``python -m benchmarks.tools.lock [--check]``: requirements.lock from pyproject.toml and constraints.txt.

Every package with the hashes of all its files, for Python 3.11 to 3.14 and any machine, by uv (``pip install uv``),
which asks the index for hashes and downloads nothing. ``--check`` needs neither: it holds the lock against the pins.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK, PINS = ROOT / "requirements.lock", ROOT / "constraints.txt"
HEAD = """\
# Every package by version and hash, wheels for Python 3.11 to 3.14; made from pyproject.toml (with dev and postgres)
# and constraints.txt by `python -m benchmarks.tools.lock`. The extra capture is left out: its torch comes by machine.
#   pip install --require-hashes -r requirements.lock && pip install --no-deps .
"""
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    """Name (in the index's spelling) -> version."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PIN.findall(text)}


def problems(lock: str, constraints: str) -> list[str]:
    """Where the lock says otherwise than the pins, or a package has no hash."""
    wanted = pins(constraints)  # what only other platforms take is pinned by the lock alone
    found = [
        f"{name}=={version} is locked, constraints.txt has {wanted[name]}"
        for name, version in pins(lock).items()
        if wanted.get(name, version) != version
    ]
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        if _PIN.match(block) and "--hash=sha256:" not in block:
            found.append(f"{block.split()[0]} has no hash")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the lock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args(argv).check:
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--extra", "postgres", "-q", *options]
        done = subprocess.run(
            [*command, "-c", PINS.name], cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
        )
        LOCK.write_text(HEAD + done.stdout, encoding="utf-8")
    found = problems(LOCK.read_text(encoding="utf-8"), PINS.read_text(encoding="utf-8"))
    sys.stdout.write("\n".join([*found, f"{len(pins(LOCK.read_text(encoding='utf-8')))} packages locked"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
