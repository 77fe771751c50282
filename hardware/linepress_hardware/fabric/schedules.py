"""Collectives as programs of messages for the packet simulation, and the rounds that their closed forms add up.

Sources of the algorithms: those of `linepress_hardware.fabric.collectives`; the bucket algorithm on tori from Jain &
Sabharwal, Optimal Bucket Algorithms for Large MPI Collectives on Torus Interconnects (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, lcm, log2, prod

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import NEEDS_SWITCH, POWER_OF_TWO
from linepress_hardware.fabric.simulate import Combination, Program

Ints = NDArray[np.int64]
ONE_WAY = ("all_gather", "reduce_scatter", "all_to_all")
SLICE_BYTES = 256.0  # a slice is one packet of the links there are, until there are too many slices
MOST_MESSAGES = 4_000_000
PIPELINE_PACKETS = 400_000
MOST_PIECES = 8192  # of an NVLS-style all-reduce: enough that filling and draining its pipeline is below 1 %
WINDOW = 8  # pieces under way a plane, beyond those in flight; from 6 on more do not help


@dataclass(frozen=True)
class Round:
    """One round: messages of `size_bytes` that each accelerator sends back to back, to how many peers, how often."""

    size_bytes: float
    peers: int = 1
    times: int = 1


@dataclass(frozen=True)
class _Step:
    src: Ints
    dst: Ints
    size_bytes: float


def rounds(algorithm: str, n: int, size_bytes: float, dims: Sequence[int] = ()) -> list[Round]:
    """Rounds of an all-reduce whose times add up when nothing contends (double-tree and NVLS: in the limit of fine
    slices)."""
    S = size_bytes
    steps = ceil(log2(n))
    if algorithm == "ring":
        return [Round(S / n, times=2 * (n - 1))]
    if algorithm == "tree":
        return [Round(S, times=2 * steps)]
    if algorithm == "recursive-doubling":
        return [Round(S, times=steps)]
    if algorithm == "halving-doubling":
        return [Round(S / 2**i, times=2) for i in range(1, steps + 1)]
    if algorithm == "direct":
        return [Round(S / n, peers=n - 1, times=2)]
    if algorithm == "one-shot":
        return [Round(S, peers=n - 1)]
    if algorithm == "in-network":
        return [Round(S)]
    if algorithm == "bucket":
        worst: list[Round] = []
        for order in _orders(dims):
            part, found = S / (2 * len(dims)), []
            for k in order:
                part /= k
                found.append(Round(part, times=2 * (k - 1)))
            if sum(r.size_bytes * r.times for r in found) >= sum(r.size_bytes * r.times for r in worst):
                worst = found
        return worst
    raise ConfigurationError(f"all-reduce algorithm {algorithm!r} has no rounds; use its closed form instead")


def all_reduce_program(
    algorithm: str,
    n: int,
    size_bytes: float,
    dims: Sequence[int] = (),
    flight_bytes: float = 0.0,
    planes: int = 1,
    shares: Sequence[float] = (),
) -> Program:
    """Messages of an all-reduce of `size_bytes` an accelerator.

    Parameters
    ----------
    dims : sequence of int
        Of the torus, for ``bucket``.
    flight_bytes : float
        What an accelerator could send while one message is under way (latency × bandwidth): how far the pipelined
        algorithms run ahead.
    planes : int
        Switch planes over which the slices of pipelined algorithms take turns.
    shares : sequence of float
        Bytes that each plane's switch combines, for ``in-network``; none puts all on the first plane.

    Raises
    ------
    ConfigurationError
        Unknown algorithm, an N it cannot take, or a program of too many messages to simulate.
    """
    if n < 2:
        raise ConfigurationError(f"an all-reduce over {n} accelerators sends nothing; give at least 2")
    if algorithm in POWER_OF_TWO and n & (n - 1):
        low = 1 << (n.bit_length() - 1)
        raise ConfigurationError(
            f"{algorithm} needs a power of two of accelerators, not {n}; use {low} or {2 * low}, or ring"
        )
    ranks = np.arange(n, dtype=np.int64)
    if algorithm == "ring":
        return _cycle([(ranks, (ranks + 1) % n, size_bytes / n)] * (2 * (n - 1)))
    if algorithm == "bucket":
        return _bucket(tuple(dims) or (n,), size_bytes)
    if algorithm == "recursive-doubling":
        return _stepped(n, [_Step(ranks, ranks ^ (1 << i), size_bytes) for i in range(ceil(log2(n)))])
    if algorithm == "halving-doubling":
        halving = [_Step(ranks, ranks ^ (n >> i), size_bytes / 2**i) for i in range(1, ceil(log2(n)) + 1)]
        return _stepped(n, halving + halving[::-1])
    if algorithm == "tree":
        up = []
        for i in range(ceil(log2(n))):
            children = ranks[ranks % (1 << (i + 1)) == 1 << i]
            up.append(_Step(children, children - (1 << i), size_bytes))
        return _stepped(n, up + [_Step(step.dst, step.src, size_bytes) for step in up[::-1]])
    if algorithm in ("direct", "one-shot"):
        src, dst = _everyone(n)
        if algorithm == "one-shot":
            return _stepped(n, [_Step(src, dst, size_bytes)])
        return _stepped(n, [_Step(src, dst, size_bytes / n)] * 2)
    if algorithm == "double-tree":
        return _double_tree(n, size_bytes, flight_bytes, planes)
    if algorithm == "in-network":
        return _in_network(n, shares or (size_bytes,))
    if algorithm == "in-network-nvls":
        return _nvls(n, size_bytes, flight_bytes, planes)
    raise ConfigurationError(f"all-reduce algorithm {algorithm!r} cannot be simulated; use ring or direct")


def one_way_program(
    operation: str, n: int, size_bytes: float, root: int = 0, shares: Sequence[float] = ()
) -> Program:
    """Messages of an all-gather, reduce-scatter or all-to-all (everyone to everyone, size / N each, own part stays),
    of a send (0 to 1) or of a broadcast by the switch."""
    if operation in ONE_WAY:
        src, dst = _everyone(n)
        return Program(src, dst, np.full(src.size, size_bytes / n))
    if operation == "send":
        return Program(np.array([root]), np.array([(root + 1) % n]), np.array([float(size_bytes)]))
    if operation == "broadcast":
        src = np.full(n, root, dtype=np.int64)
        dst = np.concatenate([[root], np.flatnonzero(np.arange(n) != root)])
        parts = np.asarray(shares or (size_bytes,), np.float64)
        planes = parts.size
        groups = [Combination((p * n,), tuple(range(p * n + 1, p * n + n)), p) for p in range(planes)]
        share = np.repeat(parts, n)
        return Program(np.tile(src, planes), np.tile(dst, planes), share, groups=groups)
    raise ConfigurationError(f"operation {operation!r} is unknown; use one of {', '.join(ONE_WAY)}, send, broadcast")


def count_messages(algorithm: str, n: int) -> int:
    """About how many messages a program has; those above `MOST_MESSAGES` are not simulated."""
    return {
        "ring": 2 * (n - 1) * n,
        "bucket": 4 * n * n,
        "direct": 2 * n * (n - 1),
        "one-shot": n * (n - 1),
        "in-network-nvls": _most_pieces(n) * 2 * n,
    }.get(algorithm, 64 * n)


def _everyone(n: int) -> tuple[Ints, Ints]:
    """Every ordered pair, each source beginning with its next neighbour, so that nobody is hit by all at once."""
    if n * (n - 1) > MOST_MESSAGES:
        raise ConfigurationError(f"{n * (n - 1):,} messages are too many to simulate; use at most 2,000 accelerators")
    src = np.repeat(np.arange(n, dtype=np.int64), n - 1)
    return src, (src + np.tile(np.arange(1, n, dtype=np.int64), n)) % n


def _cycle(sends: Sequence[tuple[Ints, Ints, float]], start: int = 0) -> Program:
    """Rounds in which each rank sends once and receives once: a send waits for what its rank received before."""
    n = sends[0][0].size
    if len(sends) * n > MOST_MESSAGES:
        raise ConfigurationError(f"{len(sends) * n:,} messages are too many to simulate; use fewer accelerators")
    src = np.concatenate([s for s, _, _ in sends])
    dst = np.concatenate([d for _, d, _ in sends])
    size = np.repeat(np.array([b for _, _, b in sends]), n)
    before, after = [], []
    for r in range(1, len(sends)):
        received = np.empty(n, np.int64)
        received[sends[r - 1][1]] = (r - 1) * n + np.arange(n)
        before.append(received[sends[r][0]])
        after.append(r * n + np.arange(n))
    empty = np.zeros(0, np.int64)
    return Program(
        src, dst, size, np.concatenate(before) if before else empty, np.concatenate(after) if after else empty
    )


def _stepped(n: int, steps: Sequence[_Step]) -> Program:
    """Rounds in which a rank's sends wait for all that it has received so far (joins, a rank and round)."""
    src, dst, size = [steps[0].src], [steps[0].dst], [np.full(steps[0].src.size, steps[0].size_bytes)]
    before: list[Ints] = []
    after: list[Ints] = []
    total = steps[0].src.size
    previous_at, previous_joins = 0, -1
    ranks = np.arange(n, dtype=np.int64)
    for earlier, step in pairwise(steps):
        joins = total
        src.append(ranks)
        dst.append(ranks)
        size.append(np.zeros(n))
        before.append(previous_at + np.arange(earlier.src.size))
        after.append(joins + earlier.dst)
        if previous_joins >= 0:
            before.append(previous_joins + ranks)
            after.append(joins + ranks)
        at = joins + n
        src.append(step.src)
        dst.append(step.dst)
        size.append(np.full(step.src.size, step.size_bytes))
        before.append(joins + step.src)
        after.append(at + np.arange(step.src.size))
        total = at + step.src.size
        previous_at, previous_joins = at, joins
    empty = np.zeros(0, np.int64)
    return Program(
        np.concatenate(src),
        np.concatenate(dst),
        np.concatenate(size),
        np.concatenate(before) if before else empty,
        np.concatenate(after) if after else empty,
    )


