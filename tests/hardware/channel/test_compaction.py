"""The inline store: no byte lost or shared, sizes that change, capacity that ends, staging and repacking."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.channel import plan as p
from linepress_hardware.channel import workloads
from linepress_hardware.channel.compaction import CapacityError, CompressedStore
from linepress_hardware.channel.config import ChannelConfig, default_config
from linepress_hardware.channel.page_kernel import PAGE_EMPTY, PAGE_PACKED, PAGE_RAW, PAGE_STAGED, line_offset
from linepress_hardware.errors import ConfigurationError

CLASSES = (0, 8, 32, 48, 64)
CONFIG = default_config()
SMALL = CONFIG.override({"metadata_cache_bytes": 2048, "metadata_prefetch": 0})


def store(
    pages: int = 64,
    *,
    size: int = 32,
    capacity: int | None = None,
    config: ChannelConfig = CONFIG,
    classes: tuple[int, ...] = CLASSES,
    fixed_slot: int = 0,
    empty: bool = False,
) -> CompressedStore:
    length = np.full(pages * 64, size, np.int32)
    return CompressedStore(length, classes, capacity or pages * 4096, config, 32, fixed_slot, empty)


def check(s: CompressedStore) -> None:
    """Chunks belong to one page or the free list, each once; states and chunk counts agree."""
    used = s.chunks[s.chunks >= 0]
    free = s.free[: s.physical_chunks - s.used_bytes // s.config.chunk_bytes]
    everything = np.concatenate([used, free])
    assert np.array_equal(np.sort(everything), np.arange(s.physical_chunks))
    assert np.array_equal((s.chunks >= 0).sum(axis=1), s.n_chunks)
    assert (s.n_chunks[s.state == PAGE_RAW] == 8).all()
    assert (s.n_chunks[(s.state == PAGE_STAGED) | (s.state == PAGE_EMPTY)] == 0).all()
    needed = np.array([line_offset(row, s.sizes, s.rule_bytes, s.fixed_slot, -1) for row in s.slot_class])
    packed = s.state == PAGE_PACKED
    assert (needed[packed] <= s.n_chunks[packed] * s.config.chunk_bytes).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=64, max_size=64), st.sampled_from([32, 64]))
def test_lines_of_a_page_never_overlap_and_touch_few_atoms(classes: list[int], atom: int) -> None:
    sizes = np.array(CLASSES, np.int64)
    row = np.array(classes, np.uint8)
    places = []
    for k, c in enumerate(classes):
        if CLASSES[c]:
            offset = line_offset(row, sizes, atom, 0, k)
            assert (offset + CLASSES[c] - 1) // atom - offset // atom + 1 <= -(-CLASSES[c] // atom)
            places.append((offset, offset + CLASSES[c]))
    places.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(places))
    assert line_offset(row, sizes, atom, 0, -1) == max((end for _, end in places), default=0)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    fixed=st.booleans(),
    staging=st.sampled_from([0, 2, 16]),
    tight=st.booleans(),
    inflation=st.sampled_from([0, 3, 17]),
)
def test_any_stream_leaves_a_sound_store(seed: int, fixed: bool, staging: int, tight: bool, inflation: int) -> None:
    config = SMALL.override({"staging_pages": staging, "inflation_lines": inflation})
    classes = (48, 64) if fixed else CLASSES
    pages = 40
    s = store(
        pages,
        size=48,
        capacity=pages * 3072 + 2048 if tight else pages * 4096,
        config=config,
        classes=classes,
        fixed_slot=48 if fixed else 0,
    )
    rng = np.random.Generator(np.random.PCG64(seed))
    n = 1500
    line = rng.integers(0, pages * 64, n)
    write = rng.random(n) < 0.5
    append = np.zeros(n, np.bool_)
    for block in rng.integers(0, n // 64, 6):  # whole pages filled afresh among the rest
        at = slice(int(block) * 64, int(block) * 64 + 64)
        line[at] = int(rng.integers(0, pages)) * 64 + np.arange(64)
        write[at] = append[at] = True
    stream = replace(
        workloads.stream(line, write), append=append, partial=write & ~append & (rng.random(n) < 0.2),
        zero=write & ~append & (rng.random(n) < 0.1),
    )  # fmt: skip
    length = rng.choice([1, 20, 40, 48, 60, 64], n).astype(np.int32)
    for part in range(2):
        half = slice(part * n // 2, (part + 1) * n // 2)
        piece = replace(
            stream, **{f: getattr(stream, f)[half] for f in ("line", "is_write", "partial", "zero", "id", "append")}
        )
        plan = s.expand(piece, length[half])
        check(s)
        assert (plan.after < np.arange(plan.requests)).all()
        assert (plan.size_bytes > 0).all()
        top = s.metadata_base_bytes + s.metadata_bytes
        assert int((plan.address_bytes.astype(np.int64) + plan.size_bytes).max(initial=0)) <= top
        assert plan.counters["refused"] == int((plan.failed == p.REFUSED_CAPACITY).sum())
        if not tight:
            assert plan.counters["refused"] == 0


def test_starting_capacity() -> None:
    s = store(64, size=32)
    assert s.used_bytes == 64 * 2048
    assert s.capacity_ratio == pytest.approx(4096 / (2048 + 64))
    with pytest.raises(CapacityError, match="need 1,024 B more"):
        store(64, size=32, capacity=63 * 2048 + 1024)


def test_a_line_that_grows_goes_to_the_inflation_room_then_the_page_is_rewritten() -> None:
    config = CONFIG.override({"inflation_lines": 3, "line_buffer_lines": 0})
    s = store(2, size=32, capacity=2 * 4096, config=config)
    line = np.array([0, 1, 2, 3], np.int64)
    plan = s.expand(workloads.stream(line, np.ones(4, np.bool_)), np.full(4, 60, np.int32))
    assert plan.counters["overflows"] == 4
    assert plan.counters["inflations"] == 3
    assert plan.counters["repacks"] == 1  # five chunks before, with the inflation room, and five after
    moved = plan.bytes_by_kind()
    assert moved["move_read"] == 64 * 32 + 3 * 64  # the page with its inflation room
    assert moved["move_write"] == 60 * 32 + 4 * 64
    check(s)
    read = s.expand(workloads.stream(line), np.zeros(4, np.int32))
    assert read.length_bytes.tolist() == [64] * 4
    assert read.raw.all()


def test_a_line_that_shrinks_stays_and_the_page_is_won_back_when_its_metadata_leaves() -> None:
    config = CONFIG.override(
        {"metadata_cache_bytes": 64, "metadata_cache_ways": 1, "metadata_prefetch": 0, "line_buffer_lines": 0}
    )
    s = store(2, size=64, capacity=2 * 4096, config=config)
    line = np.concatenate([np.arange(64), [64]])
    write = np.arange(65) < 64
    plan = s.expand(workloads.stream(line.astype(np.int64), write), np.full(65, 8, np.int32))
    assert plan.counters["overflows"] == 0
    assert plan.counters["repacks"] == 0  # a raw page keeps no slot classes: its metadata did not change
    s = store(2, size=48, capacity=2 * 4096, config=config)
    plan = s.expand(workloads.stream(line.astype(np.int64), write), np.full(65, 8, np.int32))
    assert plan.counters["repacks"] == 1
    assert s.n_chunks[0] == 1
    assert plan.counters["metadata_writes"] == 1
    check(s)


def test_fresh_pages_collect_in_staging_and_are_written_once_packed() -> None:
    s = store(4, empty=True)
    line = np.arange(64, dtype=np.int64)
    every = np.ones(64, np.bool_)
    stream = replace(workloads.stream(line, every), append=every)
    plan = s.expand(stream, np.full(64, 30, np.int32))
    kinds = plan.bytes_by_kind()
    assert kinds["data_write"] == 64 * 32
    assert kinds["data_read"] == kinds["rmw_read"] == kinds["move_read"] == 0
    assert plan.counters["seals"] == 1
    assert s.state[0] == PAGE_PACKED
    assert s.used_bytes == 2048
    check(s)


def test_without_staging_fresh_pages_are_written_raw_and_rewritten() -> None:
    s = store(4, empty=True, config=CONFIG.override({"staging_pages": 0}))
    line = np.arange(64, dtype=np.int64)
    every = np.ones(64, np.bool_)
    plan = s.expand(replace(workloads.stream(line, every), append=every), np.full(64, 30, np.int32))
    kinds = plan.bytes_by_kind()
    assert (kinds["data_write"], kinds["move_read"], kinds["move_write"]) == (4096, 4096, 2048)
    check(s)


def test_staging_that_is_full_spills_the_oldest_page_raw() -> None:
    s = store(8, empty=True, config=CONFIG.override({"staging_pages": 2}))
    line = np.array([0, 1, 64, 128], np.int64)
    every = np.ones(4, np.bool_)
    plan = s.expand(replace(workloads.stream(line, every), append=every), np.full(4, 30, np.int32))
    assert plan.counters["spills"] == 1
    assert plan.bytes_by_kind()["move_write"] == 2 * 64
    assert s.state.tolist()[:3] == [PAGE_RAW, PAGE_STAGED, PAGE_STAGED]
    check(s)


def test_write_zero_needs_no_data() -> None:
    s = store(2, size=0)
    stream = replace(workloads.stream(np.array([0], np.int64), np.array([True])), zero=np.array([True]))
    plan = s.expand(stream, np.array([64], np.int32))
    assert plan.bytes_by_kind()["data_write"] == 0
    assert plan.bytes_by_kind()["metadata_read"] == 64


def test_a_class_that_is_not_whole_atoms_is_merged() -> None:
    s = store(2, size=48)
    plan = s.expand(workloads.stream(np.array([0], np.int64), np.array([True])), np.array([40], np.int32))
    assert plan.kind.tolist() == [p.METADATA_READ, p.RMW_READ, p.DATA_WRITE]
    assert plan.after.tolist() == [-1, 0, 1]
    whole = store(2, size=32)
    plan = whole.expand(workloads.stream(np.array([0], np.int64), np.array([True])), np.array([20], np.int32))
    assert plan.kind.tolist() == [p.METADATA_READ, p.DATA_WRITE]


def test_the_end_of_capacity_refuses_and_changes_nothing() -> None:
    config = CONFIG.override({"inflation_lines": 0})
    s = store(4, size=32, capacity=4 * 2048, config=config)
    before = (s.slot_class.copy(), s.actual.copy(), s.chunks.copy(), s.used_bytes)
    plan = s.expand(workloads.stream(np.array([7], np.int64), np.array([True])), np.array([64], np.int32))
    assert plan.failed.tolist() == [p.REFUSED_CAPACITY]
    assert plan.counters["refused"] == 1
    assert np.array_equal(before[0], s.slot_class)
    assert np.array_equal(before[1], s.actual)
    assert np.array_equal(before[2], s.chunks)
    assert before[3] == s.used_bytes
    check(s)


def test_thresholds_are_reported_once() -> None:
    config = CONFIG.override({"capacity_warning_ratio": 0.5, "capacity_critical_ratio": 0.75})
    s = store(8, empty=True, capacity=8 * 4096, config=config)
    line = np.arange(8 * 64, dtype=np.int64)
    every = np.ones(8 * 64, np.bool_)
    plan = s.expand(replace(workloads.stream(line, every), append=every), np.full(8 * 64, 64, np.int32))
    assert plan.counters["warning_at"] == 4 * 64 - 1
    assert plan.counters["critical_at"] == 6 * 64 - 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"classes": (0, 32)}, "end in 64"),
        ({"classes": (32, 8, 64)}, "ascending"),
        ({"fixed_slot": 40}, "must be one of the classes"),
        ({"pages": 0}, "no lines"),
        ({"size": 70}, "store longer ones raw"),
    ],
)
def test_stores_that_make_no_sense(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        store(**arguments)  # type: ignore[arg-type]


def test_every_access_needs_a_write_length() -> None:
    with pytest.raises(ConfigurationError, match="give one each"):
        store(2).expand(workloads.stream(np.array([0], np.int64)), np.zeros(2, np.int32))
