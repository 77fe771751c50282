"""The statistics against closed forms, SciPy, and their own promises under simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from linepress.compare.noise import noise
from linepress.compare.stats import Location, blocks, effect, holm, location, rank_test

NO_DRIFT = Location(0.0, 0.0, math.inf)


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_trimmed_mean_is_scipys_and_its_error_is_yuens() -> None:
    values = generator().standard_normal(50)
    found = location(values)
    assert found.value == pytest.approx(reference.trim_mean(values, 0.2))
    # SciPy's trimmed t test of two samples uses the same error for each: with a constant second sample it is t alone.
    mirrored = reference.ttest_ind(values, -values, equal_var=False, trim=0.2)
    assert 2 * found.value / math.sqrt(2 * found.error**2) == pytest.approx(mirrored.statistic)
    assert location(np.array([1.0, 1.0, 1.0, 1.0])) == Location(1.0, 0.0, 3.0)


def test_one_stratum_is_the_mann_whitney_test() -> None:
    base, new = generator().random((2, 1, 6))
    expected = reference.mannwhitneyu(base[0], new[0], alternative="two-sided").pvalue
    assert rank_test(base, new) == pytest.approx(expected)


def test_the_stratified_test_keeps_its_level_and_finds_a_shift() -> None:
    rng = generator()
    levels = rng.normal(0, 5, (3000, 12, 1))
    base, new = (np.exp(levels + 0.02 * rng.standard_normal((3000, 12, 5))) for _ in range(2))
    p = np.array([rank_test(a, b) for a, b in zip(base, new, strict=True)])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.015)
    shifted = np.array([rank_test(a, 1.05 * b) for a, b in zip(base[:200], new[:200], strict=True)])
    assert np.all(shifted < 1e-4)
    assert rank_test(base[0], base[0]) == 1.0


def test_holm_is_the_textbook_procedure() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p, 0.05).tolist() == [True, False, False, True]
    assert holm(p, 0.2).tolist() == [True] * 4
    assert holm(np.array([0.9]), 0.05).tolist() == [False]


def test_blocks_keep_the_order_and_the_level() -> None:
    values = np.arange(960.0)
    found = blocks(values, 32)
    assert len(found) == 32
    assert np.all(np.diff(found) > 0)
    assert found.mean() == pytest.approx(479.5)
    assert blocks(values[:5], 32) is not values
    assert blocks(values[:5], 32).tolist() == [0, 1, 2, 3, 4]


def simulated(
    rng: np.random.Generator, tensors: int, shift: float = 0.0, between: float = 0.01
) -> tuple[float, bool]:
    """p of one comparison with a known spread between runs, and whether its interval covers the shift."""
    differences = shift + 0.02 * rng.standard_normal(tensors) + math.sqrt(2) * between * rng.standard_normal()
    found = effect(differences, 0.0, drift=NO_DRIFT, between_runs=between, between_dof=30, rng=rng, resamples=500)
    return found.p, found.low <= shift <= found.high


@pytest.mark.parametrize("tensors", [4, 8, 40])
def test_a_shared_state_of_the_run_is_no_effect(tensors: int) -> None:
    rng = generator(tensors)
    found = [simulated(rng, tensors) for _ in range(1500)]
    assert np.mean([p < 0.05 for p, _ in found]) <= 0.065
    assert np.mean([covered for _, covered in found]) >= 0.92


def test_taking_tensors_for_independent_would_raise_false_alarms() -> None:
    """What the part between runs is for: without it most equal runs would look different."""
    rng = generator()
    alarms = []
    for _ in range(300):
        differences = 0.005 * rng.standard_normal(100) + math.sqrt(2) * 0.01 * rng.standard_normal()
        naive = effect(differences, 0.0, drift=NO_DRIFT, between_runs=0.0, between_dof=30, rng=rng, resamples=50)
        alarms.append(naive.p < 0.01)
    assert np.mean(alarms) > 0.5


def test_both_tests_must_reject() -> None:
    rng = generator()
    one = effect(np.full(8, 0.5), 0.2, drift=NO_DRIFT, between_runs=0.005, between_dof=30, rng=rng, resamples=100)
    assert one.p == 0.2
    other = effect(
        np.full(8, 0.001), 1e-9, drift=NO_DRIFT, between_runs=0.005, between_dof=30, rng=rng, resamples=100
    )
    assert other.p > 0.5


def test_the_drift_is_taken_away_with_its_error() -> None:
    rng = generator()
    drift = Location(0.05, 0.01, 5.0)
    found = effect(np.full(8, 0.05), 0.0, drift=drift, between_runs=0.0, between_dof=30, rng=rng, resamples=2000)
    assert found.value == pytest.approx(0.0)
    assert found.error == pytest.approx(0.01)
    assert found.low < -0.01 < 0.01 < found.high


def test_the_spread_grows_with_what_else_the_machine_does() -> None:
    known = noise()
    quiet, busy = known.between_runs(0.0, True), known.between_runs(0.05, True)
    assert quiet == pytest.approx(known.floor)
    assert busy == pytest.approx(math.hypot(known.floor, 0.05 * known.per_gap))
    assert known.between_runs(0.0, False) > known.without_controls
    assert known.between_runs(0.0, True, history=0.04) == 0.04
    assert known.source
