"""KV that fits: every copy counted under tensor parallelism, windows kept, experts shared; by hand arithmetic."""

from __future__ import annotations

import math

import pytest

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.inference.capacity import budget_bytes, capacity_tokens, footprint
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.operator import total
from linepress_hardware.inference.operators import decode, operators
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.reference import operators as published
from linepress_hardware.inference.reference import resident_bytes
from linepress_hardware.inference.roofline import roofline
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.serving import kv_room_tokens
from linepress_hardware.inference.system import evaluate

P = Precision()
GEMMA_3_27B = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 62,
    "hidden_size": 5376,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "intermediate_size": 21504,
    "vocab_size": 262208,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
}


@pytest.mark.parametrize(
    ("name", "tp", "copies"),
    [
        ("deepseek-v3", 8, 8.0),
        ("deepseek-v3", 1, 1.0),
        ("qwen3-30b-a3b", 8, 2.0),
        ("qwen3-30b-a3b", 4, 1.0),
        ("llama-3.1-8b", 8, 1.0),
        ("llama-3.1-8b", 16, 2.0),
        ("qwen2.5-7b", 28, 7.0),
    ],
)
def test_kv_lies_once_for_each_device_that_needs_it(name: str, tp: int, copies: float) -> None:
    shape, parallel = model(name), Parallel(tp)
    assert parallel.kv_copies(shape) == copies
    one, several = footprint(shape, P, PLAIN), footprint(shape, P, PLAIN, parallel)
    assert several.kv_bytes_per_token == copies * one.kv_bytes_per_token
    # What a step reads is what is held: traffic and capacity count the same copies.
    read = total(operators(shape, decode(1, 4096), P, fused_attention=True, parallel=parallel), "kv_read_bytes")
    assert float(read) * tp == pytest.approx(several.kv_bytes(1, 4096), rel=1e-12)


@pytest.mark.parametrize(("name", "copies"), [("deepseek-v3", 8), ("qwen3-30b-a3b", 2)])
def test_every_number_of_capacity_counts_the_copies(name: str, copies: int) -> None:
    part, p, shape = accelerator("b200"), Precision(8, 8, 8), model(name)
    row = evaluate(name, "b200", Scenario(tp=8, precision="w8a8kv8"), Compression(1.3, 1.4))
    room = 0.9 * 8 * part.capacity_bytes - shape.parameters
    by_hand = room / (copies * shape.kv_bytes_per_token(1.0))
    assert row["plain_capacity_tokens"] == pytest.approx(by_hand, rel=1e-12)
    assert row["capacity_gain"] == pytest.approx(row["closed_form_capacity_gain"], rel=1e-12)
    assert kv_room_tokens(shape, part, p, Parallel(8), PLAIN, 0.9) == pytest.approx(by_hand, rel=1e-12)
    held = roofline(shape, part, stage="decode", batch=4, context_tokens=1000, precision=p, parallel=Parallel(8))
    assert held["resident"]["resident_kv_B"] == 4 * 1000 * copies * shape.kv_bytes_per_token(1.0)


def test_replicas_that_share_experts_hold_their_part_of_them() -> None:
    shape = model("deepseek-v3")
    routed = 58 * 3 * 7168 * 2048 * 256
    alone, shared = (
        footprint(shape, Precision(8, 8, 8), PLAIN, layout) for layout in (Parallel(), Parallel(1, 1, 8, 8))
    )
    assert alone.weight_bytes - shared.weight_bytes == pytest.approx(routed * 7 / 8, rel=1e-12)


def test_sliding_layers_hold_their_window() -> None:
    """Gemma-3-27B at 32k, one sequence: 10 full layers and 52 of 1,024 tokens, 8,192 B a layer and token."""
    shape = parse_config(GEMMA_3_27B, "gemma-3-27b")
    by_hand = 8192 * (10 * 32768 + 52 * 1024)
    assert round(by_hand / 1e9, 2) == 3.12
    for stage in ("prefill", "decode"):
        found = roofline(shape, accelerator("h200"), stage=stage, batch=1, context_tokens=32768, precision=P)
        assert found["resident"]["resident_kv_B"] == pytest.approx(by_hand, rel=1e-12)
    short = roofline(shape, accelerator("h200"), stage="decode", batch=1, context_tokens=512, precision=P)
    assert short["resident"]["resident_kv_B"] == 8192 * 62 * 512


@pytest.mark.parametrize("stage", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3.1-8b"])
def test_resident_activations_of_fused_attention_are_the_published_tools(name: str, stage: str) -> None:
    """What the tool's own sum over ``store_act`` gives with flash attention on: S elements a head, twice."""
    shape, on_chip, batch, tokens = model(name), 33792000.0, 4, 1024
    new = tokens if stage == "prefill" else 1
    h, heads = shape.hidden, shape.heads
    others = [h, h, 2 * shape.intermediate, h, h, h, h, h]  # q, out, gate and up, down, two norms, two adds
    by_hand = 2.0 * batch * new * (sum(others) + h) + 2 * 2.0 * batch * new * tokens * heads  # and mlp_act
    found = resident_bytes(shape, stage, batch, tokens, P, fused_attention=True, on_chip_bytes=on_chip)
    assert found["resident_act_B"] == by_hand
    unfused = resident_bytes(shape, stage, batch, tokens, P)
    scores = published(shape, stage, batch, tokens, P)
    written = sum(float(op.act_written_bytes) for op in scores if op.name != "lm_head")
    assert unfused["resident_act_B"] == written
    shown = roofline(
        shape,
        accelerator("h100"),
        stage=stage,
        batch=batch,
        context_tokens=tokens,
        precision=P,
        mode="reference",
        fused_attention=True,
    )
    assert shown["resident"]["resident_act_B"] == by_hand


def test_devices_needed_grow_with_the_copies() -> None:
    rows = [
        evaluate("deepseek-v3", "b200", Scenario(tp=tp, batch=256, context_tokens=32768, precision="w8a8kv8"), PLAIN)
        for tp in (1, 8)
    ]
    needed = [row["plain_devices_needed"] for row in rows]
    part = accelerator("b200")
    shape = model("deepseek-v3")
    for copies, devices in zip((1, 8), needed, strict=True):
        held = shape.parameters + 256 * 32768 * copies * shape.kv_bytes_per_token(1.0)
        assert devices == math.ceil(held / (0.9 * part.capacity_bytes))
    assert capacity_tokens(footprint(shape, P, PLAIN), budget_bytes(part, 1, 0.9)) == 0.0
