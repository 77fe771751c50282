"""The packet simulation against closed forms: alone, shared, starved of credits, combined in switches."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric.collectives import ALL_REDUCE, NEEDS_SWITCH, PIPELINED, all_reduce, all_reduce_bound
from linepress_hardware.fabric.evaluate import ALGORITHMS, check, collective, fabric_of, plain_fabric
from linepress_hardware.fabric.framing import Framing
from linepress_hardware.fabric.schedules import all_reduce_program
from linepress_hardware.fabric.simulate import Combination, Program, simulate
from linepress_hardware.fabric.topologies import topologies, topology

EXACT = 1e-9
ALPHA_NS, RATE = 250.0, 450.0


def _plain(kind: str, n: int) -> nets.Network:
    if kind == "switch":
        return nets.switch(n, link_GBps=RATE, latency_ns=ALPHA_NS / 2)
    return nets.mesh(n, pair_GBps=RATE / (n - 1), latency_ns=ALPHA_NS)


def _send(src: int, dst: int, size: float) -> Program:
    return Program(np.array([src]), np.array([dst]), np.array([size]))


@pytest.mark.parametrize("kind", ["switch", "mesh"])
@pytest.mark.parametrize("n", [2, 5, 8, 16])
@pytest.mark.parametrize("size", [64.0, 1e4, 1e9])
@pytest.mark.parametrize("algorithm", [name for name in ALL_REDUCE if name not in PIPELINED])
def test_all_reduce_without_contention_is_the_closed_form(kind: str, n: int, size: float, algorithm: str) -> None:
    if (algorithm in NEEDS_SWITCH and kind != "switch") or (
        n == 5 and algorithm in ("recursive-doubling", "halving-doubling")
    ):
        with pytest.raises(ConfigurationError):
            check(plain_fabric(kind, n, bandwidth_GBps=RATE, latency_ns=ALPHA_NS), "all_reduce", algorithm, size)
        return
    found = simulate(_plain(kind, n), all_reduce_program(algorithm, n, size), max_packets=20_000).finish_ns
    given_ = {"latency_s": ALPHA_NS * 1e-9, "bandwidth_Bps": RATE * 1e9, "topology": kind}
    formula = all_reduce(algorithm, n, size, **given_).time_s * 1e9  # type: ignore[arg-type]
    if algorithm == "tree" and n == 5:  # no path of this tree has all ⌈log2 N⌉ hops
        assert all_reduce_bound(algorithm, n, size, **given_) * 1e9 <= found * (1 + EXACT) <= formula  # type: ignore[arg-type]
    else:
        assert found == pytest.approx(formula, rel=EXACT)


@pytest.mark.parametrize("name", list(topologies()))
@pytest.mark.parametrize("size", [4096, 2**22])
def test_packaged_topologies_are_never_faster_than_the_bound(name: str, size: int) -> None:
    """With headers, flits and planes; equal to the closed form where rounds follow one another."""
    known = topology(name)
    fabric = fabric_of(known.with_accelerators(16) if known.accelerators > 72 else known)
    tried = 0
    for algorithm in ALGORITHMS:
        try:
            check(fabric, "all_reduce", algorithm, size)
        except ConfigurationError:
            continue
        row = collective(fabric, size, algorithm=algorithm, max_packets=30_000)
        assert row["time_s"] >= row["bound_s"] * (1 - EXACT), algorithm
        exact = algorithm not in (*PIPELINED, "tree", "in-network", "bucket", "ring")
        if row["closed_form_s"] is not None and exact:
            assert row["time_s"] == pytest.approx(row["closed_form_s"], rel=1e-6), algorithm
        tried += 1
    assert tried >= 1


@pytest.mark.parametrize("name", list(topologies()))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_closed_forms_never_fall_with_size(name: str, algorithm: str) -> None:
    """A larger all-reduce takes no less time, at every packet more that a message goes over planes with."""
    fabric = fabric_of(topology(name))
    try:
        check(fabric, "all_reduce", algorithm, 1024)
    except ConfigurationError:
        return
    sizes = sorted({2**k + d for k in range(28) for d in (-1, 0, 1) if 2**k + d > 0})
    whole = fabric.network.framing.payload_max_bytes
    for scale in (1, fabric.network.n):
        sizes += [int(p * whole * scale) + d for p in range(1, fabric.network.planes + 2) for d in (0, 1)]
    times = [collective(fabric, size, algorithm=algorithm, run=False)["time_s"] for size in sorted(sizes)]
    assert np.all(np.diff(times) >= -1e-9 * np.array(times[:-1]))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["ring", "tree", "recursive-doubling", "halving-doubling", "direct", "one-shot", "in-network"]),
    st.integers(1, 60_000),
    st.integers(1, 5_000),
)
def test_simulated_all_reduce_over_planes_never_falls_with_size(algorithm: str, size: int, more: int) -> None:
    fabric = fabric_of(topology("dgx-h100"))
    before, after = (collective(fabric, s, algorithm=algorithm)["time_s"] for s in (size, size + more))
    assert after >= before * (1 - EXACT)


@pytest.mark.parametrize(("n", "gain"), [(8, 1.55), (64, 1.93)])
def test_reduction_in_the_switch_is_measured_below_twice_a_ring(n: int, gain: float) -> None:
    fabric = plain_fabric("switch", n, bandwidth_GBps=RATE, latency_ns=ALPHA_NS)
    ring = collective(fabric, 2**30, algorithm="ring")["time_s"]
    nvls = collective(fabric, 2**30, algorithm="in-network-nvls")
    assert gain < ring / nvls["time_s"] <= ring / nvls["bound_s"] < 2


@pytest.mark.parametrize("n", [2, 128, 512])
def test_reduction_in_the_switch_holds_its_closed_form_at_any_number(n: int) -> None:
    """Few rounds over all owners once left nothing to overlap: 1.16 at 128, 1.66 at 256, 1.99 at 512."""
    fabric = plain_fabric("switch", n, bandwidth_GBps=RATE, latency_ns=ALPHA_NS)
    row = collective(fabric, 2**30, algorithm="in-network-nvls")
    assert row["method"] == "simulation"
    assert row["time_s"] == pytest.approx(row["closed_form_s"], rel=0.01)


@pytest.mark.parametrize("name", ["dgx-h100", "nvl72"])
def test_reduction_in_the_switch_uses_every_plane(name: str) -> None:
    """Owners that always multicast over the same plane would make that plane a quarter busier than the others."""
    row = collective(fabric_of(topology(name)), 2**26, algorithm="in-network-nvls")
    assert row["time_s"] == pytest.approx(row["closed_form_s"], rel=0.05)


def test_lanes_share_a_link_by_turns() -> None:
    """A message on a lane of its own does not wait behind a long one; both together keep the link busy."""
    net = nets.switch(3, link_GBps=10.0, latency_ns=50.0)
    src, dst, size = np.array([0, 0]), np.array([1, 2]), np.array([100_000.0, 1_000.0])
    one = simulate(net, Program(src, dst, size), packet_bytes=100.0)
    two = simulate(net, Program(src, dst, size, lane=np.array([0, 1])), packet_bytes=100.0)
    assert one.done_ns[1] == pytest.approx(100 + 10_100)
    assert two.done_ns[1] == pytest.approx(100 + 200, abs=20)
    assert two.finish_ns == one.finish_ns
    ring = nets.torus((4,), link_GBps=1.0, latency_ns=1.0)
    with pytest.raises(ConfigurationError, match="virtual channels of its own"):
        simulate(ring, Program(src[:1], dst[:1], size[:1], lane=np.array([1])))


def test_double_tree_comes_near_its_limit() -> None:
    fabric = plain_fabric("switch", 16, bandwidth_GBps=RATE, latency_ns=ALPHA_NS)
    row = collective(fabric, 2**30, algorithm="double-tree")
    # Two children that share their parent's link finish their slices late: 1.29 of the limit, not 1.
    assert 1 <= row["time_s"] / row["bound_s"] < 1.35


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(0, 2**32 - 1),
    st.floats(1.0, 500.0),
    st.floats(0.0, 500.0),
    st.floats(0.0, 300.0),
    st.booleans(),
)
def test_random_traffic_is_never_faster_than_its_parts(
    n: int, seed: int, rate: float, latency: float, forward: float, cut: bool
) -> None:
    """Each message takes at least its own time; each link at least the bytes that cross it."""
    random = np.random.Generator(np.random.PCG64(seed))
    messages = 60
    src = random.integers(0, n, messages)
    dst = (src + random.integers(1, n, messages)) % n
    size = random.integers(1, 20_000, messages).astype(float)
    net = nets.switch(
        n, link_GBps=rate, latency_ns=latency, forward_ns=forward, floor_ns=float(random.integers(0, 9))
    )
    net = net.with_options(framing=Framing(256.0, 16.0), cut_through=cut)
    out = simulate(net, Program(src, dst, size))
    if cut:
        alone = np.array([net.message_ns(s) for s in size])
        assert np.all(out.latency_ns >= alone * (1 - EXACT))
    wire = net.framing.wire_bytes(size)
    busiest = max(np.bincount(src, wire).max(), np.bincount(dst, wire).max()) / rate
    assert out.finish_ns >= busiest + 2 * latency + forward - 1e-6
    assert out.busy_ns.sum() == pytest.approx(2 * wire.sum() / rate)


def test_one_message_over_many_hops() -> None:
    """Flight and forwarding at each hop, serialisation once when cut through, at each hop when stored."""
    net = nets.torus((8,), link_GBps=10.0, latency_ns=30.0, forward_ns=7.0, floor_ns=2.0)
    found = simulate(net, _send(0, 3, 1000.0), packet_bytes=1000.0).finish_ns
    assert found == pytest.approx(3 * 30 + 2 * (7 + 2) + 100)
    stored = net.with_options(cut_through=False)
    assert simulate(stored, _send(0, 3, 1000.0), packet_bytes=1000.0).finish_ns == pytest.approx(3 * 130 + 2 * 7)


def test_an_idle_flit_goes_out_whole() -> None:
    net = nets.switch(4, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0, floor_ns=6.4)
    assert simulate(net, _send(0, 1, 64.0)).finish_ns == pytest.approx(2 * 56.4 + 200)
    assert net.message_ns(64.0) == pytest.approx(2 * 56.4 + 200)


def test_incast_shares_the_last_link() -> None:
    n, size = 9, 8192.0
    net = nets.switch(n, link_GBps=100.0, latency_ns=50.0)
    src = np.arange(1, n)
    out = simulate(net, Program(src, np.zeros(n - 1, np.int64), np.full(n - 1, size)), packet_bytes=256.0)
    assert out.finish_ns == pytest.approx(100 + (n - 1) * size / 100)
    assert out.deepest.max() > 8
    assert out.done_ns.min() > 100 + size / 100 * (n - 2)  # all advance together: nobody finishes early


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_credits_bound_the_rate(slots: int) -> None:
    """K packets of buffer: K packets each loop of flight, serialisation and credit return, not the link's rate."""
    packet, rate, flight = 100.0, 10.0, 200.0
    net = nets.mesh(2, pair_GBps=rate, latency_ns=flight).with_options(buffer_bytes=slots * packet)
    count = 60
    out = simulate(net, _send(0, 1, count * packet), packet_bytes=packet)
    loop = 2 * flight + packet / rate
    last = count - 1
    expected = (last // slots) * loop + (last % slots) * packet / rate + packet / rate + flight
    assert out.finish_ns == pytest.approx(expected)
    assert out.credit_stalls > 0


def test_full_buffers_hold_up_bystanders() -> None:
    """A sender whose packets wait for a hot port delays its own traffic to an idle one; big buffers do not."""
    src = np.array([1, 2, 3, 1])
    dst = np.array([0, 0, 0, 4])
    size = np.array([51_200.0, 51_200.0, 51_200.0, 256.0])
    base = nets.switch(5, link_GBps=100.0, latency_ns=10.0)
    small = simulate(base.with_options(buffer_bytes=2048.0), Program(src, dst, size), packet_bytes=256.0)
    large = simulate(base.with_options(buffer_bytes=1e6), Program(src, dst, size), packet_bytes=256.0)
    assert small.latency_ns[3] > 2.5 * large.latency_ns[3]
    assert large.latency_ns[3] == pytest.approx(512 + 2.56 + 20)


def test_a_switch_combines_what_comes_in() -> None:
    n, size = 4, 1000.0
    net = nets.switch(n, link_GBps=10.0, latency_ns=50.0)
    ranks = np.arange(n)
    ends = np.concatenate([ranks, ranks])
    group = Combination(tuple(range(n)), tuple(range(n, 2 * n)))
    late = np.array([0.0, 0, 0, 700.0, 0, 0, 0, 0])
    program = Program(ends, ends, np.full(2 * n, size), release_ns=late, groups=[group])
    out = simulate(net, program, packet_bytes=100.0, combine_ns=20.0)
    assert out.finish_ns == pytest.approx(700 + 2 * 50 + 20 + 100)  # waits for the last contribution
    assert out.packet_hops == 2 * n * 10


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter", "all_to_all", "send", "broadcast"])
@pytest.mark.parametrize("name", ["nvl72", "mi300x-8"])
def test_one_way_collectives_are_their_closed_forms(name: str, operation: str) -> None:
    fabric = fabric_of(topology(name))
    if name == "mi300x-8" and operation == "broadcast":
        with pytest.raises(ConfigurationError, match="broadcast"):
            collective(fabric, 2**20, operation=operation)
        return
    row = collective(fabric, 2**20, operation=operation, max_packets=50_000)
    tolerance = 1e-3 if operation == "broadcast" else 1e-6  # the switch adds whole packets: a packet's tail more
    assert row["time_s"] == pytest.approx(row["closed_form_s"], rel=tolerance)


def test_all_to_all_on_a_torus_does_not_deadlock_and_respects_its_links() -> None:
    fabric = fabric_of(topology("torus-4x4x4"), buffer_bytes=4096.0)
    row = collective(fabric, 2**20, operation="all_to_all", max_packets=50_000)
    assert row["closed_form_s"] is None
    assert row["time_s"] > row["busiest_link_s"] > row["bound_s"]


def test_ratio_and_codec_latency() -> None:
    fabric = plain_fabric("switch", 8, bandwidth_GBps=RATE, latency_ns=ALPHA_NS)
    large = collective(fabric, 2**30, algorithm="direct", ratio=1.5, codec_ns=50.0)
    assert large["speedup"] == pytest.approx(1.5, rel=1e-3)
    assert large["time_s"] == pytest.approx(2 * (300e-9 + 7 / 8 * 2**30 / 1.5 / 450e9), rel=EXACT)
    small = collective(fabric, 64, algorithm="direct", ratio=1.5, codec_ns=50.0)
    assert small["speedup"] < 1  # two rounds of coding cost more than 64 bytes save


def test_same_program_same_times() -> None:
    random = np.random.Generator(np.random.PCG64(7))
    src = random.integers(0, 64, 2000)
    program = Program(src, (src + 1 + random.integers(0, 62, 2000)) % 64, random.integers(1, 999, 2000) * 1.0)
    net = nets.switch(64, link_GBps=25.0, latency_ns=50.0, forward_ns=200.0)
    first, second = simulate(net, program), simulate(net, program)
    assert np.array_equal(first.done_ns, second.done_ns)
    assert first.events == second.events


MEMORY = """
from pathlib import Path
from linepress_hardware.fabric.network import switch
from linepress_hardware.fabric.schedules import one_way_program
from linepress_hardware.fabric.simulate import simulate
n = 1024
net = switch(n, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0)
out = simulate(net, one_way_program("all_to_all", n, 64.0 * n))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(out.packets, out.finish_ns, int(peak.split()[1]) * 1024)
"""


def test_1024_endpoints_all_to_all_of_64_bytes_in_2_gb() -> None:
    """In a process of its own; ``ru_maxrss`` would count the peak of the process that started it."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=100)
    packets, finish_ns, peak_bytes = (float(word) for word in done.stdout.split())
    assert packets == 1024 * 1023
    assert finish_ns == pytest.approx(300 + 1023 * 0.64)
    assert peak_bytes < 2e9


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (Program(np.array([], np.int64), np.array([], np.int64), np.array([])), "no messages"),
        (_send(0, 0, 5.0), "sends to itself"),
        (_send(0, 9, 5.0), "destination outside 0 … 3"),
        (_send(0, 1, -5.0), "negative or infinite size"),
        (
            Program(np.array([0, 1]), np.array([1, 0]), np.array([1.0, 1.0]), np.array([0, 1]), np.array([1, 0])),
            "2 of 2 messages never arrive",
        ),
    ],
)
def test_mistakes_in_programs(program: Program, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        simulate(nets.switch(4, link_GBps=1.0, latency_ns=1.0), program)


def test_mistakes_in_networks() -> None:
    for bad, words in (
        (lambda: nets.switch(1, link_GBps=1.0, latency_ns=0.0), "at least 2"),
        (lambda: nets.switch(4, link_GBps=0.0, latency_ns=0.0), "rate above 0"),
        (lambda: nets.mesh(4, pair_GBps=1.0, latency_ns=-1.0), "0 or more"),
        (lambda: nets.torus((4, 1), link_GBps=1.0, latency_ns=1.0), "2 or more a dimension"),
        (lambda: nets.switch(4, planes=0, link_GBps=1.0, latency_ns=1.0), "planes"),
        (
            lambda: nets.switch(4, link_GBps=1.0, latency_ns=1.0).with_options(buffer_bytes=8.0).slots(9.0),
            "at least 9",
        ),
    ):
        with pytest.raises(ConfigurationError, match=words):
            bad()


def test_groups_need_a_switch() -> None:
    program = all_reduce_program("in-network", 4, 64.0)
    with pytest.raises(ConfigurationError, match="topology switch"):
        simulate(nets.mesh(4, pair_GBps=1.0, latency_ns=1.0), program)


def test_copies_that_pile_up_at_every_port() -> None:
    """Everyone multicasts to everyone: far more packets wait than the buffers hold, and none is lost."""
    n, packets = 12, 400
    ranks = np.arange(n)
    src, dst = np.concatenate([ranks, np.repeat(ranks, n)]), np.concatenate([ranks, np.tile(ranks, n)])
    groups = [Combination((r,), tuple(range(n + r * n, n + r * n + n))) for r in range(n)]
    program = Program(src, dst, np.full(src.size, 100.0 * packets), groups=groups)
    net = nets.switch(n, link_GBps=10.0, latency_ns=50.0).with_options(buffer_bytes=400.0)
    out = simulate(net, program, packet_bytes=100.0)
    assert out.deepest.max() > packets * n // 2
    assert np.isfinite(out.done_ns).all()
    # Every port sends from the first packet on, four packets in each loop of flight, serialisation and credit return.
    loops, rest = divmod(n * packets - 1, 4)
    assert out.finish_ns == pytest.approx(2 * 50 + loops * 110 + rest * 10 + 10)
