"""Shapes: parameter counts as published, configurations parsed, mistakes in them named."""

from __future__ import annotations

from typing import Any

import pytest

from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.inference.catalog import model, models, parse_model
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.precision import parse_precision

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
# Counted from the checkpoints' tensors, independently of the formula under test.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "qwen2.5-7b": 7_615_616_512,
    "mixtral-8x7b": 46_702_792_704,
    "gemma-2-9b": 9_241_705_984,
    "mistral-7b": 7_241_732_096,
    "smollm2-135m": 134_515_008,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_parameters_equal_the_checkpoints(name: str, count: int) -> None:
    assert model(name).parameters == count


def test_every_built_in_shape_has_a_source_and_its_published_count() -> None:
    assert {"llama-3.1-405b", "deepseek-v3", "qwen2.5-72b", "llama-2-70b"} <= set(models())
    for shape in models().values():
        assert shape.source
        assert shape.parameters == shape.published_parameters, shape.name


@pytest.mark.parametrize("alias", ["Llama-2-7b", "meta-llama/Llama-2-7b-hf", "LLAMA_2_7B"])
def test_names_of_the_hub_and_other_spellings_work(alias: str) -> None:
    assert model(alias).name == "llama-2-7b"


def test_an_unknown_model_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownPartError, match=r"llama-3\.1-8b"):
        model("llama-3.1-9b")


@pytest.mark.parametrize("key", [key for key in LLAMA if key not in ("model_type", "num_key_value_heads")])
def test_a_missing_field_takes_the_class_default_and_is_named(key: str) -> None:
    shape = parse_config({k: v for k, v in LLAMA.items() if k != key}, "m")
    assert key in shape.defaults
    assert parse_config(LLAMA, "m").defaults.count(key) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_key_value_heads": 5}, "num_attention_heads 32 and num_key_value_heads 5 contradict"),
        ({"num_key_value_heads": 64}, "contradict"),
        ({"hidden_size": 4097}, "hidden_size 4097 is not divisible by num_attention_heads 32"),
        ({"hidden_size": "4096"}, "hidden_size is '4096'"),
        ({"hidden_size": 4096.0}, "hidden_size is 4096.0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"model_type": "bert"}, "bert.*supported are .*llama"),
        ({"model_type": None}, "model_type is None"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for num_hidden_layers 32"),
        ({"layer_types": ["sliding_attention"] * 32}, "sliding_window is not given"),
        (
            {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9},
            "9 active of 8|9 exceeds the 8",
        ),
        ({"model_type": "deepseek_v2"}, "num_experts_per_tok"),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_config({**LLAMA, **change}, "m")


def test_missing_kv_heads_means_as_many_as_heads() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert parse_config(config).kv_heads == 32


def test_a_nested_language_model_is_found() -> None:
    shape = parse_config({"model_type": "llava", "text_config": LLAMA}, "vlm")
    assert (shape.name, shape.layers) == ("vlm", 32)


def test_windows_follow_the_families_rules() -> None:
    base = {**LLAMA, "sliding_window": 1024}
    assert parse_config({**base, "model_type": "mistral"}).sliding_layers == 32
    assert parse_config({**base, "model_type": "llama"}).sliding_layers == 0
    assert parse_config({**base, "model_type": "qwen2", "use_sliding_window": False}).sliding_layers == 0
    used = {**base, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 20}
    assert parse_config(used).sliding_layers == 12
    assert parse_config({**base, "model_type": "gemma2"}).sliding_layers == 16
    assert parse_config({**base, "model_type": "gemma3_text"}).sliding_layers == 27
    types = ["sliding_attention", "full_attention"] * 16
    assert parse_config({**base, "model_type": "qwen3", "layer_types": types}).sliding_layers == 16


def test_a_list_is_no_configuration() -> None:
    with pytest.raises(ConfigurationError, match="not a JSON object"):
        parse_config([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        ('name = "x"\nsource = "y"', "no config"),
        ('name = "x"\nsource = "y"\ncolour = 1\n[config]', "unknown key 'colour'"),
    ],
)
def test_a_bad_data_file_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"f.toml.*{words}"):
        parse_model(text, "f.toml")


def test_precision_forms() -> None:
    assert str(parse_precision("W4a16")) == "w4a16kv16"
    assert parse_precision("w8a8kv4").kv_bytes == 0.5
    for bad in ("w16", "16", "w0a16", "w16a16kv128", "bf16", "w-1a1"):
        with pytest.raises(ConfigurationError):
            parse_precision(bad)
