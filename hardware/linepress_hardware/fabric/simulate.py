"""Run a program of messages over a network, packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.network import Floats, Ints, Network
from linepress_hardware.fabric.packet_kernel import run

DEFAULT_PACKETS = 400_000


@dataclass
class Program:
    """Messages and which of them wait for which.

    Attributes
    ----------
    src, dst : int64[m]
        Endpoints.
    size_bytes : float64[m]
        Payload; 0 makes a join: it waits for others and sends nothing.
    before, after : int64[e]
        Message `after[i]` waits for `before[i]`.
    release_ns : float64[m]
        When a message without needs leaves; added to the last need of one that has some.
    groups : list of Combination
        Messages that a switch combines.
    turn : int64[m] | None
        Added to the distance of the peers to choose the plane of a message that is too small to go over all of them.
    lane : int64[m] | None
        Virtual channel of a message on a switch: lanes share a link by turns, each with buffers of its own.
    """

    src: Ints
    dst: Ints
    size_bytes: Floats
    before: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    after: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    release_ns: Floats | None = None
    groups: list[Combination] = field(default_factory=list)
    turn: Ints | None = None
    lane: Ints | None = None

    @property
    def messages(self) -> int:
        return int(self.src.size)


@dataclass(frozen=True)
class Combination:
    """Messages of equal size that meet in the switch of a plane, and the messages that carry their sum on."""

    contributions: tuple[int, ...]
    results: tuple[int, ...]
    plane: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came out; times in ns, arrays by message of the program."""

    released_ns: Floats
    done_ns: Floats
    busy_ns: Floats
    deepest: NDArray[np.int64]
    packets: int
    packet_hops: int
    events: int
    credit_stalls: int
    packet_bytes: float
    replays: int

    @property
    def finish_ns(self) -> float:
        """When the last message was delivered."""
        return float(np.nanmax(self.done_ns))

    @property
    def latency_ns(self) -> Floats:
        """Release to delivery of each message."""
        return self.done_ns - self.released_ns


