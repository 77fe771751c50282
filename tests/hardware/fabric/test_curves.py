"""Measured collectives: calibrated curves against rows they have not seen, the library's choice, what transfers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.fabric.curves import (
    band,
    collective_time,
    judge,
    parse_rows,
    parse_systems,
    rows,
    system,
    systems,
)

MIB = 2**20
# Rows from 1 MiB on that no curve holds within 10 %, each with its reason.
KNOWN_MISSES = {
    (
        "gb200",
        "nccl-ring",
        2 * MIB,
    ): "the library changes protocol between 1 and 8 MiB, and only every other size is seen",
    ("gb200", "nccl-ring", 8 * MIB): "the same",
    ("h100-sxm", "custom-two-shot", 2 * MIB): "whole microseconds; a step of its own at 2 MiB in the source",
    ("h100-sxm", "nccl-all-to-all", 512 * MIB): "two versions of NCCL 15 % apart over 4 GPUs",
    ("h100-sxm", "nccl-ring", 1.5 * MIB): "whole microseconds; ring and NVLS meet there",
    ("b300-sxm", "custom-two-shot", 2 * MIB): "whole microseconds; the same step at 2 MiB as on H100",
    ("b300-sxm", "nccl-nvls", 8 * MIB): "the library takes 80 us at 8 MiB and 83 at 16",
}


def test_every_row_belongs_to_a_curve_and_has_a_source() -> None:
    for row in rows():
        assert row.curve in {one.name for one in systems()[row.system].curves}, row
        assert row.source
        assert row.role in ("floor", "calibrate", "hold", "transfer")


def test_rows_held_out_from_1_mib_on_are_predicted_within_10_percent() -> None:
    found = judge()
    assert len(found) >= 90
    over = {(row["system"], row["curve"], row["size_bytes"]) for row in found if abs(row["error"]) > 0.10}
    assert over == set(KNOWN_MISSES)
    assert float(np.mean([abs(row["error"]) for row in found])) < 0.04


def test_floors_of_nccl_follow_launch_and_steps() -> None:
    """Small messages of four operations over 2, 4 and 8: two constants a system and kind of schedule."""
    floors = [row for row in rows() if row.size_bytes == 2048 and "nccl_perf" in row.source]
    assert len(floors) == 36
    errors = []
    for row in floors:
        curve = next(one for one in systems()[row.system].curves if one.name == row.curve)
        errors.append(curve.latency_us(row.operation, row.n) / row.time_us - 1)
    assert max(abs(error) for error in errors) < 0.08


def test_eight_h100_from_two_to_seven() -> None:
    """NVLS of 8 from rows of 5 to 7 alone: bytes by its closed form, one rate."""
    text = """
[[system]]
name = "some"
title = "seven"
domain = 8
[[system.curve]]
name = "nccl-nvls"
algorithm = "in-network-nvls"
operations = ["all_reduce"]
n = [2, 8]
launch = { value = 24, unit = "us", source = "s", status = "sourced" }
"""
    seen = [row for row in rows() if row.curve == "nccl-nvls" and "issue 1455" in row.source]
    few = "system,curve,operation,n,size_bytes,time_us,role,source\n" + "".join(
        f"some,nccl-nvls,all_reduce,{row.n},{row.size_bytes},{row.time_us},calibrate,s\n" for row in seen if row.n < 8
    )
    curve = parse_systems(text, "x.toml", parse_rows(few, "x.csv"))["some"].curves[0]
    bus = 1.75 * 2**31 / curve.time_s("all_reduce", 8, 2**31) / 1e9
    assert bus == pytest.approx(480, rel=0.02)


@pytest.mark.parametrize(("n", "bus"), [(2, 318), (3, 367.5), (4, 367.5), (5, 420), (6, 440), (7, 460), (8, 480)])
def test_least_time_is_the_rule_of_the_library(n: int, bus: float) -> None:
    """A ring below 4 H100, NVLS above, either at 4, and the slower protocol for a pair, as NCCL does."""
    found = collective_time("h100", "all_reduce", n, 2**31, library="nccl")
    assert 2 * (n - 1) / n * 2**31 / found.time_s / 1e9 == pytest.approx(bus, rel=0.02)
    assert n == 4 or found.curve == ("nccl-pair" if n == 2 else "nccl-ring" if n < 4 else "nccl-nvls")
    assert found.time_s == min(found.candidates.values())


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_only_an_all_reduce_of_two_has_a_protocol_of_its_own(operation: str, n: int) -> None:
    for name in ("h100", "a100"):
        assert collective_time(name, operation, n, MIB, library="nccl").curve != "nccl-pair"


def test_nvl72_is_below_the_highest_public_figure() -> None:
    """847 GB/s at 8 GiB is the most anybody has shown; the wires alone would carry 1,295 at 1 GiB."""
    for size in (2**20, 2**26, 2**30, 2**33):
        for n in (4, 8, 36, 72):
            bus = 2 * (n - 1) / n * size / collective_time("gb200", "all_reduce", n, size).time_s / 1e9
            assert bus < 847
    at_1_gib = 2 * 71 / 72 * 2**30 / collective_time("gb200", "all_reduce", 72, 2**30).time_s / 1e9
    assert at_1_gib == pytest.approx(681, rel=0.10)


def test_small_messages_take_a_custom_kernel_and_nccl_only_when_asked() -> None:
    best = collective_time("h100", "all_reduce", 8, 16 * 1024)
    assert 3.6e-6 < best.time_s < 6.4e-6
    assert best.library != "nccl"
    assert collective_time("h100", "all_reduce", 8, 16 * 1024, library="nccl").time_s == pytest.approx(
        17.8e-6, rel=0.1
    )


def test_borrowed_rows_say_whose_they_are() -> None:
    """Custom kernels of B200 are measured on B300, the same NVLink 5: 16 KiB in 7 us, where NCCL's floor is 19."""
    found = collective_time("b200", "all_reduce", 8, 16 * 1024)
    assert found.time_s == pytest.approx(7.1e-6, rel=0.05)
    assert "B300" in found.basis
    assert "borrowed by b200-sxm" in found.basis
    assert found.band == band("b300-sxm")
    assert "borrowed" not in collective_time("b200", "all_reduce", 8, 2**26).basis


