"""Folders of safetensors: incomplete sets and copies of the same weights; names of KV caches of several libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.groups import place_of
from linepress.sources.snapshot.validate import validate
from linepress.submission.fixtures import build

RNG = np.random.Generator(np.random.PCG64(7))


def write(folder: Path, name: str, *tensors: str, dtype: str = "F16") -> Path:
    folder.mkdir(exist_ok=True)
    held = {t: (dtype, [64, 128], RNG.standard_normal((64, 128)).astype("<f2").tobytes()) for t in tensors}
    (folder / name).write_bytes(build(held))
    return folder / name


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model-00001-of-00003", "adapter_model"], r"shard 2, 3 of 3 of 'model' are missing \(1 of 3 are there\)"),
        (["model-00001-of-000163", "model-00002-of-000163"], r"shard 3, 4, 5, 6, 7 … of 163 .* \(2 of 163 are there"),
        (["model-1-of-2"], "shard 2 of 2 of 'model' is missing"),
        (["a-00001-of-00001", "b-00002-of-00002"], "shard 1 of 2 of 'b' is missing"),
        (["m-00000-of-00003", "m-00002-of-00003"], "shard 1 of 3"),
        (["m-00001-of-00002", "m-000001-of-00002"], "are the same shard"),
        (["m-00003-of-00002"], "is no shard of 2"),
    ],
)
def test_every_stem_must_be_complete(tmp_path: Path, names: list[str], words: str) -> None:
    for i, name in enumerate(names):
        write(tmp_path, f"{name}.safetensors", f"model.layers.{i}.mlp.up_proj.weight")
    with pytest.raises(SourceError, match=words):
        open_source(str(tmp_path))


def test_complete_sets_beside_a_file_are_read(tmp_path: Path) -> None:
    for i in (1, 2):
        write(tmp_path, f"model-{i:06d}-of-000002.safetensors", f"model.layers.{i}.mlp.up_proj.weight")
    write(tmp_path, "adapter.safetensors", "lora_A")
    assert len(open_source(str(tmp_path)).tensors()) == 3


@pytest.mark.parametrize("copy", ["consolidated.safetensors", "model.fp16.safetensors", "a.safetensors"])
def test_the_same_weights_under_two_names_count_once_and_are_said(tmp_path: Path, copy: str) -> None:
    path = write(tmp_path, "model.safetensors", "model.layers.0.mlp.up_proj.weight", "model.norm.weight")
    shutil.copy(path, tmp_path / copy)
    source = open_source(str(tmp_path))
    assert [t.name for t in source.tensors()] == ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"]
    assert source.left_out() == {copy: "the same weights as model.safetensors"}
    findings, facts = validate(str(tmp_path))
    assert any(f.rule == "left out" and copy in f.text for f in findings)
    assert facts["left_out"] == source.left_out()


def test_the_same_weights_under_other_tensor_names_and_in_shards(tmp_path: Path) -> None:
    data = [RNG.standard_normal((64, 128)).astype("<f2").tobytes() for _ in range(4)]
    one = {f"layers.{i}.feed_forward.w1.weight": ("F16", [64, 128], d) for i, d in enumerate(data)}
    (tmp_path / "consolidated.safetensors").write_bytes(build(one))
    for part in (0, 1):
        held = {
            f"model.layers.{i}.mlp.gate_proj.weight": ("F16", [64, 128], data[i]) for i in (2 * part, 2 * part + 1)
        }
        (tmp_path / f"model-{part + 1:05d}-of-00002.safetensors").write_bytes(build(held))
    source = open_source(str(tmp_path))
    assert len(source.tensors()) == 4
    assert source.left_out() == {"consolidated.safetensors": "the same weights as model-00001-of-00002.safetensors"}


def test_files_of_the_same_shapes_and_other_bytes_are_not_copies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, f"{name}.safetensors", "model.norm.weight")
    source = open_source(str(tmp_path))
    assert [t.name for t in source.tensors()] == ["a/model.norm.weight", "b/model.norm.weight"]
    assert source.left_out() == {}


def test_weights_in_other_formats_beside_are_said(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors", "model.norm.weight")
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    findings, _ = validate(str(tmp_path))
    assert any(f.rule == "left out" and "pytorch_model.bin: not safetensors" in f.text for f in findings)


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("past_key_values.0.key", "key", 0),
        ("past_key_values.11.value", "value", 11),
        ("past_key_values_3_value", "value", 3),
        ("past_key_values.2.decoder.value", "value", 2),
        ("present.1.key", "key", 1),
        ("present.1.value", "value", 1),
        ("present_key_values.4.value", "value", 4),
        ("layers.5.keys", "key", 5),
        ("layers.5.values", "value", 5),
        ("k_buffer.7", "key", 7),
        ("v_buffer.7", "value", 7),
        ("key_cache.2", "key", 2),
        ("value_cache.2", "value", 2),
        ("cache.layers.2.values", "value", 2),
        ("kv_cache.3.v", "value", 3),
        ("cache_k_l3", "key", 3),
        ("cache_v_l12", "value", 12),
        ("layers.4.v_cache", "value", 4),
        ("key_cache_tensor_4", "key", 4),
        ("model.layers.3.self_attn.value_states", "value", 3),
    ],
)
def test_names_of_caches(name: str, kind: str, layer: int) -> None:
    place = place_of(name)
    assert (place.kind, place.group, place.layer) == (kind, f"{kind}_cache", layer)


def test_validate_says_keys_and_values_apart(tmp_path: Path) -> None:
    write(tmp_path, "onnx.safetensors", "past_key_values.0.key", "past_key_values.0.value", "present.1.value")
    findings, _ = validate(str(tmp_path / "onnx.safetensors"))
    assert "1 of keys, 2 of values" in findings[0].text


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.self_attn.k_proj.weight",
        "encoder.layer.0.attention.self.value.weight",
        "transformer.h.0.attn.key.weight",
        "model.present.weight",
        "blk.0.attn_v.weight",
        "layers.0.key_norm.weight",
    ],
)
def test_names_of_weights_stay_weights(name: str) -> None:
    assert place_of(name).kind == "weight"
