"""Faults on real workers: exceptions, dead workers, poison and hung cases; each other case once and untouched."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from linepress.cluster.fanout import CHAIN_TENSORS, GROUP_CASES, MAX_TRIES, chained, fan_out, groups
from linepress.cluster.join import Cluster
from linepress.cluster.tasks import Row, Task, run_task

TIMEOUT_S = 20.0


def task(number: int, name: str = "fine", *arguments: Any, **more: Any) -> Task:
    return Task(
        key=f"{number:04d}",
        stage="measure",
        target=f"linepress_kit.faults:{name}",
        arguments=arguments or ((number,) if name == "fine" else ()),
        identity={"tensor": f"t{number}", "variant": "raw"},
        **more,
    )


def run(tasks: list[Task], cluster: Cluster, timeout_s: float = TIMEOUT_S) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    seen: Counter[str] = Counter()
    for one, rows in fan_out(tasks, cluster, timeout_s):
        seen[one.key] += 1
        found[one.key] = rows
    assert set(seen.values()) == {1}
    assert set(found) == {one.key for one in tasks}
    return found


def test_groups_are_bounded_in_cases_bytes_and_stage() -> None:
    assert [len(g) for g in groups([task(i) for i in range(20)])] == [8, 8, 4]
    assert [len(g) for g in groups([task(i, n_bytes=30 << 20) for i in range(5)])] == [2, 2, 1]
    assert [len(g) for g in groups([task(0, n_bytes=1 << 40), task(1)])] == [1, 1]
    far = [task(i, n_bytes=1 << 30, data=f"tensor {i // 10}") for i in range(20)]
    assert [len(g) for g in groups(far)] == [8, 2, 8, 2]
    other = Task("x", "channel", "m:f")
    assert [len(g) for g in groups([task(0), other, task(1)])] == [1, 1, 1]
    assert list(groups([])) == []
    assert GROUP_CASES == 8


def test_tensors_from_afar_go_to_a_worker_in_chains_that_get_shorter() -> None:
    far = [task(i, n_bytes=1 << 30, data=f"tensor {i // 2}", afar=i // 2) for i in range(60)]
    chains = list(chained(groups(far), 2))
    assert [one for chain in chains for one in chain] == far
    lengths = [len({one.afar for one in chain}) for chain in chains]
    assert lengths[0] == CHAIN_TENSORS
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-4:] == [1] * 4, "the last tensors are shared out"
    near = [task(i, n_bytes=1 << 30, data=f"tensor {i}") for i in range(30)]
    assert [len(chain) for chain in chained(groups(near), 2)] == [1] * 30


def test_tasks_are_taken_only_as_the_window_has_room(ray_cluster: Cluster) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield task(taken)

    stream = fan_out(endless(), ray_cluster, TIMEOUT_S)
    for _ in range(10):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert taken < 10 + 4 * GROUP_CASES * ray_cluster.slots


def test_what_has_been_worked_on_longest_is_known_while_nothing_ends(ray_cluster: Cluster) -> None:
    seen: list[tuple[str, float]] = []
    slow = [task(0, "sleeps", 1.6), task(1, n_bytes=1 << 40)]
    for _ in fan_out(slow, ray_cluster, TIMEOUT_S, lambda: seen.append(ray_cluster.longest)):
        pass
    at_work = [seconds for name, seconds in seen if name == "raw  t0"]
    assert at_work == sorted(at_work)
    assert 0.5 < at_work[-1] < TIMEOUT_S


def test_an_exception_is_a_failed_row_and_the_group_goes_on(ray_cluster: Cluster) -> None:
    found = run([task(0), task(1, "raises", "bad input\nin two lines"), task(2)], ray_cluster)
    row = found["0001"][0]
    assert (row["status"], row["error_type"], row["error"]) == ("failed", "ValueError", "bad input in two lines")
    assert row["tensor"] == "t1"
    assert row["extra"]["raised_at"].startswith("faults.py:")
    assert found["0000"][0]["status"] == found["0002"][0]["status"] == "ok"
    assert row["attempts"] == 1
    assert row["versions"]
    assert row["started_at"].tzinfo is not None


def test_several_rows_of_a_case_are_numbered(ray_cluster: Cluster) -> None:
    rows = run([task(0, "several", 3)], ray_cluster)["0000"]
    assert [row["row"] for row in rows] == [0, 1, 2]
    assert {row["case_key"] for row in rows} == {"0000"}


def test_a_missing_target_is_a_failed_row(ray_cluster: Cluster) -> None:
    found = run([Task("a", "measure", "linepress_kit.nowhere:f"), task(1)], ray_cluster)
    assert found["a"][0]["error_type"] == "ModuleNotFoundError"
    assert found["0001"][0]["status"] == "ok"


def test_a_poison_case_is_isolated_and_fails_after_three_tries(ray_cluster: Cluster) -> None:
    tasks = [task(i) for i in range(12)]
    tasks[5] = task(5, "kills_worker")
    found = run(tasks, ray_cluster)
    row = found["0005"][0]
    assert (row["status"], row["attempts"]) == ("failed", MAX_TRIES)
    assert "its worker died 3 times on this case alone" in row["error"]
    assert row["tensor"] == "t5"
    assert all(found[one.key][0]["status"] == "ok" for one in tasks if one.key != "0005")


def test_a_worker_lost_once_costs_nothing(ray_cluster: Cluster, tmp_path: Path) -> None:
    tasks = [task(i) for i in range(8)]
    tasks[3] = task(3, "kills_worker_once", str(tmp_path / "marker"))
    found = run(tasks, ray_cluster)
    assert {rows[0]["status"] for rows in found.values()} == {"ok"}


def test_system_exit_in_a_case_fails_that_case_only(ray_cluster: Cluster) -> None:
    found = run([task(0), task(1, "exits"), task(2)], ray_cluster)
    assert [found[key][0]["status"] for key in ("0000", "0001", "0002")] == ["ok", "failed", "ok"]


def test_a_hung_case_is_ended_even_inside_compiled_code(ray_cluster: Cluster) -> None:
    found = run([task(0), task(1, "hangs"), task(2)], ray_cluster, timeout_s=2.5)
    row = found["0001"][0]
    assert (row["status"], row["error_type"]) == ("failed", "CaseTimeoutError")
    assert "did not end within 2.5 s" in row["error"]
    assert "faults.py" in row["error"]
    assert found["0000"][0]["status"] == found["0002"][0]["status"] == "ok"
    assert not list(Path(tempfile.gettempdir()).glob("linepress-watchdog-*/*-0001"))


def test_bytes_that_changed_under_the_run_are_a_failed_row() -> None:
    row = run_task(task(0, "other_content", content_sha256="0" * 64), TIMEOUT_S, "session")[0]
    assert (row["status"], row["error_type"]) == ("failed", "ContentChangedError")
    assert "000000000000…" in row["error"]
    assert run_task(task(0, "other_content", content_sha256="f" * 64), TIMEOUT_S, "session")[0]["status"] == "ok"


@pytest.mark.parametrize("n_bytes", [0, 1 << 30])
def test_workers_stay_under_a_gigabyte(ray_cluster: Cluster, n_bytes: int) -> None:
    peak = run([task(0, "resident_bytes", n_bytes=n_bytes)], ray_cluster)["0000"][0]["raw_bytes"]
    assert peak < 1 << 30
