"""One channel: arrays of requests in, a `DramResult` out."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.dram import engine
from linepress_hardware.dram.compiled import compile_part
from linepress_hardware.dram.energy import energy_pJ
from linepress_hardware.dram.mapping import Mapping as AddressMapping
from linepress_hardware.dram.mapping import mapping_for, place_atoms
from linepress_hardware.dram.parts import Part, load_part, simple_names
from linepress_hardware.dram.policy import Policy, parse_policy
from linepress_hardware.dram.port import LineLoad, LineTimes, PortState
from linepress_hardware.dram.results import COMMANDS, LOSS_CAUSES, CommandLog, DramResult
from linepress_hardware.dram.simple import SimplePart, arrivals, load_simple, simulate_simple
from linepress_hardware.dram.state import Machine, Spec, new_machine
from linepress_hardware.errors import ConfigurationError

MAX_ATOMS = 1 << 30
WINDOW_COUNTS = ("atoms", "requests")


def simulate(
    part: Part | SimplePart | str,
    address_bytes: ArrayLike,
    is_write: ArrayLike | None = None,
    arrival_ns: ArrayLike | None = None,
    *,
    mapping: str | AddressMapping | None = None,
    policy: str | Policy | None = None,
    window: int | None = None,
    window_counts: str = "atoms",
    request_bytes: int | ArrayLike = 64,
    after: ArrayLike | None = None,
    after_delay_ns: float | ArrayLike = 0.0,
    log: bool = False,
) -> DramResult:
    """Simulate requests on one channel of a part.

    Parameters
    ----------
    part : Part or str
        A part of `load_part`, SRAM or HBF of `load_simple`, or a name.
    address_bytes : uint64[n]
        Byte addresses inside the channel, need not be aligned.
    is_write : bool[n], optional
        Reads where None.
    arrival_ns : float64[n], optional
        Earliest time of each request; None: offered as soon as the one before is accepted (saturated). Requests are
        offered in order of arrival, equal times in order of index; one that finds its queue full holds up the rest.
    mapping, policy
        See `mapping_for` and `parse_policy`; None for the part's mapping and the default policy.
    window : int, optional
        Most requests in flight (a closed loop); None: as many as the queues take.
    window_counts : str
        ``atoms``, as the reference simulator does: there are ``window`` × atoms of the largest request places, a
        request starts when all its atoms have one, and each atom frees its own. ``requests``: a request frees its
        place with its last atom.
    request_bytes : int or int64[n]
        A request touches every atom of ``[address, address + bytes)``; at least 1 byte.
    after : int64[n], optional
        ``after[i] = j`` with ``0 ≤ j < i``: request i is offered ``after_delay_ns`` (a number or float64[n]) after
        request j finished, not before its own arrival; -1: free. A waiting request holds up nobody.
    log : bool
        Keep every command for `check_log`.

    Raises
    ------
    ConfigurationError
        For arrays that do not fit together, addresses outside the part, a bad mapping or policy.
    """
    result, _ = _simulate(
        part, address_bytes, is_write, arrival_ns, mapping, policy, window, window_counts, request_bytes, after,
        after_delay_ns, log, None,
    )  # fmt: skip
    return result


def simulate_lines(
    part: Part | SimplePart | str,
    load: LineLoad,
    address_bytes: ArrayLike,
    is_write: ArrayLike,
    *,
    mapping: str | AddressMapping | None = None,
    policy: str | Policy | None = None,
    request_bytes: int | ArrayLike = 64,
    after: ArrayLike | None = None,
    after_delay_ns: float | ArrayLike = 0.0,
) -> tuple[DramResult, LineTimes]:
    """Simulate the lines of a port on one channel: its requests reach the memory as the port takes their lines.

    Arguments as in `simulate`; ``after`` delays a request of a line that has been taken. Requests behind those of the
    last line belong to no line and are offered as in a saturated run. Raises `ConfigurationError`.
    """
    result, times = _simulate(
        part, address_bytes, is_write, None, mapping, policy, None, "atoms", request_bytes, after, after_delay_ns,
        False, load,
    )  # fmt: skip
    assert times is not None
    return result, times


def _simulate(
    part: Part | SimplePart | str,
    address_bytes: ArrayLike,
    is_write: ArrayLike | None,
    arrival_ns: ArrayLike | None,
    mapping: str | AddressMapping | None,
    policy: str | Policy | None,
    window: int | None,
    window_counts: str,
    request_bytes: int | ArrayLike,
    after: ArrayLike | None,
    after_delay_ns: float | ArrayLike,
    log: bool,
    load: LineLoad | None,
) -> tuple[DramResult, LineTimes | None]:
    if isinstance(part, str):
        part = load_memory(part)
    if isinstance(part, SimplePart):
        if mapping is not None or policy is not None or log:
            raise ConfigurationError(f"{part.name} has no address mapping, policy or command log; leave them out")
        address, writes, sizes, arrival = _requests(part, address_bytes, is_write, arrival_ns, request_bytes)
        parent, delay_ns = _dependences(address.shape[0], after, after_delay_ns)
        _check_window(window, window_counts)
        return simulate_simple(
            part, address, writes, sizes, arrival, window, _children(parent), parent, delay_ns, load
        )
    policy = parse_policy(policy).on(part.standard)
    place = mapping_for(part, mapping)
    address, writes, sizes, arrival = _requests(part, address_bytes, is_write, arrival_ns, request_bytes)
    n = address.shape[0]
    first, offsets = _atoms(part, address, sizes)
    parent, delay_ns = _dependences(n, after, after_delay_ns)
    delay = np.ceil(delay_ns / part.tick_ns - 1e-9).astype(np.int64)
    _check_window(window, window_counts)

    m = int(offsets[-1])
    atoms = np.empty((m, 3), np.int64)
    place_atoms(first, offsets, place.tables(), part.banks.bit_length() - 1, atoms)

    offered = np.zeros(n, np.int64) if arrival is None else np.ceil(arrival / part.tick_ns - 1e-9).astype(np.int64)
    behind = 0 if load is None else int(load.first[-1])  # requests of lines; the others are free of the port
    free = behind + np.flatnonzero(parent[behind:] < 0)
    order = free[np.argsort(offered[free], kind="stable")].astype(np.int64)
    spec = _compiled(part, policy)
    widest = int(np.diff(offsets).max())
    singly = window_counts == "atoms"
    limit = (window or 0) * (widest if singly else 1)
    room = 6 * m + 4096 if log else 0
    while True:
        port = PortState.none() if load is None else PortState.of(load, behind, part.tick_ns, engine.SUB)
        requests = _request_table(offsets, writes, offered, parent, delay, port if load is not None else None)
        released = np.zeros((max(1, n - order.shape[0]), 2), np.int64)
        done = np.zeros((min(limit, m) + widest + 1, 2), np.int64)
        machine = new_machine(spec, room)
        began = time.thread_time()
        engine.run(
            spec.part, spec.rules, spec.path, machine.node, machine.bank, machine.scope, machine.bus,
            machine.fifo, machine.queue, machine.z, machine.log, requests, atoms, order, released, done, limit,
            int(singly), *port.arrays(),
        )  # fmt: skip
        seconds = time.thread_time() - began
        kept = int(machine.z[engine.Z_LOG])
        if not log or kept <= room:
            break
        room = kept
    z, loss = machine.z, machine.bus[:, engine.U_LOSS : engine.U_LOSS + engine.N_LOSS]
    unserved = n - int(z[engine.Z_SERVED])
    if unserved:
        raise ConfigurationError(
            f"part {part.name}: {unserved} requests can never be served with policy {policy}; check the queues"
        )
    tick = part.tick_ns
    counts = {name: int(k) for name, k in zip(COMMANDS, z[engine.Z_COMMANDS : engine.Z_HOLD], strict=True) if k}
    columns = sum(counts.get(c, 0) for c in ("RD", "WR", "RDA", "WRA"))
    sim_time_ns = float(z[engine.Z_END]) * tick
    bus_time = {"data": columns * part.ck["BL"] * part.tck_ns}
    bus_time.update({cause: float(loss[:, i].sum()) * tick for i, cause in enumerate(LOSS_CAUSES)})
    start_ns = _ns(requests[:-1, engine.R_START], tick)
    finish_ns = _ns(requests[:-1, engine.R_FINISH], tick)
    if load is not None:
        offered_ns: NDArray[np.float64] | None = _ns(requests[:-1, engine.R_OFFERED], tick)
    else:
        offered_ns = None if arrival is None else _ns(offered, tick)
    result = DramResult(
        part=part.name,
        mapping=place.name,
        policy=str(policy),
        start_ns=start_ns,
        finish_ns=finish_ns,
        arrival_ns=arrivals(start_ns, finish_ns, offered_ns, parent, _ns(delay, tick)),
        is_write=writes,
        bytes=int(sizes.sum()),
        bus_bytes=columns * part.atom_bytes,
        sim_time_ns=sim_time_ns,
        peak_GBps=part.peak_GBps,
        row_hits=int(z[engine.Z_HITS]),
        atoms=m,
        forwarded_atoms=int(z[engine.Z_FORWARDED]),
        coalesced_atoms=int(z[engine.Z_COALESCED]),
        commands=counts,
        bus_time_ns=bus_time,
        energy_pJ=energy_pJ(part, counts, sim_time_ns),
        log=_log(machine, kept) if log else None,
        extra={"events": int(z[engine.Z_EVENTS])},
        seconds=seconds,
    )
    return result, None if load is None else port.times(tick)


def _requests(
    part: Part | SimplePart,
    address_bytes: ArrayLike,
    is_write: ArrayLike | None,
    arrival_ns: ArrayLike | None,
    request_bytes: int | ArrayLike,
) -> tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64] | None]:
    given = np.asarray(address_bytes)
    if given.ndim != 1 or given.shape[0] == 0:
        raise ConfigurationError("address_bytes must be a one-dimensional array of at least one address")
    if given.dtype.kind not in "iu" or (given.dtype.kind == "i" and given.min() < 0):
        raise ConfigurationError(f"address_bytes must be integers ≥ 0, got {given.dtype} from {given.min()}")
    address = np.ascontiguousarray(given, np.uint64)
    n = address.shape[0]
    writes = np.zeros(n, np.bool_) if is_write is None else np.ascontiguousarray(is_write, np.bool_)
    sizes = np.ascontiguousarray(
        np.broadcast_to(np.asarray(request_bytes), (n,)) if np.ndim(request_bytes) == 0 else request_bytes
    )
    if sizes.dtype.kind not in "iu":
        raise ConfigurationError(f"request_bytes must be whole bytes, got {sizes.dtype}")
    sizes = sizes.astype(np.int64)
    for name, array in (("is_write", writes), ("request_bytes", sizes)):
        if array.shape != (n,):
            raise ConfigurationError(
                f"{name} has shape {array.shape}, but there are {n} requests; give one entry each"
            )
    if sizes.min() < 1:
        raise ConfigurationError(f"request_bytes holds {sizes.min()}; every request needs at least 1 byte")
    last = address + sizes.astype(np.uint64) - np.uint64(1)
    bad = np.flatnonzero((last >= np.uint64(part.capacity_bytes)) | (last < address))
    if bad.size:
        i = int(bad[0])
        raise ConfigurationError(
            f"request {i} at byte {int(address[i]):#x} (+ {int(sizes[i])} B) lies outside part {part.name} of "
            f"{part.capacity_bytes:#x} B a channel; wrap or choose a larger part"
        )
    arrival = None
    if arrival_ns is not None:
        arrival = np.ascontiguousarray(arrival_ns, np.float64)
        if arrival.shape != (n,):
            raise ConfigurationError(
                f"arrival_ns has shape {arrival.shape}, but there are {n} requests; give one entry each"
            )
        if not np.isfinite(arrival).all() or arrival.min() < 0 or arrival.max() > 2**50:
            raise ConfigurationError("arrival_ns must be finite times ≥ 0 ns")
    return address, writes, sizes, arrival


def _atoms(
    part: Part, address: NDArray[np.uint64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """First atom of each request, and the offsets of its atoms in a flat list."""
    shift = np.uint64(part.atom_bytes.bit_length() - 1)
    first = address >> shift
    last = (address + sizes.astype(np.uint64) - np.uint64(1)) >> shift
    offsets = np.zeros(address.shape[0] + 1, np.int64)
    np.cumsum((last - first).astype(np.int64) + 1, out=offsets[1:])
    if offsets[-1] > MAX_ATOMS:
        raise ConfigurationError(f"{offsets[-1]} atoms in one run exceed {MAX_ATOMS}; split the trace")
    return first, offsets


def _dependences(
    n: int, after: ArrayLike | None, after_delay_ns: float | ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index of the request each waits for (-1: none), and how many ns after it."""
    delays = np.ascontiguousarray(np.broadcast_to(np.asarray(after_delay_ns, np.float64), (n,)))
    if not np.isfinite(delays).all() or delays.min() < 0:
        raise ConfigurationError("after_delay_ns must be finite and ≥ 0 ns")
    if after is None:
        return np.full(n, -1, np.int64), delays
    parent = np.ascontiguousarray(after, np.int64)
    if parent.shape != (n,):
        raise ConfigurationError(f"after has shape {parent.shape}, but there are {n} requests; give one entry each")
    bad = np.flatnonzero((parent < -1) | (parent >= np.arange(n)))
    if bad.size:
        i = int(bad[0])
        raise ConfigurationError(f"after[{i}] = {parent[i]} must be -1 or the index of an earlier request")
    return parent, delays


