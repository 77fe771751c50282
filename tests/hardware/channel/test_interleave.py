"""Interleaved channels: look-ups a page by granule, who wins where, and the fullest channel's closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.evaluate import Study, Subject
from linepress_hardware.channel.interleave import fullest_over_mean, interleaved, last_of
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.translation import StaticLayout
from linepress_hardware.errors import ConfigurationError


def study(memory: str = "hbm3") -> Study:
    length = np.random.default_rng(3).integers(38, 50, 8192).astype(np.int32)
    start = np.cumsum(length, dtype=np.int64) - length
    subject = Subject(StaticLayout(start, length, int(length.sum()), 8192, 28.0), length)
    return Study(Memory.load(memory), default_config(), subject, 6000, 0, 0.05)


def test_a_page_dealt_over_many_channels_pays_a_look_up_on_each() -> None:
    dealt, placed = (interleaved(study(), granule, 10.0) for granule in (256, 4096))
    assert (dealt.channels_a_page, placed.channels_a_page) == (16, 1)
    assert dealt.metadata_reads_a_page == pytest.approx(16, rel=0.03)
    assert placed.metadata_reads_a_page == pytest.approx(1, rel=0.03)
    assert dealt.gain < 0.9 < 1.1 < placed.gain
    # Plain pages are faster over sixteen channels; compressed ones wait for the slowest of sixteen look-ups.
    assert dealt.plain_page_p50_ns < placed.plain_page_p50_ns
    assert dealt.page_p50_ns > placed.page_p50_ns
    assert dealt.settings == placed.settings != ""
    widths = {k: v for found in (dealt, placed) for k, v in vars(found).items() if k.endswith("half_width_pct")}
    assert len(widths) == 5
    assert all(0 < width < 25 for width in widths.values()), widths


@pytest.mark.parametrize(("k", "share"), [(1, 0.5), (1, 0.99), (16, 0.99)])
def test_the_interval_of_a_quantile_holds_the_true_one(k: int, share: float) -> None:
    """Exponential waits with a memory (each keeps half of the one before): 19 in 20 intervals hold the long run's."""

    def waits(seed: int, n: int) -> np.ndarray:
        draws = np.random.default_rng(seed).exponential(100.0, n)
        return 100.0 + 0.5 * (draws + np.r_[0.0, draws[:-1]])

    true = float(np.quantile(waits(0, 4_000_000), share ** (1 / k)))
    n = int(30 / (1 - share ** (1 / k))) + 7
    found = [last_of(waits(seed, n), k, share) for seed in range(1, 201)]
    held = [abs(value - true) <= width * value for value, width in found]
    assert 0.88 <= np.mean(held) < 1.0


def test_the_fullest_channel_as_dealt() -> None:
    memory = replace(Memory.load("hbm3"), capacity_bytes=1 << 20)
    rng = np.random.default_rng(1)
    length = rng.integers(20, 64, 1 << 16).astype(np.int32)
    pages = length.reshape(-1, 64).sum(axis=1).astype(np.float64)
    channels, n = memory.channels_per_device, memory.capacity_bytes // 4096
    dealt = [rng.choice(pages, (channels, n)).sum(axis=1) for _ in range(200)]
    excess = np.mean([d.max() / d.mean() - 1 for d in dealt])
    # √(2 ln C) is above the mean of the greatest of few normal values (1.77 of sixteen, not 2.35).
    assert excess <= fullest_over_mean(length, 64, 4096, memory) <= 1.5 * excess


def test_what_cannot_be_interleaved_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not a power of two from 64 to 4096 B"):
        interleaved(study(), 96, 10.0)
    with pytest.raises(ConfigurationError, match="interleaving is for DRAM parts"):
        interleaved(replace(study(), memory=Memory.load("sram")), 256, 10.0)
