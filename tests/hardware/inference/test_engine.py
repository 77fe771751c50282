"""The scheduler of a serving engine: hand-made cases, its invariants, and two recorded runs request by request."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.inference.calibrate import MeasuredPoint, Model
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.kernels.forms import forms_of
from linepress_hardware.inference.kernels.layers import LINEAR
from linepress_hardware.inference.kernels.tables import KernelTable, read_rows
from linepress_hardware.inference.kernels.times import KernelTimes
from linepress_hardware.inference.layers import Mixer
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.serving import Engine, Kernels, ServingResult, engine, engines, simulate
from linepress_hardware.inference.serving.engine import parse_engine
from linepress_hardware.inference.serving.recorded import Recorded, errors, read_recorded
from linepress_hardware.inference.step_cost import Calibration
from linepress_hardware.inference.trace import Requests, closed_loop, synthetic

DATA = Path(__file__).parents[2] / "data" / "inference"
LLAMA, H100 = model("llama-3.1-8b"), accelerator("h100")


def _serve(requests: Requests, rules: Engine, blocks: int | None = None, **given: object) -> ServingResult:
    return simulate(LLAMA, H100, requests, engine=rules, kv_blocks=blocks, **given)  # type: ignore[arg-type]


def _at_once(prompts: list[int], answers: list[int], **given: object) -> Requests:
    return Requests(np.zeros(len(prompts)), np.array(prompts), np.array(answers), **given)  # type: ignore[arg-type]


# --- whole prompts ---


@pytest.mark.parametrize("policy", ["mixed", "prefill-first"])
def test_whole_prompts_of_any_length_are_served_at_the_same_rate(policy: str) -> None:
    """A prompt that just fills a step must not wait until nobody answers (197 against 1,410 tokens/s before)."""
    rates = [
        _serve(closed_loop(64, prompt, 256), Engine(64, 8192, False, policy)).summary["tokens_per_s"] * prompt
        for prompt in (4096, 8128, 8191, 8192, 8193, 9000)
    ]
    assert min(rates) > 0.8 * max(rates)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 60), st.integers(1, 40), st.sampled_from([True, False]), st.integers(0, 9)
)
def test_every_engine_finishes_every_request(
    prompt: int, answer: int, sequences: int, chunked: bool, seed: int
) -> None:
    requests = synthetic(200, 40, prompt_tokens=prompt, answer_tokens=answer, spread=0.5, seed=seed)
    longest = int((requests.prompt_tokens + requests.answer_tokens).max())
    for rules in (
        Engine(sequences, 512, chunked),
        Engine(sequences, 2048, chunked, "prefill-first"),
        Engine(sequences, 777, chunked, reserve_answer=True, asynchronous=True),
    ):
        found = _serve(requests, rules, blocks=-(-longest // 16) + 3)
        assert (found.ttft_s > 0).all()
        assert (found.latency_s >= found.ttft_s).all()
        assert found.summary["kv_blocks_used"] <= found.summary["kv_blocks"]
        # Every answer's first token comes of a prompt, and the next one of a sequence that computed all again.
        decoded = (requests.answer_tokens - 1).sum() - found.summary["decode_tokens"]
        assert 0 <= decoded <= found.summary["preemptions"]
        if rules.reserve_answer:
            assert found.summary["preemptions"] == 0
        assert found.preempted.sum() == found.summary["preemptions"]


# --- blocks, preemption, prefixes ---


def test_blocks_and_preemption_by_hand() -> None:
    """Two prompts of 32 tokens in five blocks of 16: both take two, the first grows into the fifth, then the second,
    admitted last, gives its two up when the first needs a sixth, and computes prompt and answer again."""
    requests = _at_once([32, 32], [40, 40])
    found = _serve(requests, Engine(2, 512, True), blocks=5)
    assert found.preempted.tolist() == [0, 1]
    assert found.summary["kv_blocks_used"] == 5
    # Preempted when it had 32 + 1 tokens in want of a third block, its two blocks partly overwritten.
    assert found.summary["recomputed_tokens"] <= 33
    roomy = _serve(requests, Engine(2, 512, True), blocks=10)
    assert roomy.summary["preemptions"] == 0
    assert found.latency_s[0] <= roomy.latency_s[1] < found.latency_s[1]
    reserved = _serve(requests, Engine(2, 512, True, reserve_answer=True), blocks=5)
    assert reserved.summary["preemptions"] == 0
    assert reserved.ttft_s[1] > reserved.latency_s[0] - 1e-12  # it waits until the first is through


def test_a_prompt_must_fit_whole_but_not_its_answer() -> None:
    requests = _at_once([64, 64], [2, 2])
    both = _serve(requests, Engine(2, 96, True), blocks=9)  # 4 blocks of prompt each, the second in two pieces
    one = _serve(requests, Engine(2, 96, True), blocks=7)
    assert both.ttft_s[1] < one.ttft_s[1]


def test_shared_prefixes_are_computed_once() -> None:
    prompts = [320, 320, 320]
    alone = _serve(Requests(np.array([0.0, 1.0, 2.0]), np.array(prompts), np.array([4, 4, 4])), Engine(4, 512, True))
    shared = Requests(
        np.array([0.0, 1.0, 2.0]), np.array(prompts), np.array([4, 4, 4]), shared=((1, 0, 10, 0), (2, 0, 20, 0))
    )
    found = _serve(shared, Engine(4, 512, True))
    # The whole prompt is known, but its last token is computed for its logits: 19 of 20 blocks.
    assert found.summary["cached_tokens"] == 160 + 304
    assert found.summary["prefill_tokens"] == sum(prompts) - 464
    assert found.ttft_s[2] < found.ttft_s[1] < alone.ttft_s[1]
    off = _serve(shared, Engine(4, 512, True, prefix_cache=False))
    assert off.summary["cached_tokens"] == 0
    # A small pool forgets what it freed first.
    small = _serve(shared, Engine(4, 512, True), blocks=22)
    assert small.summary["cached_tokens"] <= 464


def test_the_pool_keeps_the_window_of_sliding_layers() -> None:
    """One full layer in six, windows of 1,024: a sequence of n tokens holds n / 6 + 1,024 × 5 / 6 tokens' worth."""
    config = {
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "hidden_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "intermediate_size": 1024,
        "vocab_size": 1000,
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
    }
    shape = parse_config(config, "small-gemma")
    found = simulate(shape, H100, closed_loop(1, 32768, 2, rounds=1), engine=Engine(1, 4096, True))
    held = (32768 + 1) / 6 + 1024 * 5 / 6
    assert found.summary["kv_blocks_used"] == -(-held // 16)
    # So ten fit a pool that would hold two without windows, and nobody is turned away.
    blocks = 10 * found.summary["kv_blocks_used"]
    many = simulate(
        shape, H100, closed_loop(10, 32768, 8, rounds=1), engine=Engine(10, 65536, True), kv_blocks=blocks
    )
    assert many.summary["preemptions"] == 0
    assert many.summary["kv_blocks_used"] > 0.9 * blocks


def test_a_recurrent_state_is_held_beside_the_cache() -> None:
    state = Mixer("linear_attention", 1, (), state_elements=10**6)
    shape = replace(LLAMA, layers=33, mixers=(*LLAMA.mixers, state))
    found = simulate(shape, H100, closed_loop(1, 100, 2, rounds=1), engine=Engine(1, 4096, True))
    assert shape.state_bytes(2.0) > 1e6
    held = 101 + shape.state_bytes(2.0) / shape.kv_bytes_per_token(2.0)
    assert found.summary["kv_blocks_used"] == -(-held // 16)


def test_replication_halves_the_pool() -> None:
    shape, part = model("qwen3-30b-a3b"), accelerator("b200")
    blocks = [
        simulate(shape, part, closed_loop(1, 10, 2, rounds=1), parallel=Parallel(tp)).summary["kv_blocks"]
        for tp in (4, 8)
    ]
    weights = shape.parameters * 2
    rooms = [0.9 * tp * part.capacity_bytes - weights for tp in (4, 8)]
    assert blocks[1] / blocks[0] == pytest.approx(rooms[1] / (2 * rooms[0]), rel=1e-3)


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="longest request has 330 tokens, more than the 160 of 10 KV blocks"):
        _serve(_at_once([320], [10]), Engine(), blocks=10)
    with pytest.raises(ConfigurationError, match="GB more than"):
        _serve(closed_loop(1, 500_000, 10), Engine())


# --- never faster than the roofline ---


@pytest.mark.parametrize("chunked", [True, False])
def test_no_prediction_is_below_its_own_roofline(chunked: bool) -> None:
    """Long prompts, many clients, little memory: seven points lay below before."""
    points = [
        MeasuredPoint(prompt, answer, clients, tp, 1.0, 1.0)
        for prompt in (8192, 16384)
        for answer in (128, 512)
        for clients in (16, 256)
        for tp in (2, 8)
    ]
    by = Calibration(0.896, 0.491, 1.71e-3)
    for name, part in (("llama-3.1-8b", "h100"), ("llama-3.1-70b", "h200")):
        found = Model.of(model(name), accelerator(part), Precision(), points, Engine(chunked_prefill=chunked))
        for point in points:
            assert found.predict_tpot_s(point, by) >= found.roofline_step_s(point), point


# --- recorded runs ---


@cache
def _table(hardware: str) -> KernelTable:
    with gzip.open(DATA / "operator_times.csv.gz", "rt", encoding="utf-8") as lines:
        every = read_rows(csv.DictReader(lines))
    return next(KernelTable.of(rows) for rows in every if rows.hardware == hardware and rows.tp == 1)


@cache
def _runs() -> dict[str, Recorded]:
    with (DATA / "serving_requests.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (DATA / "serving_prefixes.csv").open(encoding="utf-8", newline="") as file:
        prefixes = list(csv.DictReader(file))
    return {run.hardware: run for run in read_recorded(rows, prefixes=prefixes)}


def _predicted(hardware: str, kernels: Kernels, **rules: object) -> ServingResult:
    sequences, blocks = {"RTX4090": (256, 2588), "RTXPRO6000": (128, None)}[hardware]
    return simulate(
        LLAMA,
        accelerator(hardware),
        _runs()[hardware].requests,
        engine=engine("vllm-0.19", max_sequences=sequences, **rules),
        kernels=kernels,
        kv_blocks=blocks,
    )


@pytest.mark.parametrize(("hardware", "host_ms", "ttft_s"), [("RTX4090", 0.0, 0.5), ("RTXPRO6000", 1.4, 0.15)])
def test_recorded_runs_follow_from_measured_kernels(hardware: str, host_ms: float, ttft_s: float) -> None:
    """Every request of both runs; nothing is fitted but the host time a step of one GPU."""
    found = _predicted(hardware, Kernels(KernelTimes(LLAMA, 1, None, _table(hardware)), host_s=host_ms / 1e3))
    odd = np.arange(300) % 2 == 1
    off = errors(_runs()[hardware], found, odd)
    assert abs(off["tpot_mean"]) < 0.005
    assert off["tpot_request_mean"] < 0.02
    assert off["tpot_request_p90"] < 0.04
    assert abs(off["ttft_mean"]) < 0.015
    assert off["ttft_mean_abs_s"] < ttft_s
    if hardware == "RTX4090":  # the source's own simulator: 194 preemptions, 110,596 tokens computed again
        assert found.summary["preemptions"] == pytest.approx(194, rel=0.03)
        assert found.summary["recomputed_tokens"] == pytest.approx(110_596, rel=0.03)


@pytest.mark.parametrize(("hardware", "host_ms"), [("RTX4090", 0.0), ("RTXPRO6000", 1.4)])
def test_recorded_runs_follow_from_shapes(hardware: str, host_ms: float) -> None:
    forms, table = forms_of(hardware), _table(hardware)
    rest = KernelTable(
        {name: values for name, values in table.dense.items() if name not in LINEAR}, table.attention, None
    )
    for times, limit in ((KernelTimes(LLAMA, 1, forms, rest), 0.03), (KernelTimes(LLAMA, 1, forms), 0.04)):
        found = _predicted(hardware, Kernels(times, host_s=host_ms / 1e3))
        assert errors(_runs()[hardware], found)["tpot_request_mean"] < limit


def test_reserving_answers_is_another_engine() -> None:
    """What the loop did before: a fifth too fast a token, a fifth too late a first token."""
    times = Kernels(KernelTimes(LLAMA, 1, None, _table("RTX4090")))
    off = errors(_runs()["RTX4090"], _predicted("RTX4090", times, reserve_answer=True))
    assert off["tpot_mean"] < -0.15
    assert off["ttft_mean"] > 0.15


def test_engines_in_step_share_the_requests() -> None:
    requests = synthetic(50, 64, prompt_tokens=500, answer_tokens=40, spread=0.5, seed=2)
    times = Kernels(KernelTimes(LLAMA, 1, forms_of("rtx-pro-6000")))
    part = accelerator("rtx-pro-6000")
    one, two = (
        simulate(LLAMA, part, requests, parallel=Parallel(dp=dp), engine=Engine(8, 2048, True), kernels=times)
        for dp in (1, 2)
    )
    assert two.summary["devices"] == 2
    assert two.summary["tokens_per_s"] > 1.4 * one.summary["tokens_per_s"]
    assert two.summary["decode_tokens"] == one.summary["decode_tokens"] == (requests.answer_tokens - 1).sum()


def test_collectives_and_host_time_lengthen_a_step() -> None:
    requests = closed_loop(8, 256, 32, rounds=1)
    part, times = accelerator("rtx-pro-6000"), KernelTimes(LLAMA, 2, forms_of("rtx-pro-6000"))

    def tpot(kernels: Kernels) -> float:
        found = simulate(LLAMA, part, requests, parallel=Parallel(2), engine=Engine(8, 2048, True), kernels=kernels)
        return float(found.summary["tpot_mean_s"])

    plain = tpot(Kernels(times))
    assert tpot(Kernels(times, host_s=1e-3)) - plain == pytest.approx(1e-3, rel=1e-6)
    assert tpot(Kernels(times, lambda size: np.full_like(size, 1e-5))) - plain == pytest.approx(64e-5, rel=1e-6)


# --- data and bad input ---


def test_engines_are_checked_data() -> None:
    assert set(engines()) == {"trtllm-1.0", "vllm-0.19"}
    vllm = engine("vllm", max_tokens=4096)
    assert (vllm.max_tokens, vllm.block_tokens, vllm.spare_blocks, vllm.asynchronous) == (4096, 16, 1, True)
    assert vllm.padded(np.array([1.0, 3.0, 9.0, 257.0, 600.0])).tolist() == [1, 4, 16, 272, 600]
    assert engine("trtllm").reserve_answer
    with pytest.raises(UnknownPartError, match=r"did you mean vllm-0\.19"):
        engine("vllm-0.18")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"', "has no title"),
        (
            'name="x"\ntitle="X"\n[scheduler]\nspeed=1\n[memory]\nblock_tokens={value=1,source="s"}',
            "unknown key 'speed'",
        ),
    ],
)
def test_a_broken_engine_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_engine(text, "x.toml")


ROW = {"arrival_s": "0", "input_tokens": "32", "output_tokens": "4", "request": "a"}


@pytest.mark.parametrize(
    ("rows", "prefixes", "words"),
    [
        ([], [], "has no request"),
        ([{"arrival_s": "0"}], [], "row 1 has no column 'input_tokens'"),
        ([{**ROW, "output_tokens": "many"}], [], "row 1: could not convert"),
        ([{**ROW, "input_tokens": "0"}], [], "row 1: arrival 0, 0 prompt"),
        ([ROW], [{"request": "a", "first_block": "0", "blocks": "1", "owner": "b"}], "names a and b"),
        ([ROW], [{"request": "a", "first_block": "0", "blocks": "1", "owner": "a"}], "must arrive before a"),
        ([ROW], [{"request": "a"}], "prefix row 1"),
    ],
)
def test_a_broken_recorded_run_is_named(
    rows: list[dict[str, str]], prefixes: list[dict[str, str]], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_recorded(rows, prefixes=prefixes)
