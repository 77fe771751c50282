"""What a dry run promises: the parts of a case by hand, what cases share, and the machine it runs on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linepress.cluster.fanout import groups
from linepress.cluster.tasks import Task, run_task
from linepress.run.estimate import GB, Machine, Rates, estimate, estimate_plan, parse_rates, probe, rates
from linepress.run.plan import make_plan
from linepress.suite.model import load_suite

FIGURES = {
    "work_s": 0.02,
    "start_s": 3.0,
    "bounds_s_per_GB": {"1": 2.0, "2": 1.0},
    "staging_s_per_GB": {"e4m3:scale=tensor": 5.0, "synthetic": 9.0},
    "packings_s_per_GB": {"stream": 0.1, "classes": 0.5},
    "variants": {
        "raw": {"1": [0.0, 0.001, 1.0, 0.5], "2": [0.0, 0.001, 1.0, 0.5]},
        "huffman": {"1": [0.5, 0.002, 6.0, 2.0], "2": [0.5, 0.002, 4.0, 1.5]},
        "huffman:tables=4": {"1": [0.5, 0.002, 8.0, 2.0], "2": [0.5, 0.002, 7.0, 1.5]},
    },
}
SAME = Machine(hash_s_per_GB=0.7, work_s=0.02)
N = 64 * 1024 * 2


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rates:
    found = parse_rates(FIGURES)
    monkeypatch.setattr("linepress.run.estimate.rates", lambda: found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def planned(folder: Path, codecs: str, more: str = "", casts: str = "none") -> list[Task]:
    """Cases of a plain file: nothing is drawn."""
    import numpy as np

    np.save(folder / "w.npy", np.arange(N // 2, dtype=np.float16).reshape(64, -1))
    source = f"{{uri: w.npy, casts: ['{casts}']}}"
    text = f"name: tiny\nversion: 1\nsources: [{source}]\ncodecs: {codecs}\nclaims: false\nrepeats: 2\n{more}"
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    tasks = make_plan(load_suite(str(folder / "tiny.yaml"))).tasks({})
    return [task if more else replace(task, options={**task.options, "packings": ()}) for task in tasks]


def test_the_packaged_rates_are_whole() -> None:
    found = rates()
    assert found.work_s > 0
    assert all(set(widths) == {"1", "2"} for widths in found.variants.values())


def test_a_case_is_its_passes_its_rounds_and_what_it_does_first(tmp_path: Path) -> None:
    tasks = planned(tmp_path, "[huffman]", "packings: [stream, classes]\n")
    found = estimate([tasks], 1, SAME)
    own = tasks[0].arguments[1].packing.spec.partition(":")[0]
    packed = sum(cost for name, cost in {"stream": 0.1, "classes": 0.5}.items() if name != own)
    by_hand = 0.5 + 0.002 + N / GB * (4.0 + 2 * 1.5 + packed + 1.0)
    assert found.core_s == pytest.approx(by_hand)
    assert (found.cases, found.n_bytes, found.guessed) == (1, N, 0)
    unread = estimate([[replace(task, content_sha256="") for task in tasks]], 1, SAME)
    assert unread.core_s - by_hand == pytest.approx(0.7 * N / GB), "planning has not hashed it"
    remembered = estimate([tasks], 1, SAME, {tasks[0].key})
    assert by_hand - remembered.core_s == pytest.approx(1.0 * N / GB)


def test_a_tensor_is_cast_and_bounded_once_a_worker(tmp_path: Path) -> None:
    one = planned(tmp_path, "[raw]", casts="e4m3:scale=tensor")
    two = planned(tmp_path, "[raw, huffman]", casts="e4m3:scale=tensor")
    alone_s = 0.5 + 0.002 + N / 2 / GB * (6.0 + 2 * 2.0)
    shared_s = N / GB * 5.0 + N / 2 / GB * 2.0
    together = estimate([two], 1, SAME).core_s
    assert together - estimate([one], 1, SAME).core_s == pytest.approx(alone_s)
    apart = estimate([[task] for task in two], 2, SAME).core_s
    # Two groups on two workers: on the same one, or not, each half of the time.
    assert apart - together == pytest.approx(0.5 * shared_s)


def test_another_machine_and_more_cores(tmp_path: Path) -> None:
    tasks = planned(tmp_path, "[raw, huffman]")
    base = estimate([tasks], 1, SAME)
    slower = estimate([tasks], 1, Machine(hash_s_per_GB=1.4, work_s=0.04))
    assert slower.core_s == pytest.approx(2 * base.core_s)
    assert base.wall_s(1) == pytest.approx(3.0 + base.core_s), "Ray starts first"
    assert base.wall_s(8) == pytest.approx(3.0 + base.longest_s), "one group is one worker's"
    assert slower.wall_s(1) == pytest.approx(2 * base.wall_s(1))
    assert estimate([], 2, SAME).wall_s(2) == 0.0


def test_an_unknown_variant_is_the_slowest_of_its_codec_or_of_all(known: Rates) -> None:
    assert known.of("huffman:tables=9", "2") == (known.variants["huffman:tables=4"]["2"], True)
    assert known.of("acme:x=1", "2") == (known.variants["huffman:tables=4"]["2"], False)
    assert known.staging_s("e4m3:scale=channel", 10**9) == 5.0
    assert known.staging_s("e5m2:scale=none", 10**9) == 9.0


def test_the_machine_is_measured_in_well_under_two_seconds() -> None:
    found = probe(2)
    assert 0.1 < found.hash_s_per_GB < 20
    assert 0.001 < found.work_s < 1


def test_a_dry_run_knows_what_is_remembered_and_what_is_done(tmp_path: Path) -> None:
    planned(tmp_path, "[raw, huffman]")
    plan = make_plan(load_suite(str(tmp_path / "tiny.yaml")))
    first = estimate_plan(plan, {}, 1)
    assert first.cases == 2
    tasks = list(plan.tasks({}))
    run_task(replace(tasks[0], options={**tasks[0].options, "repeats": 0}), 60.0, "test")  # counts the bounds
    again = estimate_plan(plan, {tasks[0].key: "ok"}, 1)
    assert again.cases == 1
    by_hand = estimate(groups(plan.tasks({tasks[0].key: "ok"})), 1, SAME)
    with_bounds = estimate(groups(plan.tasks({tasks[0].key: "ok"})), 1, SAME, {tasks[1].key})
    assert by_hand.core_s - with_bounds.core_s == pytest.approx(N / GB)
