"""Memories without DRAM's commands: banked SRAM and page-read flash (HBF), with the result type of the DRAM engine.

A request takes its bank for one access (SRAM) or one page read or program (flash; a read of the page that the bank
read last costs nothing), then the shared data port, oldest ready first. Requests enter in order of arrival, at most
``outstanding`` at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.jit import kernel
from linepress_hardware.dram.parts import Specification, document
from linepress_hardware.dram.port import (
    L_FIRST,
    L_PLACED,
    L_TAKEN,
    M_LINES,
    M_LOOKUP,
    M_NEXT,
    NEVER,
    LineLoad,
    LineTimes,
    PortState,
    arrived,
    port_advance,
    sift_down,
    sift_up,
)
from linepress_hardware.dram.results import LOSS_CAUSES, DramResult
from linepress_hardware.errors import ConfigurationError

A = NDArray[np.int64]
TICK_NS = 2e-5
SUB = 16  # the port's times are in 1/2^16 of a tick
FAR = NEVER >> SUB

_KEYS = {
    "organisation": ("banks", "bank_bytes", "page_bytes", "interleave_bytes", "outstanding", "channels_per_device"),
    "timing": ("bank_read", "bank_write", "latency"),
    "bandwidth": ("read_GBps", "write_GBps"),
    "energy": ("read_pJ_per_bit", "write_pJ_per_bit", "background_mW"),
}


@dataclass(frozen=True, slots=True)
class SimplePart:
    """One channel of an SRAM or flash memory: counts, ns, GB/s (10^9) and pJ/bit by name."""

    name: str
    title: str
    kind: str
    values: dict[str, float]
    figures: tuple[Specification, ...] = field(repr=False, default=())

    @property
    def capacity_bytes(self) -> int:
        return int(self.values["banks"] * self.values["bank_bytes"])

    @property
    def peak_GBps(self) -> float:
        return self.values["read_GBps"]

    @property
    def channels_per_device(self) -> int:
        return int(self.values["channels_per_device"])

    @property
    def idle_read_ns(self) -> float:
        """Closed form of an unloaded 64 B read: access (or page read), latency, transfer."""
        return self.values["bank_read"] + self.values["latency"] + 64 / self.values["read_GBps"]


def load_simple(name: str, overrides: Mapping[str, float] | None = None) -> SimplePart:
    """The packaged SRAM or flash part; overrides by figure name. Raises `ConfigurationError`, `UnknownPartError`."""
    doc = document(name)
    if doc.get("kind") not in ("sram", "hbf"):
        raise ConfigurationError(f"{name} is {doc.get('kind', 'dram')}: load it with load_part")
    return simple_from_document(doc, overrides)


def simple_from_document(doc: Mapping[str, Any], overrides: Mapping[str, float] | None = None) -> SimplePart:
    """Build and check an SRAM or flash part from a parsed data file; raises `ConfigurationError`."""
    name = str(doc["name"])
    values: dict[str, float] = {}
    figures: list[Specification] = []
    sources = doc.get("sources", {})
    for section, keys in _KEYS.items():
        for key, entry in doc.get(section, {}).items():
            unit = "ns" if section == "timing" else "value"
            if key not in keys or unit not in entry or entry.get("source") not in sources:
                raise ConfigurationError(
                    f"part {name}: {section}.{key} needs a known name, {unit} and a listed source"
                )
            values[key] = float(entry[unit])
            status = str(entry.get("status", "preset"))
            figures.append(Specification(key, values[key], unit, str(sources[entry["source"]]), status))
    for key, value in (overrides or {}).items():
        if key not in values:
            raise ConfigurationError(f"part {name} has no override {key!r}: known are {', '.join(values)}")
        values[key] = float(value)
    required = [k for s in ("organisation", "timing", "bandwidth") for k in _KEYS[s] if k != "page_bytes"]
    for key in required:
        if key not in values or not math.isfinite(values[key]) or values[key] <= 0:
            raise ConfigurationError(f"part {name}: {key} = {values.get(key)} must be a finite number above 0")
    return SimplePart(name, str(doc.get("title", name)), str(doc["kind"]), values, tuple(figures))


def arrivals(
    start_ns: NDArray[np.float64],
    finish_ns: NDArray[np.float64],
    arrival_ns: NDArray[np.float64] | None,
    parent: NDArray[np.int64],
    delay_ns: NDArray[np.float64],
) -> NDArray[np.float64]:
    """When each request was offered: its arrival (its acceptance in a saturated run), or after what it waited for."""
    out = start_ns.copy() if arrival_ns is None else arrival_ns.copy()
    waits = parent >= 0
    after = finish_ns[parent[waits]] + delay_ns[waits]
    out[waits] = after if arrival_ns is None else np.maximum(arrival_ns[waits], after)
    return out


@kernel
def _take_lines(
    m: A, lines: A, ready_lines: A, decoded: A, over: A, units: A, heads: A, until: int, early: NDArray[np.bool_],
    parent: A, delay: A, offered: A, finish: A, waiting: A, n_waiting: int,
) -> int:  # fmt: skip
    """Let the port take its next line by ``until`` and hand its requests on; how many wait, -1 if none was taken."""
    i = port_advance(m, lines, ready_lines, decoded, over, units, heads, until << SUB)
    if i < 0:
        return -1
    for r in range(lines[i, L_FIRST], lines[i + 1, L_FIRST]):
        at = lines[i, L_TAKEN] + m[M_LOOKUP] if early[r] else lines[i, L_PLACED]
        offered[r] = (at + (1 << SUB) - 1) >> SUB
        if parent[r] < 0 or finish[parent[r]] >= 0:
            due = offered[r]
            if parent[r] >= 0:
                due = max(due, finish[parent[r]] + delay[r])
            sift_up(waiting, n_waiting, due, r)
            n_waiting += 1
    return n_waiting


@numba.njit(cache=True)
def _serve(
    bank: A, page: A, writes: NDArray[np.bool_], transfer: A, offered: A, order: A, first_child: A, next_child: A,
    parent: A, delay: A, times: A, depth: int, start: A, finish: A, out: A,
    m: A, lines: A, waits: A, ready_lines: A, decoded: A, over: A, units: A, heads: A, head_of: A,
    early: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Serve all requests. ``times``: bank read, bank write, latency; ``out``: bus waits for banks, page hits.

    Times in ticks. ``offered`` is -1 for a request whose line the port has not taken; ``finish`` -1 until served.
    """
    n = bank.shape[0]
    bank_free = np.zeros(int(bank.max()) + 1, np.int64)
    last_page = np.full(bank_free.shape[0], -1, np.int64)
    ready = np.zeros((depth + 1, 2), np.int64)
    waiting = np.zeros((max(1, n - order.shape[0]), 2), np.int64)
    n_ready, n_waiting, following = 0, 0, 0
    now, bus = 0, 0
    for _ in range(n):
        # Take in what has arrived by the time the oldest ready request would use the port.
        while n_ready < depth:
            horizon = max(bus, ready[0, 0]) if n_ready > 0 else FAR
            while m[M_NEXT] < m[M_LINES]:
                until = min(horizon, waiting[0, 0]) if n_waiting > 0 else horizon
                more = _take_lines(
                    m, lines, ready_lines, decoded, over, units, heads, until, early, parent, delay, offered, finish,
                    waiting, n_waiting,
                )  # fmt: skip
                if more < 0:
                    break
                n_waiting = more
            r, due = -1, FAR
            if following < order.shape[0]:
                r = order[following]
                due = offered[r]
            child = n_waiting > 0 and (waiting[0, 0] < due or (waiting[0, 0] == due and waiting[0, 1] < r))
            if child:
                due, r = waiting[0, 0], waiting[0, 1]
            if r < 0 or (n_ready > 0 and due > horizon):
                break
            if child:
                sift_down(waiting, n_waiting)
                n_waiting -= 1
            else:
                following += 1
            start[r] = max(now, due)
            now = start[r]
            if writes[r] and head_of.shape[0] > 0:
                arrived(m, lines, waits, ready_lines, head_of[r], now << SUB)
            b = bank[r]
            begin = max(start[r], bank_free[b])
            if page[r] >= 0 and page[r] == last_page[b] and not writes[r]:
                out[1] += 1
            else:
                begin += times[1] if writes[r] else times[0]
                last_page[b] = page[r]
            bank_free[b] = begin
            sift_up(ready, n_ready, begin + times[2], r)
            n_ready += 1
        t, r = ready[0, 0], ready[0, 1]
        sift_down(ready, n_ready)
        n_ready -= 1
        if t > bus:
            out[0] += t - max(bus, start[r])
        bus = max(bus, t) + transfer[r]
        finish[r] = bus
        if n_ready == depth - 1:
            now = max(now, bus)
        if not writes[r] and head_of.shape[0] > 0:
            arrived(m, lines, waits, ready_lines, head_of[r], bus << SUB)
        child_of = first_child[r]
        while child_of >= 0:
            if offered[child_of] >= 0:
                sift_up(waiting, n_waiting, max(offered[child_of], bus + delay[child_of]), child_of)
                n_waiting += 1
            child_of = next_child[child_of]
    while port_advance(m, lines, ready_lines, decoded, over, units, heads, NEVER) >= 0:
        pass