def _check_window(window: int | None, counts: str) -> None:
    if window is not None and window < 1:
        raise ConfigurationError(f"window = {window} must be at least 1 request in flight")
    if counts not in WINDOW_COUNTS:
        raise ConfigurationError(f"window_counts {counts!r} is not one of {', '.join(WINDOW_COUNTS)}")


def load_memory(name: str, overrides: Mapping[str, float] | None = None) -> Part | SimplePart:
    """Any memory by name: a DRAM part, SRAM or HBF; see `load_part` and `load_simple`."""
    if name.lower() in simple_names():
        return load_simple(name.lower(), overrides)
    return load_part(name, overrides)


def _children(parent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Linked lists of the requests that wait for each request, in index order."""
    n = parent.shape[0]
    first, following = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    waiting = np.flatnonzero(parent >= 0)
    if waiting.size:
        by_parent = waiting[np.argsort(parent[waiting], kind="stable")]
        owners = parent[by_parent]
        heads = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
        first[owners[heads]] = by_parent[heads]
        same = owners[1:] == owners[:-1]
        following[by_parent[:-1][same]] = by_parent[1:][same]
    return first, following


def _request_table(
    offsets: NDArray[np.int64],
    writes: NDArray[np.bool_],
    offered: NDArray[np.int64],
    parent: NDArray[np.int64],
    delay: NDArray[np.int64],
    port: PortState | None,
) -> NDArray[np.int64]:
    """The engine's table of requests, nothing served yet; the last row only ends the atoms of the one before."""
    table = np.zeros((writes.shape[0] + 1, engine.N_REQUEST), np.int64)
    table[:, engine.R_ATOMS] = offsets
    body = table[:-1]
    body[:, engine.R_WRITE] = writes
    body[:, engine.R_OFFERED] = offered
    body[:, engine.R_CHILD], body[:, engine.R_NEXT] = _children(parent)
    body[:, engine.R_DELAY] = delay
    body[:, engine.R_START] = -1
    body[:, engine.R_LEFT] = np.diff(offsets)
    body[:, engine.R_PARENT] = parent
    body[:, engine.R_WAITS] = -1
    if port is not None:
        behind = port.early.shape[0]
        body[:behind, engine.R_OFFERED] = -1
        body[:behind, engine.R_WAITS] = port.head_of
        body[:behind, engine.R_EARLY] = port.early
    return table


def _ns(ticks: NDArray[np.int64], tick_ns: float) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.multiply(ticks, tick_ns, dtype=np.float64)
    return out


def _log(machine: Machine, n: int) -> CommandLog:
    tick, command, bank, row = machine.log[:n].T
    return CommandLog(tick.copy(), command.astype(np.int8), bank.astype(np.int32), row.copy())


def _compiled(part: Part, policy: Policy) -> Spec:
    key = (part.name, id(part), policy)
    if key not in _COMPILED:
        if len(_COMPILED) > 64:
            _COMPILED.clear()
        _COMPILED[key] = (part, compile_part(part, policy))
    return _COMPILED[key][1]


# Keyed by identity: a part holds dicts, and the entry keeps it alive, so that an id is never reused.
_COMPILED: dict[tuple[str, int, Policy], tuple[Part, Spec]] = {}
