"""Compression in the system against closed forms and figures worked out by hand."""

from __future__ import annotations

import pytest
from benchmarks.tools.grid import sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.catalog.accelerators import accelerator, parse_accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.curves import collective_time
from linepress_hardware.inference.capacity import (
    budget_bytes,
    check_fits,
    devices_needed,
    footprint,
    largest_batch,
    largest_context,
)
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import PLAIN, Compression, effective_ratio
from linepress_hardware.inference.operators import decode
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.placement import place, summary
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.system import evaluate, sensitivity
from linepress_hardware.inference.traffic import communication

P = Precision()
ONE_FIVE_TWO = Compression(weight_ratio=1.5, kv_ratio=2.0)


# By hand, weights and KV alone: model, part, context, ms plain, at 1.5, at 1.5 and 2, tokens plain, at 1.5 and 2
WORKED = [
    ("llama-2-7b", "a6000", 2048, 18.604, 12.869, 12.170, 56_692, 130_521),
    ("llama-3.1-8b", "h100", 1024, 4.520, 3.027, 3.007, 426_784, 935_256),
]


@pytest.mark.parametrize("case", WORKED, ids=lambda case: case[0])
def test_worked_cases(case: tuple[str, str, int, float, float, float, int, int]) -> None:
    name, part, context, plain_ms, weights_ms, both_ms, tokens, more_tokens = case
    scenario = Scenario(context_tokens=context)
    rows = [evaluate(name, part, scenario, what) for what in (PLAIN, Compression(1.5, 1.0), ONE_FIVE_TWO)]
    # The hand count leaves activations and norm vectors out: under two parts in a thousand.
    for row, expected in zip(rows, (plain_ms, weights_ms, both_ms), strict=True):
        assert row["closed_form_time_s"] * 1e3 == pytest.approx(expected, rel=2e-3)
        assert row["time_s"] >= row["closed_form_time_s"] * (1 - 1e-12)
    assert int(rows[0]["plain_capacity_tokens"]) == tokens
    assert int(rows[2]["compressed_capacity_tokens"]) == more_tokens
    assert rows[2]["speedup"] == pytest.approx(rows[2]["closed_form_speedup"], rel=2e-3)
    assert rows[2]["capacity_gain"] == pytest.approx(rows[2]["closed_form_capacity_gain"], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("llama-2-7b", 25_204), ("llama-3.1-8b", 114_512), ("llama-3.1-70b", 424_205), ("qwen2.5-7b", 246_592)],
)
def test_tokens_at_which_kv_outweighs_weights(name: str, tokens: int) -> None:
    row = evaluate(name, "b200", Scenario(), ONE_FIVE_TWO)
    assert row["plain_kv_equals_weights_at_tokens"] == pytest.approx(tokens, rel=2e-4)
    ratio = row["kv_equals_weights_at_tokens"] / row["plain_kv_equals_weights_at_tokens"]
    assert ratio == pytest.approx(2.0 / 1.5, rel=1e-12)


def test_batch_at_which_decode_turns_compute_bound() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(context_tokens=1), Compression(1.5))
    assert (int(row["plain_compute_bound_batch"]), round(row["compute_bound_batch"])) == (295, 197)
    below, above = (
        evaluate("llama-3.1-8b", "h100", Scenario(context_tokens=1, batch=batch), PLAIN)["bound_by"]
        for batch in (270, 600)  # activations, which the closed form leaves out, move it up
    )
    assert (below, above) == ("memory", "compute")


def test_no_compression_changes_nothing() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(batch=8, tp=2), PLAIN)
    for key in ("time_s", "tokens_per_s", "ttft_s", "largest_batch", "devices_needed"):
        assert row[key] == row[f"plain_{key}"], key
    assert row["compressed_capacity_tokens"] == row["plain_capacity_tokens"]
    assert row["speedup"] == row["ttft_speedup"] == row["closed_form_speedup"] == 1.0


def test_prefill_gains_nothing_above_the_ridge() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(context_tokens=4096), ONE_FIVE_TWO)
    assert row["prefill_bound"] == "compute"
    assert 1.0 <= row["ttft_speedup"] < 1.02


