"""Corrected operators against closed forms worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import operators as ops_of
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compare_modes import differences
from linepress_hardware.inference.operator import Operator, total
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import device, roofline, step_time_s, time_s

P = Precision()


def _named(ops: list[Operator], name: str) -> Operator:
    return next(op for op in ops if op.name == name)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.one_of(st.none(), st.integers(1, 150)))
def test_attention_pairs_equal_a_count_by_hand(first: int, tokens: int, window: int | None) -> None:
    step = ops_of.Step("x", np.array(1.0), np.array(float(tokens)), np.array(float(first)), np.array(1.0))
    by_hand = sum(min(first + i, window or first + i) for i in range(tokens))
    assert float(ops_of.attention_pairs(step, window)) == by_hand
    keys = {key for i in range(tokens) for key in range(max(0, first + i - (window or first + i)), first + i)}
    assert float(ops_of.keys_read(step, window)) >= len(keys)
    if window is None:
        assert float(ops_of.keys_read(step, window)) == len(keys)


def test_lm_head_mlp_act_causal_and_grouped_queries_are_right() -> None:
    shape, B, S = model("llama-3.1-8b"), 16, 1024
    prompt = ops_of.operators(shape, ops_of.prefill(B, S), P)
    step = ops_of.operators(shape, ops_of.decode(B, S), P)
    head = _named(step, "lm_head")
    assert float(head.ops) == 2 * B * 4096 * 128256
    assert float(head.weight_bytes) == 4096 * 128256 * 2
    assert float(head.act_written_bytes) == B * 128256 * 2
    act = _named(step, "mlp_act")
    assert (float(act.ops), float(act.bytes)) == (2 * B * 14336, 3 * B * 14336 * 2)
    qk = _named(prompt, "qk_matmul")
    assert float(qk.ops) == 2 * B * (S * (S + 1) / 2) * 128 * 32
    assert float(qk.act_read_bytes) == B * S * 128 * 32 * 2  # the query with all 32 heads
    assert float(qk.kv_read_bytes) == B * S * 128 * 8 * 2  # keys with the 8 KV heads
    assert float(_named(step, "qk_matmul").kv_read_bytes) == B * S * 128 * 8 * 2


def test_fused_attention_reads_each_key_once_and_writes_no_scores() -> None:
    shape, B, S = model("llama-3.1-8b"), 4, 2048
    fused = _named(ops_of.operators(shape, ops_of.decode(B, S), P, fused_attention=True), "fused_attention")
    assert float(fused.kv_read_bytes) == 2 * B * S * 128 * 8 * 2
    assert float(fused.act_read_bytes) == float(fused.act_written_bytes) == B * 128 * 32 * 2


@pytest.mark.parametrize(
    "name", ["llama-2-7b", "llama-3.1-8b", "qwen2.5-7b", "gemma-2-9b", "qwen3-8b", "smollm2-135m"]
)
def test_a_decode_step_reads_every_weight_but_the_input_table_once(name: str) -> None:
    shape = model(name)
    counts = shape.parameters_by_group()
    expected = sum(counts.values()) - (0 if shape.tied_embeddings else counts["embed"])
    read = total(ops_of.operators(shape, ops_of.decode(1, 100), P), "weight_bytes")
    # Norm vectors over single heads are inside the projections here; they are under a millionth.
    assert read == pytest.approx(2 * expected, rel=1e-5)


def test_kv_read_in_decode_is_the_cache() -> None:
    for name, k in (
        ("llama-2-7b", 524288),
        ("llama-3.1-8b", 131072),
        ("llama-3.1-70b", 327680),
        ("qwen2.5-7b", 57344),
    ):
        shape = model(name)
        assert shape.kv_bytes_per_token(2) == k
        ops = ops_of.operators(shape, ops_of.decode(3, 1000), P)
        assert total(ops, "kv_read_bytes") == 3 * 1000 * k
        assert total(ops, "kv_written_bytes") == 3 * k


def test_mixture_reads_the_expected_experts() -> None:
    shape = model("mixtral-8x7b")
    one = 3 * 4096 * 14336 * 2
    for batch in (1, 4, 64):
        ops = ops_of.operators(shape, ops_of.decode(batch, 10), P)
        read = sum(float(op.weight_bytes) for op in ops if op.name.startswith("experts.") and op.group)
        assert read == pytest.approx(8 * (1 - 0.75**batch) * one, rel=1e-12)
        done = sum(float(op.ops) for op in ops if op.name.startswith("experts.") and op.group)
        assert done == pytest.approx(batch * 2 * one, rel=1e-12)  # two experts a token, 2 operations a byte pair


def test_latent_attention_caches_one_vector_and_absorbs_in_decode() -> None:
    shape = model("deepseek-v3")
    assert shape.kv_bytes_per_token(2) == 61 * (512 + 64) * 2
    step = ops_of.operators(shape, ops_of.decode(2, 4096), P, fused_attention=True)
    fused = _named(step, "fused_attention")
    assert float(fused.kv_read_bytes) == 2 * 4096 * 576 * 2
    assert float(fused.ops) == 2 * 4096 * 128 * (2 * 576 + 2 * 512 + 5)
    prompt = _named(ops_of.operators(shape, ops_of.prefill(1, 512), P, fused_attention=True), "fused_attention")
    assert float(prompt.ops) == 512 * 513 / 2 * 128 * (2 * 192 + 2 * 128 + 5)


def test_sliding_layers_read_their_window_only() -> None:
    shape = model("gemma-2-9b")
    ops = ops_of.operators(shape, ops_of.decode(1, 8192), P)
    full, slide = _named(ops, "qk_matmul"), _named(ops, "qk_matmul.sliding")
    assert (full.count, slide.count) == (21, 21)
    assert float(slide.kv_read_bytes) * 2 == float(full.kv_read_bytes)
    every = ops_of.operators(model("mistral-7b"), ops_of.decode(1, 8192), P)
    assert _named(every, "qk_matmul").kv_read_bytes == 4096 * 1024 * 2


def test_chunks_of_a_prompt_add_up_to_the_prompt() -> None:
    shape = model("llama-3.1-8b")
    whole = ops_of.operators(shape, ops_of.prefill(1, 4096), P, fused_attention=True)
    parts = [
        ops_of.operators(shape, ops_of.chunk(1, 512, prior), P, fused_attention=True) for prior in range(0, 4096, 512)
    ]
    assert sum(float(_named(ops, "fused_attention").ops) for ops in parts) == float(
        _named(whole, "fused_attention").ops
    )
    assert sum(float(_named(ops, "q_proj").ops) for ops in parts) == float(_named(whole, "q_proj").ops)
    on = device(accelerator("h100"), P)
    assert sum(step_time_s(ops, on) for ops in parts) > step_time_s(whole, on)  # weights are read eight times


def test_a_speculative_check_needs_logits_of_every_token() -> None:
    shape = model("llama-3.1-8b")
    ops = ops_of.operators(shape, ops_of.verify(2, 1000, 4), P, fused_attention=True)
    assert float(_named(ops, "lm_head").ops) == 2 * 2 * 5 * 4096 * 128256
    assert float(_named(ops, "fused_attention").kv_read_bytes) == 2 * 1004 * 2 * 1024 * 2


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallel_devices_share_weights_and_kv(tp: int) -> None:
    shape = model("llama-3.1-8b")
    one = ops_of.operators(shape, ops_of.decode(8, 2048), P, fused_attention=True)
    many = ops_of.operators(shape, ops_of.decode(8, 2048), P, fused_attention=True, parallel=Parallel(tp))
    norm = sum(op.count * op.weight_bytes for op in one if op.group == "norm")
    assert tp * (total(many, "weight_bytes") - norm) == pytest.approx(total(one, "weight_bytes") - norm, rel=1e-12)
    assert tp * total(many, "kv_read_bytes") == total(one, "kv_read_bytes")


def test_more_devices_than_kv_heads_hold_heads_several_times() -> None:
    shape = model("llama-3.1-8b")
    many = ops_of.operators(shape, ops_of.decode(1, 100), P, parallel=Parallel(16))
    assert float(_named(many, "qk_matmul").kv_read_bytes) == 100 * 128 * 2


def test_expert_parallel_devices_share_experts() -> None:
    shape = model("deepseek-v3")
    alone = ops_of.operators(shape, ops_of.decode(100000, 10), P)
    spread = ops_of.operators(shape, ops_of.decode(100000, 10), P, parallel=Parallel(8, ep=8))

    def read(ops: list[Operator]) -> float:
        return sum(float(op.weight_bytes) for op in ops if op.name.startswith("experts.") and op.group)

    assert read(spread) == pytest.approx(read(alone) / 8, rel=1e-9)


def test_arrays_give_what_single_points_give() -> None:
    shape, on = model("mixtral-8x7b"), device(accelerator("h100"), P)
    batches, contexts = np.array([[1.0], [7.0], [64.0]]), np.array([[16.0, 4096.0]])
    many = step_time_s(ops_of.operators(shape, ops_of.decode(batches, contexts), P), on)
    for i, batch in enumerate(batches[:, 0]):
        for j, context in enumerate(contexts[0]):
            one = step_time_s(ops_of.operators(shape, ops_of.decode(batch, context), P), on)
            assert many[i, j] == pytest.approx(float(one), rel=1e-14)


def test_time_is_the_slower_of_arithmetic_and_memory() -> None:
    on = device(accelerator("h100"), P)
    for op in ops_of.operators(model("llama-3.1-8b"), ops_of.prefill(1, 300), P):
        expected = max(float(op.ops) / on.peak_ops[op.kind], float(op.bytes) / on.bandwidth_Bps)
        assert float(time_s(op, on)) == pytest.approx(expected, rel=1e-12)


def test_differences_name_what_was_mended() -> None:
    both = [
        roofline(
            model("llama-3.1-8b"),
            accelerator("a6000"),
            stage="prefill",
            batch=4,
            context_tokens=1024,
            precision=P,
            mode=mode,
        )
        for mode in ("reference", "corrected")
    ]
    found = {line["layer"]: line for line in differences(*both)}
    assert {"qk_matmul", "sv_matmul", "softmax", "mlp_act", "lm_head", "total"} <= set(found)
    assert "gate_proj" not in found
    assert found["lm_head"]["corrected_ops"] == 2 * found["lm_head"]["reference_ops"]
    assert "causal" in found["qk_matmul"]["why"]
    assert found["final_norm"]["reference_ops"] is None


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Parallel(3), "does not divide the 32 attention heads.*1, 2, 4"),
        (Parallel(pp=64), "exceeds the 32 layers"),
        (Parallel(8, ep=8), "has no experts"),
    ],
)
def test_layouts_that_do_not_fit_are_refused(layout: Parallel, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ops_of.operators(model("llama-2-7b"), ops_of.decode(1, 1), P, parallel=layout)


@pytest.mark.parametrize("bad", [{"tp": 0}, {"dp": -1}, {"tp": True}, {"ep": 3}])
def test_degrees_that_are_none_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        Parallel(**bad)


def test_steps_need_a_batch_and_tokens() -> None:
    for bad in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigurationError, match="batch"):
            ops_of.decode(bad, 10)
