"""The port inside the loop: lines in flight counted, decoders, order of IDs and the buses against worked times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from linepress_hardware.channel import workloads
from linepress_hardware.channel.config import ChannelConfig, default_config
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.simulate import ChannelRun, Timing, run
from linepress_hardware.channel.translation import StaticLayout, expand_static, plain_layout
from linepress_hardware.dram.port import LineLoad, LineTimes, PortSpec, port_alone
from linepress_hardware.errors import ConfigurationError

LINES = 1 << 16


def alone(
    offered: list[float],
    ids: list[int],
    *,
    bypass: bool = False,
    beats: float = 1.0,
    write: bool = False,
    **port: float,
) -> LineTimes:
    """Lines without a memory: the port's own times."""
    n = len(offered)
    none = np.empty(0, np.int64)
    spec = PortSpec(**{"in_flight": 100, "clock_ns": 0.0, **port})  # type: ignore[arg-type]
    return port_alone(
        LineLoad(
            spec, np.zeros(n + 1, np.int64), np.empty(0, np.bool_), np.array(offered), np.full(n, write),
            np.full(n, bypass), np.array(ids, np.int32), np.full(n, beats), none, none, np.empty(0),
        )
    )  # fmt: skip


def test_a_decoder_takes_one_line_an_interval() -> None:
    free = {"decode_ns": 10, "decode_every_ns": 2, "beats": 0.0}
    assert alone([0, 0, 0], [0, 1, 2], decoders=1, **free).done_ns == pytest.approx([10, 12, 14])
    assert alone([0, 0, 0], [0, 1, 2], decoders=2, **free).done_ns == pytest.approx([10, 10, 12])
    assert alone([0, 5, 6], [0, 1, 2], decoders=1, **free).done_ns == pytest.approx([10, 15, 17])
    assert alone([0, 0, 0], [0, 1, 2], bypass=True, **free).done_ns == pytest.approx([0, 0, 0])


def test_an_encoder_and_the_write_bus_hold_writes_back() -> None:
    slow = {"encode_ns": 10, "encode_every_ns": 4, "encoders": 1, "write": True}
    # W beats 1 ns each, one after another; then the encoder, free every 4 ns; then B, without a clock here.
    assert alone([0, 0, 0], [0, 1, 2], **slow).done_ns == pytest.approx([11, 15, 19])
    assert alone([0, 0, 0], [0, 1, 2], **{**slow, "encoders": 4}).done_ns == pytest.approx([11, 12, 13])


def test_one_bus_and_an_order_of_each_id() -> None:
    assert alone([0, 0, 0], [0, 1, 2]).done_ns == pytest.approx([1, 2, 3])
    # A clock an address on top: the k-th line is taken k clocks after the start.
    assert alone([0, 0, 0], [0, 1, 2], clock_ns=2.0).taken_ns == pytest.approx([2, 4, 6])


def test_each_port_has_its_own_channels_and_the_rest_is_shared() -> None:
    # Lines go to the ports in turn: two addresses a clock, two lines of beats side by side.
    two = alone([0] * 4, [0, 1, 2, 3], ports=2, clock_ns=2.0)
    assert two.taken_ns == pytest.approx([2, 2, 4, 4])
    assert two.done_ns == pytest.approx([3, 3, 5, 5])
    # One decoder serves both; an ID is kept in order on each port, not across them.
    assert alone([0] * 3, [0, 1, 2], ports=2, decode_ns=10, decode_every_ns=2, beats=0.0).done_ns == pytest.approx(
        [10, 12, 14]
    )
    assert alone([0, 0, 0], [5, 5, 5], ports=2, beats=3.0).done_ns == pytest.approx([3, 3, 6])
    assert alone([0.0] * 6, list(range(6)), ports=3, in_flight=2).most_in_flight == 2
    with pytest.raises(ConfigurationError, match="at least one line in flight"):
        PortSpec(1, 1.0, ports=0)


def test_a_place_is_free_when_its_line_has_returned() -> None:
    two = alone([0.0] * 5, [0, 1, 2, 3, 4], in_flight=2, decode_ns=10, decoders=8, beats=1.0)
    assert two.most_in_flight == 2
    assert two.taken_ns == pytest.approx([0, 0, 11, 12, 22])
    with pytest.raises(ConfigurationError, match="at least one line in flight"):
        PortSpec(0, 1.0)


def flying(r: ChannelRun) -> int:
    """Most lines taken and not over at one time, counted from the run's times."""
    taken, done = r.times.taken_ns, r.times.done_ns
    events = np.concatenate([np.stack([taken, np.ones_like(taken)]), np.stack([done, -np.ones_like(done)])], axis=1)
    order = np.lexsort((events[1], events[0]))  # a place freed at a time may be taken at that time
    return int(np.cumsum(events[1][order]).max())


