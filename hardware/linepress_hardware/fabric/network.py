"""Networks as the packet simulation sees them: channels, buffers, and routes computed for many messages at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.framing import IDEAL, Framing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Route = Callable[[Ints, Ints, Ints], Ints]


@dataclass(frozen=True)
class Network:
    """Channels and how messages cross them.

    Attributes
    ----------
    kind : str
        mesh, torus (a ring is a torus of one dimension), switch or leaf-spine.
    n, planes : int
        Endpoints; parallel switch planes, of which a message takes one a packet.
    virtual : int
        Virtual channels of a channel (2 on a torus, so that its rings cannot deadlock).
    ns_per_byte, latency_ns, forward_ns, floor_ns : float64[channels]
        See `linepress_hardware.fabric.packet_kernel.run`.
    route : callable (src, dst, plane) -> int64[m, hops]
        Queues crossed in order, -1 past the end.
    up, down : int64[n, planes]
        Channels between endpoints and their switches; empty without switches.
    framing : Framing
        Bytes that a payload takes on the wire.
    overhead_ns : float
        Time an endpoint spends on a message before it leaves.
    flit_error, replay_ns : float
        Probability that a flit arrives broken, and the time until it is sent again; what follows it waits.
    """

    kind: str
    n: int
    planes: int
    virtual: int
    ns_per_byte: Floats
    latency_ns: Floats
    forward_ns: Floats
    floor_ns: Floats
    route: Route
    up: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    down: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    framing: Framing = IDEAL
    overhead_ns: float = 0.0
    cut_through: bool = True
    buffer_bytes: float | None = None
    dims: tuple[int, ...] = ()
    flit_error: float = 0.0
    replay_ns: float = 0.0

    @property
    def channels(self) -> int:
        return int(self.ns_per_byte.size)

    def slots(self, widest_bytes: float, narrowest_bytes: float | None = None) -> Ints:
        """Packets that the buffer behind each queue holds.

        `buffer_bytes` in packets of `widest_bytes`; without it twice what keeps one flow of packets of
        `narrowest_bytes` on the wire at full rate until its first credit is back.
        """
        if self.buffer_bytes is not None:
            fitting = int(self.buffer_bytes // widest_bytes)
            if fitting < 1:
                raise ConfigurationError(
                    f"a buffer of {self.buffer_bytes:g} B holds no packet of {widest_bytes:g} B; "
                    f"give at least {ceil(widest_bytes)} B"
                )
            per_channel = np.full(self.channels, fitting, np.int64)
        else:
            serial = np.maximum(self.ns_per_byte * (narrowest_bytes or widest_bytes), 1e-9)
            loop = 2 * self.latency_ns + self.forward_ns + self.floor_ns + 2 * serial
            per_channel = 2 * np.ceil(loop / serial).astype(np.int64) + 2
        return np.repeat(per_channel, self.virtual)

    def parts(self, size_bytes: ArrayLike) -> Ints:
        """Planes that messages go over at once, int64 of the same shape: one a packet, at most all."""
        size = np.asarray(size_bytes, np.float64)
        return np.clip(np.ceil(size / self.framing.payload_max_bytes), 1, self.planes).astype(np.int64)

    def shares(self, size_bytes: ArrayLike, number: ArrayLike) -> tuple[Floats, Floats]:
        """Payload and wire bytes of part `number` of messages of `size_bytes` (float64 of the common shape).

        Whole packets and a rest while there are fewer packets than planes, equal shares from then on. Equal shares
        of fewer packets would make a message quicker by growing: two halves of a packet leave before a whole one.
        """
        size, part = np.broadcast_arrays(np.asarray(size_bytes, np.float64), np.asarray(number, np.int64))
        whole = self.framing.payload_max_bytes
        fills = size >= self.planes * whole
        packet = np.where(
            part > 0, np.minimum(whole, size - np.where(part > 0, part, 1) * whole), np.minimum(whole, size)
        )
        payload = np.where(fills, size / self.planes, packet)
        wire = np.where(
            fills, self.framing.wire_bytes(size) / self.planes, self.framing.wire_bytes(np.where(fills, 0.0, packet))
        )
        return payload, wire

    def message_ns(self, size_bytes: float, hops: int | None = None, *, peers: int = 1) -> float:
        """Time of messages to `peers` accelerators, back to back from one, alone in the network.

        overhead + hops × flight + (hops − 1)(forwarding + floor) + serialisation of all that shares a channel: on a
        mesh every peer has its own channel; with planes a message is spread by packets, the fullest plane counts.

        Parameters
        ----------
        hops : int | None
            Channels crossed; None takes the usual distance, see `hops`.
        """
        h = self.hops if hops is None else hops
        shared = 1 if self.kind == "mesh" else peers
        count = int(self.parts(size_bytes))
        wires = self.shares(np.full(count, size_bytes), np.arange(count))[1] * float(self.ns_per_byte[0])
        floor, flight, forward = float(self.floor_ns[0]), float(self.latency_ns[0]), float(self.forward_ns[0])
        between = floor if self.cut_through else max(float(wires.max()), floor)
        each = np.tile(wires, shared)  # part i of all that is sent goes over plane i mod planes
        on_plane = np.bincount(np.arange(each.size) % self.planes, each)
        behind = each[-on_plane.size :][np.argsort(np.arange(each.size - on_plane.size, each.size) % self.planes)]
        busiest = float((on_plane - behind + np.maximum(behind, floor)).max())
        return self.overhead_ns + h * flight + (h - 1) * (forward + between) + busiest

    @property
    def hops(self) -> int:
        """Channels between neighbours on a mesh or torus, and between endpoints of one switch."""
        return {"mesh": 1, "torus": 1, "switch": 2, "leaf-spine": 2}[self.kind]

    def with_options(
        self,
        *,
        framing: Framing | None = None,
        overhead_ns: float | None = None,
        buffer_bytes: float | None = None,
        cut_through: bool | None = None,
    ) -> Network:
        """The same network with another framing, endpoint overhead, buffer or way of forwarding."""
        return replace(
            self,
            framing=self.framing if framing is None else framing,
            overhead_ns=self.overhead_ns if overhead_ns is None else overhead_ns,
            buffer_bytes=self.buffer_bytes if buffer_bytes is None else buffer_bytes,
            cut_through=self.cut_through if cut_through is None else cut_through,
        )


def _check(n: int, bandwidth_GBps: float, *times_ns: float) -> None:
    if n < 2:
        raise ConfigurationError(f"a network of {n} accelerators connects nothing; give at least 2")
    if not 0 < bandwidth_GBps < float("inf"):
        raise ConfigurationError(f"a link of {bandwidth_GBps!r} GB/s carries nothing; give a rate above 0")
    for time in times_ns:
        if not 0 <= time < float("inf"):
            raise ConfigurationError(f"a latency is {time!r} ns; give 0 or more")


def switch(
    n: int, *, planes: int = 1, link_GBps: float, latency_ns: float, forward_ns: float = 0.0, floor_ns: float = 0.0
) -> Network:
    """`planes` non-blocking switches, each with a link to every endpoint.

    Parameters
    ----------
    link_GBps : float
        One link, one way (10^9 B/s).
    latency_ns : float
        Flight over one link, both its PHYs.
    forward_ns : float
        Switch, port to port.
    floor_ns : float
        Least time of a packet on a link (its flit).
    """
    _check(n, link_GBps, latency_ns, forward_ns, floor_ns)
    if planes < 1:
        raise ConfigurationError(f"{planes} switch planes connect nothing; give at least 1")
    up = np.arange(n * planes, dtype=np.int64).reshape(n, planes)
    down = up + n * planes
    size = 2 * n * planes

    def route(src: Ints, dst: Ints, plane: Ints) -> Ints:
        return np.stack([up[src, plane], down[dst, plane]], axis=1)

    forward = np.zeros(size)
    forward[: n * planes] = forward_ns
    return Network(
        "switch",
        n,
        planes,
        1,
        np.full(size, 1.0 / link_GBps),
        np.full(size, latency_ns),
        forward,
        np.full(size, floor_ns),
        route,
        up,
        down,
    )


def mesh(n: int, *, pair_GBps: float, latency_ns: float, floor_ns: float = 0.0) -> Network:
    """A link between every two endpoints."""
    _check(n, pair_GBps, latency_ns, floor_ns)
    size = n * (n - 1)

    def route(src: Ints, dst: Ints, plane: Ints) -> Ints:
        return (src * (n - 1) + dst - (dst > src))[:, None]

    return Network(
        "mesh",
        n,
        1,
        1,
        np.full(size, 1.0 / pair_GBps),
        np.full(size, latency_ns),
        np.zeros(size),
        np.full(size, floor_ns),
        route,
    )


def torus(
    dims: Sequence[int], *, link_GBps: float, latency_ns: float, forward_ns: float = 0.0, floor_ns: float = 0.0
) -> Network:
    """A ring (one dimension) or torus; each endpoint has a link each way in each dimension and forwards for others.

    Routes go dimension by dimension the shorter way round; a packet that crosses the wrap-around link of a ring
    goes on in the second virtual channel (the dateline rule of Dally & Seitz, 1987), so that no cycle can form.
    """
    shape = tuple(int(k) for k in dims)
    if not shape or any(k < 2 for k in shape):
        raise ConfigurationError(
            f"torus of {'x'.join(map(str, shape)) or 'no dimensions'}; give 2 or more a dimension"
        )
    n = prod(shape)
    _check(n, link_GBps, latency_ns, forward_ns, floor_ns)
    d = len(shape)
    strides = [prod(shape[i + 1 :]) for i in range(d)]
    size = n * 2 * d

    def route(src: Ints, dst: Ints, plane: Ints) -> Ints:
        here = src.copy()
        columns = []
        for i, k in enumerate(shape):
            at = (here // strides[i]) % k
            ahead = ((dst // strides[i]) % k - at) % k
            backward = (2 * ahead > k) | ((2 * ahead == k) & (at % 2 == 1))  # half of the ties each way
            left = np.where(backward, k - ahead, ahead)
            wrapped = np.zeros(len(src), np.int64)
            for _ in range(k // 2):
                going = left > 0
                position = (here // strides[i]) % k
                following = np.where(backward, position - 1, position + 1)
                wrapped = np.where(going & ((following < 0) | (following >= k)), 1, wrapped)
                channel = here * 2 * d + 2 * i + backward
                columns.append(np.where(going, channel * 2 + wrapped, -1))
                here = np.where(going, here + (following % k - position) * strides[i], here)
                left = left - going
        return np.stack(columns, axis=1)

    return Network(
        "torus",
        n,
        1,
        2,
        np.full(size, 1.0 / link_GBps),
        np.full(size, latency_ns),
        np.full(size, forward_ns),
        np.full(size, floor_ns),
        route,
        dims=shape,
    )


def leaf_spine(
    n: int,
    *,
    per_leaf: int,
    spines: int,
    planes: int = 1,
    link_GBps: float,
    latency_ns: float,
    forward_ns: float = 0.0,
    floor_ns: float = 0.0,
) -> Network:
    """Two levels of switches: `per_leaf` endpoints a leaf, one link from each leaf to each spine, in every plane.

    A message between leaves takes the spine (src + dst) mod spines: spread evenly, in order, without feedback.
    """
    _check(n, link_GBps, latency_ns, forward_ns, floor_ns)
    if per_leaf < 1 or spines < 1 or planes < 1:
        raise ConfigurationError(
            f"{per_leaf} endpoints a leaf, {spines} spines, {planes} planes; give 1 or more of each"
        )
    leaves = ceil(n / per_leaf)
    up = np.arange(n * planes, dtype=np.int64).reshape(n, planes)
    down = up + n * planes
    base = 2 * n * planes
    climb = base + np.arange(leaves * spines * planes, dtype=np.int64).reshape(leaves, spines, planes)
    descend = climb + leaves * spines * planes
    size = base + 2 * leaves * spines * planes

    def route(src: Ints, dst: Ints, plane: Ints) -> Ints:
        a, b = src // per_leaf, dst // per_leaf
        spine = (src + dst) % spines
        far = a != b
        second = np.where(far, climb[a, spine, plane], down[dst, plane])
        third = np.where(far, descend[b, spine, plane], -1)
        return np.stack([up[src, plane], second, third, np.where(far, down[dst, plane], -1)], axis=1)

    forward = np.full(size, forward_ns)
    forward[n * planes : base] = 0.0
    return Network(
        "leaf-spine",
        n,
        planes,
        1,
        np.full(size, 1.0 / link_GBps),
        np.full(size, latency_ns),
        forward,
        np.full(size, floor_ns),
        route,
        up,
        down,
    )
