"""The exporters of docs/exporters, fed with arrays as the engines' published code lays them."""

from __future__ import annotations

import importlib.util
import re
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.safetensors.reader import read_header
from linepress.sources.snapshot.export import element_format, export, in_memory_order
from linepress.sources.snapshot.validate import FAIL, validate

FOLDER = Path(__file__).parents[3] / "docs" / "exporters"
HEADS, DIM, BLOCK, LAYERS = 2, 16, 4, 3
LENGTHS = [10, 7]
TABLE = np.array([[5, 1, 3, 9], [0, 2, 7, 7]], np.int32)  # entries past a sequence's end are stale
PAGES = [(5, 1, 3), (0, 2)]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"exporter_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def cells() -> np.ndarray:
    """uint16[layers, 2, blocks, slots, heads, dim] of an engine's pool, every value its own."""
    shape = (LAYERS, 2, 8, BLOCK, HEADS, DIM)
    return (np.arange(np.prod(shape), dtype=np.uint32) % 16000 + 1).astype(np.uint16).reshape(shape)


def tokens(cells: np.ndarray, layer: int, side: int) -> bytes:
    """[heads, tokens, dim] of both sequences."""
    parts = [cells[layer, side, list(p)].reshape(-1, HEADS, DIM)[:n] for p, n in zip(PAGES, LENGTHS, strict=True)]
    return np.concatenate(parts).transpose(1, 0, 2).tobytes()


def check(path: Path, cells: np.ndarray) -> None:
    assert not [f for f in validate(str(path))[0] if f.outcome == FAIL]
    for tensor in open_source(str(path)).tensors():
        assert tensor.layer is not None
        want = tokens(cells, tensor.layer, ("key", "value").index(tensor.kind))
        assert tensor.read(0, tensor.n_bytes).tobytes() == want, tensor.name


def vllm(cells: np.ndarray, arrangement: str) -> list[np.ndarray]:
    """The tensors that vLLM hands out: logical axes of the version, strides of the memory order."""
    layers, _, blocks, _, _, _ = cells.shape
    if arrangement == "vllm-0.22":
        return [np.ascontiguousarray(c) for c in cells]
    if arrangement == "vllm-0.23":
        return [np.ascontiguousarray(c.transpose(1, 0, 2, 3, 4)) for c in cells]
    if arrangement == "vllm-0.23:hnd":  # logical B,2,N,H,D over memory B,2,H,N,D
        return [np.ascontiguousarray(c.transpose(1, 0, 3, 2, 4)).transpose(0, 1, 3, 2, 4) for c in cells]
    rows = np.ascontiguousarray(cells.transpose(0, 2, 3, 4, 1, 5)).reshape(layers, blocks, BLOCK, HEADS, 2 * DIM)
    if arrangement == "vllm-0.26":  # logical B,H,N,2D over memory B,N,H,2D
        return [r.transpose(0, 2, 1, 3) for r in rows]
    if arrangement == "vllm-0.26:hnd":
        return [np.ascontiguousarray(r.transpose(0, 2, 1, 3)) for r in rows]
    order = {"L": 0, "B": 1, "N": 2, "H": 3}
    memory = {"vllm-0.29": "LBNH", "vllm-0.29:lhbnc": "LHBN", "vllm-0.29:bhlnc": "BHLN"}[arrangement]
    whole = np.ascontiguousarray(rows.transpose([order[a] for a in memory] + [4]))
    views = np.moveaxis(whole, [memory.index(a) for a in "LBHN"], range(4))
    return list(views)


@pytest.mark.parametrize(
    "arrangement",
    [
        "vllm-0.22",
        "vllm-0.23",
        "vllm-0.23:hnd",
        "vllm-0.26",
        "vllm-0.26:hnd",
        "vllm-0.29",
        "vllm-0.29:lhbnc",
        "vllm-0.29:bhlnc",
    ],
)
def test_vllm(tmp_path: Path, cells: np.ndarray, arrangement: str) -> None:
    model = SimpleNamespace(model="m", get_num_kv_heads=lambda parallel: HEADS, get_head_size=lambda: DIM)
    cache = SimpleNamespace(cache_dtype="bfloat16", block_size=BLOCK)
    table = SimpleNamespace(get_numpy_array=lambda: np.vstack([TABLE, TABLE]))
    batch = SimpleNamespace(num_reqs=2, block_table=[table], num_computed_tokens_cpu=np.array([*LENGTHS, 0]))
    worker = SimpleNamespace(
        model_runner=SimpleNamespace(kv_caches=vllm(cells, arrangement), input_batch=batch),
        vllm_config=SimpleNamespace(model_config=model, cache_config=cache, parallel_config=None),
    )
    module("vllm").export_worker(worker, str(tmp_path / "s.safetensors"), arrangement)
    check(tmp_path / "s.safetensors", cells)


