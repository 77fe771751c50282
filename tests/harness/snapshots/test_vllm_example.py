"""The example exporter, fed with arrays shaped as vLLM shapes its cache."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from linepress.sources import open_source
from linepress.sources.snapshot.validate import PASS, validate
from linepress.sources.snapshot.vllm import plan_blocks, to_blocks

EXAMPLE = Path(__file__).parents[3] / "docs" / "vllm_export.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vllm_export", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caches(axis: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """(a cache a layer, the first layer's keys by sequence, block table with stale entries)."""
    rng = np.random.Generator(np.random.PCG64(1))
    plan = plan_blocks([20, 37], free_blocks=3, seed=2)
    layers, keys = [], []
    for i in range(2):
        k, v = ([rng.integers(1, 0x3F00, (2, n, 8)).astype(np.uint16) for n in (20, 37)] for _ in range(2))
        keys = k if i == 0 else keys
        layers.append(np.stack([to_blocks(k, plan, "key"), to_blocks(v, plan, "value")], axis=axis))
    table = np.full((2, 8), 0, np.int32)  # vLLM's table is as wide as its longest request; the rest is stale
    table[:, :3] = np.where(plan.block_table < 0, 5, plan.block_table)
    return layers, keys, table


@pytest.mark.parametrize("axis", [0, 1])
def test_the_exported_snapshot_is_valid_and_holds_the_tokens(tmp_path: Path, example: ModuleType, axis: int) -> None:
    layers, keys, table = caches(axis)
    path = tmp_path / "cache.safetensors"
    said = {
        "model": "m",
        "layers": "2",
        "keys": "post-RoPE",
        "dtype": "bf16",
        "text_sha256": "0" * 64,
        "tokens": "57",
    }
    example.export(layers, table, [20, 37], str(path), to_bits=np.ascontiguousarray, **said)
    findings, facts = validate(str(path))
    assert {f.outcome for f in findings} == {PASS}, findings
    assert facts["arrangement"] == "paged-vllm"
    tensor = open_source(str(path)).tensor("key_cache_tensor_0")
    assert tensor.read(0, tensor.n_bytes).tobytes() == np.concatenate(keys, axis=1).tobytes()


def test_torch_tensors_give_their_bits(example: ModuleType) -> None:
    torch = pytest.importorskip("torch", reason="the extra capture is not installed")
    x = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)[:, ::2]
    assert np.array_equal(example.bits(x), (x.float().numpy().view(np.uint32) >> 16).astype(np.uint16))
