"""Leakage: entropies with known values, bounds, and the price of padding."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel.leakage import (
    entropy_bits,
    leakage,
    mutual_bits,
    padded,
    padding_price,
    unbiased_bits,
)
from linepress_hardware.errors import ConfigurationError

RNG = np.random.Generator(np.random.PCG64(0))


def test_entropies_and_information_of_known_distributions() -> None:
    a = np.repeat(np.arange(8), 100)
    assert entropy_bits(a) == pytest.approx(3)
    assert entropy_bits(np.zeros(9, np.int64)) == 0
    assert mutual_bits(a, a // 4) == pytest.approx(1)
    assert mutual_bits(a, a) == pytest.approx(3)
    assert mutual_bits(a, np.tile(np.arange(4), 200)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigurationError, match="one each"):
        mutual_bits(a, a[1:])
    with pytest.raises(ConfigurationError, match="no lines"):
        entropy_bits(a[:0])


def test_what_is_observed_never_tells_more_than_the_size() -> None:
    coded = RNG.integers(200, 512, 20_000)
    stored, atoms = -(-coded // 8), -(-coded // 256)
    found = leakage(coded, stored, atoms, coded, atoms)
    assert found.time_bits == pytest.approx(found.atoms_bits, abs=0.02)
    assert 0 < found.atoms_bits < found.stored_bits < found.coded_bits
    assert found.atoms_bits == pytest.approx(entropy_bits(atoms))


def test_times_of_many_values_tell_nothing_of_sizes_they_do_not_belong_to() -> None:
    size, noise = RNG.integers(0, 20, 20_000), RNG.integers(0, 60, 20_000)
    assert mutual_bits(size, noise) > 0.03  # the bias of the plug-in estimate
    assert unbiased_bits(size, noise) < 0.005
    assert unbiased_bits(size, noise + 1000 * (size >= 10)) == pytest.approx(1.0, abs=0.05)


def test_padding_costs_capacity_and_ends_the_leak() -> None:
    size = np.array([40] * 95 + [60] * 5)
    assert padded(size, 64) == (0.0, 1.0)
    bits, capacity = padded(size, 40)
    assert bits == pytest.approx(-(0.05 * np.log2(0.05) + 0.95 * np.log2(0.95)))
    assert capacity == pytest.approx(64 / (40 + 0.05 * 64))
    assert padding_price(size, 1.0) == (40, bits, capacity)
    assert padding_price(size, 0.0) == (60, 0.0, pytest.approx(64 / 60))
    with pytest.raises(ConfigurationError, match="slot"):
        padded(size, 0)
