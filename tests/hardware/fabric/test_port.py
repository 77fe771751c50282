"""A port with flits, credits and replay: error correction by hand, go-back-N flit by flit, published limits."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric.framing import Framing
from linepress_hardware.fabric.links import LineCode, link
from linepress_hardware.fabric.port import (
    Port,
    bit_error_rate_for,
    codeword_failure,
    port_of,
    port_to_port,
    simulate_port,
)
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.switches import switch

FAST = Port(10.0, 40.0, 0.0, 0.0, 100, 100)


def test_codeword_failure_by_hand() -> None:
    """Three symbols of one bit of which one may be wrong: 3 q² (1 − q) + q³."""
    small = LineCode(1.0, 3 / 8, 1 / 8, 1, 1)
    assert codeword_failure(small, 0.1) == pytest.approx(3 * 0.01 * 0.9 + 0.001)
    assert codeword_failure(small, 0.0) == 0.0


def test_reed_solomon_544_514_against_a_poisson_tail() -> None:
    """At low rates the binomial tail is nearly the Poisson one of the same mean."""
    line = link("ualink-400g").line
    assert line is not None
    mean = 544 * (1 - (1 - 2.4e-4) ** 10)
    tail = math.fsum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(16, 60))
    assert codeword_failure(line, 2.4e-4) == pytest.approx(tail, rel=0.25)
    assert codeword_failure(line, 2.4e-4) < 1e-12 < codeword_failure(line, 5e-4)
    for share in (1e-6, 1e-12):
        assert codeword_failure(line, bit_error_rate_for(line, share)) == pytest.approx(share, rel=0.05)


def test_flits_and_loops_of_ualink() -> None:
    """640 B at 400 Gb/s; 10 ns of wire and 40 of PHY; 5 to check: flit and acknowledgement, 135.6 ns, 11 flits."""
    port = port_of(link("ualink-400g"), 0.0)
    assert port.flit_ns == pytest.approx(12.8)
    assert port.loop_ns == pytest.approx(2 * (12.8 + 50 + 5))
    assert port.flits_for_full_rate == port.replay_flits == port.credit_flits == 11
    assert port_of(link("ualink-800g"), 0.0).flit_ns == pytest.approx(6.4)
    with pytest.raises(ConfigurationError, match="nvlink-5 has no flits"):
        port_of(link("nvlink-5"), 0.0)


def _go_back_n(flits: int, loop_slots: int, window: int, error: float, seed: int) -> int:
    """Slots until `flits` are accepted, flit by flit with sequence numbers: the sender runs on until it hears."""
    rng = random.Random(seed)
    base = at = expected = slot = 0
    news: dict[int, list[tuple[str, int]]] = {}
    while base < flits:
        for kind, number in news.pop(slot, ()):
            if kind == "ack":
                base = max(base, number + 1)
            elif number >= base:
                at = number  # all behind it again
        if at < min(flits, base + window):
            if at == expected:
                if rng.random() < error:
                    news.setdefault(slot + loop_slots, []).append(("nak", at))
                else:
                    news.setdefault(slot + loop_slots, []).append(("ack", at))
                    expected += 1
            at += 1
        slot += 1
    return slot - loop_slots


@pytest.mark.parametrize("window", [4, 10, 40])
def test_throughput_without_errors_is_the_window_a_loop(window: int) -> None:
    port = replace(FAST, replay_flits=window)
    found = simulate_port(port, 20_000)
    assert found["throughput_share"] == pytest.approx(min(1.0, window / 10), rel=1e-3)
    assert found["closed_form_share"] == pytest.approx(min(1.0, window / 10))
    starved = simulate_port(replace(FAST, credit_flits=window), 20_000)
    assert starved["throughput_share"] == found["throughput_share"]
    assert 4_000 / _go_back_n(4_000, 10, window, 0.0, 1) == pytest.approx(found["throughput_share"], rel=5e-3)


@pytest.mark.parametrize("error", [0.001, 0.01, 0.1])
def test_replay_is_go_back_n(error: float) -> None:
    """Against the closed form, and against a model that sends, discards and repeats every flit."""
    port = replace(FAST, error=error)
    share = port.throughput_share
    assert share == pytest.approx((1 - error) / (1 - error + error * 10))
    assert simulate_port(port, 100_000)["throughput_share"] == pytest.approx(share, rel=0.05)
    slots = _go_back_n(40_000, 10, 100, error, 1)
    assert 40_000 / slots == pytest.approx(share, rel=0.04)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.7), st.sampled_from([0.0, 0.001, 0.01]), st.integers(0, 1000))
def test_a_loaded_link_waits_as_the_queue_says(load: float, error: float, seed: int) -> None:
    found = simulate_port(replace(FAST, error=error), 60_000, load=load, seed=seed)
    assert found["mean_ns"] == pytest.approx(found["closed_form_mean_ns"], rel=0.08)
    assert found["mean_ns"] >= 50 - 1e-6


def test_replays_in_the_packet_simulation_are_those_of_the_port() -> None:
    """A saturated channel of the network takes the share that go-back-N leaves it."""
    net = nets.mesh(2, pair_GBps=64.0, latency_ns=40.0).with_options(framing=Framing(640.0, flit_bytes=640.0))
    net = replace(net, flit_error=0.01, replay_ns=100.0)
    program = Program(np.array([0]), np.array([1]), np.array([640.0 * 100_000]))
    found = simulate(net, program, packet_bytes=640.0, seed=3)
    share = 100_000 * 10 / (found.finish_ns - 40)
    assert share == pytest.approx(replace(FAST, error=0.01).throughput_share, rel=0.02)
    assert found.replays == pytest.approx(1_000, rel=0.15)
    assert simulate(net, program, packet_bytes=640.0, seed=3).finish_ns == found.finish_ns
    clean = simulate(replace(net, flit_error=0.0), program, packet_bytes=640.0)
    assert clean.finish_ns == pytest.approx(40 + 100_000 * 10)
    assert clean.replays == 0


@pytest.mark.parametrize(("name", "limit"), [("ualink-25t", 150), ("ualink-50t", 200), ("ualink-100t", 250)])
def test_port_to_port_is_held_to_the_published_limit(name: str, limit: float) -> None:
    """At 400G ports: met by an idle switch, passed by queues at half load, by less than three flits at p99."""
    wire = link("ualink-400g")
    idle = port_to_port(wire, switch(name), 1e-6, load=0.0, messages=2_000)
    assert idle["limit_ns"] == limit
    assert idle["max_ns"] == pytest.approx(limit)
    assert idle["above_limit"] == 0.0
    assert idle["limit_less_codeword_ns"] > 100  # a codeword is in long before
    busy = port_to_port(wire, switch(name), 1e-6, load=0.5, messages=20_000)
    assert limit < busy["p50_ns"] < limit + 10
    assert busy["p99_ns"] < limit + 3 * 12.8


def test_replays_pass_the_limit_as_often_as_a_flit_fails() -> None:
    found = port_to_port(link("ualink-400g"), switch("ualink-50t"), 1.3e-3, load=0.0, messages=40_000)
    assert found["expected_above_idle"] == pytest.approx(2 * found["flit_failure"], rel=0.01)
    assert found["above_limit"] == pytest.approx(found["expected_above_idle"], rel=0.25)
    assert found["max_ns"] >= 200 + 135.6 - 1e-6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: codeword_failure(link("ualink-400g").line, 0.7), "bit error rate of 0.7"),  # type: ignore[arg-type]
        (lambda: bit_error_rate_for(link("ualink-400g").line, 0.0), "failure share"),  # type: ignore[arg-type]
        (lambda: replace(FAST, error=1.0), "share below 1"),
        (lambda: replace(FAST, credit_flits=0), "at least 1"),
        (lambda: simulate_port(FAST, 10), "100 or more"),
        (lambda: port_to_port(link("ualink-400g"), switch("ualink-50t"), 0.0, load=1.0), "below 1"),
        (
            lambda: simulate(
                replace(nets.mesh(2, pair_GBps=1.0, latency_ns=1.0), flit_error=0.1),
                Program(np.array([0]), np.array([1]), np.array([1.0])),
            ),
            "no flits that could break",
        ),
    ],
)
def test_mistakes_are_one_sentence(make: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()  # type: ignore[operator]
