"""Collectives with compressed payloads: bytes coded, break-even sizes by hand, what reduction in the switch keeps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.compressed import (
    Coder,
    coded_bytes,
    compressed_collective,
    point_to_point,
    rate_for_speedup,
    winning_sizes,
)

FREE = Coder(1.5)


@pytest.mark.parametrize(
    ("algorithm", "operation", "encoded", "decoded"),
    [
        ("ring", "all_reduce", 8, 14),
        ("direct", "all_reduce", 8, 14),
        ("one-shot", "all_reduce", 8, 56),
        ("in-network-nvls", "all_reduce", 9, 9),
        ("ring", "all_gather", 1, 7),
        ("ring", "reduce_scatter", 7, 7),
        ("direct", "all_to_all", 7, 7),
    ],
)
def test_bytes_coded_by_eight_accelerators(algorithm: str, operation: str, encoded: float, decoded: float) -> None:
    assert coded_bytes(algorithm, operation, 8, 8.0) == (encoded, decoded)


def test_break_even_of_one_message_by_hand() -> None:
    """2 us a message; 50 GB/s at 1.5 saves 20 - 13.33 ps a byte: from 300 kB on."""
    found = point_to_point(50.0, 5.0, Coder(1.5, 1000, 1000, 2.0))
    assert found["break_even_bytes"] == pytest.approx(2e-6 / (1 / 50e9 - 1 / 75e9))
    assert found["largest_speedup"] == pytest.approx(1.5)
    assert found["coder_GBps_for_ratio"] == pytest.approx(75)
    assert found["coder_GBps_to_gain"] == pytest.approx(50)
    serial = point_to_point(50.0, 5.0, Coder(1.5, 300, 300, 2.0, overlapped=False))
    assert serial["largest_speedup"] == pytest.approx((1 / 50) / (1 / 75 + 2 / 300))
    assert serial["break_even_bytes"] is None  # exactly nothing gained
    assert serial["coder_GBps_to_gain"] == pytest.approx(300)
    assert point_to_point(450.0, 0.0, Coder(1.5, 400, 400))["break_even_bytes"] is None


@given(st.floats(1.01, 1.6), st.floats(10, 1000), st.booleans())
def test_a_coder_of_the_rate_asked_for_gives_the_speedup(ratio: float, rate: float, overlapped: bool) -> None:
    wanted = 1 + 0.8 * (ratio - 1)
    coder = rate_for_speedup(wanted, ratio, rate, overlapped=overlapped)
    assert coder is not None
    found = point_to_point(rate, 0.0, Coder(ratio, coder, coder, overlapped=overlapped))
    assert found["largest_speedup"] == pytest.approx(wanted)
    assert rate_for_speedup(ratio * 1.01, ratio, rate, overlapped=overlapped) is None


def test_a_coder_at_the_accelerators_gives_up_reduction_in_the_switch() -> None:
    """1.5 on bytes is 1.15 against NVLS of 8 H100; a coder in the switch keeps nearly all of it."""
    beside = compressed_collective("h100", "all_reduce", 8, 2**30, FREE)
    inside = compressed_collective("h100", "all_reduce", 8, 2**30, Coder(1.5, in_switch=True))
    assert (beside["plain_curve"], beside["curve"]) == ("nccl-nvls", "nccl-ring")
    assert 1.1 < beside["speedup"] < 1.2
    assert inside["curve"] == "nccl-nvls"
    assert 1.4 < inside["speedup"] < 1.5
    assert compressed_collective("a100", "all_reduce", 8, 2**30, FREE)["speedup"] > 1.45  # nothing to give up


def test_kernels_that_do_not_overlap_never_pay_on_nvlink() -> None:
    kernels = Coder(1.5, 600, 600, 10.0, overlapped=False)
    assert winning_sizes("h100", "all_reduce", 8, kernels) == []
    assert compressed_collective("h100", "all_reduce", 8, 2**30, kernels)["bound_by"] == "coder"
    assert compressed_collective("h100", "all_reduce", 8, 2**12, Coder(1.5, message_us=5.0))["bound_by"] == "latency"


def test_break_even_sizes_are_where_the_times_meet() -> None:
    coder = Coder(1.5, 1000, 1000, 0.5)
    ranges = winning_sizes("a100", "all_reduce", 4, coder, library="nccl")
    (low, high) = ranges[-1]
    assert high == 2.0**36
    for size, faster in ((low * 0.99, False), (low * 1.01, True)):
        found = compressed_collective("a100", "all_reduce", 4, size, coder, library="nccl")
        assert (found["speedup"] > 1) is faster
    longer = winning_sizes("a100", "all_reduce", 4, Coder(1.5, 1000, 1000, 5.0), library="nccl")
    assert longer[-1][0] > low


def test_no_ratio_no_gain() -> None:
    assert compressed_collective("h100", "all_gather", 8, 2**28, Coder(1.0))["speedup"] == pytest.approx(1.0)
    assert point_to_point(100.0, 0.0, Coder(1.0))["coder_GBps_to_gain"] is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Coder(0.0), "ratio is 0.0"),
        (lambda: Coder(1.5, message_us=-1.0), "give finite numbers"),
        (lambda: Coder(math.inf), "give finite numbers"),
        (lambda: Coder(1.5, encode_GBps=math.nan), "encode_GBps"),
        (lambda: point_to_point(0.0, 0.0, FREE), "rate above 0"),
        (lambda: coded_bytes("tree", "all_reduce", 8, 1.0), "tree has no count"),
        (lambda: compressed_collective("mi300x", "all_reduce", 8, 1e6, FREE), "no all_reduce is measured on mi300x"),
        (lambda: compressed_collective("azure-nd-h100-v5", "all_reduce", 8, 1e6, FREE), "coded numbers do not add"),
    ],
)
def test_mistakes_are_one_sentence(make: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()  # type: ignore[operator]
