"""Bounds against closed forms, and the properties that make them bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from linepress_codecs.bounds import BoundAccumulator, pool
from linepress_codecs.contracts import Lines
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.registry import make
from linepress_codecs.testing import gaussian_bits, sample_lines

BF16 = FORMATS["bf16"]


def bounds_of(lines: Lines) -> dict:  # type: ignore[type-arg]
    return BoundAccumulator(lines.format).add(lines).bounds()


def bf16(exponent: np.ndarray, mantissa: np.ndarray | int = 0, sign: np.ndarray | int = 0) -> np.ndarray:
    return (np.asarray(sign) << 15 | np.asarray(exponent) << 7 | np.asarray(mantissa)).astype("<u2")


def test_uniform_symbols() -> None:
    """Four equally frequent exponents, one sign, all mantissas: 2 + 7 bits."""
    values = bf16(120 + np.arange(4096) % 4, np.arange(4096) // 4 % 128)
    bounds = bounds_of(to_lines(values, "row", BF16))
    assert bounds["field_order0"].bits_per_value == pytest.approx(9)
    assert bounds["field_order0"].ratio == pytest.approx(16 / 9)
    assert bounds["joint_order0"].bits_per_value == pytest.approx(9)


def test_skewed_symbols() -> None:
    """Half, quarter, eighth, eighth: 1.75 bits + 7 raw."""
    exponent = np.array([120] * 4 + [121] * 2 + [122, 123] * 1)
    values = bf16(np.tile(exponent, 400))
    assert bounds_of(to_lines(values, "row", BF16))["field_order0"].bits_per_value == pytest.approx(8.75)


def test_order_zero_misses_what_the_previous_value_tells() -> None:
    """An exponent that repeats a cycle of four is free but for the first value of each line."""
    values = bf16(120 + np.arange(32 * 64) % 4)
    bounds = bounds_of(to_lines(values, "row", BF16))
    assert bounds["field_order0"].bits_per_value == pytest.approx(9)
    assert bounds["field_previous"].bits_per_value == pytest.approx(7)
    random_start = bf16(120 + (np.arange(32)[None] + np.arange(64)[:, None]) % 4).reshape(-1)
    first = bounds_of(to_lines(random_start, "row", BF16))["field_previous"]
    assert first.bits_per_value == pytest.approx(7 + 2 / 32)


def test_channels_tell_their_exponent() -> None:
    array = bf16(np.broadcast_to(100 + np.arange(8), (64, 8)))
    bounds = bounds_of(to_lines(array, "channel", BF16))
    assert bounds["field_order0"].bits_per_value == pytest.approx(10)
    assert bounds["field_channel"].bits_per_value == pytest.approx(7)
    assert bounds["joint_channel"].bits_per_value == pytest.approx(0)
    assert "field_channel" not in bounds_of(to_lines(array, "row", BF16))


def test_mantissa_given_its_exponent() -> None:
    """A mantissa that is a function of the exponent is free in the joint class and raw in the field class."""
    exponent = 120 + np.arange(4096) % 4
    bounds = bounds_of(to_lines(bf16(exponent, exponent % 128), "row", BF16))
    assert bounds["field_order0"].bits_per_value == pytest.approx(9)
    assert bounds["joint_order0"].bits_per_value == pytest.approx(2)


def test_corrections_have_their_closed_form() -> None:
    """Two equally frequent exponents, n values: Miller-Madow adds 1 / (2 n ln 2), tables log2(n) / (2 n)."""
    n = 3200
    bound = bounds_of(to_lines(bf16(120 + np.arange(n) % 2), "row", BF16))["field_order0"]
    assert bound.bits_per_value == pytest.approx(8)
    assert bound.miller_madow_bits_per_value == pytest.approx(8 + 1 / (2 * n * math.log(2)))
    assert bound.with_tables_bits_per_value == pytest.approx(8 + math.log2(n) / (2 * n))


def test_plug_in_is_low_and_the_correction_helps() -> None:
    """256 equally likely bytes in 1,024 samples: the entropy is 8 bits, the plug-in estimate less."""
    fmt = FORMATS["uint8"]
    rng = np.random.Generator(np.random.PCG64(1))
    lines = Lines(rng.integers(0, 256, (16, 64), dtype=np.uint8), fmt)
    bound = bounds_of(lines)["field_order0"]
    assert bound.bits_per_value < 7.9
    assert abs(bound.miller_madow_bits_per_value - 8) < abs(bound.bits_per_value - 8) / 4


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_static_code_beats_its_bound(name: str) -> None:
    """Huffman's payload stays over the field bound with its sign raw; joint is never over field."""
    codec = make("huffman", {})
    for label, lines in sample_lines(FORMATS[name]):
        if label in ("gaussian", "wide gaussian", "random bytes"):
            bounds = bounds_of(lines)
            bits = codec.measure(lines, codec.fit([lines]))  # type: ignore[attr-defined]
            per_value = int(bits.sum()) / bounds["field_order0"].values
            assert per_value >= bounds["field_order0"].bits_per_value - 1e-9, (name, label)
            assert bounds["joint_order0"].bits_per_value <= bounds["field_order0"].bits_per_value + 1e-9
            assert bounds["field_previous"].bits_per_value <= bounds["field_order0"].bits_per_value + 1e-9


def test_chunks_add_up_and_pools_differ() -> None:
    array = gaussian_bits(BF16, 64 * 96, 0.02, 5).reshape(64, 96)
    lines = to_lines(array, "channel", BF16)
    whole = bounds_of(lines)
    halves = BoundAccumulator(BF16).add(lines[:50]).merge(BoundAccumulator(BF16).add(lines[50:])).bounds()
    assert halves == whole
    other = BoundAccumulator(BF16).add(to_lines(gaussian_bits(BF16, 6400, 2.0, 6), "row", BF16))
    pooled = pool([BoundAccumulator(BF16).add(lines), other])
    assert pooled is not None
    mean = (
        whole["field_order0"].bits_per_value * 6144 + other.bounds()["field_order0"].bits_per_value * 6400
    ) / 12544
    assert pooled.bits_per_value > mean
    assert pool([]) is None


def test_empty_and_mismatched_input() -> None:
    empty = bounds_of(to_lines(np.zeros(0, "<u2"), "row", BF16))
    assert math.isnan(empty["field_order0"].ratio)
    with pytest.raises(CodecError, match="cannot take"):
        BoundAccumulator(BF16).add(to_lines(np.zeros(4, "<u4"), "row", FORMATS["fp32"]))
    accumulator = BoundAccumulator(BF16).add(to_lines(np.zeros((32, 4), "<u2"), "channel", BF16))
    with pytest.raises(CodecError, match="disagree on channels"):
        accumulator.add(to_lines(np.zeros((32, 5), "<u2"), "channel", BF16))
