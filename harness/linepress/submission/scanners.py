"""S18: foreign scanners as advisers. They are recorded; they can refuse and never let pass."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from linepress.errors import LinepressError
from linepress.submission.box.isolation import clean_environment
from linepress.submission.check.ledger import Ledger, escaped
from linepress.suite.yaml12 import parse_yaml

OUTPUT_BYTES = 2000


@dataclass(frozen=True)
class Scanner:
    """A command and the meaning of its exit codes; ``{folder}`` in the command stands for the submission."""

    name: str
    command: tuple[str, ...]
    clean: tuple[int, ...]
    found: tuple[int, ...]
    nothing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What a scanner said: ``clean``, ``found``, ``nothing`` (it looked at nothing) or ``failed``."""

    scanner: str
    outcome: Literal["clean", "found", "nothing", "failed"]
    output: str


def known_scanners() -> dict[str, Scanner]:
    """The scanners of ``data/scanners.yaml`` by name."""
    text = files("linepress.submission").joinpath("data/scanners.yaml").read_text(encoding="utf-8")
    return {
        entry["name"]: Scanner(
            entry["name"],
            tuple(entry["command"]),
            tuple(entry["clean"]),
            tuple(entry["found"]),
            tuple(entry["nothing"]),
        )
        for entry in parse_yaml(text, Path("scanners.yaml")).data["scanners"]
    }


def scanner_named(name: str) -> Scanner:
    """The scanner called ``name``; raises `LinepressError` naming those that are known."""
    known = known_scanners()
    if name not in known:
        raise LinepressError(f"no scanner {name!r}; known are {', '.join(known)}")
    return known[name]


def scan(folder: Path, scanner: Scanner, timeout_s: float) -> Scan:
    """Run one scanner over ``folder``."""
    command = [part.replace("{folder}", str(folder)) for part in scanner.command]
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            return Scan(scanner.name, "failed", f"cannot be started ({error.strerror})")
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Scan(scanner.name, "failed", f"did not end within {timeout_s:.0f} s")
        output.seek(0)
        said = escaped(output.read(OUTPUT_BYTES).decode("utf-8", "replace").replace("\n", " | "))
    for outcome, codes in (("clean", scanner.clean), ("found", scanner.found), ("nothing", scanner.nothing)):
        if code in codes:
            return Scan(scanner.name, outcome, said)  # type: ignore[arg-type]
    return Scan(scanner.name, "failed", f"exit code {code}: {said}")


def check_scans(scans: Sequence[Scan], ledger: Ledger) -> None:
    """S18."""
    for one in scans:
        if one.outcome == "found":
            ledger.fail("S18", f"{one.scanner} objects: {one.output}")
        elif one.outcome == "failed":
            ledger.doubt("S18", f"{one.scanner} failed: {one.output}")
        elif one.outcome == "nothing":
            ledger.doubt("S18", f"{one.scanner} scanned nothing, which is not clean")
        else:
            ledger.saw("S18", f"{one.scanner} objects to nothing, which proves nothing")
    if not scans:
        ledger.saw("S18", "no scanner was asked; the verdict rests on the other rules alone")
