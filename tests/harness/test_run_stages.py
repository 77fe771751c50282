"""From measured rows to the later stages, against small sums done by hand; the smoke suite through all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from linepress.cluster.join import Cluster
from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.records.pools import pools
from linepress.records.summary import best_on_another_text, headline
from linepress.records.summary import measured as measured_frame
from linepress.run.engine import Run, exit_code
from linepress.run.gates import aggregate, check_gates
from linepress.run.later_stages import channel_tasks, fabric_tasks, memory_of, system_tasks
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.stages.channel.inputs import from_tensors
from linepress.stages.fabric import FabricCase, fabric_case
from linepress.suite.model import GateSpec, Suite, load_suite
from linepress_hardware.errors import HardwareError

SUITE = """\
name: staged
version: 1
sources: [{uri: "synthetic:gauss?shape=64x64"}]
codecs: [raw]
packings: [stream, "classes:set=0/8/32/64"]
channel: {memories: [lpddr5x, hbm3], workloads: [sequential, random], codecs: ["huffman*"]}
system:
  models: [llama-3.1-8b]
  accelerators: [h100-sxm]
  codecs: ["huffman*"]
  packings: [stream]
  scenarios:
    - {name: wide, precision: w16a16kv16}
    - {name: narrow, precision: w8a16kv16}
