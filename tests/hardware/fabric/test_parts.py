"""Links, switches, topologies and power: counts against published ones, and every mistake in a data file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from linepress_hardware.errors import ConfigurationError, HardwareError, UnknownPartError
from linepress_hardware.fabric.links import Link, link, links, parse_link
from linepress_hardware.fabric.power import backplane_saving, link_power_W, media_table, pJ_per_bit
from linepress_hardware.fabric.switches import parse_switch, switch, switches
from linepress_hardware.fabric.topologies import custom, near_cube, parse_topology, topologies, topology

LINK = """
name = "x"
title = "X"
family = "X"
lanes = { value = 4, unit = "count", source = "s", status = "sourced" }
lane_rate = { value = 200, unit = "Gb/s", source = "s", status = "sourced" }
phy = { value = 40, unit = "ns", source = "s", status = "unverified" }
reach = { value = 2, unit = "m", source = "s", status = "unverified" }
[framing]
payload_max = { value = 256, unit = "B", source = "s", status = "sourced" }
header = { value = 16, unit = "B", source = "s", status = "sourced" }
"""
SWITCH = """
name = "x"
title = "X"
capacity = { value = 51.2, unit = "Tb/s", source = "s", status = "sourced" }
latency = { value = 200, unit = "ns", source = "s", status = "sourced" }
"""
TOPOLOGY = """
name = "x"
title = "X"
kind = "switch"
accelerators = 8
link = "nvlink-4"
switch = "nvswitch-3"
racks = 1
medium = "copper"
source = "s"
status = "unverified"
"""


LINE = """
[line]
signal_rate = { value = 212.5, unit = "Gb/s", source = "s", status = "sourced" }
codeword = { value = 680, unit = "B", source = "s", status = "sourced" }
data = { value = 640, unit = "B", source = "s", status = "sourced" }
symbol = { value = 10, unit = "count", source = "s", status = "sourced" }
correctable = { value = 15, unit = "count", source = "s", status = "sourced" }
"""


def test_a_line_code_counted_twice_is_refused() -> None:
    assert parse_link(LINK + LINE, "x.toml").line is not None
    with pytest.raises(ConfigurationError, match=r"188.2 Gb/s.*leaves 200; lane_rate is net of the line code"):
        parse_link((LINK + LINE).replace("value = 200", "value = 188.2"), "x.toml")


def test_every_file_reads_and_every_figure_has_a_source() -> None:
    assert len(links()) >= 12
    for one in links().values():
        assert one.rate_GBps > 0
        assert all(figure.source and figure.status for figure in one.figures.values())
    assert all(one.capacity_Gbps > 0 for one in switches().values())
    assert len(topologies()) >= 9


def test_ualink_as_published() -> None:
    four, one = link("ualink-800g"), link("ualink-x1")
    assert (four.rate_Gbps, one.rate_Gbps) == (800, 200)
    assert four.floor_ns == pytest.approx(6.4)  # 640 B at 800 Gb/s
    assert four.cells_per_flit == pytest.approx(628 / 64)
    assert four.framing.efficiency(256) == pytest.approx(0.93, abs=1e-3)
    assert four.framing.efficiency(64) < four.framing.efficiency(256)


@pytest.mark.parametrize("name", ["ualink-200g", "ualink-400g", "ualink-800g", "ualink-2.0-200g", "ualink-2.0-800g"])
def test_the_line_code_of_ualink_is_counted_once(name: str) -> None:
    """One 640 B flit a codeword of 680 B: the "> 94 %" of the press, already inside the lane rate of 200 Gb/s."""
    one = link(name)
    assert one.line is not None
    assert one.line.efficiency == pytest.approx(0.941, abs=5e-4)
    assert one.line.signal_Gbps * one.line.efficiency * one.lanes == pytest.approx(one.rate_Gbps)
    assert (one.framing.flit_bytes, one.framing.flit_payload_bytes) == (640, 628)
    assert one.framing.efficiency(256) == pytest.approx(0.93, abs=1e-3)


def test_ualink_2_reduces_in_the_switch_and_1_does_not() -> None:
    assert switch("ualink-2.0-100t").reduces
    assert switch("ualink-2.0-50t").reduces
    assert not any(switch(f"ualink-{kind}").reduces for kind in ("25t", "50t", "100t"))
    assert topology("ualink-2.0-512").radix == 512


def test_helios_as_published() -> None:
    counts = topology("helios").counts()
    assert 2 * counts["all_accelerators_TBps"] == pytest.approx(260, rel=0.01)
    assert counts["switches"] == 12
    over, native = link("ualoe-800g"), link("ualink-2.0-800g")
    assert over.rate_Gbps == native.rate_Gbps
    assert over.framing.efficiency(256) < native.framing.efficiency(256)


@pytest.mark.parametrize(
    ("name", "both_ways_GBps"), [("nvlink-3", 600), ("nvlink-4", 900), ("nvlink-5", 1800), ("nvlink-6", 3600)]
)
def test_nvlink_bandwidth_of_a_gpu(name: str, both_ways_GBps: float) -> None:
    one = link(name)
    assert one.links is not None
    assert 2 * one.links * one.rate_GBps == pytest.approx(both_ways_GBps)


@pytest.mark.parametrize(("name", "share"), [("ethernet-46b", 0.582), ("ethernet-10b", 0.865)])
def test_ethernet_headers_of_a_64_byte_payload(name: str, share: float) -> None:
    framing = link(name).framing
    assert framing.header_efficiency(64) == pytest.approx(share, abs=5e-4)
    assert framing.efficiency(64) < share  # preamble, gap and the smallest frame cost more


def test_wire_bytes_of_requests() -> None:
    framing = link("nvlink-5").framing
    assert framing.wire_bytes([1, 16, 64, 256, 257, 512]).tolist() == [32, 32, 80, 272, 304, 544]
    assert float(link("ethernet").framing.wire_bytes(1)) == 64 + 20
    with pytest.raises(ConfigurationError, match="give 0 or more"):
        framing.wire_bytes(-1)
    with pytest.raises(ConfigurationError, match="above 0"):
        framing.efficiency(0)


def test_nvl72_as_published() -> None:
    counts = topology("nvl72").counts()
    assert counts["links"] == 72 * 18 == 1296
    assert counts["wire_pairs"] == 5184
    assert counts["switches"] == 18
    assert counts["switch_ports_used"] == 18 * 72
    assert 2 * counts["all_accelerators_TBps"] == pytest.approx(129.6)
    assert counts["link_W_by_medium"]["pluggable"] == pytest.approx(648 * 30)


@pytest.mark.parametrize(("n", "count"), [(8, 28), (16, 120), (64, 2016), (72, 2556), (1024, 523_776)])
def test_a_mesh_grows_with_the_square(n: int, count: int) -> None:
    found = custom("mesh", n)
    assert found.links == count
    assert found.links_per_accelerator == n - 1


def test_leaf_spine_counts() -> None:
    found = custom("leaf-spine", 1024, switch_name="ualink-100t")
    k, n = 128, 1024
    assert found.radix == k
    assert (found.leaves, found.spines) == (2 * n // k, n // k)
    assert found.switch_count == 3 * n // k
    assert found.links == 2 * n
    assert found.most_switches == 3
    assert found.bisection_GBps == pytest.approx(n / 2 * 100)
    half = custom("leaf-spine", 1024, switch_name="ualink-100t", oversubscription=3.0)
    assert half.bisection_GBps == pytest.approx(n / 2 * 100 / 3)
    assert half.per_leaf == 96


def test_torus_counts() -> None:
    found = topology("torus-8x8")
    assert found.links == 128
    assert found.bisection_GBps == 2 * 8 * 100
    assert near_cube(64, 3) == (4, 4, 4)
    assert near_cube(72, 2) in ((9, 8), (12, 6))


def test_the_talks_backplane() -> None:
    found = backplane_saving(topology("nvl72"))
    assert found["before_pJ_per_bit_one_way"] == pytest.approx(15.4, abs=0.05)
    assert found["after_pJ_per_bit_one_way"] == pytest.approx(3.86, abs=0.005)
    assert found["before_pJ_per_bit_both_ways"] == pytest.approx(7.72, abs=0.005)
    assert found["after_pJ_per_bit_both_ways"] == pytest.approx(1.93, abs=0.005)
    assert link_power_W(topology("nvl72"), "cpc") == pytest.approx(2 * 518.4 * 2)
    rows = {row["medium"]: row["link_W"] for row in media_table(topology("nvl72"))}
    assert rows["cpo"] == pytest.approx(rows["pluggable"] / 3.5, rel=1e-3)
    assert rows["linear-pluggable"] == pytest.approx(rows["pluggable"] * 0.7, rel=2e-3)
    for wrong in (lambda: pJ_per_bit(0, 1), lambda: link_power_W(topology("nvl72"), utilisation=2.0)):
        with pytest.raises(ConfigurationError):
            wrong()
    with pytest.raises(ConfigurationError, match="above"):
        backplane_saving(topology("nvl72"), 1.0, 2.0)
    with pytest.raises(ConfigurationError, match="medium 'wool'"):
        link_power_W(topology("nvl72"), "wool")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: custom("switch", 1024), r"64 ports of 800 Gb/s.*needs 1024 \(819.2 Tb/s\); use topology leaf-spine"),
        (lambda: custom("leaf-spine", 5000), "hold 2048 accelerators, not 5000"),
        (lambda: custom("mesh", 64, link_name="nvlink-5"), "63 links.*gives 18; use at most 19"),
        (lambda: custom("torus", 64, dims=(3, 3)), "dims whose product is 64"),
        (lambda: custom("torus", 7), "do not fill a torus"),
        (lambda: custom("star", 8), "topology 'star'"),
        (lambda: custom("switch", 1), "at least 2"),
        (lambda: custom("switch", 8, medium="wool"), "medium 'wool'"),
        (lambda: custom("leaf-spine", 64, oversubscription=0.5), "give 1 or more"),
        (lambda: topology("nvl27"), "did you mean nvl72"),
        (lambda: link("ualink-801g"), "did you mean ualink-800g"),
        (lambda: switch("nvswitch-9"), "did you mean nvswitch"),
        (lambda: switch("ualink-50t").radix(0), "rate above 0"),
    ],
)
def test_mistakes_are_one_sentence(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(HardwareError, match=words):
        make()


def test_unknown_parts_have_their_own_error() -> None:
    with pytest.raises(UnknownPartError):
        link("string")


def _read(text: str) -> Link:
    return parse_link(text, "links/x.toml")


def test_the_files_of_these_tests_are_right() -> None:
    assert _read(LINK).rate_GBps == 100
    assert parse_switch(SWITCH, "x").radix(800) == 64
    assert parse_topology(TOPOLOGY, "x").links == 8


@pytest.mark.parametrize(
    ("read", "text", "old", "new", "words"),
    [
        (_read, LINK, 'unit = "Gb/s"', 'unit = "furlongs"', "unknown unit 'furlongs'; use one of Gb/s, Tb/s"),
        (_read, LINK, 'unit = "Gb/s"', 'unit = "GB/s"', "is no bits/s"),
        (_read, LINK, "value = 200", "value = 0", "give a number above 0"),
        (_read, LINK, "value = 40", "value = -1", "give a number above 0"),
        (_read, LINK, "value = 4,", "value = 4.5,", "whole number"),
        (_read, LINK, "[framing]", "speed = 1\n[framing]", "unknown key 'speed'"),
        (_read, LINK, "family", "familiy", "unknown key 'familiy'"),
        (_read, LINK, "header =", "flit =", "has no header"),
        (_read, LINK, 'name = "x"', 'name = "', "is not TOML"),
        (_read, LINK, "header", 'flit = { value = 1, unit = "B", source = "s", status = "seed" }\nheader', "both or"),
        (lambda t: parse_switch(t, "x"), SWITCH, "latency", "latencies", "unknown key 'latencies'"),
        (lambda t: parse_switch(t, "x"), SWITCH, 'title = "X"', 'title = "X"\nreduces = 3', "true or false"),
        (lambda t: parse_topology(t, "x"), TOPOLOGY, "accelerators = 8", "accelerators = 8.5", "whole number"),
        (lambda t: parse_topology(t, "x"), TOPOLOGY, 'kind = "switch"', 'kind = "web"', "is a 'web'"),
        (lambda t: parse_topology(t, "x"), TOPOLOGY, 'switch = "nvswitch-3"\n', "", "without a switch"),
        (lambda t: parse_topology(t, "x"), TOPOLOGY, '"unverified"', '"sure"', "status 'sure'"),
        (lambda t: parse_topology(t, "x"), TOPOLOGY, "racks = 1", "racks = 0", "at least 1"),
    ],
)
def test_mistakes_in_data_files(read: Callable[[str], Any], text: str, old: str, new: str, words: str) -> None:
    assert old in text
    with pytest.raises(ConfigurationError, match=words):
        read(text.replace(old, new, 1))
