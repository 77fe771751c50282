"""Idle latencies of the channel against their closed form; what a slow decoder leaves of the bandwidth."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel import workloads
from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.simulate import Timing, run
from linepress_hardware.channel.translation import StaticLayout, expand_static, plain_layout
from linepress_hardware.dram.simulate import simulate


@pytest.mark.parametrize("name", ["hbm3", "ddr5", "lpddr5"])
def test_idle_read_is_its_closed_form(name: str) -> None:
    """One read of a closed row: accept + [look-up + metadata read] + ACT + RD + burst + ECC + decode + R beats."""
    config = default_config().override({"decode_latency_ns": 17.5})
    memory = Memory.load(name)
    part = memory.part
    stream = workloads.stream(np.array([0], np.int64)).at_interval(1.0)
    raw = expand_static(stream, plain_layout(1 << 12), atom_bytes=memory.atom_bytes, config=config)
    # Atoms of one bank follow each other by tCCD_L; the mapping may put them further apart, never closer than tCCD_S.
    read_ns = part.ns("RCDRD") + part.read_latency_ticks * part.tick_ns
    extra = [part.ns("CCDS"), part.ns("CCDL")] if memory.atom_bytes < 64 else [0.0, 0.0]
    port = config.axi_clock_ns + config.ecc_decode_ns + config.line_transfer_ns
    plain = float(run(stream, raw, memory, config, Timing.plain(config)).read_latency_ns[0])
    slack = 3 * part.tick_ns
    assert read_ns + port + extra[0] - slack <= plain <= read_ns + port + extra[1] + slack
    # Compressed, one atom of data and one metadata entry: the two reads one after the other, and the engine on top.
    length = np.full(64, 32, np.int32)
    layout = StaticLayout(np.arange(64, dtype=np.int64) * 64, length, 4096, 1 << 12, 50.0)
    plan = expand_static(stream, layout, atom_bytes=memory.atom_bytes, config=config)
    done = float(run(stream, plan, memory, config, Timing.compressed(config)).read_latency_ns[0])
    entry = layout.metadata_base_bytes(memory.atom_bytes, config)
    looked_up = config.axi_clock_ns + config.metadata_hit_ns
    reads = simulate(
        part,
        np.array([entry, 0], np.uint64),
        np.zeros(2, np.bool_),
        np.full(2, looked_up),
        request_bytes=np.array([64, memory.atom_bytes]),
        after=np.array([-1, 0]),
        after_delay_ns=config.ecc_decode_ns + config.metadata_hit_ns,
    )
    back = config.ecc_decode_ns + config.decode_latency_ns + config.line_transfer_ns
    assert done == pytest.approx(float(reads.finish_ns[1]) + back)
    assert done >= 2 * read_ns + looked_up + back


def test_decode_latency_moves_idle_latency_one_to_one() -> None:
    memory = Memory.load("hbm3")
    lines = 1 << 16
    length = np.full(64, 32, np.int32)
    layout = StaticLayout(np.arange(64, dtype=np.int64) * 32, length, 2048, lines, 20.0)
    stream = workloads.random(500, lines, seed=4).at_interval(500.0)
    means = []
    for decode in (0.0, 17.5, 50.0):
        config = default_config().override({"decode_latency_ns": decode})
        plan = expand_static(stream, layout, atom_bytes=32, config=config)
        means.append(run(stream, plan, memory, config, Timing.compressed(config)).read_latency_ns.mean())
    assert means[1] - means[0] == pytest.approx(17.5, abs=1e-6)
    assert means[2] - means[0] == pytest.approx(50.0, abs=1e-6)


def test_a_slow_decoder_bounds_the_bandwidth() -> None:
    memory = Memory.load("hbm3")
    config = default_config().override({"decode_interval_ns": 6.4, "decoders": 1})
    lines = 1 << 16
    layout = StaticLayout(np.arange(64, dtype=np.int64) * 32, np.full(64, 32, np.int32), 2048, lines, 20.0)
    stream = workloads.sequential(5000, lines)
    plan = expand_static(stream, layout, atom_bytes=32, config=config)
    got = run(stream, plan, memory, config, Timing.compressed(config)).bandwidth_GBps
    assert got == pytest.approx(10.0, rel=0.02)  # 64 B / 6.4 ns
