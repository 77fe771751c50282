"""Estimates from rates: by hand, and on the way a dry run takes them."""

from __future__ import annotations

import pytest

from linepress.run.estimate import CASE_S, estimate, rate_of, rates


def test_a_rate_is_the_variants_own_or_the_slowest_of_its_codec_or_of_all() -> None:
    known = rates()
    assert all(0 < rate < 100 for rate in known.values())
    assert rate_of("huffman:tables=4", "huffman") == (known["huffman:tables=4"], True)
    slowest = min(rate for name, rate in known.items() if name.startswith("huffman"))
    assert rate_of("huffman:tables=9", "huffman") == (slowest, True)
    assert rate_of("acme:x=1", "acme") == (min(known.values()), False)


def test_core_seconds_are_bytes_over_rate_and_a_little_for_each_case() -> None:
    known = rates()
    found = estimate([("raw", "raw", 10**9), ("acme", "acme", 10**9)])
    by_hand = 1 / known["raw"] + 1 / min(known.values()) + 2 * CASE_S
    assert found.core_s == pytest.approx(by_hand)
    assert (found.cases, found.n_bytes, found.guessed) == (2, 2 * 10**9, 1)
    assert found.wall_s(4) == pytest.approx(by_hand / 4)
    assert estimate([("raw", "raw", 10**9)], repeats=3).core_s == pytest.approx(3 / known["raw"] + CASE_S)
    assert estimate([]).core_s == 0
