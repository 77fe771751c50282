"""How numbers are written in reports, tables and verdicts: one place, so that one number never has two spellings.

Every function returns ``–`` for a value that is absent (None or not a number), never an empty cell.
"""

from __future__ import annotations

import math
from typing import Any

ABSENT = "–"


def number(value: Any) -> float | None:
    """``value`` as a finite float, None where there is none."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def ratio(value: Any, digits: int = 3) -> str:
    """raw / compressed, bare: ``1.507``."""
    x = number(value)
    return ABSENT if x is None else f"{x:.{digits}f}"


def percent(value: Any, digits: int = 1, signed: bool = False) -> str:
    """``value`` is already in percent: ``1.3 %``."""
    x = number(value)
    if x is None:
        return ABSENT
    if round(abs(x), digits) == 0:
        x = 0.0
    return f"{x:{'+' if signed and x else ''}.{digits}f} %".replace("-", "−")


def count(value: Any) -> str:
    """Whole number with thousands separated: ``12,288``."""
    x = number(value)
    return ABSENT if x is None else f"{x:,.0f}"


def significant(value: Any, digits: int = 3) -> str:
    """``digits`` significant digits without exponent notation; thousands separated."""
    x = number(value)
    if x is None:
        return ABSENT
    if x == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(x)))
    # Rounding may carry into the next magnitude (9.996 -> 10.00): round first, then count decimals.
    x = round(x, digits - 1 - magnitude)
    magnitude = math.floor(math.log10(abs(x))) if x else 0
    decimals = max(0, digits - 1 - magnitude)
    if magnitude < -6:
        return f"{x:.{digits - 1}e}"
    return f"{x:,.{decimals}f}"


def plain(value: Any, digits: int = 6) -> str:
    """Up to ``digits`` significant digits, without trailing zeros: ``14.3``, ``0.088``, ``540,672``."""
    x = number(value)
    if x is None:
        return ABSENT
    if x.is_integer() and abs(x) < 1e9:
        return f"{x:,.0f}"
    text = significant(x, digits)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def bytes_si(value: Any) -> str:
    """Bytes in powers of 1,000: ``1.51 GB``."""
    x = number(value)
    if x is None:
        return ABSENT
    for factor, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(x) >= factor:
            return f"{significant(x / factor)} {unit}"
    return f"{x:,.0f} B"


def seconds(value: Any) -> str:
    """A span of time in the unit that suits it: ``12.9 ms``, ``3 min 4 s``."""
    x = number(value)
    if x is None:
        return ABSENT
    if x >= 3600:
        return f"{int(x // 3600)} h {int(x % 3600 // 60)} min"
    if x >= 60:
        return f"{int(x // 60)} min {int(x % 60)} s"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(x) >= factor:
            return f"{significant(x / factor)} {unit}"
    return f"{significant(x / 1e-9)} ns"


def with_unit(value: Any, unit: str, digits: int = 4) -> str:
    """The number and its unit; ratios stay bare."""
    x = number(value)
    if x is None:
        return ABSENT
    if unit in ("ratio", ""):
        return ratio(x)
    if unit == "bytes":
        return bytes_si(x)
    if unit == "s":
        return seconds(x)
    return f"{plain(x, digits)} {unit}"
