"""``linepress dram`` from the outside: keys, exit codes, one-sentence errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from linepress.cli.hardware.dram import command
from linepress.errors import LinepressError
from linepress_hardware.errors import HardwareError

KEYS = {
    "bandwidth_GBps",
    "bandwidth_pct_peak",
    "read_latency_mean_ns",
    "read_latency_p50_ns",
    "read_latency_p99_ns",
    "row_hit_rate",
    "requests_per_s",
    "peak_GBps",
    "bus_time_pct",
    "energy_pJ",
}


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), standalone_mode=False, catch_exceptions=True)


def _json(*arguments: str) -> dict[str, object]:
    result = _run(*arguments, "--json")
    assert result.exception is None, result.exception
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("part", ["hbm3", "ddr5", "sram", "hbf"])
def test_json_has_the_promised_keys(part: str) -> None:
    document = _json(part, "--pattern", "rand", "--requests", "2000")
    assert set(document) >= KEYS
    assert document["n_requests"] == 2000


def test_options_reach_the_engine(tmp_path: Path) -> None:
    base = _json("hbm3", "--pattern", "rand", "--requests", "3000")
    assert (
        _json("hbm3", "--pattern", "rand", "--requests", "3000", "--no-refresh")["bandwidth_GBps"]
        > base["bandwidth_GBps"]
    )
    assert (
        _json("hbm3", "--pattern", "rand", "--requests", "3000", "--set", "tFAW=60")["bandwidth_GBps"]
        < base["bandwidth_GBps"]
    )
    assert (
        _json("hbm3", "--pattern", "rand", "--requests", "3000", "--mapping", "RoBaRaCoCh")["mapping"] == "RoBaRaCoCh"
    )
    assert _json("hbm3", "--pattern", "rand", "--requests", "300", "--policy", "closed")["row_hit_rate"] == 0
    assert _json("hbm3", "--pattern", "rand", "--requests", "300", "--window", "1")["bandwidth_GBps"] < 2
    slow = _json("hbm3", "--pattern", "seq", "--requests", "300", "--interval-ns", "64")
    assert slow["bandwidth_GBps"] == pytest.approx(1.0, rel=0.02)
    many = _json("hbm3", "--pattern", "rand", "--requests", "300", "--channels", "16")
    assert many["bandwidth_all_channels_GBps"] == pytest.approx(16 * many["bandwidth_GBps"])
    file = tmp_path / "trace.bin"
    file.write_bytes((np.arange(100, dtype="<u8") << 7).tobytes())
    assert _json("hbm3", "--trace", str(file))["n_requests"] == 100


def test_check_passes_and_fails_with_exit_codes() -> None:
    passing = _run("hbm3", "--pattern", "rw70", "--requests", "2000", "--check")
    assert passing.return_value == 0
    failing = _run("ddr4", "--pattern", "rw70", "--requests", "2000", "--check")  # its preset lets data overlap
    assert failing.return_value == 1
    assert "wires are busy" in failing.stderr


def test_text_says_where_the_bandwidth_went() -> None:
    text = _run("hbm3", "--pattern", "rand", "--requests", "4000").stdout
    for words in ("peak", "achieved", "refresh", "activate waits", "read latency", "GB/s", "energy"):
        assert words in text


def test_list_and_show() -> None:
    assert "MOP4CLXOR" in _run("--list").stdout
    assert set(_json("--list")) == {"memories", "mappings", "patterns"}
    assert "Ramulator" in _run("hbm3", "--show").stdout
    figures = _json("hbm3", "--show")["figures"]
    assert isinstance(figures, list)
    assert all(f["source"] and f["status"] for f in figures)
    assert "page_bytes" in _run("hbf", "--show").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a memory"),
        (["hbm3"], "give either --pattern NAME or --trace FILE"),
        (["nix", "--pattern", "seq"], "unknown memory 'nix'"),
        (["hbm3", "--pattern", "nix"], "unknown pattern"),
        (["hbm3", "--pattern", "seq", "--set", "tFAW"], "is not KEY=NUMBER"),
        (["hbm3", "--pattern", "seq", "--set", "tFAW=1", "--set", "tFAW=2"], "gives tFAW twice"),
        (["hbm3", "--pattern", "seq", "--set", "tXX=1"], "no override 'tXX'"),
        (["hbm3", "--pattern", "seq", "--set", "tRC=1"], "is below tRAS"),
        (["hbm3", "--pattern", "seq", "--interval-ns", "5", "--window", "2"], "exclude each other"),
        (["hbm3", "--pattern", "seq", "--mapping", "co,pc,rk,bg,ba,ro/ro0^bg0/bg0^ro0"], "not bijective"),
        (["sram", "--pattern", "seq", "--check"], "no command log to check"),
        (["sram", "--pattern", "seq", "--policy", "closed"], "no address mapping, policy"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str) -> None:
    result = _run(*arguments)
    assert isinstance(result.exception, LinepressError | HardwareError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_bad_trace_files(tmp_path: Path) -> None:
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"123456789")
    assert "multiple of 8" in str(_run("hbm3", "--trace", str(odd)).exception)
    short = tmp_path / "short.bin"
    short.write_bytes(bytes(80))
    assert "fewer than --requests 11" in str(_run("hbm3", "--trace", str(short), "--requests", "11").exception)
    outside = tmp_path / "outside.bin"
    outside.write_bytes((np.array([1 << 40], "<u8") << 1).tobytes())
    assert "lies outside part" in str(_run("hbm3", "--trace", str(outside)).exception)
    assert "belongs to --pattern" in str(_run("hbm3", "--trace", str(short), "--seed", "1").exception)
    assert isinstance(_run("hbm3", "--trace", str(tmp_path / "none.bin")).exception, OSError)
