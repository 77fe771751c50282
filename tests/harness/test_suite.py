"""Suites: what a file may say, what ``--set`` changes, which errors name file, line and allowed values."""

from __future__ import annotations

from pathlib import Path

import pytest

from linepress.cli.list import KINDS
from linepress.errors import SuiteError
from linepress.run.later_stages import check_later_stages
from linepress.run.plan import plan_variants
from linepress.suite.model import builtin_suites, list_suites, load_suite
from linepress_hardware.dram import memory_names

BASE = """\
name: tiny
version: 1
sources:
  - uri: synthetic:gauss?shape=64x64
codecs:
  - raw
  - {codec: tans, layout: [row, channel]}
packings: [stream]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(builtin_suites()))
def test_every_shipped_suite_is_sound(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert plan_variants(suite)
    check_later_stages(suite)


def test_list_suites_names_the_smoke_suite() -> None:
    rows = {row["suite"]: row for row in list_suites()}
    assert rows["smoke"]["stages"] == ["measure", "channel", "system", "fabric", "pages"]


def test_sweeps_unfold_to_variants(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, BASE))
    assert [planned.spec for planned in plan_variants(suite)] == ["raw", "tans", "tans:layout=channel"]


def test_sizes_and_layers_have_units_and_ranges(tmp_path: Path) -> None:
    text = BASE.replace("shape=64x64\n", 'shape=64x64\n    tensors: {layers: [0, "4-6"]}\n    max_bytes: 3MiB\n')
    source = load_suite(write(tmp_path, text)).model.sources[0]
    assert source.tensors.layers == [0, 4, 5, 6]
    assert source.max_bytes == 3 << 20


def test_hash_ignores_comments_and_counts_values(tmp_path: Path) -> None:
    plain = load_suite(write(tmp_path, BASE)).sha256
    assert load_suite(write(tmp_path, "# a comment\n" + BASE)).sha256 == plain
    assert load_suite(write(tmp_path, BASE), ["repeats=2"]).sha256 != plain
    assert load_suite(write(tmp_path, BASE), ["repeats=3"]).sha256 == plain  # the default, said aloud


def test_set_reaches_into_lists_and_new_sections(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, BASE), ["sources.0.max_bytes=1KiB", "seeds.channel=9", "codecs=[raw]"])
    assert suite.model.sources[0].max_bytes == 1024
    assert suite.model.seeds.channel == 9
    assert suite.model.codecs == ["raw"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("repeats", "write key=value"),
        ("sources.7.uri=x", "not in the suite"),
        ("repeats=many", "must be a valid integer"),
        ("repeets=1", "did you mean 'repeats'"),
    ],
)
def test_bad_set(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        load_suite(write(tmp_path, BASE), [override])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version: 1", "version: one"), "suite.yaml:2: version: 'one' is not valid"),
        (("packings:", "packing:"), "suite.yaml:8: packing: unknown key 'packing', did you mean 'packings'?"),
        (("  - uri:", "  - url:"), "suite.yaml:4: sources[0].url: unknown key 'url', did you mean 'uri'?"),
        (("name: tiny\n", "name: tiny\nname: again\n"), "suite.yaml:2: key 'name' is given twice"),
    ],
)
def test_errors_name_file_line_and_allowed(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SuiteError) as error:
        load_suite(write(tmp_path, BASE.replace(*change)))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("codec", "words"),
    [("nope", "unknown codec 'nope'"), ("{codec: tans, colour: red}", "no option 'colour'"), ("[1]", "codecs")],
)
def test_bad_codecs_answer_with_line_and_example(tmp_path: Path, codec: str, words: str) -> None:
    path = write(tmp_path, BASE.replace("  - raw\n", f"  - {codec}\n"))
    with pytest.raises(SuiteError, match=r"suite.yaml:6: ") as error:
        plan_variants(load_suite(path))
    assert words in str(error.value)


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(SuiteError, match="did you mean 'smoke'"):
        load_suite("smokey")
    with pytest.raises(SuiteError, match="no such suite file"):
        load_suite("nowhere/suite.yaml")


SYSTEM = """\
channel: {memories: [hbm3], workloads: [random]}
system:
  models: [llama-3.1-8b]
  accelerators: [h100-sxm]
  scenarios:
    - {name: decode, context_tokens: 1024}
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("context_tokens", "context_token"), "did you mean 'context_tokens'"),
        (("1024", "0"), "context_tokens is 0"),
        (("h100-sxm", "h900"), "h900"),
        (("llama-3.1-8b", "llama-9"), "llama-9"),
        (("hbm3", "hbm9"), "hbm9"),
        (("[random]", "[randm]"), "did you mean 'random'"),
    ],
)
def test_later_stages_are_checked_before_anything_runs(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(SuiteError, match=words) as error:
        check_later_stages(load_suite(write(tmp_path, BASE + SYSTEM.replace(*change))))
    assert "suite.yaml:" in str(error.value)


def test_a_gate_has_one_rule_and_one_name(tmp_path: Path) -> None:
    gate = "gates:\n  - {name: g, column: lossless, aggregate: share, equals: 1, at_least: 1}\n"
    with pytest.raises(SuiteError, match="exactly one of"):
        load_suite(write(tmp_path, BASE + gate))
    one = "  - {name: g, column: lossless, aggregate: share, equals: 1}\n"
    with pytest.raises(SuiteError, match="given twice"):
        load_suite(write(tmp_path, BASE + "gates:\n" + one + one))


@pytest.mark.parametrize("memory", memory_names())
def test_a_suite_takes_every_memory_that_list_shows(memory: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "name: memories\nversion: 1\nsources: [{uri: 'synthetic:gauss?shape=64x64'}]\ncodecs: [huffman]\n"
        f"channel: {{memories: [{memory}]}}\n"
    )
    check_later_stages(load_suite(str(tmp_path / "suite.yaml")))
    assert memory in [row["memory"] for row in KINDS["memories"]()]