def test_group_ratios_weigh_by_bytes() -> None:
    shape = model("llama-3.1-8b")
    groups = {"q_proj": 1.2, "gate_proj": 1.6, "lm_head": 2.0, "embed": 3.0}
    held = footprint(shape, P, Compression(1.5, weight_ratio_by_group=groups))
    counts = shape.parameters_by_group()
    by_hand = sum(2 * n / groups.get(group, 1.5) for group, n in counts.items())
    assert held.weight_bytes == pytest.approx(by_hand, rel=1e-12)
    alone = footprint(shape, P, Compression(1.5, weight_ratio_by_group={"embed": 3.0}))
    assert alone.weight_bytes == pytest.approx(
        2 * (sum(counts.values()) - 2 * counts["embed"]) / 1.5 + 4 * counts["embed"] / 3, rel=1e-12
    )  # an output head without its own ratio takes that of the input table
    assert effective_ratio([(10, 2.0), (30, 1.5)]) == pytest.approx(40 / (5 + 20))


def test_keys_and_values_have_ratios_of_their_own() -> None:
    assert Compression(1.0, 1.3, key_ratio=2.0, value_ratio=1.0).kv_capacity_ratio == pytest.approx(4 / 3)
    assert Compression(1.0, 1.3, key_ratio=1.3).kv_capacity_ratio == pytest.approx(1.3)


def test_a_channel_that_wastes_the_ratio_gives_its_gain_not_the_ratio() -> None:
    scenario = Scenario(context_tokens=16)
    ideal = evaluate("llama-3.1-8b", "h100", scenario, Compression(1.5))
    real = evaluate("llama-3.1-8b", "h100", scenario, Compression(1.5, weight_bandwidth_gain=1.2))
    assert real["speedup"] == pytest.approx(1.2, rel=2e-3)
    assert ideal["speedup"] == pytest.approx(1.5, rel=2e-3)
    assert real["largest_batch"] == ideal["largest_batch"]  # capacity keeps the ratio


def test_a_slow_decompressor_is_a_ceiling() -> None:
    scenario = Scenario(context_tokens=1024)
    row = evaluate("llama-3.1-8b", "h100", scenario, Compression(1.5, decompressor_GBps=2000.0))
    raw = row["traffic_weight_bytes"] + row["traffic_kv_bytes"]
    assert row["time_s"] == pytest.approx(raw / 2000e9, rel=1e-3)
    assert row["bound_by"] == "decompressor"
    assert row["speedup"] < 1
    fast = evaluate("llama-3.1-8b", "h100", scenario, Compression(1.5, decompressor_GBps=1e6))
    assert fast["time_s"] < row["time_s"]


def test_decode_latency_adds_its_nanoseconds_and_bytes_in_flight() -> None:
    scenario = Scenario(context_tokens=1024)
    none, some = (
        evaluate("llama-3.1-8b", "h100", scenario, Compression(1.5, decode_latency_ns=ns)) for ns in (0, 17.5)
    )
    added = some["time_s"] - none["time_s"]
    assert added == pytest.approx((32 * 10 + 2) * 17.5e-9, rel=1e-6)  # 7 projections, 2 norms, attention; norm, head
    assert some["bytes_in_flight_added"] == pytest.approx(58_625)


def test_racks_are_devices_over_chips() -> None:
    row = evaluate("llama-3.1-405b", "h100", Scenario(tp=8, pp=2, batch=64, context_tokens=32768), ONE_FIVE_TWO)
    assert row["chips_per_rack"] == 32
    assert row["plain_devices_needed"] > row["devices_needed"]
    assert row["plain_racks_needed"] == -(-row["plain_devices_needed"] // 32)


def test_energy_and_money_follow_the_tokens() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(batch=8), ONE_FIVE_TWO)
    for key in ("energy_J", "cost_usd"):
        ratio = row[f"plain_{key}_per_million_tokens"] / row[f"{key}_per_million_tokens"]
        assert ratio == pytest.approx(row["speedup"], rel=1e-9)
    assert row["plain_energy_J_per_million_tokens"] == pytest.approx(700 * 1.857 / row["plain_tokens_per_s"] * 1e6)
    assert row["cost_status"] == "unverified"
    assert evaluate("llama-3.1-8b", "a6000", Scenario(), PLAIN)["cost_status"] == "missing"


