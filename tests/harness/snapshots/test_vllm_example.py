"""The example exporter, fed with arrays shaped as vLLM shapes its cache."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.snapshot.lay import plan_blocks, to_blocks
from linepress.sources.snapshot.validate import PASS, validate

EXAMPLE = Path(__file__).parents[3] / "docs" / "vllm_export.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vllm_export", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIZES = {"block_tokens": 16, "kv_heads": 2, "head_dim": 8, "to_bits": np.ascontiguousarray}


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
    layout = ("kv-first", "blocks-first")[axis]
    example.export(layers, table, [20, 37], str(path), layout=layout, cache_dtype="bf16", **SIZES, **said)
    findings, facts = validate(str(path))
    assert {f.outcome for f in findings} == {PASS}, findings
    assert facts["arrangement"] == "paged-vllm"
    tensor = open_source(str(path)).tensor("key_cache_tensor_0")
    assert tensor.read(0, tensor.n_bytes).tobytes() == np.concatenate(keys, axis=1).tobytes()


def one_layer(blocks: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keys, values as [blocks, tokens, heads, width], block table) with as many heads as there are halves."""
    rng = np.random.Generator(np.random.PCG64(3))
    keys, values = (rng.integers(1, 0x3F00, (blocks, 16, 2, 8)).astype(np.uint16) for _ in range(2))
    return keys, values, np.arange(blocks, dtype=np.int32)[None]


LAID = {
    "kv-first": lambda k, v: np.stack([k, v]),
    "blocks-first": lambda k, v: np.stack([k, v], 1),
    "kv-first-hnd": lambda k, v: np.stack([k, v]).transpose(0, 1, 3, 2, 4),
    "blocks-first-hnd": lambda k, v: np.stack([k, v], 1).transpose(0, 1, 3, 2, 4),
    "heads-first": lambda k, v: np.stack([k, v], 3).transpose(2, 0, 1, 3, 4),
    "rows": lambda k, v: np.concatenate([k, v], 3).transpose(0, 2, 1, 3),
    "rows-nhd": lambda k, v: np.concatenate([k, v], 3),
}


@pytest.mark.parametrize("layout", LAID)
@pytest.mark.parametrize("blocks", [2, 8])
def test_keys_are_the_keys_in_every_layout(tmp_path: Path, example: ModuleType, layout: str, blocks: int) -> None:
    keys, values, table = one_layer(blocks)
    path = str(tmp_path / "cache.safetensors")
    example.export(
        [LAID[layout](keys, values)], table, [blocks * 16], path, layout=layout, cache_dtype="bf16", **SIZES
    )
    found = {t.kind: t for t in open_source(path).tensors()}
    for kind, want in (("key", keys), ("value", values)):
        assert (
            found[kind].read(0, found[kind].n_bytes).tobytes() == want.reshape(-1, 2, 8).transpose(1, 0, 2).tobytes()
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layout": ""}, "state how the caches lie, one of kv-first"),
        ({"layout": "rows"}, r"shape \[8, 2, 16, 2, 8\]; layout rows with these sizes is \[blocks, 2, 16, 16\]"),
        ({"layout": "kv-first"}, "layout kv-first"),
        ({"kv_heads": 0}, "state block_tokens, kv_heads and head_dim"),
        ({"kv_heads": 4}, "with these sizes"),
        ({"cache_dtype": ""}, "does not say its element type; state cache_dtype"),
        ({"cache_dtype": "nvfp4"}, "no cache of one element type"),
        ({"cache_dtype": "fp8_e5m2"}, "elements of 2 B, e5m2 has 1"),
    ],
)
def test_what_is_not_stated_or_does_not_fit_is_refused(
    tmp_path: Path, example: ModuleType, change: dict[str, object], words: str
) -> None:
    keys, values, table = one_layer()
    stated = {"layout": "blocks-first", "cache_dtype": "bf16", **SIZES, **change}
    with pytest.raises(SourceError, match=words):
        example.export([np.stack([keys, values], 1)], table, [128], str(tmp_path / "c.safetensors"), **stated)
    assert not list(tmp_path.iterdir())


def test_a_block_table_beyond_the_blocks_is_refused(tmp_path: Path, example: ModuleType) -> None:
    """Two blocks and two halves: the shape fits the wrong layout too, the table does not."""
    keys, values, table = one_layer(8)
    kv = np.stack([keys, values], 1)[:2]
    stated = {"layout": "kv-first", "cache_dtype": "bf16", **SIZES}
    with pytest.raises(SourceError, match="names block 7 of 2; is kv-first the right layout"):
        example.export([kv], table, [128], str(tmp_path / "c.safetensors"), **stated)


@pytest.mark.parametrize(
    ("dtype", "stated", "fmt"),
    [
        ("torch.uint8", "fp8", "e4m3"),
        ("torch.uint8", "fp8_e5m2", "e5m2"),
        ("torch.float8_e5m2", "auto", "e5m2"),
        ("torch.float8_e4m3fnuz", "", "e4m3fnuz"),
        ("torch.bfloat16", "auto", "bf16"),
        ("torch.float32", "", "fp32"),
        ("torch.int8", "int8", "int8"),
    ],
)
def test_element_types(example: ModuleType, dtype: str, stated: str, fmt: str) -> None:
    assert example.element_format(dtype, stated) == fmt


@pytest.mark.parametrize(
    ("dtype", "stated"),
    [("torch.uint8", "auto"), ("torch.bfloat16", "fp8"), ("torch.float16", "bf16"), ("torch.int64", "")],
)
def test_element_types_that_do_not_fit(example: ModuleType, dtype: str, stated: str) -> None:
    with pytest.raises(SourceError):
        example.element_format(dtype, stated)


def test_torch_tensors_give_their_bits(example: ModuleType) -> None:
    torch = pytest.importorskip("torch", reason="the extra capture is not installed")
    x = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)[:, ::2]
    assert np.array_equal(example.bits(x), (x.float().numpy().view(np.uint32) >> 16).astype(np.uint16))
