"""Patterns reproduce the reference traces word for word; trace files are read strictly."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from linepress_hardware.dram import PATTERNS, from_words, pattern
from linepress_hardware.errors import ConfigurationError

TABLE = Path(__file__).parents[2] / "data" / "dram" / "traces.csv"


def test_reference_traces_word_for_word() -> None:
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            name = "seq" if row["trace"] == "seq256k" else row["trace"]
            trace = pattern(name, int(row["n_requests"]))
            digest = hashlib.sha256(trace.words().astype("<u8").tobytes()).hexdigest()
            assert digest == row["sha256"], row["trace"]
            assert int(trace.is_write.sum()) == int(row["n_writes"])


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_patterns_stay_in_their_footprint_and_go_round_trip(name: str) -> None:
    trace = pattern(name, 5000, footprint_bytes=1 << 20)
    assert len(trace) == 5000
    assert int(trace.address_bytes.max()) < 1 << 20
    again = from_words(trace.words().astype("<u8").tobytes())
    assert (again.address_bytes == trace.address_bytes).all()
    assert (again.is_write == trace.is_write).all()
    assert (pattern(name, 5000, footprint_bytes=1 << 20).words() == trace.words()).all()


def test_seeds_differ() -> None:
    assert (pattern("rand", 100, seed=5).address_bytes != pattern("rand", 100, seed=6).address_bytes).any()


def test_a_trace_word_is_address_and_direction() -> None:
    trace = from_words(np.array([0x1234 << 1 | 1], "<u8").tobytes())
    assert (int(trace.address_bytes[0]), bool(trace.is_write[0])) == (0x1234, True)


@pytest.mark.parametrize("data", [b"", b"1234567", b"123456789"])
def test_odd_trace_files_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match="multiple of 8"):
        from_words(data)


@pytest.mark.parametrize(("name", "n", "message"), [("nix", 1, "unknown pattern"), ("seq", 0, "at least 1 of each")])
def test_bad_patterns(name: str, n: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pattern(name, n)
