"""Parts as data: sources beside figures, clocks derived, contradictions refused."""

from __future__ import annotations

import copy
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from linepress_hardware.dram import load_memory, load_part, load_simple, part_names, simple_names, simulate
from linepress_hardware.dram.parts import part_from_document
from linepress_hardware.dram.simple import simple_from_document
from linepress_hardware.errors import ConfigurationError, UnknownPartError

PEAKS = {
    "hbm2": 32.0,
    "hbm3": 51.2,
    "hbm3e": 76.8,
    "hbm4": 64.0,
    "ddr4": 25.6,
    "ddr5": 19.2308,
    "lpddr5": 12.8,
    "lpddr5x": 17.0667,
    "gddr6": 28.0702,
    "gddr7": 28.0210,
}


def _document(name: str) -> dict[str, Any]:
    text = (resources.files("linepress_hardware") / "data" / "memories" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def test_the_ten_dram_parts_and_two_others_are_packaged() -> None:
    assert part_names() == sorted(PEAKS)
    assert simple_names() == ["hbf", "sram"]


@pytest.mark.parametrize("name", sorted(PEAKS))
def test_peak_and_sources(name: str) -> None:
    part = load_part(name)
    assert part.peak_GBps == pytest.approx(PEAKS[name], rel=1e-4)
    assert all(f.source and f.status for f in part.figures)
    statuses = {"preset", "published", "derived", "estimated", "unverified"}
    assert {f.status for f in part.figures} <= statuses


def test_names_do_not_mind_case() -> None:
    assert load_part("HBM3").name == "hbm3"


def test_clocks_round_up_and_refresh_rounds_down() -> None:
    part = load_part("hbm3", {"tRP": 16.3, "tREFI": 3899.9})
    assert part.ck["RP"] == 27  # 26.08
    assert part.ck["REFI"] == 6239  # 6239.84


def test_a_new_part_is_one_file(tmp_path: Path) -> None:
    text = (resources.files("linepress_hardware") / "data" / "memories" / "hbm3.toml").read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(text.replace('name = "hbm3"', 'name = "mine"').replace("ns = 15.0, source", "ns = 30.0, source"))
    part = load_part(str(file))
    assert part.name == "mine"
    assert part.ck["FAW"] == 48
    assert simulate(part, [0, 64, 128]).part == "mine"


def _broken(change: dict[str, Any]) -> dict[str, Any]:
    doc = copy.deepcopy(_document("hbm3"))
    for path, value in change.items():
        section, _, key = path.rpartition(".")
        target = doc[section] if section else doc
        if value is None:
            del target[key]
        else:
            target[key] = value
    return doc


def _ns(value: float) -> dict[str, Any]:
    return {"ns": value, "source": "timing"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timing.RC": _ns(1.0)}, "tRC .* is below tRAS"),
        ({"timing.RAS": _ns(10.0), "timing.RC": _ns(45.0)}, "tRAS .* is below tRCDRD"),
        ({"timing.CCDS": {"ck": 1, "source": "timing"}}, "data would collide"),
        ({"timing.CCDL": {"ck": 1, "source": "timing"}}, "tCCDL 1 clocks is below"),
        ({"timing.FAW": _ns(1.0)}, "tFAW 2 clocks is below"),
        ({"timing.REFI": _ns(300.0)}, "leaves no time"),
        ({"timing.WTRL": _ns(1.0)}, "tWTRL 2 clocks is below"),
        ({"timing.RRDL": _ns(1.0)}, "tRRDL 2 clocks is below"),
        ({"timing.CL": None}, "timing CL is missing"),
        ({"timing.RP": {"source": "timing"}}, "must give ns, ck or both"),
        ({"timing.RP": {"ns": 5.0, "source": "nowhere"}}, "needs a source"),
        ({"timing.RP": {"ns": -5.0, "source": "timing"}}, "must be a finite number"),
        ({"timing.XYZ": _ns(1.0)}, "unknown timing 'XYZ'"),
        ({"timing.RP": _ns(0.0)}, "tRP rounds to 0 clocks"),
        ({"organisation.rows": {"value": 1000, "source": "org"}}, "power of two"),
        ({"organisation.rows": None}, "must be a table"),
        ({"energy.xyz": {"value": 1, "source": "org"}}, "unknown energy figure"),
        ({"standard": "HBM9"}, "is not one of HBM2"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_contradictions_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        part_from_document(_broken(change))


def test_the_unbroken_document_is_taken() -> None:
    assert part_from_document(_document("hbm3")).ck == load_part("hbm3").ck


@pytest.mark.parametrize(
    ("name", "overrides", "error", "message"),
    [
        ("nix", {}, UnknownPartError, "unknown memory 'nix'"),
        ("nix.toml", {}, UnknownPartError, "no such part file"),
        ("hbm3", {"tFOO": 1.0}, ConfigurationError, "no override 'tFOO'"),
        ("hbm3", {"tRP": float("nan")}, ConfigurationError, "finite"),
        ("hbm3", {"tRP": "x"}, ConfigurationError, "is not a number"),
        ("hbm3", {"ranks": 3}, ConfigurationError, "power of two"),
        ("hbf", {"pages": 3}, ConfigurationError, "no override 'pages'"),
        ("sram", {"latency": -1}, ConfigurationError, "above 0"),
    ],
)
def test_bad_names_and_overrides(name: str, overrides: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_memory(name, overrides)


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe not toml")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load_part(str(file))


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(ConfigurationError, match="not DRAM"):
        load_part("hbf")
    with pytest.raises(ConfigurationError, match="load it with load_part"):
        load_simple("hbm3")
    broken = _document("sram")
    broken["timing"]["latency"] = {"ns": 1.0}
    with pytest.raises(ConfigurationError, match="a listed source"):
        simple_from_document(broken)


def test_an_override_shows_in_the_result() -> None:
    trace = [64 * i * 977 % (1 << 28) for i in range(3000)]
    slow = simulate(load_part("hbm3", {"tFAW": 60.0}), trace)
    fast = simulate(load_part("hbm3"), trace)
    assert slow.bandwidth_GBps < 0.5 * fast.bandwidth_GBps
