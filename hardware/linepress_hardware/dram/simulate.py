"""One channel, arrays in and a `DramResult` out. SKELETON of the signature; the engine follows within the hour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.results import DramResult


def simulate(
    part: Any,
    address_bytes: NDArray[np.uint64],
    is_write: NDArray[np.bool_],
    arrival_ns: NDArray[np.float64] | None = None,
    *,
    mapping: Any = None,
    policy: Any = None,
    window: int | None = None,
    request_bytes: int | NDArray[np.int64] = 64,
    after: NDArray[np.int64] | None = None,
    after_delay_ns: float | NDArray[np.float64] = 0.0,
    log: bool = False,
) -> DramResult:
    """Simulate requests on one channel.

    ``address_bytes`` need not be aligned and ``request_bytes`` may differ per request: a request touches every atom
    of ``[address, address + bytes)``. ``mapping`` and ``policy`` are None (the part's defaults), a name/spec string or
    objects. ``after[i] = j < i``: request i is offered ``after_delay_ns`` after request j has finished (and not
    before its own arrival); it does not hold up the others while it waits.
    """
    raise NotImplementedError
