"""Schemes as data: no line lost, sizes conserved, metadata counted; capacities by closed form, published checks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from linepress_hardware.channel import plan as p
from linepress_hardware.channel import workloads
from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.published import (
    CHECKS,
    accesses_per_line,
    beside,
    collisions,
    halves_gain,
    short_share,
    split_shares,
)
from linepress_hardware.channel.schemes import RULES, Placed, need_bytes, parse_scheme, schemes
from linepress_hardware.channel.translation import expand_static
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()
FITTED = (24, 44, 64)
PLACING = [s for s in schemes().values() if s.rule in RULES]


def same(size_bytes: int, t: int = 4096) -> NDArray[np.uint16]:
    return np.full(t, 8 * size_bytes, np.uint16)


def of(name: str, bits: NDArray[np.uint16]) -> Placed:
    return schemes()[name].place(bits, FITTED)


def kinds_of_lines() -> dict[str, NDArray[np.uint16]]:
    rng = np.random.Generator(np.random.PCG64(1))
    return {
        "weights": np.clip(rng.normal(345, 12, 4096), 1, 511).round().astype(np.uint16),
        "short": rng.integers(0, 130, 4096).astype(np.uint16),
        "anything": rng.integers(0, 530, 4096).astype(np.uint16),
        "raw": np.full(4096, 512, np.uint16),
        "zero": np.zeros(4096, np.uint16),
    }


@pytest.mark.parametrize("lines", ["weights", "short", "anything", "raw", "zero"])
@pytest.mark.parametrize("scheme", PLACING, ids=lambda s: s.name)
def test_no_line_is_lost_and_every_byte_is_counted(scheme: Any, lines: str) -> None:
    bits = kinds_of_lines()[lines]
    placed = scheme.place(bits, FITTED)
    layout = placed.layout
    need, length = need_bytes(bits), layout.length_bytes.astype(np.int64)
    end = layout.start_bytes + length
    assert layout.start_bytes.shape == bits.shape
    assert int(end.max()) <= layout.tile_bytes <= placed.stored_bytes + 64
    assert 0 <= placed.metadata_bytes <= placed.stored_bytes
    # What is read for a line holds its code. Where lines share a run (quads, blocks), the run holds all of them.
    if scheme.rule in ("pages", "chunks", "bursts", "halves", "cells"):
        assert (length >= np.minimum(need, 64)).all()
    runs: dict[tuple[int, int], int] = {}
    code = np.where(need > 0, np.minimum(bits, 512), 0)
    for at, n, size in zip(layout.start_bytes.tolist(), length.tolist(), code.tolist(), strict=True):
        runs[at, n] = runs.get((at, n), 0) + size
    assert all(size <= 8 * n for (_, n), size in runs.items())
    # Two runs never overlap, nor does a page's metadata; the two windows of a cell do, and their code is counted.
    if scheme.rule == "cells" and not layout.plain:
        inside = ~layout.raw[::2]
        both = np.minimum(bits.astype(np.int64), 512).reshape(-1, 2).sum(axis=1) + 2
        cell = end[1::2] - layout.start_bytes[::2]
        assert len(set(cell[inside].tolist())) == 1
        assert (both[inside] <= 8 * cell[inside]).all()
        assert placed.stored_bytes == pytest.approx(
            len(inside) * cell[inside][0] + 128 * (~inside).sum() if inside.any() else 64 * len(bits), abs=64
        )
        return
    spans = sorted((at, at + n) for at, n in runs if n)
    if layout.header_bytes is not None:
        spans += [(int(h), int(h) + 64) for h in layout.header_bytes if h >= 0]
    spans.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert sum(b - a for a, b in spans) <= placed.stored_bytes


def test_lcp_takes_the_smallest_page_that_holds_slots_metadata_and_exceptions() -> None:
    assert of("lcp", same(7)).capacity == 8.0  # 64 x 7 + 64 = 512
    assert of("lcp", same(8)).capacity == 4.0
    assert of("lcp", same(31)).capacity == 2.0  # 64 x 31 + 64 = 2,048
    assert of("lcp", same(32)).capacity == 1.0
    assert of("lcp", same(43)).layout.plain  # bf16 weights: no page size between 2 and 4 KB
    bits = same(20, 128)
    bits[:11] = 512  # 64 x 20 + 64 + 11 x 64 = 2,048
    assert of("lcp", bits).stored_bytes == 4096
    bits[11] = 512
    assert of("lcp", bits).stored_bytes == 2048 + 4096


def test_closed_form_capacities() -> None:
    assert of("compresso", same(30)).capacity == 4096 / (2048 + 64)
    assert of("compresso", same(43)).capacity == 4096 / (4096 + 64)
    assert of("compresso-fitted", same(43)).capacity == pytest.approx(4096 / (6 * 512 + 64))
    assert of("cram", same(15)).capacity == 1.0
    assert of("attache", same(30)).capacity == pytest.approx(1 / 1.002)
    assert of("memzip", same(30)).capacity == 8192 / (8192 + 64)
    assert of("trace", same(43)).capacity == 4096 / (43 * 64 + 8)
    half = (4096 + 43 * 64) / 2
    tmcc = half + 8 + 0.004 * half + 0.015 * 43 * 64 / 2
    assert of("tmcc", same(43)).capacity == pytest.approx(4096 / tmcc)
    assert of("dylect", same(43)).metadata_bytes == pytest.approx(64 * (8.25 + 0.004 * half), rel=1e-6)


def test_cells_hold_two_lines_and_a_flag_each_or_send_both_away() -> None:
    assert of("cells-96", same(47)).capacity == pytest.approx(128 / 96)  # 2 x (376 + 1) bits of 768
    assert of("cells-96", same(48)).layout.plain
    bits = same(47)
    bits[:128:2] = 512
    assert of("cells-96", bits).stored_bytes == 2048 * 96 + 64 * 128
    # Unless told, the cell with the most capacity: 2 x 345 bits and two flags are 87 B.
    assert of("cells", np.full(4096, 345, np.uint16)).stored_bytes == pytest.approx(2048 * 87, abs=64)


def test_a_cell_needs_no_metadata_and_an_exception_asks_its_cell_first() -> None:
    bits = same(47)
    bits[4:6] = 512
    layout = replace(of("cells-96", bits).layout, lines=1 << 16)
    plan = expand_static(workloads.stream(np.array([0, 1, 4], np.int64)), layout, atom_bytes=32, config=CONFIG)
    assert p.METADATA_READ not in plan.kind
    assert plan.kind.tolist() == [p.DATA_READ, p.DATA_READ, p.INDIRECT_READ, p.DATA_READ]
    assert plan.address_bytes.tolist()[:3] == [0, 64, 192]  # line 1 finds an atom of its cell in the line buffer
    assert plan.shared[1, 0] == 0
    assert plan.after.tolist() == [-1, -1, -1, 2]


def test_metadata_in_the_page_is_read_there_and_raw_pages_need_none() -> None:
    bits = same(20, 256)
    bits[64:128] = 512
    placed = of("lcp", bits)
    layout = replace(placed.layout, lines=1 << 16)
    plan = expand_static(workloads.stream(np.array([3, 70, 130], np.int64)), layout, atom_bytes=64, config=CONFIG)
    at = plan.address_bytes[plan.kind == p.METADATA_READ]
    assert at.tolist() == [64 * 20, 2048 + 4096 + 64 * 20]
    assert plan.counters["metadata_lookups"] == 2
    assert placed.metadata_bytes == 3 * 64
    assert layout.metadata_share == pytest.approx(0.75)


def test_metadata_that_the_page_walk_brings_is_not_read() -> None:
    tmcc = schemes()["tmcc"]
    layout = replace(of("tmcc", same(43)).layout, lines=1 << 20)
    stream = workloads.random(20_000, 1 << 20, seed=1)
    config = replace(tmcc.config(CONFIG), metadata_cache_bytes=0)
    reads = [
        int((expand_static(stream, each, atom_bytes=64, config=config).kind == p.METADATA_READ).sum())
        for each in (layout, replace(layout, hidden_share=0.0))
    ]
    assert reads[1] == len(stream)
    assert reads[0] / reads[1] == pytest.approx(0.78, abs=0.01)


def test_a_block_is_read_whole_and_once_by_a_stream() -> None:
    trace = schemes()["trace"]
    layout = of("trace", same(43)).layout
    config = trace.config(CONFIG)
    stream = workloads.stream(np.arange(640, dtype=np.int64))
    plan = expand_static(stream, layout, atom_bytes=32, config=config)
    assert plan.bytes_by_kind()["data_read"] == 10 * 43 * 64
    lone = expand_static(workloads.stream(np.array([5], np.int64)), layout, atom_bytes=32, config=config)
    assert lone.bytes_by_kind()["data_read"] == 43 * 64


def test_published_figures_that_a_count_can_check() -> None:
    known = schemes()
    # A quarter, and the 2 % that look in the wrong place first.
    assert accesses_per_line(known["cram"], "sequential") == pytest.approx(0.25 + 0.02, abs=0.001)
    assert accesses_per_line(known["cram"], "random") == pytest.approx(1.02, abs=0.003)
    assert collisions(known["attache"]) == pytest.approx(2.0**-15, rel=0.05)
    assert 2 / (2 - short_share(known["attache"])) == pytest.approx(1.17)
    assert halves_gain(known["attache"]) == pytest.approx(1.153, abs=0.02)
    _, before, after = split_shares(known["compresso"])
    assert before == pytest.approx(0.309, abs=0.003)
    assert after < before / 2


def test_every_published_figure_has_ours_or_a_reason() -> None:
    for scheme in schemes().values():
        for row in beside(replace(scheme, published=tuple(q for q in scheme.published if q.check != "reach"))):
            assert row["ours"] or row["published"].startswith("25.2 %"), scheme.name
        for published in scheme.published:
            assert not published.check or published.check in CHECKS


def test_a_cache_hits_what_it_reaches() -> None:
    said = CHECKS["reach"](schemes()["tmcc"], None)
    assert said.startswith("32 MiB; uniform random over 512 MiB hits 6.")
    assert "hits 100.0 %" in CHECKS["reach"](schemes()["dylect"], None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rule": "magic"}, "unknown rule 'magic'; use one of"),
        ({"title": ""}, "has no title"),
        ({"figures": {"x": {"value": 1, "status": "sure", "source": "s"}}}, "unknown status 'sure'"),
        ({"published": [{"figure": "f", "workload": "w", "status": "seen"}]}, "either a check or a reason"),
    ],
)
def test_a_bad_entry_is_named(change: dict[str, Any], said: str) -> None:
    good = {"title": "t", "rule": "cells", "source": "s"}
    with pytest.raises(ConfigurationError, match=said):
        parse_scheme("mine", good | change)


def test_a_scheme_without_a_figure_or_layout_says_so() -> None:
    with pytest.raises(ConfigurationError, match="no figure cell_bytes"):
        parse_scheme("mine", {"title": "t", "rule": "cells", "source": "s"}).value("cell_bytes")
    with pytest.raises(ConfigurationError, match="places nothing by itself"):
        of("stream", same(40))
    with pytest.raises(ConfigurationError, match="not whole blocks"):
        of("lcp", same(40, 100))
