"""``linepress fabric`` and the fabric stage from the outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.hardware.fabric import command
from linepress.errors import LinepressError
from linepress.records.schema import schema
from linepress.stages.fabric import TOPOLOGIES, FabricCase, fabric_case
from linepress_hardware.errors import HardwareError
from linepress_hardware.fabric.collectives import all_reduce

ISSUE = "allreduce --topology switch --algorithm ring -n 64 --size 1GiB --bandwidth-GBps 450 --latency-ns 250 --json"


def run(line: str) -> str:
    done = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def document(line: str) -> Any:
    return json.loads(run(line))


def test_the_line_of_the_issue() -> None:
    row = document(ISSUE)
    expected = all_reduce("ring", 64, 2**30, latency_s=250e-9, bandwidth_Bps=450e9).time_s
    assert row["closed_form_s"] == pytest.approx(expected, rel=1e-12)
    assert row["time_s"] == pytest.approx(expected, rel=1e-9)
    assert row["method"] == "simulation"
    assert row["packets"] > 0


def test_astra_sims_convention() -> None:
    line = "allreduce --convention astra-sim --topology switch --algorithm ring -n 8 --size 1GiB"
    row = document(f"{line} --bandwidth-GBps 900 --latency-ns 250 --json")
    assert row["time_ns"] == 1_951_447
    aware = document(f"{line} --bandwidth-GBps 900 --latency-ns 250 --backend congestion_aware --json")
    assert aware["time_ns"] == 3_895_879


def test_packaged_topology_with_ratio() -> None:
    row = document("allreduce --topology nvl72 --algorithm direct --size 64MiB --ratio 1.5 --codec-ns 30 --json")
    assert row["devices"] == 72
    assert 1 < row["speedup"] < 1.5


def test_the_machine_stands_beside_what_its_wires_allow() -> None:
    row = document("allreduce --topology nvl72 --algorithm in-network-nvls --size 1GiB --no-simulate --json")
    assert row["bus_bandwidth_GBps"] > 1_500
    assert row["machine_bus_GBps"] == pytest.approx(681, rel=0.1)
    assert row["machine_band"] < 0.15
    assert "machine_time_s" not in document("allreduce --topology ring-8 --algorithm ring --no-simulate --json")
    assert "a machine takes" in run("allreduce --topology dgx-h100 --algorithm ring --no-simulate")
    tree = document("allreduce --algorithm double-tree -n 2 --size 1MiB --latency-ns 0 --no-simulate --json")
    assert tree["usual_double_tree_s"] == pytest.approx(2 * tree["closed_form_s"])


def test_collectives_of_machines() -> None:
    assert {one["system"] for one in document("collective --json")} >= {"h100-sxm", "a100-sxm", "gb200", "b200-sxm"}
    (row,) = document("collective h100 -n 8 --size 1GiB --library nccl --json")
    assert row["curve"] == "nccl-nvls"
    assert row["bus_GBps"] == pytest.approx(463, rel=0.05)
    assert len(document("collective mi300x --json")) == 10
    assert "do not transfer" in run("collective mi300x --size 1MiB")
    assert "within 10 %" in run("collective --check")
    assert {row["system"] for row in document("collective gb200 --check --json")} == {"gb200"}
    assert "worst held out" in run("collective")


def test_compressed_collectives() -> None:
    found = document("compressed h100 -n 8 --ratio 1.486 --size 1GiB --json")
    assert found["collectives"][0]["speedup"] == pytest.approx(1.14, abs=0.02)
    assert found["wins"][-1][1] == 2**36
    assert {"nvlink-5", "ualink-2.0-800g"} <= {row["link"] for row in found["links"]}
    slow = "--encode-GBps 100 --decode-GBps 100 --message-us 10 --no-overlap"
    assert "never pays" in run(f"compressed h100 -n 8 --ratio 1.4 {slow}")


def test_a_port_at_a_bit_error_rate() -> None:
    found = document("port --ber 1e-3 --load 0.5 --messages 5000 --json")
    assert found["port"]["flits_for_full_rate"] == 11
    assert found["port_to_port"]["limit_ns"] == 200
    assert found["port_to_port"]["p50_ns"] > 200
    assert "port to port" in run("port --load 0 --messages 500")


def test_round_trip_and_scale() -> None:
    found = document("rtt --json")
    assert found["rtt_ns"] == pytest.approx(875.6)
    assert found["scale"]["levels_needed"] == 2
    loaded = document("rtt --load 0.4 --requests 2000 --json")["loaded"]
    assert loaded["p999_ns"] >= loaded["p50_ns"] >= loaded["closed_form_ns"] * (1 - 1e-9)
    assert document("rtt --topology ualink-1024-4racks --json")["scale"]["below_limit"]


def test_topology_memory_and_transfer() -> None:
    assert document("topology nvl72 --json")["counts"]["wire_pairs"] == 5184
    assert len(document("topology --json")) >= 9
    pods = document("topology torus -n 64 --dims 8x8 --vpod 16 --jobs 50 --json")
    assert pods["vpod"]["usable_GBps"] == 300
    assert pods["stream"]["policy"] == "block"
    memory = document("memory --topology nvl72 --local-GBps 8000 --ratio 1.5 --json")
    assert [pool["decompress_at"] for pool in memory["pool"]] == ["owner", "reader"]
    assert memory["transfers"][0]["faster"] == "loads"
    moved = document("kv-transfer --model llama-3.1-8b --tokens 1024 --ratio 1.5 --json")
    assert moved["kv_bytes"] == 1024 * 131_072
    assert moved["speedup"] == pytest.approx(1.5, rel=0.01)
    assert document("kv-transfer --kv-size 1MiB --json")["kv_bytes"] == 2**20


@pytest.mark.parametrize(
    "line",
    [
        ISSUE.replace(" --json", ""),
        "allreduce --convention astra-sim -n 8 --size 1MiB",
        "rtt --load 0.2 --requests 1000",
        "rtt --levels 0",
        "topology",
        "topology mesh -n 16 --vpod 4 --jobs 20",
        "memory",
        "kv-transfer --tokens 128",
    ],
)
def test_tables_have_units(line: str) -> None:
    text = run(line)
    assert any(unit in text for unit in (" ns", "GB/s", " s ", "ms", "µs"))


def test_a_topology_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ntitle = "Mine"\nkind = "mesh"\naccelerators = 4\nlink = "ualink-800g"\nracks = 1\n'
        'medium = "board"\nsource = "this test"\nstatus = "unverified"\n',
        encoding="utf-8",
    )
    assert document(f"topology {file} --json")["counts"]["links"] == 6
    assert document(f"allreduce --topology {file} --algorithm direct --size 1MiB --json")["devices"] == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("allreduce --size 5parsecs", "is not a size"),
        ("allreduce --size 0", "moves nothing"),
        ("allreduce --bandwidth-GBps 0", "rate above 0"),
        ("allreduce --bandwidth-GBps -3", "rate above 0"),
        ("allreduce --latency-ns -5", "latency is -5.0 ns"),
        ("allreduce --algorithm halving-doubling -n 6", "use 4 or 8, or ring"),
        ("allreduce --algorithm gossip", "'gossip' is unknown"),
        ("allreduce --topology nvl27", "did you mean nvl72"),
        ("allreduce --topology none.toml", "there is no file"),
        ("allreduce --convention astra-sim --operation send", "drop --convention"),
        ("allreduce --ratio 0", "above 0"),
        ("topology switch -n 1024", "use topology leaf-spine"),
        ("topology torus -n 64 --dims 8by8", "write them like 8x8"),
        ("rtt --load 0", "share of the link above 0"),
        ("rtt --link ualink-9", "did you mean"),
        ("collective h1000", "did you mean h100"),
        ("collective h100 -n 16", "joins 8 accelerators"),
        ("collective h100 --library gloo", "no curve gloo"),
        ("compressed h100 --ratio 0", "ratio is 0.0"),
        ("compressed mi300x", "no all_reduce is measured"),
        ("port --ber 0.9", "bit error rate of 0.9"),
        ("port --link nvlink-5", "has no flits"),
        ("port --load 1", "below 1"),
        ("kv-transfer --tokens 0", "numbers above 0"),
        ("kv-transfer --prefill 0", "1 or more of each"),
    ],
)
def test_mistakes_are_one_sentence(line: str, words: str) -> None:
    with pytest.raises((HardwareError, LinepressError), match=words) as caught:
        CliRunner().invoke(command, line.split(), catch_exceptions=False)
    assert "\n" not in str(caught.value)


def case(**values: Any) -> FabricCase:
    given = {
        "accelerator": "h100-sxm",
        "topology": "switch",
        "operation": "all_reduce",
        "devices": 8,
        "size_bytes": 1 << 20,
        "codec": "huffman",
        "data": "kv",
        "packing": "stream",
        "ratio": 1.4,
    }
    return FabricCase(**{**given, **values})


@pytest.mark.parametrize("topology", [name for name in TOPOLOGIES if "1024" not in name])
def test_stage_rows_by_closed_form_and_simulation(topology: str) -> None:
    devices = {"nvl72": 72, "torus-8x8": 64, "torus-4x4x4": 64}.get(topology, 8)
    row = fabric_case(case(topology=topology, devices=devices))
    assert row["simulated_s"] >= row["bound_s"] * (1 - 1e-9)
    assert row["simulated_s"] == pytest.approx(row["closed_form_s"], rel=0.02)
    assert row["plain_simulated_s"] > row["simulated_s"]
    known = set(schema("fabric").names)
    assert set(row) <= known


def test_stage_rows_without_a_closed_form() -> None:
    ring = fabric_case(case(topology="ring", operation="all_to_all"))
    assert ring["method"] == "simulation"
    assert ring["time_s"] == ring["simulated_s"]
    large = fabric_case(case(topology="ualink-1024-4racks", devices=1024))
    assert large["method"] == "closed form"
    assert "simulated_s" not in large
    silent = fabric_case(case(simulate=False))
    assert silent["time_s"] == fabric_case(case())["time_s"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ratio": 0.0}, "ratio"),
        ({"topology": "web"}, "unknown"),
        ({"operation": "gossip"}, "unknown"),
        ({"accelerator": "cs-3"}, "no scale-up link"),
        ({"topology": "mesh", "operation": "broadcast"}, "topology switch"),
    ],
)
def test_stage_mistakes(change: dict[str, Any], words: str) -> None:
    make: Callable[[], Any] = lambda: fabric_case(case(**change))  # noqa: E731
    with pytest.raises(HardwareError, match=words):
        make()