@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ("page_first", (1, 2, 3, 0, 4, 5)),
        ("layer_first", (1, 0, 2, 3, 4, 5)),
        ("page_first_direct", (1, 2, 0, 3, 4, 5)),
        ("page_head", (1, 2, 4, 3, 0, 5)),
    ],
)
def test_sglang(tmp_path: Path, cells: np.ndarray, layout: str, order: tuple[int, ...]) -> None:
    buffer = np.ascontiguousarray(cells.transpose(order))
    if layout in ("page_first", "layer_first"):  # slots are one axis
        at = 1 if layout == "page_first" else 2
        buffer = buffer.reshape(*buffer.shape[:at], -1, *buffer.shape[at + 2 :])
    pool = SimpleNamespace(
        kv_buffer=buffer, layout=layout, head_num=HEADS, head_dim=DIM, layer_num=LAYERS, page_size=BLOCK
    )
    path = tmp_path / "s.safetensors"
    module("sglang").export_pool(pool, TABLE, LENGTHS, str(path), cache_dtype="bf16")
    check(path, cells)


def test_lmcache(tmp_path: Path, cells: np.ndarray) -> None:
    whole = cells[:, :, list(PAGES[0])].reshape(LAYERS, 2, -1, HEADS * DIM)[:, :, : LENGTHS[0]].transpose(1, 0, 2, 3)
    chunks = [np.ascontiguousarray(whole[:, :, :8]), np.ascontiguousarray(whole[:, :, 8:])]
    path = tmp_path / "s.safetensors"
    module("lmcache").export_chunks(chunks, HEADS, DIM, str(path), cache_dtype="bf16")
    for tensor in open_source(str(path)).tensors():
        want = whole[("key", "value").index(tensor.kind), tensor.layer].reshape(-1, HEADS, DIM).transpose(1, 0, 2)
        assert tensor.read(0, tensor.n_bytes).tobytes() == want.tobytes()


class StaticLayer(SimpleNamespace):
    """Named as Transformers' own, which the exporter tells apart by name."""


@pytest.mark.parametrize("static", [False, True])
def test_transformers(tmp_path: Path, static: bool) -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    real = rng.normal(0, 1, (2, 2, 2, HEADS, 12, DIM)).astype(np.float16)  # layers, sides, sequences …
    kind: Any = StaticLayer if static else SimpleNamespace
    cache = SimpleNamespace(layers=[kind(keys=k, values=v) for k, v in real])
    path = tmp_path / "s.safetensors"
    module("transformers").export_cache(cache, [12, 5], str(path))
    for tensor in open_source(str(path)).tensors():
        side = real[tensor.layer, ("key", "value").index(tensor.kind)]
        second = side[1][:, :5] if static else side[1][:, 7:]
        assert tensor.read(0, tensor.n_bytes).tobytes() == np.concatenate([side[0], second], axis=1).tobytes()


