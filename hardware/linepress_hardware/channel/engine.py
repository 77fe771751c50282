"""The codec engine and the return path of the port: pipelines, bypass of raw lines, order per ID, one data bus.

Lines reach the decoders in the order in which their last atom arrives. A decoder takes one line an initiation
interval and gives it back a fixed latency later. The port returns lines of one ID in order, lines of different IDs in
any order, and moves one beat a clock.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def pipeline(
    order: NDArray[np.int64],
    ready_ns: NDArray[np.float64],
    skip: NDArray[np.bool_],
    latency_ns: float,
    interval_ns: float,
    engines: int,
) -> NDArray[np.float64]:
    """Time at which each item leaves ``engines`` equal pipelines, float64[n].

    ``order`` lists items by arrival; an item enters the pipeline that is free first. ``skip`` items pass by.
    """
    out = ready_ns.copy()
    free = np.zeros(engines, np.float64)
    for k in range(order.shape[0]):
        i = order[k]
        if skip[i]:
            continue
        best = 0
        for e in range(1, engines):
            if free[e] < free[best]:
                best = e
        start = max(ready_ns[i], free[best])
        free[best] = start + interval_ns
        out[i] = start + latency_ns
    return out


@njit(cache=True)
def in_order(id_: NDArray[np.int32], ids: int, ready_ns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Earliest time each access may return when accesses of one ID return in order, float64[n]."""
    out = ready_ns.copy()
    newest = np.zeros(ids, np.float64)
    for i in range(out.shape[0]):
        k = id_[i]
        if out[i] < newest[k]:
            out[i] = newest[k]
        newest[k] = out[i]
    return out


@njit(cache=True)
def bus(
    order: NDArray[np.int64], ready_ns: NDArray[np.float64], transfer_ns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time at which each item has crossed a bus that carries one at a time, float64[n]."""
    out = np.empty_like(ready_ns)
    free = 0.0
    for k in range(order.shape[0]):
        i = order[k]
        free = max(free, ready_ns[i]) + transfer_ns[i]
        out[i] = free
    return out


def decode_lines(
    ready_ns: NDArray[np.float64],
    bypass: NDArray[np.bool_],
    *,
    latency_ns: float,
    interval_ns: float,
    engines: int,
) -> NDArray[np.float64]:
    """Time at which each line leaves the decoders; ``bypass`` lines leave when they arrive."""
    order = np.argsort(ready_ns, kind="stable")
    return pipeline(order, ready_ns, bypass, latency_ns, interval_ns, engines)


def return_lines(
    ready_ns: NDArray[np.float64], id_: NDArray[np.int32], transfer_ns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Time of the last beat of each line on the R channel: order kept within an ID, one line at a time on the bus."""
    ids = int(id_.max()) + 1 if id_.size else 1
    released = in_order(id_, ids, ready_ns)
    return bus(np.argsort(released, kind="stable"), released, transfer_ns)
