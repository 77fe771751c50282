"""All-reduce as others count it: ASTRA-sim 2's analytical back ends to the nanosecond, and the usual double tree.

ASTRA-sim's conventions (astra-sim @518bd51, astra-network-analytical @599a047): "GB/s" is 2^30 B/s; a message takes
whole nanoseconds, rounded down, plus 1 ns at the endpoint; the program ends 1 ns later; a switch is two hops, a pair
of a ring or mesh one; one chunk. The congestion-unaware back end sends "direct" messages side by side at full rate
each, N − 1 times too fast behind a switch. The congestion-aware one stores and forwards a whole message at every hop,
and a link that is busy makes the next message wait for its serialisation, rounded down.
"""

from __future__ import annotations

from math import ceil, log2

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import POWER_OF_TWO

BACKENDS = ("congestion_unaware", "congestion_aware")
ALGORITHMS = {"ring": "ring", "direct": "direct", "halving-doubling": "halvingDoubling"}
TOPOLOGIES = {"switch": "Switch", "ring": "Ring", "mesh": "FullyConnected"}
ENDPOINT_NS = 1


def astra_sim_all_reduce_ns(
    topology: str,
    algorithm: str,
    n: int,
    size_bytes: int,
    *,
    bandwidth_GiBps: float,
    latency_ns: float,
    backend: str = "congestion_unaware",
) -> int:
    """Completion of one all-reduce, ns.

    Parameters
    ----------
    topology, algorithm, backend : str
        Ours (``switch``, ``halving-doubling``) or ASTRA-sim's names (``Switch``, ``halvingDoubling``).
    size_bytes : int
        An accelerator's payload.
    bandwidth_GiBps : float
        One link, one way, 2^30 B/s; of a mesh, the link of a pair.
    latency_ns : float
        One hop.

    Raises
    ------
    ConfigurationError
        A combination that ASTRA-sim refuses (chunks below one byte) or for which no run has confirmed the formula.
    """
    where = _own_name(topology, TOPOLOGIES, "topology")
    how = _own_name(algorithm, ALGORITHMS, "algorithm")
    if backend not in BACKENDS:
        raise ConfigurationError(f"back end {backend!r} is unknown; use one of {', '.join(BACKENDS)}")
    if n < 2 or size_bytes < 1 or not 0 < bandwidth_GiBps < float("inf") or not 0 <= latency_ns < float("inf"):
        raise ConfigurationError(
            f"{n} accelerators, {size_bytes} B, {bandwidth_GiBps} GiB/s, {latency_ns} ns: give 2 accelerators, "
            f"1 B or more, a rate above 0 and a latency of 0 or more"
        )
    if how in POWER_OF_TWO and n & (n - 1):
        low = 1 << (n.bit_length() - 1)
        raise ConfigurationError(f"{how} needs a power of two of accelerators, not {n}; use {low} or {2 * low}")
    if where == "ring" and how != "ring":
        raise ConfigurationError(f"{how} on a ring is not modelled in ASTRA-sim's convention; use ring or a switch")
    least = 2 * n if how == "halving-doubling" else n
    if size_bytes < least:
        raise ConfigurationError(
            f"{size_bytes} B over {n} accelerators are chunks that ASTRA-sim aborts on; use {least} B or more"
        )
    aware = backend == "congestion_aware"
    per_ns = bandwidth_GiBps * 2**30 / 1e9
    hops = 2 if where == "switch" else 1

    def message_ns(chunk: int) -> int:
        serial = chunk / per_ns
        travel = hops * int(latency_ns + serial) if aware else int(hops * latency_ns + serial)
        return travel + ENDPOINT_NS

    if how == "ring":
        return 2 * (n - 1) * message_ns(size_bytes // n) + ENDPOINT_NS
    if how == "halving-doubling":
        levels = n.bit_length() - 1
        return 2 * sum(message_ns(size_bytes >> i) for i in range(1, levels + 1)) + ENDPOINT_NS
    queued = (n - 2) * int(size_bytes // n / per_ns) if aware and where == "switch" else 0
    return 2 * (queued + message_ns(size_bytes // n)) + ENDPOINT_NS


def usual_double_tree_s(n: int, size_bytes: float, *, latency_s: float, bandwidth_Bps: float) -> float:
    """Seconds of a pipelined double binary tree as textbooks and tuning models count it: 2 ⌈log2 N⌉ α + 2 S β.

    linepress's own closed form (``collectives.all_reduce``, ``double-tree``) has the same latency, and the bytes that
    the busiest accelerator sends: S for N = 2 and 1.5 S for N = 3, where the usual 2 S is 100 % and 33 % too much.
    """
    if n < 2:
        return 0.0
    return 2 * ceil(log2(n)) * latency_s + 2 * size_bytes / bandwidth_Bps


def _own_name(name: str, names: dict[str, str], what: str) -> str:
    for own, theirs in names.items():
        if name in (own, theirs):
            return own
    raise ConfigurationError(f"{what} {name!r} has no ASTRA-sim convention; use one of {', '.join(names)}")
