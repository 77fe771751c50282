"""How the engine's functions are compiled, and why so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function that allocates nothing, without reference counts.

    Numba counts a reference to every array argument at every call, atomically; with some fifteen arrays and a dozen
    calls an event that took ten times as long as the work. `_nrt=False` leaves the counting out, which is sound where
    nothing is allocated: numba refuses to compile an allocation under it.
    """
    options: dict[str, Any] = {"cache": True, "_nrt": False}
    return cast(F, numba.njit(**options)(function))


def inlined(function: F) -> F:
    """As `kernel`, and copied into its callers: passing fifteen arrays by value costs more than most bodies."""
    options: dict[str, Any] = {"cache": True, "_nrt": False, "inline": "always"}
    return cast(F, numba.njit(**options)(function))