def simulate_simple(
    part: SimplePart,
    address: NDArray[np.uint64],
    writes: NDArray[np.bool_],
    sizes: NDArray[np.int64],
    arrival: NDArray[np.float64] | None,
    window: int | None,
    children: tuple[NDArray[np.int64], NDArray[np.int64]],
    parent: NDArray[np.int64],
    delay_ns: NDArray[np.float64],
    load: LineLoad | None,
) -> tuple[DramResult, LineTimes | None]:
    """As `simulate` or `simulate_lines`, whose checked arrays these are."""
    v = part.values
    n = address.shape[0]
    chunk = (address // np.uint64(int(v["interleave_bytes"]))).astype(np.int64)
    bank = chunk % int(v["banks"])
    page_bytes = int(v.get("page_bytes", 0))
    page = (address // np.uint64(page_bytes)).astype(np.int64) if page_bytes else np.full(n, -1, np.int64)
    transfer = sizes / np.where(writes, v["write_GBps"], v["read_GBps"])

    def ticks(ns: NDArray[np.float64]) -> A:
        return np.asarray(np.rint(ns / TICK_NS), np.int64)

    port = PortState.none() if load is None else PortState.of(load, n, TICK_NS, SUB)
    if load is None:
        offer = ticks(np.zeros(n) if arrival is None else arrival)
        free = np.flatnonzero(parent < 0)
        order = free[np.argsort(offer[free], kind="stable")].astype(np.int64)
    else:
        offer, order = np.full(n, -1, np.int64), np.empty(0, np.int64)
    begins, ends, tally = np.zeros(n, np.int64), np.full(n, -1, np.int64), np.zeros(2, np.int64)
    times = ticks(np.array([v["bank_read"], v["bank_write"], v["latency"]]))
    depth = min(int(v["outstanding"]), window or int(v["outstanding"]))
    began = time.thread_time()
    _serve(
        bank, page, writes, ticks(transfer), offer, order, *children, parent, ticks(delay_ns), times, depth, begins,
        ends, tally, *port.arrays(), port.head_of, port.early,
    )  # fmt: skip
    seconds = time.thread_time() - began
    start: NDArray[np.float64] = np.multiply(begins, TICK_NS, dtype=np.float64)
    finish: NDArray[np.float64] = np.multiply(ends, TICK_NS, dtype=np.float64)
    out = (float(tally[0]) * TICK_NS, int(tally[1]))
    if load is not None:
        arrival = np.multiply(offer, TICK_NS, dtype=np.float64)
    total = float(finish.max())
    data = float(transfer.sum())
    waits = min(out[0], max(0.0, total - data))
    lost = dict.fromkeys(LOSS_CAUSES, 0.0) | {"row_activation": waits, "idle": max(0.0, total - data - waits)}
    counts = {"RD": int((~writes).sum()), "WR": int(writes.sum())}
    bits = {"read": 8 * int(sizes[~writes].sum()), "write": 8 * int(sizes[writes].sum())}
    energy = {k: v[f"{k}_pJ_per_bit"] * b for k, b in bits.items() if f"{k}_pJ_per_bit" in v}
    result = DramResult(
        part=part.name,
        mapping=f"interleave {int(v['interleave_bytes'])} B",
        policy="in order",
        start_ns=start,
        finish_ns=finish,
        arrival_ns=arrivals(start, finish, arrival, parent, delay_ns),
        is_write=writes,
        bytes=int(sizes.sum()),
        bus_bytes=int(sizes.sum()),
        sim_time_ns=total,
        peak_GBps=part.peak_GBps,
        row_hits=out[1],
        atoms=n,
        forwarded_atoms=0,
        coalesced_atoms=0,
        commands={k: c for k, c in counts.items() if c},
        bus_time_ns={"data": data} | lost,
        energy_pJ=energy,
        seconds=seconds,
    )
    return result, None if load is None else port.times(TICK_NS)
