"""Measured machines: their bandwidth-latency curves, and the model's beside them.

A machine enters with what is printed on it (memory, channels, cores) and two numbers read off its own curves: the
idle latency, of which all but the memory's part is the fabric's, and the lines in flight a channel, which are fetched
lines a second times latency at the saturated ends (Little's law), the median over the shares of reads. Ranks and
refresh that nobody states are tried, and what brings the saturated bandwidths closest is marked as inferred. So
saturated shares and latencies at saturation are a fit of two numbers, not a forecast; the shape of the curve below
saturation is not fitted.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.many_cores import Cores, idle_ns, loaded
from linepress_hardware.dram.parts import Part, document, part_from_document
from linepress_hardware.dram.policy import Policy
from linepress_hardware.errors import ConfigurationError

LOADS = (0.25, 0.5, 0.75, 0.9)
"""Shares of the own saturated bandwidth at which added latencies are compared."""
MAPPING = "MOP4RoXOR"
REFRESHES = ("all_bank", "per_bank")
QUEUE_LINES = 32
PAGE, CLOSE_NS = "timeout", 100.0
"""Rows close when nobody has used them for that long: servers close on an idle timer, and between `open`, which makes
a lone read wait for somebody's row, and `adaptive`, which loses the hits of streams, nothing else fits both ends."""
COLUMNS = ("system", "memory", "peak_GBps", "cores", "read_pct", "bandwidth_GBps", "latency_ns")
OTHER_NAMES = {"cpu": "system", "peak_GBps_own_arithmetic": "peak_GBps"}
SHARES = ("bus", "program")


@dataclass(frozen=True)
class Curves:
    """The measured curves of one machine.

    Attributes
    ----------
    system, memory : str
        As printed, the memory as in ``DDR5-4800``.
    peak_GBps : float
        Of the whole machine.
    cores : int
    share : float64[p]
        Share of reads on the bus of each point.
    bandwidth_GBps, latency_ns : float64[p]
    """

    system: str
    memory: str
    peak_GBps: float
    cores: int
    share: NDArray[np.float64]
    bandwidth_GBps: NDArray[np.float64]
    latency_ns: NDArray[np.float64]

    def shares(self, most: int) -> list[float]:
        """At most so many shares of reads, evenly from the least to the greatest."""
        known = np.unique(self.share)
        pick = np.unique(np.linspace(0, known.size - 1, min(most, known.size)).round().astype(int))
        return [float(s) for s in known[pick]]

    def at(self, share: float) -> Curve:
        mine = np.isclose(self.share, share)
        order = np.argsort(self.bandwidth_GBps[mine], kind="stable")
        return Curve(self.bandwidth_GBps[mine][order], self.latency_ns[mine][order])


@dataclass(frozen=True)
class Curve:
    """One share of reads: ascending bandwidths and their latencies."""

    bandwidth_GBps: NDArray[np.float64]
    latency_ns: NDArray[np.float64]

    @property
    def idle_ns(self) -> float:
        return float(self.latency_ns.min())

    @property
    def saturated_GBps(self) -> float:
        return float(self.bandwidth_GBps.max())

    def added_ns(self) -> list[float]:
        """Latency above idle at `LOADS`, the curve made rising."""
        rising = np.maximum.accumulate(self.latency_ns)
        wanted = [load * self.saturated_GBps for load in LOADS]
        return [float(x) - self.idle_ns for x in np.interp(wanted, self.bandwidth_GBps, rising)]


