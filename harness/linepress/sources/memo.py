"""A small per-process memory for results that several cases on the same tensor share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """The last ``size`` results by key; a key must change whenever the result may."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, compute: Callable[[], T]) -> T:
        """The kept result of ``key``, computed first where there is none."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        result = compute()
        self._kept[key] = result
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return result

    def find(self, key: str) -> T | None:
        """The kept result of ``key``, None where there is none."""
        return self._kept.get(key)

    def clear(self) -> None:
        self._kept.clear()
