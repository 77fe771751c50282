"""vPods, loads against messages, pooled memory, KV transfer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.kv_transfer import kv_transfer
from linepress_hardware.fabric.memory_semantics import (
    Pool,
    crossover_bytes,
    loads_ns,
    message_ns,
    pooled_memory,
    simulated_loads_ns,
)
from linepress_hardware.fabric.topologies import custom, topology
from linepress_hardware.fabric.vpods import (
    Job,
    bisection_GBps,
    block_shape,
    isolated,
    job_stream,
    run_stream,
    usable_bandwidth_GBps,
)

SWITCH = custom("switch", 64)


def test_a_vpod_keeps_all_of_a_switch_and_its_share_of_a_mesh() -> None:
    assert usable_bandwidth_GBps(topology("nvl72"), 8) == 900
    assert bisection_GBps(topology("nvl72"), 8) == 4 * 900
    assert usable_bandwidth_GBps(topology("mi300x-8"), 4) == pytest.approx(448 * 3 / 7)
    assert bisection_GBps(topology("mi300x-8"), 4) == 4 * 64
    assert usable_bandwidth_GBps(topology("torus-8x8"), 64) == 400
    assert usable_bandwidth_GBps(topology("torus-8x8"), 16) == 300  # a 4 × 4 block: chains of four, no way round
    assert bisection_GBps(topology("torus-8x8"), 16) == 4 * 100
    leafy = custom("leaf-spine", 128, oversubscription=3.0)
    assert usable_bandwidth_GBps(leafy, 8) == 100
    assert usable_bandwidth_GBps(leafy, 64) == pytest.approx(100 / 3)


def test_isolation_is_seen_on_the_routes() -> None:
    torus = topology("torus-8x8")
    assert isolated(torus, [[0, 1, 8, 9], [2, 3, 10, 11]])["isolated"]
    assert not isolated(torus, [[0, 2], [1, 3]])["isolated"]  # both go through the link 1 → 2
    assert isolated(custom("switch", 64), [[0, 5, 9], [1, 3]])["isolated"]
    two = custom("leaf-spine", 128)
    assert isolated(two, [[0, 1], [40, 41]])["isolated"]
    assert not isolated(two, [[0, 33, 66], [1, 32, 65]])["isolated"]
    with pytest.raises(ConfigurationError, match="two vPods"):
        isolated(torus, [[0, 1], [1, 2]])
    with pytest.raises(ConfigurationError, match="outside"):
        isolated(torus, [[0, 99]])


def test_blocks() -> None:
    assert block_shape((8, 8), 16) == (4, 4)
    assert block_shape((8, 8), 11) is None
    assert block_shape((4, 4, 4), 8) == (2, 2, 2)


def test_a_switch_never_fragments_and_a_torus_does() -> None:
    jobs = job_stream(300, seed=3, accelerators=64)
    anywhere = run_stream(custom("switch", 64), jobs)
    blocks = run_stream(topology("torus-8x8"), jobs)
    leaves = run_stream(custom("leaf-spine", 64, switch_name="ualink-25t"), jobs)
    assert anywhere["fragmented_share"] == 0
    assert blocks["fragmented_share"] > 0.1
    assert leaves["fragmented_share"] > 0.1
    assert anywhere["mean_wait_s"] < min(blocks["mean_wait_s"], leaves["mean_wait_s"])
    assert run_stream(topology("torus-8x8"), jobs) == blocks


def test_a_stream_by_hand() -> None:
    """Three jobs of 40 on 64: one at a time, the third waits for two."""
    jobs = [Job(0.0, 40, 10.0), Job(1.0, 40, 10.0), Job(2.0, 40, 10.0), Job(3.0, 80, 1.0)]
    found = run_stream(SWITCH, jobs)
    assert found["refused"] == 1
    assert found["mean_wait_s"] == pytest.approx((0 + 9 + 18) / 3)
    assert found["utilisation"] == pytest.approx(40 / 64)


def test_loads_win_when_small_messages_when_large() -> None:
    assert loads_ns(SWITCH, 64) == pytest.approx(875.6)
    assert message_ns(SWITCH, 64) > 2 * loads_ns(SWITCH, 64)
    at = crossover_bytes(SWITCH)
    assert at is not None
    assert message_ns(SWITCH, at) < loads_ns(SWITCH, at)
    assert message_ns(SWITCH, at - 64) >= loads_ns(SWITCH, at - 64)
    few = crossover_bytes(SWITCH, outstanding=16)
    assert few is not None
    assert few < at  # fewer loads in flight lose earlier
    assert crossover_bytes(custom("switch", 64, link_name="sue", switch_name="tomahawk-ultra")) is None


@pytest.mark.parametrize("size", [64, 4096, 65_536, 2**20])
@pytest.mark.parametrize("outstanding", [4, 64, 1024])
def test_loads_by_simulation(size: int, outstanding: int) -> None:
    measured = simulated_loads_ns(SWITCH, size, outstanding=outstanding)
    assert measured == pytest.approx(loads_ns(SWITCH, size, outstanding=outstanding), rel=1e-6)


def test_pooled_memory() -> None:
    rack = topology("nvl72")
    at_owner = pooled_memory(rack, Pool(8000, 600, 1.5, 1.5, 20, "owner"))
    at_reader = pooled_memory(rack, Pool(8000, 600, 1.5, 1.5, 20, "reader"))
    assert at_owner["bound_by"] == "links"
    assert at_owner["gain"] == pytest.approx(1.0)  # raw bytes on the links: nothing is gained
    assert at_reader["gain"] == pytest.approx(1.5)
    local = pooled_memory(rack, Pool(8000, 600, 1.5, 1.5, 20, "owner"), remote_share=0.0)
    assert local["effective_GBps"] == pytest.approx(12_000)
    edge = at_owner["balanced_remote_share"]
    assert pooled_memory(rack, Pool(8000, 600, 1.5), edge * 0.99)["bound_by"] == "memory"
    assert pooled_memory(rack, Pool(8000, 600, 1.5), edge * 1.01)["bound_by"] == "links"


def test_kv_transfer() -> None:
    plain = kv_transfer(SWITCH, 2**26, prefill=8, decode=8)
    assert plain["time_s"] == pytest.approx(plain["closed_form_s"], rel=1e-6)
    packed = kv_transfer(SWITCH, 2**26, prefill=8, decode=8, ratio=1.5)
    assert packed["speedup"] == pytest.approx(1.5, rel=0.01)
    gathered = kv_transfer(SWITCH, 2**26, prefill=8, decode=2)
    assert gathered["time_s"] == pytest.approx(4 * plain["time_s"], rel=0.02)  # four caches into each
    streamed = kv_transfer(SWITCH, 2**26, prefill=8, decode=8, layers=32, prefill_s=0.1)
    assert streamed["after_prefill_s"] < plain["time_s"] / 16
    assert streamed["time_s"] == pytest.approx(streamed["closed_form_s"], rel=1e-6)
    slow = kv_transfer(SWITCH, 2**26, prefill=8, decode=8, ratio=1.5, codec_GBps=50)
    assert slow["bound_by"] == "codec"
    assert slow["speedup"] < 1
    one = kv_transfer(SWITCH, 2**22, prefill=8, decode=8, pairing="random", seed=4)
    assert one == kv_transfer(SWITCH, 2**22, prefill=8, decode=8, pairing="random", seed=4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: usable_bandwidth_GBps(SWITCH, 65), "give 1 to 64"),
        (lambda: usable_bandwidth_GBps(topology("torus-8x8"), 11), "no block"),
        (lambda: run_stream(SWITCH, job_stream(5, seed=1), "leaf"), "needs leaves"),
        (lambda: run_stream(SWITCH, job_stream(5, seed=1), "block"), "needs a torus"),
        (lambda: run_stream(SWITCH, job_stream(5, seed=1), "best"), "policy 'best'"),
        (lambda: job_stream(0, seed=1), "give 1 or more"),
        (lambda: loads_ns(SWITCH, 64, outstanding=0), "give 1 or more"),
        (lambda: loads_ns(SWITCH, 0), "size above 0"),
        (lambda: message_ns(SWITCH, 64, overhead_ns=-1), "0 or more"),
        (lambda: message_ns(SWITCH, 0), "size above 0"),
        (lambda: pooled_memory(SWITCH, Pool(0, 1)), "local bandwidth"),
        (lambda: pooled_memory(SWITCH, Pool(1, 1), 1.5), "give 0 to 1"),
        (lambda: pooled_memory(SWITCH, Pool(1, 1, decompress_at="switch")), "owner, reader"),
        (lambda: kv_transfer(SWITCH, 1e6, prefill=40, decode=40), "at most 64 together"),
        (lambda: kv_transfer(SWITCH, 0, prefill=1, decode=1), "KV size"),
        (lambda: kv_transfer(SWITCH, 1e6, prefill=1, decode=1, ratio=0), "ratio"),
        (lambda: kv_transfer(SWITCH, 1e6, prefill=1, decode=1, pairing="all"), "pairing 'all'"),
        (lambda: kv_transfer(SWITCH, 1e6, prefill=1, decode=1, layers=0), "give 1 or more"),
        (lambda: kv_transfer(SWITCH, 1e6, prefill=1, decode=1, prefill_s=-1), "0 or more"),
    ],
)
def test_mistakes_are_one_sentence(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()
