"""The suites that come with linepress on each kind of source: planned, then every measure case run as by a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from linepress.run.plan import Plan, make_plan
from linepress.sources import hub
from linepress.sources.gguf.ggml import TYPES
from linepress.sources.snapshot.write import write_snapshot
from linepress.stages.measure.case import measure_case
from linepress.submission.fixtures import build
from linepress.suite.model import list_suites, load_suite
from linepress_kit.gguf_files import build_gguf
from linepress_kit.hub_server import HubServer, Repo

SUITES = sorted(row["suite"] for row in list_suites())
NORMAL = np.random.Generator(np.random.PCG64(3)).standard_normal((64, 128)).astype("<f4")
BF16 = (NORMAL.view("<u4") >> np.uint32(16)).astype("<u2")
Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"
SHARD_OF = {Q: "model-00001-of-00002.safetensors", DOWN: "model-00002-of-00002.safetensors"}
MODEL = {
    **{shard: build({name: ("BF16", [64, 128], BF16.tobytes())}) for name, shard in SHARD_OF.items()},
    "model.safetensors.index.json": json.dumps({"weight_map": SHARD_OF}).encode(),
}
IDS = {kind.name: number for number, kind in TYPES.items()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.01)
    with HubServer({"acme/model": Repo(MODEL)}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def source_of(kind: str, tmp_path: Path) -> str:
    if kind == "hub":
        return "hf://acme/model@main"
    if kind == "folder":
        for name, data in MODEL.items():
            (tmp_path / name).write_bytes(data)
        return str(tmp_path)
    if kind == "gguf":
        q8 = np.random.Generator(np.random.PCG64(4)).integers(0, 60, 256 * 34, dtype=np.uint8).tobytes()
        tensors = [
            ("blk.0.attn_q.weight", [128, 64], IDS["BF16"], BF16.tobytes()),
            ("blk.0.ffn_down.weight", [128, 64], IDS["Q8_0"], q8),
        ]
        (tmp_path / "model.gguf").write_bytes(build_gguf(tensors))
        return str(tmp_path / "model.gguf")
    cache = BF16.reshape(2, 64, 64)
    said = {"kv_heads": "2", "tokens": "64", "head_dim": "64"}
    names = ("key_cache_tensor_0", "value_cache_tensor_0")
    write_snapshot(tmp_path / "kv.safetensors", dict.fromkeys(names, ("bf16", cache)), said)
    return str(tmp_path / "kv.safetensors")


def plan_of(suite: str, kind: str, tmp_path: Path) -> tuple[Plan, str]:
    """The suite with its first source replaced; bundled and optional ones are planned beside it as they are."""
    uri = source_of(kind, tmp_path)
    casts = '["none", "dequant:bf16"]' if kind == "gguf" else '["none", "e4m3:scale=tensor"]'
    changes = [f"sources.0.uri={json.dumps(uri)}", f"sources.0.casts={casts}", "sources.0.tensors={}"]
    return make_plan(load_suite(suite, changes)), uri


@pytest.mark.parametrize("kind", ["hub", "folder", "gguf", "snapshot"])
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_measures_it(server: HubServer, tmp_path: Path, suite: str, kind: str) -> None:
    plan, uri = plan_of(suite, kind, tmp_path)
    own = [case for case in plan.cases if plan.tensors[case.tensor].uri == uri]
    assert {plan.tensors[case.tensor].cast for case in own} >= {
        "",
        "dequant:bf16" if kind == "gguf" else "e4m3:scale=tensor",
    }
    ran = [plan.task(case) for case in own if not case.skip]
    rows = [measure_case(*task.arguments, **{**task.options, "repeats": 0}) for task in ran]
    assert {row["codec"] for row in rows} >= {"raw", "huffman", "zstd", "lz4", "deflate", "snappy"}
    assert all(row["lossless"] for row in rows)
    assert {row["kind"] for row in rows} == ({"key", "value"} if kind == "snapshot" else {"weight"})
    huffman = [row for row in rows if row["variant"] == "huffman" and row["format"] == "bf16"]
    assert huffman
    for row in huffman:
        raw_bits = 8 * row["raw_bytes"]
        assert raw_bits / row["bound_ratio"] * (1 - 1e-9) <= row["payload_bits"] < raw_bits


def test_there_are_three_suites() -> None:
    assert SUITES == ["llama-3.1-8b", "nightly", "smoke"]
