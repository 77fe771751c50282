"""Several channels, an engine each: what the address interleaving of a device does to compressed pages.

Channels share nothing, so that random pages are an equal load on each, and one channel stands for all: it reads
granules of the interleaving at random places, packed beside each other in its own address space. A page of 4 KiB
that is dealt over k channels costs each of them its own look-up; a page placed on one channel (granule 4 KiB) costs
one, and then takes as long as that channel alone needs for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import workloads
from linepress_hardware.channel.converge import LEAST_BATCHES, WARM, half_width, settle
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.headline import plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.plan import METADATA_READ
from linepress_hardware.channel.simulate import ChannelRun
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.errors import ConfigurationError

PAGE_BYTES = 4096
GRANULES_BYTES = (256, 512, 1024, 2048, PAGE_BYTES)
"""Runs of neighbouring bytes that stay on one channel; the last is page-to-channel placement."""
SHARES = (0.5, 0.99)
BEYOND = 3
"""Granules of a batch that lie beyond the last quantile: with fewer a batch does not tell it."""


@dataclass(frozen=True)
class Interleaved:
    """Random whole pages under one granule.

    Attributes
    ----------
    granule_bytes, channels_a_page : int
    plain_GBps, compressed_GBps : float
        Useful bytes of one channel, saturated.
    gain, gain_half_width_pct : float
        NaN where it has not converged.
    metadata_reads_a_page : float
    plain_page_p50_ns, plain_page_p99_ns, page_p50_ns, page_p99_ns : float
        From the request for a page to its last line, over the channels it lies on, at the offered load. Granules of
        a page count as independent.
    plain_page_p50_half_width_pct, … : float
        Relative half-width of the 95 % confidence interval of each, from the quantiles of ten batches of the run.
    fullest_over_mean_pct : float
        How much fuller than the mean the fullest channel of the device is, in %: that much capacity is lost.
    settings : str
        Mapping and policy of both, under which the plain channel is the faster.
    accesses : int
        Of the longer of the two saturated runs.
    """

    granule_bytes: int
    channels_a_page: int
    plain_GBps: float
    compressed_GBps: float
    gain: float
    gain_half_width_pct: float
    metadata_reads_a_page: float
    plain_page_p50_ns: float
    plain_page_p50_half_width_pct: float
    plain_page_p99_ns: float
    plain_page_p99_half_width_pct: float
    page_p50_ns: float
    page_p50_half_width_pct: float
    page_p99_ns: float
    page_p99_half_width_pct: float
    fullest_over_mean_pct: float
    settings: str
    accesses: int


def interleaved(study: Study, granule_bytes: int, load_pct: float) -> Interleaved:
    """Random pages of 4 KiB on a device whose channels take turns every ``granule_bytes``.

    ``load_pct``: offered load of the latency run, % of the pin peak. Raises `ConfigurationError` for a granule that
    is no power of two from a line to a page, or a memory that keeps no best settings (SRAM, flash).
    """
    line_bytes = study.config.line_bytes
    if granule_bytes & (granule_bytes - 1) or not line_bytes <= granule_bytes <= PAGE_BYTES:
        raise ConfigurationError(
            f"a granule of {granule_bytes} B is not a power of two from {line_bytes} to {PAGE_BYTES} B"
        )
    lines = granule_bytes // line_bytes
    at_best = []
    for workload in ("kv-gather", "random"):
        best = plain_at_best(study.memory.name, workload, line_bytes)
        if best is None:
            raise ConfigurationError(f"{study.memory.name} has one channel here; interleaving is for DRAM parts")
        memory = Memory.load(study.memory.name, best.settings.mapping, best.settings.policy)
        tuned = replace(study, memory=memory)
        at_best.append(
            (tuned, settle(_saturated(tuned, lines, plain=True), memory.period_ns, study.n, within=study.within))
        )
    tuned, (_, plain) = max(at_best, key=lambda found: found[1][1].GBps)
    run, rate = settle(_saturated(tuned, lines, plain=False), tuned.memory.period_ns, study.n, within=study.within)
    width = hypot(rate.half_width, plain.half_width)
    channels = PAGE_BYTES // granule_bytes
    interval_ns = granule_bytes / (tuned.memory.peak_GBps * load_pct / 100)
    waits = [_granule_ns(_at_load(tuned, lines, channels, interval_ns, plain=p), lines) for p in (True, False)]
    (plain_p50, plain_p99), (p50, p99) = ([last_of(ns, channels, q) for q in SHARES] for ns in waits)
    return Interleaved(
        granule_bytes=granule_bytes,
        channels_a_page=channels,
        plain_GBps=plain.GBps,
        compressed_GBps=rate.GBps,
        gain=rate.GBps / plain.GBps if width <= study.within * (1 + 1e-9) else float("nan"),
        gain_half_width_pct=100 * width,
        metadata_reads_a_page=float((run.plan.kind == METADATA_READ).sum()) * PAGE_BYTES / run.useful_bytes,
        plain_page_p50_ns=plain_p50[0],
        plain_page_p50_half_width_pct=100 * plain_p50[1],
        plain_page_p99_ns=plain_p99[0],
        plain_page_p99_half_width_pct=100 * plain_p99[1],
        page_p50_ns=p50[0],
        page_p50_half_width_pct=100 * p50[1],
        page_p99_ns=p99[0],
        page_p99_half_width_pct=100 * p99[1],
        fullest_over_mean_pct=100 * fullest_over_mean(study.places()[1], line_bytes, granule_bytes, tuned.memory),
        settings=f"{tuned.memory.mapping} {tuned.memory.policy}",
        accesses=max(rate.accesses, plain.accesses),
    )


def fullest_over_mean(stored_bytes: NDArray[np.int32], line_bytes: int, granule_bytes: int, memory: Memory) -> float:
    """How much the fullest channel of a full device exceeds the mean, relative, for granules of independent sizes.

    The greatest of C sums of n sizes lies about sd × √(2 n ln C) above their mean (the greatest of C normal values).
    """
    lines = granule_bytes // line_bytes
    whole = stored_bytes[: stored_bytes.shape[0] // lines * lines].reshape(-1, lines).sum(axis=1, dtype=np.float64)
    n = memory.capacity_bytes // granule_bytes
    return float(whole.std() / whole.mean()) * sqrt(2 * log(memory.channels_per_device) / n) if whole.any() else 0.0


def _stream(study: Study, n: int, lines: int) -> LineStream:
    """Granules of ``lines`` at random places, in bursts of at most the port's."""
    config = study.config
    found = workloads.kv_gather(n, study.lines, seed=study.seed, block_lines=lines, ids=config.axi_ids)
    return found.in_bursts(min(lines, config.burst_lines), config.axi_ids)


