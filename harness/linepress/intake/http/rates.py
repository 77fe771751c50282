"""Rate limits: one token bucket for each key, in memory.

A service of several processes limits each process; put a limit for all in the proxy (``deploy/intake.md``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

KEYS_KEPT = 10_000


class Rates:
    """Token buckets by key; a bucket holds ``burst`` and refills at ``per_s``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, per_s: float, burst: float, cost: float = 1.0) -> float:
        """Take ``cost`` from the bucket; 0.0 when it was there, else seconds to wait (nothing is then taken)."""
        with self._lock:
            left = self._left(key, per_s, burst)
            if left < cost:
                return (cost - left) / per_s
            self._buckets[key] = (left - cost, self._clock())
            return 0.0

    def wait_s(self, key: str, per_s: float, burst: float) -> float:
        """Seconds until one is in the bucket; takes nothing."""
        with self._lock:
            return max(0.0, (1.0 - self._left(key, per_s, burst)) / per_s)

    def _left(self, key: str, per_s: float, burst: float) -> float:
        now = self._clock()
        if key not in self._buckets and len(self._buckets) >= KEYS_KEPT:
            # The bucket longest untouched is the fullest; forgetting it forgives the least.
            del self._buckets[min(self._buckets, key=lambda known: self._buckets[known][1])]
        left, at = self._buckets.get(key, (burst, now))
        return min(burst, left + (now - at) * per_s)
