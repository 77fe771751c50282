"""Fault campaigns: nothing lost in the count, the truth decides, the blast radius equals counting."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel.ecc import CODES
from linepress_hardware.channel.faults import FAULT_KINDS, OUTCOMES, blast_radius, inject
from linepress_hardware.errors import ConfigurationError

FAULTS = {"bit": 400, "double_bit": 400, "burst": 400, "row": 10, "metadata": 100}


@pytest.mark.parametrize("name", CODES)
def test_every_fault_has_one_outcome(name: str) -> None:
    found = inject(CODES[name], FAULTS, granules=10_000, metadata_granules=500, seed=1)
    for kind, row in found.counts().items():
        assert row["injected"] == FAULTS[kind] == sum(row[o] for o in OUTCOMES)
    totals = found.totals()
    assert totals["injected"] == sum(FAULTS.values()) == sum(totals[o] for o in OUTCOMES)
    again = inject(CODES[name], FAULTS, granules=10_000, metadata_granules=500, seed=1)
    assert again.totals() == totals
    assert np.array_equal(again.granule, found.granule)


def test_what_each_code_promises() -> None:
    secded = inject(CODES["secded-72-64"], FAULTS, granules=1000, metadata_granules=50, seed=2).counts()
    assert secded["bit"]["corrected"] == 400
    assert secded["double_bit"]["detected"] == 400
    assert secded["burst"]["miscorrected"] > 0  # three or more bits: an odd number can look like one
    strong = inject(CODES["rs-36-32"], FAULTS, granules=1000, metadata_granules=50, seed=2).counts()
    assert strong["bit"]["corrected"] == 400
    # A 16-bit burst touches at most three symbols: corrected or detected, never wrong.
    assert strong["burst"]["miscorrected"] == strong["burst"]["silent"] == 0
    assert strong["row"]["detected"] + strong["row"]["miscorrected"] + strong["row"]["silent"] == 10


def test_miscorrections_are_known_only_against_the_truth() -> None:
    found = inject(CODES["secded-72-64"], {"row": 30}, granules=100_000, seed=3)
    by = np.bincount(found.outcome, minlength=4)
    # A random 72-bit error has a random syndrome: 72 of 256 look like a single bit, 1 of 256 clean.
    assert by[2] / by.sum() == pytest.approx(72 / 256, abs=0.03)
    assert by[3] / by.sum() == pytest.approx(1 / 256, abs=0.004)


def test_row_faults_stay_in_one_row() -> None:
    found = inject(CODES["secded-72-64"], {"row": 5}, granules=4096, row_bytes=1024, seed=1)
    for fault in range(5):
        mine = found.granule[found.fault == fault]
        assert mine.size == 128
        assert np.unique(mine // 128).size == 1


def test_nothing_injected() -> None:
    found = inject(CODES["rs-34-32"], {}, granules=5, seed=0)
    assert found.totals()["injected"] == 0
    assert set(found.counts()) == set(FAULT_KINDS)


@pytest.mark.parametrize(
    ("faults", "granules", "metadata", "says"),
    [
        ({"cosmic": 1}, 5, 0, "unknown fault kind"),
        ({"bit": -1}, 5, 0, "counts of 0 or more"),
        ({"bit": 1}, 0, 0, "code words to hit"),
        ({"metadata": 1}, 5, 0, "metadata faults need metadata"),
    ],
)
def test_bad_campaigns(faults: dict[str, int], granules: int, metadata: int, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        inject(CODES["rs-34-32"], faults, granules=granules, metadata_granules=metadata, seed=0)


def test_blast_radius_by_counting() -> None:
    start = np.array([0, 40, 80, 120], np.int64)
    length = np.full(4, 40, np.int32)
    found = blast_radius(start, length, CODES["rs-34-32"], value_bytes=2, lines_per_metadata_entry=64)
    # 32 B words 0..4 are touched by lines {0}, {0,1}, {1,2}, {2,3}, {3}: 8 line touches over 5 words.
    assert found.lines == pytest.approx(8 / 5)
    assert found.values == pytest.approx(8 / 5 * 32)
    assert found.plain_values == 16
    assert found.metadata_values == 64 * 32


def test_blast_radius_of_raw_lines_is_at_least_the_line() -> None:
    start, length = np.arange(8, dtype=np.int64) * 64, np.full(8, 64, np.int32)
    found = blast_radius(start, length, CODES["secded-72-64"], value_bytes=2)
    assert (found.lines, found.values, found.plain_values) == (1.0, 32.0, 4.0)
    nothing = blast_radius(start, np.zeros(8, np.int32), CODES["secded-72-64"], value_bytes=2)
    assert nothing.values == 0
    with pytest.raises(ConfigurationError, match="value_bytes"):
        blast_radius(start, length, CODES["secded-72-64"], value_bytes=0)
