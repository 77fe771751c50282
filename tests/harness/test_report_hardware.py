"""Fabric, racks and sensitivity of the report: numbers that follow by hand, and runs that lack them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from linepress.records import RunStore
from linepress.records.frame import Frame
from linepress.report import build_report
from linepress.report.model import Plot
from linepress.report.sections import fabric, racks, sensitivity
from linepress.report.view import RunView
from linepress.tables.model import Note, Table
from linepress_kit.synthetic_run import make_run


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return RunView.load(make_run(tmp_path_factory.mktemp("runs") / "small"), [])


def tables(parts: Sequence[object]) -> dict[str, Table]:
    return {part.id: part for part in parts if isinstance(part, Table)}


def texts(table: Table) -> list[list[str]]:
    return [[c.text for c in row.cells] for group in table.groups for row in group.rows]


def test_fabric_shows_the_run_beside_the_model(view: RunView) -> None:
    section = fabric.fabric(view)
    figures = {part.id: part for part in section.parts if isinstance(part, Plot)}
    assert set(figures) == {"fabric-run-0", "fabric-size", "fabric-load"}
    for figure in figures.values():
        assert figure.svg.startswith("<svg")
        assert figure.alt
        assert figure.caption
    assert "switch 8, all-reduce ring" in figures["fabric-run-0"].alt
    found = tables(section.parts)
    rows = texts(found["fabric-table"])
    assert len(rows) == 4
    assert [row[11] for row in rows[:2]] == [f"{1.1 / 1.15:.3f}", f"{7.6 / 5.6:.3f}"]
    assert rows[0][9] == "0.00"
    assert rows[2][7] == "–", "a leaf–spine network has no closed form"
    scale = {row[0]: row for row in texts(found["fabric-topologies"])}
    assert scale["ualink-1024-leaf-spine"][8] == "no"
    assert scale["ualink-256"][8] == "yes"
    assert scale["torus-8x8"][7:9] == ["–", "–"]


def test_a_run_without_a_fabric_stage_still_shows_the_topologies(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "bare", {"suite": {"name": "bare"}, "counts": {}})
    parts = fabric.fabric(RunView.load(store, [])).parts
    assert isinstance(parts[0], Note)
    assert "fabric-topologies" in tables(parts)
    page = build_report(tmp_path / "bare").read_text(encoding="utf-8")
    assert 'id="racks-published-total"' in page


def test_simulated_marks_lie_on_or_above_their_closed_form() -> None:
    curves = fabric.standing_curves()
    marks = 0
    for curve in curves:
        form = dict(zip(curve.size_bytes, curve.time_s, strict=True))
        for size_bytes, time_s in zip(curve.mark_bytes, curve.mark_s, strict=True):
            marks += 1
            assert time_s >= form[size_bytes] * (1 - 1e-9), curve.label
    assert marks >= 2 * len(curves)


def test_round_trips_never_beat_the_closed_form_and_grow_with_load() -> None:
    by_name = {curve.label: curve for curve in fabric.load_curves()}
    for name, curve in by_name.items():
        assert min(curve.p50_ns) >= (1 - 1e-9) * curve.alone_ns, name
        assert curve.p999_ns[-1] > curve.p999_ns[0]
    # In a mesh each reader has a link of its own to the popular peer; behind a switch they share its ports.
    mesh = by_name["mi300x-8"]
    assert mesh.hot_p999_ns[-1] == pytest.approx(mesh.p999_ns[-1], rel=0.02)
    for name in set(by_name) - {"mi300x-8"}:
        assert by_name[name].hot_p999_ns[-1] > by_name[name].p999_ns[-1]
    assert by_name["ualink-256"].hot_p999_ns[-1] > 1.1 * by_name["ualink-256"].p999_ns[-1]
    assert by_name["ualink-256"].alone_ns < fabric.LIMIT_NS < by_name["ualink-1024-leaf-spine"].alone_ns


def test_published_racks_stand_beside_what_contradicts_them(view: RunView) -> None:
    found = tables(racks.tables(view))
    assert list(found) == ["racks-table", "racks-published-total", "racks-published-space"]
    total = {row[0]: row for row in texts(found["racks-published-total"])}
    assert total["AMD MI300X"][4] == "1.536"
    assert "the cell says 4.5 TB" in total["AMD MI300X"][6]
    space = texts(found["racks-published-space"])
    power = next(row for row in space if row[0] == "Rack Power")
    assert power[3] == "≠ 43.9 kW\n42.9 kW"
    assert power[1:3] == ["46 kW", "41.6 kW"]
    assert "3 × 14.3 = 42.9 kW" in power[5]


def rows_of(**columns: list[object]) -> Frame:
    arrays = {
        name: np.array(values, dtype=object if isinstance(values[0], str) else float)
        for name, values in columns.items()
    }
    return Frame(arrays, len(next(iter(columns.values()))))


def test_spreads_hold_all_other_choices_equal() -> None:
    rows = rows_of(
        memory=["a", "a", "b", "b"],
        packing=["x", "y", "x", "y"],
        gain=[1.0, 2.0, 3.0, 12.0],
        nothing=[float("nan")] * 4,
    )
    found = sensitivity.spreads(rows, {"memory": "memory", "packing": "packing"}, {"gain": "gain", "nothing": "n"})
    assert found == {"memory": {"gain": np.median([3, 6])}, "packing": {"gain": np.median([2, 4])}}


def test_a_choice_that_never_varies_alone_is_left_out() -> None:
    rows = rows_of(memory=["a", "b"], packing=["x", "y"], gain=[1.0, 2.0])
    assert sensitivity.spreads(rows, {"memory": "memory", "packing": "packing"}, {"gain": "gain"}) == {}
    assert sensitivity.of_channel(rows) == []


def test_a_codec_brings_its_latency_along() -> None:
    rows = rows_of(codec=["a", "b"], decode_latency_ns=[20.0, 40.0], gain=[1.0, 2.0])
    choices = {"codec": "codec", "decode_latency_ns": "decode latency"}
    assert sensitivity.spreads(rows, choices, {"gain": "g"}) == {"codec": {"g": 2.0}, "decode latency": {"g": 2.0}}
