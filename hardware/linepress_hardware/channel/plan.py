"""What translation hands to the memory: requests of whole atoms, what each waits for, and bookkeeping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Kinds of memory request; the bus bytes of a run are split by them.
DATA_READ = 0
DATA_WRITE = 1
METADATA_READ = 2
METADATA_WRITE = 3
RMW_READ = 4
MOVE_READ = 5
MOVE_WRITE = 6
PREFETCH = 7
INDIRECT_READ = 8
"""A slot read only to learn where the exception lies."""
KIND_NAMES = (
    "data_read",
    "data_write",
    "metadata_read",
    "metadata_write",
    "rmw_read",
    "move_read",
    "move_write",
    "prefetch",
    "indirect_read",
)


@dataclass(frozen=True)
class RequestPlan:
    """Memory requests of a stream of accesses, in the order of issue.

    Attributes
    ----------
    address_bytes : uint64[m]
        Atom-aligned address.
    size_bytes : int64[m]
        Contiguous whole atoms.
    is_write : bool[m]
    after : int64[m]
        Earlier request that must have finished before this one may be issued, -1 none.
    why : int8[m]
        What the wait stands for (`WAIT_METADATA`, `WAIT_MERGE`): decides the delay on top of it.
    kind : int8[m]
        Index into `KIND_NAMES`.
    access : int64[m]
        Access that caused the request.
    first, last : int64[n]
        Half-open range of requests of an access.
    shared : int64[n, 2]
        Requests of earlier accesses whose atoms this access takes from the line buffer, -1 none.
    metadata : int64[n]
        Request that fetched the metadata this access needs (its own, or one still on its way), -1 none.
    length_bytes : int32[n]
        Coded bytes of the line read or written; 0 for the zero class.
    raw : bool[n]
        The line is stored raw and may bypass the decoder.
    failed : int8[n]
        0, or the reason the access was refused: `REFUSED_CAPACITY`, `REFUSED_READ_ONLY`, `REFUSED_UNMAPPED`.
    counters : dict[str, int]
        Look-ups, hits, line-buffer hits, overflows and the like.
    """

    address_bytes: NDArray[np.uint64]
    size_bytes: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    after: NDArray[np.int64]
    why: NDArray[np.int8]
    kind: NDArray[np.int8]
    access: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    shared: NDArray[np.int64]
    metadata: NDArray[np.int64]
    length_bytes: NDArray[np.int32]
    raw: NDArray[np.bool_]
    failed: NDArray[np.int8]
    counters: dict[str, int]

    @property
    def accesses(self) -> int:
        return int(self.first.shape[0])

    @property
    def requests(self) -> int:
        return int(self.address_bytes.shape[0])

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes on the bus by kind of request; their sum is atoms × atom size."""
        sums = np.bincount(self.kind, weights=self.size_bytes, minlength=len(KIND_NAMES))
        return {name: int(total) for name, total in zip(KIND_NAMES, sums, strict=True)}


WAIT_NONE = 0
WAIT_METADATA = 1
"""The page's metadata must have arrived."""
WAIT_MERGE = 2
"""The old atom of a read-modify-write must have arrived."""


@dataclass(frozen=True)
class RequestBuffers:
    """Arrays that a translation kernel fills: room for ``most`` requests of n accesses."""

    address: NDArray[np.uint64]
    size: NDArray[np.int64]
    write: NDArray[np.bool_]
    after: NDArray[np.int64]
    why: NDArray[np.int8]
    kind: NDArray[np.int8]
    access: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    shared: NDArray[np.int64]
    metadata: NDArray[np.int64]
    length: NDArray[np.int32]
    failed: NDArray[np.int8]

    @classmethod
    def of(cls, most: int, n: int) -> RequestBuffers:
        return cls(
            np.empty(most, np.uint64),
            np.empty(most, np.int64),
            np.empty(most, np.bool_),
            np.empty(most, np.int64),
            np.empty(most, np.int8),
            np.empty(most, np.int8),
            np.empty(most, np.int64),
            np.empty(n, np.int64),
            np.empty(n, np.int64),
            np.empty((n, 2), np.int64),
            np.empty(n, np.int64),
            np.zeros(n, np.int32),
            np.zeros(n, np.int8),
        )

    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """In the order in which every kernel takes them."""
        return (
            self.address,
            self.size,
            self.write,
            self.after,
            self.why,
            self.kind,
            self.access,
            self.first,
            self.last,
            self.shared,
            self.metadata,
            self.length,
            self.failed,
        )

    def plan(
        self, m: int, counters: dict[str, int], line_bytes: int, raw: NDArray[np.bool_] | None = None
    ) -> RequestPlan:
        """The first ``m`` requests as a plan; a line is raw where it takes all ``line_bytes``, or as ``raw`` says."""
        return RequestPlan(
            self.address[:m].copy(),
            self.size[:m].copy(),
            self.write[:m].copy(),
            self.after[:m].copy(),
            self.why[:m].copy(),
            self.kind[:m].copy(),
            self.access[:m].copy(),
            self.first,
            self.last,
            self.shared,
            self.metadata,
            self.length,
            self.length >= line_bytes if raw is None else raw,
            self.failed,
            counters,
        )


REFUSED_CAPACITY = 1
REFUSED_READ_ONLY = 2
REFUSED_UNMAPPED = 3
