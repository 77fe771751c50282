"""The channel stage as the run engine calls it, and ``linepress channel`` as a person does."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from linepress.cli.hardware.channel import command
from linepress.errors import LinepressError, SourceError
from linepress.records import RunStore
from linepress.records.schema import CHANNEL_COLUMNS
from linepress.sources import open_source
from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.inputs import from_histogram
from linepress.stages.channel.row import channel_case, spread
from linepress.stages.measure.case import measure_case
from linepress.tables.channel import channel_notes, channel_tables
from linepress.tables.text import heading, show
from linepress_codecs.errors import SpecError
from linepress_codecs.variant import Variant
from linepress_hardware.errors import ConfigurationError, UnknownPartError

N = 3000


def histogram(mean: float = 339.0, deviation: float = 5.6, raw: int = 0) -> tuple[int, ...]:
    rng = np.random.Generator(np.random.PCG64(0))
    bits = np.clip(rng.normal(mean, deviation, 20_000).round(), 1, 511).astype(np.int64)
    counts = np.bincount(bits, minlength=514)
    counts[513] = raw
    return tuple(int(c) for c in counts)


CASE = ChannelCase(
    memory="hbm3",
    packing="stream",
    workload="random",
    codec="huffman",
    data="weights",
    bits_histogram=histogram(),
    table_bytes=500,
    decode_latency_ns=17.5,
    encode_latency_ns=17.5,
    decode_interval_ns=1.0,
    seed=3,
    n_requests=N,
    within_pct=5.0,  # short runs; the default is 1 %
)


def row(**changes: Any) -> dict[str, Any]:
    return channel_case(replace(CASE, **changes))


def test_a_row_holds_every_column_and_only_those() -> None:
    found = row()
    assert set(found) == set(CHANNEL_COLUMNS)
    kinds = {"string": str, "int64": int, "double": (float, int), "bool": bool}
    for name, (kind, text) in CHANNEL_COLUMNS.items():
        assert text
        if kind in kinds:
            assert isinstance(found[name], kinds[kind]), name


def test_same_case_same_row() -> None:
    assert json.dumps(row(), default=str) == json.dumps(row(), default=str)
    assert row(seed=4)["latency_mean_ns"] != row()["latency_mean_ns"]


def test_packing_off_is_the_plain_channel() -> None:
    found = row(packing="off")
    for name in ("sequential", "random", "mixed"):
        assert found[f"gain_{name}"] == 1.0
        assert found[f"closed_form_gain_{name}"] == pytest.approx(1.0)
    assert found["effective_capacity_ratio"] == 1.0
    for name in ("mean", "p50", "p99", "p999"):
        assert found[f"latency_{name}_ns"] == found[f"plain_latency_{name}_ns"]
    assert found["idle_latency_added_ns"] == 0


@pytest.mark.parametrize("packing", ["stream", "classes:set=0/48/64", "slots:slot=46", "groups:lines=48:size=33"])
def test_packings_on_weights(packing: str) -> None:
    found = row(packing=packing)
    assert found["mode"] == "offline"
    assert found["effective_capacity_ratio"] == pytest.approx(found["closed_form_capacity_ratio"], rel=0.03)
    assert found["gain_sequential"] <= found["closed_form_gain_sequential"] * 1.02
    # Within the 5 % of this run's interval: the closed form counts the rows that a coded line and its metadata open.
    assert found["gain_random"] == pytest.approx(found["closed_form_gain_random"], rel=0.06)
    assert found["latency_mean_ns"] > found["plain_latency_mean_ns"]
    assert found["energy_pJ_per_useful_byte"] < found["plain_energy_pJ_per_useful_byte"]
    assert sum(found["where_bandwidth_went"].values()) == pytest.approx(1.0)
    assert sum(found["latency_histogram"]) == N
    outcomes = ("corrected", "detected", "miscorrected", "silent")
    assert found["ecc_injected"] == sum(found[f"ecc_{o}"] for o in outcomes)
    assert found["blast_radius_values"] > found["plain_blast_radius_values"]


def test_kv_is_inline_where_the_packing_takes_writes() -> None:
    found = row(data="kv", packing="classes:set=0/32/48/64", workload="decode")
    assert found["mode"] == "inline"
    assert found["read_modify_writes"] > 0
    assert row(data="kv", packing="stream", workload="kv-gather")["mode"] == "offline"
    assert row(data="kv", packing="slots:slot=48", mode="offline")["mode"] == "offline"


def test_tables_count_in_the_capacity_and_raw_lines_cost_a_line() -> None:
    assert row(table_bytes=100_000)["effective_capacity_ratio"] < row()["effective_capacity_ratio"]
    raw = row(bits_histogram=tuple([0] * 513 + [1000]), table_bytes=0)
    assert raw["effective_capacity_ratio"] < 1.0
    assert raw["gain_sequential"] <= 1.01


def test_placements() -> None:
    tiles = row(placement="dma")
    assert tiles["gain_sequential"] > 1
    assert tiles["gain_random"] < 0.05
    assert row(placement="sram", memory="sram")["gain_sequential"] <= 1.0
    with pytest.raises(LinepressError, match="placement sram needs an SRAM"):
        row(placement="sram")
    with pytest.raises(LinepressError, match="placement 'moon'"):
        row(placement="moon")


def test_lines_of_32_bytes_in_a_row() -> None:
    half = tuple(int(n) for n in np.bincount(np.repeat(np.arange(514) // 2, histogram()), minlength=257))
    short = row(line_bytes=32, bits_histogram=half)
    usual = row()
    assert set(short) == set(usual)
    assert short["line_bytes"] == 32
    assert short["raw_bytes"] == 32 * short["lines"]
    # Twice the tags: the same ratio of payload buys less.
    assert short["effective_capacity_ratio"] == pytest.approx(short["closed_form_capacity_ratio"], rel=0.03)
    assert 1.3 < short["effective_capacity_ratio"] < usual["effective_capacity_ratio"]
    assert short["gain_random"] == pytest.approx(short["closed_form_gain_random"], rel=0.06)
    assert short["gain_random"] < usual["gain_random"]
    assert short["decoders"] == 3  # two ports take a line every 0.42 ns, a decoder one every 1.0
    with pytest.raises(ConfigurationError, match="moves 64 B at once"):
        row(line_bytes=32, bits_histogram=half, memory="ddr5", data="kv", packing="classes:set=0/24/32")


def test_overrides_reach_the_model() -> None:
    assert row(overrides=(("metadata_cache_bytes", 67108864.0),))["metadata_hit_rate_random"] == pytest.approx(
        1.0, abs=0.01
    )
    with pytest.raises(ConfigurationError, match="unknown channel parameter"):
        row(overrides=(("nothing", 1.0),))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"memory": "hbm9"}, UnknownPartError, "unknown memory"),
        ({"packing": "heap"}, SpecError, "unknown packing"),
        ({"workload": "zigzag"}, LinepressError, "unknown workload"),
        ({"bits_histogram": ()}, LinepressError, "counts no line"),
        ({"bits_histogram": (0, 0)}, LinepressError, "counts no line"),
        ({"bits_histogram": (5, -1)}, LinepressError, "counts no line"),
        ({"line_bytes": 16}, ConfigurationError, "line_bytes = 16 B lies outside"),
        ({"overrides": (("line_bytes", 32.0),)}, LinepressError, "does not go with sizes of 64 B lines"),
        ({"mode": "both"}, LinepressError, "mode 'both'"),
        ({"mode": "inline"}, LinepressError, "inline writes need classes or slots"),
        ({"load_pct_peak": 0.0}, LinepressError, "load_pct_peak"),
        ({"n_requests": 5}, ConfigurationError, "too few"),
        ({"ecc_code": "none"}, ConfigurationError, "unknown error-correcting code"),
    ],
)
def test_cases_that_mean_nothing(changes: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        row(**changes)


def test_spread_keeps_proportions_and_order_follows_the_seed() -> None:
    counts = (0, 300, 0, 100)
    bits = spread(counts, 1000, 1)
    assert np.bincount(bits).tolist() == [0, 750, 0, 250]
    assert np.array_equal(bits, spread(counts, 1000, 1))
    assert not np.array_equal(bits, spread(counts, 1000, 2))
    thirds = np.bincount(spread((1, 1, 1), 1000, 0))
    assert sorted(thirds.tolist()) == [333, 333, 334]


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(command, [*arguments], catch_exceptions=True, standalone_mode=False)


def test_the_command_on_histograms(tmp_path: Path) -> None:
    sizes = {b: n for b, n in enumerate(CASE.bits_histogram) if n}
    as_map, as_list, as_csv = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.csv"
    as_map.write_text(json.dumps(sizes))
    as_list.write_text(json.dumps({"bits_histogram": list(CASE.bits_histogram)}))
    as_csv.write_text("bits,lines\n" + "".join(f"{b},{n}\n" for b, n in sizes.items()))
    kinds = [np.trim_zeros(from_histogram(path).histogram, "b") for path in (as_map, as_list, as_csv)]
    assert kinds[0] == kinds[1] == kinds[2]
    result = invoke(
        str(as_map),
        "--memory",
        "hbm3",
        "--memory",
        "ddr5",
        "--packing",
        "stream",
        "--requests",
        str(N),
        "--within",
        "5",
        "--json",
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [r["memory"] for r in document["rows"]] == ["hbm3", "ddr5"]
    assert all(set(r) - {"format", "cast"} == set(CHANNEL_COLUMNS) for r in document["rows"])


def test_the_command_adds_sweeps_blocks_capacity_and_traces(tmp_path: Path) -> None:
    sizes, trace = tmp_path / "a.json", tmp_path / "t.bin"
    sizes.write_text(json.dumps(list(CASE.bits_histogram)))
    (np.arange(500, dtype="<u8") * np.uint64(64) << np.uint64(1)).tofile(trace)
    result = invoke(
        str(sizes), "--memory", "ddr5", "--packing", "stream", "--requests", "1000", "--within", "5",
        "--sweep", "metadata_prefetch", "--load-curve", "--blocks", "--capacity", "--trace", str(trace), "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [r["value"] for r in document["sweeps"]] == [0.0, 1.0]
    assert document["load_curve"][0]["load_pct_peak"] == 1.0
    assert [r["block_bytes"] for r in document["block_baseline"]] == [65536, 4096]
    assert document["capacity"]["held_bytes"] == document["capacity"]["closed_form_held_bytes"]
    assert document["trace"]["accesses"] == 500
    assert document["trace"]["gain"] > 0


def test_the_command_on_a_run_measured_with_32_byte_lines(tmp_path: Path) -> None:
    source = open_source("synthetic:gauss?shape=128x512")
    (tensor,) = source.tensors()
    variant = Variant.of("huffman", {"line": 32})
    found = measure_case(tensor, variant, repeats=0, verify=True)
    told = {"case_key": "a", "row": 0, "status": "ok", "source": "s", "tensor": "t", "variant": variant.spec}
    RunStore.create(tmp_path / "run", {"run_id": "run", "suite": {"name": "s"}}).append(
        "measure", [{**found, **told}]
    )
    result = invoke(
        str(tmp_path / "run"), "--memory", "hbm3", "--memory", "ddr5", "--packing", "stream", "--requests", "1000",
        "--within", "10", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(r["memory"], r["codec"], r["line_bytes"]) for r in rows] == [
        ("hbm3", "huffman:line=32", 32), ("ddr5", "huffman:line=32", 32),
    ]  # fmt: skip
    for r in rows:
        assert r["raw_bytes"] == 2 * 128 * 512
        assert r["gain_random"] == pytest.approx(r["closed_form_gain_random"], rel=0.1)
    # A burst of 64 B is paid for each line of 32 B.
    assert rows[1]["plain_bandwidth_random_GBps"] < 0.4 * rows[1]["plain_bandwidth_sequential_GBps"]


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    sizes = tmp_path / "a.json"
    sizes.write_text(json.dumps(list(CASE.bits_histogram)))
    result = invoke(str(sizes), "--packing", "stream", "--requests", "1000", "--within", "5", "--blocks")
    assert result.exit_code == 0, result.output
    assert "hbm3" in result.stdout
    assert "GB/s" in result.stdout
    assert "block baseline" in result.stdout


def test_the_tables_are_whole_at_120_columns() -> None:
    filled = {"string": "", "int64": 1_234_567, "double": 1.2345, "bool": True}
    told = {name: filled.get(kind) for name, (kind, _) in CHANNEL_COLUMNS.items()}
    told |= {name: 1234.5 for name in told if name.endswith(("_GBps", "_ns"))}
    told |= {"codec": "huffman", "data": "weights", "format": "bf16", "cast": "", "memory": "hbm3e", "decoders": 16}
    told |= {"packing": "stream", "mode": "offline", "workload": "random", "plain_settings_random": "RoCoBaRaCh open"}
    rows = [
        told,
        {**told, "codec": "huffman:tables=4:layout=channel", "data": "kv", "format": "e4m3", "workload": "kv-gather"},
        {**told, "codec": "base-delta", "packing": "classes:set=0/32/48/64", "cast": "fp8:scale=tensor"},
        {**told, "data": "dequantised weights", "gain_random": float("nan"), "gain_random_half_width_pct": 12.34},
    ]
    for table in channel_tables(rows):
        out = io.StringIO()
        show(table, Console(file=out, width=120, force_terminal=True, color_system=None))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= 120
        assert "…" not in out.getvalue()
        for number, column in enumerate(table.columns):
            assert heading(column) in lines[0]
            for shown in (each for group in table.groups for each in group.rows) if column.numeric else ():
                assert shown.cells[number].text in out.getvalue()
        if table.id != "channel-settings":  # which says nothing of a codec
            assert set(lines) >= {"huffman", "huffman:tables=4:layout=channel", "base-delta"}
            named = [line for line in lines if "hbm3e" in line]
            assert all("bf16" in line or "e4m3" in line or "dequantised" in line for line in named)
            assert "weights bf16" in out.getvalue()
    (said,) = [note for note in channel_notes(rows) if note.startswith("–")]
    assert "1 of 13 gains (hbm3e random)" in said


def test_a_refusal_is_said_once(tmp_path: Path) -> None:
    sizes = tmp_path / "a.json"
    sizes.write_text(json.dumps(list(CASE.bits_histogram)))
    result = CliRunner().invoke(
        command,
        [str(sizes), "--packing", "heap", "--memory", "hbm3", "--memory", "ddr5", "--memory", "lpddr5"],
        standalone_mode=False,
    )
    assert result.return_value == 3
    assert result.stderr.count("unknown packing") == 1
    assert "failed, 3 cases of 3" in result.stderr


def test_one_bad_case_among_good_ones_fails_alone(tmp_path: Path) -> None:
    sizes = tmp_path / "a.json"
    sizes.write_text(json.dumps(list(CASE.bits_histogram)))
    result = CliRunner().invoke(
        command,
        [str(sizes), "--packing", "stream", "--packing", "heap", "--requests", "500", "--within", "5", "--json"],
        standalone_mode=False,
    )  # fmt: skip
    assert result.return_value == 2
    document = json.loads(result.stdout)
    assert len(document["rows"]) == 1
    assert "unknown packing" in document["failed"][0]["error"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "3", "holds int"),
        ("a.json", "[0, 0]", "counts no line"),
        ("a.json", '{"x": 3}', "whole numbers"),
        ("a.json", '{"5": -3}', "out of range"),
        ("a.json", '{"99999": 3}', "out of range"),
        ("a.json", '{"5": 2.5}', "out of range"),
        ("a.csv", "size,n\n1,2\n", "columns bits and lines"),
        ("a.csv", "bits,lines\n1,many\n", "whole numbers"),
    ],
)
def test_bad_histograms(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        from_histogram(path)


def test_bad_inputs_of_the_command(tmp_path: Path) -> None:
    sizes = tmp_path / "a.json"
    sizes.write_text(json.dumps(list(CASE.bits_histogram)))
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"12345")
    for arguments, says in (
        ((str(tmp_path / "none.bin"),), "neither a histogram"),
        ((str(tmp_path / "none.json"),), "cannot be read"),
        (
            (str(sizes), "--trace", str(odd), "--packing", "stream", "--requests", "500", "--within", "9"),
            "not a whole number of 8 B words",
        ),
        (
            (
                str(sizes),
                "--trace",
                str(tmp_path / "no"),
                "--packing",
                "stream",
                "--requests",
                "500",
                "--within",
                "9",
            ),
            "cannot be read",
        ),
        (
            (str(sizes), "--sweep", "colour", "--packing", "stream", "--requests", "500", "--within", "9"),
            "no sweep of 'colour'",
        ),
        ((str(sizes), "--set", "axi_outstanding"), "key=number"),
        ((str(sizes), "--packing", "heap"), "unknown packing"),
    ):
        result = invoke(*arguments)
        assert result.exit_code != 0
        assert says in str(result.exception) + result.output
