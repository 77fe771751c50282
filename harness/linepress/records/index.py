"""Which stored rows stand, and where they lie: small arrays instead of a million keys.

A table is stored in parts; of each case the last part that has it as ok stands, else the last part that has it. The
keys are read part by part and become numbers at once, so that the memory is some 40 bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

INDEX_COLUMNS = ("case_key", "row", "status")
STATES = ("", "planned", "running", "ok", "failed", "skipped")
_OK = STATES.index("ok")


@dataclass(frozen=True)
class Index:
    """Every current row, in written order.

    Attributes
    ----------
    place : int64[n]
        Place of the row's case in the order that was given; cases that are not in it follow, each with a place.
    part, at, row : int64[n]
        Number of the part, position in it, and number of the row within its case.
    state : int64[n]
        Place of the status in `STATES`.
    known : int
        Cases in the order that was given.
    """

    place: NDArray[np.int64]
    part: NDArray[np.int64]
    at: NDArray[np.int64]
    row: NDArray[np.int64]
    state: NDArray[np.int64]
    known: int

    def __len__(self) -> int:
        return len(self.place)

    def take(self, wanted: NDArray[np.int64] | NDArray[np.bool_]) -> Index:
        """The rows that a mask or positions name."""
        parts = (self.place, self.part, self.at, self.row, self.state)
        place, part, at, row, state = (values[wanted] for values in parts)
        return Index(place, part, at, row, state, self.known)

    def by_place(self) -> NDArray[np.int64]:
        """Positions that sort by place (all unknown cases last, as written), then by part, row and position."""
        return np.lexsort((self.at, self.row, self.part, np.minimum(self.place, self.known)))

    def counts(self) -> dict[str, int]:
        """Status -> number of cases."""
        _, first = np.unique(self.place, return_index=True)
        numbers = np.bincount(self.state[first], minlength=len(STATES))
        return {name: int(number) for name, number in zip(STATES, numbers, strict=True) if number}


def build_index(parts: Iterable[pa.Table], order: Mapping[str, int] | None = None) -> Index:
    """The index of a table from the `INDEX_COLUMNS` of its parts; ``order`` numbers its cases from 0 without gaps."""
    known = {} if order is None else order
    more: dict[str, int] = {}
    places: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    states: list[NDArray[np.int64]] = []
    for part in parts:
        keys = part["case_key"].to_pylist()
        found = [known.get(key, -1) for key in keys]
        for i, place in enumerate(found):
            if place < 0:
                found[i] = more.setdefault(keys[i], len(known) + len(more))
        places.append(np.array(found, np.int64))
        rows.append(part["row"].to_numpy().astype(np.int64))
        states.append(state_numbers(part["status"]))
    lengths = [len(some) for some in places]
    if not lengths:
        none = np.zeros(0, np.int64)
        return Index(none, none, none, none, none, len(known))
    whole = Index(
        np.concatenate(places),
        np.repeat(np.arange(len(lengths)), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        np.concatenate(rows),
        np.concatenate(states),
        len(known),
    )
    rank = whole.part + np.where(whole.state == _OK, len(lengths), 0)
    best = np.full(len(known) + len(more), -1, np.int64)
    np.maximum.at(best, whole.place, rank)
    stands = best[whole.place] % len(lengths) == whole.part
    return whole if stands.all() else whole.take(stands)


def state_numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Each status as its place in `STATES`."""
    found = pc.index_in(column, value_set=pa.array(STATES)).fill_null(0)
    return np.asarray(found.to_numpy(), np.int64)


class States(Mapping[str, str]):
    """Case key -> status of the recorded cases among those of a plan; one byte a case beside the plan's own keys."""

    def __init__(self, order: Mapping[str, int], index: Index) -> None:
        self._order = order
        self._state = np.zeros(len(order), np.int8)
        planned = index.place < index.known
        self._state[index.place[planned]] = index.state[planned]

    def __getitem__(self, key: str) -> str:
        state = self._state[self._order[key]]
        if state == 0:
            raise KeyError(key)
        return STATES[state]

    def __iter__(self) -> Iterator[str]:
        return (key for key, place in self._order.items() if self._state[place])

    def __len__(self) -> int:
        return int(np.count_nonzero(self._state))
