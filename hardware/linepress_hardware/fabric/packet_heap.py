"""A binary heap of (time, serial number, code) over plain arrays, for the packet simulation."""

from __future__ import annotations

from typing import Any

from numba import njit


@njit(cache=True)
def push(time: Any, serial: Any, code: Any, size: int, at: Any, number: int, what: Any) -> Any:
    """Add an event to a heap of `size` entries; returns the new size. The arrays must have room."""
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if time[parent] < at or (time[parent] == at and serial[parent] < number):
            break
        time[i], serial[i], code[i] = time[parent], serial[parent], code[parent]
        i = parent
    time[i], serial[i], code[i] = at, number, what
    return size + 1


@njit(cache=True)
def drop_first(time: Any, serial: Any, code: Any, size: int) -> int:
    """Take the earliest event (index 0) off the heap; returns the new size."""
    size -= 1
    at, number, what = time[size], serial[size], code[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            time[right] < time[child] or (time[right] == time[child] and serial[right] < serial[child])
        ):
            child = right
        if time[child] > at or (time[child] == at and serial[child] > number):
            break
        time[i], serial[i], code[i] = time[child], serial[child], code[child]
        i = child
    time[i], serial[i], code[i] = at, number, what
    return size