def test_all_reduce_of_tensor_parallelism() -> None:
    row = evaluate("llama-3.1-8b", "h100", Scenario(tp=8, batch=4), PLAIN)
    one = collective_time("h100", "all_reduce", 8, 4 * 4096 * 2).time_s
    assert row["allreduce_s"] == pytest.approx(64 * one, rel=1e-9)
    ring = evaluate("llama-3.1-8b", "h100", Scenario(tp=8, batch=4, algorithm="ring"), PLAIN)
    assert ring["allreduce_s"] == pytest.approx(64 * (4.73e-6 + 14 * (0.78e-6 + 4096 / 450e9)), rel=1e-9)


@pytest.mark.parametrize(
    ("part", "batch", "low", "high"), [("h100", 2, 3.6e-6, 6.4e-6), ("b200", 8192, 260e-6, 290e-6)]
)
def test_tensor_parallel_links_take_what_machines_take(part: str, batch: int, low: float, high: float) -> None:
    """16 KiB over 8 H100: custom kernels 3.6 to 6.4 us, before 15.7; 64 MiB over 8 B200: 277 us, before 146."""
    found = communication(model("llama-3.1-8b"), decode(batch, 1), accelerator(part), P, Parallel(tp=8))
    assert low < found.all_reduce_s / 64 < high


def test_speculation_and_chunks() -> None:
    plain = evaluate("llama-3.1-8b", "h100", Scenario(), PLAIN)
    guessed = evaluate("llama-3.1-8b", "h100", Scenario(draft_tokens=4, accepted_tokens=2.5), PLAIN)
    assert guessed["plain_tokens_per_s"] == pytest.approx(3.5 * plain["plain_tokens_per_s"], rel=0.02)
    pieces = evaluate("llama-3.1-8b", "h100", Scenario(chunk_tokens=256), PLAIN)
    assert pieces["plain_ttft_s"] > plain["plain_ttft_s"]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["llama-3.1-8b", "gemma-2-9b", "deepseek-v2-lite"]),
    st.integers(1, 200),
    st.integers(1, 200_000),
    st.floats(1.0, 3.0),
)
def test_largest_batch_and_context_are_tight(name: str, batch: int, context: int, ratio: float) -> None:
    held = footprint(model(name), P, Compression(ratio, ratio))
    budget = budget_bytes(accelerator("b200"), 1, 0.9)
    most = largest_batch(held, budget, context)
    assert held.total_bytes(most, context) <= budget * (1 + 1e-12)
    assert held.total_bytes(most + 1, context) > budget
    longest = largest_context(held, budget, batch)
    assert held.total_bytes(batch, longest) <= budget * (1 + 1e-9)
    assert held.total_bytes(batch, longest + 1) > budget * (1 - 1e-9)


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    held, part = footprint(model("llama-2-7b"), P, PLAIN), accelerator("a6000")

    def ask(batch: int, context: int, devices: int = 1) -> None:
        check_fits(held, part, devices=devices, usable_share=1.0, batch=batch, context_tokens=context, name="m")

    ask(8, 8192)
    with pytest.raises(
        ConfigurationError, match=r"needs 288\.35 GB, 240\.35 GB more than .*batch 8 at this context.*7 dev"
    ):
        ask(64, 8192)
    ask(64, 8192, 7)
    with pytest.raises(ConfigurationError, match=r"context 65,847 at batch 1 fits, or 2 devices"):
        ask(1, 100_000)
    held = footprint(model("llama-3.1-70b"), P, PLAIN)
    with pytest.raises(ConfigurationError, match=r"weights alone take 141\.11 GB, use 3 devices"):
        ask(1, 1)
    assert devices_needed(held, accelerator("h100"), 0.9, 1, 1) == 2


def test_placement_fills_the_fastest_tier_first() -> None:
    part, shape = accelerator("d-matrix-corsair"), model("llama-3.1-8b")
    p = Precision(8, 8, 8)
    shares = place(shape, part, p, devices=2, batch=1, context_tokens=1024, usable_share=1.0)
    assert [(s.tier, s.data) for s in shares] == [("SRAM", "weights"), ("LPDDR", "weights"), ("LPDDR", "kv")]
    assert shares[0].bytes == 4e9
    assert sum(s.bytes for s in shares) == pytest.approx(shape.parameters + 1024 * 65536)
    result = summary(shares)
    assert result["serial_s"] > result["parallel_s"] > 0
    packed = summary(
        place(shape, part, p, devices=2, batch=1, context_tokens=1024, usable_share=1.0, compression=Compression(1.5))
    )
    assert packed["serial_s"] < result["serial_s"]
    with pytest.raises(ConfigurationError, match=r"GB too many; use \d+ devices"):
        place(model("llama-3.1-70b"), accelerator("groq-lpu"), p, devices=8, batch=1, context_tokens=128)


