"""Designs against the Python codecs on real lines, faults that must show, and the verb ``linepress rtl``."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra rtl is not installed")

from linepress.cli.app import main
from linepress.rtl.check import vector_sets
from linepress.rtl.lines import sample
from linepress.rtl.placements import LONGEST_BITS
from linepress.sources import open_source
from linepress_codecs.cards.measured import record
from linepress_codecs.contracts import HardwareCard, Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_hardware.rtl.catalog import DECODER, DESIGNS, design
from linepress_hardware.rtl.decoders import window
from linepress_hardware.rtl.decoders.adaptive import FIELD, STATES, TABLES
from linepress_hardware.rtl.decoders.huffman import LIMIT, OFFSET, ZERO_MODE
from linepress_hardware.rtl.encoders.huffman import END, RANK, huffman_encoder_config
from linepress_hardware.rtl.placement.spill import WAY
from linepress_hardware.rtl.simulate import compiled
from linepress_hardware.rtl.simulate.run import simulate

DATA = Path(__file__).parents[2] / "suites/linepress_suites/data"
WEIGHTS = str(DATA / "whisper-tiny-bf16.safetensors")


@pytest.fixture(scope="module")
def lines() -> Lines:
    return sample(open_source(WEIGHTS).tensors(), FORMATS["bf16"], 1000, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("name", "real", "damaged", "lines_a_set", "sets", "interval"),
    [
        ("window-decoder", 400, 100, 500, slice(1), 1.0),
        ("window-decoder", 20, 20, 60, slice(4), 1.0),
        ("tans8-decoder", 20, 20, 100, slice(1), 5.0),
        ("adaptive8-decoder", 400, 300, 60, slice(7, 8), 5.0),  # sign in the field; two tables, 6,144 writes
        ("window-encoder", 20, 0, 60, slice(1), 1.0),
        ("bdi-decoder", 10, 10, 250, slice(1), 1.0),
        ("bpc-trusting-decoder", 20, 0, 40, slice(1), 10.0),
        ("pairs-address", 40, 0, 12, slice(65), 1.0),
        ("aligner", 40, 0, 12, slice(65), 1.0),
    ],
)
def test_a_design_answers_as_python_does(
    lines: Lines, name: str, real: int, damaged: int, lines_a_set: int, sets: slice, interval: float
) -> None:
    """``lines_a_set`` of some sets of vectors, which are shuffled; writing tables takes time too."""
    every, _ = vector_sets(design(name), lines[:real], damaged, 7)
    some = [each.taken(np.arange(min(len(each), lines_a_set))) for each in every[sets]]
    out = simulate(design(name), some, "amaranth")
    assert (out.differ, out.first) == (0, -1)
    assert out.lines == sum(map(len, some))
    assert out.lines >= lines_a_set
    assert out.refused == sum(int(each.error.sum()) for each in some)
    assert (out.refused > 10) == (damaged > 0)
    cycles = design(name).make().cycles
    assert (out.cycles_least, out.cycles_most) == (cycles, cycles)
    assert out.interval == pytest.approx(interval, rel=0.05)


def test_the_adaptive_decoder_is_asked_under_every_field_and_number_of_tables(lines: Lines) -> None:
    """Too slow to interpret; the vectors that the benchmark compiles it for hold what it must be asked."""
    sets, _ = vector_sets(design("adaptive8-decoder"), lines, 20, 7)
    assert {dict(each.config)[FIELD] for each in sets} == set(range(8))
    assert {(len(each.config) - 2) // STATES - 1 for each in sets} == {0, 1, 2, TABLES}


def test_the_spill_unit_is_asked_in_groups_of_any_length_and_both_ways(lines: Lines) -> None:
    """Too slow to interpret; the vectors that the benchmark compiles it for hold what it must be asked."""
    sets, shown = vector_sets(design("spill-address"), lines[:200], 0, 7)
    counts = np.concatenate([each.given.view(np.uint8)[:, LONGEST_BITS // 8 - 1] for each in sets])
    assert len(np.unique(counts[counts < 128])) >= 40
    assert counts.max() == 128
    assert {dict(each.config)[WAY] for each in sets} == {0, 1}
    assert shown.real + shown.corner == len(counts)


def test_an_encoders_tables_give_every_symbol_its_canonical_code() -> None:
    """As the design reads them: the length by the rank's place among the ends, the code from rank and offset."""
    lengths = np.zeros(256, np.uint8)
    for length, symbols in ((2, (120, 9)), (3, (121, 7)), (4, (200, 3)), (5, (255, 0, 64, 1))):
        lengths[list(symbols)] = length
    table = dict(huffman_encoder_config(lengths, zero_lines=True))
    assert table[ZERO_MODE] == 1
    code = before = 0
    for symbol in sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (lengths[s], s)):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        assert table[RANK + symbol] & 256
        rank = table[RANK + symbol] & 255
        length = min(n for n in range(1, LIMIT + 1) if rank < table[END + n])
        assert (length, (rank - table[OFFSET + length]) % (1 << LIMIT)) == (before, code)
        code += 1
    assert not any(table[RANK + s] & 256 for s in np.flatnonzero(lengths == 0))


