"""Bands of predictions: from residuals of measured machines, inside the bound, and said to be carried over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.band import expected, parse_residuals, residual_of, residuals
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.system import evaluate


def test_a_measured_machine_has_its_own_band_and_others_say_they_do_not() -> None:
    own, other = residual_of(accelerator("h100")), residual_of(accelerator("b200"))
    assert not own.carried
    assert other.carried
    assert other.p90 > own.p90 > residual_of(accelerator("rtx-4090")).p90
    assert "no row of b200-sxm is measured" in other.what
    assert residuals().reserve_bytes == pytest.approx(0.9 * 23.64 * 2**30 - 16.06e9 - 2588 * 2**21, rel=0.01)


@given(st.sampled_from(["h100", "b200", "rtx-4090"]), st.integers(1, 64), st.floats(1.0, 2.0), st.floats(1.0, 2.0))
def test_a_band_holds_its_middle_and_ends_at_the_bound(part: str, batch: int, weights: float, kv: float) -> None:
    row = evaluate("llama-3.1-8b", part, Scenario(batch=batch, context_tokens=4096), Compression(weights, kv))
    for key in ("expected_tokens_per_s", "expected_plain_tokens_per_s", "expected_speedup"):
        assert row[f"{key}_low"] <= row[key] * (1 + 1e-12)
        assert row[key] <= row[f"{key}_high"] * (1 + 1e-12)
    bound = batch / row["closed_form_plain_time_s"]
    assert row["expected_plain_tokens_per_s_high"] <= bound * (1 + 1e-12)
    assert row["expected_speedup_high"] <= row["speedup"] * (1 + 1e-9)
    assert row["expected_speedup_low"] >= 1 - 1e-12
    assert row["largest_batch_low"] <= row["largest_batch"]


def test_without_compression_there_is_no_speedup_to_be_unsure_of() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(), PLAIN)
    assert row["expected_speedup_low"] == row["expected_speedup"] == row["expected_speedup_high"] == 1.0


def test_the_band_by_hand() -> None:
    residual = residual_of(accelerator("h100"))
    b = residual.p90
    found = expected(10, (1.0, 0.8), (0.5, 0.4), 1.4, residual)
    assert found["expected_speedup"] == 1.25
    assert found["expected_speedup_low"] == pytest.approx((1 + b) / (0.8 + b))
    assert found["expected_speedup_high"] == pytest.approx(min((1 - b) / (0.8 - b), 1.4))
    assert found["expected_plain_tokens_per_s_low"] == pytest.approx(10 / (1 + b))


def test_a_scenario_that_says_what_kernels_reach_is_taken_at_its_word() -> None:
    given_by_user = Scenario(memory_efficiency=0.5)
    row = evaluate("llama-3.1-8b", "h100", given_by_user, PLAIN)
    assert row["expected_plain_tokens_per_s"] == pytest.approx(row["plain_tokens_per_s"], rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"), [("[carried]", "has no system"), ("[[system]]\nwhat = 'x'\n[carried]\n[reserve]", "r.toml")]
)
def test_broken_residuals_are_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_residuals(text, "r.toml")
