"""Closed forms of collectives against each other and against their limits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import ALL_REDUCE, all_reduce, bus_bandwidth_factor, exchange
from linepress_hardware.fabric.conventions import usual_double_tree_s

ALPHA, BANDWIDTH = 1e-6, 450e9


def _time(algorithm: str, n: int, size: float, latency: float = ALPHA, topology: str = "switch") -> float:
    return all_reduce(algorithm, n, size, latency_s=latency, bandwidth_Bps=BANDWIDTH, topology=topology).time_s


@pytest.mark.parametrize(
    ("algorithm", "messages", "bytes_per_byte"),
    [
        ("ring", 14, 2 * 7 / 8),
        ("tree", 6, 6),
        ("double-tree", 6, 2),
        ("recursive-doubling", 3, 3),
        ("halving-doubling", 6, 2 * 7 / 8),
        ("direct", 2, 2 * 7 / 8),
        ("one-shot", 1, 7),
        ("in-network", 1, 1),
        ("in-network-nvls", 2, 9 / 8),
    ],
)
def test_eight_accelerators(algorithm: str, messages: int, bytes_per_byte: float) -> None:
    size = 2.0**20
    found = all_reduce(algorithm, 8, size, latency_s=ALPHA, bandwidth_Bps=BANDWIDTH)
    assert found.latency_s == pytest.approx(messages * ALPHA)
    assert found.transfer_s == pytest.approx(bytes_per_byte * size / BANDWIDTH)


@given(
    st.sampled_from([name for name in ALL_REDUCE if not name.startswith("in-network")]),
    st.sampled_from([2, 4, 16, 64]),
)
def test_nothing_beats_the_bandwidth_bound(algorithm: str, n: int) -> None:
    size = 1e9
    assert _time(algorithm, n, size, 0.0) >= 2 * (n - 1) / n * size / BANDWIDTH * (1 - 1e-12)


@pytest.mark.parametrize(("n", "gain"), [(8, 1.5556), (72, 1.9452)])
def test_reduction_in_the_switch_gains_less_than_two(n: int, gain: float) -> None:
    ratio = _time("ring", n, 1e9, 0.0) / _time("in-network-nvls", n, 1e9, 0.0)
    assert ratio == pytest.approx(gain, rel=1e-4)
    assert ratio == pytest.approx(2 * (n - 1) / (n + 1))


@pytest.mark.parametrize(
    ("n", "hops", "moved"), [(2, 2, 1.0), (3, 4, 1.5), (4, 4, 2.0), (64, 12, 2.0), (72, 14, 2.0)]
)
def test_the_double_tree_against_the_usual_convention(n: int, hops: int, moved: float) -> None:
    """The same latency at every N, whole hops of the deepest leaf; fewer bytes where nobody has two children."""
    size = 2.0**20
    found = all_reduce("double-tree", n, size, latency_s=ALPHA, bandwidth_Bps=BANDWIDTH)
    usual = usual_double_tree_s(n, size, latency_s=ALPHA, bandwidth_Bps=BANDWIDTH)
    assert found.latency_s == pytest.approx(hops * ALPHA)
    assert usual == pytest.approx(hops * ALPHA + 2 * size / BANDWIDTH)
    assert usual - found.time_s == pytest.approx((2 - moved) * size / BANDWIDTH, abs=1e-15)


def test_one_accelerator_or_no_bytes_take_no_time() -> None:
    assert _time("ring", 1, 1e6) == _time("ring", 8, 0) == 0.0


def test_a_mesh_gives_a_pair_its_share_of_the_bandwidth() -> None:
    assert _time("direct", 8, 1e6, topology="mesh") == _time("direct", 8, 1e6)
    slow = all_reduce("ring", 8, 1e6, latency_s=0.0, bandwidth_Bps=BANDWIDTH, topology="mesh")
    assert slow.time_s == pytest.approx(7 * _time("ring", 8, 1e6, 0.0))


@pytest.mark.parametrize("algorithm", ["recursive-doubling", "halving-doubling"])
def test_powers_of_two_are_asked_for(algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match=r"power of two.*not 6; use 4 or 8"):
        _time(algorithm, 6, 1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gossip", 8, 1.0, ALPHA, "switch"), "'gossip' is unknown; use one of ring"),
        (("ring", 8, 1.0, ALPHA, "torus-9"), "topology 'torus-9'"),
        (("in-network", 8, 1.0, ALPHA, "mesh"), "a mesh has none"),
        (("direct", 8, 1.0, ALPHA, "ring"), "physical ring"),
        (("ring", 0, 1.0, ALPHA, "switch"), "0 accelerators"),
        (("ring", 8, -1.0, ALPHA, "switch"), "bytes"),
        (("ring", 8, 1.0, math.nan, "switch"), "latency"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, int, float, float, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        _time(*arguments)


def test_rates_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="rate above 0"):
        all_reduce("ring", 2, 1.0, latency_s=0.0, bandwidth_Bps=0.0)


def test_one_way_collectives() -> None:
    found = exchange("all_to_all", 8, 8e6, latency_s=ALPHA, bandwidth_Bps=BANDWIDTH)
    assert found.time_s == pytest.approx(ALPHA + 7e6 / BANDWIDTH)
    assert exchange("send", 2, 8e6, latency_s=0.0, bandwidth_Bps=BANDWIDTH).time_s == pytest.approx(8e6 / BANDWIDTH)
    with pytest.raises(ConfigurationError, match="operation"):
        exchange("all_reduce", 8, 1.0, latency_s=0.0, bandwidth_Bps=1.0)
    assert bus_bandwidth_factor("all_reduce", 8) == 1.75
    assert bus_bandwidth_factor("all_gather", 8) == 0.875
