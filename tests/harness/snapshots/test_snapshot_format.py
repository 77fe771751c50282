"""docs/snapshot-format.md: every rule holds in a passing file and is broken by a failing one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from linepress.cli.validate import command
from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.snapshot.lay import plan_blocks, to_blocks
from linepress.sources.snapshot.validate import FAIL, PASS, WARN, Finding, validate
from linepress.sources.snapshot.write import write_snapshot
from linepress.submission.fixtures import build

Tensors = dict[str, tuple[str, list[int], bytes]]
SAID = {
    "snapshot_version": "1", "model": "m", "layers": "2", "kv_heads": "2", "head_dim": "4", "tokens": "3",
    "keys": "post-RoPE", "dtype": "bf16", "text_sha256": "0" * 64,
}  # fmt: skip
ONE = b"\x80\x3f"  # 1.0 in bf16


def contiguous() -> tuple[Tensors, dict[str, str]]:
    body = ONE * 24
    tensors: Tensors = {f"{k}_cache_tensor_{i}": ("BF16", [2, 3, 4], body) for k in ("key", "value") for i in (0, 1)}
    return tensors, dict(SAID)


def paged() -> tuple[Tensors, dict[str, str]]:
    said = {**SAID, "arrangement": "paged-vllm", "block_tokens": "2"}
    tensors: Tensors = {
        "block_table": ("I32", [1, 3], np.array([1, 2, -1], "<i4").tobytes()),
        "sequence_tokens": ("I32", [1], np.array([3], "<i4").tobytes()),
    }
    for k in ("key", "value"):
        for i in (0, 1):
            tensors[f"{k}_cache_tensor_{i}"] = ("BF16", [4, 2, 2, 4], ONE * 64)
    return tensors, said


def outcome(tmp_path: Path, tensors: Tensors, said: dict[str, str]) -> list[Finding]:
    path = tmp_path / "s.safetensors"
    path.write_bytes(build(tensors, said))
    return validate(str(path))[0]


@pytest.mark.parametrize("make", [contiguous, paged])
def test_true_snapshots_pass_every_check(tmp_path: Path, make: Callable[[], tuple[Tensors, dict[str, str]]]) -> None:
    findings = outcome(tmp_path, *make())
    assert {f.outcome for f in findings} == {PASS}
    want = {"opens", "metadata", "dtype", "layers", "numbers"} | ({"slots"} if make is paged else set())
    assert {f.rule for f in findings} == want


def lie(name: str, value: str) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, said: dict[str, str]) -> None:
        said[name] = value

    return change


def table(name: str, values: Any) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, said: dict[str, str]) -> None:
        array = np.array(values, "<i4")
        tensors[name] = ("I32", list(array.shape), array.tobytes())

    return change


def without(*names: str) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, said: dict[str, str]) -> None:
        for name in names:
            del tensors[name]

    return change


def body(name: str, dtype: str, shape: list[int], raw: bytes) -> Callable[[Tensors, dict[str, str]], None]:
    def change(tensors: Tensors, said: dict[str, str]) -> None:
        tensors[name] = (dtype, shape, raw)

    return change


NAN_AT_5 = ONE * 5 + b"\xc0\x7f" + ONE * 18


@pytest.mark.parametrize(
    ("make", "change", "rule", "says"),
    [
        (contiguous, lie("kv_heads", "3"), "opens", "has 2 kv_heads but the header's metadata says '3'"),
        (contiguous, lie("head_dim", "64"), "opens", "has 4 head_dim"),
        (contiguous, lie("tokens", "512"), "opens", "has 3 tokens"),
        (contiguous, lie("tokens", "many"), "opens", "which is no count"),
        (contiguous, lie("tokens", "9" * 400), "opens", "which is no count"),
        (contiguous, lie("layers", "1"), "opens", "layer 1 is beyond the 1 layers"),
        (contiguous, lie("snapshot_version", "2"), "opens", "reads version 1"),
        (contiguous, lie("arrangement", "ring"), "opens", "is not one of contiguous"),
        (contiguous, lie("holds", "souls"), "opens", "is not one of keys and values"),
        (contiguous, lie("holds", "keys"), "opens", "but has value tensors"),
        (contiguous, lie("layer_tokens", "3"), "opens", "names 1 layers of 2"),
        (contiguous, lie("layer_tokens", "3,2"), "opens", "has 3 tokens but the header's metadata says '2'"),
        (contiguous, lie("layer_tokens", "3,-1"), "opens", "not one number of tokens a layer"),
        (contiguous, lie("turn_ends", "3,2"), "turns", "not a rising list"),
        (contiguous, without("value_cache_tensor_1"), "opens", "keys or values but not both"),
        (contiguous, body("key_cache_tensor_0", "BF16", [2, 0, 4], b""), "opens", "holds no tokens"),
        (contiguous, body("key_cache_tensor_0", "BF16", [6, 4], ONE * 24), "opens", "contiguous is .kv_heads, tok"),
        (contiguous, body("key_cache_tensor_0", "BF16", [2, 3, 4], NAN_AT_5), "numbers", r"1 NaN .* at \[0, 1, 1\]"),
        (contiguous, body("key_cache_tensor_1", "BF16", [2, 3, 4], b"\xff" * 48), "numbers", "24 NaN of 24"),
        (contiguous, body("value_cache_tensor_0", "BF16", [2, 3, 4], bytes(48)), "written", "all zero"),
        (paged, without("block_table"), "opens", "needs a tensor 'block_table'"),
        (paged, without("sequence_tokens"), "opens", "needs a tensor 'sequence_tokens'"),
        (paged, body("block_table", "F32", [1, 3], bytes(12)), "opens", "must be I32 with 2 axes"),
        (paged, lie("block_tokens", "16"), "opens", "has 2 block_tokens"),
        (paged, lie("tokens", "4"), "tokens", "states 4 tokens but the block table marks 3"),
        (paged, table("block_table", [[1, 4, -1]]), "opens", "must name 2 of 4 blocks"),
        (paged, table("block_table", [[1, -7, -1]]), "opens", "must name 2 of 4 blocks"),
        (paged, table("block_table", [[1, 2, 3]]), "opens", "and then -1"),
        (paged, table("block_table", [[1, 1, -1]]), "opens", "names a block twice"),
        (paged, table("block_table", [[1], [2]]), "opens", "has 1 sequences where the caches have 2"),
        (paged, table("sequence_tokens", [99]), "opens", "cannot hold"),
        (paged, table("sequence_tokens", [-1]), "opens", "cannot hold"),
        (paged, table("sequence_tokens", [0]), "opens", "must name 0 of 4"),
        (paged, body("key_cache_tensor_0", "BF16", [5, 2, 2, 4], ONE * 80), "opens", "share one block table"),
        (paged, body("key_cache_tensor_0", "BF16", [4, 4, 4], ONE * 64), "opens", "has shape"),
    ],
)  # fmt: skip
def test_each_lie_is_found_and_said_in_one_sentence(
    tmp_path: Path, make: Any, change: Any, rule: str, says: str
) -> None:
    tensors, said = make()
    change(tensors, said)
    failed = [f for f in outcome(tmp_path, tensors, said) if f.outcome == FAIL]
    assert [f.rule for f in failed][:1] == [rule]
    assert "\n" not in failed[0].text
    assert re.search(says, failed[0].text)


def test_what_makes_a_snapshot_hard_to_compare_is_a_warning(tmp_path: Path) -> None:
    tensors, said = contiguous()
    del said["text_sha256"], said["model"]
    said["layers"] = "4"
    tensors["key_cache_tensor_0"] = ("F16", [2, 3, 4], b"\x00\x7c" + b"\x00\x3c" * 23)
    found = {f.rule: f for f in outcome(tmp_path, tensors, said) if f.outcome == WARN}
    assert "model, text_sha256" in found["metadata"].text
    assert "2 of 4 layers" in found["layers"].text
    assert "BF16, F16" in found["dtype"].text
    assert found["infinite"].text.startswith("1 infinite")


@pytest.mark.parametrize(
    ("dtype", "nan", "number"), [("F8_E4M3", 0x7F, 0x7E), ("F8_E5M2", 0x7D, 0x7B), ("F8_E4M3FNUZ", 0x80, 0x7F)]
)
def test_nan_of_each_fp8(tmp_path: Path, dtype: str, nan: int, number: int) -> None:
    def checked(value: int) -> list[str]:
        tensors, said = contiguous()
        raw = bytes([value]) + b"\x31" * 23
        for name in list(tensors):
            tensors[name] = (dtype, [2, 3, 4], raw)
        return [f.rule for f in outcome(tmp_path, tensors, said) if f.outcome == FAIL]

    assert checked(nan)[0] == "numbers"
    assert checked(number) == []


def test_sliding_layers_keep_fewer_tokens(tmp_path: Path) -> None:
    tensors, said = contiguous()
    for k in ("key", "value"):
        tensors[f"{k}_cache_tensor_1"] = ("BF16", [2, 2, 4], ONE * 16)
    said["layer_tokens"] = "3,2"
    assert {f.outcome for f in outcome(tmp_path, tensors, said)} == {PASS}


def test_latent_caches_are_one_tensor_a_layer(tmp_path: Path) -> None:
    tensors: Tensors = {f"key_cache_tensor_{i}": ("BF16", [1, 3, 8], ONE * 24) for i in (0, 1)}
    said = {**SAID, "holds": "latent", "kv_heads": "1", "head_dim": "8", "latent_rank": "6"}
    assert {f.outcome for f in outcome(tmp_path, tensors, said)} == {PASS}


def test_a_writer_leaves_nothing_behind_when_it_refuses(tmp_path: Path) -> None:
    plan = plan_blocks([3], block_tokens=2)
    pages = to_blocks([np.ones((2, 3, 4), np.uint16)], plan, "key")
    with pytest.raises(SourceError, match="says '9'"):
        write_snapshot(
            tmp_path / "s.safetensors", {"key_cache_tensor_0": ("bf16", pages)},
            {"arrangement": "paged-vllm", "holds": "keys", "kv_heads": "9"}, plan.tables,
        )  # fmt: skip
    with pytest.raises(SourceError, match="cannot be written as e4m3"):
        write_snapshot(tmp_path / "s.safetensors", {"key_cache_tensor_0": ("e4m3", pages)}, {})
    with pytest.raises(SourceError, match="has no table 'index'"):
        write_snapshot(tmp_path / "s.safetensors", {}, {}, {"index": np.zeros(1, np.int32)})
    assert list(tmp_path.iterdir()) == []


def test_views_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        open_source(f"memory:{tmp_path}/none.safetensors")


def test_the_verb_says_valid_or_rejected(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    good.write_bytes(build(*paged()))
    tensors, said = paged()
    table("block_table", [[1, 1, -1]])(tensors, said)
    bad.write_bytes(build(tensors, said))
    found = CliRunner().invoke(command, [str(good), str(bad), "--json"], standalone_mode=False)
    assert found.return_value == 1
    document = json.loads(found.output)
    assert [s["valid"] for s in document["sources"]] == [True, False]
    assert document["sources"][0]["arrangement"] == "paged-vllm"
    found = CliRunner().invoke(command, [str(good)], standalone_mode=False)
    assert found.return_value == 0
    assert "valid" in found.output
    assert "3 tokens fill 37.5 %" in found.output
    found = CliRunner().invoke(command, [str(tmp_path / "none.safetensors")], standalone_mode=False)
    assert found.return_value == 1
    assert "no such file" in found.output
