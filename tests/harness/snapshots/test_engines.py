"""Engine layouts: what the writers lay out, the readers give back, whatever range is asked."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.snapshot.lay import plan_blocks, to_batch, to_blocks
from linepress.sources.snapshot.pages import (
    PADDING,
    UNUSED,
    WRITTEN,
    slot_marks,
    written_pages,
    written_rows,
)
from linepress.sources.snapshot.write import write_snapshot
from linepress_codecs.formats import format_named
from linepress_codecs.layout import from_lines, to_lines

PAGED = ("paged-vllm", "paged-vllm-hnd", "paged-vllm-classic")


def sequence(tokens: int, seed: int, heads: int = 2, dim: int = 16, dtype: str = "u2") -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    top = 0x3F00 if dtype == "u2" else 0x70
    return rng.integers(1, top, (heads, tokens, dim)).astype(dtype)


def test_vllm_nhd_by_hand(tmp_path: Path) -> None:
    """Two tokens a block: token t of head h lies at [block t // 2, slot t % 2, head h]."""
    a = np.arange(1 * 3 * 8, dtype=np.uint16).reshape(1, 3, 8) + 1
    plan = plan_blocks([3], block_tokens=2)
    pages = to_blocks([a], plan, "key")
    assert pages.shape == (2, 2, 1, 8)
    assert np.array_equal(pages[0, 1, 0], a[0, 1])
    assert np.array_equal(pages[1, 0, 0], a[0, 2])
    assert not pages[1, 1].any()
    assert plan.block_table.tolist() == [[0, 1]]


def test_classic_keys_split_the_head_dimension_in_runs_of_16_bytes() -> None:
    a = sequence(16, 1)
    pages = to_blocks([a], plan_blocks([16]), "key", "paged-vllm-classic")
    assert pages.shape == (1, 2, 2, 16, 8)  # [block, head, dim/x, token, x], x = 8 elements of 2 B
    assert pages[0, 1, 1, 5, 3] == a[1, 5, 8 + 3]
    values = to_blocks([a], plan_blocks([16]), "value", "paged-vllm-classic")
    assert values[0, 1, 9, 5] == a[1, 5, 9]


@pytest.mark.parametrize(("arrangement", "kind", "layout"), [
    ("paged-vllm", "key", "paged-vllm"), ("paged-vllm-classic", "key", "paged-vllm-k"),
    ("paged-vllm-classic", "value", "paged-vllm-v"),
])  # fmt: skip
def test_engine_memory_equals_the_codecs_layout_of_the_tokens(arrangement: str, kind: str, layout: str) -> None:
    """The layout that codecs apply to tokens and the memory that an engine writes are the same bytes."""
    a = sequence(37, 2)
    pages = to_blocks([a], plan_blocks([37]), kind, arrangement)
    lines = to_lines(a, layout, format_named("bf16"))
    assert lines.data.tobytes() == pages.tobytes()
    assert np.array_equal(from_lines(lines.data, a.shape, layout, format_named("bf16")), a)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    block_tokens=st.integers(1, 17),
    free=st.integers(0, 5),
    arrangement=st.sampled_from(PAGED),
    kind=st.sampled_from(["key", "value"]),
    dtype=st.sampled_from(["u2", "u1"]),
    data=st.data(),
)
def test_what_is_written_is_read_back_range_by_range(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    block_tokens: int,
    free: int,
    arrangement: str,
    kind: str,
    dtype: str,
    data: st.DataObject,
) -> None:
    shared = data.draw(st.integers(0, min(lengths)))
    prefix = sequence(shared, 99, dtype=dtype)
    parts = [np.concatenate([prefix, sequence(n - shared, i, dtype=dtype)], axis=1) for i, n in enumerate(lengths)]
    plan = plan_blocks(lengths, block_tokens=block_tokens, shared_tokens=shared, free_blocks=free, seed=3)
    path = tmp_path_factory.mktemp("paged") / "s.safetensors"
    fmt = "bf16" if dtype == "u2" else "e4m3"
    caches = {f"{k}_cache_tensor_0": (fmt, to_blocks(parts, plan, k, arrangement)) for k in ("key", "value")}
    write_snapshot(path, caches, {"arrangement": arrangement, "block_tokens": str(block_tokens)}, plan.tables)
    tensor = open_source(str(path)).tensor(f"{kind}_cache_tensor_0")
    want = np.concatenate([parts[0], *(p[:, plan.shared_tokens :] for p in parts[1:])], axis=1)
    whole = want.tobytes()
    assert tensor.shape == want.shape
    assert tensor.read(0, tensor.n_bytes).tobytes() == whole
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert pickle.loads(pickle.dumps(tensor)).read(start, end).tobytes() == whole[start:end]
    places = [np.arange(plan.shared_tokens if i else 0, n) for i, n in enumerate(lengths)]
    told = np.frombuffer(tensor.positions, "<u4")
    assert told.tolist() == (np.concatenate(places).tolist() if kind == "key" else [])
    memory = open_source(f"memory:{path}").tensor(f"{kind}_cache_tensor_0")
    assert memory.read(0, memory.n_bytes).tobytes() == caches[f"{kind}_cache_tensor_0"][1].tobytes()


