"""Two interpreters timed in turn, with real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from linepress.compare import CompareOptions
from linepress.compare.data import load_side
from linepress.compare.pairs import pair
from linepress.compare.retime import Request, RetimeError, RetimePlan, requests, retime
from linepress_kit.timed_runs import timed_rows, write_run

PLAN = RetimePlan(sessions=2, turns=3, rounds=2, tensors=4)
SOURCE = "synthetic:gauss?shape=512x512&tensors=4"
SLOWER = """
import linepress.stages.measure.case as stage
from linepress_kit.worse_codecs import slower_decode
true = stage.measure_case
def measure_case(tensor, variant, **options):
    with slower_decode(variant, 1.5):
        return true(tensor, variant, **options)
stage.measure_case = measure_case
"""


def cases(*variants: str) -> list[Request]:
    from linepress.sources import open_source

    return [
        {
            "source": SOURCE,
            "tensor": tensor.name,
            "cast": "",
            "variant": variant,
            "raw_bytes": tensor.n_bytes,
            "rounds": PLAN.rounds,
            "chunk_bytes": 1 << 20,
        }
        for variant in variants
        for tensor in open_source(SOURCE).tensors()
    ]


@pytest.fixture
def slower(tmp_path: Path) -> str:
    """An interpreter whose Huffman decoder takes two and a half times as long."""
    (tmp_path / "sitecustomize.py").write_text(SLOWER, encoding="utf-8")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


@pytest.mark.slow
def test_a_slower_decoder_is_found_and_the_encoder_left_alone(slower: str) -> None:
    """Takes over 5 s: four processes that import Numba."""
    result = retime(cases("huffman"), sys.executable, slower, PLAN, CompareOptions())
    assert "timed in turn on this machine: 2 sessions" in result.how
    found = {(s.variant, s.metric): s for s in result.speeds}
    decode = found["huffman", "decode"]
    assert decode.mark == "+"
    assert decode.factor == pytest.approx(2.5, rel=0.2)
    assert decode.tensors == 8
    assert found["huffman", "encode"].mark == "~"


def test_an_interpreter_that_cannot_time_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetimeError, match=r"--retime .*/none: cannot be started"):
        retime(cases("raw")[:1], str(tmp_path / "none"), sys.executable, PLAN, CompareOptions())
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 1\n")
    silent.chmod(0o755)
    with pytest.raises(RetimeError, match="ended without an answer; is linepress installed there"):
        retime(cases("raw")[:1], str(silent), sys.executable, PLAN, CompareOptions())


def test_a_case_that_cannot_be_timed_is_named() -> None:
    wrong = [{**case, "variant": "no-such-codec"} for case in cases("raw")[:1]]
    with pytest.raises(RetimeError, match=r"no-such-codec on .* cannot be timed"):
        retime(wrong, sys.executable, sys.executable, PLAN, CompareOptions())


def test_the_largest_tensors_of_each_variant_are_timed(tmp_path: Path) -> None:
    rows = [{**row, "raw_bytes": 1000 * (i + 1)} for i, row in enumerate(timed_rows())]
    side = load_side(write_run(tmp_path / "run", rows).path)
    found = requests(pair(side, side), PLAN)
    variants = dict.fromkeys(case["variant"] for case in found)
    assert len(found) == PLAN.tensors * len(variants)
    for variant in variants:
        largest = sorted(row["raw_bytes"] for row in rows if row["variant"] == variant)[-PLAN.tensors :]
        assert sorted(case["raw_bytes"] for case in found if case["variant"] == variant) == largest
    assert {case["chunk_bytes"] for case in found} == {8 << 20}
    assert np.all([case["rounds"] == PLAN.rounds for case in found])
