"""A port with flits, credits and replay at a bit error rate, and what a switch's port-to-port limit leaves of it.

A data-link flit fills one Reed–Solomon codeword. With independent bit errors a symbol of b bits is wrong with
q = 1 − (1 − BER)^b, and a codeword of n symbols fails with P(more than t wrong), the tail of the binomial (n, q);
bursts are left out. A failed flit and all behind it are discarded until it comes again (go-back-N): the sender learns
of it after a loop of 2 (flit + flight + check), so flits take T + p / (1 − p) · loop each. The replay buffer and the
credits each let as many flits go a loop as they hold. UALink's specifications are not public: flit and code are
(`data/links`), go-back-N, the check's time and the loop are assumptions stated here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.links import LineCode, Link
from linepress_hardware.fabric.parameters import parameter_ns
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.switches import Switch
from linepress_hardware.fabric.topologies import custom

WARM_SHARE = 0.1


def codeword_failure(line: LineCode, bit_error_rate: float) -> float:
    """Probability that a codeword has more wrong symbols than it corrects, bit errors independent."""
    if not 0 <= bit_error_rate < 0.5:
        raise ConfigurationError(f"a bit error rate of {bit_error_rate!r}; give 0 to below 0.5, for instance 1e-6")
    if bit_error_rate == 0:
        return 0.0
    n = round(line.codeword_bytes * 8 / line.symbol_bits)
    wrong = -math.expm1(line.symbol_bits * math.log1p(-bit_error_rate))
    right = math.log1p(-wrong)
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(wrong) + (n - k) * right
        for k in range(line.correctable + 1, n + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def bit_error_rate_for(line: LineCode, failure: float) -> float:
    """Highest bit error rate at which codewords fail no more often than `failure`, to 0.1 %."""
    if not 0 < failure < 1:
        raise ConfigurationError(f"a failure share of {failure!r}; give one above 0, below 1, for instance 1e-9")
    low, high = 1e-12, 0.4
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if codeword_failure(line, middle) <= failure else (low, middle)
    return low


@dataclass(frozen=True)
class Port:
    """One direction of a link at its data-link layer; times in ns.

    Attributes
    ----------
    flit_ns, flight_ns, check_ns : float
        Time of a flit on the wire, wire and PHYs, check after the codeword is decoded.
    error : float
        Probability that a flit fails.
    replay_flits, credit_flits : int
        Flits that the sender can keep for replay, that the receiver's buffer takes.
    """

    flit_ns: float
    flight_ns: float
    check_ns: float
    error: float
    replay_flits: int
    credit_flits: int

    def __post_init__(self) -> None:
        if not self.flit_ns > 0 or self.flight_ns < 0 or self.check_ns < 0 or not 0 <= self.error < 1:
            raise ConfigurationError(
                f"a flit of {self.flit_ns!r} ns, {self.flight_ns!r} and {self.check_ns!r} ns behind it, failing with "
                f"{self.error!r}; give times of 0 or more and a share below 1"
            )
        if self.replay_flits < 1 or self.credit_flits < 1:
            raise ConfigurationError(
                f"{self.replay_flits} flits of replay buffer and {self.credit_flits} credits; give at least 1 of each"
            )

    @property
    def loop_ns(self) -> float:
        """From the start of a flit until its sender knows how it arrived."""
        return 2 * (self.flit_ns + self.flight_ns + self.check_ns)

    @property
    def flits_for_full_rate(self) -> int:
        """Replay buffer, and credits, that never hold the sender up without errors."""
        return math.ceil(self.loop_ns / self.flit_ns - 1e-9)

    @property
    def throughput_share(self) -> float:
        """Flits delivered over flits the wire carries; exact without errors or with buffers that never bind."""
        held = min(self.replay_flits, self.credit_flits)
        gap = max(self.flit_ns, self.loop_ns / held)
        return self.flit_ns / (gap + self.error / (1 - self.error) * self.loop_ns)

    @property
    def mean_ns(self) -> float:
        """Start to accepted, of a flit that nobody delays."""
        return self.flit_ns + self.flight_ns + self.check_ns + self.error / (1 - self.error) * self.loop_ns


def port_of(
    link: Link, bit_error_rate: float, *, replay_flits: int | None = None, credit_flits: int | None = None
) -> Port:
    """The port of a packaged link; buffers of None just keep the full rate.

    Raises
    ------
    ConfigurationError
        A link without flits or line code.
    """
    if link.line is None or not link.framing.flit_bytes:
        raise ConfigurationError(f"{link.name} has no flits with a line code in its data file; use a UALink link")
    port = Port(
        link.framing.flit_bytes / link.rate_GBps,
        link.latency_ns,
        parameter_ns("port", "check"),
        codeword_failure(link.line, bit_error_rate),
        1,
        1,
    )
    enough = port.flits_for_full_rate
    return replace(port, replay_flits=replay_flits or enough, credit_flits=credit_flits or enough)


@njit(cache=True)
def _send(arrival_ns: Any, broken: Any, flit_ns: float, loop_ns: float, held: int) -> Any:
    """Start of the attempt that arrives whole, float64[flits], after `broken` ones."""
    starts = np.empty(arrival_ns.size)
    free = 0.0
    for i in range(arrival_ns.size):
        start = max(arrival_ns[i], free)
        if i >= held:
            start = max(start, starts[i - held] + loop_ns)  # its acknowledgement, or credit, is back
        starts[i] = start + broken[i] * loop_ns
        free = starts[i] + flit_ns
    return starts


def simulate_port(port: Port, flits: int, *, load: float = 1.0, seed: int = 1) -> dict[str, Any]:
    """Flits over one link: Poisson arrivals at `load`, or all at once from load 1 on.

    Returns
    -------
    dict
        ``throughput_share``, ``closed_form_share``, ``mean_ns``, ``p50_ns``, ``p99_ns``, ``p999_ns`` (arrival to
        accepted), ``closed_form_mean_ns`` (below load 1: Pollaczek–Khinchine over T + replays; None where
        buffers could bind), ``replays``.
    """
    if flits < 100 or not load > 0:
        raise ConfigurationError(f"{flits} flits at load {load!r}; give 100 or more and a load above 0")
    random = np.random.Generator(np.random.PCG64(seed))
    saturated = load >= 1
    arrival = np.zeros(flits) if saturated else np.cumsum(random.exponential(port.flit_ns / load, flits))
    held = min(port.replay_flits, port.credit_flits)
    broken = random.geometric(1 - port.error, flits) - 1
    starts = _send(arrival, broken, port.flit_ns, port.loop_ns, held)
    done = starts + port.flit_ns + port.flight_ns + port.check_ns
    warm = int(flits * WARM_SHARE)
    trips = (done - arrival)[warm:]
    p50, p99, p999 = np.percentile(trips, [50, 99, 99.9])
    return {
        "flits": flits,
        "load": load,
        "seed": seed,
        "throughput_share": float(flits * port.flit_ns / (starts[-1] + port.flit_ns)),
        "closed_form_share": port.throughput_share,
        "mean_ns": None if saturated else float(trips.mean()),
        "p50_ns": None if saturated else float(p50),
        "p99_ns": None if saturated else float(p99),
        "p999_ns": None if saturated else float(p999),
        "closed_form_mean_ns": None if saturated or held < port.flits_for_full_rate else _queued_ns(port, load),
        "replays": int(broken.sum()),
    }


def _queued_ns(port: Port, load: float) -> float | None:
    """Mean of an M/G/1 queue whose service is T + geometric replays: W = λ E[s²] / 2 (1 − λ E[s])."""
    p, t, loop = port.error, port.flit_ns, port.loop_ns
    mean = p / (1 - p)
    second = t * t + 2 * t * loop * mean + loop * loop * (mean * mean + p / (1 - p) ** 2)
    busy = load / t * (t + loop * mean)
    if busy >= 1:
        return None
    return load / t * second / (2 * (1 - busy)) + port.mean_ns


def port_to_port(
    link: Link,
    switch: Switch,
    bit_error_rate: float,
    *,
    ports: int = 16,
    load: float = 0.0,
    size_bytes: float = 256,
    messages: int = 100_000,
    seed: int = 1,
) -> dict[str, Any]:
    """Messages between random ports of one switch, packet by packet, held to the switch's published limit.

    Port to port is what a message takes beyond the wires, PHYs and its own flits: the limit (taken as the time
    through an idle switch), queues, and replays on both links.

    Parameters
    ----------
    load : float
        Share of a port's wire bytes in use; 0 sends messages one at a time, far apart.

    Returns
    -------
    dict
        ``limit_ns``, ``p50_ns``, ``p99_ns``, ``p999_ns``, ``max_ns``, ``above_limit`` (share of messages above it by
        a nanosecond and more), ``expected_above_idle`` (1 − (1 − p)^2: one of its two flits fails), ``replays``,
        ``flit_failure``.
    """
    if messages < 100 or not 0 <= load < 1:
        raise ConfigurationError(f"{messages} messages at load {load!r}; give 100 or more and a load of 0 to below 1")
    port = port_of(link, bit_error_rate)
    wired = custom("switch", ports, link_name=link.name, switch_name=switch.name)
    net = replace(wired.network(), flit_error=port.error, replay_ns=port.loop_ns)
    random = np.random.Generator(np.random.PCG64(seed))
    alone = net.message_ns(size_bytes)
    wire = float(net.framing.wire_bytes(size_bytes))
    far = 4 * alone + 64 * port.loop_ns
    gap = far if load == 0 else wire / (link.rate_GBps * load) / ports
    at = np.cumsum(np.full(messages, gap) if load == 0 else random.exponential(gap, messages))
    src = random.integers(0, ports, messages)
    dst = (src + random.integers(1, ports, messages)) % ports
    program = Program(src, dst, np.full(messages, float(size_bytes)), release_ns=at)
    out = simulate(net, program, packet_bytes=size_bytes, seed=seed)
    trips = (out.done_ns - at)[int(messages * WARM_SHARE) :] - (alone - switch.latency_ns)
    p50, p99, p999 = np.percentile(trips, [50, 99, 99.9])
    return {
        "link": link.name,
        "switch": switch.name,
        "ports": ports,
        "load": load,
        "bit_error_rate": bit_error_rate,
        "size_bytes": size_bytes,
        "messages": messages,
        "seed": seed,
        "limit_ns": switch.latency_ns,
        "flit_failure": port.error,
        "p50_ns": float(p50),
        "p99_ns": float(p99),
        "p999_ns": float(p999),
        "max_ns": float(trips.max()),
        "above_limit": float(np.mean(trips > switch.latency_ns + 1.0)),
        "expected_above_idle": 1 - (1 - port.error) ** 2,
        "replays": out.replays,
        "limit_less_codeword_ns": switch.latency_ns - port.flit_ns,
    }
