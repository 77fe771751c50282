"""Families of models: parameters as the reference library builds them, cache and states as its formulas give them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.capacity import footprint, largest_context
from linepress_hardware.inference.compression import PLAIN
from linepress_hardware.inference.families.family import families, parse_family, wrappers
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.operator import total
from linepress_hardware.inference.operators import attention_pairs, chunk, chunk_pairs, decode, operators, prefill
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import parse_precision
from linepress_hardware.inference.shapes import ModelShape

DATA = Path(__file__).parents[2] / "data" / "models"
CONFIGS = {row["model"]: row["config"] for row in map(json.loads, (DATA / "configs.jsonl").read_text().splitlines())}
COUNTS = list(csv.DictReader((DATA / "counts.csv").open()))
CLASSES = [json.loads(line) for line in (DATA / "classes.jsonl").read_text().splitlines()]
BF16 = parse_precision("w16a16kv16")


def shape_of(model: str) -> ModelShape:
    return parse_config(CONFIGS[model], model)


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row["model"])
def test_published_configurations_count_as_the_reference_library_counts(row: dict[str, str]) -> None:
    shape = shape_of(row["model"])
    if row["parameters"]:
        # a router's bias is a buffer there and a stored tensor of the checkpoint: 10^-8 of DeepSeek-V3
        assert shape.parameters == pytest.approx(int(row["parameters"]), rel=1e-7)
    assert shape.growing_bytes_per_token(2.0) == int(row["kv_bytes_per_token"]), row["formula"]
    assert shape.window_bytes(2.0) == int(row["window_bytes_per_sequence"]), row["formula"]
    assert shape.state_bytes(2.0) == int(row["state_bytes_per_sequence"]), row["formula"]


@pytest.mark.parametrize("case", CLASSES, ids=lambda case: json.dumps(case["config"])[:80])
def test_class_defaults_and_switches_count_as_the_reference_library_counts(case: dict[str, Any]) -> None:
    assert parse_config(case["config"]).parameters == pytest.approx(case["parameters"], rel=1e-7)


def test_every_family_has_a_source_and_is_found_by_its_types() -> None:
    assert len(families()) >= 61
    for kind, family in families().items():
        assert kind in family.model_types
        assert "configuration_" in family.source
    assert wrappers()["gemma3"].model_types[0] == "gemma3_text"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('model_types = ["x"]\nsource = "s"', "no attention"),
        ('model_types = ["x"]\nsource = "s"\ncolour = 1\n[attention]', "unknown key 'colour'"),
        ("model_types = [", "not TOML"),
    ],
)
def test_a_bad_family_file_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"families/x.toml.*{words}"):
        parse_family(text, "families/x.toml")


def test_fields_that_a_class_filled_are_said() -> None:
    shape = shape_of("google--gemma-3-4b-it")
    assert {"num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"} <= set(shape.defaults)
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocab) == (8, 4, 256, 262_208)


def test_null_is_a_value_and_absence_is_not() -> None:
    lite = CONFIGS["deepseek-ai--DeepSeek-V2-Lite"]
    absent = {key: value for key, value in lite.items() if key != "q_lora_rank"}
    assert parse_config(lite).parameters == 15_706_484_224
    assert parse_config(absent).parameters == 15_748_993_024
    mistral = {"model_type": "mistral", "hidden_size": 4096, "max_position_embeddings": 32_768}
    assert parse_config(mistral).sliding_layers == 32
    assert parse_config({**mistral, "sliding_window": None}).sliding_layers == 0


def test_a_window_no_shorter_than_the_context_is_none() -> None:
    for model in ("mistralai--Ministral-8B-Instruct-2410", "microsoft--Phi-4-mini-instruct"):
        assert shape_of(model).sliding_layers == 0
    assert shape_of("microsoft--Phi-3-mini-4k-instruct").sliding_layers == 32


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "glm4_moe", "num_hidden_layers": 8},
            "hidden_size 4096 is not divisible by num_attention_heads 96.*add head_dim",
        ),
        ({"model_type": "deepseek_v4", "num_hidden_layers": 8}, "compress_ratios"),
        ({"model_type": "minimax", "num_hidden_layers": 8}, "attn_type_list"),
        ({"model_type": "bamba", "num_hidden_layers": 8}, "attn_layer_indices is None.*give a list"),
        ({"model_type": "bamba", "attn_layer_indices": [40]}, "names layer 40, beyond the 32 layers"),
        ({"model_type": "llama"}, "no num_hidden_layers and no hidden_size, so it is not whole"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX*"}, "has 'X'"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M-"}, "no layer has attention"),
        (
            {"model_type": "qwen3", "hidden_size": 4096, "layer_types": ["psychic_attention"] * 32},
            "psychic_attention.*known are",
        ),
        ({"model_type": "gemma3n_text", "hidden_size": 2048, "num_kv_shared_layers": 35}, "leaves no layer"),
        ({"model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": [1, 2]}, "2 entries for 35 layers"),
        (
            {"model_type": "hunyuan_v1_moe", "hidden_size": 4096, "num_experts": 4, "moe_topk": [1, 2]},
            r"moe_topk is \[1, 2\]",
        ),
        ({"model_type": "llama", "num_hidden_layers": 10**9}, "more than any model"),
        ({"model_type": "llama", "hidden_size": 10**30}, "hidden_size is 1000"),
        ({"model_type": "gemma3", "text_config": {"hidden_size": -1}}, "hidden_size is -1"),
        ({"model_type": "qwen4_text"}, "qwen4_text.*near it are qwen"),
        ({"model_type": "new_wrapper", "text_config": {"hidden_size": 8}}, "new_wrapper"),
    ],
)
def test_what_is_missing_or_wrong_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_config(config, "m")


def test_chunked_attention_sees_its_own_chunk() -> None:
    for first, tokens in ((1, 20), (5, 9), (8, 1), (9, 1), (17, 3)):
        seen = [range((q - 1) // 8 * 8 + 1, q + 1) for q in range(first, first + tokens)]
        pairs, keys = chunk_pairs(chunk(1, tokens, first - 1), 8)
        assert pairs == sum(map(len, seen))
        assert keys == len(set().union(*map(set, seen)))


def test_recurrent_layers_cost_the_same_at_any_context() -> None:
    shape = shape_of("Qwen--Qwen3-Next-80B-A3B-Instruct")
    short, long = (operators(shape, decode(1, n), BF16, fused_attention=True) for n in (1_000, 100_000))
    read = [{op.name: float(op.count * op.kv_read_bytes) for op in ops} for ops in (short, long)]
    assert read[0]["linear_attention_state"] == read[1]["linear_attention_state"] == 77_266_944
    assert read[1]["fused_attention"] == 100 * read[0]["fused_attention"] == 100_000 * 24_576


def test_sparse_attention_reads_the_keys_it_chose_and_every_index_key() -> None:
    shape = shape_of("zai-org--GLM-5.2")
    by_name = {op.name: op for op in operators(shape, decode(1, 100_000), BF16, fused_attention=True)}
    assert by_name["indexer"].count == 21
    assert float(by_name["indexer"].kv_read_bytes) == 100_000 * 128 * 2
    attention = [op for name, op in by_name.items() if name.startswith("fused_attention")]
    assert sum(op.count for op in attention) == 78
    assert {float(op.kv_read_bytes) for op in attention} == {2048 * 576 * 2.0}
    assert shape.index_bytes_per_token(2.0) == 21 * 256


def test_weights_of_a_step_are_the_parameters_less_the_table() -> None:
    """At a batch that wakes every expert, a step reads each matrix once: the sum is the parameter count."""
    for model in (
        "Qwen--Qwen3.5-27B",
        "google--gemma-3-12b-it",
        "openai--gpt-oss-20b",
        "zai-org--GLM-5",
        "tiiuae--Falcon-H1-7B-Instruct",
        "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
        "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    ):
        shape = shape_of(model)
        ops = operators(shape, decode(100_000, 1), BF16, fused_attention=True)
        table = 0 if shape.tied_embeddings else shape.vocab * shape.hidden
        assert float(total(ops, "weight_bytes")) / 2 == pytest.approx(shape.parameters - table, rel=2e-3), model


def test_shared_caches_are_read_and_not_kept() -> None:
    shape = shape_of("google--gemma-3n-E4B-it")
    ops = operators(shape, decode(1, 4096), BF16, fused_attention=True)
    assert sum(op.count for op in ops if op.name.startswith("fused_attention")) == 35
    assert sum(op.count for op in ops if op.name == "k_proj") == 20
    assert shape.sequence_bytes(4096, 2.0) == 4096 * 8192 + 16_777_216


def test_a_prompt_of_window_layers_reads_less_than_one_of_full_layers() -> None:
    shape = shape_of("openai--gpt-oss-20b")
    windows = sum(op.count * op.ops for op in operators(shape, prefill(1, 4096), BF16) if "sliding" in op.name)
    opened = sum(
        op.count * op.ops for op in operators(shape.without_windows(), prefill(1, 4096), BF16) if "matmul" in op.name
    )
    assert windows < opened / 8
    assert attention_pairs(prefill(1, 4096), 128) < attention_pairs(prefill(1, 4096)) / 15


def test_footprint_holds_growth_windows_and_states() -> None:
    for model in ("Qwen--Qwen3.5-27B", "openai--gpt-oss-20b", "meta-llama--Llama-4-Scout-17B-16E-Instruct"):
        shape = shape_of(model)
        held = footprint(shape, BF16, PLAIN)
        for context in (1, 100, 128, 129, 10_000, 1_000_000):
            assert held.kv_bytes(3, context) == pytest.approx(3 * shape.sequence_bytes(context, 2.0), rel=1e-9)
        budget = held.total_bytes(2, 54_321)
        assert largest_context(held, budget, 2) == pytest.approx(54_321, abs=1)


def test_heads_split_over_devices_whatever_the_family() -> None:
    for model in ("Qwen--Qwen3.5-27B", "nvidia--Nemotron-H-8B-Base-8K", "deepseek-ai--DeepSeek-V3.2"):
        shape = shape_of(model)
        one = float(total(operators(shape, decode(1, 1000), BF16), "ops"))
        four = float(total(operators(shape, decode(1, 1000), BF16, parallel=Parallel(tp=4)), "ops"))
        assert one / 4 <= four < one


@pytest.mark.parametrize(
    ("model", "method", "bits", "kv_bits"),
    [
        ("Qwen--Qwen3-32B-FP8", "fp8", 8 + 32 / 128**2, None),
        ("deepseek-ai--DeepSeek-V3.2", "fp8", 8 + 8 / 128**2, None),
        ("openai--gpt-oss-20b", "mxfp4", 4.25, None),
        ("Qwen--Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq", 4 + 20 / 128, None),
        ("meta-llama--Llama-3.3-70B-Instruct-AWQ", "awq", 4 + 20 / 128, None),
        ("moonshotai--Kimi-K2.5", "compressed-tensors", 4.5, None),
        ("moonshotai--Kimi-K3", "compressed-tensors", 4.25, None),
        ("RedHatAI--Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "compressed-tensors", 8, None),
        ("nvidia--Llama-3.1-70B-Instruct-FP8", "modelopt", 8, 8),
    ],
)
def test_quantisation_is_read(model: str, method: str, bits: float, kv_bits: int | None) -> None:
    found = shape_of(model).quantised
    assert found is not None
    assert (found.method, found.weight_bits, found.kv_bits) == (method, pytest.approx(bits), kv_bits)


def test_stored_bytes_of_a_quantised_checkpoint() -> None:
    # openai/gpt-oss-20b: 13.76 GB of safetensors (model card: fits 16 GB)
    stored = shape_of("openai--gpt-oss-20b").stored_weight_bytes
    assert stored == pytest.approx(13.76e9, rel=0.01)
    unknown = {"model_type": "llama", "hidden_size": 4096, "quantization_config": {"quant_method": "hqq"}}
    assert parse_config(unknown).quantised is not None
    assert parse_config(unknown).stored_weight_bytes is None
    with pytest.raises(ConfigurationError, match="quant_algo 'W2'"):
        parse_config({**unknown, "quantization_config": {"quant_method": "modelopt", "quant_algo": "W2"}})


def test_active_parameters_are_those_of_a_token() -> None:
    assert shape_of("openai--gpt-oss-120b").active_parameters == pytest.approx(5.1e9, rel=0.15)
    assert shape_of("Qwen--Qwen3-235B-A22B-FP8").active_parameters == pytest.approx(22e9, rel=0.02)
    assert np.isclose(shape_of("google--gemma-2b").active_parameters, 2_506_172_416)
