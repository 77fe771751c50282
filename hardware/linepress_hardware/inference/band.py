"""What a prediction is expected to be off by: residuals on measured machines, carried to a row of the system table.

The roofline is a bound; a machine reaches a share of peak and adds host time. Both come from rows of that machine
where there are some, else from the first measured system, and then the band is what carrying kernels from one GPU to
another was off by. A rate's band ends at the bound. A speed-up's band takes the whole error as time that compression
does not touch (low) or as time that the constants count twice (high, never above the bound without any overhead).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.catalog.files import check_keys, read_toml
from linepress_hardware.errors import ConfigurationError

_KEYS = ("accelerator", "what", "memory_efficiency", "compute_efficiency", "overhead_us", "median", "p90", "rows")


@dataclass(frozen=True)
class Residual:
    """Constants of one measured system and the error they leave, as shares of the measured time per token."""

    accelerator: str
    what: str
    memory_efficiency: float
    compute_efficiency: float
    overhead_s: float
    median: float
    p90: float
    carried: bool = False


@dataclass(frozen=True)
class Residuals:
    """All packaged residuals; `reserve_bytes` a device is what an engine keeps beside weights and KV."""

    systems: dict[str, Residual]
    carried_what: str
    carried_median: float
    carried_p90: float
    reserve_bytes: float
    reserve_what: str


def parse_residuals(text: str, where: str) -> Residuals:
    """A data file → `Residuals`; mistakes are `ConfigurationError` naming file and key."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("system", "carried", "reserve"), ())
    systems = {}
    for one in raw["system"]:
        check_keys(one, f"{where} system", _KEYS, ())
        if not 0 < one["median"] <= one["p90"] < 1:
            raise ConfigurationError(f"{where} {one['accelerator']}: give 0 < median <= p90 < 1")
        systems[one["accelerator"]] = Residual(
            one["accelerator"],
            one["what"],
            float(one["memory_efficiency"]),
            float(one["compute_efficiency"]),
            float(one["overhead_us"]) * 1e-6,
            float(one["median"]),
            float(one["p90"]),
        )
    check_keys(raw["carried"], f"{where} carried", ("what", "median", "p90"), ())
    check_keys(raw["reserve"], f"{where} reserve", ("bytes_per_device", "what"), ())
    return Residuals(
        systems,
        raw["carried"]["what"],
        float(raw["carried"]["median"]),
        float(raw["carried"]["p90"]),
        float(raw["reserve"]["bytes_per_device"]),
        raw["reserve"]["what"],
    )


@cache
def residuals() -> Residuals:
    """The packaged residuals (``data/inference/residuals.toml``)."""
    file = resources.files("linepress_hardware").joinpath("data", "inference", "residuals.toml")
    return parse_residuals(file.read_text(encoding="utf-8"), "residuals.toml")


def residual_of(part: Accelerator) -> Residual:
    """Residual of an accelerator; without rows of its own the first system's constants and the carried band."""
    every = residuals()
    own = every.systems.get(part.name)
    if own is not None:
        return own
    first = next(iter(every.systems.values()))
    return Residual(
        first.accelerator,
        f"no row of {part.name} is measured: constants of {first.accelerator}; band: {every.carried_what}",
        first.memory_efficiency,
        first.compute_efficiency,
        first.overhead_s,
        every.carried_median,
        every.carried_p90,
        carried=True,
    )


def expected(
    tokens: float,
    seconds: tuple[float, float],
    bound_s: tuple[float, float],
    bound_speedup: float,
    residual: Residual,
) -> dict[str, Any]:
    """Tokens/s and speed-up of a step, each with its band (90th percentile).

    `seconds` and `bound_s` are (plain, compressed): what a machine is expected to take, and at least.

    Returns
    -------
    dict
        ``expected_plain_tokens_per_s``, ``expected_tokens_per_s``, ``expected_speedup``, each also with ``_low`` and
        ``_high``; ``band_share``, ``band_median``, ``band_source``, ``band_carried``.
    """
    b = residual.p90
    plain_s, packed_s = seconds
    out: dict[str, Any] = {}
    names = ("expected_plain_tokens_per_s", "expected_tokens_per_s")
    for name, taken, least in zip(names, seconds, bound_s, strict=True):
        rate = tokens / taken
        out |= {name: rate, f"{name}_low": rate / (1 + b), f"{name}_high": min(rate / (1 - b), tokens / least)}
    middle = plain_s / packed_s
    outside = b * plain_s
    low = (plain_s + outside) / (packed_s + outside)
    left = packed_s - outside
    high = bound_speedup if left <= 0 else (plain_s - outside) / left
    ends = sorted((low, high))
    top = max(bound_speedup, middle) if middle >= 1 else ends[1]
    return out | {
        "expected_speedup": middle,
        "expected_speedup_low": ends[0],
        "expected_speedup_high": min(ends[1], top),
        "band_share": b,
        "band_median": residual.median,
        "band_source": residual.what,
        "band_carried": residual.carried,
    }
