"""Lines of 32 and 128 B: what is counted in lines keeps its bytes, bursts are paid whole, closed forms hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linepress_hardware.channel import results, workloads
from linepress_hardware.channel.axi import Transactions
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import ChannelConfig, default_config
from linepress_hardware.channel.converge import rate
from linepress_hardware.channel.evaluate import InlineSpec, Study, Subject
from linepress_hardware.channel.headline import Settings, headline, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.port import AxiPort
from linepress_hardware.channel.translation import StaticLayout, expand_static, plain_layout
from linepress_hardware.errors import ConfigurationError

TILE = 4096
SIZES = (32, 64, 128)


def config_of(line_bytes: int) -> ChannelConfig:
    return default_config().of_lines(line_bytes)


def coded(line_bytes: int, ratio: float = 1.5, metadata: float = 50.0) -> Subject:
    """Lines back to back at about this ratio; metadata of a page as one pointer and a tag a line would have it."""
    rng = np.random.Generator(np.random.PCG64(0))
    length = np.clip(rng.normal(line_bytes / ratio, 0.8, TILE).round(), 1, line_bytes).astype(np.int32)
    start = np.cumsum(length, dtype=np.int64) - length
    layout = StaticLayout(start, length, int(length.sum()), TILE, metadata, line_bytes=line_bytes)
    return Subject(layout, length)


def study(memory: str, line_bytes: int, **settings: float) -> Study:
    config = config_of(line_bytes).override(settings)
    return Study(Memory.load(memory), config, coded(line_bytes), 6000, 1, within=0.05)


def test_lines_of_64_bytes_are_the_channel_as_configured() -> None:
    assert config_of(64) == default_config()


@pytest.mark.parametrize("line_bytes", SIZES)
def test_what_is_counted_in_lines_keeps_its_bytes(line_bytes: int) -> None:
    config, usual = config_of(line_bytes), default_config()
    assert config.line_bytes / config.line_interval_ns == pytest.approx(76.8)
    for name in ("axi_outstanding", "burst_lines", "line_buffer_lines"):
        assert getattr(config, name) * line_bytes == getattr(usual, name) * 64
    # A beat is not shared: a line shorter than a full-width beat leaves half of its wires idle.
    wide = config.override({"axi_data_bits": 512})
    assert wide.line_transfer_ns == pytest.approx(max(1, line_bytes // 64) / 1.2)


@pytest.mark.parametrize("line_bytes", [16, 48, 256])
def test_other_sizes_are_refused(line_bytes: int) -> None:
    with pytest.raises(ConfigurationError, match="line_bytes = "):
        config_of(line_bytes)


@pytest.mark.parametrize("line_bytes", SIZES)
@pytest.mark.parametrize("memory", ["hbm3", "ddr5"])
def test_plain_lines_pay_whole_bursts(memory: str, line_bytes: int) -> None:
    s = study(memory, line_bytes)
    atom = s.memory.atom_bytes
    alone, streamed = s.plain("random"), s.plain("sequential")
    assert alone.useful_bytes == streamed.useful_bytes == s.n * line_bytes
    assert alone.bus_bytes == s.n * max(line_bytes, atom)
    # Neighbours in one burst are fetched once.
    assert streamed.bus_bytes == pytest.approx(s.n * line_bytes, rel=1e-3)
    assert streamed.memory.bus_bytes == streamed.bus_bytes
    bits = [run.memory.energy_pJ["read"] / run.bus_bytes for run in (alone, streamed)]
    assert bits[0] == pytest.approx(bits[1], rel=1e-3)


def test_half_a_burst_is_half_the_bandwidth_and_twice_the_energy() -> None:
    whole, half = study("ddr5", 64), study("ddr5", 32)
    rates = [s.plain_rate("random") for s in (half, whole)]
    assert rates[0].rate.GBps == pytest.approx(rates[1].rate.GBps / 2, rel=0.03)
    assert rates[0].energy_pJ_per_byte == pytest.approx(2 * rates[1].energy_pJ_per_byte, rel=0.03)
    streams = [s.plain_rate("sequential").rate.GBps for s in (half, whole)]
    assert streams[0] == pytest.approx(streams[1], rel=0.02)


@pytest.mark.parametrize("line_bytes", [32, 128])
@pytest.mark.parametrize("memory", ["hbm3", "ddr5"])
def test_gains_stand_beside_their_closed_forms(memory: str, line_bytes: int) -> None:
    s = study(memory, line_bytes)
    plain = {pattern: s.plain_rate(pattern).rate.GBps for pattern in ("sequential", "random")}
    closed = s.closed_form(line_bytes / 1.5, plain["sequential"], plain["random"])
    gains = {pattern: s.compressed_rate(pattern)[1].GBps / plain[pattern] for pattern in plain}
    assert gains["random"] == pytest.approx(closed.random, rel=0.06)
    assert 0.75 * closed.sequential < gains["sequential"] <= 1.02 * closed.sequential
    assert closed.capacity == pytest.approx(1.5)


@pytest.mark.parametrize("memory", ["hbm3", "ddr5"])
def test_metadata_of_random_lines_weighs_more_the_shorter_they_are(memory: str) -> None:
    shares = []
    for line_bytes in SIZES:
        s = study(memory, line_bytes)
        shares.append(results.metadata_traffic_ratio(s.compressed("random")))
        assert s.closed_form_hit_rate() == pytest.approx(results.metadata_hit_rate(s.compressed("random")), abs=0.02)
    assert shares[0] > shares[1] > shares[2]


def test_compression_off_changes_no_time() -> None:
    for memory in ("hbm3", "ddr5"):
        layout = plain_layout(64, 32)
        off = replace(study(memory, 32), subject=Subject(layout, layout.length_bytes))
        for pattern in ("sequential", "random", "kv-gather"):
            assert np.array_equal(off.compressed(pattern).done_ns, off.plain(pattern).done_ns)


def test_an_inline_store_of_short_lines() -> None:
    config = config_of(32)
    length = coded(32).coded_bytes
    store = CompressedStore(length, (0, 22, 32), TILE * 32, config, 32)
    assert store.pages * config.page_bytes == TILE * 32
    start, n = store.placement(store.pages)
    assert int((start + n).max()) <= TILE * 32
    assert set(n.tolist()) <= {22, 32}
    writes = workloads.stream(np.arange(512, dtype=np.int64), np.ones(512, np.bool_))
    plan = store.expand(writes, np.full(512, 32, np.int32))
    assert not plan.failed.any()
    assert plan.raw.all()
    assert store.placement(4)[1].tolist() == [32] * 512


def test_every_byte_of_a_burst_reaches_its_short_line() -> None:
    config = config_of(32)
    port = AxiPort(Memory.load("hbm3"), plain_layout(1 << 12, 32), config)
    answers = port.submit(Transactions.of([{"address": 4096, "beats": 4}, {"address": 96}], config))
    assert answers.run.accesses.line.tolist() == [128, 129, 130, 131, 3]
    assert answers.run.useful_bytes == 5 * 32


@pytest.mark.parametrize("memory", ["ddr5", "ddr4"])
def test_writes_of_less_than_a_burst_are_refused(memory: str) -> None:
    layout = plain_layout(64, 32)
    inline = replace(study(memory, 32), subject=Subject(layout, layout.length_bytes, InlineSpec((32,))))
    with pytest.raises(ConfigurationError, match="moves 64 B at once, more than a line of 32 B"):
        inline.compressed("mixed")
    with pytest.raises(ConfigurationError, match="moves 64 B at once, more than a line of 32 B"):
        inline.plain("mixed")


def test_a_layout_of_another_line_size_is_refused() -> None:
    stream = workloads.random(100, 1 << 12)
    with pytest.raises(ConfigurationError, match="32 B lines does not go with a channel of 64 B lines"):
        expand_static(stream, plain_layout(1 << 12, 32), atom_bytes=32, config=default_config())


@pytest.mark.parametrize("memory", ["hbm3", "ddr5"])
def test_short_lines_are_held_against_the_plain_channel_at_its_best_with_them(memory: str) -> None:
    best = plain_at_best(memory, "sequential", 32)
    assert best is not None
    s = replace(study(memory, 32), within=0.03)
    h = headline(
        lambda x: replace(s, memory=Memory.load(memory, x.mapping, x.policy)), "sequential", Settings("MOP4CLXOR")
    )
    assert h.best_settings == best.settings
    assert h.best.GBps == pytest.approx(best.GBps, rel=0.03)
    assert rate(h.run, s.memory.period_ns).GBps == pytest.approx(h.compressed.GBps)
