"""Capture with PyTorch on models of random weights; runs only where the extra ``capture`` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra capture is not installed")
transformers = pytest.importorskip("transformers", reason="the extra capture is not installed")

from linepress.capture.runner import CaptureError  # noqa: E402
from linepress.capture.torch_model import TorchRunner  # noqa: E402

COMMON: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
TOKENS = [int(t) for t in np.random.Generator(np.random.PCG64(5)).integers(3, 300, 40)]


def folder(tmp_path: Path, config: Any) -> str:
    """A model of seeded weights and a byte-level tokenizer, on disk."""
    tokenizers = pytest.importorskip("tokenizers")
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    vocabulary = {chr(i + 256): i for i in range(300)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=chr(256)))
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=chr(256)).save_pretrained(tmp_path)
    return str(tmp_path)


def numbers(bits: np.ndarray) -> np.ndarray:
    return bits.view(np.float32)


def test_caches_are_the_models_and_pre_rope_keys_rotate_into_them(tmp_path: Path) -> None:
    runner = TorchRunner(folder(tmp_path, transformers.LlamaConfig(**COMMON)), "fp32", pre_rope=True, hidden=True)
    session = runner.start()
    session.prefill(TOKENS[:30])
    session.decode(TOKENS[30:])
    layers = session.layers()
    with torch.inference_mode():
        out = runner._model(torch.tensor([TOKENS]), use_cache=True, output_hidden_states=True)
        cos, sin = runner._model.model.rotary_emb(out.logits, torch.arange(len(TOKENS))[None])
    for i, layer in enumerate(layers):
        assert layer.keys.shape == (2, 40, 16)
        np.testing.assert_allclose(numbers(layer.keys), out.past_key_values.layers[i].keys[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(numbers(layer.values), out.past_key_values.layers[i].values[0].numpy(), atol=1e-5)
        assert layer.hidden is not None
        np.testing.assert_allclose(numbers(layer.hidden), out.hidden_states[i][0].numpy(), atol=1e-5)
        assert layer.pre_rope_keys is not None
        x = numbers(layer.pre_rope_keys)
        c, s = cos[0].numpy(), sin[0].numpy()
        turned = x * c + np.concatenate([-x[..., 8:], x[..., :8]], axis=-1) * s
        np.testing.assert_allclose(turned, numbers(layer.keys), atol=1e-5)


def test_a_fork_goes_on_without_touching_its_origin(tmp_path: Path) -> None:
    runner = TorchRunner(folder(tmp_path, transformers.LlamaConfig(**COMMON)), "bf16", pre_rope=False, hidden=False)
    start = runner.start()
    start.prefill(TOKENS[:16])
    before = start.layers()[0].keys.copy()
    other = start.fork()
    made = other.generate(4)
    assert len(made) == 4
    assert np.array_equal(start.layers()[0].keys, before)
    assert other.layers()[0].keys.shape[1] == 20
    assert np.array_equal(other.layers()[0].keys[:, :16], before)


def test_sliding_window_layers_keep_what_the_library_keeps(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(**COMMON, head_dim=16, sliding_window=9)
    runner = TorchRunner(folder(tmp_path, config), "fp32", pre_rope=True, hidden=False)
    assert runner.facts.sliding_window == 9
    session = runner.start()
    session.prefill(TOKENS)
    kept = [layer.keys.shape[1] for layer in session.layers()]
    assert kept == [8, 40, 8]  # window - 1 past tokens; every second layer attends to all
    for layer in session.layers():
        assert layer.pre_rope_keys is not None
        assert layer.pre_rope_keys.shape == layer.keys.shape


def test_latent_attention_is_captured_as_latent(tmp_path: Path) -> None:
    config = transformers.DeepseekV3Config(
        **{**COMMON, "num_key_value_heads": 4}, kv_lora_rank=24, q_lora_rank=32, qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=16, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=32,
        first_k_dense_replace=2,
    )  # fmt: skip
    runner = TorchRunner(folder(tmp_path, config), "fp32", pre_rope=False, hidden=False)
    session = runner.start()
    session.prefill(TOKENS)
    for layer in session.layers():
        assert layer.latent is not None
        assert layer.latent.shape == (1, 40, 24 + 8)
        assert np.array_equal(layer.latent[:, :, :24], layer.keys)


def test_models_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    for name, says in (("nowhere", "no file, folder or hub name"), (str(tmp_path), "no config.json")):
        with pytest.raises(CaptureError, match=says):
            TorchRunner(name, "bf16", pre_rope=False, hidden=False)