def test_wrong_tables_and_a_dropped_limit_are_seen(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = design("window-decoder")
    sets, _ = vector_sets(chosen, lines[:60], 20, 1)
    (address, base), *_ = sets[0].config
    sets[0].config[0] = (address, base + 1)
    assert simulate(chosen, sets[:1], "amaranth").differ > 30
    sets[0].config[0] = (address, base)
    monkeypatch.setattr(window, "most_escapes", lambda element, bits: 31)
    assert simulate(chosen, sets[:1], "amaranth").differ > 0


def test_cards_say_what_was_measured() -> None:
    """Cycles, interval, clock and area of a card are those of the file, with the standing each deserves."""
    designs = record()["designs"]
    first = {(d.codec, d.format): d.name for d in reversed(DESIGNS.values()) if d.kind == DECODER and d.checks}
    assert len(first) == 6
    for (spec, fmt), decoder in first.items():
        row = designs[decoder]
        card: HardwareCard = make(*parse_spec(spec)).card(FORMATS[fmt])  # type: ignore[attr-defined]
        assert card.decode_latency_cycles.status == card.initiation_interval_cycles.status == "simulated"
        assert (card.decode_latency_cycles.value, card.initiation_interval_cycles.value) == (
            row["cycles"],
            row["interval"],
        )
        assert row["simulation"]["cycles_least"] == row["simulation"]["cycles_most"] == row["cycles"]
        assert row["simulation"]["interval"] == pytest.approx(row["interval"], rel=0.01)
        assert card.clock_GHz.status == "synthesised"
        assert "pre-layout" in card.clock_GHz.source
        assert "fF of wire" in card.clock_GHz.source
        assert card.clock_GHz.value <= round(row["mapped"]["timings"][0]["clock_GHz"], 3)
        assert card.area_um2 is not None
        assert card.area_um2.value == round(row["mapped"]["area_um2"])
        assert card.engines_for(card.engine_GBps) == 1
        assert card.engines_for(card.engine_GBps * 2.01) == 3


@pytest.mark.parametrize("name", DESIGNS)
def test_the_file_holds_what_was_asked_of_a_design(name: str) -> None:
    """No line differs, enough were tried, every mutant is caught, each check's among them."""
    row = record()["designs"][name]
    shown, mutation = row["simulation"], row["mutation"]
    assert shown["differ"] == mutation["unchanged_differ"] == 0
    assert shown["real"] >= 100_000
    assert mutation["caught"] == mutation["mutants"] >= 10
    if DESIGNS[name].kind == DECODER and DESIGNS[name].checks:
        assert shown["damaged"] >= 10_000
        assert mutation["checks_dropped"] >= 5
    assert {"generic", "mapped"} <= set(row)


def test_the_file_names_its_tools_and_libraries() -> None:
    measured = record()
    assert {"amaranth", "pyosys", "verilator", "sta"} <= set(measured["tools"])
    assert all(len(library["sha256"]) == 64 for library in measured["libraries"].values())
    assert set(measured["designs"]) <= set(DESIGNS)
    for row in measured["designs"].values():
        timings = row["mapped"]["timings"] if "mapped" in row else []
        assert [t["wire_fF"] > 0 for t in timings] in ([], [True, False, True])


def test_the_targets_are_met_at_the_typical_corner_with_wires() -> None:
    """window: 3 cycles at 1.75 GHz; huffman: 14 at 1.75 GHz, 64 symbols too; tans, adaptive: 1.4 GHz, a line every 5;
    the encoder of huffman no slower than its decoder, whose clock a card would lose by it."""
    designs = record()["designs"]
    for name, cycles, interval, clock_GHz in (
        ("window-decoder", 3, 1, 1.75),
        ("window-e4m3-decoder", 3, 1, 1.75),
        ("huffman8-decoder", 14, 1, 1.75),
        ("huffman8-64-decoder", 14, 1, 1.75),
        ("tans8-decoder", 14, 5, 1.4),
        ("adaptive8-decoder", 15, 5, 1.4),
        ("huffman8-encoder", 10, 1, 1.83),
    ):
        row = designs[name]
        assert (row["cycles"], row["interval"]) == (cycles, interval)
        assert row["mapped"]["timings"][0]["clock_GHz"] >= clock_GHz


def test_the_model_page_shows_the_file() -> None:
    from benchmarks.rtl import markdown

    page = (Path(__file__).parents[2] / "hardware/MODEL.md").read_text()
    shown = page.split("<!-- rtl:begin")[1].split("-->\n")[1].split("<!-- rtl:end")[0]
    assert shown.strip() == markdown(record()).strip()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["linepress", "rtl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_verb_lists_emits_and_simulates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "list", "--json")
    assert code == 0
    assert {row["design"] for row in json.loads(out)["designs"]} == set(DESIGNS)
    code, out, _ = run(
        capsys, "simulate", "window", WEIGHTS, "--lines", "5", "--damaged", "5", "--simulator", "amaranth", "--json"
    )
    assert code == 0
    assert json.loads(out)["outcome"]["differ"] == 0
    pytest.importorskip("pyosys", reason="the extra rtl is not installed")
    code, _, err = run(capsys, "emit", "aligner", "-o", str(tmp_path / "a.v"))
    assert code == 0
    assert "lines of Verilog" in err
    assert "module linepress_aligner(" in (tmp_path / "a.v").read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["emit", "tans"], "tans has no decoder as RTL for bf16; there are"),
        (["emit", "pairs"], "no RTL design is called 'pairs'; there are window-decoder"),
        (["emit", "window", "--encoder", "--format", "fp16"], "window has no encoder as RTL for fp16"),
        (["simulate", "window-e4m3-decoder", WEIGHTS], "no selected tensor is e4m3 (there are bf16)"),
        (["synthesise", "window", "--wire-ff", "1"], "need a library to start from: give --liberty FILE"),
        (["synthesise", "window", "--liberty", "/none.lib"], "/none.lib cannot be read"),
        (["emit", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    code, out, err = run(capsys, *words)
    assert code in (3, 4)
    assert out == ""
    assert reason in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_missing_tools_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    code, _, err = run(capsys, "simulate", "window", WEIGHTS, "--lines", "5", "--simulator", "verilator")
    assert (code, "install g++, or take --simulator amaranth" in err) == (4, True)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyosys" else found(name, *rest)
    )
    code, _, err = run(capsys, "emit", "window")
    assert (code, "pip install 'linepress[rtl]'" in err) == (4, True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    code, _, err = run(capsys, "list")
    assert (code, "amaranth" in err, "pip install 'linepress[rtl]'" in err) == (4, True, True)