fabric: {accelerators: [h100-sxm], topologies: [switch], sizes_bytes: [1MiB], devices: [8], codecs: ["huffman*"]}
"""


def measured(key: str, kind: str = "weight", **more: Any) -> dict[str, Any]:
    histogram = np.zeros(513, np.int64)
    histogram[more.pop("bits", 256)] = more.pop("lines", 10)
    lines = int(histogram.sum())
    packed = more.pop("packed", 400)
    return {
        "case_key": key,
        "row": 0,
        "status": "ok",
        "lossless": True,
        "source": "s",
        "tensor": f"t{key}",
        "kind": kind,
        "group": f"{kind}_group",
        "layer": 0,
        "format": "bf16",
        "cast": "",
        "variant": "huffman",
        "codec": "huffman",
        "codec_kind": "line",
        "line_bytes": 64,
        "lines": lines,
        "raw_bytes": 64 * lines,
        "payload_bits": int((histogram * np.arange(513)).sum()),
        "table_bytes": 5,
        "packing": "stream",
        "packed_bytes": packed,
        "packings": [{"packing": "stream", "packed_bytes": packed}],
        "bits_histogram": histogram,
        "decode_latency_ns": 10.0,
        "encode_latency_ns": 20.0,
        "initiation_interval_ns": 1.0,
        **more,
    }


ROWS = [
    measured("a", lines=10, packed=400),
    measured("b", lines=30, bits=512, packed=1920),
    measured("k", "key", lines=10, packed=320),
    measured("v", "value", lines=10, packed=640),
    measured("e", lines=10, packed=500, format="e4m3", cast="e4m3:scale=tensor"),
    measured("x", lines=99, lossless=False),
    {**measured("f"), "status": "failed"},
    measured("z", codec="zstd", variant="zstd", codec_kind="block", bits_histogram=None),
]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    made = RunStore.create(tmp_path / "run", {"run_id": "run", "suite": {"name": "s"}})
    made.append("measure", ROWS[:3])
    made.append("measure", ROWS[3:])
    return made


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return load_suite(str(path))


def test_weights_kv_and_formats_are_pooled_apart(store: RunStore) -> None:
    found = {(p.variant, p.data, p.format): p for p in pools(store)}
    assert set(found) == {
        ("huffman", "weights", "bf16"),
        ("huffman", "kv", "bf16"),
        ("huffman", "weights", "e4m3"),
        ("zstd", "weights", "bf16"),
    }
    weights = found["huffman", "weights", "bf16"]
    assert (weights.tensors, weights.lines, weights.table_bytes) == (2, 40, 10)
    assert (weights.histogram[256], weights.histogram[512]) == (10, 30)
    assert weights.payload_ratio == pytest.approx(8 * 2560 / (10 * 256 + 30 * 512))
    assert weights.total.ratio("stream") == pytest.approx(2560 / 2320)
    assert weights.total.ratio("slots") is None
    kv = found["huffman", "kv", "bf16"]
    assert kv.by_kind["key"].ratio("stream") == 2.0
    assert kv.by_kind["value"].ratio("stream") == 1.0
    assert found["zstd", "weights", "bf16"].lines == 0


def test_dequantised_weights_are_pooled_with_nothing(tmp_path: Path, suite: Suite) -> None:
    """A source that says so in its metadata or its label, and the cast that unpacks blocks: the ratio of stored
    weights is that without them, in pools, channel and system cases and the table of the run."""
    sources = [
        {"uri": "s", "label": "stored", "metadata": {}},
        {"uri": "q", "label": "captured", "metadata": {"weights": "GGUF dequantised, cast to bf16"}},
        {"uri": "r", "label": "weights dequantized from Q4_0"},
    ]
    made = RunStore.create(tmp_path / "run", {"run_id": "run", "suite": {"name": "s"}, "sources": sources})
    rows = [
        measured("a", lines=10, packed=400),
        measured("q", lines=30, bits=128, packed=480, source="q"),
        measured("r", lines=30, bits=128, packed=480, source="r"),
        measured("c", lines=5, bits=128, packed=80, cast="dequant:bf16"),
        measured("k", "key", lines=10, packed=320, source="q"),
    ]
    made.append("measure", rows)
    found = {(p.data, p.cast): p for p in pools(made)}
    assert {key: pool.tensors for key, pool in found.items()} == {
        ("weights", ""): 1,
        ("dequantised weights", ""): 2,
        ("dequantised weights", "dequant:bf16"): 1,
        ("kv", ""): 1,  # a cache is not stored in blocks, whatever its weights were
    }
    assert found["weights", ""].payload_ratio == 2.0
    tasks = list(channel_tasks(suite, list(found.values())))
    ratios = {(task.arguments[0].data, task.identity["payload_ratio"]) for task in tasks}
    assert ratios == {("weights", 2.0), ("dequantised weights", 4.0), ("kv", 2.0)}
    assert {case.arguments[0].weight_ratio for case in system_tasks(suite, list(found.values()), made)} == {1.6}
    lines = {(line["data"], line["format"]): line["payload_ratio"] for line in headline(measured_frame(made))}
    assert lines["weights", "bf16"] == 2.0
    assert lines["dequantised weights", "bf16"] == lines["dequantised weights", "bf16 (dequant:bf16)"] == 4.0


def test_channel_cases_are_line_pools_by_memory_packing_and_workload(store: RunStore, suite: Suite) -> None:
    tasks = list(channel_tasks(suite, pools(store)))
    assert len(tasks) == 3 * 2 * 2 * 2
    assert len({task.key for task in tasks}) == len(tasks)
    cases = [task.arguments[0] for task in tasks]
    assert {case.packing for case in cases} == {"stream", "classes"}  # spelt as the record spells them
    assert {(case.data, case.table_bytes) for case in cases} == {("weights", 10), ("kv", 10), ("weights", 5)}
    assert cases[0].decode_interval_ns == 1.0
    assert tasks[0].identity["cast"] == ""


def test_system_cases_take_ratios_gains_and_matching_precision(store: RunStore, suite: Suite) -> None:
    gain = {"status": "ok", "codec": "huffman", "packing": "stream", "format": "bf16", "cast": "", "row": 0}
    store.append(
        "channel",
        [
            {**gain, "case_key": "1", "data": "weights", "memory": "hbm3", "gain_sequential": 1.07},
            {**gain, "case_key": "2", "data": "kv", "memory": "hbm3", "gain_sequential": 1.21},
            {**gain, "case_key": "3", "data": "weights", "memory": "lpddr5x", "gain_sequential": 9.0},
        ],
    )
    cases = [task.arguments[0] for task in system_tasks(suite, pools(store), store)]
    assert [(case.scenario.name, case.weight_ratio) for case in cases] == [
        ("wide", 2560 / 2320),
        ("narrow", 640 / 500),
    ]
    wide, narrow = cases
    assert wide.memory == "hbm3"
    assert (wide.channel_gain_sequential, wide.channel_gain_kv) == (1.07, 1.21)
    assert (wide.key_ratio, wide.value_ratio) == (2.0, 1.0)
    assert wide.kv_ratio == pytest.approx(1280 / 960)
    assert wide.weight_ratio_by_group == {"weight_group": 2560 / 2320}
    assert narrow.channel_gain_sequential is None


def test_memory_of_an_accelerator_is_of_its_kind() -> None:
    assert memory_of("h100-sxm", ["lpddr5x", "hbm3e", "hbm3"]) == "hbm3"
    assert memory_of("h100-sxm", ["lpddr5x", "hbm2"]) == "hbm2"
    assert memory_of("h100-sxm", []) == ""


def test_fabric_cases_take_the_kv_ratio(store: RunStore, suite: Suite) -> None:
    (task,) = fabric_tasks(suite, pools(store))
    case = task.arguments[0]
    assert case.ratio == pytest.approx(1280 / 960)
    row = fabric_case(case)
    assert row["plain_time_s"] == pytest.approx(row["plain_latency_s"] + row["plain_transfer_s"])
    assert row["transfer_s"] == pytest.approx(row["plain_transfer_s"] / case.ratio)
    assert row["latency_s"] > row["plain_latency_s"]
    ring = fabric_case(replace(case, algorithm="ring", encode_latency_ns=0.0, decode_latency_ns=0.0, ratio=1.0))
    assert ring["speedup"] == 1.0
    # Ring over N = 8: each byte passes a link 2 (N - 1) / N times.
    assert ring["plain_bus_bandwidth_GBps"] < 450
    large = fabric_case(replace(case, algorithm="ring", size_bytes=1 << 40))
    assert large["plain_bus_bandwidth_GBps"] == pytest.approx(450, rel=1e-3)
    assert large["speedup"] == pytest.approx(case.ratio, rel=1e-3)


@pytest.mark.parametrize("change", [{"ratio": 0.0}, {"devices": 0}, {"topology": "torus"}, {"operation": "gossip"}])
def test_fabric_cases_that_mean_nothing(change: dict[str, Any]) -> None:
    case = FabricCase("h100-sxm", "switch", "all_reduce", 8, 1024, "huffman", "kv", "stream", 1.5)
    with pytest.raises(HardwareError):
        fabric_case(replace(case, **change))


def gate(**values: Any) -> GateSpec:
    return GateSpec.model_validate({"name": "g", "column": "payload_bits", **values})


def test_gates_aggregate_and_decide(store: RunStore) -> None:
    rows = check_gates(
        store,
        [
            gate(name="share", column="lossless", aggregate="share", where={"codec": "huff*"}, equals=1),
            gate(name="ratio", aggregate="total_ratio", column="packed_bytes", where={"kind": "key"}, at_least=2.0),
            gate(name="most", aggregate="max", where={"kind": "key"}, at_most=10 * 256),
            gate(name="too-tight", aggregate="max", where={"kind": "key"}, at_most=10 * 256 - 1),
            gate(name="nobody", where={"kind": "nobody"}, at_least=0),
            gate(name="count", aggregate="count", where={"status": "failed"}, at_most=0),
        ],
    )
    assert [(row["gate"], row["passed"]) for row in rows] == [
        ("share", False),
        ("ratio", True),
        ("most", True),
        ("too-tight", False),
        ("nobody", False),
        ("count", False),
    ]
    assert rows[0]["value"] == pytest.approx(5 / 7)  # the lossy and the failed one count against it
    with pytest.raises(RecordError, match="no column 'speed'"):
        check_gates(store, [gate(column="speed", at_least=1)])


def test_aggregates_of_nothing() -> None:
    assert aggregate([], "x", "count") == 0
    for how in ("min", "max", "mean", "sum", "share", "total_ratio"):
        assert aggregate([], "x", how) is None


def test_exit_codes_in_order_of_weight() -> None:
    ok = {"measure": {"ok": 1, "failed": 0}}
    some = {"measure": {"ok": 1, "failed": 1}}
    assert exit_code(ok, []) == 0
    assert exit_code(some, []) == 2
    assert exit_code(some, [{"passed": False}]) == 1
    assert exit_code({"measure": {"ok": 0, "failed": 9}}, [{"passed": False}]) == 3
    assert exit_code({}, []) == 3


def test_summary_is_byte_weighted_and_counts_failures(store: RunStore) -> None:
    lines = {(line["data"], line["format"], line["variant"]): line for line in headline(measured_frame(store))}
    weights = lines["weights", "bf16", "huffman"]
    assert (weights["ok"], weights["planned"], weights["lossless"]) == (3, 4, 2)
    assert weights["packed_ratio"] == pytest.approx(64 * (10 + 30 + 99) / (400 + 1920 + 400))


@pytest.fixture(scope="module")
def smoke(ray_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> RunOutcome:
    folder = tmp_path_factory.mktemp("smoke")
    overrides = ["repeats=1", "channel.n_requests=1000", "channel.within_pct=5", "channel.memories=[hbm3]"]
    run = Run(load_suite("smoke", overrides), RunOptions(out=folder / "run", mlflow=False), Progress(live=False))
    return run.execute()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_smoke_suite_goes_through_every_stage(smoke: RunOutcome) -> None:
    """Over 5 s: every stage over the bundled sample, with the kernels of every codec in it compiled when cold."""
    assert smoke.exit_code == 0, smoke.store.rows("failures")
    assert {stage: counts["failed"] for stage, counts in smoke.counts.items()} == {
        "measure": 0,
        "channel": 0,
        "system": 0,
        "fabric": 0,
        "pages": 0,
    }
    other = best_on_another_text(smoke.store)
    assert other is not None
    assert 1.54 < other["ratio"] < other["own_text_ratio"]
    rows = smoke.store.rows("measure")
    assert all(row["lossless"] for row in rows)
    line = {(r["data"], r["format"], r["variant"]): r for r in headline(measured_frame(smoke.store))}
    assert (
        1.40 < line["weights", "bf16", "huffman"]["payload_ratio"] < line["weights", "bf16", "huffman"]["bound_ratio"]
    )
    assert line["weights", "bf16", "raw"]["payload_ratio"] == pytest.approx(1.0, abs=0.003)


def test_smoke_channel_rows_stay_below_their_closed_forms(smoke: RunOutcome) -> None:
    rows = smoke.store.rows("channel")
    assert {(row["data"], row["cast"]) for row in rows} == {
        ("weights", ""),
        ("weights", "e4m3:scale=tensor"),
        ("weights", "e5m2:scale=tensor"),
        ("dequantised weights", ""),
        ("kv", ""),
    }
    for row in rows:
        # The closed form knows no bank conflicts, refresh or metadata misses, so it is a ceiling of the simulation.
        known = 1.02 + row["gain_sequential_half_width_pct"] / 100
        assert 0.5 < row["gain_sequential"] <= row["closed_form_gain_sequential"] * known
        assert 0.9 < row["effective_capacity_ratio"] <= row["payload_ratio"]


def test_smoke_system_rows_use_what_was_measured(smoke: RunOutcome) -> None:
    gains = {
        (r["cast"], r["packing"]): r["gain_sequential"] for r in smoke.store.rows("channel") if r["data"] == "weights"
    }
    rows = smoke.store.rows("system")
    assert {row["format"] for row in rows} == {"bf16", "e4m3", "e5m2"}
    for row in rows:
        assert row["gain_measured"]
        assert row["kv_codec"] == "huffman"
        gain = gains[row["cast"], row["packing"]]
        assert min(gain, 1.0) * 0.99 < row["speedup"] < max(gain, row["kv_ratio"]) * 1.01
        assert row["speedup"] == pytest.approx(row["tokens_per_s"] / row["plain_tokens_per_s"])


def test_smoke_ends_with_report_claims_and_a_whole_record(smoke: RunOutcome) -> None:
    assert smoke.report is not None
    page = smoke.report.read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "huffman" in page
    verdicts = {row["verdict"] for row in smoke.store.rows("claims")}
    assert "not reproduced" in verdicts
    again = RunStore.open(smoke.store.path)
    again.verify()
    assert again.manifest["status"] == "complete"
    names = {file.relative_to(again.path).as_posix() for file in again.path.rglob("*.parquet")}
    assert set(again.manifest["parts"]) == names
    extra = [json.loads(row["extra"]) for row in again.rows("channel", ["extra"]) if row["extra"]]
    assert not extra, f"the stage returns columns its schema lacks: {sorted(extra[0])}"


def test_tensors_coded_on_the_spot_say_when_they_are_dequantised(tmp_path: Path) -> None:
    values = {"mlp.up_proj.weight": np.arange(4096, dtype=np.float32).reshape(64, 64)}
    stored, unpacked = tmp_path / "stored.safetensors", tmp_path / "unpacked.safetensors"
    save_file(values, stored)
    save_file(values, unpacked, metadata={"weights": "GGUF dequantised, cast to fp32"})
    found = {p.stem: from_tensors(str(p), ["huffman"], layout=None, max_bytes=None) for p in (stored, unpacked)}
    assert [sizes.data for sizes in found["stored"]] == ["weights"]
    assert [sizes.data for sizes in found["unpacked"]] == ["dequantised weights"]
    assert found["stored"][0].histogram == found["unpacked"][0].histogram
