"""Groups, snapshots, casts, synthetic tensors, selection and staging."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import Selection, TensorRef, open_source
from linepress.sources.casts import Cast, CastError, scales_of
from linepress.sources.groups import place_of
from linepress.sources.staging import staged
from linepress.submission.fixtures import build

RNG = np.random.Generator(np.random.PCG64(7))


@pytest.mark.parametrize(
    ("name", "group", "layer", "kind"),
    [
        # Llama, Qwen, Mistral, Gemma
        ("model.embed_tokens.weight", "embed", None, "weight"),
        ("model.layers.17.self_attn.q_proj.weight", "q_proj", 17, "weight"),
        ("model.layers.17.self_attn.k_proj.bias", "bias", 17, "weight"),
        ("model.layers.0.self_attn.o_proj.weight", "o_proj", 0, "weight"),
        ("model.layers.3.self_attn.q_norm.weight", "norm", 3, "weight"),
        ("model.layers.3.pre_feedforward_layernorm.weight", "norm", 3, "weight"),
        ("model.layers.3.mlp.gate_proj.weight", "gate_proj", 3, "weight"),
        ("model.layers.3.mlp.up_proj.weight", "up_proj", 3, "weight"),
        ("model.layers.3.mlp.down_proj.weight", "down_proj", 3, "weight"),
        ("model.language_model.layers.3.mlp.down_proj.weight", "down_proj", 3, "weight"),
        ("model.layers.3.block_sparse_moe.experts.5.w2.weight", "down_proj", 3, "weight"),
        ("model.layers.3.block_sparse_moe.gate.weight", "router", 3, "weight"),
        ("model.layers.3.mlp.experts.5.gate_proj.weight", "gate_proj", 3, "weight"),
        ("model.norm.weight", "norm", None, "weight"),
        ("lm_head.weight", "lm_head", None, "weight"),
        # BERT
        ("bert.embeddings.word_embeddings.weight", "embed", None, "weight"),
        ("bert.embeddings.LayerNorm.gamma", "norm", None, "weight"),
        ("bert.encoder.layer.11.attention.self.query.weight", "q_proj", 11, "weight"),
        ("bert.encoder.layer.11.attention.self.value.weight", "v_proj", 11, "weight"),
        ("bert.encoder.layer.11.attention.output.dense.weight", "o_proj", 11, "weight"),
        ("bert.encoder.layer.11.attention.output.LayerNorm.weight", "norm", 11, "weight"),
        ("bert.encoder.layer.11.intermediate.dense.weight", "up_proj", 11, "weight"),
        ("bert.encoder.layer.11.output.dense.weight", "down_proj", 11, "weight"),
        # Whisper, Hugging Face and CTranslate2
        ("model.decoder.layers.2.encoder_attn.k_proj.weight", "k_proj", 2, "weight"),
        ("model.encoder.layers.2.fc1.weight", "up_proj", 2, "weight"),
        ("model.encoder.layers.2.fc2.weight", "down_proj", 2, "weight"),
        ("model.encoder.layers.2.self_attn.out_proj.weight", "o_proj", 2, "weight"),
        ("model.encoder.conv1.weight", "conv", None, "weight"),
        ("model.encoder.embed_positions.weight", "embed", None, "weight"),
        ("proj_out.weight", "lm_head", None, "weight"),
        ("decoder.layer_0.attention.linear_0.weight", "q_proj", 0, "weight"),
        ("decoder.layer_0.attention.linear_1.weight", "kv_proj", 0, "weight"),
        ("decoder.layer_0.attention.linear_2.weight", "o_proj", 0, "weight"),
        ("decoder.layer_0.self_attention.linear_0.weight", "qkv_proj", 0, "weight"),
        ("decoder.layer_0.self_attention.linear_1.weight", "o_proj", 0, "weight"),
        ("decoder.layer_0.ffn.linear_0.weight", "up_proj", 0, "weight"),
        ("decoder.layer_0.ffn.linear_1.weight", "down_proj", 0, "weight"),
        ("decoder.layer_0.ffn.layer_norm.gamma", "norm", 0, "weight"),
        ("decoder.layer_0.ffn.linear_1.bias", "bias", 0, "weight"),
        # GPT-2, llama.cpp
        ("h.3.attn.c_attn.weight", "qkv_proj", 3, "weight"),
        ("h.3.mlp.c_proj.weight", "down_proj", 3, "weight"),
        ("blk.9.ffn_gate.weight", "gate_proj", 9, "weight"),
        ("blk.9.attn_norm.weight", "norm", 9, "weight"),
        ("output.weight", "lm_head", None, "weight"),
        ("output_norm.weight", "norm", None, "weight"),
        # caches, activations, the unknown
        ("key_cache_tensor_12", "key_cache", 12, "key"),
        ("value_cache_tensor_0", "value_cache", 0, "value"),
        ("hidden_states.4", "activation", None, "activation"),
        ("model.layers.7.mlp.down_proj.weight.grad", "down_proj", 7, "grad"),
        ("main_grad.layers.0.self_attn.q_proj.weight", "q_proj", 0, "grad"),
        ("state.model.layers.3.self_attn.k_proj.weight.exp_avg_sq", "k_proj", 3, "optim"),
        ("optimizer.momentum_buffer.embed_tokens.weight", "embed", None, "optim"),
        ("model.layers.7.gradient_gate.weight", "other", 7, "weight"),
        ("something", "other", None, "weight"),
    ],
)
def test_names_of_every_family_are_placed(name: str, group: str, layer: int | None, kind: str) -> None:
    place = place_of(name)
    assert (place.group, place.layer, place.kind) == (group, layer, kind)


# ------------------------------------------------------------------------------------------------ snapshots


def snapshot(tmp_path: Path, shape: tuple[int, ...] = (2, 4, 8), names: tuple[str, ...] = (), **said: str) -> str:
    body = bytes(2 * int(np.prod(shape)))
    names = names or ("key_cache_tensor_0", "value_cache_tensor_0")
    path = tmp_path / "kv.safetensors"
    path.write_bytes(build({name: ("BF16", list(shape), body) for name in names}, said or None))
    return str(path)


def test_snapshot_metadata_is_on_every_tensor(tmp_path: Path) -> None:
    uri = snapshot(tmp_path, kv_heads="2", tokens="4", head_dim="8", layers="1", keys="post-RoPE")
    key, value = open_source(uri).tensors()
    assert (key.kind, key.group, key.layer) == ("key", "key_cache", 0)
    assert (value.kind, value.group) == ("value", "value_cache")
    assert key.metadata["keys"] == "post-RoPE"


@pytest.mark.parametrize(
    ("shape", "names", "said", "sentence"),
    [
        ((2, 4, 8), (), {"kv_heads": "4"}, "has 2 kv_heads but the header's metadata says '4'"),
        ((2, 4, 8), (), {"head_dim": "64"}, "has 8 head_dim but"),
        ((2, 4, 8), (), {"tokens": "512"}, "has 4 tokens but"),
        ((2, 0, 8), (), {}, "holds no tokens"),
        ((4, 8), (), {}, r"; contiguous is \[kv_heads, tokens, head_dim\]"),
        ((2, 4, 8), ("key_cache_tensor_3",), {}, "layer 3 has keys or values but not both"),
        (
            (2, 4, 8),
            ("key_cache_tensor_3", "value_cache_tensor_3"),
            {"layers": "2"},
            "layer 3 is beyond the 2",
        ),
    ],
)
def test_snapshot_that_contradicts_itself_is_refused(
    tmp_path: Path, shape: tuple[int, ...], names: tuple[str, ...], said: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(snapshot(tmp_path, shape, names, **said))


# ------------------------------------------------------------------------------------------------ casts


def bf16_tensor(tmp_path: Path, values: np.ndarray, name: str = "w", dtype: str = "BF16") -> TensorRef:
    kinds = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(build({name: (dtype, list(values.shape), values.astype(kinds[dtype]).tobytes())}))
    return open_source(str(path)).tensors()[0]


TARGETS = {"e4m3": (ml_dtypes.float8_e4m3fn, 448.0), "e5m2": (ml_dtypes.float8_e5m2, 57344.0)}


@pytest.mark.parametrize("target", ["e4m3", "e5m2"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("scale", ["none", "tensor", "channel"])
def test_cast_is_its_closed_form_whatever_the_range(tmp_path: Path, target: str, dtype: str, scale: str) -> None:
    kinds = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
    values = (RNG.standard_normal((40, 30)) * np.logspace(-3, 2, 40)[:, None]).astype(kinds[dtype])
    tensor = bf16_tensor(tmp_path, values, dtype=dtype).with_cast(f"{target}:scale={scale}")
    number, top = TARGETS[target]
    exact = values.astype(np.float32)
    scales = {
        "none": np.float32(1),
        "tensor": np.abs(exact).max() / np.float32(top),
        "channel": np.abs(exact).max(axis=1, keepdims=True) / np.float32(top),
    }[scale]
    expected = np.clip(exact / scales, -top, top).astype(number).view(np.uint8).reshape(-1)
    assert (tensor.format.name, tensor.cast) == (target, f"{target}:scale={scale}")
    assert np.array_equal(tensor.read(0, 1200), expected)
    assert np.array_equal(tensor.read(77, 1033), expected[77:1033])
    assert np.array_equal(staged(tensor).tensor.read(0, 1200), expected)
    parts = np.concatenate([part.reshape(-1) for part in tensor.chunks(128)])
    assert np.array_equal(parts, expected)


def test_channels_of_a_cache_are_head_and_dimension(tmp_path: Path) -> None:
    values = RNG.standard_normal((2, 16, 4)) * np.array([1, 10, 100, 1000.0])
    keys = bf16_tensor(tmp_path, values, "key_cache_tensor_0".replace("key_cache_tensor", "k"))
    scales = scales_of(keys, Cast.parse("e4m3:scale=channel"))
    exact = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(scales, np.abs(exact).max(axis=1).reshape(-1) / np.float32(448))


def test_special_values_saturate_and_nan_stays(tmp_path: Path) -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0.0, -0.0, 2.0**-9, 448, 57344], np.float32)
    tensor = bf16_tensor(tmp_path, values, dtype="F32")
    e4m3 = tensor.with_cast("e4m3").read(0, 10)
    assert e4m3.tolist()[:2] == [0x7E, 0xFE], "infinities become the largest finite value, 448"
    assert e4m3[2] & 0x7F == 0x7F, "NaN stays NaN"
    assert e4m3.tolist()[3:] == [0x7E, 0xFE, 0x00, 0x80, 0x01, 0x7E, 0x7E]
    e5m2 = tensor.with_cast("e5m2").read(0, 10)
    assert e5m2.tolist()[:2] == [0x7B, 0xFB]
    assert e5m2[9] == 0x7B
    scaled = scales_of(tensor, Cast.parse("e4m3:scale=tensor"))
    assert scaled[0] == np.float32(1e30) / np.float32(448), "infinities do not make the scale"


def test_silent_tensor_has_scale_one(tmp_path: Path) -> None:
    tensor = bf16_tensor(tmp_path, np.zeros((4, 8)))
    assert scales_of(tensor, Cast.parse("e4m3:scale=channel")).tolist() == [1, 1, 1, 1]
    assert tensor.with_cast("e4m3:scale=tensor").read(0, 32).tolist() == [0] * 32


def test_cast_errors_answer_with_an_example(tmp_path: Path) -> None:
    for text in ("e4m4", "e4m3:scale=row", "e4m3:round=up", ""):
        with pytest.raises(CastError, match="for example e4m3:scale=tensor"):
            Cast.parse(text)
    path = tmp_path / "i.safetensors"
    path.write_bytes(build({"i": ("I8", [4], b"abcd")}))
    with pytest.raises(CastError, match="'i' is stored as int8: a cast to e4m3 takes bf16, fp16, fp32"):
        open_source(str(path)).tensors()[0].with_cast("e4m3")


def test_cast_is_part_of_identity_and_can_be_undone(tmp_path: Path) -> None:
    tensor = bf16_tensor(tmp_path, RNG.standard_normal((8, 8)))
    cast = tensor.with_cast("e4m3:scale=tensor")
    assert len({tensor.identity, cast.identity, tensor.with_cast("e5m2").identity}) == 3
    assert cast.with_cast("") == tensor
    assert pickle.loads(pickle.dumps(cast)) == cast


# ------------------------------------------------------------------------------------------------ synthetic


def test_synthetic_bytes_do_not_depend_on_how_they_are_read() -> None:
    tensor = open_source("synthetic:gauss?shape=700x1000&seed=3&dtype=bf16").tensors()[0]
    whole = tensor.read(0, tensor.n_bytes)
    for start, end in ((0, 10), (524_280, 524_300), (524_288, 1_048_576), (1, tensor.n_bytes - 1)):
        assert np.array_equal(tensor.read(start, end), whole[start:end])
    values = whole.view(ml_dtypes.bfloat16).astype(np.float64)
    assert abs(values.std() / 0.02 - 1) < 0.01
    assert abs(values.mean()) < 1e-4


def test_synthetic_seed_and_index_make_other_bytes() -> None:
    a, b = (t.content_sha256() for t in open_source("synthetic:gauss?shape=64x64&tensors=2&seed=1").tensors())
    (c,) = (t.content_sha256() for t in open_source("synthetic:gauss?shape=64x64&seed=2").tensors())
    assert len({a, b, c}) == 3


@pytest.mark.parametrize("distribution", ["gauss", "laplace", "student", "random", "zeros"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "e4m3", "e5m2"])
def test_every_distribution_in_every_format(distribution: str, dtype: str) -> None:
    tensor = open_source(f"synthetic:{distribution}?shape=10x100&dtype={dtype}").tensors()[0]
    assert (tensor.format.name, len(tensor.read(0, tensor.n_bytes))) == (dtype, tensor.n_bytes)
    zero = not tensor.read(0, tensor.n_bytes).any()
    assert zero == (distribution == "zeros")


@pytest.mark.parametrize(
    "uri",
    [
        "synthetic:cauchy",
        "synthetic:gauss?shape=axb",
        "synthetic:gauss?shape=-1x4",
        "synthetic:gauss?colour=red",
        "synthetic:gauss?dtype=int8",
        "synthetic:gauss?sigma=nan",
        "synthetic:gauss?seed=-1",
        "synthetic:gauss?tensors=0",
        "synthetic:gauss?shape=99999999x99999999",
        "synthetic:gauss?kind=thing",
    ],
)
def test_bad_synthetic_uri_is_one_sentence(uri: str) -> None:
    with pytest.raises(SourceError, match=r"for example|as in|use ") as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ selection, staging


def test_selection_by_name_group_layer_kind_and_budget() -> None:
    tensors = open_source("synthetic:gauss?shape=8x8&tensors=6&name=layers&group=q_proj").tensors()

    def names(**conditions: object) -> list[str]:
        return [t.name for t in Selection(**conditions).of(tensors)]  # type: ignore[arg-type]

    assert names() == [f"layers.{i}" for i in range(6)]
    assert names(names=("*.2", "*.4")) == ["layers.2", "layers.4"]
    assert names(groups=("k_proj",)) == []
    assert names(kinds=("weight",), max_bytes=3 * 128) == ["layers.0", "layers.1", "layers.2"]
    assert names(max_bytes=127) == []


def test_staged_files_are_shared_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from linepress.sources import staging

    monkeypatch.setattr(staging, "BUDGET_BYTES", 3 * 2000)
    tensors = open_source("synthetic:random?shape=1000&tensors=5&dtype=bf16").tensors()
    first = staged(tensors[0])
    assert staged(tensors[0]) == first
    paths = [Path(staged(t).tensor.location.path) for t in tensors]  # type: ignore[attr-defined]
    assert sum(path.exists() for path in paths) <= 3
    assert paths[-1].exists()
    assert first.content_sha256 == tensors[0].content_sha256()
    assert staged(tensors[0]).content_sha256 == first.content_sha256


def test_files_of_a_killed_process_are_swept_and_those_of_a_live_one_kept(tmp_path: Path) -> None:
    from linepress.sources.staging import _sweep

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, live, other = (tmp_path / f"mine-{pid}-x" for pid in (ended.pid, os.getpid(), "name"))
    for folder in (dead, live, other):
        folder.mkdir()
        (folder / "part").write_bytes(b"x")
    _sweep(tmp_path, "mine-")
    assert not dead.exists()
    assert live.exists()
    assert other.exists()


def test_unknown_tensor_names_some_that_exist() -> None:
    with pytest.raises(SourceError, match="has no tensor 'x': it has gauss"):
        open_source("synthetic:gauss?shape=8x8").tensor("x")