def test_what_does_not_transfer_says_so() -> None:
    found = collective_time("mi300x", "all_reduce", 8, MIB)
    assert found.library == "closed form"
    assert found.band is None
    assert "do not transfer" in found.basis
    assert "carried over" in collective_time("h200", "all_reduce", 8, MIB).basis
    far = collective_time("gb200", "all_reduce", 36, 2**26)
    assert not far.measured_n
    assert collective_time("gb200", "all_gather", 8, MIB).library == "closed form"  # nobody measured it there


@given(st.sampled_from([one for s in systems().values() for one in s.curves]), st.integers(10, 32), st.data())
def test_time_never_falls_with_size(curve: object, power: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(*curve.n))  # type: ignore[attr-defined]
    for operation in curve.operations:  # type: ignore[attr-defined]
        low, high = (curve.time_s(operation, n, 2.0 ** (power + d)) for d in (0, 0.25))  # type: ignore[attr-defined]
        assert 0 < low <= high


def test_nothing_sent_takes_no_time_and_the_band_is_the_worst_held_out_row() -> None:
    assert (
        collective_time("h100", "all_reduce", 1, MIB).time_s
        == collective_time("h100", "all_reduce", 8, 0).time_s
        == 0
    )
    assert band("h100-sxm") == max(abs(row["error"]) for row in judge() if row["system"] == "h100-sxm")
    assert band("a-system-without-rows") is None
    assert system("GB200").domain == 72


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("h100", "reduce", 8, MIB), "operation 'reduce' is unknown"),
        (("h100", "all_reduce", 0, MIB), "give 1 or more"),
        (("h100", "all_reduce", 16, MIB), "joins 8 accelerators, not 16"),
        (("a40", "all_reduce", 2, MIB), r"no \[link\]"),
        (("azure-nd-h100-v5", "all_reduce", 4, MIB), "no curve at all for all_reduce over 4"),
        (("azure-nd-h100-v5", "all_gather", 8, MIB), "name an accelerator instead"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, str, int, int], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        collective_time(*arguments)
    with pytest.raises(UnknownPartError):
        collective_time("h1000", "all_reduce", 8, MIB)


CURVE = """
[[system]]
name = "x"
title = "X"
domain = 8
[[system.curve]]
name = "nccl-ring"
algorithm = "ring"
operations = ["all_reduce"]
n = [2, 8]
"""
LAUNCH = 'launch = { value = 5, unit = "us", source = "s", status = "sourced" }\n'
HEAD = "system,curve,operation,n,size_bytes,time_us,role,source\n"


@pytest.mark.parametrize(
    ("toml", "csv", "words"),
    [
        (CURVE, "", "neither launch nor floor rows"),
        (CURVE + LAUNCH, "", "no calibrating row"),
        (CURVE + LAUNCH, "x,nccl-ring,all_reduce,2,1024,4.0,calibrate,s\n", "no more than its latency"),
        (CURVE.replace('"ring"', '"gossip"'), "", "'gossip' or its operations are unknown"),
        (CURVE + 'latency_of = "nccl-tree"\n', "", "no curve before it"),
        (CURVE + 'speed = "fast"\n', "", "unknown key 'speed'"),
    ],
)
def test_mistakes_in_data(toml: str, csv: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_systems(toml, "x.toml", parse_rows(HEAD + csv, "x.csv"))


@pytest.mark.parametrize(
    "line", ["x,c,all_reduce,two,1,1,hold,s", "x,c,all_reduce,2,1,-1,hold,s", "x,c,gossip,2,1,1,hold,s", "x,c"]
)
def test_mistakes_in_rows_name_the_row(line: str) -> None:
    with pytest.raises(ConfigurationError, match="row 1"):
        parse_rows(HEAD + line + "\n", "x.csv")
