"""What synthesis needs to know of a liberty file, and the same file with wires on its input pins."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from linepress_hardware.errors import ConfigurationError

_UNITS_OF_PS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3}
_UNITS_OF_FF = {"ff": 1.0, "pf": 1e3}
_PIN_CAPACITANCE = re.compile(
    r"\b((?:rise_|fall_)?capacitance)\s*:\s*([-+.\deE]+)|\b((?:rise_|fall_)capacitance_range)\s*\(\s*([^,]+),\s*([^)]+)\)"
)


@dataclass(frozen=True)
class Liberty:
    """A liberty file.

    Attributes
    ----------
    sha256 : str
        Of its text, decompressed.
    corner : str
        Nominal process, voltage and temperature as the file states them.
    ps, fF : float
        Its units of time and capacitance.
    """

    path: Path
    name: str
    sha256: str
    corner: str
    ps: float
    fF: float
    text: str

    def buffer(self) -> str:
        """The smallest cell whose output is its only input. Raises `ConfigurationError` where there is none."""
        found = []
        for name, start, end in _groups(self.text, "cell"):
            cell = self.text[start:end]
            functions = re.findall(r"\bfunction\s*:\s*\"([^\"]*)\"", cell)
            pins = [pin for pin, _, _ in _groups(cell, "pin")]
            area = re.search(r"\barea\s*:\s*([\d.]+)", cell)
            if area and len(pins) == 2 and len(functions) == 1 and functions[0].strip("() ") in pins:
                found.append((float(area[1]), name))
        if not found:
            raise ConfigurationError(f"the library {self.name} of {self.path} has no buffer: give one with all cells")
        return min(found)[1]

    def with_wires(self, wire_fF: float) -> str:
        """The text with ``wire_fF`` added to every input pin: the wire that leads to it, driven by whoever drives it.

        Wire-load groups are ignored by the mapper, and static timing takes the ``*_capacitance_range`` values.
        """
        if wire_fF == 0:
            return self.text
        more = wire_fF / self.fF

        def add(match: re.Match[str]) -> str:
            if match[1]:
                return f"{match[1]} : {float(match[2]) + more:.6g}"
            return f"{match[3]} ({float(match[4]) + more:.6g}, {float(match[5]) + more:.6g})"

        out, at = [], 0
        for start, end in _pins(self.text):
            group = self.text[start:end]
            if re.search(r"\bdirection\s*:\s*\"?input\b", group):
                out += [self.text[at:start], _PIN_CAPACITANCE.sub(add, group)]
                at = end
        return "".join([*out, self.text[at:]])


def _pins(text: str) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end in _groups(text, "pin")]


def _groups(text: str, kind: str) -> list[tuple[str, int, int]]:
    """Name and span of each group of a kind."""
    spans = []
    brace = re.compile(r"[{}]")
    for match in re.finditer(rf"^\s*{kind}\s*\(\s*\"?([^)\"]*?)\"?\s*\)\s*\{{", text, re.MULTILINE):
        depth, end = 1, match.end()
        for each in brace.finditer(text, end):
            depth += 1 if each[0] == "{" else -1
            if depth == 0:
                end = each.end()
                break
        spans.append((match[1], match.start(), end))
    return spans


def read_liberty(path: Path) -> Liberty:
    """Read a liberty file, plain or gzipped.

    Raises `ConfigurationError` where it cannot be read, is no liberty file or has no flip-flop.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "replace")
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): give a liberty file, .lib or .lib.gz") from None
    name = re.search(r"^\s*library\s*\(\s*\"?([^)\"]+?)\"?\s*\)", text, re.MULTILINE)
    if name is None:
        raise ConfigurationError(
            f"{path} has no library group: give a liberty file of standard cells, .lib or .lib.gz"
        )
    if not re.search(r"^\s*ff\s*\(", text, re.MULTILINE):
        raise ConfigurationError(
            f"the library {name[1]} of {path} has no flip-flop: give a liberty file with the sequential cells too"
        )
    time = re.search(r"time_unit\s*:\s*\"?\s*([\d.]+)\s*(\w+)", text)
    load = re.search(r"capacitive_load_unit\s*\(\s*([\d.]+)\s*,\s*\"?(\w+)", text)
    if time is None or load is None or time[2] not in _UNITS_OF_PS or load[2].lower() not in _UNITS_OF_FF:
        raise ConfigurationError(f"{path} does not state its units of time and capacitance as ps or ns, ff or pf")

    def nominal(what: str) -> str:
        found = re.search(rf"nom_{what}\s*:\s*([-\d.]+)", text)
        return found[1] if found else "?"

    corner = f"{nominal('voltage')} V, {nominal('temperature')} °C"
    return Liberty(
        path, name[1], hashlib.sha256(text.encode()).hexdigest(), corner, float(time[1]) * _UNITS_OF_PS[time[2]],
        float(load[1]) * _UNITS_OF_FF[load[2].lower()], text,
    )  # fmt: skip
