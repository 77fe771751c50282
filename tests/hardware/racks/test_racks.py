"""Rack tables against the reference computed by hand, every contradiction named, every figure sourced."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from linepress_hardware.catalog.accelerators import accelerator, accelerators, parse_accelerator
from linepress_hardware.catalog.figures import STATUSES, UNITS, Datum, figure
from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.racks.racks import chips_per_rack, derive, parse_rack, rack, racks
from linepress_hardware.racks.tables import table_a, table_b

DATA = Path(__file__).parents[2] / "data" / "racks"
GOOD = {"value": 80, "unit": "GB", "source": "sheet", "status": "sourced"}


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_table_a_equals_the_reference() -> None:
    ours = {row["row"]: row for row in table_a()["rows"]}
    reference = _rows("rack_table_a.csv")
    assert [row["row"] for row in reference] == list(ours)
    same = (
        "seed_TB_low",
        "seed_TB_high",
        "seed_chips_per_rack",
        "TB_from_seed_basis_low",
        "TB_from_seed_basis_high",
        "GB_per_chip_published",
        "TB_at_seed_chips",
        "chips_for_seed_TB",
        "bandwidth_GBps_per_chip",
        "TBps_at_seed_chips",
        "chip_W",
        "chips_kW_at_seed_chips",
    )
    for row in reference:
        for key in same:
            if row[key]:
                # The reference rounds quotients to one decimal.
                assert ours[row["row"]][key] == pytest.approx(float(row[key]), rel=1e-3, abs=0.05), (row["row"], key)
            elif row["row"] not in ("Cerebras CS-3",):
                assert ours[row["row"]][key] is None or key == "chip_W", (row["row"], key)


def test_table_b_equals_the_reference() -> None:
    table = table_b()
    rows = {row["key"]: row for row in table["rows"]}
    columns = {
        "rack_units_calc": "rack_height",
        "chips_calc": "rack_chips",
        "cores_calc": "rack_cores",
        "onchip_GB_calc": "rack_onchip",
        "rack_kW_calc": "rack_power",
        "rack_MUSD_calc": "rack_price",
    }
    for row in _rows("rack_table_b.csv"):
        i = table["columns"].index(row["system"])
        for theirs, key in columns.items():
            computed = rows[key]["computed"][i]
            assert (computed is None) == (not row[theirs]), (row["system"], key)
            if row[theirs]:
                assert computed == pytest.approx(float(row[theirs])), (row["system"], key)


def test_every_cell_of_the_talk_is_kept_as_printed() -> None:
    assert [row["printed"] for row in table_a()["rows"]] == [
        "1.2–1200",
        "2.56",
        "4.5",
        "4.5",
        "3.0",
        "3.0",
        "0.2",
        "1.0",
        "10",
    ]
    rows = {row["key"]: row["printed"] for row in table_b()["rows"]}
    assert len(table_b()["rows"]) == 18
    assert rows["rack_power"] == ["46 kW", "41.6 kW", "43.9 kW"]
    assert rows["rack_cores"] == ["900000", "33792 FP32", "-"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("b", "DGX B200: Rack Power a rack is 3 × 14.3 = 42.9 kW, the cell says 43.9 kW"),
        ("b", "CS-3: On-Chip Memory a rack is 2 × 44 = 88 GB, the cell says 44 GB"),
        ("b", "CS-3: # Cores/Rack a rack is 2 × 900,000 = 1,800,000"),
        ("b", "32 × 16,896 = 540,672, the cell says 33792 FP32"),
        ("b", "the cells of DGX H100 and DGX B200 look swapped"),
        ("a", "AMD MI300X: the note multiplies out to 8 × 192 GB = 1.536 TB"),
        ("a", "80 × the published 144 GB of HBM3E is 11.52 TB"),
        ("a", "Groq LPU: 0.2 TB takes 869.6 chips"),
        ("a", "HBM2e is the PCIe card"),
    ],
)
def test_contradictions_are_named(table: str, words: str) -> None:
    found = (table_a() if table == "a" else table_b())["findings"]
    assert any(words in finding.sentence for finding in found)


def test_what_agrees_is_no_finding() -> None:
    sentences = " ".join(finding.sentence for finding in table_b()["findings"])
    assert "Rack Price" not in sentences
    assert "Chips/Rack" not in sentences
    assert not any(f.row == "NVIDIA DGX H100" and f.cell in ("basis", "published") for f in table_a()["findings"])
    assert not any(
        f.row == "d-Matrix M1200" and f.cell == "basis" for f in table_a()["findings"]
    )  # 1.024 rounds to 1.0


def test_derived_quantities_equal_the_reference() -> None:
    names = {"CS-3": "cs-3", "DGX H100": "dgx-h100", "DGX B200": "dgx-b200"}
    for row in _rows("rack_table_b.csv"):
        ours = derive(rack(names[row["system"]]))[0]
        if row["system"] == "DGX B200":  # the reference counts 8,000 GB/s a GPU; the part's cited file says 7,700
            ours["TBps"] *= 8 / 7.7
            ours["TBps_per_kW"] *= 8 / 7.7
            ours["kUSD_per_TBps"] *= 7.7 / 8
        pairs = {
            "rack_memory_TB_low": "TB",
            "rack_TBps": "TBps",
            "kW_per_TB": "kW_per_TB",
            "kUSD_per_TB": "kUSD_per_TB",
            "TBps_per_kW": "TBps_per_kW",
            "kUSD_per_TBps": "kUSD_per_TBps",
        }
        for theirs, key in pairs.items():
            digits = len(row[theirs].partition(".")[2])
            assert round(ours[key], digits) == pytest.approx(float(row[theirs])), (row["system"], key)


@pytest.mark.parametrize(
    ("ratio", "TB", "kUSD_per_TB", "kW_per_TB"),
    [(1.25, 3.2, 437.5, 13.0), (1.5, 3.84, 364.6, 10.83), (2, 5.12, 273.4, 8.125)],
)
def test_a_ratio_makes_terabytes_cheaper(ratio: float, TB: float, kUSD_per_TB: float, kW_per_TB: float) -> None:
    row = derive(rack("dgx-h100"), ratio)[0]
    assert row["effective_TB"] == pytest.approx(TB)
    assert row["effective_kUSD_per_TB"] == pytest.approx(kUSD_per_TB, abs=0.05)
    assert row["effective_kW_per_TB"] == pytest.approx(kW_per_TB, abs=0.005)
    assert row["effective_W_per_TB"] == pytest.approx(1000 * row["effective_kW_per_TB"])
    assert row["effective_TBps"] == pytest.approx(ratio * row["TBps"])
    stuck = derive(rack("dgx-h100"), ratio, decompressor_keeps_up=False)[0]
    assert stuck["effective_TBps"] == stuck["TBps"]


def test_quotients_over_two_tiers_are_marked() -> None:
    shared, wafer = derive(rack("cs-3"))
    assert shared["tiers_differ"]
    assert not wafer["tiers_differ"]
    assert shared["TB"] == 1.2  # one store, whatever the number of systems
    assert wafer["TB"] == pytest.approx(0.088)


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf")])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigurationError, match="ratio"):
        derive(rack("dgx-h100"), ratio)


def _figures(value: Any) -> list[Datum]:
    if isinstance(value, Datum):
        return [value]
    if isinstance(value, dict):
        return [found for part in value.values() for found in _figures(part)]
    if isinstance(value, tuple | list):
        return [found for part in value for found in _figures(part)]
    return [found for part in vars(value).values() for found in _figures(part)] if hasattr(value, "__dict__") else []


def test_every_figure_has_source_status_and_unit() -> None:
    found = [figure for part in accelerators().values() for figure in _figures(part)]
    found += [figure for one in racks().values() for figure in _figures(one.figures)]
    assert len(found) > 150
    for one in found:
        assert one.source
        assert one.status in STATUSES
        assert one.unit in UNITS


TALK = (
    "Cerebras CS-3",
    "WSE-3",
    "DGX H100",
    "DGX B200",
    "GB200 NVL72",
    "MI300X",
    "Biren BR104",
    "FuriosaAI RNGD",
    "Rebellions REBEL",
    "Groq LPU",
    "d-Matrix M1200",
    "SambaNova SN40L",
    "A6000",
    "A100",
    "H200",
)


@pytest.mark.parametrize("name", TALK)
def test_every_accelerator_of_the_talk_is_there(name: str) -> None:
    assert accelerator(name).capacity_bytes > 0
    assert accelerator(name).bandwidth_Bps > 0


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UnknownPartError, match="h100"):
        accelerator("h10")
    with pytest.raises(UnknownPartError, match="dgx-h100"):
        rack("dgx-h10")
    assert chips_per_rack("h100").chips == 32
    assert chips_per_rack("a6000").chips is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "PiB"}, "unknown unit 'PiB'; use one of B, MB, GB, TB, MiB, GiB"),
        ({"unit": "GB/s"}, "is in GB/s, which is no bytes; use B, MB, GB, TB, MiB, GiB"),
        ({"value": 0}, "above 0"),
        ({"value": -1}, "above 0"),
        ({"value": "80"}, "above 0"),
        ({"value": True}, "above 0"),
        ({"high": 10}, "high end"),
        ({"status": "sure"}, "status 'sure'"),
        ({"source": ""}, "empty source"),
        ({"tier": "tape"}, "tier 'tape'"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_figures_are_checked(change: dict[str, Any], words: str) -> None:
    figure(GOOD, "f", "bytes")
    with pytest.raises(ConfigurationError, match=words):
        figure({**GOOD, **change}, "f", "bytes")


@pytest.mark.parametrize("key", ["value", "unit", "source", "status"])
def test_a_figure_needs_all_four(key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no {key}"):
        figure({k: v for k, v in GOOD.items() if k != key}, "f", "bytes")
    with pytest.raises(ConfigurationError, match="f is 80"):
        figure(80, "f", "bytes")


PART = """
name = "chip"
title = "Chip"
aliases = ["c"]
[[memory]]
tier = "HBM"
capacity = { value = 80, unit = "GB", source = "s", status = "seed" }
bandwidth = { value = 3, unit = "TB/s", source = "s", status = "seed" }
[peak]
bits_16 = { value = 1, unit = "Pop/s", source = "s", status = "seed" }
"""


def test_one_file_makes_an_accelerator() -> None:
    part = parse_accelerator(PART, "chip.toml")
    assert (part.capacity_bytes, part.bandwidth_Bps, part.peak_ops(16)) == (80e9, 3e12, 1e15)
    assert part.peak_ops(4) == 1e15
    with pytest.raises(ConfigurationError, match="32-bit operands"):
        part.peak_ops(32)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title", "titel", "unknown key 'titel'"),
        ('title = "Chip"', "", "no title"),
        ("[peak]", "[peak", "not TOML"),
        ("bits_16", "fp16", "unknown key 'fp16'; use bits_16"),
        ('tier = "HBM"', 'tier = "tape"', "tier 'tape'"),
        ('tier = "HBM"', 'tier = "HBM"\nscope = "moon"', "scope 'moon'"),
        ('"TB/s"', '"TB"', "chip.toml memory.0. bandwidth is in TB"),
    ],
)
def test_mistakes_in_an_accelerators_file_are_named(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_accelerator(PART.replace(old, new, 1), "chip.toml")


def test_mistakes_in_a_racks_file_are_named() -> None:
    count = '{ value = 4, unit = "count", source = "s", status = "seed" }'
    text = f'name = "r"\ntitle = "R"\naccelerator = "h100"\nsystems = {count}\nchips_per_system = {count}\n'
    assert parse_rack(text, "r.toml").chips == 16
    for change, words in (
        (text + "colour = 1", "unknown key"),
        (text.replace("systems = ", "sytems = ", 1), "unknown key 'sytems'"),
        (text.replace("value = 4", "value = 4.5", 1), "whole number"),
        (text.replace('"h100"', '"h1000"'), "unknown"),
        ("name =", "not TOML"),
        ('name = "r"', "no title"),
    ):
        with pytest.raises((ConfigurationError, UnknownPartError), match=words):
            parse_rack(change, "r.toml")
