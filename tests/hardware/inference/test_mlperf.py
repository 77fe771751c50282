"""MLPerf rows against the roofline's ceiling: none above it, and each part of the arithmetic by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.mlperf import HeadRoom, ceiling, find_part, head_room, head_rooms, parts_of, summary

ROWS = Path(__file__).parents[2] / "data" / "inference" / "mlperf_v5.1_llm.csv"


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with ROWS.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def test_every_submission_is_below_its_ceiling() -> None:
    found, left = head_rooms(_rows())
    assert len(found) + sum(left.values()) == 416
    assert sum(row.closed for row in found) > 360
    assert all(row.verdict == "below" for row in found)
    nearest = min(row.head_room for row in found if row.closed)
    assert 1.0 < nearest < 2.0  # a ceiling that nothing comes near would prove little
    assert all("accelerator" in reason or "peak" in reason or "tokens/s" in reason for reason in left)


def test_head_room_by_gpu_and_model() -> None:
    table = summary(head_rooms(_rows())[0])
    parts = {row["accelerator"] for row in table}
    assert {"b200-sxm", "gb200", "gb300", "h100-sxm", "h200-sxm", "h200-nvl", "l40s", "mi300x", "mi325x"} <= parts
    assert {"rtx-pro-6000", "mi355x"} <= parts
    assert all(row["rows"] >= 1 and row["head_room"] > 1 for row in table)


def test_the_ceiling_by_hand() -> None:
    """Llama-2-70B in 8 bits on eight H200, prompt and answer of 294 tokens: compute bound at 1,978 Top/s."""
    shape, part = model("llama-2-70b"), accelerator("h200")
    top, bound = ceiling(shape, [(part, 8)], 8, 294, 294)
    products = 2 * (shape.parameters - shape.vocab * shape.hidden)  # all but the input table, a token
    head = 2 * shape.vocab * shape.hidden
    prompt = 294 * (products - head) + head
    by_hand = 8 * 1978e12 * 294 / (prompt + 294 * products)
    assert bound == "compute"
    assert top == pytest.approx(by_hand, rel=0.02)  # attention and norms
    assert top < by_hand
    # A single sequence is bound by the weights, and speculation by operations alone.
    small = [(accelerator("rtx-4090"), 1)]
    alone, why = ceiling(model("llama-3.1-8b"), small, 16, 0, 60_000)
    assert why == "memory"
    assert ceiling(model("llama-3.1-8b"), small, 16, 0, 60_000, speculative=True)[0] > 10 * alone
    with pytest.raises(ConfigurationError, match="does not fit"):
        ceiling(shape, small, 8, 294, 294)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA B200-SXM-180GB", "b200-sxm"),
        ("NVIDIA GB200", "gb200"),
        ("Virtualized NVIDIA H200-SXM-141GB", "h200-sxm"),
        ("NVIDIA H200-NVL-141GB", "h200-nvl"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("AMD Instinct MI325X 256GB HBM3e", "mi325x"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_accelerators_are_found_in_free_text(text: str, name: str) -> None:
    assert find_part(text).name == name


def test_mixed_systems_and_what_cannot_be_judged() -> None:
    row = dict(_rows()[0])
    mixed = row | {"accelerator": "AMD Instinct MI300X 192GB HBM3 (x32), AMD Instinct MI325X 256GB HBM3e (x16)"}
    assert [(part.name, n) for part, n in parts_of(mixed)] == [("mi300x", 32), ("mi325x", 16)]
    assert head_room(row).devices == 8
    for change, words in (
        ({"accelerator": "Abacus 3000"}, "no packaged accelerator"),
        ({"accelerator": ""}, "no accelerator"),
        ({"model": "eliza"}, "no task"),
        ({"units": "Latency (ms)"}, "not in tokens/s"),
        ({"weight_types": "ternary"}, "unknown"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            head_room(row | change)
    with pytest.raises(ConfigurationError, match="results table"):
        head_rooms([{"id": "1"}])


def test_a_row_above_its_ceiling_is_told_from_speculation() -> None:
    one = HeadRoom("1", "s", "h100-sxm", 8, "m", "Offline", "fp8", True, 150.0, 100.0, 200.0, "memory")
    assert one.verdict == "speculative"
    assert replace(one, tokens_per_s=250.0).verdict == "above"
