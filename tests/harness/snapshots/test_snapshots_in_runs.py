"""Snapshots where other sources go: folders, suites, plans; and the page that shows a suite of one's own."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.run.plan import make_plan
from linepress.sources import open_source
from linepress.sources.snapshot.lay import plan_blocks, to_blocks
from linepress.sources.snapshot.write import write_snapshot, write_tensors
from linepress.stages.measure.case import measure_case
from linepress.suite.model import load_suite
from linepress_codecs.variant import Variant

PAGE = Path(__file__).parents[3] / "docs" / "your-model.md"


def paged(path: Path, seed: int) -> list[np.ndarray]:
    """A snapshot of two sequences with a shared prefix and free pages of noise; returns each sequence's keys."""
    rng = np.random.Generator(np.random.PCG64(seed))
    prefix = rng.normal(0, 1, (2, 32, 16))
    values = [np.concatenate([prefix, rng.normal(0, 1, (2, n, 16))], axis=1).astype(np.float32) for n in (20, 9)]
    sequences = [(v.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for v in values]
    plan = plan_blocks([52, 41], shared_tokens=32, free_blocks=2, seed=seed)
    pages = to_blocks(sequences, plan, "key")
    free = sorted(set(range(plan.n_blocks)) - set(plan.block_table.reshape(-1).tolist()))
    pages[free] = rng.integers(0, 1 << 16, pages[free].shape)
    caches = {f"{kind}_cache_tensor_0": ("bf16", pages) for kind in ("key", "value")}
    write_snapshot(path, caches, {"arrangement": "paged-vllm", "tokens": "61"}, plan.tables)
    return sequences


def test_a_folder_of_paged_snapshots(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        first, second = paged(tmp_path / f"{name}.safetensors", seed)
        want = np.concatenate([first, second[:, 32:]], axis=1)
        tensor = open_source(str(tmp_path / f"{name}.safetensors")).tensor("key_cache_tensor_0")
        assert tensor.read(0, tensor.n_bytes).tobytes() == want.tobytes()
    source = open_source(str(tmp_path))
    assert [t.name for t in source.tensors()] == [f"{f}/{k}_cache_tensor_0" for f in "ab" for k in ("key", "value")]
    assert {t.shape for t in source.tensors()} == {(2, 61, 16)}
    assert set(source.skipped()) == {f"{f}/{t}" for f in "ab" for t in ("block_table", "sequence_tokens")}


def test_a_case_on_paged_tokens_equals_one_on_the_tokens_themselves(tmp_path: Path) -> None:
    first, second = paged(tmp_path / "paged.safetensors", 3)
    tokens = np.concatenate([first, second[:, 32:]], axis=1)
    write_tensors(tmp_path / "plain.safetensors", {"key_cache_tensor_0": ("bf16", tokens)}, {"holds": "keys"})
    rows = [
        measure_case(
            pickle.loads(pickle.dumps(open_source(str(tmp_path / name)).tensor("key_cache_tensor_0"))),
            Variant.parse("huffman:layout=channel"),
            repeats=0,
            chunk_bytes=1024,
        )
        for name in ("paged.safetensors", "plain.safetensors")
    ]
    for column in ("content_sha256", "payload_bits", "bits_histogram", "bound_ratio", "lossless", "shape"):
        assert rows[0][column] == rows[1][column]
    assert rows[0]["lossless"] is True


def test_the_suite_of_the_page_plans_a_folder_and_a_paged_snapshot_alike(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    (tmp_path / "mine.yaml").write_text(block.group(1), encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "caches").mkdir()
    weight = np.full((8, 64), 0x3C01, np.uint16)
    write_tensors(
        tmp_path / "model" / "model.safetensors", {"model.layers.15.mlp.up_proj.weight": ("bf16", weight)}, {}
    )
    paged(tmp_path / "caches" / "model-mine-2048-prefill-bf16.safetensors", 4)
    plan = make_plan(load_suite(str(tmp_path / "mine.yaml")))
    cased = [plan.tensors[case.tensor] for case in plan.cases]
    assert {tensor.kind for tensor in cased} == {"weight", "key", "value"}
    assert {tensor.shape for tensor in cased if tensor.kind == "key"} == {(2, 61, 16)}


def test_a_changed_table_changes_the_identity(tmp_path: Path) -> None:
    """The same pages under another block table are other tokens: no cached hash may answer for both."""
    paged(tmp_path / "s.safetensors", 5)
    tensor = open_source(str(tmp_path / "s.safetensors")).tensor("key_cache_tensor_0")
    memory = open_source(f"memory:{tmp_path / 's.safetensors'}").tensor("key_cache_tensor_0")
    assert tensor.identity != memory.identity
    assert tensor.content_sha256() != memory.content_sha256()


def test_a_file_that_changes_after_opening_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    paged(path, 6)
    tensor = open_source(str(path)).tensor("key_cache_tensor_0")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SourceError, match="changed while it was being read"):
        tensor.read(0, tensor.n_bytes)