def read_curves(text: str, where: str, share: str | None = None) -> list[Curves]:
    """Machines of a CSV with the columns of `COLUMNS` (``cpu`` for system is taken); lines with # are left out.

    ``share`` says what read_pct means where the machine is not one of ``machines.toml``: ``bus`` (default) or
    ``program``. Raises `ConfigurationError` in one sentence.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(io.StringIO("\n".join(lines)))
    names = {OTHER_NAMES.get(n, n): n for n in reader.fieldnames or []}
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        raise ConfigurationError(f"{where} has no column {missing[0]}; measured curves need {', '.join(COLUMNS)}")
    points: dict[tuple[str, str, float, int], list[tuple[float, float, float]]] = {}
    for number, row in enumerate(reader, 2):
        try:
            key = (row[names["system"]], row[names["memory"]].split()[0], float(row[names["peak_GBps"]]),
                   int(float(row[names["cores"]])))  # fmt: skip
            point = tuple(float(row[names[c]]) for c in ("read_pct", "bandwidth_GBps", "latency_ns"))
        except (TypeError, ValueError, IndexError, AttributeError):
            raise ConfigurationError(f"{where}: row {number} is not numbers in every column of {COLUMNS}") from None
        pct, bandwidth, latency = point
        finite = all(np.isfinite(point)) and np.isfinite(key[2])
        if not finite or not 0 <= pct <= 100 or bandwidth < 0 or latency <= 0 or key[2] <= 0 or key[3] < 2:
            raise ConfigurationError(
                f"{where}: row {number} is out of range: read_pct 0 … 100, bandwidth ≥ 0, the others above 0"
            )
        points.setdefault(key, []).append((pct / 100, bandwidth, latency))
    if not points:
        raise ConfigurationError(f"{where} holds no measured point; give at least one curve")
    out = []
    for (system, memory, peak, cores), rows in points.items():
        array = np.array(rows)
        meaning = machines().get(system, {}).get("share", share or "bus")
        reads = 1 / (2 - array[:, 0]) if meaning == "program" else array[:, 0]
        out.append(Curves(system, memory, peak, cores, reads, array[:, 1], array[:, 2]))
    return out


def packaged_curves() -> list[Curves]:
    """The machines of ``data/silicon/memory_curves.csv``."""
    text = (files("linepress_hardware") / "data" / "silicon" / "memory_curves.csv").read_text(encoding="utf-8")
    return read_curves(text, "memory_curves.csv")


@lru_cache(maxsize=1)
def compared_rows() -> tuple[dict[str, str], ...]:
    """The recorded comparison, one row a machine over all its curves (``data/silicon/compared.csv``)."""
    text = (files("linepress_hardware") / "data" / "silicon" / "compared.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@lru_cache(maxsize=1)
def machines() -> dict[str, dict[str, Any]]:
    """What is said of machines by name: ranks and the meaning of read_pct."""
    return tomllib.loads((files("linepress_hardware") / "data" / "silicon" / "machines.toml").read_text("utf-8"))


@lru_cache(maxsize=1)
def families() -> dict[str, dict[str, Any]]:
    """Printed memory names: part, data bits of a channel, ranks to try."""
    return tomllib.loads((files("linepress_hardware") / "data" / "silicon" / "families.toml").read_text("utf-8"))


def printed_part(memory: str, overrides: Mapping[str, float] | None = None) -> tuple[Part, list[int]]:
    """The part behind a printed name such as ``DDR5-4800``, at that rate, and the ranks to try."""
    family, dash, rate = memory.partition("-")
    known = families().get(family.upper())
    if known is None or not dash or not rate.isdigit():
        raise ConfigurationError(
            f"memory {memory!r} is not a family and its rate in MT/s, as DDR5-4800; known are {', '.join(families())}"
        )
    doc = deepcopy(document(known["part"]))
    plain = part_from_document(doc)
    # The part's own rate follows from its peak and width; the clock scales with the printed one.
    doc["tCK"] = {"ns": plain.tck_ns * plain.peak_GBps * 8000 / known["bits"] / int(rate), "source": "clock"}
    doc["name"] = f"{known['part']}-{rate}"
    return part_from_document(doc, overrides), [int(r) for r in known["ranks"]]


@dataclass(frozen=True)
class Machine:
    """A measured machine as the model sees it, one channel of it.

    Attributes
    ----------
    curves : Curves
    part : Part
    cores : Cores
    inferred : tuple[str, ...]
        What was not stated but chosen by how close it comes.
    mapping : str
    policy : Policy
    """

    curves: Curves
    part: Part
    cores: Cores
    inferred: tuple[str, ...]
    mapping: str
    policy: Policy

    @property
    def memory_idle_ns(self) -> float:
        return idle_ns(self.part, mapping=self.mapping, policy=self.policy, line_bytes=self.cores.line_bytes)


def lines_in_flight(curves: Curves, channels: int, shares: list[float], line_bytes: int) -> list[float]:
    """Fetched lines in flight a channel at the saturated end of each share of reads, by Little's law."""
    found = []
    for share in shares:
        curve = curves.at(share)
        top = int(np.argmax(curve.bandwidth_GBps))
        fetched_GBps = share * curve.bandwidth_GBps[top]
        found.append(fetched_GBps * curve.latency_ns[top] / line_bytes / channels)
    return found


def little(curves: Curves, channels: int, shares: list[float], line_bytes: int) -> int:
    """Their median over the shares of reads."""
    return max(1, round(float(np.median(lines_in_flight(curves, channels, shares, line_bytes)))))


