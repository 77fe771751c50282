"""Verdicts follow what was measured: every one changes when the number does, and none without a number."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from linepress.claims import Claim, ClaimSet, load_claims, verdicts
from linepress.claims import hardware_checks as hardware
from linepress.claims.evaluate import judge, look
from linepress.claims.finding import Finding
from linepress.claims.model import (
    NOT_CHECKABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    VERDICTS,
    Claimed,
    ClaimsError,
    Input,
    LargestMesh,
    RoundTrip,
)
from linepress.claims.run_checks import Records
from linepress.cli.claims import command
from linepress.errors import LinepressError
from linepress.records import RunStore
from linepress.records.frame import Frame
from linepress.records.measured import measure_frame
from linepress_kit.synthetic_run import Shape, make_run, measure_rows

CLAIMS = load_claims()
RUN_CHECKS = ("codec_ratio", "codec_advantage", "card_latency", "card_engines", "block_time", "channel_gain")
NOTHING = Records(Frame({}, 0), Frame({}, 0))


def by_id(name: str) -> Claim:
    return next(claim for claim in CLAIMS.claims if claim.id == name)


def judged(claim: Claim, value: float, **more: Any) -> str:
    return judge(claim, CLAIMS, Finding(value, **more)).verdict


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_run(tmp_path_factory.mktemp("runs") / "run", Shape(layers=2))


def records(rows: list[dict[str, Any]], manifest: dict[str, Any] | None = None) -> Records:
    import pyarrow as pa

    from linepress.records import schema

    table = pa.Table.from_pylist(rows, schema=schema("measure"))
    return Records(measure_frame(table, manifest or {}), Frame({}, 0))


def rows(**kept: str) -> list[dict[str, Any]]:
    made = measure_rows(Shape(layers=1, failing=0), np.random.Generator(np.random.PCG64(1)))
    return [row for row in made if all(row[k] == v for k, v in kept.items())]


@pytest.mark.parametrize("claim", [c for c in CLAIMS.claims if c.claimed], ids=lambda c: c.id)
def test_every_verdict_depends_on_the_number(claim: Claim) -> None:
    assert claim.claimed is not None
    low, top = claim.claimed.low, claim.claimed.top
    inside = 0.999 * top if claim.claimed.relation == "below" else low
    outside = {"at_least": low / 2 - 1, "at_most": 2 * top + 1, "below": 2 * top, "equal": 2 * top + 1}
    assert judged(claim, inside) == REPRODUCED
    assert judged(claim, outside[claim.claimed.relation]) == NOT_REPRODUCED
    assert judged(claim, float("nan")) == NOT_CHECKABLE
    assert judged(claim, inside, judged=False) == NOT_CHECKABLE


def test_no_claim_about_a_run_has_a_verdict_without_a_run() -> None:
    for claim in CLAIMS.claims:
        verdict = judge(claim, CLAIMS, look(claim, NOTHING))
        assert verdict.verdict in VERDICTS
        assert verdict.reason
        if claim.check.by in RUN_CHECKS:
            assert verdict.verdict == NOT_CHECKABLE, claim.id
            assert verdict.measured == ""


def test_the_talk_is_covered() -> None:
    groups = {claim.group for claim in CLAIMS.claims}
    assert len(groups) >= 7
    quotes = " ".join(claim.quote for claim in CLAIMS.claims)
    for figure in (
        "1.0X",
        "1.25X",
        "0.99X",
        "1.5X",
        "2.0x",
        "200 Gbps",
        "1,024",
        "640B",
        "8kW→2kW",
        "O(N²)",
        "<1 µs",
    ):
        assert figure in quotes, figure


def test_roofline_table_holds_in_all_readable_cells() -> None:
    verdict = judge(by_id("roofline-table"), CLAIMS, look(by_id("roofline-table"), NOTHING))
    assert (verdict.verdict, verdict.measured_value) == (REPRODUCED, 119.0)
    assert "prefill qk_matmul bound" in verdict.reason


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("iso-b200-power", 3 * 14.3, NOT_REPRODUCED),
        ("iso-h100-power", 4 * 10.4, REPRODUCED),
        ("iso-h100-units", 32, NOT_REPRODUCED),
        ("iso-b200-units", 30, NOT_REPRODUCED),
        ("iso-cs3-onchip", 88, NOT_REPRODUCED),
        ("iso-cs3-cores", 1_800_000, NOT_REPRODUCED),
        ("iso-h100-cores", 540_672, NOT_REPRODUCED),
        ("rack-h100", 2.56, REPRODUCED),
        ("rack-mi300x", 1.536, NOT_REPRODUCED),
        ("rack-furiosa", 3.84, NOT_REPRODUCED),
        ("rack-groq", 0.01656, NOT_REPRODUCED),
        ("ualink-lane", 212.5 * 514 / 544 * 256 / 257, REPRODUCED),
        ("ualink-port", 800, REPRODUCED),
        ("ualink-rtt", 2 * (200 + 2 * (10 + 40 + 25.6)) + 2 * 50 + 150, REPRODUCED),
        ("ualink-rtt-1024", 2 * (3 * 150 + 4 * (10 + 40 + 25.6)) + 2 * 50 + 150, NOT_REPRODUCED),
        ("ualink-640b", 256, NOT_REPRODUCED),
        ("in-network", 2 * 71 / 73, REPRODUCED),
        ("switch-beyond-8-16", 8, REPRODUCED),
        ("switch-linear", 1, REPRODUCED),
        ("mesh-n2", np.log2(128 * 127 / (64 * 63)), REPRODUCED),
        ("backplane-power", 8000 / 518.4, NOT_CHECKABLE),
        ("zipccl-communication", 1.486, REPRODUCED),
        ("uccl-zip-weights", 1.486, REPRODUCED),
    ],
)
def test_closed_forms_worked_by_hand(name: str, value: float, verdict: str) -> None:
    found = judge(by_id(name), CLAIMS, look(by_id(name), NOTHING))
    assert found.measured_value == pytest.approx(value, rel=1e-9)
    assert found.verdict == verdict


def test_compressed_messages_say_on_what_they_rest() -> None:
    """The ratio bounds the gain, or a slow coder does; a machine that reduces in its switch gains less."""
    found = look(by_id("zipccl-communication"), NOTHING)
    assert found.bound == found.value == 1.486
    assert "without overlap 0.746 times" in found.detail
    assert "at most 1.14 times" in found.detail
    assert "assumed" in found.detail
    slow = by_id("zipccl-communication").check.model_copy(
        update={"coder": Input(value=120, unit="GB/s", source="s", status="assumed")}
    )
    assert hardware.compressed_messages(slow).value == pytest.approx(1.2)  # 120 of the link's 100 GB/s


def test_round_trip_takes_the_fastest_pair_that_connects_all() -> None:
    def look_at(accelerators: int, *switches: str) -> Finding:
        return hardware.round_trip(
            RoundTrip(by="round_trip", accelerators=accelerators, links=("ualink-200g",), switches=switches)
        )

    within, beyond = look_at(256, "ualink-50t"), look_at(257, "ualink-50t")
    assert within.value < 1000 < beyond.value
    assert "1 switch level, 1 switch one way" in within.detail
    assert "one level asks for a switch of 51.4 Tb/s at least (257 ports of ualink-200g)" in beyond.detail
    assert "the largest of these has 51.2" in beyond.detail
    assert look_at(256, "ualink-25t", "ualink-50t").value == within.value
    assert look_at(257, "ualink-25t", "ualink-50t").value < beyond.value


def test_one_level_of_the_named_switches_does_not_hold_1024() -> None:
    found = look(by_id("ualink-rtt-1024"), NOTHING)
    assert "2 switch levels, 3 switches one way" in found.detail
    assert "204.8 Tb/s" in found.detail


def test_a_link_without_a_count_leaves_the_largest_mesh_open() -> None:
    found = hardware.largest_mesh(LargestMesh(by="largest_mesh", link="ualink-800g", most_link="nvlink-5"))
    assert not found.judged
    assert "ualink-800g" in found.reason


def test_ratio_verdicts_come_from_the_rows(store: RunStore) -> None:
    found = {v.claim_id: v for v in verdicts(store)}
    assert [v.claim_id for v in verdicts(store.path)] == [c.id for c in CLAIMS.claims]
    kv = found["kv-2x"]
    assert kv.verdict == NOT_REPRODUCED
    assert kv.bound_value is not None
    assert kv.measured_value is not None
    assert kv.measured_value < 2.0
    assert "lies below the claim too" in kv.reason
    assert found["lz4-64k"].verdict == REPRODUCED
    assert found["line-bf16"].verdict == REPRODUCED


def test_one_instance_a_channel_is_judged_by_the_interval() -> None:
    """A line every 2.5 ns is 25.6 GB/s: three of them for the 76.8 GB/s of an HBM3E channel, one where it is fast."""
    claim = by_id("one-instance-per-channel")
    slow = look(claim, records(rows()))
    assert slow.value == 3
    assert "no codec of the run needs one" in slow.detail
    quick = [{**row, "initiation_interval_ns": 0.8 if row["codec"] == "window" else 2.5} for row in rows()]
    found = look(claim, records(quick))
    assert found.value == 3
    assert "with one: window" in found.detail
    assert look(claim, NOTHING).value is None or not look(claim, NOTHING).judged


def test_a_better_codec_turns_the_kv_verdict() -> None:
    better = []
    for row in rows(variant="huffman"):
        if row["kind"] in ("key", "value"):
            better.append(row | {"payload_bits": row["raw_bytes"] * 8 // 2})
    assert judge(by_id("kv-2x"), CLAIMS, look(by_id("kv-2x"), records(better))).verdict == REPRODUCED


def test_a_lossy_codec_proves_nothing() -> None:
    lossy = [row | {"payload_bits": row["raw_bytes"], "lossless": False} for row in rows(variant="huffman")]
    verdict = judge(by_id("kv-2x"), CLAIMS, look(by_id("kv-2x"), records(lossy)))
    assert verdict.verdict == NOT_CHECKABLE
    zstd = [row | {"lossless": False} for row in rows(codec="zstd")]
    verdict = judge(by_id("zstd-64k"), CLAIMS, look(by_id("zstd-64k"), records(zstd)))
    assert verdict.verdict == NOT_CHECKABLE
    assert "not lossless" in verdict.reason


def test_dequantised_weights_prove_nothing() -> None:
    zstd = rows(codec="zstd", format="bf16", kind="weight")
    manifest = {"sources": [{"uri": zstd[0]["source"], "label": "x", "metadata": {"note": "dequantised from Q4_1"}}]}
    assert judge(by_id("zstd-64k"), CLAIMS, look(by_id("zstd-64k"), records(zstd))).verdict == REPRODUCED
    found = judge(by_id("zstd-64k"), CLAIMS, look(by_id("zstd-64k"), records(zstd, manifest)))
    assert found.verdict == NOT_CHECKABLE
    assert "dequantised" in found.reason


def test_other_block_sizes_do_not_count() -> None:
    small = [row | {"block_bytes": 4096} for row in rows(codec="zstd")]
    for name in ("zstd-64k", "zstd-64k-latency"):
        assert judge(by_id(name), CLAIMS, look(by_id(name), records(small))).verdict == NOT_CHECKABLE


def test_the_best_codec_is_held_against_the_classics_over_the_same_bytes() -> None:
    both = rows(variant="huffman", format="bf16", kind="weight")
    classic = [row | {"codec": "bpc", "variant": "bpc", "payload_bits": row["payload_bits"] * 2} for row in both]
    claim = by_id("line-beats-classics")
    found = judge(claim, CLAIMS, look(claim, records(both + classic)))
    assert found.verdict == REPRODUCED
    assert found.measured_value == pytest.approx(2.0)
    assert judge(claim, CLAIMS, look(claim, records(both + classic[1:]))).verdict == NOT_CHECKABLE


@pytest.mark.parametrize(
    ("relation", "value", "holds"),
    [
        ("equal", 1.55, True),
        ("equal", 1.551, False),
        ("at_least", 1.45, True),
        ("at_least", 1.449, False),
        ("at_most", 1.55, True),
        ("at_most", 1.551, False),
        ("below", 1.499, True),
        ("below", 1.5, False),
    ],
)
def test_tolerance_is_tight_at_its_edge(relation: Any, value: float, holds: bool) -> None:
    claimed = Claimed(low=1.5, unit="ratio", relation=relation, tolerance=0.05)
    assert claimed.holds(value) is holds


GOOD = """\
version: 1
published:
  here: {title: a page}
