"""The metadata cache against a reference model of least-recently-used sets."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.metadata_cache import MetadataCache, holds, lookup, victim, warm


@settings(deadline=None, max_examples=60)
@given(
    pages=st.lists(st.integers(0, 40), min_size=1, max_size=200),
    sets=st.integers(0, 4),
    ways=st.integers(1, 4),
)
def test_hits_equal_the_reference(pages: list[int], sets: int, ways: int) -> None:
    cache = MetadataCache(sets, ways)
    reference: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(sets)]
    for now, page in enumerate(pages, start=1):
        hit = lookup(cache.tag, cache.stamp, page, now) >= 0
        if sets == 0:
            assert not hit
            assert victim(cache.tag, cache.stamp, page) == -1
            assert not holds(cache.tag, page)
            continue
        mine = reference[page % sets]
        assert hit == (page in mine) == (holds(cache.tag, page) or hit)
        if hit:
            mine.move_to_end(page)
            continue
        way = victim(cache.tag, cache.stamp, page)
        if len(mine) == ways:
            gone, _ = mine.popitem(last=False)
            assert cache.tag[page % sets, way] == gone
        mine[page] = None
        cache.tag[page % sets, way] = page
        cache.stamp[page % sets, way] = now


def test_size_follows_the_configuration() -> None:
    cache = MetadataCache.of(default_config())
    assert (cache.sets, cache.ways, cache.entries) == (192, 8, 1536)
    assert MetadataCache.of(default_config(), 128).entries == 768
    assert MetadataCache.of(default_config().override({"metadata_cache_bytes": 0})).entries == 0


def test_warming_leaves_the_latest_entries_older_than_any_access() -> None:
    cache = MetadataCache(1, 2)
    warm(cache.tag, cache.stamp, np.array([0, 64, 128], np.int64), 64)
    assert sorted(cache.tag[0].tolist()) == [1, 2]
    assert (cache.stamp < 0).all()
