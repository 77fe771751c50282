"""Over-subscribed capacity, the block baseline and the DMA placement, each beside its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel.block_baseline import BlockCodec, block_baseline, parameters
from linepress_hardware.channel.capacity import fill
from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.evaluate import InlineSpec, Study, Subject
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.placements import dma
from linepress_hardware.channel.translation import StaticLayout, plain_layout
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()
CLASSES = (0, 8, 32, 48, 64)


def coded(mean: float = 42.0) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(0))
    return np.clip(rng.normal(mean, 4, 8192).round(), 1, 64).astype(np.int32)


@pytest.mark.parametrize("fixed_slot", [0, 48])
def test_filling_ends_where_the_chunks_end(fixed_slot: int) -> None:
    classes = (48, 64) if fixed_slot else CLASSES
    found = fill(coded(), classes, 4 << 20, CONFIG, fixed_slot=fixed_slot)
    assert found.held_bytes == found.closed_form_held_bytes
    assert found.refused_at_bytes is not None
    assert found.warning_at_bytes is not None
    assert found.critical_at_bytes is not None
    assert found.warning_at_bytes < found.critical_at_bytes < found.refused_at_bytes
    assert 1.0 < found.effective_ratio < 64 / 42


def test_lines_that_compress_better_than_promised_fill_everything() -> None:
    found = fill(coded(20.0), CLASSES, 4 << 20, CONFIG)
    assert found.refused_at_bytes is None
    assert found.held_bytes == found.advertised_bytes == found.closed_form_held_bytes


def test_raw_lines_end_below_the_physical_size_for_the_metadata() -> None:
    found = fill(np.full(64, 64, np.int32), CLASSES, 4 << 20, CONFIG)
    assert found.effective_ratio < 1.0
    assert found.refused_at_bytes is not None
    with pytest.raises(ConfigurationError, match="metadata entries"):
        fill(coded(), CLASSES, 512, CONFIG.override({"over_subscription_ratio": 16}))


@pytest.mark.parametrize("block_bytes", [4096, 65536])
def test_block_baseline_is_near_its_closed_form(block_bytes: int) -> None:
    memory = Memory.load("hbm3", policy="open:refresh=all_bank")
    found = block_baseline(memory, BlockCodec.default(block_bytes), CONFIG, blocks=100)
    assert found.read_amplification == pytest.approx(
        block_bytes / BlockCodec.default(block_bytes).ratio / 64, rel=0.01
    )
    assert found.random_GBps == pytest.approx(found.closed_form_random_GBps, rel=0.05)
    assert found.sequential_GBps == pytest.approx(found.closed_form_sequential_GBps, rel=0.05)
    # Row changes and refresh in the transfer are what the closed form leaves out.
    assert found.latency_mean_ns == pytest.approx(found.closed_form_latency_ns, rel=0.15)


def test_a_64_kib_block_costs_microseconds_and_819_times_the_bytes() -> None:
    found = block_baseline(Memory.load("hbm3"), BlockCodec(65536, 1.25, 16.0, 0.0), CONFIG, blocks=50)
    assert found.read_amplification == pytest.approx(819.2, rel=0.001)
    assert found.latency_mean_ns > 2500


def test_block_figures_have_sources_and_bad_blocks_are_refused() -> None:
    assert all(p.source and p.unit and p.status for p in parameters().values())
    with pytest.raises(ConfigurationError, match="whole lines"):
        BlockCodec.default(100)
    with pytest.raises(ConfigurationError, match="above 0"):
        BlockCodec(4096, 0.0, 16.0, 0.0)
    with pytest.raises(ConfigurationError, match="too few"):
        block_baseline(Memory.load("hbm3"), BlockCodec.default(4096), CONFIG, blocks=3)


def subject() -> Subject:
    length = coded()
    start = np.cumsum(length, dtype=np.int64) - length
    return Subject(StaticLayout(start, length, int(length.sum()), 8192, 50.0), length)


def test_dma_pays_metadata_and_decode_once_a_tile() -> None:
    study = Study(Memory.load("hbm3"), CONFIG, subject(), 8000, 0)
    found = dma(study)
    assert found.line_GBps == pytest.approx(found.tiles_GBps / 256)
    added = found.tile_latency_mean_ns - found.plain_tile_latency_mean_ns
    one_line = CONFIG.decode_latency_ns + study.memory.idle_read_ns
    assert added < 1.5 * one_line  # not 256 times
    with pytest.raises(ConfigurationError, match="whole lines"):
        dma(study, tile_bytes=100)
    inline = Study(Memory.load("hbm3"), CONFIG, Subject(plain_layout(64), coded(), InlineSpec(CLASSES)), 8000, 0)
    with pytest.raises(ConfigurationError, match="offline"):
        dma(inline)
