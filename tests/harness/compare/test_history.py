"""Nights in a row: figures, steps, the spread between them, and which of them is a good baseline."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress.compare import CompareOptions, compare_runs
from linepress.compare.history import exact_steps, history, levels, speed_steps
from linepress.compare.nights import Night, night, nights, reduce_run
from linepress.compare.spread import sigma, spread_between_runs, spread_of
from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.records.found import is_good, latest_good, suite_runs
from linepress_kit.synthetic_run import Shape
from linepress_kit.timed_runs import timed_rows, write_run

ROWS = timed_rows(Shape(layers=1, failing=0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def some_nights(n: int) -> list[Night]:
    return [Night(f"run{i}", "", "", "", False, "") for i in range(n)]


def write_nights(folder: Path, n: int, **last: Any) -> list[Path]:
    paths = []
    for i in range(n):
        moment = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i)).isoformat()
        options = last if i == n - 1 else {}
        paths.append(folder / f"invented-{i:02d}")
        write_run(paths[-1], ROWS, seed=i, created_at=moment, **options)
    return paths


def test_a_step_is_found_where_it_is_and_nothing_else() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    series = 0.01 * rng.standard_normal(30)
    series[18:] += 0.08
    assert levels(series) == [18]
    series[25] += 1.0
    assert levels(series) == [18]


def test_steady_nights_show_no_step() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    gaussian = sum(bool(levels(0.01 * rng.standard_normal(30))) for _ in range(300))
    odd = 0
    for _ in range(300):
        series = 0.01 * rng.standard_normal(30)
        series[rng.random(30) < 0.1] += 0.05
        odd += bool(levels(series))
    assert gaussian <= 3
    assert odd <= 6


def test_a_single_odd_night_is_not_a_level() -> None:
    series = np.zeros(20)
    series[-1] = 0.5
    assert levels(series) == []
    assert levels(np.zeros(3)) == []
    assert levels(np.r_[np.zeros(10), np.full(2, 0.5)]) == [10]


def test_steps_of_speeds_are_levels_and_small_ones_are_left_out() -> None:
    rates = [2.0] * 8 + [1.0] * 8
    logs = np.log(rates)
    (step,) = speed_steps(some_nights(16), logs, rates, 3.0)
    assert (step.night, step.before, step.run) == (8, 2.0, "run8")
    assert step.change_pct == pytest.approx(-50)
    slight = np.log([2.0] * 8 + [2.04] * 8)
    assert levels(slight) == [8]
    assert speed_steps(some_nights(16), slight, list(np.exp(slight)), 3.0) == []


def test_exact_figures_step_at_every_change() -> None:
    (step,) = exact_steps(some_nights(4), [1.5, None, 1.5, 1.5000001])
    assert step.night == 3
    assert step.change_pct == pytest.approx(100 * (1.5000001 / 1.5 - 1))


def test_sigma_does_not_see_a_step() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    series = 0.01 * rng.standard_normal(200)
    series[100:] += 1.0
    assert sigma(series) == pytest.approx(0.01, rel=0.25)


def test_nights_are_found_in_order_and_reduced_once(tmp_path: Path) -> None:
    paths = write_nights(tmp_path / "runs", 3)
    (tmp_path / "runs" / "not-a-run").mkdir()
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "manifest.json").write_text("{")
    assert [path for path, _ in suite_runs(tmp_path / "runs", "invented")] == paths
    assert suite_runs(tmp_path / "runs", "another") == []
    first = night(paths[0])
    assert first.figures["weights bf16|huffman|lossless"] == 1.0
    assert first.figures["all data|huffman|payload_ratio"] > 1.3
    assert first.machine_GBps
    cached = list((tmp_path / "cache" / "linepress" / "nights").glob("*.json"))
    assert len(cached) == 1
    cached[0].write_text('{"figures": {"a|b|lossless": 0.5}, "fastest": {}, "machine_GBps": null}')
    assert night(paths[0]).figures == {"a|b|lossless": 0.5}
    with pytest.raises(RecordError):
        night(tmp_path / "runs" / "not-a-run")


def test_dequantised_weights_are_figures_of_their_own(tmp_path: Path) -> None:
    (path,) = write_nights(tmp_path / "runs", 1)
    manifest = json.loads((path / "manifest.json").read_text())
    uris = {
        row["source"] for batch in RunStore.open(path).batches("measure", ["source"]) for row in batch.to_pylist()
    }
    manifest["sources"] = [{"uri": uri, "label": "dequantised sample"} for uri in uris]
    (path / "manifest.json").write_text(json.dumps(manifest))
    figures, _, _ = reduce_run(RunStore.open(path))
    assert "dequantised weights bf16|huffman|payload_ratio" in figures
    assert "weights bf16|huffman|payload_ratio" not in figures


def test_history_shows_a_slower_codec_from_its_second_night(tmp_path: Path) -> None:
    paths = write_nights(tmp_path / "runs", 10)
    slow = {("huffman", "decode"): 1.25}
    for i in (10, 11):
        moment = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i)).isoformat()
        paths.append(tmp_path / "runs" / f"invented-{i}")
        write_run(paths[-1], ROWS, seed=i, created_at=moment, slower=slow)
    found = history(nights(paths))
    steps = [(line.data, line.variant, line.figure) for line in found.lines if line.steps]
    assert steps
    assert {(variant, figure) for _, variant, figure in steps} == {("huffman", "decode_GBps")}
    line = next(line for line in found.lines if line.steps)
    assert line.steps[0].run == "invented-10"
    assert line.steps[0].change_pct == pytest.approx(100 * (1 / 1.25 - 1), abs=3)
    parsed = json.loads(json.dumps(found.document(), allow_nan=False))
    assert len(parsed["nights"]) == 12
    assert all(len(one["values"]) == 12 for one in parsed["lines"])


def test_earlier_nights_can_only_widen(tmp_path: Path) -> None:
    paths = write_nights(tmp_path / "runs", 8)
    spread = spread_between_runs(paths)
    assert 0 < spread["huffman", "decode"] < 0.03
    assert spread_between_runs(paths[:3]) == {}
    jumpy = [
        Night(f"{i}", "", "", "", False, "", {}, {"all data|huffman|decode_GBps": math.exp(0.2 * (-1) ** i)}, 1.0)
        for i in range(8)
    ]
    assert spread_of(jumpy)["huffman", "decode"] > 0.2
    slower = write_run(tmp_path / "slow", ROWS, seed=99, slower={("huffman", "decode"): 1.08}).path
    alone = compare_runs(paths[0], slower)
    informed = compare_runs(paths[0], slower, CompareOptions(history=tuple(paths)))
    widths = []
    for one in (alone, informed):
        speed = next(s for s in one.sampled.speeds if (s.variant, s.metric) == ("huffman", "decode"))
        assert speed.effect is not None
        widths.append(speed.effect.high - speed.effect.low)
    assert widths[1] >= 0.98 * widths[0]


def test_the_baseline_is_the_newest_good_run(tmp_path: Path) -> None:
    paths = write_nights(tmp_path / "runs", 4)
    assert latest_good(paths) == paths[-1]
    (paths[3] / "nightly").mkdir()
    (paths[3] / "nightly" / "summary.json").write_text('{"verdict": "FAIL"}')
    assert latest_good(paths) == paths[2]
    manifest = json.loads((paths[2] / "manifest.json").read_text())
    (paths[2] / "manifest.json").write_text(json.dumps({**manifest, "exit_code": 1}))
    assert latest_good(paths) == paths[1]
    (paths[3] / "nightly" / "summary.json").write_text('{"verdict": "ACCEPTED"}')
    assert is_good(paths[3])
    (paths[3] / "nightly" / "summary.json").write_text("{")
    assert not is_good(paths[3])
    assert latest_good([]) is None
