"""Numbers have one spelling, and absent ones a dash."""

from __future__ import annotations

import math

import pytest

from linepress.tables import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9.996, "10.0"),
        (0.03996, "0.0400"),
        (1234.5, "1,230"),
        (0.5, "0.500"),
        (-2.345, "-2.35"),
        (1e-9, "1.00e-09"),
    ],
)
def test_three_significant_digits_survive_a_carry(value: float, text: str) -> None:
    assert fmt.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(14.3, "14.3"), (0.088, "0.088"), (540672, "540,672"), (2.0, "2"), (204.8, "204.8")]
)
def test_plain_drops_trailing_zeros(value: float, text: str) -> None:
    assert fmt.plain(value) == text


@pytest.mark.parametrize("absent", [None, math.nan, math.inf, -math.inf, "text", b"x"])
def test_what_is_no_number_is_a_dash_everywhere(absent: object) -> None:
    for write in (fmt.ratio, fmt.percent, fmt.count, fmt.significant, fmt.plain, fmt.bytes_si, fmt.seconds):
        assert write(absent) == fmt.ABSENT
    assert fmt.with_unit(absent, "ns") == fmt.ABSENT


def test_units() -> None:
    assert fmt.bytes_si(999) == "999 B"
    assert fmt.bytes_si(1e6) == "1.00 MB"
    assert fmt.seconds(0.0186) == "18.6 ms"
    assert fmt.seconds(185) == "3 min 5 s"
    assert fmt.seconds(7260) == "2 h 1 min"
    assert fmt.with_unit(1.5, "ratio") == "1.500"
    assert fmt.with_unit(875.6, "ns") == "875.6 ns"


def test_a_percentage_that_rounds_to_zero_has_no_sign() -> None:
    assert fmt.percent(-0.01, signed=True) == "0.0 %"
    assert fmt.percent(1.26, signed=True) == "+1.3 %"
    assert fmt.percent(-2.9) == "−2.9 %"
