"""Codecs on engines' pages: sums against the codec alone, growth, slots, links, and the verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from linepress.cli.pages import command
from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.snapshot.contract import layout_named, layouts
from linepress.sources.snapshot.write import write_snapshot
from linepress.stages.measure import offload
from linepress.stages.measure.pages import SIZE_BITS, lay, measure_pages
from linepress_codecs.variant import Variant

SAMPLE = Path(__file__).parents[2] / "suites/linepress_suites/data/smollm2-135m-instruct-kv-handbook-512.safetensors"
ANY = [name for name, x in layouts().items() if x.takes_any and (x.joined or "value" in x.axes)]


def kv(path: Path, seed: int, tokens: int = 48, noise: bool = False, heads: int = 3, dim: int = 32) -> str:
    rng = np.random.Generator(np.random.PCG64(seed))
    caches = {}
    for name in ("key_cache_tensor_0", "value_cache_tensor_0", "key_cache_tensor_1", "value_cache_tensor_1"):
        if noise:
            bits = rng.integers(0, 1 << 16, (heads, tokens, dim)).astype(np.uint16)
        else:
            values = rng.normal(0, 1 + np.arange(dim) / 8, (heads, tokens, dim)).astype(np.float32)
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        caches[name] = ("bf16", bits)
    write_snapshot(path, caches, {"tokens": str(tokens), "layers": "2"})
    return str(path)


def rows_of(uri: str, contract: str, spec: str, **options: Any) -> dict[str, dict[str, Any]]:
    laid = lay(open_source(uri).tensors(), layout_named(contract, "c"), **options)
    return {row["granularity"]: row for row in measure_pages(laid, laid, Variant.parse(spec).codec)}  # type: ignore[arg-type]


@pytest.mark.parametrize("contract", ANY)
def test_every_line_of_memory_is_in_one_stream_with_its_channel(tmp_path: Path, contract: str) -> None:
    """What a line's geometry says of its elements is where the tokens have them."""
    source = open_source(kv(tmp_path / "s.safetensors", 1, 256))
    laid = lay(source.tensors(), layout_named(contract, "c"))
    tensors = {(t.layer, t.kind): t for t in source.tensors()}
    assert sum(len(at) for at, _ in laid.streams.values()) == laid.n_pages * laid.lines_a_page
    assert laid.n_pages * laid.page_bytes == sum(t.n_bytes for t in tensors.values())
    for key, (at, lines) in laid.streams.items():
        assert np.array_equal(laid.data.reshape(-1, 64)[at], lines.data)
        if lines.geometry.channel is None:
            continue
        bits = tensors[key].read(0, tensors[key].n_bytes).view("<u2").reshape(3, 256, 32)
        f, j = lines.geometry.channel.astype(np.int64)[:, None], np.arange(32)
        span, run = lines.geometry.channel_span, lines.geometry.channel_run
        channel = f - f % span + (f % span + j // run) % span
        if key[1] == "key":
            assert lines.geometry.position is not None
            later = j % run if run > 1 else (f % span + j) // span
            token = lines.geometry.position.astype(np.int64)[:, None] + later
            assert np.array_equal(bits[channel // 32, token, channel % 32], lines.data.view("<u2"))


def test_sums_are_the_codecs(tmp_path: Path) -> None:
    uri = kv(tmp_path / "s.safetensors", 2)
    found = rows_of(uri, "vllm-0.26", "huffman")
    codec = Variant.parse("huffman").line_codec
    laid = lay(open_source(uri).tensors(), layout_named("vllm-0.26", "c"))
    bits = np.zeros(laid.n_pages * laid.lines_a_page, np.int64)
    for at, lines in laid.streams.values():
        bits[at] = codec.measure(lines, codec.fit([lines]))
    assert found["line"]["ratio"] == pytest.approx(512 * len(bits) / bits.sum())
    pages = -(-(bits.reshape(laid.n_pages, -1).sum(1) + SIZE_BITS * laid.lines_a_page) // 8)
    assert found["page"]["ratio"] == pytest.approx(laid.n_pages * laid.page_bytes / pages.sum())
    assert found["page"]["worst_ratio"] == pytest.approx(laid.page_bytes / pages.max())
    assert found["page"]["fits_three_quarters"] == (pages * 4 <= laid.page_bytes * 3).mean()
    assert found["page"]["moved_bytes"] == pytest.approx(2 * (-(-pages // 64) * 64).mean())
    assert found["line"]["fits_half"] == (-(-bits // 8) <= 32).mean()
    assert found["line"]["worst_ratio"] >= 1
    assert all(row["lossless"] for row in found.values())
    assert found["object"]["table_bytes"] > 0


def test_tables_of_another_text_stand_beside_those_of_the_own(tmp_path: Path) -> None:
    layout = layout_named("vllm-0.26", "c")
    laid, other = (lay(open_source(kv(tmp_path / f"{seed}.safetensors", seed)).tensors(), layout) for seed in (1, 2))
    huffman, zstd = (Variant.parse(spec).codec for spec in ("huffman", "zstd:level=3"))
    own = measure_pages(laid, laid, huffman)  # type: ignore[arg-type]
    found = measure_pages(laid, other, huffman)  # type: ignore[arg-type]
    assert [row["own_text_ratio"] for row in own] == [None] * 3
    assert [row["own_text_ratio"] for row in found] == [row["ratio"] for row in own]
    assert all(row["lossless"] and 1 < row["ratio"] < row["own_text_ratio"] for row in found)
    assert [row["own_text_ratio"] for row in measure_pages(laid, other, zstd)] == [None] * 3  # type: ignore[arg-type]


def test_raw_moves_what_there_is(tmp_path: Path) -> None:
    found = rows_of(kv(tmp_path / "s.safetensors", 3), "vllm-0.23", "raw")
    assert found["line"]["ratio"] == 1
    assert found["line"]["moved_bytes"] == 2 * found["page"]["page_bytes"]
    assert found["page"]["grew"] == found["page"]["units"]  # sizes of lines on top of lines as they are


def test_noise_grows_and_the_verb_says_so(tmp_path: Path) -> None:
    uri = kv(tmp_path / "noise.safetensors", 4, noise=True)
    done = CliRunner().invoke(command, [uri, "--contract", "vllm-0.26", "-c", "zstd:level=3"], standalone_mode=False)
    assert done.return_value == 1
    assert "pages grew under zstd" in done.stderr
    found = rows_of(uri, "vllm-0.26", "zstd:level=3")
    assert found["page"]["ratio"] == 1
    assert found["page"]["worst_ratio"] == 1


def test_a_partial_page_is_left_out_and_padding_flatters_nothing(tmp_path: Path) -> None:
    whole = lay(open_source(kv(tmp_path / "a.safetensors", 5, 32)).tensors(), layout_named("vllm-0.26", "c"))
    laid = lay(open_source(kv(tmp_path / "b.safetensors", 5, 37)).tensors(), layout_named("vllm-0.26", "c"))
    assert (laid.tokens, laid.n_pages) == (whole.tokens, whole.n_pages) == (32, 4)


def test_what_a_layout_does_not_take(tmp_path: Path) -> None:
    tensors = open_source(kv(tmp_path / "s.safetensors", 6)).tensors()
    for contract, words in (
        ("llama.cpp", "add --cast fp16"),
        ("llama.cpp:q8_0", "captured from the engine"),
        ("vllm-0.22:mla", "holds no values"),
        ("vllm-0.29:fp8-ds-mla", "records of mixed types"),
    ):
        with pytest.raises(SourceError, match=words):
            lay(tensors, layout_named(contract, "c"))
    with pytest.raises(SourceError, match="there are none"):
        lay([], layout_named("vllm-0.26", "c"))


def test_other_text_has_every_layer_of_the_snapshot(tmp_path: Path) -> None:
    tensors = open_source(kv(tmp_path / "s.safetensors", 6)).tensors()
    layout = layout_named("vllm-0.26", "c")
    with pytest.raises(SourceError, match="lacks layers"):
        measure_pages(lay(tensors, layout), lay(tensors[:2], layout), Variant.parse("huffman").line_codec)


def test_links_by_hand() -> None:
    codec = Variant.parse("huffman").line_codec
    card = codec.card(open_source(str(SAMPLE)).tensors()[0].format)
    page = {
        "contract": "c", "codec": "huffman", "granularity": "page", "unit_bytes": 12288, "ratio": 1.5,
        "line_codec": True,
    }  # fmt: skip
    for row in offload.rows(page, card):
        assert row["speedup"] == pytest.approx(1.5, rel=1e-6)  # as many coders as keep up
        assert row["coders"] * card.engine_GBps >= 1.5 * row["rate_GBps"] * (1 - 1e-9)
        assert (row["coders"] - 1) * card.engine_GBps < 1.5 * row["rate_GBps"]
        latency = card.encode_latency_ns + card.decode_latency_ns
        assert row["break_even_bytes"] == pytest.approx(latency / (1 - 1 / 1.5) * row["rate_GBps"])
        assert (row["one_page_speedup"] > 1) == (row["break_even_bytes"] < 12288)
    timed = [row for row in offload.rows(page, card, (0.5, 2.0)) if row["coder"] == "core"]
    assert [row["coders"] for row in timed] == [-int(-1.5 * row["rate_GBps"] // 0.5) for row in timed]
    for row in timed:  # a page is encoded and decoded before and after it flows
        wait_ns = 12288 / 0.5 + 12288 / 2
        assert row["one_page_speedup"] == pytest.approx(1 / (1 / 1.5 + wait_ns * row["rate_GBps"] / 12288))
        assert row["break_even_bytes"] == pytest.approx(wait_ns / (1 - 1 / 1.5) * row["rate_GBps"])
    rate = {row["link"]: row["rate_GBps"] for row in timed}
    assert rate["ssd-pcie-5"] == pytest.approx(rate["pcie-5"] / 4)  # a drive's port has four lanes
    lines = offload.rows({**page, "granularity": "line", "unit_bytes": 64}, card)
    assert all(1 < row["speedup"] < 1.5 for row in lines)  # the header of a packet stays


def test_the_verb_on_the_bundled_cache() -> None:
    args = [str(SAMPLE), "--contract", "vllm-0.26", "--contract", "lmcache-0.5", "-c", "huffman", "--layers", "4"]
    done = CliRunner().invoke(command, [*args, "--links", "--json"], standalone_mode=False)
    assert done.return_value == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["rows"]) == 6
    assert len(document["links"]) == 36
    assert {(row["granularity"], row["coder"]) for row in document["links"]} == {
        ("line", "card"), ("page", "card"), ("page", "core")
    }  # fmt: skip
    assert {row["grew"] for row in document["rows"]} == {0}
    text = CliRunner().invoke(command, [*args, "--links"], standalone_mode=False).stdout
    assert "page out and back B" in text
    assert "vllm-0.26, pages of 12,288 B" in text
    assert "pays from B" in text
    listed = json.loads(CliRunner().invoke(command, ["--list", "--json"], standalone_mode=False).stdout)
    assert {row["contract"] for row in listed} == set(layouts())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "name a snapshot"),
        ([str(SAMPLE), "--contract", "vllm-9"], "is not one of contiguous"),
        ([str(SAMPLE), "--layers", "four"], "not a list of layers"),
        ([str(SAMPLE), "--layers", "7"], "there are none"),
    ],
)
def test_bad_usage_is_one_sentence(args: list[str], words: str) -> None:
    done = CliRunner().invoke(command, args, standalone_mode=False)
    assert done.exception is not None
    assert words in str(done.exception)


SUITE = """name: pg
version: 1
sources: [{{uri: "{uri}"}}]
codecs: [raw]
claims: false
pages:
  snapshot: {snapshot}
  contracts: [{contract}]
  codecs: [huffman]
"""


def test_a_suite_records_what_the_verb_says(tmp_path: Path) -> None:
    from linepress.run.pages_stage import check_pages, pages_tasks
    from linepress.stages.measure.pages import pages_case
    from linepress.suite.model import SuiteError, load_suite

    uri = kv(tmp_path / "s.safetensors", 8)
    file = tmp_path / "pg.yaml"
    file.write_text(SUITE.format(uri=uri, snapshot=uri, contract="vllm-0.26"), encoding="utf-8")
    tasks = list(pages_tasks(load_suite(str(file))))
    found = rows_of(uri, "vllm-0.26", "huffman")
    assert len({task.key for task in tasks}) == len(tasks) == 3
    for task in tasks:
        row = pages_case(*task.arguments)
        assert row["ratio"] == found[task.identity["granularity"]]["ratio"]
        assert row["contract"] == task.identity["contract"]
    for change, words in (({"contract": "vllm-9"}, "is not one of"), ({"snapshot": "none.safetensors"}, "no such")):
        file.write_text(SUITE.format(**{"uri": uri, "snapshot": uri, "contract": "vllm-0.26", **change}))
        with pytest.raises(SuiteError, match=words):
            check_pages(load_suite(str(file)))
