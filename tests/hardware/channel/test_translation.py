"""Read-only translation: off is the plain channel request for request, bytes are conserved, waits look back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linepress_hardware.channel import closed_form, workloads
from linepress_hardware.channel import plan as p
from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.simulate import Timing, run
from linepress_hardware.channel.translation import StaticLayout, expand_static, plain_layout
from linepress_hardware.dram.simulate import simulate
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()
LINES = 1 << 16


def stream_layout(seed: int = 0, metadata: float = 50.0, mean: float = 42.4) -> StaticLayout:
    rng = np.random.Generator(np.random.PCG64(seed))
    length = np.clip(rng.normal(mean, 3, 4096).round(), 1, 64).astype(np.int32)
    start = np.cumsum(length, dtype=np.int64) - length
    return StaticLayout(start, length, int(length.sum()), LINES, metadata)


@pytest.mark.parametrize("memory", ["hbm3", "ddr5"])
@pytest.mark.parametrize("pattern", ["sequential", "random"])
@pytest.mark.parametrize("interval_ns", [None, 9.0])
def test_compression_off_is_the_plain_channel_request_for_request(
    memory: str, pattern: str, interval_ns: float | None
) -> None:
    part = Memory.load(memory)
    make = workloads.sequential if pattern == "sequential" else workloads.random
    stream = make(3000, LINES, seed=3)
    if interval_ns is not None:
        stream = stream.at_interval(interval_ns)
    # Raw lines in place, no metadata: what `packing off` gives; the line buffer is there and finds nothing to do.
    off = replace(plain_layout(LINES), raw=np.ones(64, np.bool_))
    plan = expand_static(stream, off, atom_bytes=part.atom_bytes, config=CONFIG)
    ours = run(stream, plan, part, CONFIG, Timing.plain(CONFIG))
    clocks = np.arange(1, len(stream) + 1) * CONFIG.axi_clock_ns
    offered = np.zeros(len(stream)) if stream.arrival_ns is None else stream.arrival_ns
    accepted = clocks + np.maximum.accumulate(offered - clocks + CONFIG.axi_clock_ns)
    direct = simulate(part.part, (stream.line * 64).astype(np.uint64), stream.is_write, accepted)
    assert plan.requests == len(stream)
    assert np.array_equal(ours.memory.start_ns, direct.start_ns)
    assert np.array_equal(ours.memory.finish_ns, direct.finish_ns)
    assert ours.times.data_ns == pytest.approx(direct.finish_ns + CONFIG.ecc_decode_ns, abs=1e-5)


@pytest.mark.parametrize("atom", [32, 64])
@pytest.mark.parametrize("pattern", ["sequential", "random", "mixed"])
def test_bytes_are_conserved_and_waits_look_back(atom: int, pattern: str) -> None:
    make = {"sequential": workloads.sequential, "random": workloads.random, "mixed": workloads.mixed}[pattern]
    stream = make(4000, LINES, seed=1)
    layout = stream_layout()
    plan = expand_static(stream, layout, atom_bytes=atom, config=CONFIG)
    assert (plan.after < np.arange(plan.requests)).all()
    assert (plan.size_bytes % atom == 0).all()
    assert (plan.address_bytes % np.uint64(atom) == 0).all()
    assert sum(plan.bytes_by_kind().values()) == plan.size_bytes.sum()
    assert int(plan.last[-1]) == plan.requests
    assert np.array_equal(plan.first[1:], plan.last[:-1])
    # Atoms fetched for an access plus those taken from the line buffer are exactly the atoms its line touches.
    needed = closed_form.atoms_of_places(layout.start_bytes, layout.length_bytes, atom)[stream.line % 4096]
    fetched = int(plan.size_bytes[plan.kind == p.DATA_READ].sum()) // atom
    assert fetched + plan.counters["line_buffer_hits"] == plan.counters["atom_lookups"] == int(needed.sum())


def test_bus_bytes_equal_the_plan() -> None:
    part = Memory.load("hbm3")
    stream = workloads.random(3000, LINES, seed=1)
    plan = expand_static(stream, stream_layout(), atom_bytes=32, config=CONFIG)
    done = run(stream, plan, part, CONFIG, Timing.compressed(CONFIG))
    spared = 32 * (done.memory.forwarded_atoms + done.memory.coalesced_atoms)
    assert done.memory.bus_bytes + spared == done.bus_bytes == int(plan.size_bytes.sum())


def test_sequential_atoms_reach_the_closed_form() -> None:
    layout = replace(stream_layout(), lines=4096)
    stream = workloads.stream(np.arange(4096, dtype=np.int64))
    plan = expand_static(stream, layout, atom_bytes=32, config=CONFIG)
    data = int(plan.size_bytes[plan.kind == p.DATA_READ].sum()) // 32
    assert data == closed_form.atoms_sequential(layout.start_bytes, layout.length_bytes, 32)
    assert plan.bytes_by_kind()["metadata_read"] == 64 * 64  # one entry a page of 64 lines


def test_metadata_hit_rate_reaches_the_closed_form() -> None:
    lines = 1 << 20
    layout = replace(stream_layout(), lines=lines)
    config = CONFIG.override({"metadata_cache_bytes": 262144, "metadata_prefetch": 0})
    past = workloads.random(20_000, lines, seed=2)
    plan = expand_static(workloads.random(40_000, lines, seed=1), layout, atom_bytes=32, config=config, before=past)
    rate = plan.counters["metadata_hits"] / plan.counters["metadata_lookups"]
    assert rate == pytest.approx(closed_form.metadata_hit_rate_random(262144, 64, 4096, lines * 64), rel=0.05)


def test_prefetch_hides_metadata_of_a_sequential_stream() -> None:
    stream = workloads.stream(np.arange(2048, dtype=np.int64))
    with_it = expand_static(stream, stream_layout(), atom_bytes=32, config=CONFIG)
    config = CONFIG.override({"metadata_prefetch": 0})
    without = expand_static(stream, stream_layout(), atom_bytes=32, config=config)
    misses = [q.counters["metadata_lookups"] - q.counters["metadata_hits"] for q in (with_it, without)]
    assert misses == [2, 32]  # the first entry, and its neighbour before prefetching starts
    assert with_it.bytes_by_kind()["metadata_read"] <= without.bytes_by_kind()["metadata_read"] + 64


def test_small_metadata_shares_an_entry_and_large_takes_two() -> None:
    assert stream_layout(metadata=20.0).pages_per_entry(CONFIG) == 3
    assert stream_layout(metadata=65.0).entry_bytes(CONFIG) == 128
    assert stream_layout(metadata=0.0).entry_bytes(CONFIG) == 0


def test_line_prefetch_moves_the_same_lines_earlier() -> None:
    stream = workloads.stream(np.arange(640, dtype=np.int64))
    config = CONFIG.override({"prefetch_lines": 4})
    plan = expand_static(stream, stream_layout(), atom_bytes=32, config=config)
    plain = expand_static(stream, stream_layout(), atom_bytes=32, config=CONFIG)
    kinds = plan.bytes_by_kind()
    assert kinds["prefetch"] > 0
    assert kinds["prefetch"] + kinds["data_read"] == plain.bytes_by_kind()["data_read"]


def test_an_exception_reads_its_slot_first() -> None:
    tile = 64
    start = np.arange(tile, dtype=np.int64) * 48
    length = np.full(tile, 48, np.int32)
    start[5], length[5] = tile * 48, 64
    pointer = np.full(tile, -1, np.int64)
    pointer[5] = 5 * 48
    layout = StaticLayout(start, length, tile * 48 + 64, LINES, 8.0, pointer_bytes=pointer)
    plan = expand_static(workloads.stream(np.array([4, 5], np.int64)), layout, atom_bytes=32, config=CONFIG)
    mine = slice(int(plan.first[1]), int(plan.last[1]))
    assert plan.kind[mine].tolist() == [p.INDIRECT_READ, p.DATA_READ]
    assert plan.after[mine][1] == plan.first[1]
    assert plan.address_bytes[mine].tolist() == [5 * 48 // 32 * 32, 64 * 48]


def test_zero_lines_move_no_data() -> None:
    layout = StaticLayout(np.zeros(64, np.int64), np.zeros(64, np.int32), 1, LINES, 20.0)
    plan = expand_static(workloads.sequential(100, LINES), layout, atom_bytes=32, config=CONFIG)
    kinds = plan.bytes_by_kind()
    assert kinds["data_read"] == 0
    assert kinds["metadata_read"] > 0


def test_writes_into_read_only_memory_and_lines_outside_are_refused() -> None:
    stream = workloads.stream(np.array([1, LINES, -1, 2], np.int64), np.array([True, False, False, False]))
    plan = expand_static(stream, stream_layout(), atom_bytes=32, config=CONFIG)
    assert plan.failed.tolist() == [p.REFUSED_READ_ONLY, p.REFUSED_UNMAPPED, p.REFUSED_UNMAPPED, 0]
    plain = expand_static(stream, plain_layout(LINES), atom_bytes=32, config=CONFIG)
    assert plain.failed.tolist() == [0, p.REFUSED_UNMAPPED, p.REFUSED_UNMAPPED, 0]


def home_layout(metadata: float = 36.0) -> StaticLayout:
    """Half a line at home, 8 B of rest behind all homes, four to an atom; every fourth line has none."""
    tile = 4096
    length = np.where(np.arange(tile) % 4 == 3, 30, 40).astype(np.int32)
    home = 32 * np.arange(tile, dtype=np.int64)
    rest = 32 * tile + 8 * np.arange(tile, dtype=np.int64)
    return StaticLayout(home, length, 40 * tile, LINES, metadata, home_bytes=32, rest_bytes=rest)


def test_a_home_needs_no_metadata_and_its_rest_waits_for_it() -> None:
    stream = workloads.stream(np.array([0, 3, 4 * 64 + 1], np.int64))
    plan = expand_static(stream, home_layout(), atom_bytes=32, config=CONFIG, line_buffer=False)
    data, metadata = p.DATA_READ, p.METADATA_READ
    assert plan.kind.tolist() == [metadata, data, data, data, metadata, data, data]
    # Metadata, home, rest; then a line without a rest under the same entry; then another page.
    assert plan.after.tolist() == [-1, -1, 0, -1, -1, -1, 4]
    assert plan.size_bytes[plan.kind == p.DATA_READ].tolist() == [32] * 5
    homes = plan.address_bytes[[1, 3, 5]].tolist()
    assert homes == [0, 96, 32 * 257]
    assert plan.address_bytes[[2, 6]].tolist() == [32 * 4096, 32 * 4096 + 8 * 256]


def test_a_home_hides_the_metadata_miss() -> None:
    """Lines without a rest arrive as if there were no metadata at all; with one they wait like any other."""
    part = Memory.load("hbm3", policy="open:refresh=none")
    stream = workloads.random(2000, LINES, seed=5).at_interval(400.0)
    whole = StaticLayout(64 * np.arange(4096, dtype=np.int64), np.full(4096, 30, np.int32), 64 * 4096, LINES, 36.0)
    found = {}
    for name, layout in (("home", home_layout()), ("one piece", whole)):
        plan = expand_static(stream, layout, atom_bytes=32, config=CONFIG)
        got = run(stream, plan, part, CONFIG, Timing.compressed(CONFIG, metadata=True))
        found[name] = got.times.data_ns - got.offered_ns
    bare = stream.line % 4 == 3
    assert found["home"][bare].mean() < found["one piece"][bare].mean() - 10
    assert found["home"][~bare].mean() > found["home"][bare].mean() + 10


def test_a_partial_write_of_the_plain_channel_reads_and_merges() -> None:
    stream = replace(workloads.stream(np.array([3], np.int64), np.array([True])), partial=np.array([True]))
    plan = expand_static(stream, plain_layout(LINES), atom_bytes=32, config=CONFIG)
    assert plan.kind.tolist() == [p.RMW_READ, p.DATA_WRITE]
    assert plan.size_bytes.tolist() == [64, 64]
    assert plan.after.tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tile_bytes": 10}, "outside its tile"),
        ({"lines": 0}, "holds nothing"),
        ({"length_bytes": np.full(4096, 67, np.int32), "tile_bytes": 1 << 30}, "store it raw"),
        ({"length_bytes": np.zeros(3, np.int32)}, "one start and one length"),
        ({"raw": np.zeros(3, np.bool_)}, "one entry per line"),
        ({"home_bytes": 32}, "places of the rests"),
        ({"home_bytes": 32, "rest_bytes": np.full(4096, 1 << 30)}, "outside its tile"),
    ],
)
def test_layouts_that_contradict_themselves(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        replace(stream_layout(), **change)  # type: ignore[arg-type]


def test_a_footprint_larger_than_the_part_is_refused() -> None:
    part = Memory.load("hbm3")
    lines = part.capacity_bytes // 64 + 64
    stream = workloads.stream(np.array([lines - 1], np.int64))
    plan = expand_static(stream, plain_layout(lines), atom_bytes=32, config=CONFIG)
    with pytest.raises(ConfigurationError, match="make the footprint smaller"):
        run(stream, plan, part, CONFIG, Timing.plain(CONFIG))
