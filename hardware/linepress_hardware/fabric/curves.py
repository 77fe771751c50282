"""Measured collectives as curves of size and number: time by system, operation, number and bytes.

A *curve* is one algorithm of one library on one system. Its time is

    launch + step × messages + own copy + transfer(bytes through a port),

messages and bytes by the closed forms of `linepress_hardware.fabric.collectives` (N transfers by them), launch and
step fitted on floors, and the transfer interpolated between measured rows, logarithm over logarithm:
the rate climbs with the bytes until it is the port's, and no formula gives how. Rows, systems and their sources are
data (``data/collectives``). The library takes the curve of least time among those it chooses at that number and size;
all seven NVLS and ring rows of 2 to 8 H100 follow from that rule.

Nothing here transfers to a system without rows: `collective_time` then returns the closed form of the accelerator's
link and says so.
"""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator, accelerator
from linepress_hardware.catalog.figures import figure
from linepress_hardware.catalog.files import check_keys, lookup, read_toml, whole
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import ALL_REDUCE, all_reduce, exchange

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
CALIBRATING = frozenset({"calibrate", "floor"})
LARGE_BYTES = 2**20
_NEEDED = ("name", "algorithm", "operations", "n")
_ALLOWED = ("chosen", "most", "launch", "step", "copy", "latency_of", "ramp_of", "rows_of")


@dataclass(frozen=True)
class Row:
    """One measured collective. `role`: ``floor`` and ``calibrate`` rows fix a curve, ``hold`` rows judge it,
    ``transfer`` rows are another system's."""

    system: str
    curve: str
    operation: str
    n: int
    size_bytes: int
    time_us: float
    role: str
    source: str


@dataclass(frozen=True)
class Curve:
    """One algorithm of one library on one system; see the module.

    Attributes
    ----------
    n : (int, int)
        Numbers for which it holds.
    chosen : dict
        By operation, the numbers for which its library takes it by itself; `n` where not said.
    most_bytes : float
        Largest payload its library takes it for.
    launch_us, step_us, copy_GBps : float
        Latency and the rate of an accelerator's copy of its own part (out of place; infinite: none).
    moved_bytes, transfer_us : float64[k]
        Knots of the transfer.
    rows_of : str
        System whose rows it is calibrated on; another one's are borrowed, and `collective_time` says so.
    """

    system: str
    name: str
    algorithm: str
    operations: tuple[str, ...]
    n: tuple[int, int]
    chosen: Mapping[str, tuple[int, int]]
    most_bytes: float
    launch_us: float
    step_us: float
    copy_GBps: float
    moved_bytes: NDArray[np.float64]
    transfer_us: NDArray[np.float64]
    rows_of: str

    @property
    def library(self) -> str:
        return self.name.split("-")[0]

    @cached_property
    def _log_knots(self) -> list[tuple[float, float]]:
        return [(math.log(x), math.log(y)) for x, y in zip(self.moved_bytes, self.transfer_us, strict=True)]

    def latency_us(self, operation: str, n: int) -> float:
        """Launch and messages."""
        return self.launch_us + self.step_us * self.messages(operation, n)

    def messages(self, operation: str, n: int) -> float:
        """Messages one after another, by the closed form."""
        return _work(self.algorithm, operation, n, 1.0)[0]

    def transfer_s(self, operation: str, n: int, size_bytes: float) -> float:
        """Seconds at the port; the rate at both ends of the measured range is kept beyond them."""
        moved = _work(self.algorithm, operation, n, size_bytes)[1]
        at, knots = math.log(moved), self._log_knots
        i = min(max(bisect_left(knots, (at,)), 1), len(knots) - 1)
        if at <= knots[0][0]:
            log_us = knots[0][1] + at - knots[0][0]
        elif at >= knots[-1][0]:
            log_us = knots[-1][1] + at - knots[-1][0]
        else:
            (x0, y0), (x1, y1) = knots[i - 1], knots[i]
            log_us = y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        return math.exp(log_us) * 1e-6

    def fixed_s(self, operation: str, n: int, size_bytes: float) -> float:
        """Seconds that fewer bytes on the wire do not save: latency, and the copy of one's own part."""
        return (self.latency_us(operation, n) + _copy_us(self.copy_GBps, operation, n, size_bytes)) * 1e-6

    def time_s(self, operation: str, n: int, size_bytes: float) -> float:
        """Seconds."""
        return self.fixed_s(operation, n, size_bytes) + self.transfer_s(operation, n, size_bytes)

    def takes(self, operation: str, n: int, size_bytes: float, forced: bool = False) -> bool:
        """Whether the library takes it at this number and size; `forced` asks only whether it holds there."""
        low, high = self.n if forced else self.chosen.get(operation, self.n)
        return operation in self.operations and low <= n <= high and (forced or size_bytes <= self.most_bytes)


