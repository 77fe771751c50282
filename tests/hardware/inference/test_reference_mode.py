"""Reference mode equals the published tool row by row, and the talk's table cell by cell."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import reference, talk_table
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.precision import Precision, parse_precision
from linepress_hardware.inference.roofline import device, roofline

DATA = Path(__file__).parents[2] / "data" / "inference"
NUMBERS = (
    "ops",
    "memory_B",
    "intensity_op_per_B",
    "performance_op_per_s",
    "load_weight_B",
    "load_act_B",
    "store_act_B",
    "load_kv_B",
    "store_kv_B",
    "time_s",
)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _result(name: str, part: str, precision: str, batch: int, tokens: int, stage: str) -> dict[str, Any]:
    return roofline(
        model(name),
        accelerator(part),
        stage=stage,
        batch=batch,
        context_tokens=tokens,
        precision=parse_precision(precision),
        mode="reference",
    )


def _of(row: dict[str, str]) -> dict[str, Any]:
    return _result(
        row["model"], row["hardware"], row["precision"], int(row["batch"]), int(row["seqlen_tokens"]), row["stage"]
    )


def test_every_published_layer_row_is_equal() -> None:
    rows = _rows("llmviewer_layers.csv")
    assert len(rows) == 1920
    for row in rows:
        ours = next(line for line in _of(row)["rows"] if line["layer"] == row["layer"])
        for key in NUMBERS:
            assert ours[key] == pytest.approx(float(row[key]), rel=1e-9, abs=0), (row, key)
        assert ours["bound"] == row["bound"]


def test_every_published_total_is_equal() -> None:
    rows = _rows("llmviewer_totals.csv")
    assert len(rows) == 120
    for row in rows:
        result = _of(row)
        ours = result["totals"] | result["resident"]
        for key in list(row)[6:]:
            assert ours[key] == pytest.approx(float(row[key]), rel=1e-9, abs=0), (row, key)


def _talk() -> list[dict[str, str]]:
    point = talk_table.POINT
    stages = {
        stage: _result(
            str(point["model"]), str(point["accelerator"]), "w16a16kv16", 1, int(str(point["context_tokens"])), stage
        )["rows"]
        for stage in ("prefill", "decode")
    }
    return talk_table.table(stages)


def test_the_talks_table_is_reproduced_and_the_damaged_cell_named() -> None:
    rows = _talk()
    assert len(rows) == 24
    found = talk_table.check(rows)
    assert (found["cells"], found["readable"], found["equal"], found["different"]) == (120, 119, 119, [])
    assert found["damaged"] == [{"cell": "prefill qk_matmul bound", "value": "memory"}]


def test_a_wrong_cell_and_a_missing_row_are_found() -> None:
    rows = _talk()
    rows[0]["ops"] = "70G"
    found = talk_table.check(rows[:-1])
    assert found["different"][0] == {"cell": "prefill q_proj ops", "talk": "69G", "value": "70G"}
    assert found["equal"] == 119 - 6


def test_values_of_the_talks_table_at_full_precision() -> None:
    by_row = {(row["stage"], row["layer"]): row for row in _rows("seed_llama2_7b_a6000.csv")}
    for stage in ("prefill", "decode"):
        for row in _result("llama-2-7b", "a6000", "w16a16kv16", 1, 2048, stage)["rows"]:
            if row["layer"] not in talk_table.ROWS:
                continue
            theirs = by_row[stage, talk_table.ROWS[row["layer"]]]
            for key in ("ops", "memory_B", "intensity_op_per_B", "performance_op_per_s", "time_s"):
                assert row[key] == pytest.approx(float(theirs[key]), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e12, "1000G"), (1.0001e12, "1T"), (999, "999"), (1000, "1000"), (1001, "1K"), (68719476736, "69G")],
)
def test_numbers_are_printed_in_the_first_unit_they_exceed(value: float, text: str) -> None:
    assert talk_table.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.9995, "1"), (0.99, "0.99"), (9.994, "9.99"), (113.8, "114"), (1.75, "1.75")]
)
def test_intensities_have_two_decimals_below_ten(value: float, text: str) -> None:
    assert talk_table.intensity(value) == text


def test_the_8_bit_peak_needs_all_three_at_8_bits() -> None:
    part = accelerator("a6000")
    assert device(part, Precision(8, 8, 8), "reference").peak_ops["matmul"] == pytest.approx(309.7e12)
    for mixed in (Precision(8, 16, 8), Precision(4, 8, 16), Precision(16, 8, 8)):
        assert device(part, mixed, "reference").peak_ops["matmul"] == pytest.approx(154.8385e12)


@pytest.mark.parametrize(
    ("name", "bandwidth_GBps"), [("nvidia_A100", 1555), ("nvidia_H100", 3072), ("nvidia_A40", 696)]
)
def test_the_tools_own_constants_are_used(name: str, bandwidth_GBps: float) -> None:
    assert device(accelerator(name), Precision(), "reference").bandwidth_Bps == bandwidth_GBps * 1e9


def test_fused_attention_keeps_the_tools_mistakes() -> None:
    shape, p = model("llama-3.1-8b"), Precision()
    ops = reference.operators(shape, "decode", 64, 8192, p, fused_attention=True, on_chip_bytes=21504e3)
    fused = next(op for op in ops if op.name == "fused_attention")
    assert float(fused.kv_read_bytes) == 2 * 8192 * 128 * 64 * 32 * 2  # all heads, not the 8 KV heads
    assert float(fused.act_written_bytes) == 2 * 8192 * 64 * 32 * 2  # S elements a head instead of D
    plain = reference.operators(shape, "decode", 64, 8192, p)
    on = device(accelerator("a6000"), p, "reference")
    from linepress_hardware.inference.roofline import step_time_s

    assert step_time_s(ops, on) > 3 * step_time_s(plain, on)  # slower with flash than without


def test_what_the_tool_does_not_model_is_refused() -> None:
    for name in ("mixtral-8x7b", "deepseek-v3"):
        with pytest.raises(ConfigurationError, match=r"does not model.*--mode corrected"):
            reference.operators(model(name), "decode", 1, 1024, Precision())
    with pytest.raises(ConfigurationError, match="on-chip"):
        reference.operators(model("llama-2-7b"), "decode", 1, 1024, Precision(), fused_attention=True)
    with pytest.raises(ConfigurationError, match="stage"):
        reference.operators(model("llama-2-7b"), "train", 1, 1024, Precision())