def _run(study: Study, stream: LineStream, plain: bool) -> ChannelRun:
    return study.plain_over(stream) if plain else study.over(stream, study.long_past())


def _saturated(study: Study, lines: int, *, plain: bool) -> Callable[[int], ChannelRun]:
    return lambda n: _run(study, _stream(study, n, lines), plain)


def _at_load(study: Study, lines: int, channels: int, interval_ns: float, *, plain: bool) -> ChannelRun:
    """At least ``study.n`` lines at the load, the lines of a granule offered at once; enough for ten batches."""
    a_batch = ceil(BEYOND / (1 - SHARES[-1] ** (1 / channels)))
    granules = ceil(LEAST_BATCHES * a_batch / (1 - WARM))
    stream = _stream(study, max(study.n // lines, granules) * lines, lines)
    offered_ns = (np.arange(len(stream)) // lines).astype(np.float64) * interval_ns
    return _run(study, replace(stream, arrival_ns=offered_ns), plain)


def _granule_ns(run: ChannelRun, lines: int) -> NDArray[np.float64]:
    """float64[granules]: offer to the last line, in the order of the offers, the first tenth left out."""
    over: NDArray[np.float64] = (run.done_ns - run.offered_ns).reshape(-1, lines).max(axis=1)
    return over[int(WARM * over.shape[0]) :]


def last_of(ns: NDArray[np.float64], k: int, share: float) -> tuple[float, float]:
    """Quantile of the greatest of k independent draws, the draw's own quantile at share^(1/k), and the relative
    half-width of its 95 % interval: `half_width` of the quantiles of ten batches, float64[n], n ≥ 10."""
    quantile = share ** (1 / k)
    batches = ns[ns.shape[0] % LEAST_BATCHES :].reshape(LEAST_BATCHES, -1)
    return float(np.quantile(ns, quantile)), half_width(np.quantile(batches, quantile, axis=1))
