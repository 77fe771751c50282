"""A set-associative metadata cache with least-recently-used replacement, as plain arrays for the kernels.

State: ``tag`` int64[sets, ways] (page number, -1 empty), ``stamp`` int64[sets, ways] (last use), ``dirty``
uint8[sets, ways], ``pending`` int64[sets, ways] (index of the memory request that fetched the entry), ``ahead``
uint8[sets, ways] (fetched ahead and not used yet). A cache of no entries misses always.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_hardware.channel.config import ChannelConfig


@dataclass
class MetadataCache:
    """Tag store of the metadata cache; see the module's text for the arrays."""

    sets: int
    ways: int
    tag: NDArray[np.int64] = field(init=False)
    stamp: NDArray[np.int64] = field(init=False)
    dirty: NDArray[np.uint8] = field(init=False)
    pending: NDArray[np.int64] = field(init=False)
    ahead: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.sets, self.ways)
        self.tag = np.full(shape, -1, np.int64)
        self.stamp = np.zeros(shape, np.int64)
        self.dirty = np.zeros(shape, np.uint8)
        self.pending = np.full(shape, -1, np.int64)
        self.ahead = np.zeros(shape, np.uint8)

    @classmethod
    def of(cls, config: ChannelConfig, entry_bytes: int | None = None) -> MetadataCache:
        """The cache that ``config`` describes: bytes / entry / ways sets (0 bytes: no set, every look-up misses).

        ``entry_bytes`` is the unit fetched and held where one page needs more than the configured entry.
        """
        ways = config.metadata_cache_ways
        return cls(config.metadata_cache_bytes // (max(entry_bytes or 0, config.metadata_entry_bytes) * ways), ways)

    @property
    def entries(self) -> int:
        return self.sets * self.ways


@njit(cache=True)
def lookup(tag: NDArray[np.int64], stamp: NDArray[np.int64], page: int, now: int) -> int:
    """Way that holds ``page`` (and touch it), -1 on a miss."""
    sets = tag.shape[0]
    if sets == 0:
        return -1
    s = page % sets
    for w in range(tag.shape[1]):
        if tag[s, w] == page:
            stamp[s, w] = now
            return w
    return -1


@njit(cache=True)
def holds(tag: NDArray[np.int64], page: int) -> bool:
    """Whether ``page`` is in the cache, without touching it."""
    sets = tag.shape[0]
    if sets == 0:
        return False
    s = page % sets
    for w in range(tag.shape[1]):  # noqa: SIM110 - a generator does not compile
        if tag[s, w] == page:
            return True
    return False


@njit(cache=True)
def victim(tag: NDArray[np.int64], stamp: NDArray[np.int64], page: int) -> int:
    """Way to fill for ``page``: an empty one, else the least recently used; -1 where the cache has no sets."""
    sets = tag.shape[0]
    if sets == 0:
        return -1
    s = page % sets
    best = 0
    for w in range(tag.shape[1]):
        if tag[s, w] < 0:
            return w
        if stamp[s, w] < stamp[s, best]:
            best = w
    return best


@njit(cache=True)
def warm(tag: NDArray[np.int64], stamp: NDArray[np.int64], line: NDArray[np.int64], lines_per_entry: int) -> None:
    """Touch the entries of ``line`` as past accesses would have left them; stamps lie before every later one."""
    n = line.shape[0]
    for i in range(n):
        entry = line[i] // lines_per_entry
        if lookup(tag, stamp, entry, i - n) < 0:
            way = victim(tag, stamp, entry)
            if way >= 0:
                tag[entry % tag.shape[0], way] = entry
                stamp[entry % tag.shape[0], way] = i - n
