"""What a run tells while it works: rates that are not nothing, an ETA that settles, the case that takes long."""

from __future__ import annotations

import io
import re

import pytest

from linepress.run import progress as progress_module
from linepress.run.progress import Progress


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(25_000_000_000, "25 GB/s"), (350_000_000, "0.35 GB/s"), (9_600_000, "9.60 MB/s"), (42_000_000, "42 MB/s")],
)
def test_a_rate_is_shown_in_a_unit_in_which_it_is_not_nothing(clock: Clock, n_bytes: int, shown: str) -> None:
    progress = Progress(io.StringIO(), live=False)
    progress.begin("measure", 2, 0)
    clock.now_s += 1
    progress.advance(True, n_bytes)
    assert f"   {shown}   ok 1" in progress.line()


def eta_s(line: str) -> int:
    found = re.search(r"eta (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", line)
    assert found, line
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def test_the_eta_settles_although_the_largest_cases_go_first(clock: Clock) -> None:
    """On one core, of a machine that is slower than the rates say."""
    costs = [20.0 * 0.93**i for i in range(100)]
    progress = Progress(io.StringIO(), live=False)
    progress.begin("measure", len(costs), 0, sum(costs))
    for i, cost in enumerate(costs[:-1]):
        clock.now_s += 1.2 * cost
        progress.advance(True, 1000, cost, 1.2 * cost)
        assert eta_s(progress.line()) == pytest.approx(1.2 * sum(costs[i + 1 :]), abs=1)


def test_the_eta_is_there_within_ten_seconds_and_right_with_the_first_case(clock: Clock) -> None:
    """Two cores, cases that take half a minute, and a first one that also loaded its kernels."""
    costs = [30.0] * 40
    progress = Progress(io.StringIO(), live=False)
    progress.begin("measure", len(costs), 0, sum(costs), cores=2)
    clock.now_s += 9
    assert eta_s(progress.line()) == 591
    for done in range(1, 40, 2):
        clock.now_s = 100.0 + 36 * (done + 1) / 2
        for _ in range(2):
            progress.advance(True, 1000, 30.0, 36.0 + (3.0 if done == 1 else 0.0))
        left_s = 36 * 20 - (clock.now_s - 100.0)
        assert eta_s(progress.line()) == pytest.approx(left_s, rel=0.12, abs=2)


def test_a_case_that_takes_long_is_named(clock: Clock) -> None:
    progress = Progress(io.StringIO(), live=False)
    progress.begin("measure", 2, 0)
    progress.tick("lm_head × adaptive", 3)
    assert "lm_head" not in progress.line()
    progress.tick("lm_head × adaptive", 75)
    assert progress.line().endswith("   at lm_head × adaptive for 1m15s")