@dataclass(frozen=True)
class System:
    """Curves of one system."""

    name: str
    title: str
    accelerators: tuple[str, ...]
    transfers: Mapping[str, str]
    domain: int
    curves: tuple[Curve, ...]

    @property
    def aliases(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class Estimate:
    """Time of a collective and where it comes from.

    Attributes
    ----------
    curve, algorithm, library : str
        What the library takes; library ``closed form`` where nothing is measured.
    candidates : dict
        Seconds by curve, of all that were weighed.
    basis : str
        One sentence: the rows it rests on, or that nothing transfers.
    band : float | None
        Largest error on held-out rows of the system whose rows it rests on, from 1 MiB on, as a share; None: no row.
    measured_n : bool
        Whether a row of the curve has this number of accelerators; else its closed form carries it there.
    """

    time_s: float
    curve: str
    algorithm: str
    library: str
    candidates: dict[str, float]
    basis: str
    band: float | None
    measured_n: bool


def _work(algorithm: str, operation: str, n: int, size_bytes: float) -> tuple[float, float]:
    """(messages, bytes through a port) of an operation."""
    if operation == "all_reduce":
        return ALL_REDUCE[algorithm](n, size_bytes)
    messages = math.log2(n) if operation == "all_to_all" else n - 1
    return messages, (n - 1) / n * size_bytes


def _copy_us(copy_GBps: float, operation: str, n: int, size_bytes: float) -> float:
    return 0.0 if operation == "all_reduce" else size_bytes / n / copy_GBps / 1e3


def _data(name: str) -> str:
    return resources.files("linepress_hardware").joinpath("data", "collectives", name).read_text(encoding="utf-8")


@cache
def rows() -> tuple[Row, ...]:
    """Every packaged row."""
    return parse_rows(_data("rows.csv"), "collectives/rows.csv")


def parse_rows(text: str, where: str) -> tuple[Row, ...]:
    """Rows of a CSV with the columns of `Row`; raises `ConfigurationError` naming row and fault."""
    out = []
    for number, raw in enumerate(csv.DictReader(io.StringIO(text)), start=1):
        try:
            row = Row(
                raw["system"],
                raw["curve"],
                raw["operation"],
                int(raw["n"]),
                int(raw["size_bytes"]),
                float(raw["time_us"]),
                raw["role"],
                raw["source"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{where} row {number}: {error}; give the columns of the packaged file"
            ) from None
        if row.n < 2 or row.size_bytes < 1 or not row.time_us > 0 or row.operation not in OPERATIONS:
            raise ConfigurationError(f"{where} row {number} has a number or operation that means nothing; mend it")
        out.append(row)
    return tuple(out)


@cache
def systems() -> dict[str, System]:
    """All packaged systems by name."""
    return parse_systems(_data("systems.toml"), "collectives/systems.toml", rows())


def parse_systems(text: str, where: str, measured: Sequence[Row]) -> dict[str, System]:
    """Systems of a TOML file with curves calibrated on `measured`; every mistake is a `ConfigurationError`."""
    out: dict[str, System] = {}
    known: dict[str, Curve] = {}
    for raw in read_toml(text, where).get("system", []):
        check_keys(raw, f"{where} system", ("name", "title", "domain", "curve"), ("accelerators", "transfers"))
        curves: list[Curve] = []
        for part in raw["curve"]:
            curves.append(_curve(part, raw["name"], measured, known, where))
            known[f"{raw['name']} {curves[-1].name}"] = curves[-1]
        out[raw["name"]] = System(
            raw["name"],
            raw["title"],
            tuple(raw.get("accelerators", ())),
            dict(raw.get("transfers", {})),
            whole(raw["domain"], f"{where} {raw['name']} domain", 2),
            tuple(curves),
        )
    return out


def _earlier(name: str, known: Mapping[str, Curve], where: str) -> Curve:
    if name not in known:
        raise ConfigurationError(f"{where} is {name!r}, no curve before it; use one of {', '.join(known) or 'none'}")
    return known[name]


def _curve(
    raw: dict[str, Any], system: str, measured: Sequence[Row], known: Mapping[str, Curve], where: str
) -> Curve:
    check_keys(raw, f"{where} {system} curve", _NEEDED, _ALLOWED)
    name = f"{system} {raw['name']}"
    algorithm = raw["algorithm"]
    if algorithm not in ALL_REDUCE or not set(raw["operations"]) <= set(OPERATIONS):
        raise ConfigurationError(f"{where} {name}: algorithm {algorithm!r} or its operations are unknown; mend them")
    rows_of = raw.get("rows_of", system)
    mine = [row for row in measured if row.system == rows_of and row.curve == raw["name"]]
    floors = [row for row in mine if row.role == "floor"]
    step = figure(raw["step"], f"{where} {name} step", "seconds").base * 1e6 if "step" in raw else 0.0
    if "launch" in raw:
        launch = figure(raw["launch"], f"{where} {name} launch", "seconds").base * 1e6
    elif "latency_of" in raw:
        same = _earlier(f"{system} {raw['latency_of']}", known, f"{where} {name} latency_of")
        launch, step = same.launch_us, same.step_us
    elif len({_work(algorithm, row.operation, row.n, 1.0)[0] for row in floors}) >= 2:
        counts = np.array([_work(algorithm, row.operation, row.n, 1.0)[0] for row in floors])
        times = np.array([row.time_us for row in floors])  # least squares of the relative error
        launch, step = np.linalg.lstsq(np.stack([1 / times, counts / times], axis=1), np.ones(times.size))[0]
    else:
        raise ConfigurationError(f"{where} {name} has neither launch nor floor rows of two numbers; give one of them")
    copy = figure(raw["copy"], f"{where} {name} copy", "bytes/s").base / 1e9 if "copy" in raw else math.inf
    moved, transfer = [], []
    for row in mine:
        if row.role != "calibrate":
            continue
        messages, size = _work(algorithm, row.operation, row.n, row.size_bytes)
        left = row.time_us - launch - step * messages - _copy_us(copy, row.operation, row.n, row.size_bytes)
        if left <= 0:
            raise ConfigurationError(
                f"{where} {name}: the row of {row.size_bytes} B, {row.n} takes {row.time_us:g} us, no more than its "
                f"latency; lower launch or leave the row out"
            )
        moved.append(size)
        transfer.append(left)
    if not moved:
        raise ConfigurationError(f"{where} {name} has no calibrating row; give rows of two sizes")
    x, y = _knots(moved, transfer)
    if "ramp_of" in raw:  # the other curve over bytes, as a share of what it moves at this one's largest row
        other = _earlier(raw["ramp_of"], known, f"{where} {name} ramp_of")
        rate, ratio = x[-1] / y[-1], other.transfer_us / other.moved_bytes
        full = float(np.interp(math.log(x[-1]), np.log(other.moved_bytes), ratio))
        keep = other.moved_bytes < x[0]
        x = np.concatenate([other.moved_bytes[keep], x])
        y = np.concatenate([(other.moved_bytes * ratio / full / rate)[keep], y])
    span = (int(raw["n"][0]), int(raw["n"][1]))
    return Curve(
        system,
        raw["name"],
        algorithm,
        tuple(raw["operations"]),
        span,
        {operation: (int(low), int(high)) for operation, (low, high) in raw.get("chosen", {}).items()},
        float(raw.get("most", math.inf)),
        float(launch),
        float(step),
        copy,
        x,
        y,
        rows_of,
    )


def _knots(moved: Sequence[float], transfer: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows by bytes; those within a third of one another become their geometric mean, and no time ever falls."""
    order = np.argsort(moved)
    x, y = np.asarray(moved, np.float64)[order], np.asarray(transfer, np.float64)[order]
    group = np.concatenate([[0], np.cumsum(np.diff(np.log(x)) > math.log(4 / 3))])
    count = np.bincount(group)
    x = np.exp(np.bincount(group, np.log(x)) / count)
    y = np.exp(np.bincount(group, np.log(y)) / count)
    return x, np.maximum.accumulate(y)


def system_of(where: str | Accelerator) -> tuple[System | None, str]:
    """The system that has curves for a system's or accelerator's name, and what carries it over ("": its own)."""
    every = systems()
    if isinstance(where, str):
        if where in every:
            return every[where], ""
        where = accelerator(where)
    for system in every.values():
        if where.name in system.accelerators:
            return system, ""
        if where.name in system.transfers:
            return system, system.transfers[where.name]
    return None, ""


def collective_time(
    where: str | Accelerator,
    operation: str,
    n: int,
    size_bytes: float,
    *,
    library: str = "",
    curve: str = "",
) -> Estimate:
    """Time of a collective as a machine takes it.

    Parameters
    ----------
    where : str | Accelerator
        A system of ``data/collectives``, or an accelerator (its name or itself).
    operation : str
        ``all_reduce``, ``all_gather``, ``reduce_scatter`` or ``all_to_all``; `size_bytes` is the full payload of an
        accelerator (as in nccl-tests).
    library : str
        ``nccl``, ``custom``, ``symm``, ``mscclpp``: only that library's curves. "" takes the best of all, as serving
        engines do that choose among them by size.
    curve : str
        Force one curve by name.

    Raises
    ------
    ConfigurationError
        Unknown operation, number beyond the domain, an accelerator without link, or no curve of that library there.
    """
    if operation not in OPERATIONS:
        raise ConfigurationError(f"operation {operation!r} is unknown; use one of {', '.join(OPERATIONS)}")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1 or not 0 <= size_bytes < math.inf:
        raise ConfigurationError(f"{n!r} accelerators, {size_bytes!r} B; give 1 or more and a size of 0 or more")
    if n == 1 or size_bytes == 0:
        return Estimate(0.0, "", "", "", {}, "nothing is sent", None, True)
    system, carried = system_of(where)
    usable = [] if system is None else [one for one in system.curves if operation in one.operations]
    if system is None or (not usable and not library and not curve):
        return _closed_form(where, operation, n, size_bytes, system)
    if n > system.domain:
        raise ConfigurationError(
            f"{system.name} joins {system.domain} accelerators, not {n}; use fewer, or pp and dp beyond"
        )
    wanted = [one for one in usable if (not library or one.library == library) and (not curve or one.name == curve)]
    taken = [one for one in wanted if one.takes(operation, n, size_bytes, forced=bool(curve))]
    if not taken:
        near = ", ".join(f"{one.name} ({one.n[0]} to {one.n[1]})" for one in usable) or "none"
        raise ConfigurationError(
            f"{system.name} has no curve {curve or library or 'at all'} for {operation} over {n} accelerators of "
            f"{size_bytes:g} B; it has {near}"
        )
    times = {one.name: one.time_s(operation, n, size_bytes) for one in taken}
    best = min(taken, key=lambda one: times[one.name])
    count, numbers = _evidence(best.rows_of, best.name)
    basis = f"{count} rows of {systems()[best.rows_of].title} over {', '.join(map(str, numbers))} accelerators"
    if best.rows_of != system.name:
        basis += f", borrowed by {system.name}"
    if carried:
        basis += f"; carried over: {carried}"
    return Estimate(
        times[best.name], best.name, best.algorithm, best.library, times, basis, band(best.rows_of), n in numbers
    )


@cache
def _evidence(system: str, curve: str) -> tuple[int, tuple[int, ...]]:
    """Rows that fix a curve, and the numbers of accelerators they have."""
    own = [row for row in rows() if row.system == system and row.curve == curve and row.role in CALIBRATING]
    return len(own), tuple(sorted({row.n for row in own}))


def _closed_form(
    where: str | Accelerator, operation: str, n: int, size_bytes: float, system: System | None
) -> Estimate:
    if isinstance(where, str):
        if system is not None and not system.accelerators:
            raise ConfigurationError(f"{system.name} has no curve for {operation}; name an accelerator instead")
        where = accelerator(where if system is None or where != system.name else system.accelerators[0])
    part = where
    if part.link is None:
        raise ConfigurationError(f"{part.name} has no [link] in its data file, so nothing joins {n} of them; add it")
    link = part.link
    latency_s, rate_Bps = link.latency.base, link.bandwidth.base
    if operation == "all_reduce":
        algorithm = link.algorithm
        time = all_reduce(algorithm, n, size_bytes, latency_s=latency_s, bandwidth_Bps=rate_Bps)
    else:
        algorithm = "direct"
        time = exchange(operation, n, size_bytes, latency_s=latency_s, bandwidth_Bps=rate_Bps)
    basis = (
        f"closed form of {link.name} at its printed rate: no {operation} of {part.name} is measured here, and the "
        f"constants of other systems do not transfer (large messages of B200 took twice what H100's gave)"
    )
    return Estimate(link.launch.base + time.time_s, "", algorithm, "closed form", {}, basis, None, False)


def judge(roles: Collection[str] = ("hold",), least_bytes: int = LARGE_BYTES) -> list[dict[str, Any]]:
    """Each row of these roles against its curve, forced: predicted time and relative error."""
    out = []
    for row in rows():
        if row.role not in roles or row.size_bytes < least_bytes:
            continue
        found = next(one for one in systems()[row.system].curves if one.name == row.curve)
        predicted = found.time_s(row.operation, row.n, row.size_bytes) * 1e6
        out.append({**row.__dict__, "predicted_us": predicted, "error": predicted / row.time_us - 1})
    return out


@cache
def band(system: str) -> float | None:
    """Largest error of a system's held-out rows from 1 MiB on, as a share."""
    errors = [abs(row["error"]) for row in judge() if row["system"] == system]
    return max(errors) if errors else None


def system(name: str) -> System:
    """A packaged system by name; raises `UnknownPartError` with the nearest names."""
    return lookup(name, systems(), "system of measured collectives")
