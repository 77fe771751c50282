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

from linepress_hardware.dram.parts import Figure, document
from linepress_hardware.dram.results import LOSS_CAUSES, DramResult
from linepress_hardware.errors import ConfigurationError

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
    figures: tuple[Figure, ...] = field(repr=False, default=())

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
    figures: list[Figure] = []
    sources = doc.get("sources", {})
    for section, keys in _KEYS.items():
        for key, entry in doc.get(section, {}).items():
            unit = "ns" if section == "timing" else "value"
            if key not in keys or unit not in entry or entry.get("source") not in sources:
                raise ConfigurationError(
                    f"part {name}: {section}.{key} needs a known name, {unit} and a listed source"
                )
            values[key] = float(entry[unit])
            figures.append(
                Figure(key, values[key], unit, str(sources[entry["source"]]), str(entry.get("status", "preset")))
            )
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


@numba.njit(cache=True)
def _push(heap: NDArray[np.float64], n: int, key: float, index: float) -> None:
    k = n
    while k > 0:
        up = (k - 1) >> 1
        if heap[up, 0] < key or (heap[up, 0] == key and heap[up, 1] <= index):
            break
        heap[k, 0], heap[k, 1] = heap[up, 0], heap[up, 1]
        k = up
    heap[k, 0], heap[k, 1] = key, index


@numba.njit(cache=True)
def _pop(heap: NDArray[np.float64], n: int) -> None:
    key, index, k = heap[n - 1, 0], heap[n - 1, 1], 0
    while 2 * k + 1 < n - 1:
        c = 2 * k + 1
        if c + 1 < n - 1 and (
            heap[c + 1, 0] < heap[c, 0] or (heap[c + 1, 0] == heap[c, 0] and heap[c + 1, 1] < heap[c, 1])
        ):
            c += 1
        if key < heap[c, 0] or (key == heap[c, 0] and index <= heap[c, 1]):
            break
        heap[k, 0], heap[k, 1] = heap[c, 0], heap[c, 1]
        k = c
    heap[k, 0], heap[k, 1] = key, index


@numba.njit(cache=True)
def _serve(
    bank: NDArray[np.int64],
    page: NDArray[np.int64],
    writes: NDArray[np.bool_],
    transfer: NDArray[np.float64],
    offered: NDArray[np.float64],
    order: NDArray[np.int64],
    first_child: NDArray[np.int64],
    next_child: NDArray[np.int64],
    delay: NDArray[np.float64],
    times: NDArray[np.float64],
    depth: int,
    start: NDArray[np.float64],
    finish: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Serve all requests. ``times``: bank read, bank write, latency (ns); ``out``: bus waits for banks, page hits."""
    n = bank.shape[0]
    bank_free = np.zeros(int(bank.max()) + 1)
    last_page = np.full(bank_free.shape[0], -1, np.int64)
    ready = np.zeros((depth + 1, 2))
    waiting = np.zeros((max(1, n - order.shape[0]), 2))
    n_ready, n_waiting, following = 0, 0, 0
    now, bus = 0.0, 0.0
    for _ in range(n):
        # Take in what has arrived by the time the oldest ready request would use the port.
        while n_ready < depth:
            r, due = np.int64(-1), np.inf
            if following < order.shape[0]:
                r = order[following]
                due = offered[r]
            child = n_waiting > 0 and (waiting[0, 0] < due or (waiting[0, 0] == due and waiting[0, 1] < r))
            if child:
                due, r = waiting[0, 0], np.int64(waiting[0, 1])
            if r < 0 or (n_ready > 0 and due > max(bus, ready[0, 0])):
                break
            if child:
                _pop(waiting, n_waiting)
                n_waiting -= 1
            else:
                following += 1
            start[r] = max(now, due)
            now = start[r]
            b = bank[r]
            begin = max(start[r], bank_free[b])
            if page[r] >= 0 and page[r] == last_page[b] and not writes[r]:
                out[1] += 1
            else:
                begin += times[1] if writes[r] else times[0]
                last_page[b] = page[r]
            bank_free[b] = begin
            _push(ready, n_ready, begin + times[2], np.float64(r))
            n_ready += 1
        t, r = ready[0, 0], np.int64(ready[0, 1])
        _pop(ready, n_ready)
        n_ready -= 1
        if t > bus:
            out[0] += t - max(bus, start[r])
        bus = max(bus, t) + transfer[r]
        finish[r] = bus
        if n_ready == depth - 1:
            now = max(now, bus)
        child_of = first_child[r]
        while child_of >= 0:
            _push(waiting, n_waiting, max(offered[child_of], bus + delay[child_of]), np.float64(child_of))
            n_waiting += 1
            child_of = next_child[child_of]


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
) -> DramResult:
    """As `simulate`, whose checked arrays these are."""
    v = part.values
    n = address.shape[0]
    chunk = (address // np.uint64(int(v["interleave_bytes"]))).astype(np.int64)
    bank = chunk % int(v["banks"])
    page_bytes = int(v.get("page_bytes", 0))
    page = (address // np.uint64(page_bytes)).astype(np.int64) if page_bytes else np.full(n, -1, np.int64)
    transfer = sizes / np.where(writes, v["write_GBps"], v["read_GBps"])
    offered = np.zeros(n) if arrival is None else arrival
    free = np.flatnonzero(parent < 0)
    order = free[np.argsort(offered[free], kind="stable")].astype(np.int64)
    start, finish, out = np.zeros(n), np.zeros(n), np.zeros(2)
    times = np.array([v["bank_read"], v["bank_write"], v["latency"]])
    depth = min(int(v["outstanding"]), window or int(v["outstanding"]))
    began = time.thread_time()
    _serve(
        bank, page, writes, transfer, offered, order, *children, delay_ns, times, depth, start, finish, out
    )  # fmt: skip
    seconds = time.thread_time() - began
    total = float(finish.max())
    data = float(transfer.sum())
    waits = min(float(out[0]), max(0.0, total - data))
    lost = dict.fromkeys(LOSS_CAUSES, 0.0) | {"row_activation": waits, "idle": max(0.0, total - data - waits)}
    counts = {"RD": int((~writes).sum()), "WR": int(writes.sum())}
    bits = {"read": 8 * int(sizes[~writes].sum()), "write": 8 * int(sizes[writes].sum())}
    energy = {k: v[f"{k}_pJ_per_bit"] * b for k, b in bits.items() if f"{k}_pJ_per_bit" in v}
    return DramResult(
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
        row_hits=int(out[1]),
        atoms=n,
        forwarded_atoms=0,
        coalesced_atoms=0,
        commands={k: c for k, c in counts.items() if c},
        bus_time_ns={"data": data} | lost,
        energy_pJ=energy,
        seconds=seconds,
    )
