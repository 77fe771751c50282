"""``linepress explore``: dominance, the search and its determinism, and the verb as a person uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from linepress.cli.hardware.explore import command
from linepress.explore.picks import KEEPS_RANDOM, picks
from linepress.explore.search import search
from linepress.explore.space import Point, Space, area_mm2, data, decoder_of, sram_um2
from linepress.explore.trial import OBJECTIVES, Trial, front, measure
from linepress.stages.channel.case import ChannelCase
from linepress_hardware.channel.config import default_config

SPACE = Space(("huffman", "window"), ("a", "b", "c"), (8192, 98304), (0, 64), (0, 1, 2))


def made(number: int, point: Point) -> Trial:
    """A trade-off with a known optimum, so that the search is tested without simulating."""
    packing = "abc".index(point.packing)
    cache = math.log2(point.metadata_cache_bytes)
    return Trial(
        number,
        point,
        capacity_ratio=1.5 - 0.1 * packing,
        gain_sequential=1.2 + 0.01 * (point.codec == "window") - 0.01 * (point.queue == 64),
        gain_random=0.4 + 0.1 * packing + 0.01 * cache,
        latency_p99_ns=400 - 10 * packing - 5 * (point.codec == "window"),
        area_mm2=cache / 100 + 0.01 * (point.decoders or 1) * (1 + (point.codec == "huffman")),
    )


def batch(points: Sequence[tuple[int, Point]]) -> list[Trial]:
    return [made(n, p) for n, p in points]


def found(budget: int, seed: int = 0) -> list[Trial]:
    return list(search(SPACE, ["hbm3"], budget, seed, batch))


def test_dominance_needs_nothing_worse_and_something_better() -> None:
    a = made(0, SPACE.points("hbm3")[0])
    for name, sign in OBJECTIVES.items():
        better = replace(a, number=1, **{name: getattr(a, name) + 0.01 * sign})
        assert better.dominates(a)
        assert not a.dominates(better)
    assert not a.dominates(a)
    mixed = replace(a, capacity_ratio=a.capacity_ratio + 1, area_mm2=a.area_mm2 + 1)
    assert not mixed.dominates(a)
    assert not a.dominates(mixed)
    assert [t.number for t in front([a, replace(mixed, number=1), Trial(2, a.point, error="refused")])] == [0, 1]
    assert front([replace(a, number=4), a]) == [a]  # queues or decoders that change nothing: the first
    elsewhere = replace(a, number=3, point=replace(a.point, memory="ddr5"), capacity_ratio=9.0)
    assert len(front([a, elsewhere])) == 2  # gains over different plain channels do not compare


def test_a_budget_for_all_points_tries_each_once_and_the_default_first() -> None:
    trials = found(1000)
    default = SPACE.default("hbm3", default_config())
    assert trials[0].point == default
    assert len({t.point for t in trials}) == len(trials) == len(SPACE.points("hbm3"))
    assert [t.number for t in trials] == list(range(len(trials)))


def test_one_seed_one_search_and_no_point_twice() -> None:
    trials = found(32, seed=7)
    assert trials == found(32, seed=7)
    assert [t.point for t in trials[:16]] != [t.point for t in found(16, seed=8)]
    assert len({t.point for t in trials}) == 32
    assert trials[0].point == SPACE.default("hbm3", default_config())
    everything = found(1000)
    known = front(everything)
    assert len({t.point for t in front(trials)} & {t.point for t in known}) >= 3
    assert any(t.dominates(everything[0]) for t in known)


def test_refused_points_are_trials_and_never_on_the_front() -> None:
    def some_fail(points: Sequence[tuple[int, Point]]) -> list[Trial]:
        return [Trial(n, p, error="no") if p.packing == "a" else made(n, p) for n, p in points]

    trials = list(search(SPACE, ["hbm3", "ddr5"], 16, 0, some_fail))
    assert len(trials) == 32
    assert any(t.error for t in trials)
    assert all(not t.error for t in front(trials))
    said = picks([t for t in front(trials) if t.point.memory == "hbm3"], trials[0])
    assert all("refused here: no" in p.why for p in said)


def test_picks_answer_what_random_costs() -> None:
    trials = found(1000)
    mine = front(trials)
    said = picks(mine, trials[0])
    assert 1 <= len(said) <= 3
    assert any("no point keeps" in p.why for p in said)
    keeping = [replace(t, gain_random=t.gain_random + 0.3) for t in mine]
    best = next(p for p in picks(keeping, trials[0]) if f"keep {KEEPS_RANDOM:g}" in p.why)
    enough = [t for t in keeping if t.gain_random >= KEEPS_RANDOM]
    assert best.trial.capacity_ratio == max(t.capacity_ratio for t in enough)
    assert "all that compression buys" not in best.why
    nothing = [replace(t, capacity_ratio=t.capacity_ratio - (0.6 if t in enough else 0)) for t in keeping]
    assert any("all that compression buys" in p.why for p in picks(nothing, trials[0]))
    assert picks([], trials[0]) == []


def test_area_comes_from_the_card_and_figures_with_a_source() -> None:
    config = default_config().override({"metadata_cache_bytes": 65536, "decoders": 2})
    window, tables, source = decoder_of("window")
    assert window < decoder_of("huffman")[0]
    assert "poster" not in source
    assert decoder_of("histogram")[0] == data()["engine"]["decoder_um2"]["value"]
    memories = sram_um2(65536 * 68 / 64 + 32 * (16 + 32))
    assert area_mm2("window", config, 32, 32) == pytest.approx((2 * (window + sram_um2(tables)) + memories) / 1e6)
    for figure in (*data()["sram"].values(), data()["engine"]["decoder_um2"]):
        assert figure["source"]
        assert figure["unit"]
        assert figure["status"]


def sizes(path: Path) -> Path:
    bits = np.clip(np.random.Generator(np.random.PCG64(0)).normal(339, 20, 20_000).round(), 1, 511).astype(int)
    path.write_text(json.dumps([int(n) for n in np.bincount(bits)]), encoding="utf-8")
    return path


FEW = [
    "--packing",
    "stream",
    "--packing",
    "pairs",
    "--metadata-cache",
    "8KiB",
    "--metadata-cache",
    "96KiB",
    "--queue",
    "0",
]
QUICK = [*FEW, "--decoders", "1", "--trials", "3", "--requests", "1000", "--within", "20"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False, standalone_mode=False)


def test_the_verb_finds_the_same_front_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = str(sizes(tmp_path / "sizes.json"))
    first = run(source, *QUICK, "--json")
    assert first.return_value == 0, first.output
    said = json.loads(first.stdout)
    folder = Path(said["folder"])
    assert folder == Path("runs") / f"explore-{said['id']}"
    assert {f.name for f in folder.iterdir()} == {"trials.jsonl", "explore.json", "front.md", "front.svg"}
    recorded = (folder / "trials.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["trial"] for line in recorded.splitlines()] == [0, 1, 2]
    assert said["memories"][0]["front"]
    again = run(source, *QUICK, "--out", "again")
    assert again.return_value == 0
    assert "look" in again.stdout
    assert Path("again/trials.jsonl").read_text(encoding="utf-8") == recorded


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = str(sizes(tmp_path / "sizes.json"))
    inline = run(source, "--mode", "inline", "--packing", "stream", *QUICK[4:])
    assert inline.return_value == 3
    assert "no point could be measured" in inline.stderr
    for wrong in (["--packing", "nonsense"], ["--memory", "nonsense"], ["--workload", "nonsense"]):
        with pytest.raises(Exception, match="nonsense"):
            run(source, *wrong)


def test_a_point_gives_what_the_channel_says() -> None:
    case = ChannelCase("", "", "random", "window", "weights", (0,) * 340 + (1000,), n_requests=1000, within_pct=20.0)
    trial = measure(0, Point("hbm3", "window", "off", 98304, 0, 1), case)
    assert trial.error == ""
    assert trial.capacity_ratio == trial.gain_sequential == trial.gain_random == 1.0
    assert trial.latency_p99_ns == trial.plain_latency_p99_ns