def machine(
    curves: Curves,
    *,
    overrides: Mapping[str, float] | None = None,
    mapping: str | None = None,
    policy: Policy | None = None,
    in_flight: int | None = None,
    line_bytes: int = 64,
    shares: int = 6,
    lines: int = 30_000,
) -> Machine:
    """The machine behind curves; options replace what would be read off the curves, the data files or inferred."""
    given = dict(overrides or {})
    said = machines().get(curves.system, {})
    picked = curves.shares(shares)
    found: list[Machine] = []
    _, tried = printed_part(curves.memory)
    ranks = [int(given.pop("ranks"))] if "ranks" in given else [said["ranks"]] if "ranks" in said else tried
    refreshes = [said["refresh"]] if "refresh" in said else REFRESHES
    for count, refresh in product(ranks, refreshes):
        part, _ = printed_part(curves.memory, {**given, "ranks": count})
        channels = max(1, round(curves.peak_GBps / part.peak_GBps))
        flying = in_flight or little(curves, channels, picked, line_bytes)
        queue = QUEUE_LINES * max(1, line_bytes // part.atom_bytes)
        if refresh == "per_bank" and not part.standard.per_bank_refresh:
            continue
        chosen = policy or Policy(PAGE, refresh, queue, queue, close_ns=CLOSE_NS)
        cores = Cores(curves.cores - 1, channels, flying, line_bytes=line_bytes)
        if policy is None or refresh == refreshes[0]:
            found.append(Machine(curves, part, cores, (), mapping or MAPPING, chosen))
    if len(found) == 1:
        return found[0]
    ends = [picked[0], picked[-1]] if len(picked) > 1 else picked
    errors = [sum(abs(compare_curve(m, s, lines=lines // 2, loads=()).saturated_error) for s in ends) for m in found]
    best = found[int(np.argmin(errors))]
    return replace(
        best,
        inferred=tuple(
            name
            for name, values in (
                ("ranks", {m.part.ranks for m in found}),
                ("refresh", {m.policy.refresh for m in found}),
            )
            if len(values) > 1
        ),
    )


@dataclass(frozen=True)
class Compared:
    """One share of reads, measured and modelled; shares of peak, and latencies above idle in ns at `LOADS`."""

    share: float
    measured_saturated: float
    model_saturated: float
    measured_added_ns: list[float]
    model_added_ns: list[float]
    measured_saturated_added_ns: float
    model_saturated_added_ns: float

    @property
    def saturated_error(self) -> float:
        return self.model_saturated / self.measured_saturated - 1


def compare_curve(
    m: Machine, share: float, *, lines: int = 30_000, seed: int = 1, loads: tuple[float, ...] = LOADS
) -> Compared:
    """The model's saturated bandwidth and its latencies at the same loads of its own saturation."""
    measured = m.curves.at(share)
    base = m.memory_idle_ns
    cores = replace(m.cores, fabric_ns=max(0.0, measured.idle_ns - base))

    def run(interval_ns: float) -> tuple[float, float]:
        found = loaded(m.part, cores, share, interval_ns, mapping=m.mapping, policy=m.policy, lines=lines, seed=seed)
        return found.bandwidth_GBps, found.latency_ns - base

    top, at_top = run(0.0)
    added = [run(cores.line_bytes / share / (load * top))[1] for load in loads]
    return Compared(
        share,
        measured.saturated_GBps / m.curves.peak_GBps,
        top / m.part.peak_GBps,
        measured.added_ns()[: len(loads)],
        added,
        float(measured.latency_ns.max()) - measured.idle_ns,
        at_top,
    )


def compare(m: Machine, *, shares: int = 6, lines: int = 30_000, seed: int = 1) -> list[Compared]:
    """Several shares of reads of one machine, from the least to the greatest."""
    return [compare_curve(m, s, lines=lines, seed=seed) for s in m.curves.shares(shares)]


@dataclass(frozen=True)
class Errors:
    """Over the curves of a machine: relative errors of the saturated share, mean absolute ns of added latency."""

    saturated_mean: float
    saturated_worst: float
    added_ns: list[float]
    saturated_latency: float

    @classmethod
    def of(cls, rows: list[Compared]) -> Errors:
        saturated = np.abs([r.saturated_error for r in rows])
        added = np.abs([np.subtract(r.model_added_ns, r.measured_added_ns) for r in rows])
        at_top = np.abs([r.model_saturated_added_ns / r.measured_saturated_added_ns - 1 for r in rows])
        return cls(
            float(saturated.mean()),
            float(saturated.max()),
            [float(x) for x in added.mean(axis=0)],
            float(at_top.mean()),
        )
