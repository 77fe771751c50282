"""A port in front of the controller, inside the loop: lines in flight, coders, order of an ID, data buses.

A *line* is one access of the master. It is taken when an address slot is free and fewer than the limit are in flight;
its requests then reach the controller; it is over when its last beat (a read) or its response (a write) has left the
port, and only then frees its place. So whatever delays a return, a decoder, an older line of the same ID, the bus,
holds back the lines behind it, as it does in a machine.

Read: taken → look-up → requests → all data there → decoder (raw lines pass by) → order of the ID → R beats.
Write: taken → W beats → encoder → look-up → accepted by the controller's write queue → order of the ID → B.

Times are int64 in 1/2^k of the engine's tick, so that both engines (`engine`, `simple`), whose k differ, share this
code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.jit import kernel
from linepress_hardware.errors import ConfigurationError

A = NDArray[np.int64]
NEVER = 1 << 62
# lines[]: first request; when offered; flags; number of its ID, port and direction; its port; data beats on its bus;
# next line of the same number; what it still waits for; when its data is there; then when it was taken, decoded and
# over (-1: not yet).
(L_FIRST, L_OFFER, L_FLAGS, L_ORDER, L_PORT, L_BEATS, L_SAME, L_LEFT, L_DATA, L_TAKEN, L_OUT, L_DONE, L_PLACED,
 N_LINE) = range(14)  # fmt: skip
WRITE_FLAG, BYPASS_FLAG = 1, 2
W_LINE, W_EXTRA, W_NEXT, N_WAIT = range(4)  # waits[]: line, time on top, next waiter of the same request
# m[]: limits and latencies, then state.
(M_LINES, M_LIMIT, M_CLOCK, M_LOOKUP, M_DECODE, M_DECODE_EVERY, M_DECODERS, M_ENCODE, M_ENCODE_EVERY, M_ENCODERS,
 M_NEXT, M_FLYING, M_MOST, M_READY, M_DECODED, M_DONE, N_MASTER) = range(17)  # fmt: skip
# units[]: when each decoder and encoder is free; when each port's address, W, R and B channels are.
U_DECODE, U_ENCODE, U_ADDRESS, U_WDATA, U_RDATA, U_RESPONSE, N_UNIT = range(7)


@kernel
def sift_up(heap: A, n: int, t: int, i: int) -> None:
    """Add (t, i) to a binary heap of n rows, least first."""
    k = n
    while k > 0:
        up = (k - 1) >> 1
        if heap[up, 0] < t or (heap[up, 0] == t and heap[up, 1] <= i):
            break
        heap[k, 0], heap[k, 1] = heap[up, 0], heap[up, 1]
        k = up
    heap[k, 0], heap[k, 1] = t, i


@kernel
def sift_down(heap: A, n: int) -> None:
    """Remove the least of n rows."""
    t, i, k = heap[n - 1, 0], heap[n - 1, 1], 0
    while 2 * k + 1 < n - 1:
        c = 2 * k + 1
        if c + 1 < n - 1 and (
            heap[c + 1, 0] < heap[c, 0] or (heap[c + 1, 0] == heap[c, 0] and heap[c + 1, 1] < heap[c, 1])
        ):
            c += 1
        if t < heap[c, 0] or (t == heap[c, 0] and i <= heap[c, 1]):
            break
        heap[k, 0], heap[k, 1] = heap[c, 0], heap[c, 1]
        k = c
    heap[k, 0], heap[k, 1] = t, i


@kernel
def arrived(m: A, lines: A, waits: A, ready: A, node: int, time: int) -> None:
    """Everything that waits for a request hears that it is there at ``time``."""
    while node >= 0:
        i = waits[node, W_LINE]
        lines[i, L_LEFT] -= 1
        lines[i, L_DATA] = max(lines[i, L_DATA], time + waits[node, W_EXTRA])
        if lines[i, L_LEFT] == 0 and lines[i, L_TAKEN] >= 0:
            sift_up(ready, m[M_READY], lines[i, L_DATA], i)
            m[M_READY] += 1
        node = waits[node, W_NEXT]


@kernel
def admission(m: A, lines: A, over: A, units: A) -> int:
    """Earliest time at which the next line can be taken; NEVER where nothing known frees a place, or none is left."""
    i = m[M_NEXT]
    if i >= m[M_LINES]:
        return NEVER
    at = max(lines[i, L_OFFER], units[U_ADDRESS, lines[i, L_PORT]])
    while m[M_DONE] > 0 and over[0, 0] <= at:
        sift_down(over, m[M_DONE])
        m[M_DONE] -= 1
        m[M_FLYING] -= 1
    if m[M_FLYING] < m[M_LIMIT]:
        return int(at)
    if m[M_DONE] > 0:
        return int(over[0, 0])
    return NEVER


@kernel
def port_next(m: A, lines: A, ready: A, decoded: A, over: A, units: A) -> int:
    """When the port must be looked at again; NEVER once every line is taken."""
    e = admission(m, lines, over, units)
    if m[M_NEXT] < m[M_LINES] and m[M_FLYING] >= m[M_LIMIT]:
        if m[M_READY] > 0:
            e = min(e, ready[0, 0])
        if m[M_DECODED] > 0:
            e = min(e, decoded[0, 0])
    return e


@kernel
def leave(m: A, lines: A, over: A, units: A, heads: A, i: int, t: int) -> None:
    """Line i may leave at t: it does once every older line of its ID has, and takes those behind it along."""
    lines[i, L_OUT] = t
    order = lines[i, L_ORDER]
    port = lines[i, L_PORT]
    h = heads[order]
    while h >= 0 and lines[h, L_OUT] >= 0:
        if order & 1:
            end = max(units[U_RESPONSE, port], t) + m[M_CLOCK]
            units[U_RESPONSE, port] = end
        else:
            end = max(units[U_RDATA, port], t) + lines[h, L_BEATS]
            units[U_RDATA, port] = end
        lines[h, L_DONE] = end
        sift_up(over, m[M_DONE], end, h)
        m[M_DONE] += 1
        h = lines[h, L_SAME]
    heads[order] = h


@kernel
def port_advance(m: A, lines: A, ready: A, decoded: A, over: A, units: A, heads: A, until: int) -> int:
    """Play the port's own events up to ``until`` in order of time; stops at the first line taken and returns it.

    -1: none was taken. The caller hands the requests of the line to its memory and calls again.
    """
    while True:
        taken = admission(m, lines, over, units)
        first = ready[0, 0] if m[M_READY] > 0 else NEVER
        out = decoded[0, 0] if m[M_DECODED] > 0 else NEVER
        soonest = min(taken, min(first, out))
        if soonest > until or soonest == NEVER:
            return -1
        if out <= first and out <= taken:
            i = decoded[0, 1]
            sift_down(decoded, m[M_DECODED])
            m[M_DECODED] -= 1
            leave(m, lines, over, units, heads, i, out)
        elif first <= taken:
            i = ready[0, 1]
            sift_down(ready, m[M_READY])
            m[M_READY] -= 1
            if lines[i, L_FLAGS] & BYPASS_FLAG:
                leave(m, lines, over, units, heads, i, first)
                continue
            free = 0
            for k in range(1, m[M_DECODERS]):
                if units[U_DECODE, k] < units[U_DECODE, free]:
                    free = k
            begin = max(first, units[U_DECODE, free])
            units[U_DECODE, free] = begin + m[M_DECODE_EVERY]
            sift_up(decoded, m[M_DECODED], begin + m[M_DECODE], i)
            m[M_DECODED] += 1
        else:
            i = m[M_NEXT]
            if m[M_FLYING] >= m[M_LIMIT]:
                sift_down(over, m[M_DONE])
                m[M_DONE] -= 1
                m[M_FLYING] -= 1
            m[M_NEXT] = i + 1
            m[M_FLYING] += 1
            m[M_MOST] = max(m[M_MOST], m[M_FLYING])
            port = lines[i, L_PORT]
            units[U_ADDRESS, port] = taken + m[M_CLOCK]
            lines[i, L_TAKEN] = taken
            placed = taken
            if lines[i, L_FLAGS] & WRITE_FLAG:
                placed = max(units[U_WDATA, port], taken) + lines[i, L_BEATS]
                units[U_WDATA, port] = placed
                free = 0
                for k in range(1, m[M_ENCODERS]):
                    if units[U_ENCODE, k] < units[U_ENCODE, free]:
                        free = k
                placed = max(placed, units[U_ENCODE, free])
                units[U_ENCODE, free] = placed + m[M_ENCODE_EVERY]
                placed += m[M_ENCODE]
            lines[i, L_PLACED] = placed + m[M_LOOKUP]
            lines[i, L_DATA] = max(lines[i, L_DATA], lines[i, L_PLACED])
            if lines[i, L_LEFT] == 0:
                sift_up(ready, m[M_READY], lines[i, L_DATA], i)
                m[M_READY] += 1
            return int(i)


@dataclass(frozen=True, slots=True)
class PortSpec:
    """Limits and latencies of a port, times in ns.

    Attributes
    ----------
    in_flight : int
        Most lines taken and not over.
    clock_ns : float
        One address a clock on AR and AW together, one response a clock on B.
    lookup_ns : float
        From taken (a write: encoded) to the first request.
    decode_ns, decode_every_ns, decoders
        Latency, time between two lines of one decoder, number of decoders.
    encode_ns, encode_every_ns, encoders
    ports : int
        Ports with channels of their own that share all the rest; lines go to them in turn.
    """

    in_flight: int
    clock_ns: float
    lookup_ns: float = 0.0
    decode_ns: float = 0.0
    decode_every_ns: float = 0.0
    decoders: int = 1
    encode_ns: float = 0.0
    encode_every_ns: float = 0.0
    encoders: int = 1
    ports: int = 1

    def __post_init__(self) -> None:
        if min(self.in_flight, self.decoders, self.encoders, self.ports) < 1:
            raise ConfigurationError("a port needs at least one line in flight, one decoder and one encoder")


@dataclass(frozen=True, slots=True)
class LineLoad:
    """Lines that a master asks for, in order, with the requests each causes.

    Attributes
    ----------
    port : PortSpec
    first : int64[n + 1]
        Requests ``first[i]:first[i + 1]`` belong to line i and reach the memory once it is taken.
    early : bool[m]
        Requests of a write that need not wait for its data (metadata, the read of a merge).
    offered_ns : float64[n]
        Earliest time of each line; zeros for as fast as the port takes them.
    is_write, bypass : bool[n]
        ``bypass``: the decoder is not needed.
    id : int32[n]
    beats_ns : float64[n]
        Time of its data on R or W.
    wait_line, wait_request : int64[w]
        The line needs this request, its own or an older line's: the data of a read, the acceptance of a write.
    wait_extra_ns : float64[w]
        Time from the request's end to when the line can use it.
    """

    port: PortSpec
    first: A
    early: NDArray[np.bool_]
    offered_ns: NDArray[np.float64]
    is_write: NDArray[np.bool_]
    bypass: NDArray[np.bool_]
    id: NDArray[np.int32]
    beats_ns: NDArray[np.float64]
    wait_line: A
    wait_request: A
    wait_extra_ns: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LineTimes:
    """When each line was taken, had its data, and was over, float64[n] in ns; the most lines in flight at once."""

    taken_ns: NDArray[np.float64]
    data_ns: NDArray[np.float64]
    done_ns: NDArray[np.float64]
    most_in_flight: int


@dataclass(frozen=True, slots=True)
class PortState:
    """The arrays of a port at rest, as the kernels take them; `none` for a run without one."""

    m: A
    lines: A
    waits: A
    ready: A
    decoded: A
    over: A
    units: A
    heads: A
    head_of: A
    early: NDArray[np.bool_]
    bits: int

    def arrays(self) -> tuple[A, A, A, A, A, A, A, A]:
        return (self.m, self.lines, self.waits, self.ready, self.decoded, self.over, self.units, self.heads)

    @classmethod
    def none(cls) -> PortState:
        pair = np.zeros((1, 2), np.int64)
        return cls(
            np.zeros(N_MASTER, np.int64),
            np.zeros((1, N_LINE), np.int64),
            np.zeros((1, N_WAIT), np.int64),
            pair,
            pair.copy(),
            pair.copy(),
            np.zeros((N_UNIT, 1), np.int64),
            np.zeros(1, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.bool_),
            0,
        )

    @classmethod
    def of(cls, load: LineLoad, requests: int, tick_ns: float, bits: int) -> PortState:
        """Times in ``tick_ns`` / 2^``bits``; ``head_of`` int64[requests]: its first entry in ``waits``, -1 none."""
        n = load.offered_ns.shape[0]
        if load.first.shape != (n + 1,) or int(load.first[-1]) != requests or int(np.diff(load.first).min()) < 0:
            raise ConfigurationError(f"the requests of {n} lines must cover all {requests} requests, in order")

        def sub(ns: NDArray[np.float64] | float) -> A:
            return np.asarray(np.rint(np.asarray(ns, np.float64) * (1 << bits) / tick_ns), np.int64)

        p = load.port
        m = np.zeros(N_MASTER, np.int64)
        m[[M_LINES, M_LIMIT, M_DECODERS, M_ENCODERS]] = n, p.in_flight, p.decoders, p.encoders
        m[[M_CLOCK, M_LOOKUP, M_DECODE, M_DECODE_EVERY, M_ENCODE, M_ENCODE_EVERY]] = sub(
            np.array([p.clock_ns, p.lookup_ns, p.decode_ns, p.decode_every_ns, p.encode_ns, p.encode_every_ns])
        )
        units = np.zeros((N_UNIT, max(p.decoders, p.encoders, p.ports)), np.int64)
        units[U_ADDRESS] = m[M_CLOCK]  # the first address takes its clock as well
        lines = np.full((n + 1, N_LINE), -1, np.int64)
        body = lines[:-1]
        lines[:, L_FIRST] = load.first
        body[:, L_OFFER] = sub(load.offered_ns) + m[M_CLOCK]
        body[:, L_FLAGS] = load.is_write * WRITE_FLAG + load.bypass * BYPASS_FLAG
        body[:, L_PORT] = np.arange(n) % p.ports
        order = (load.id.astype(np.int64) * p.ports + body[:, L_PORT]) * 2 + load.is_write
        body[:, L_ORDER] = order
        body[:, L_BEATS] = sub(load.beats_ns)
        body[:, L_DATA] = 0
        body[:, L_LEFT] = np.bincount(load.wait_line, minlength=n)
        heads = np.full(int(order.max(initial=0)) + 1, -1, np.int64)
        by_order = np.argsort(order, kind="stable")
        same = order[by_order[1:]] == order[by_order[:-1]]
        body[by_order[:-1][same], L_SAME] = by_order[1:][same]
        starts = by_order[np.r_[True, ~same]] if n else by_order
        heads[order[starts]] = starts
        # Waiters of one request as a linked list.
        by_request = np.argsort(load.wait_request, kind="stable")
        waits = np.full((max(1, by_request.shape[0]), N_WAIT), -1, np.int64)
        owner = load.wait_request[by_request]
        head_of = np.full(requests, -1, np.int64)
        if owner.size:
            waits[:, W_LINE] = load.wait_line[by_request]
            waits[:, W_EXTRA] = sub(load.wait_extra_ns[by_request])
            together = owner[1:] == owner[:-1]
            at = np.arange(owner.shape[0])
            waits[at[:-1][together], W_NEXT] = at[1:][together]
            begins = at[np.r_[True, ~together]]
            head_of[owner[begins]] = begins
        room = min(n, p.in_flight) + 1
        return cls(
            m,
            lines,
            waits,
            np.zeros((room, 2), np.int64),
            np.zeros((room, 2), np.int64),
            np.zeros((room, 2), np.int64),
            units,
            heads,
            head_of,
            load.early,
            bits,
        )

    def times(self, tick_ns: float) -> LineTimes:
        scale = tick_ns / (1 << self.bits)
        body = self.lines[:-1].astype(np.float64)
        return LineTimes(
            np.multiply(body[:, L_TAKEN], scale, dtype=np.float64),
            np.multiply(body[:, L_DATA], scale, dtype=np.float64),
            np.multiply(body[:, L_DONE], scale, dtype=np.float64),
            int(self.m[M_MOST]),
        )


def port_alone(load: LineLoad) -> LineTimes:
    """Lines that ask nothing of the memory."""
    state = PortState.of(load, 0, 1e-3, 10)
    m, lines, _, ready, decoded, over, units, heads = state.arrays()
    while port_advance(m, lines, ready, decoded, over, units, heads, NEVER) >= 0:
        pass
    return state.times(1e-3)
