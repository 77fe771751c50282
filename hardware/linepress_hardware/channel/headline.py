"""The headline: what compression buys in bandwidth, against the plain channel at its best, or a refusal.

The plain channel gets the mapping, page policy, queues and refresh under which it is fastest on this memory and
workload, as a recorded search found them (``data/plain_channel.csv``, by ``python -m benchmarks.plain_channel``). The
compressed channel runs under the same settings. Beside it stands the gain with everything at its default. A gain
above the bytes it saves on the bus names the resource that the saved bytes free.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import hypot, nan

from linepress_hardware.channel.config import LINE_BYTES
from linepress_hardware.channel.converge import Rate, Steady
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.simulate import ChannelRun

WITH_WRITES = ("mixed", "decode")
"""Workloads that write as well where memory is compressed inline; the search has them with and without."""

RESOURCES = {
    "queue_full": "places in the controller's queues",
    "refresh": "time behind refreshes",
    "turnaround": "turns of the data bus",
    "activation_window": "activates (tRRD, tFAW)",
    "row_activation": "bank time (precharge, activate)",
    "bank_group": "column spacing in a bank group",
    "scheduling": "slots of the command bus",
    "idle": "lines in flight at the port",
}
"""What a loss of bus time stands for, in the words of the report."""


@dataclass(frozen=True)
class Settings:
    """Address mapping and controller policy; None for the part's and the model's default."""

    mapping: str | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Best:
    """The fastest settings of the plain channel on one memory and workload, and how fast it was in the search."""

    settings: Settings
    GBps: float
    default_GBps: float


@lru_cache(maxsize=1)
def search_rows() -> tuple[dict[str, str], ...]:
    """Every trial of the recorded search."""
    text = (files("linepress_hardware") / "data" / "plain_channel.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@lru_cache(maxsize=256)
def plain_at_best(memory: str, workload: str, line_bytes: int = LINE_BYTES) -> Best | None:
    """The fastest trial of the search, an open page policy of equals (within the fastest one's interval); None for
    what was not searched (SRAM, flash, a part of one's own)."""
    key = (memory, workload, str(line_bytes))
    mine = [r for r in search_rows() if (r["memory"], r["workload"], r["line_bytes"]) == key]
    if not mine:
        return None
    top = max(mine, key=lambda r: float(r["GBps"]))
    # Lines of one atom do not care whether rows are closed at once, but reads of several do: of equals, take another.
    least = float(top["GBps"]) * (1 - float(top["half_width_pct"]) / 100)
    equals = [r for r in mine if float(r["GBps"]) >= least and not r["policy"].startswith("closed")]
    top = max(equals or [top], key=lambda r: float(r["GBps"]))
    default = next(r for r in mine if not r["mapping"] and not r["policy"])
    return Best(Settings(top["mapping"] or None, top["policy"] or None), float(top["GBps"]), float(default["GBps"]))


@dataclass(frozen=True)
class Headline:
    """One workload on one memory.

    Attributes
    ----------
    settings : Settings
        Of the compressed channel, and of ``same``.
    compressed, same : Rate
        The compressed channel, and the plain one under the same settings.
    best, best_settings
        The plain channel at its best.
    default_compressed, default_plain : Rate
    default_resource : str
        Both with everything at its default, and what ``resource`` is there.
    bytes_saved_ratio : float
        Bytes on the bus a useful byte, plain over compressed, under ``settings``.
    resource : str
        Where the gain lies above the bytes saved by more than its interval: what the saved bytes free. Else empty.
    run : ChannelRun
        The last run behind ``compressed``.
    plain : Steady
        What the last run behind ``same`` moved.
    """

    settings: Settings
    compressed: Rate
    same: Rate
    best: Rate
    best_settings: Settings
    default_compressed: Rate
    default_plain: Rate
    default_resource: str
    bytes_saved_ratio: float
    resource: str
    run: ChannelRun
    plain: Steady
    within: float

    @property
    def gain(self) -> float:
        """Compressed over plain at its best; NaN where it is not known ``within`` that half-width."""
        return self._quotient(self.compressed, self.best)

    @property
    def half_width(self) -> float:
        """Relative half-width of the gain's 95 % confidence interval."""
        return hypot(self.compressed.half_width, self.best.half_width)

    @property
    def default_gain(self) -> float:
        return self._quotient(self.default_compressed, self.default_plain)

    @property
    def default_half_width(self) -> float:
        return hypot(self.default_compressed.half_width, self.default_plain.half_width)

    @property
    def most_in_flight(self) -> int:
        return max(self.run.times.most_in_flight, self.plain.most_in_flight)

    def _quotient(self, a: Rate, b: Rate) -> float:
        # The two run until each is within 1/√2 of it; the last digit forgives the square root.
        known = hypot(a.half_width, b.half_width) <= self.within * (1 + 1e-9) and b.GBps > 0
        return a.GBps / b.GBps if known else nan


def headline(study_at: Callable[[Settings], Study], workload: str, chosen: Settings | None = None) -> Headline:
    """Measure one workload.

    ``study_at`` gives the study under some settings; ``chosen`` settings, where the user gave any, hold for the
    compressed channel, and the plain channel still gets the best of them and of the search.
    """
    default = study_at(Settings())
    searched = f"{workload}+writes" if default.inline and workload in WITH_WRITES else workload
    found = plain_at_best(default.memory.name, searched, default.config.line_bytes)
    known = found.settings if found else Settings()
    settings = known if chosen is None else chosen
    study = study_at(settings)
    run, compressed = study.compressed_rate(workload)
    plain = study.plain_rate(workload)
    same = plain.rate
    best, best_settings = same, settings
    if settings != known:
        other = study_at(known).plain_rate(workload).rate
        if other.GBps > same.GBps:
            best, best_settings = other, known
    steady = Steady.of(run, compressed)
    usual, usual_plain = steady, plain
    if settings != Settings():
        usual, usual_plain = Steady.of(*default.compressed_rate(workload)), default.plain_rate(workload)
    return Headline(
        settings,
        compressed,
        same,
        best,
        best_settings,
        usual.rate,
        usual_plain.rate,
        _resource(usual, usual_plain, usual_plain.rate),
        bytes_saved_ratio(steady, plain),
        _resource(steady, plain, best),
        run,
        plain,
        study.within,
    )


def _resource(run: Steady, plain: Steady, against: Rate) -> str:
    """The resource that carries the gain over ``against`` above the bytes saved; empty where it is not above."""
    if against.GBps <= 0:
        return ""
    least = run.rate.GBps / against.GBps * (1 - hypot(run.rate.half_width, against.half_width))
    return freed_resource(run, plain) if least > bytes_saved_ratio(run, plain) else ""


def bytes_saved_ratio(run: Steady, plain: Steady) -> float:
    """Bytes on the bus a useful byte, plain over compressed."""
    if not run.bus_bytes or not plain.useful_bytes:
        return nan
    return plain.bus_bytes / plain.useful_bytes / (run.bus_bytes / run.useful_bytes)


def freed_resource(run: Steady, plain: Steady) -> str:
    """The loss of bus time a line that shrank most beyond the bytes' share, in words.

    Had every loss shrunk with the bytes, the gain would be the bytes saved; the resource is the loss that shrank most
    beyond that.
    """
    saved = bytes_saved_ratio(run, plain)
    more = {
        cause: plain.bus_time_ns.get(cause, 0.0) / plain.lines / saved - run.bus_time_ns.get(cause, 0.0) / run.lines
        for cause in RESOURCES
    }
    return RESOURCES[max(more, key=lambda cause: more[cause])]
