"""Aggregates: byte-weighted sums, failures counted and never averaged in, bounds of the right class."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress.records.frame import Frame
from linepress.records.measured import dequantised_sources
from linepress.records.measured import measure_frame as frame_of
from linepress.records.schema import schema
from linepress.records.summary import (
    best_line_variant,
    classes,
    histograms,
    pareto,
    percentile_bits,
    summaries,
    summarise,
)
from linepress.report.plots.ratios import Series, layer_strip
from linepress.report.plots.style import SERIES, spread


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema("measure"))


def measure_frame(rows: pa.Table, manifest: dict[str, Any] | None = None) -> Frame:
    return frame_of(rows, manifest or {})


def case(**changes: Any) -> dict[str, Any]:
    row = {
        "status": "ok",
        "variant": "huffman",
        "codec": "huffman",
        "codec_kind": "line",
        "kind": "weight",
        "format": "bf16",
        "cast": "none",
        "layout": "row",
        "packing": "stream",
        "raw_bytes": 1000,
        "payload_bits": 5600,
        "packed_bytes": 720,
        "bound_name": "field_order0",
        "bound_ratio": 1.5,
        "bounds": [
            {"name": "field_order0", "bits_per_value": 10.67, "ratio": 1.5},
            {"name": "joint_previous", "bits_per_value": 10.0, "ratio": 1.6},
        ],
        "lossless": True,
        "decode_GBps": 1.0,
    }
    return row | changes


def test_ratio_is_the_ratio_of_sums_not_the_mean_of_ratios() -> None:
    frame = measure_frame(table(case(), case(raw_bytes=9000, payload_bits=72000, packed_bytes=9100)))
    s = summarise(frame, "huffman")
    assert s.payload_ratio == pytest.approx(10_000 / (700 + 9000))
    assert s.packed_ratio == pytest.approx(10_000 / (720 + 9100))
    assert s.geometric_mean_ratio == pytest.approx((1000 / 700) ** 0.5)
    assert s.bits_per_line == pytest.approx(512 / s.payload_ratio)


def test_rate_is_all_bytes_over_all_time() -> None:
    frame = measure_frame(table(case(decode_GBps=1.0), case(raw_bytes=3000, decode_GBps=3.0)))
    assert summarise(frame, "huffman").decode_GBps == pytest.approx(4000 / (1000 / 1.0 + 3000 / 3.0))


def test_failed_and_skipped_cases_are_counted_and_kept_out_of_the_ratio() -> None:
    frame = measure_frame(
        table(
            case(),
            case(
                status="failed", raw_bytes=None, payload_bits=None, packed_bytes=None, lossless=None, bound_ratio=None
            ),
            case(
                status="skipped",
                raw_bytes=None,
                payload_bits=None,
                packed_bytes=None,
                lossless=None,
                bound_ratio=None,
            ),
        )
    )
    s = summarise(frame, "huffman")
    assert (s.n_ok, s.n_failed, s.n_skipped, s.n_planned) == (1, 1, 1, 3)
    assert s.payload_ratio == pytest.approx(1000 / 700)
    assert s.all_lossless


def test_one_lossy_case_spoils_the_variant() -> None:
    found = summaries(measure_frame(table(case(), case(lossless=False))))
    assert not found[0].all_lossless
    assert best_line_variant(found) is None


def test_a_codec_beyond_its_own_class_is_held_against_the_next_class() -> None:
    inside = summarise(measure_frame(table(case())), "huffman")
    assert (inside.bound_name, inside.bound_ratio) == ("field_order0", 1.5)
    assert inside.above_bound_pct == pytest.approx(100 * (1.5 * 0.7 - 1))
    beyond = summarise(measure_frame(table(case(payload_bits=5161))), "huffman")
    assert beyond.payload_ratio > 1.5
    assert beyond.bound_name == "joint_previous"
    assert beyond.bound_ratio == pytest.approx(1.6)
    assert beyond.highest_bound == ("joint_previous", pytest.approx(1.6))


def test_formats_casts_and_kinds_are_never_pooled() -> None:
    frame = measure_frame(
        table(
            case(kind="key"),
            case(kind="value"),
            case(),
            case(format="e4m3", cast="e4m3:scale=tensor"),
            case(format="e4m3"),
        )
    )
    labels = [data.label for data, _ in classes(frame)]
    assert labels == ["weights, bf16", "weights, e4m3", "weights, cast to e4m3 (scale=tensor)", "KV cache, bf16"]


def test_histograms_add_up_over_rows_of_different_length() -> None:
    rows = table(case(bits_histogram=[0, 2, 1]), case(bits_histogram=None), case(bits_histogram=[1, 0, 0, 5]))
    assert histograms(rows, np.array([0, 1, 2])).tolist() == [1, 2, 1, 5]
    assert histograms(rows, np.array([1])).tolist() == []


def test_percentiles_of_a_histogram() -> None:
    h = np.zeros(600, dtype=np.int64)
    h[300], h[400] = 99, 1
    assert percentile_bits(h, 0.5) == 300
    assert percentile_bits(h, 0.99) == 300
    assert percentile_bits(h, 0.995) == 400
    assert np.isnan(percentile_bits(np.zeros(4, dtype=np.int64), 0.5))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_pareto_front_is_what_nothing_else_beats(points: list[tuple[int, int]]) -> None:
    front = {points[i] for i in pareto([(float(x), float(y)) for x, y in points])}
    for p in points:
        beaten = any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)
        assert (p in front) == (not beaten)


@given(st.lists(st.floats(0, 10), max_size=12), st.floats(0.01, 2))
def test_spread_labels_keep_their_distance_and_their_order(positions: list[float], gap: float) -> None:
    places = spread(positions, gap)
    pairs = sorted(zip(positions, places, strict=True))
    for (a, pa_), (b, pb) in itertools.pairwise(pairs):
        assert abs(pb - pa_) >= gap - 1e-9
        assert a == b or pa_ < pb


def test_groups_keep_their_first_order_and_every_row() -> None:
    frame = Frame({"a": np.array(["x", "y", "x"], dtype=object), "n": np.array([1.0, 2.0, 3.0])}, 3)
    assert [(key, part.real("n").tolist()) for key, part in frame.by("a")] == [(("x",), [1.0, 3.0]), (("y",), [2.0])]
    assert frame.text("missing").tolist() == ["", "", ""]
    assert np.isnan(frame.real("missing")).all()


def test_dequantised_weights_are_a_class_of_their_own() -> None:
    manifest = {
        "sources": [
            {"uri": "a", "label": "trained", "metadata": {"note": "trained weights"}},
            {"uri": "b", "label": "model (dequantised)", "metadata": {}},
            {"uri": "c", "label": "", "metadata": {"note": "Dequantized from Q4_1"}},
            "not a source",
        ]
    }
    assert dequantised_sources(manifest) == {"b", "c"}
    rows = table(case(source="a"), case(source="b"), case(source="c", kind="key"))
    labels = [data.label for data, _ in classes(measure_frame(rows, manifest))]
    assert labels == ["weights, bf16", "dequantised weights, bf16", "KV cache, bf16"]


def strip_of(groups: int, layers: int) -> Any:
    series = [
        Series(f"g{g}", tuple(map(float, range(layers))), (1.4 + 0.01 * g,) * layers, (1.5,) * layers)
        for g in range(groups)
    ]
    return layer_strip(series, {s.name: SERIES[i] for i, s in enumerate(series)}, (1.3, 1.6))


def test_many_groups_over_many_layers_have_a_panel_each_and_two_layers_are_dots() -> None:
    panels = [ax for ax in strip_of(7, 80).axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == [f"g{g}" for g in range(7)]
    assert len({ax.get_ylim() for ax in panels}) == 1, "one scale, so that groups compare"
    assert len(strip_of(7, 12).axes) == len(strip_of(3, 80).axes) == 1
    drawn = {layers: [line.get_linestyle() for line in strip_of(2, layers).axes[0].lines] for layers in (2, 3)}
    assert set(drawn[2]) == {"None"}, "no course between two points"
    assert "-" in drawn[3]