def simulate(
    network: Network,
    program: Program,
    *,
    packet_bytes: float | None = None,
    max_packets: int = DEFAULT_PACKETS,
    combine_ns: float = 0.0,
    seed: int = 1,
) -> Outcome:
    """Deliver every message of `program`.

    Parameters
    ----------
    packet_bytes : float | None
        Payload of a simulated packet. None takes the link's own, made larger by whole factors until the program has
        at most `max_packets` packets (it keeps its bytes on the wire; only the grain of sharing grows).
    combine_ns : float
        Latency of a switch that combines packets.
    seed : int
        Of the flits that arrive broken, where the network has an error rate.

    Raises
    ------
    ConfigurationError
        A message from an endpoint to itself or out of range, a negative size, or messages that never arrive
        because they wait for one another.
    """
    _check(network, program)
    if program.lane is not None:
        network = replace(network, virtual=int(program.lane.max()) + 1)
    size = program.size_bytes
    real = size > 0
    grain = packet_bytes or _grain(network, size[real], max_packets)
    m = program.messages
    plane, split, owner, number = _planes(network, program)
    share, wire = network.shares(size[owner], number)
    combined = np.logical_or(*_groups(program))[owner]  # the program has spread these over the planes itself
    share = np.where(combined, size[owner], share)
    wire = np.where(combined, network.framing.wire_bytes(size)[owner], wire)
    sends = share > 0
    counts = np.zeros(owner.size, np.int64)
    counts[sends] = np.maximum(1, np.ceil(share[sends] / grain - 1e-9)).astype(np.int64)
    wire = np.where(sends, wire, 0.0)
    one = np.where(counts > 1, wire * grain / np.maximum(share, 1e-300), wire)
    rest = wire - np.maximum(counts - 1, 0) * one
    contributes, results = _groups(program)
    start, path = _paths(network, program, owner, plane, sends, contributes, results)
    first_sub = np.searchsorted(owner, np.arange(m))
    before, after = _edges(program, first_sub, split)
    needs = np.bincount(after, minlength=owner.size).astype(np.int32)
    held_back = results[owner]
    delay = np.zeros(owner.size) if program.release_ns is None else program.release_ns[owner].copy()
    delay[sends] += network.overhead_ns
    delay[held_back] = 0.0
    roots = np.flatnonzero((needs == 0) & ~held_back)
    root_order = roots[np.argsort(delay[roots], kind="stable")].astype(np.int32)
    order = np.argsort(before, kind="stable")
    next_start = np.zeros(owner.size + 1, np.int64)
    np.cumsum(np.bincount(before, minlength=owner.size), out=next_start[1:])
    group, expects, group_start, out_start, outs = _combinations(program, first_sub, counts, owner.size)
    widest = max(float(one.max(initial=0.0)), 1e-9)
    narrowest = max(float(one[sends].min(initial=widest)), widest / 64)
    slots = network.slots(widest, narrowest)
    packet_room = int(min(slots.sum(), counts.sum())) + network.channels + int(np.diff(out_start).max(initial=1)) + 64
    heap_room = 16 * network.channels + int((delay > 0).sum()) + 4096
    while True:
        released, done, busy, deepest, counters = run(
            network.ns_per_byte,
            network.latency_ns,
            network.forward_ns,
            network.floor_ns,
            network.virtual,
            network.cut_through,
            slots,
            start,
            path,
            counts.astype(np.int32),
            one,
            rest,
            needs.copy(),
            next_start,
            after[order].astype(np.int32),
            delay,
            group,
            root_order,
            delay,
            expects,
            group_start,
            np.full(max(1, len(program.groups)), combine_ns),
            out_start,
            outs,
            network.flit_error,
            network.framing.flit_bytes or 1.0,
            network.replay_ns,
            np.random.Generator(np.random.PCG64(seed)),
            packet_room,
            heap_room,
        )
        if not counters[5]:
            break
        packet_room, heap_room = 2 * packet_room, 2 * heap_room
    if counters[4]:
        raise ConfigurationError(
            f"{counters[4]} of {owner.size} messages never arrive: they wait for one another; check the dependencies"
        )
    return Outcome(
        np.minimum.reduceat(released, first_sub),
        np.maximum.reduceat(done, first_sub),
        busy,
        deepest,
        int(counters[0]),
        int(counters[1]),
        int(counters[2]),
        int(counters[3]),
        grain,
        int(counters[6]),
    )


def _check(network: Network, program: Program) -> None:
    if not 0 <= network.flit_error < 1 or not 0 <= network.replay_ns < float("inf"):
        raise ConfigurationError(
            f"flits break with probability {network.flit_error!r} and are sent again after {network.replay_ns!r} ns; "
            f"give a share of at least 0 and below 1, and 0 ns or more"
        )
    if network.flit_error > 0 and not network.framing.flit_bytes:
        raise ConfigurationError("this network's link has no flits that could break; use a link with framing.flit")
    if program.messages == 0:
        raise ConfigurationError("the program has no messages; give at least one")
    for name, ends in (("source", program.src), ("destination", program.dst)):
        if ends.min() < 0 or ends.max() >= network.n:
            raise ConfigurationError(f"a message has a {name} outside 0 … {network.n - 1}; the network has no other")
    if not np.all(np.isfinite(program.size_bytes)) or program.size_bytes.min() < 0:
        raise ConfigurationError("a message has a negative or infinite size; give 0 or more bytes")
    contributes, results = _groups(program)
    own = (program.src == program.dst) & (program.size_bytes > 0) & ~contributes & ~results
    if own.any():
        raise ConfigurationError(f"endpoint {int(program.src[own][0])} sends to itself; leave such messages out")
    if program.lane is not None and network.virtual > 1:
        raise ConfigurationError(f"a {network.kind} has virtual channels of its own; use topology switch for lanes")
    if program.groups and not network.up.size:
        raise ConfigurationError(f"a {network.kind} has no switch that combines packets; use topology switch")


