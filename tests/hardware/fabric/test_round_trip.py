"""Round trips: the closed form term by term, what scale allows it, the tail under load."""

from __future__ import annotations

import pytest

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.links import link
from linepress_hardware.fabric.round_trip import (
    default_topology,
    incast,
    levels_needed,
    loaded_round_trips,
    payloads,
    round_trip,
    scale_against_round_trip,
)
from linepress_hardware.fabric.switches import switch
from linepress_hardware.fabric.topologies import custom, topology


@pytest.mark.parametrize(("levels", "expected"), [(1, 875.6), (2, 1901.2)])
def test_sixty_four_bytes_over_ualink(levels: int, expected: float) -> None:
    """2 (k 200 + (k + 1)(10 + 40 + 6.4)) + 2 × 50 + 150 ns, k = 1 and 3."""
    found = round_trip(link("ualink-800g"), switch("ualink-50t"), levels)
    assert found.switches == 2 * levels - 1
    assert found.total_ns == pytest.approx(expected)


def test_a_direct_link_crosses_no_switch() -> None:
    assert round_trip(link("ualink-800g"), None, 0).total_ns == pytest.approx(2 * 56.4 + 250)
    with pytest.raises(ConfigurationError, match="without a switch"):
        round_trip(link("ualink-800g"), None, 1)


def test_the_two_claims_hold_together_only_with_one_level() -> None:
    """Below 1 µs, and 1,024 accelerators: with every switch class there is, two levels are needed and take 2 µs; one
    level takes a switch of 1,024 ports, 204.8 Tb/s at one lane."""
    lane, port = link("ualink-200g"), link("ualink-800g")
    for name in ("ualink-25t", "ualink-50t", "ualink-100t"):
        for each in (lane, port):
            found = scale_against_round_trip(1024, each, switch(name))
            assert found["levels_needed"] >= 2
            assert not found["below_limit"]
            assert found["rtt_ns"] > 1500
    single = scale_against_round_trip(1024, lane, switch("ualink-205t"))
    assert single["levels_needed"] == 1
    assert single["below_limit"]
    assert single["switch_Tbps_for_one_level"] == pytest.approx(204.8)
    smaller = scale_against_round_trip(256, lane, switch("ualink-50t"))
    assert smaller["below_limit"]
    assert smaller["most_accelerators_below_limit"] == 256


@pytest.mark.parametrize(
    ("accelerators", "radix", "levels"), [(64, 64, 1), (65, 64, 2), (2048, 64, 2), (2049, 64, 3), (2, 2, 1)]
)
def test_levels(accelerators: int, radix: int, levels: int) -> None:
    assert levels_needed(accelerators, radix) == levels


@pytest.mark.parametrize(("operation", "sizes"), [("load", (16, 64)), ("store", (64, 16)), ("atomic", (64, 64))])
def test_payloads(operation: str, sizes: tuple[float, float]) -> None:
    assert payloads(operation, 64) == sizes


def test_without_load_the_tail_is_the_closed_form() -> None:
    found = loaded_round_trips(custom("switch", 32), 1e-4, requests=2000)
    assert found["closed_form_ns"] == pytest.approx(875.6)
    assert found["p50_ns"] == pytest.approx(875.6, rel=1e-6)
    assert found["min_ns"] >= 875.6 * (1 - 1e-9)


def test_the_tail_grows_with_load_and_with_a_hot_spot() -> None:
    place = custom("switch", 32)
    rows = [loaded_round_trips(place, load, requests=20_000) for load in (0.1, 0.5, 0.8)]
    assert rows[0]["p99_ns"] < rows[1]["p99_ns"] < rows[2]["p99_ns"]
    assert all(row["min_ns"] >= row["closed_form_ns"] * (1 - 1e-9) for row in rows)
    hot = loaded_round_trips(place, 0.5, requests=20_000, hot_share=0.2)
    assert hot["p999_ns"] > 1.3 * rows[1]["p999_ns"]
    assert rows[1]["delivered_GBps"] == pytest.approx(0.5 * 100 * 64 / (2 * 14 + 64 + 16) * 628 / 640, rel=0.03)
    again = loaded_round_trips(place, 0.5, requests=20_000)
    assert again == rows[1]


@pytest.mark.parametrize("name", ["ualink-1024-leaf-spine", "torus-8x8", "mi300x-8", "nvl72"])
def test_at_low_load_the_median_and_mean_are_closed_forms_of_the_distances(name: str) -> None:
    """Peers of another leaf are four links away, not two: the unloaded form counts each access's own way."""
    found = loaded_round_trips(topology(name), 1e-3, requests=2000)
    assert found["p50_ns"] == pytest.approx(found["closed_form_ns"], rel=1e-3)
    assert found["mean_ns"] == pytest.approx(found["closed_form_mean_ns"], rel=1e-3)
    if name == "ualink-1024-leaf-spine":
        assert found["closed_form_nearest_ns"] < 0.5 * found["closed_form_ns"]


def test_two_levels_take_twice_as_long() -> None:
    found = loaded_round_trips(default_topology("ualink-800g", "ualink-50t", 2, 128), 0.1, requests=5000)
    assert found["p99_ns"] == pytest.approx(1901.2, rel=0.01)


def test_every_size_and_operation_of_memory_semantics() -> None:
    place = custom("switch", 16)
    for operation in ("load", "store", "atomic"):
        for size in (64, 256):
            row = loaded_round_trips(place, 0.05, operation=operation, size_bytes=size, requests=1000)
            formula = round_trip(link("ualink-800g"), switch("ualink-50t"), 1, operation=operation, size_bytes=size)
            assert row["closed_form_ns"] == pytest.approx(formula.total_ns)
            assert row["min_ns"] == pytest.approx(formula.total_ns, rel=1e-3)


def test_incast_against_its_closed_form() -> None:
    found = incast(custom("switch", 17), 16, 65_536)
    assert found["closed_form_ns"] * (1 - 1e-9) <= found["last_ns"] < found["closed_form_ns"] * 1.01
    assert found["victim_ns"] > 2 * found["victim_alone_ns"]
    tight = incast(custom("switch", 17), 16, 65_536, buffer_bytes=4096)
    assert tight["victim_ns"] > found["victim_ns"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"load": 0.0}, "load 0.0"),
        ({"load": -1.0}, "load"),
        ({"load": 0.5, "hot_share": 2.0}, "hot accesses"),
        ({"load": 0.5, "requests": 3}, "100 or more"),
        ({"load": 0.5, "operation": "peek"}, "operation 'peek'"),
        ({"load": 0.5, "size_bytes": 0}, "size above 0"),
    ],
)
def test_mistakes_are_one_sentence(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        loaded_round_trips(topology("nvl72"), **arguments)  # type: ignore[arg-type]


def test_mistakes_in_scale() -> None:
    with pytest.raises(ConfigurationError, match="give at least 2"):
        levels_needed(1, 64)
    with pytest.raises(ConfigurationError, match="4 ports or more"):
        levels_needed(8, 2)
    with pytest.raises(ConfigurationError, match="use 0, 1 or 2"):
        default_topology("ualink-800g", "ualink-50t", 3, None)
    with pytest.raises(ConfigurationError, match="give 1 to 16"):
        incast(custom("switch", 17), 17, 64)