def _join(parts: Sequence[Program]) -> Program:
    """Independent programs that run at once."""
    offsets = np.cumsum([0, *(part.messages for part in parts)])
    return Program(
        np.concatenate([part.src for part in parts]),
        np.concatenate([part.dst for part in parts]),
        np.concatenate([part.size_bytes for part in parts]),
        np.concatenate([part.before + at for part, at in zip(parts, offsets, strict=False)]),
        np.concatenate([part.after + at for part, at in zip(parts, offsets, strict=False)]),
    )


def _orders(dims: Sequence[int]) -> list[tuple[int, ...]]:
    """Dimension sizes as each of the 2 d parts goes through them."""
    d = len(dims)
    return [tuple(dims[(p + i) % d] for i in range(d)) for p in range(d)] * 2


def _bucket(dims: tuple[int, ...], size_bytes: float) -> Program:
    """Reduce-scatter along each dimension in turn, then all-gather back; 2 d parts of the data start in different
    dimensions and directions, so that every link is busy."""
    n, d = prod(dims), len(dims)
    strides = [prod(dims[i + 1 :]) for i in range(d)]
    ranks = np.arange(n, dtype=np.int64)
    parts = []
    for sign in (1, -1):
        for p in range(d):
            axes = [(p + i) % d for i in range(d)]
            sends: list[tuple[Ints, Ints, float]] = []
            part = size_bytes / (2 * d)
            for axis in axes:
                k, stride = dims[axis], strides[axis]
                part /= k
                at = (ranks // stride) % k
                peer = ranks + ((at + sign) % k - at) * stride
                sends += [(ranks, peer, part)] * (k - 1)
            parts.append(_cycle(sends + sends[::-1]))
    return _join(parts)


def _slices(size_bytes: float, most: int) -> int:
    return max(1, min(most, ceil(size_bytes / SLICE_BYTES)))


def _parents(n: int) -> list[int]:
    """A balanced binary tree over ranks 0 … n − 1 in which odd ranks are leaves; −1 marks the root (rank 0).

    Rank r with lowest set bit b hangs under (r ^ b) | 2 b, or r ^ b where that is beyond n (Sanders, Speck & Träff).
    """
    parents = [-1]
    for r in range(1, n):
        bit = r & -r
        up = (r ^ bit) | (bit << 1)
        parents.append(up if up < n else r ^ bit)
    return parents


def _double_tree(n: int, size_bytes: float, flight_bytes: float, planes: int) -> Program:
    """Two trees, each reducing and broadcasting half of the data in slices; the leaves of one are inner in the other.

    The second tree is the first one mirrored (even n) or shifted by one rank (odd n).
    """
    slices = _slices(size_bytes / 2, max(32, min(256, PIPELINE_PACKETS // (4 * n * planes))))
    share = size_bytes / 2 / slices
    number = np.arange(slices, dtype=np.int64)
    # Leaves would flood the links that inner ranks forward over: a slice goes up when an earlier one has come back.
    depth = 2 * ceil(log2(n))
    window = depth + 2 + ceil(depth * flight_bytes / (4 * share))
    src: list[int] = []
    dst: list[int] = []
    before: list[Ints] = []
    after: list[Ints] = []
    plain = _parents(n)
    for tree in range(2):
        label = [r if tree == 0 else (n - 1 - r if n % 2 == 0 else (r + 1) % n) for r in range(n)]
        rising: dict[int, int] = {}
        falling: dict[int, int] = {}
        for r in range(n):
            if plain[r] >= 0:
                rising[r] = len(src) * slices
                src.append(label[r])
                dst.append(label[plain[r]])
        for r in range(n):
            if plain[r] >= 0:
                falling[r] = len(src) * slices
                src.append(label[plain[r]])
                dst.append(label[r])
        for r in range(n):
            up = plain[r]
            if up < 0:
                continue
            if r % 2 == 1 and slices > window:
                before.append(falling[r] + number[:-window])
                after.append(rising[r] + number[window:])
            if up in rising:
                before.append(rising[r] + number)
                after.append(rising[up] + number)
                before.append(falling[up] + number)
                after.append(falling[r] + number)
            else:  # the parent is the root: what it sends down waits for all that comes up
                for other in range(n):
                    if plain[other] == up:
                        before.append(rising[other] + number)
                        after.append(falling[r] + number)
    return Program(
        np.repeat(np.array(src, np.int64), slices),
        np.repeat(np.array(dst, np.int64), slices),
        np.full(len(src) * slices, share),
        np.concatenate(before),
        np.concatenate(after),
        turn=np.tile(number, len(src)),
    )


def _in_network(n: int, shares: Sequence[float]) -> Program:
    """Everyone sends everything up; the switch of each plane adds its share and sends the sum to everyone."""
    ranks = np.arange(n, dtype=np.int64)
    per, planes = 2 * n, len(shares)
    groups = [
        Combination(tuple(range(p * per, p * per + n)), tuple(range(p * per + n, p * per + per)), p)
        for p in range(planes)
    ]
    ends = np.tile(ranks, 2 * planes)
    return Program(ends, ends, np.repeat(np.asarray(shares, np.float64), per), groups=groups)


def _most_pieces(n: int) -> int:
    return max(n, min(MOST_PIECES, PIPELINE_PACKETS // (2 * n)))


def _nvls(n: int, size_bytes: float, flight_bytes: float, planes: int) -> Program:
    """The switch reduces a piece to its owner, who multicasts the sum; owners and planes take turns.

    Pieces follow one another through one pipeline of `window` pieces, so that reductions and multicasts share the
    links from the first piece on: what is lost at both ends of it shrinks with the number of pieces, not with that
    of rounds over all owners (hundreds of accelerators have few of those within `PIPELINE_PACKETS`).
    """
    pieces = n * max(1, min(_most_pieces(n) // n, ceil(size_bytes / n / SLICE_BYTES)))
    share = size_bytes / pieces
    # A multiple of the planes: a piece follows one of its own plane, in whose order every rank contributes.
    window = planes * (WINDOW + ceil(2 * flight_bytes / (share * planes)))
    ranks = np.arange(n, dtype=np.int64)
    # Per piece: n contributions, the sum, the multicast, n copies.
    per = 2 * n + 2
    number = np.arange(pieces, dtype=np.int64)
    at = number * per
    owner = (number + number // lcm(n, planes)) % n  # so that a rank multicasts over every plane
    everyone = np.broadcast_to(ranks, (pieces, n))
    ends = np.concatenate([everyone, owner[:, None], owner[:, None], everyone], axis=1).ravel()
    groups = []
    for piece in range(pieces):
        plane, first = piece % planes, piece * per
        groups.append(Combination(tuple(range(first, first + n)), (first + n,), plane))
        groups.append(Combination((first + n + 1,), tuple(range(first + n + 2, first + per)), plane))
    before, after = [at + n], [at + n + 1]
    if pieces > window:
        copies = at[:-window, None] + n + 2 + ranks
        before.append(copies.ravel())
        after.append((at[window:, None] + ranks).ravel())
    lane = np.tile(np.repeat([0, 1], [n + 1, n + 1]), pieces)
    return Program(
        ends, ends, np.full(ends.size, share), np.concatenate(before), np.concatenate(after), groups=groups, lane=lane
    )


__all__ = ["NEEDS_SWITCH", "ONE_WAY", "Round", "all_reduce_program", "count_messages", "one_way_program", "rounds"]