def test_free_pages_may_hold_anything(tmp_path: Path) -> None:
    """What a request left in a page that no sequence holds is not data."""
    a = sequence(20, 4)
    plan = plan_blocks([20], free_blocks=3, seed=1)
    pages = to_blocks([a], plan, "key")
    free = sorted(set(range(plan.n_blocks)) - set(plan.block_table[0].tolist()))
    pages[free] = 0x7FC0  # NaN
    pages[plan.block_table[0, 1], 4:] = 0x7FC0  # beyond the twentieth token
    path = tmp_path / "s.safetensors"
    caches = {f"{k}_cache_tensor_0": ("bf16", pages) for k in ("key", "value")}
    write_snapshot(path, caches, {"arrangement": "paged-vllm"}, plan.tables)
    tensor = open_source(str(path)).tensor("key_cache_tensor_0")
    assert tensor.read(0, tensor.n_bytes).tobytes() == a.tobytes()


def test_marks_of_pages() -> None:
    table = np.array([[2, 0, -1], [2, 3, 1]], np.int32)
    written = written_pages(table, np.array([6, 9], np.int32), 5, 4, "s")
    marks = slot_marks(written, 5)
    assert marks.tolist() == [
        [WRITTEN, WRITTEN, PADDING, PADDING],
        [WRITTEN, PADDING, PADDING, PADDING],
        [WRITTEN] * 4,
        [WRITTEN] * 4,
        [UNUSED] * 4,
    ]
    assert written.tokens == 11


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padded_batches_come_back_without_padding(tmp_path: Path, padding: str) -> None:
    parts = [sequence(n, n) for n in (7, 3, 5)]
    path = tmp_path / "s.safetensors"
    caches = {f"{k}_cache_tensor_0": ("fp16", to_batch(parts, slots=8, padding=padding)) for k in ("key", "value")}
    counts = np.array([7, 3, 5], np.int32)
    write_snapshot(path, caches, {"arrangement": "batch", "padding": padding}, {"sequence_tokens": counts})
    tensor = open_source(str(path)).tensor("value_cache_tensor_0")
    assert tensor.read(0, tensor.n_bytes).tobytes() == np.concatenate(parts, axis=1).tobytes()
    positions = np.frombuffer(open_source(str(path)).tensor("key_cache_tensor_0").positions, "<u4")
    assert positions.tolist() == [*range(7), *range(3), *range(5)]
    marks = slot_marks(written_rows(counts, 8, padding, "s"), 3)
    assert (marks == WRITTEN).sum(axis=1).tolist() == [7, 3, 5]
    assert (marks[1, 0] == WRITTEN) == (padding == "right")


def test_writers_refuse_what_does_not_fit() -> None:
    a, b = sequence(20, 1), sequence(20, 2)
    with pytest.raises(SourceError, match="does not begin with the 16 shared tokens"):
        to_blocks([a, b], plan_blocks([20, 20], shared_tokens=16), "key")
    with pytest.raises(SourceError, match="sequence 0 has shape"):
        to_blocks([a], plan_blocks([21]), "key")
    with pytest.raises(SourceError, match="batch has no key pages"):
        to_blocks([a], plan_blocks([20]), "key", "batch")
    with pytest.raises(SourceError, match="not a multiple of 8"):
        to_blocks([sequence(4, 1, dim=12)], plan_blocks([4]), "key", "paged-vllm-classic")
    with pytest.raises(SourceError, match="longer than the shortest"):
        plan_blocks([20, 3], shared_tokens=4)
    with pytest.raises(SourceError, match="at least one token"):
        plan_blocks([0])
    with pytest.raises(SourceError, match="does not fit"):
        to_batch([a], slots=19)
