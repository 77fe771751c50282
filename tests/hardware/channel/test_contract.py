"""The capacity contract: bytes accepted between an interrupt and the first SLVERR, simulated beside closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.contract import ATTACKS, attack
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()
CLASSES = (0, 16, 32, 48, 64)


def coded(mean: float = 26.0, deviation: float = 3.0) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(0))
    return np.clip(rng.normal(mean, deviation, 8192).round(), 1, 64).astype(np.int32)


@pytest.mark.parametrize("threshold", [0.90, 0.97])
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(("classes", "slot"), [(CLASSES, 0), ((32, 64), 32)])
def test_the_store_accepts_exactly_the_closed_form(
    name: str, threshold: float, classes: tuple[int, ...], slot: int
) -> None:
    found = attack(name, threshold, coded(), classes, 2 << 20, CONFIG, fixed_slot=slot)
    assert found.accepted_bytes == found.closed_form_bytes
    assert 0 < found.free_bytes <= (1 - threshold) * found.physical_bytes


def test_one_line_a_page_takes_64_times_its_bytes_and_growth_at_most_8() -> None:
    by_name = {name: attack(name, 0.9, coded(), CLASSES, 2 << 20, CONFIG) for name in ATTACKS}
    assert by_name["sparse"].free_per_byte == pytest.approx(64, rel=0.2)
    assert 1 < by_name["grow"].free_per_byte <= 8
    assert by_name["fresh"].free_per_byte == pytest.approx(1, rel=0.05)
    sparse = by_name["sparse"]
    assert sparse.reserve_bytes(50.0, 1000.0) == pytest.approx(50_000 * sparse.free_per_byte)


def test_pages_that_are_rewritten_before_they_grow_cost_more_and_still_agree() -> None:
    found = attack("grow", 0.9, coded(42.0), (0, 32, 48, 64), 2 << 20, CONFIG)
    assert found.accepted_bytes == found.closed_form_bytes
    assert found.free_per_byte < 1  # a raw page is one chunk away, and takes many lines


def test_fresh_pages_without_staging_are_refused_with_their_first_line() -> None:
    bare = CONFIG.override({"staging_pages": 0})
    found = attack("fresh", 0.9, coded(), CLASSES, 1 << 20, bare)
    assert found.accepted_bytes == found.closed_form_bytes
    assert found.accepted_bytes % 4096 == 0


def test_attacks_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no attack"):
        attack("other", 0.9, coded(), CLASSES, 1 << 20, CONFIG)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        attack("fresh", 1.0, coded(), CLASSES, 1 << 20, CONFIG)
    with pytest.raises(ConfigurationError, match="growth alone"):
        attack("grow", 0.9, coded(42.0, 6.0), (48, 64), 2 << 20, CONFIG, fixed_slot=48)
    with pytest.raises(ConfigurationError, match="nearly all zero"):
        attack("fresh", 0.9, np.zeros(64, np.int32), CLASSES, 1 << 20, CONFIG)
