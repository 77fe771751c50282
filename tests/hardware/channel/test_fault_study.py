"""A damaged memory read through the port: counts agree with the campaign, and compression spreads the loss."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.ecc import CODES
from linepress_hardware.channel.evaluate import InlineSpec, Study, Subject
from linepress_hardware.channel.fault_study import as_rows, fault_study
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.ras import RasPolicy
from linepress_hardware.channel.translation import StaticLayout
from linepress_hardware.errors import ConfigurationError


def study(inline: InlineSpec | None = None) -> Study:
    rng = np.random.Generator(np.random.PCG64(0))
    length = rng.integers(38, 48, 8192).astype(np.int32)
    start = np.cumsum(length, dtype=np.int64) - length
    layout = StaticLayout(start, length, int(length.sum()), 8192, 50.0)
    return Study(Memory.load("hbm3"), default_config(), Subject(layout, length, inline), 1000, 0)


def test_double_bits_are_detected_and_poison_whole_lines() -> None:
    found = fault_study(study(), CODES["secded-72-64"], {"double_bit": 50}, seed=1)
    for report in found.values():
        assert report.lines == 8192
        assert report.okay == 8192
        assert report.wrong == report.slverr == 0
        assert report.logged_deferred >= report.poisoned > 0
        assert report.records == 16
        assert report.records_dropped > 0
    compressed, plain = found["compressed"], found["plain"]
    # A detected word takes every line that touches it: at least the line, 32 values, against the word's 4.
    assert compressed.values_lost >= 8 * plain.values_lost
    assert plain.values_lost == 50 * 4


def test_single_bits_lose_nothing() -> None:
    found = fault_study(study(), CODES["rs-34-32"], {"bit": 200}, seed=1)
    for report in found.values():
        assert report.values_lost == report.poisoned == 0
        assert report.logged_corrected >= 150


def test_lost_metadata_loses_pages_and_only_where_there_is_metadata() -> None:
    found = fault_study(study(), CODES["secded-72-64"], {"metadata": 40}, seed=1)
    assert found["plain"].slverr == found["plain"].logged_critical == 0
    assert found["compressed"].slverr > 0
    assert found["compressed"].slverr % 64 == 0
    assert found["compressed"].logged_critical == found["compressed"].slverr


def test_policy_without_poison_answers_slverr() -> None:
    found = fault_study(study(), CODES["secded-72-64"], {"double_bit": 20}, policy=RasPolicy(poison=False), seed=1)
    assert found["compressed"].poisoned == 0
    assert found["compressed"].slverr > 0
    rows = as_rows(found)
    assert [row["channel"] for row in rows] == ["compressed", "plain"]


def test_inline_subjects_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="compressed offline"):
        fault_study(study(InlineSpec((48, 64))), CODES["rs-34-32"], {"bit": 1})
