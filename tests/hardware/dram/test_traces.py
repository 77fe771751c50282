"""Patterns reproduce the reference traces word for word; trace files are read strictly."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from linepress_hardware.dram import PATTERNS, from_file, from_words, pattern
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


@pytest.mark.parametrize(
    ("text", "addresses", "writes"),
    [
        ("LD 0x1240\nST 0x80\n", [0x1240, 0x80], [False, True]),
        ("# Ramulator 2\nLD 1240\r\n\nST 64 # last", [1240, 64], [False, True]),
        ("0x1240 R\n0x80 W", [0x1240, 0x80], [False, True]),
        ("0x1240 READ 100\n1C0 WRITE 120\n", [0x1240, 0x1C0], [False, True]),
        ("0x00000040 P_MEM_RD 1\n0x80 P_MEM_WR 7", [0x40, 0x80], [False, True]),
    ],
)
def test_text_traces_of_other_simulators(text: str, addresses: list[int], writes: list[bool]) -> None:
    trace = from_file(text.encode())
    assert trace.address_bytes.tolist() == addresses
    assert trace.is_write.tolist() == writes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LD 0x1240\nhello world\n", "line 2 of the trace, 'hello world', is no request"),
        ("LD\nLD\n", "line 1"),
        ("LD 0xZZ\n", "line 1"),
        ("LD -64\n", "line 1"),
        ("0x1240 READ 1 2\n", "line 1"),
        ("# nothing\n", "holds no request"),
        ("1, 2, 3\n", "line 1"),
    ],
)
def test_text_that_is_no_trace_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        from_file(text.encode())


def test_words_are_still_words() -> None:
    words = pattern("rw50", 64).words()
    assert from_file(words.astype("<u8").tobytes()).words().tolist() == words.tolist()