def test_transformers_layers_of_a_window_hold_the_newest_tokens(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    layers = [rng.normal(0, 1, (2, 2, HEADS, slots, DIM)).astype(np.float16) for slots in (5, 12)]  # sides, sequences
    cache = SimpleNamespace(layers=[SimpleNamespace(keys=k, values=v) for k, v in layers])
    path = tmp_path / "s.safetensors"
    module("transformers").export_cache(cache, [12, 3], str(path))
    assert not [f for f in validate(str(path))[0] if f.outcome == FAIL]
    for tensor in open_source(str(path)).tensors():
        side = layers[tensor.layer or 0][("key", "value").index(tensor.kind)]
        want = np.concatenate([side[0], side[1][:, -3:]], axis=1)
        assert tensor.read(0, tensor.n_bytes).tobytes() == want.tobytes()
        if tensor.kind == "key":
            first = range(7, 12) if tensor.layer == 0 else range(12)
            assert np.frombuffer(tensor.positions, "<u4").tolist() == [*first, *range(3)]


COMMON: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "LlamaConfig": {"num_key_value_heads": 2},
    "Gemma2Config": {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 9},
    "DeepseekV3Config": {
        "num_key_value_heads": 4, "kv_lora_rank": 24, "q_lora_rank": 32, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16, "v_head_dim": 16, "first_k_dense_replace": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind"), [*product(MODELS, ["DynamicCache"]), *product(list(MODELS)[:2], ["StaticCache"])]
)
def test_transformers_own_caches(tmp_path: Path, config: str, kind: str) -> None:
    """Caches that Transformers' own models of random weights have filled: full, windows and latents."""
    torch = pytest.importorskip("torch", reason="the extra capture is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra capture is not installed")
    said = getattr(transformers, config)(**COMMON, **MODELS[config])
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(said, dtype=torch.bfloat16).eval()
    options = {"max_cache_len": 24} if kind == "StaticCache" else {}
    cache = getattr(transformers, kind)(config=said, **options)
    with torch.inference_mode():
        model(torch.randint(3, 300, (1, 20)), past_key_values=cache, use_cache=True)
    path = tmp_path / "s.safetensors"
    module("transformers").export_cache(cache, [20], str(path))
    for tensor in open_source(str(path)).tensors():
        whole = getattr(cache.layers[tensor.layer], f"{tensor.kind}s")[0]
        n = min(20, whole.shape[1])
        assert tensor.shape == (whole.shape[0], n, whole.shape[2])
        want = whole[:, :n].contiguous().view(torch.int16).numpy().tobytes()
        assert tensor.read(0, tensor.n_bytes).tobytes() == want


STATED: dict[str, Any] = {
    "arrangement": "vllm-0.23", "cache_dtype": "bf16", "kv_heads": HEADS, "head_dim": DIM, "block_tokens": BLOCK,
    "block_table": TABLE, "sequence_tokens": LENGTHS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arrangement": "vllm-9"}, "is not one of contiguous"),
        ({"arrangement": "vllm-0.26"}, r"lies in memory as \[8, 2, 4, 2, 16\]; vllm-0.26 with these sizes is"),
        ({"arrangement": "vllm-0.22"}, "vllm-0.22 with these sizes is"),
        ({"kv_heads": 0}, "state block_tokens, kv_heads and head_dim"),
        ({"kv_heads": 4}, "with these sizes"),
        ({"cache_dtype": "auto"}, "does not say its element type; state cache_dtype"),
        ({"cache_dtype": "nvfp4"}, "no cache of one element type"),
        ({"cache_dtype": "fp8_e5m2"}, "elements of 2 B, e5m2 has 1"),
        ({"sequence_tokens": [30, 7]}, "does not hold 2 sequences of up to 30 tokens"),
        ({"block_table": TABLE + 4}, "names block 9 of 8"),
    ],
)
def test_what_is_not_stated_or_does_not_fit_is_refused(
    tmp_path: Path, cells: np.ndarray, change: dict[str, Any], words: str
) -> None:
    caches = {f"kv_cache_tensor_{i}": x for i, x in enumerate(vllm(cells, "vllm-0.23"))}
    with pytest.raises(SourceError, match=words):
        export(tmp_path / "s.safetensors", caches, **{**STATED, **change})
    assert not list(tmp_path.iterdir())


def test_hnd_memory_is_not_taken_for_nhd(tmp_path: Path, cells: np.ndarray) -> None:
    caches = {f"kv_cache_tensor_{i}": x for i, x in enumerate(vllm(cells, "vllm-0.23:hnd"))}
    with pytest.raises(SourceError, match="with these sizes"):
        export(tmp_path / "s.safetensors", caches, **STATED)


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
def test_element_types(dtype: str, stated: str, fmt: str) -> None:
    assert element_format(dtype, stated) == fmt


@pytest.mark.parametrize(
    ("dtype", "stated"),
    [("torch.uint8", "auto"), ("torch.bfloat16", "fp8"), ("torch.float16", "bf16"), ("torch.int64", "")],
)
def test_element_types_that_do_not_fit(dtype: str, stated: str) -> None:
    with pytest.raises(SourceError):
        element_format(dtype, stated)


def test_torch_tensors_give_their_bits_in_memory_order() -> None:
    torch = pytest.importorskip("torch", reason="the extra capture is not installed")
    x = torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4).transpose(0, 1)
    assert np.array_equal(in_memory_order(x).reshape(-1), (np.arange(24, dtype="f4").view("u4") >> 16).astype("u2"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_exporters_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40


def test_the_format_and_the_exporters_agree(tmp_path: Path, cells: np.ndarray) -> None:
    """Every metadata key, tensor name and type that an exporter writes stands in docs/snapshot-format.md."""
    text = (FOLDER.parent / "snapshot-format.md").read_text(encoding="utf-8")
    test_lmcache(tmp_path, cells)
    headers = [read_header(tmp_path / "s.safetensors")]
    for name, run in (
        ("vllm", lambda path: test_vllm(path, cells, "vllm-0.26")),
        ("sglang", lambda path: test_sglang(path, cells, "page_first", (1, 2, 3, 0, 4, 5))),
        ("transformers", test_transformers_layers_of_a_window_hold_the_newest_tokens),
    ):
        (tmp_path / name).mkdir()
        run(tmp_path / name)
        headers.append(read_header(tmp_path / name / "s.safetensors"))
    assert len({header.metadata["arrangement"] for header in headers}) == len(list(FOLDER.glob("*.py")))
    for header in headers:
        missing = [key for key in header.metadata if f"`{key}`" not in text]
        assert not missing
        assert f"`{header.metadata['arrangement']}`" in text
        for entry in header.entries:
            assert re.sub(r"_\d+$", "_i", entry.name) in text
            assert entry.dtype in text