def _grain(network: Network, size: Floats, max_packets: int) -> float:
    """Payload of a packet: the link's own times a power of two that keeps within `max_packets`."""
    top = float(size.max(initial=1.0))
    own = network.framing.payload_max_bytes
    grain = own if np.isfinite(own) else (top / 64 if top > 4096 else top)
    while float(np.ceil(size / grain).sum()) > max(max_packets, 2 * size.size):
        grain *= 2
    return grain


def _planes(network: Network, program: Program) -> tuple[Ints, Ints, Ints, Ints]:
    """Each part's plane, parts a message, each part's message and its number in it.

    What an endpoint sends to its next peers, or gets from them, fills the planes by turns.
    """
    planes = network.planes
    split = network.parts(program.size_bytes)
    for one in program.groups:
        split[list(one.contributions)] = 1
        split[list(one.results)] = 1
    owner = np.repeat(np.arange(program.messages), split)
    number = np.arange(owner.size) - np.repeat(np.cumsum(split) - split, split)
    turn = np.zeros(program.messages, np.int64) if program.turn is None else program.turn
    peer = (program.dst - program.src - 1) % network.n
    plane = (((peer + turn) * split)[owner] + number) % planes
    chosen = np.full(program.messages, -1)
    for one in program.groups:
        chosen[list(one.contributions)] = one.plane
        chosen[list(one.results)] = one.plane
    return np.where(chosen[owner] >= 0, chosen[owner], plane), split, owner, number


def _groups(program: Program) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    contributes = np.zeros(program.messages, np.bool_)
    results = np.zeros(program.messages, np.bool_)
    for one in program.groups:
        contributes[list(one.contributions)] = True
        results[list(one.results)] = True
    return contributes, results


def _paths(
    network: Network,
    program: Program,
    owner: Ints,
    plane: Ints,
    sends: NDArray[np.bool_],
    contributes: NDArray[np.bool_],
    results: NDArray[np.bool_],
) -> tuple[Ints, NDArray[np.int32]]:
    src, dst = program.src[owner], program.dst[owner]
    columns = network.route(src, dst, plane).astype(np.int64)
    if contributes.any() or results.any():
        rising, falling = contributes[owner], results[owner]
        columns[rising, 0] = network.up[src[rising], plane[rising]]
        columns[rising, 1:] = -1
        columns[falling, 0] = network.down[dst[falling], plane[falling]]
        columns[falling, 1:] = -1
    columns[~sends] = -1
    used = columns >= 0
    if program.lane is not None:
        columns = columns * network.virtual + program.lane[owner][:, None]
    start = np.zeros(owner.size + 1, np.int64)
    np.cumsum(used.sum(axis=1), out=start[1:])
    return start, columns[used].astype(np.int32)


def _edges(program: Program, first_sub: Ints, split: Ints) -> tuple[Ints, Ints]:
    """Edges between parts: every part of the later message waits for every part of the earlier one."""
    before, after = program.before, program.after
    if before.size == 0 or split.max() == 1:
        return first_sub[before], first_sub[after]
    fan = split[before] * split[after]
    edge = np.repeat(np.arange(before.size), fan)
    number = np.arange(edge.size) - np.repeat(np.cumsum(fan) - fan, fan)
    of_after = split[after][edge]
    return first_sub[before][edge] + number // of_after, first_sub[after][edge] + number % of_after


def _combinations(
    program: Program, first_sub: Ints, counts: Ints, parts: int
) -> tuple[NDArray[np.int32], Ints, Ints, Ints, NDArray[np.int32]]:
    group = np.full(parts, -1, np.int32)
    expects = [len(one.contributions) for one in program.groups]
    starts, out_starts, outs = [0], [0], []
    for g, one in enumerate(program.groups):
        parts_of = first_sub[list(one.contributions)]
        group[parts_of] = g
        starts.append(starts[-1] + int(counts[parts_of[0]]))
        outs += [int(first_sub[r]) for r in one.results]
        out_starts.append(len(outs))
    return (
        group,
        np.asarray(expects, np.int64),
        np.asarray(starts, np.int64),
        np.asarray(out_starts, np.int64),
        np.asarray(outs, np.int32),
    )