def test_a_shared_store_is_not_multiplied() -> None:
    shares = place(model("llama-3.1-405b"), accelerator("cs-3"), P, devices=4, batch=1, context_tokens=1024)
    stored = {s.kind: s.bytes for s in shares}
    assert stored["on-wafer SRAM"] <= 4 * 44e9 * 0.9 * (1 + 1e-12)
    assert summary(shares)["serial_s"] is None  # nobody published the store's bandwidth


def test_a_sweep_equals_single_evaluations() -> None:
    what = Compression(1.4, 1.2)
    grid = sweep(
        ["llama-3.1-8b", "mixtral-8x7b"], ["h100", "d-matrix-corsair"], [1, 32], [128, 4096], compression=what
    )
    for i, name in enumerate(grid["models"]):
        for j, batch in enumerate(grid["batches"]):
            for k, context in enumerate(grid["contexts"]):
                row = evaluate(name, "h100", Scenario(batch=batch, context_tokens=context), what)
                assert grid["decode_s"][i, 0, j, k] == pytest.approx(row["plain_time_s"], rel=1e-12)
                assert grid["compressed_decode_s"][i, 0, j, k] == pytest.approx(row["time_s"], rel=1e-12)
                assert grid["fits"][i, 0, j, k] == row["plain_fits"]
                assert grid["compressed_fits"][i, 0, j, k] == row["compressed_fits"]
    assert not grid["fits"][:, 1].any()  # no 16-bit peak there
    assert grid["decode_s"][:, 1].size == 8


def test_sensitivity_moves_one_number() -> None:
    rows = sensitivity("llama-3.1-8b", "h100", Scenario(), PLAIN, "weight_ratio", [1.0, 1.25, 1.5])
    speeds = [row["speedup"] for row in rows]
    assert speeds[0] == 1.0
    assert speeds == sorted(speeds)
    longer = sensitivity("llama-3.1-8b", "h100", Scenario(), ONE_FIVE_TWO, "context_tokens", [1024.0, 65536.0])
    assert longer[1]["speedup"] > longer[0]["speedup"]  # KV, with the larger ratio, weighs more
    with pytest.raises(ConfigurationError, match="'colour' is unknown"):
        sensitivity("llama-3.1-8b", "h100", Scenario(), PLAIN, "colour", [1])


@pytest.mark.parametrize(
    "bad",
    [
        {"weight_ratio": 0.0},
        {"weight_ratio": float("nan")},
        {"kv_ratio": -1.0},
        {"decompressor_GBps": 0.0},
        {"decode_latency_ns": -1.0},
        {"weight_ratio_by_group": {"q_proj": 0.0}},
    ],
)
def test_ratios_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="give"):
        Compression(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"context_tokens": 0},
        {"batch": 0},
        {"usable_share": 1.1},
        {"memory_efficiency": 0.0},
        {"precision": "bf16"},
        {"tp": 0},
        {"draft_tokens": 2, "accepted_tokens": 3.0},
        {"overhead_s": -1.0},
    ],
)
def test_scenarios_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Scenario(**bad)  # type: ignore[arg-type]


def test_devices_need_a_link_wide_enough() -> None:
    with pytest.raises(ConfigurationError, match=r"groq-lpu has no \[link\]"):
        evaluate("llama-3.1-8b", "groq-lpu", Scenario(tp=2), PLAIN)
    with pytest.raises(ConfigurationError, match="must stay within the 8 devices"):
        evaluate("llama-3.1-8b", "h100", Scenario(tp=16), PLAIN)
    assert Parallel(2, 2, 1, 2).devices == 8


def test_an_accelerator_without_bandwidth_says_so() -> None:
    text = """
name = "x"
title = "X"
[[memory]]
tier = "HBM"
capacity = { value = 1, unit = "GB", source = "s", status = "seed" }
[peak]
bits_16 = { value = 1, unit = "Top/s", source = "s", status = "seed" }
"""
    with pytest.raises(ConfigurationError, match="no bandwidth"):
        _ = parse_accelerator(text, "x.toml").bandwidth_Bps
