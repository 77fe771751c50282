"""Two runs side by side: what is said about them, in which words, with which exit code."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from linepress.cli.compare import command
from linepress.compare import CompareOptions, Comparison, compare_runs
from linepress.compare.document import document
from linepress.compare.lines import covered
from linepress.compare.render import as_markdown, as_text
from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.tables.markdown import escape_markdown
from linepress_kit.synthetic_run import Shape, pages_rows
from linepress_kit.timed_runs import Noise, Row, timed_rows, write_run

Edit = Callable[[Row], Row]
VICTIM = "model.layers.1.k_proj"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return timed_rows(Shape(layers=2, failing=0))


@pytest.fixture
def make(tmp_path: Path, rows: list[Row]) -> Callable[..., Path]:
    """Writes a run of the same data; each has noise of its own."""
    made: list[Path] = []

    def write(**options: Any) -> Path:
        path = tmp_path / f"run{len(made)}"
        made.append(path)
        write_run(path, options.pop("rows", rows), **{"seed": len(made), **options})
        return path

    return write


def only(variant: str, change: dict[str, Any], tensor: str = VICTIM) -> Edit:
    """Changes columns of one variant on one bf16 tensor."""

    def edit(row: Row) -> Row:
        hit = row["variant"] == variant and row["tensor"] == tensor and row["format"] == "bf16"
        return {**row, **change} if hit else row

    return edit


def of(variant: str, change: Callable[[Row], dict[str, Any]]) -> Edit:
    return lambda row: {**row, **change(row)} if row["variant"] == variant else row


def marks(found: Comparison) -> dict[tuple[str, str], str]:
    return {(s.variant, s.metric): s.mark for s in found.sampled.speeds}


def test_equal_code_passes(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make())
    assert (found.passed, found.exit_code, found.failures, found.undecided) == (True, 0, [], [])
    assert found.cases == 414
    assert all(one.mark == "=" for one in found.exact)
    assert set(marks(found).values()) == {"~"}
    text = as_text(found)
    assert text.endswith("gate: PASS\n")
    speeds = [s for s in found.sampled.speeds if not s.control]
    visible = [s.visible_pct for s in speeds if s.visible_pct is not None]
    assert covered(found) == (
        f"414 cases compared; {len(visible)} of {len(speeds)} speeds judged, "
        f"each would have shown a change of {min(visible):.2g} to {max(visible):.2g} %, by codec"
    )
    assert "base c0ffeec (clean)   new c0ffeec (clean)   suite invented v1 = v1   host same   data same" in text


def test_a_lost_bit_is_a_new_failure(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(edit=only("huffman", {"lossless": False, "mismatch_line": 1042})))
    assert found.exit_code == 1
    assert found.failures == ["1 new failure"]
    text = as_text(found)
    assert f"! huffman  {VICTIM}   new failure (ok → not lossless)   line 1042 did not come back bit for bit" in text
    assert "lossless   46/46   45/46   new failure" in text
    assert text.endswith("gate: FAIL (1 new failure)\n")


def test_five_percent_slower_is_found_and_named(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(slower={("huffman", "decode"): 1.05}))
    assert found.exit_code == 1
    assert found.failures == ["1 speed regression > 3 %"]
    assert {key for key, mark in marks(found).items() if mark == "+"} == {("huffman", "decode")}
    speed = next(s for s in found.sampled.speeds if s.mark == "+")
    assert speed.factor == pytest.approx(1.05, abs=0.02)
    assert speed.effect is not None
    assert speed.effect.low < 0.0488 < speed.effect.high
    line = next(line for line in as_text(found).splitlines() if line.startswith("+ "))
    assert "huffman" in line
    assert "x slower   p = " in line
    assert "95 % CI [" in line
    assert "n = 46 tensors × 5 + 5 rounds" in line


def test_both_injections_at_once_through_the_command(make: Callable[..., Path], tmp_path: Path) -> None:
    base = make()
    new = make(slower={("huffman", "decode"): 1.05}, edit=only("window:bits=3", {"lossless": False}))
    markdown = tmp_path / "ci" / "comment.md"
    done = CliRunner().invoke(
        command, [str(base), str(new), "--markdown", str(markdown)], standalone_mode=False, catch_exceptions=False
    )
    assert done.return_value == 1
    assert done.output.splitlines()[-1] == "gate: FAIL (1 new failure, 1 speed regression > 3 %)"
    text = markdown.read_text(encoding="utf-8")
    assert text.splitlines()[2] == "**gate: FAIL (1 new failure, 1 speed regression > 3 %)**"
    assert "| `+` | huffman | decode |" in text
    as_json = CliRunner().invoke(command, [str(base), str(new), "--json"], standalone_mode=False)
    parsed = json.loads(as_json.output)
    assert (parsed["verdict"], parsed["exit_code"], as_json.return_value) == ("FAIL", 1, 1)
    assert [c["variant"] for c in parsed["changes"]] == ["window:bits=3"]


def test_faster_is_said_and_passes(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(slower={("huffman", "encode"): 1 / 1.2}))
    assert found.exit_code == 0
    assert marks(found)["huffman", "encode"] == "-"
    assert "x faster" in as_text(found)


def test_a_change_below_the_minimum_effect_is_not_one(make: Callable[..., Path]) -> None:
    quiet = Noise(machine=0, codec=0, lasting=0, rounds=1e-4, spikes=0)
    base, new = make(noise=quiet), make(noise=quiet, slower={("huffman", "decode"): 1.035})
    assert compare_runs(base, new).exit_code == 1
    assert compare_runs(base, new, CompareOptions(min_effect_pct=4)).exit_code == 0


def test_twenty_runs_of_the_same_code_raise_no_alarm(make: Callable[..., Path]) -> None:
    runs = [make() for _ in range(21)]
    for base, new in itertools.pairwise(runs):
        found = compare_runs(base, new)
        assert found.passed, found.failures


def test_noise_hides_what_it_hides_and_says_so(make: Callable[..., Path]) -> None:
    loud = Noise(rounds=0.3, lasting=0.1)
    found = compare_runs(make(noise=loud), make(noise=loud, slower={("huffman", "decode"): 1.05}))
    assert found.passed
    assert "noise hides changes under" in as_text(found)


def test_growth_of_one_byte_is_a_change(make: Callable[..., Path], rows: list[Row]) -> None:
    row = next(r for r in rows if r["variant"] == "huffman" and r["tensor"] == VICTIM and r["format"] == "bf16")
    found = compare_runs(make(), make(edit=only("huffman", {"payload_bits": row["payload_bits"] + 8})))
    (worse,) = [one for one in found.exact if one.mark == "+"]
    assert (worse.variant, worse.metric, worse.better, worse.worse, worse.equal) == ("huffman", "payload", 0, 1, 45)
    assert worse.examples == (f"huffman  {VICTIM} +1 B",)
    assert found.failures == ["1 exact figure worse"]
    assert compare_runs(make(), make(), CompareOptions()).passed
    allowed = CompareOptions(allow_growth_pct=0.1)
    again = make(edit=only("huffman", {"payload_bits": row["payload_bits"] + 8}))
    assert compare_runs(make(), again, allowed).passed


def test_a_page_that_moves_more_bytes_is_found_among_its_equals(make: Callable[..., Path]) -> None:
    base, new = make(), make()
    rows = list(pages_rows())
    for path, factor in ((base, 1.0), (new, 1.02)):
        store = RunStore.open(path)
        store.append("pages", [{**rows[0], "moved_bytes": factor * rows[0]["moved_bytes"]}, *rows[1:]])
        store.save_manifest()
    found = compare_runs(base, new)
    (moved,) = [one for one in found.derived.figures if (one.stage, one.metric) == ("pages", "moved_bytes")]
    assert (moved.worse, moved.better, moved.equal) == (1, 0, len(rows) - 1)
    assert moved.worst_pct == pytest.approx(2)
    assert found.exit_code == 1
    assert "worst -2 %: model-kv-512.safetensors model-kv-other-512.safetensors vllm-0.26 context line" in as_text(
        found
    )


def test_fewer_bytes_are_an_improvement_counted_by_tensor(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(edit=of("huffman", lambda r: {"payload_bits": r["payload_bits"] - 64})))
    assert found.passed
    (better,) = [one for one in found.exact if one.mark == "-"]
    assert (better.better, better.worse, better.equal) == (46, 0, 0)
    assert "improved   46 tensors better, 0 worse, 0 equal" in as_text(found)


def test_another_distribution_of_the_same_bits_is_said(make: Callable[..., Path], rows: list[Row]) -> None:
    row = next(r for r in rows if r["variant"] == "huffman" and r["tensor"] == VICTIM and r["format"] == "bf16")
    moved = list(row["bits_histogram"])
    moved[10], moved[11] = moved[10] + 1, moved[11] - 1
    found = compare_runs(make(), make(edit=only("huffman", {"bits_histogram": moved})))
    assert found.passed
    assert "distribution of line sizes" in as_text(found)
    assert "changed in 1 tensor" in as_text(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "codec version 1 → 2"),
        ({"options": '{"tables": 2}'}, 'codec options {} → {"tables": 2}'),
        ({"content_sha256": "f" * 64}, "data "),
        ({"line_bytes": 32}, "line size, B 64 → 32"),
        ({"sampled": True}, "sampling False → True"),
    ],
)
def test_what_cannot_be_compared_is_marked_with_its_field(
    make: Callable[..., Path], change: dict[str, Any], words: str
) -> None:
    changed = {**change, "payload_bits": 8}
    found = compare_runs(make(), make(edit=of("huffman", lambda row: changed)))
    assert found.passed
    assert found.cases == 414 - 46
    assert not [one for one in found.exact if one.variant == "huffman"]
    text = as_text(found)
    assert f"x huffman, {words}" in text
    assert sum(one.cases for one in found.incomparable) == 46


def test_other_data_is_one_line_not_one_a_tensor(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(edit=lambda row: {**row, "content_sha256": row["content_sha256"][::-1]}))
    assert found.exit_code == 3
    (line,) = [line for line in as_text(found).splitlines() if line.startswith("x ")]
    assert line.startswith("x raw, huffman, huffman:tables=4 and 6 more variants, data ")
    assert line.endswith(" more   46 cases each")


def test_a_lost_bit_counts_even_where_figures_are_not_comparable(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(edit=of("huffman", lambda row: {"format_version": 2, "lossless": False})))
    assert found.failures == ["46 new failures"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("machine", "cpu"), "Other CPU", "cpu Example CPU → Other CPU"),
        (("cluster", "cores"), 4, "workers 2 → 4"),
        (("suite", "resolved", "chunk_bytes"), 1 << 20, "chunk size, B 8388608 → 1048576"),
    ],
)
def test_speeds_of_another_machine_are_not_compared_but_bytes_are(
    make: Callable[..., Path], path: tuple[str, ...], value: Any, words: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        here = manifest
        for name in path[:-1]:
            here = here[name]
        here[path[-1]] = value

    new = make(manifest=change, slower={("huffman", "decode"): 2.0})
    found = compare_runs(make(), new)
    assert found.passed
    assert set(marks(found).values()) == {"x"}
    assert f"x speeds: {words}" in as_text(found)
    assert found.cases == 414
    strict = compare_runs(make(), new, CompareOptions(strict=True))
    assert strict.exit_code == 2
    assert "--strict" in as_text(strict).splitlines()[-1]


def test_other_hosts_are_named_and_may_be_declared_alike(make: Callable[..., Path]) -> None:
    base, new = make(), make(edit=lambda row: {**row, "host": "node-2"}, slower={("huffman", "decode"): 1.3})
    found = compare_runs(base, new)
    assert "x speeds: host node-1 → node-2" in as_text(found)
    assert "host DIFFERS" in as_text(found)
    assert compare_runs(base, new, CompareOptions(hosts_alike=True)).exit_code == 1


def test_a_machine_in_another_state_is_told_by_the_controls(make: Callable[..., Path], rows: list[Row]) -> None:
    everything = {(row["variant"], metric): 1.3 for row in rows for metric in ("encode", "decode", "measure")}
    found = compare_runs(make(), make(slower=everything))
    assert found.passed
    assert "the machine was in another state" in as_text(found)
    # A drift that the controls share is taken away from the others.
    mild = dict.fromkeys(everything, 1.06)
    assert set(marks(compare_runs(make(), make(slower=mild))).values()) == {"~"}


def test_without_controls_the_machine_is_not_blamed_on_the_code(make: Callable[..., Path], rows: list[Row]) -> None:
    own = [row for row in rows if row["codec_kind"] == "line"]
    wide = Noise(machine=0.023)
    found = compare_runs(make(rows=own, noise=wide), make(rows=own, noise=wide, slower={("huffman", "decode"): 1.05}))
    assert found.sampled.controls == 0
    assert found.passed
    assert "no control codec" in as_text(found)
    assert compare_runs(make(rows=own), make(rows=own, slower={("huffman", "decode"): 1.4})).exit_code == 1


def test_a_library_of_another_version_is_no_control(make: Callable[..., Path]) -> None:
    def newer(manifest: dict[str, Any]) -> None:
        manifest["packages"]["zstandard"] = "0.26.0"

    found = compare_runs(make(), make(manifest=newer, slower={("zstd:level=3:block=64KiB", "decode"): 1.3}))
    assert marks(found)["zstd:level=3:block=64KiB", "decode"] == "+"
    assert "differs: zstandard 0.25.0 → 0.26.0" in as_text(found)


def test_few_or_short_tensors_are_not_judged(make: Callable[..., Path], rows: list[Row]) -> None:
    few = [row for row in rows if row["layer"] == 0 and row["tensor"].endswith(("q_proj", "k_proj"))]
    few = [row for row in few if row["format"] == "bf16"]
    found = compare_runs(make(rows=few), make(rows=few, slower={("huffman", "decode"): 9.0}))
    assert found.passed
    assert "not judged, fewer than 4 tensors with rounds of 0.1 ms or more: " in as_text(found)


def failed(row: Row) -> Row:
    kept = (
        "case_key",
        "source",
        "tensor",
        "kind",
        "layer",
        "group",
        "format",
        "cast",
        "codec",
        "codec_kind",
        "variant",
    )
    return {k: row[k] for k in kept} | {"status": "failed", "error_type": "ValueError", "error": "no such thing"}


def test_failures_recoveries_and_known_failures(make: Callable[..., Path]) -> None:
    def fail(*tensors: str) -> Edit:
        return lambda row: failed(row) if row["variant"] == "huffman" and row["tensor"] in tensors else row

    base, new = make(edit=fail("model.layers.0.q_proj", VICTIM)), make(edit=fail("model.layers.1.q_proj", VICTIM))
    found = compare_runs(base, new)
    assert [(c.kind, c.before, c.after) for c in found.changes] == [
        *[("new failure", "ok", "failed")] * 3,
        *[("recovered", "failed", "ok")] * 3,
    ]
    assert found.outcomes.still_failing == 3
    text = as_text(found)
    assert "! huffman  model.layers.1.q_proj" in text
    assert "new failure (ok → failed)   ValueError: no such thing" in text
    assert "* huffman  model.layers.0.q_proj" in text
    assert "3 cases failed in both runs" in text
    assert text.endswith("gate: FAIL (3 new failures)\n")
    assert compare_runs(base, make(edit=fail(VICTIM))).passed


def test_results_that_are_gone_are_undecided_not_forgotten(make: Callable[..., Path], rows: list[Row]) -> None:
    fewer = [row for row in rows if not (row["variant"] == "huffman" and row["layer"] == 1)]
    found = compare_runs(make(), make(rows=fewer))
    assert found.exit_code == 2
    assert found.undecided == ["23 cases of base without a result in new"]
    assert "… and 11 more: huffman 11" in as_text(found)

    def other_suite(manifest: dict[str, Any]) -> None:
        manifest["suite"] |= {"version": 2, "sha256": "cd" * 32}

    renamed = compare_runs(make(), make(rows=fewer, manifest=other_suite))
    assert renamed.passed
    assert "suite invented v1 ≠ invented v2" in as_text(renamed)
    assert "x huffman, only in base   23 cases" in as_text(renamed)


def test_skipped_or_unverified_is_not_a_result(make: Callable[..., Path]) -> None:
    skip = {"status": "skipped", "error": "source left out", "lossless": None}
    assert compare_runs(make(), make(edit=only("huffman", skip))).exit_code == 2
    assert compare_runs(make(), make(edit=only("huffman", {"lossless": None}))).exit_code == 2


def test_an_unfinished_run_cannot_pass(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make(manifest=lambda m: m.update(status="interrupted")))
    assert found.exit_code == 2
    assert found.undecided == ["new run is interrupted; give its command again to complete it"]


def test_nothing_in_common_is_nothing_to_compare(make: Callable[..., Path], rows: list[Row]) -> None:
    def other(manifest: dict[str, Any]) -> None:
        manifest["suite"] |= {"name": "other", "sha256": "cd" * 32}

    renamed = [{**row, "tensor": "other." + row["tensor"]} for row in rows]
    found = compare_runs(make(), make(rows=renamed, manifest=other))
    assert found.exit_code == 3
    assert "nothing to compare" in as_text(found)


def test_a_moved_checkout_is_the_same_data(make: Callable[..., Path], rows: list[Row]) -> None:
    def elsewhere(manifest: dict[str, Any]) -> None:
        manifest["sources"][0]["uri"] = "/elsewhere/model"

    moved = [{**row, "source": "/elsewhere/model"} for row in rows]
    assert compare_runs(make(), make(rows=moved, manifest=elsewhere)).cases == 414


def test_a_broken_gate_of_the_suite_fails(make: Callable[..., Path]) -> None:
    from linepress.records import RunStore

    new = make()
    gate = {
        "case_key": "gate:near-bound",
        "status": "ok",
        "gate": "near-bound",
        "table": "measure",
        "metric": "max of above_bound_pct",
        "rule": "at_most",
        "threshold": 1.5,
        "value": 2.25,
        "passed": False,
        "next_step": "look at the histogram",
    }
    RunStore.open(new).append("gates", [gate])
    found = compare_runs(make(), new)
    assert found.exit_code == 1
    assert "gate near-bound: max of above_bound_pct = 2.25, at most 1.5   look at the histogram" in as_text(found)
    assert "1 gate of the suite: near-bound" in as_text(found)


def test_another_schema_version_and_a_foreign_folder_are_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    old = make()
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 0}))
    with pytest.raises(RecordError, match="record of schema version 0, this linepress reads version"):
        compare_runs(old, make())
    with pytest.raises(RecordError, match="there is no such run folder"):
        compare_runs(make(), tmp_path / "nowhere")


def test_the_document_is_json_and_complete(make: Callable[..., Path]) -> None:
    found = compare_runs(make(), make())
    parsed = json.loads(json.dumps(document(found), allow_nan=False, default=str))
    judged = [s for s in parsed["sampled"] if s["p"] is not None]
    assert len(judged) >= 12
    for speed in judged:
        assert speed["time_factor_low"] <= speed["time_factor"] <= speed["time_factor_high"]
        assert speed["rounds"] == 5
    assert parsed["options"]["min_effect_pct"] == 3.0
    assert parsed["geomean_time_factor"].keys() == {"encode", "decode", "measure"}


def test_the_same_inputs_give_the_same_words(make: Callable[..., Path]) -> None:
    base, new = make(), make()
    assert as_text(compare_runs(base, new)) == as_text(compare_runs(base, new))


def test_markdown_cannot_be_broken_by_a_name(make: Callable[..., Path], rows: list[Row]) -> None:
    evil = "a|b`c<script>*[x](y)\n# heading"
    assert "\n" not in escape_markdown(evil)
    named = [{**row, "tensor": evil + row["tensor"]} for row in rows]
    found = compare_runs(make(rows=named), make(rows=named, edit=lambda r: {**r, "lossless": False}))
    text = as_markdown(found)
    assert "<script>" not in text
    assert "# heading" not in [line[:9] for line in text.splitlines()]


def test_bad_options_are_usage_errors(make: Callable[..., Path]) -> None:
    run = str(make())
    for arguments in (["--alpha", "0"], ["--min-effect", "-1"], ["--alpha", "0.9"]):
        assert CliRunner().invoke(command, [run, run, *arguments]).exit_code != 0
