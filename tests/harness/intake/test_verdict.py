"""The verdict, line by line: what says yes, no and undecided, and that nothing later takes a refusal back."""

from __future__ import annotations

from typing import Any

import pytest

from linepress.intake.http.forms import NewFile, NewSubmission
from linepress.intake.http.rates import Rates
from linepress.intake.service import Service
from linepress.intake.store import leaderboard, partners, states, submissions
from linepress.intake.store.audit import SERVICE
from linepress.intake.store.partners import Caller
from linepress.intake.work import verdict
from linepress.records.summary import frame_of, headline

FOLDER = "in/acme/tiny"


def row(**values: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "source": f"{FOLDER}/m.safetensors",
        "tensor": "w",
        "variant": "huffman",
        "codec_kind": "line",
        "format": "bf16",
        "cast": "",
        "packing": "stream",
        "lines": 10,
        "raw_bytes": 640,
        "payload_bits": 3000,
        "packed_bytes": 400,
        "packed_ratio": 1.6,
        "lossless": True,
        **values,
    }


def counts(**values: int) -> dict[str, dict[str, int]]:
    return {"measure": {"planned": 2, "ok": 2, "failed": 0, "skipped": 0, **values}}


@pytest.mark.parametrize(
    ("status", "found", "answer"),
    [
        ("complete", counts(), "yes"),
        ("complete", counts(ok=1, skipped=1), "yes"),
        ("complete", counts(ok=1, failed=1), "undecided"),
        ("complete", counts(ok=1), "undecided"),
        ("complete", counts(ok=0, skipped=2), "undecided"),
        ("interrupted", counts(), "undecided"),
        ("complete", {}, "undecided"),
        ("complete", {**counts(), "channel": {"planned": 1, "ok": 0, "failed": 1, "skipped": 0}}, "undecided"),
    ],
)
def test_completeness(status: str, found: dict[str, dict[str, int]], answer: str) -> None:
    assert verdict.completeness(status, found)["answer"] == answer


@pytest.mark.parametrize(
    ("rows", "tensors", "answer"),
    [
        ([row()], 1, "yes"),
        ([row(), row(lossless=False)], 1, "no"),
        ([row(lossless=None)], 1, "no"),
        ([row()], 2, "undecided"),
        ([], 0, "undecided"),
        ([row(status="failed", lossless=None)], 1, "undecided"),
    ],
)
def test_losslessness(rows: list[dict[str, Any]], tensors: int, answer: str) -> None:
    assert verdict.losslessness(rows, tensors)["answer"] == answer


def expected(**values: Any) -> dict[str, Any]:
    return {
        "file": "m.safetensors",
        "tensor": "w",
        "variant": "huffman",
        "payload_bits": 3000,
        "packed_bytes": 400,
        **values,
    }


@pytest.mark.parametrize(
    ("want", "reproduced", "answer"),
    [
        ([], False, "yes"),
        ([expected()], False, "yes"),
        ([expected(payload_bits=3001)], True, "no"),
        ([expected(packed_bytes=399)], True, "no"),
        ([expected(variant="bdi")], False, "undecided"),
        ([expected(variant="bdi")], True, "yes"),
        ([expected(file="other.safetensors")], False, "undecided"),
    ],
)
def test_reported_results_are_exact_or_wrong(want: list[dict[str, Any]], reproduced: bool, answer: str) -> None:
    figures = verdict.compared(want, [row()], FOLDER, reproduced)
    assert len(figures) == 2 * len(want)
    assert verdict.expectation(figures)["answer"] == answer


def test_any_no_refuses_whatever_else_says_yes() -> None:
    yes, no = verdict.line("A", "yes", "a"), verdict.line("B", "no", "b")
    undecided = verdict.line("C", "undecided", "c")
    assert verdict.outcome([yes, yes])[0]
    for lines in ([yes, no], [no, yes], [undecided, yes], [yes, undecided, no]):
        assert not verdict.outcome(lines)[0]
    assert verdict.outcome([undecided, no])[1].startswith("b: no")


def test_headline_is_the_best_line_codec_over_every_byte_of_the_main_format() -> None:
    rows = [
        row(variant="raw", packed_bytes=640),
        row(variant="huffman", packed_bytes=400),
        row(variant="picky", packed_bytes=10, raw_bytes=100),  # took only the easy part
        row(variant="zstd", codec_kind="block", packed_bytes=100),
        row(variant="huffman", format="e4m3", cast="e4m3", packed_bytes=5),
        row(variant="huffman", format="int8", packed_bytes=1, raw_bytes=64),
    ]
    best = verdict.leading(headline(frame_of(rows)))
    assert best is not None
    assert (best["format"], best["variant"], best["packed_ratio"]) == ("bf16", "huffman", pytest.approx(1.6))
    assert verdict.leading(headline(frame_of([rows[3]]))) is None


def test_leaderboard_names_only_who_published(service: Service) -> None:
    ratios = {"acme": 1.5, "rival": 1.6, "third": 1.4}
    with service.db.write() as conn:
        for name, ratio in ratios.items():
            partners.add_partner(conn, 0.0, name, "a@b.example")
            wanted = NewSubmission(
                name="m", files=[NewFile(path="manifest.yaml", bytes=1, sha256="0" * 64)], publish=name == "rival"
            )
            made, _ = submissions.create(conn, 0.0, Caller(name, "t", (), 100), SERVICE, wanted, None)
            for state in (states.RECEIVED, states.CHECKED, states.QUEUED, states.RUNNING):
                submissions.move(conn, 0.0, made["id"], state, SERVICE)
            values = {"packed_ratio": ratio, "data_format": "bf16"}
            submissions.move(conn, 0.0, made["id"], states.VALIDATED, SERVICE, **values)
        rows = leaderboard.ranking(conn, "acme")
        assert [(r["place"], r["model"], r["submission"] is not None) for r in rows] == [
            (1, "rival/m", False),
            (2, "acme/m", True),
            (3, None, False),
        ]
        assert leaderboard.position(conn, "smoke", "bf16", 1.55, "none") == (2, 3)
        assert leaderboard.ranking(conn, "acme", data_format="e4m3") == []


def test_a_bucket_refills_at_its_rate_and_holds_no_more_than_its_burst() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0])
    assert [rates.take("a", 2.0, 3) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    now[0] = 0.49
    assert rates.take("a", 2.0, 3) > 0
    now[0] = 0.5
    assert rates.take("a", 2.0, 3) == 0.0
    now[0] = 1000.0
    assert [rates.take("a", 2.0, 3) == 0.0 for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 2.0, 3) == 0.0