claims:
  - id: x
    title: t
    group: g
    source: here
    where: w
    quote: q
    metric: m
    claimed: {low: 1, unit: ratio}
    check: {by: codec_ratio, codec: lz4, data: weights, formats: [bf16]}
"""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("source: here", "source: there", "there"),
        ("    claimed: {low: 1, unit: ratio}\n", "", "claimed"),
        ("by: codec_ratio", "by: codec_rate", "codec_rat"),
        ("id: x", "id: X!", "id"),
        ("formats: [bf16]", "formats: [bf16], verdict: reproduced", "verdict"),
        ("metric: m", "metric: m\n    metric: n", "twice"),
    ],
)
def test_a_claims_file_that_is_wrong_says_where(tmp_path: Path, before: str, after: str, words: str) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(GOOD, encoding="utf-8")
    assert isinstance(load_claims(file), ClaimSet)
    file.write_text(GOOD.replace(before, after), encoding="utf-8")
    with pytest.raises(ClaimsError) as caught:
        load_claims(file)
    message = str(caught.value)
    assert str(file) in message
    assert words in message
    assert "\n" not in message


def test_two_claims_may_not_share_a_name(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    second = GOOD[GOOD.index("  - id") :]
    file.write_text(GOOD + second, encoding="utf-8")
    with pytest.raises(ClaimsError, match="two claims are called 'x'"):
        load_claims(file)


def test_rows_fit_the_table_of_the_record(store: RunStore) -> None:
    found = verdicts(store)
    store.replace("claims", [{**v.row(), "case_key": v.claim_id, "status": "ok"} for v in found])
    back = store.rows("claims")
    assert [row["verdict"] for row in back] == [v.verdict for v in found]
    assert all(re.fullmatch(r"[^\n]+", row["reason"]) for row in back)


def test_command(store: RunStore) -> None:
    run = str(store.path)
    result = CliRunner().invoke(command, [run, "--json", "--only", "kv-*"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert [d["claim_id"] for d in document] == ["kv-2x", "kv-predictive"]
    result = CliRunner().invoke(command, [run], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{len(CLAIMS.claims)} claims:" in result.stdout
    assert "2.0x on KV caches" in result.stdout
    with pytest.raises(LinepressError, match="no claim matches"):
        CliRunner().invoke(command, [run, "--only", "nope"], catch_exceptions=False)


def test_claims_load_without_the_report() -> None:
    """The report shows verdicts, so verdicts cannot need the report: nothing of it is loaded."""
    loaded = "import sys, linepress.claims; print(*(n for n in sys.modules if n.startswith('linepress.')))"
    names = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "linepress.records.measured" in names
    assert [name for name in names if name.startswith("linepress.report")] == []
