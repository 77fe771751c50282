"""`compare --plan`: the sessions it asks for are those after which the comparison's own statistics see the change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from linepress.cli.compare import command
from linepress.compare import CompareOptions, planned
from linepress.compare.planned import PILOT, sessions_needed
from linepress.compare.retime import RetimeError, RetimePlan, _judge
from linepress.compare.sampled import Series
from linepress_kit.synthetic_run import Shape
from linepress_kit.timed_runs import timed_rows, write_run

TENSORS, ROUNDS = 6, 12
OPTIONS = CompareOptions(resamples=10)
ALONE = CompareOptions(resamples=10, alpha=0.01 / 12)
"""The level that one series of twelve has."""


def timed(rng: np.random.Generator, sessions: int, sigmas: list[float], change: float = 0.0) -> list[Series]:
    """Series of two sides in turn; a tensor's fastest rounds differ by ``sigma``, all of the last series' by
    ``change`` more."""
    found = []
    for number, sigma in enumerate(sigmas):
        n = TENSORS * sessions
        excess = 1 + 0.02 * rng.exponential(size=(2, n, ROUNDS))
        excess /= excess.min(axis=2, keepdims=True)
        shift = sigma * rng.standard_normal(n) + (change if number == len(sigmas) - 1 else 0.0)
        base, new = 0.01 * excess[0], 0.01 * np.exp(shift)[:, None] * excess[1]
        found.append(Series(f"codec{number}", "decode", base, new, np.full(n, 1e7), 0, False))
    return found


def judged(rng: np.random.Generator, sessions: int, sigmas: list[float]) -> tuple[float, float]:
    """Of the last series, when it takes 3 % longer: the least change that a comparison would have shown, percent
    (median of 30), and how often it is called slower."""
    plan, speeds = RetimePlan(sessions=sessions), []
    # The comparison also wants an estimate of at least the minimum effect, which is not what a plan is about.
    options = CompareOptions(min_effect_pct=0.0, resamples=10)
    for _ in range(30):
        speeds.append(_judge(timed(rng, sessions, sigmas, math.log(1.03)), plan, options).speeds[-1])
    return float(np.median([one.visible_pct for one in speeds])), float(np.mean([one.mark == "+" for one in speeds]))


@pytest.mark.parametrize("sigmas", [[0.06] * 4, [0.03, 0.04, 0.05, 0.06]])
def test_the_plan_is_right_within_a_fifth(sigmas: list[float]) -> None:
    """A fifth less than a typical pilot asks for does not show 3 %, a fifth more does."""
    rng = np.random.Generator(np.random.PCG64(5))
    pilots = [sessions_needed(timed(rng, PILOT.sessions, sigmas), PILOT.sessions, OPTIONS) for _ in range(20)]
    typical = sorted(pilot.sessions for pilot in pilots)[10]
    few, many = (judged(rng, round(typical * share), sigmas) for share in (1 / 1.2, 1.2))
    assert many[0] < 3.0 < few[0]
    assert few[1] < many[1]
    assert many[1] > 0.5
    assert pilots[0].rounds == pilots[0].sessions * RetimePlan().turns * RetimePlan().rounds


def test_the_noisiest_series_is_named_and_luck_is_not_taken_for_noise() -> None:
    rng = np.random.Generator(np.random.PCG64(6))
    found = sessions_needed(timed(rng, PILOT.sessions, [0.02, 0.02, 0.12]), PILOT.sessions, OPTIONS)
    assert found.noisiest == ("codec2", "decode")
    alike = [timed(rng, PILOT.sessions, [0.05] * 12) for _ in range(8)]
    asked = [sessions_needed(one, PILOT.sessions, OPTIONS).sessions for one in alike]
    luckless = [sessions_needed([max(one, key=spread)], PILOT.sessions, ALONE).sessions for one in alike]
    assert np.mean(asked) < 0.9 * np.mean(luckless)


def spread(one: Series) -> float:
    return float(np.std(one.differences()))


def test_a_pilot_without_tensors_to_judge_by_is_one_sentence() -> None:
    few = timed(np.random.Generator(np.random.PCG64(1)), 1, [0.01])
    with pytest.raises(RetimeError, match="--plan: no codec has 4 tensors that take"):
        sessions_needed([replace(few[0], base=few[0].base[:3], raw_bytes=few[0].raw_bytes[:3])], 1, OPTIONS)


def test_plan_is_a_verb_over_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    monkeypatch.setattr(planned, "timed_in_turn", lambda *_: timed(rng, PILOT.sessions, [0.02, 0.03]))
    run = str(write_run(tmp_path / "run", timed_rows(Shape(layers=1, failing=0))).path)

    def compare(*words: str) -> Result:
        return CliRunner().invoke(command, words, standalone_mode=False)

    done = compare(run, "--plan", "--min-effect", "2")
    assert "to show a change of 2 % in each of 2 speeds, with 1 % chance of any false alarm: " in done.stdout
    asked = json.loads(compare(run, "--plan", "--min-effect", "2", "--json").stdout)
    assert asked["sessions"] > 1
    assert 2.0 < asked["silent_pct"] < asked["recorded_pct"]
    for words, sentence in (
        ((run,), "NEW is missing"),
        ((run, run, "--plan"), "leave NEW out"),
        ((run, "--plan", "--min-effect", "0"), "give --min-effect above 0"),
        ((run, run, "--sessions", "9"), "--sessions belongs to --retime"),
    ):
        assert sentence in str(compare(*words).exception)