def layout(kind: str) -> StaticLayout:
    if kind == "plain":
        return plain_layout(LINES)
    length = np.random.Generator(np.random.PCG64(0)).integers(0, 65, 4096).astype(np.int32)
    start = np.cumsum(length, dtype=np.int64) - length
    return StaticLayout(start, length, int(length.sum()), LINES, 50.0)


def simulated(kind: str, memory: str, config: ChannelConfig, stream: workloads.LineStream) -> ChannelRun:
    m = Memory.load(memory)
    plan = expand_static(stream, layout(kind), atom_bytes=m.atom_bytes, config=config)
    timing = Timing.plain(config) if kind == "plain" else Timing.compressed(config)
    return run(stream, plan, m, config, timing)


@pytest.mark.parametrize("memory", ["hbm3e", "ddr5", "gddr7", "lpddr5x", "sram", "hbf"])
@pytest.mark.parametrize("kind", ["plain", "compressed"])
@pytest.mark.parametrize("limit", [1, 3, 64])
def test_lines_in_flight_never_exceed_the_limit(memory: str, kind: str, limit: int) -> None:
    config = default_config().override({"axi_outstanding": limit})
    for stream in (
        workloads.sequential(1500, LINES).in_bursts(16),
        workloads.random(1500, LINES, write_share=0.3 if kind == "plain" else 0.0).at_interval(1.0),
    ):
        r = simulated(kind, memory, config, stream)
        assert flying(r) <= r.times.most_in_flight <= limit
        # Saturated: every place is used, but where the memory answers before 64 clocks are over.
        assert r.times.most_in_flight == limit or (memory, limit) == ("sram", 64)
        assert (r.done_ns > r.times.taken_ns).all()


def test_more_places_never_make_a_stream_slower_and_few_make_it_slow() -> None:
    stream = workloads.sequential(4000, LINES).in_bursts(16)
    rates = [
        simulated("plain", "hbm3", default_config().override({"axi_outstanding": k}), stream).bandwidth_GBps
        for k in (1, 2, 4, 8, 16, 64)
    ]
    assert all(b > a for a, b in itertools.pairwise(rates))
    # One line at a time: slower than reads of an open row alone, faster than reads of a closed row behind a refresh.
    memory = Memory.load("hbm3")
    assert 64 / memory.idle_read_ns < rates[0] < 64 / (memory.part.read_latency_ticks * memory.part.tick_ns)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31), st.booleans())
def test_lines_of_an_id_return_in_order_and_a_bus_carries_one_at_a_time(
    limit: int, ids: int, seed: int, compressed: bool
) -> None:
    config = default_config().override({"axi_outstanding": limit, "decoders": 1, "decode_interval_ns": 3.0})
    stream = workloads.random(200, LINES, seed=seed, write_share=0.0 if compressed else 0.3, ids=ids)
    r = simulated("compressed" if compressed else "plain", "hbm3", config, stream)
    for write in (False, True):
        for k in range(ids):
            mine = (stream.id == k) & (stream.is_write == write)
            assert (np.diff(r.done_ns[mine]) > 0).all()
        gaps: NDArray[np.float64] = np.diff(np.sort(r.done_ns[stream.is_write == write]))
        each = config.axi_clock_ns if write else config.line_transfer_ns
        assert (gaps >= each - 1e-3).all()
    assert (r.done_ns >= r.times.data_ns).all()
    assert flying(r) <= limit


def test_writes_wait_until_the_write_queue_has_taken_them() -> None:
    # As fast as the port takes writes, the memory's own rate holds them back: nothing piles up behind the port.
    config = default_config()
    lines = np.random.Generator(np.random.PCG64(1)).integers(0, LINES, 6000)
    stream = workloads.stream(lines, np.ones(6000, np.bool_))
    r = simulated("plain", "ddr5", config, stream)
    assert flying(r) <= config.axi_outstanding
    behind = r.memory.start_ns[-1] - r.times.done_ns[-1]
    assert behind <= 0
    assert r.bandwidth_GBps < Memory.load("ddr5").peak_GBps


def test_a_run_without_any_memory_access_still_has_its_port() -> None:
    zero = StaticLayout(np.zeros(64, np.int64), np.zeros(64, np.int32), 64, LINES, 0.0)
    m, config = Memory.load("hbm3"), default_config()
    stream = workloads.sequential(500, LINES)
    plan = expand_static(stream, zero, atom_bytes=m.atom_bytes, config=config)
    r = run(stream, plan, m, config, Timing.compressed(config))
    assert r.bandwidth_GBps == pytest.approx(64 / config.line_transfer_ns, rel=0.02)
    assert r.memory.bytes == 0
