"""Connections of the service: how many an address may hold, and how long the head of a request may take.

A server that waits for heads without end is held up by whoever sends half of one; uvicorn has a limit for all
connections together and a time for idle ones, and neither of these.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: 72\r\n\r\n"
    b'{"code": "connections", "error": "too many connections; close some"}    '
)
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def limited(header_s: float, most: int, uncounted: tuple[str, ...] = ()) -> type[H11Protocol]:
    """A protocol for uvicorn.

    Parameters
    ----------
    header_s : float
        Longest time from the connection, or the answer before, to the end of a request's head.
    most : int
        Connections that one address may hold.
    uncounted : tuple of str
        Addresses that may hold any number: proxies.
    """
    held: Counter[str] = Counter()

    class Limited(H11Protocol):
        """One connection."""

        _late: asyncio.TimerHandle | None = None
        _address: str | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            address = self.client[0] if self.client else ""
            if address not in uncounted:
                self._address = address
                held[address] += 1
                if held[address] > most:
                    transport.write(_TOO_MANY)
                    transport.close()
                    return
            self._watch()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)
                self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._address is not None:
                held[self._address] -= 1
                if not held[self._address]:
                    del held[self._address]
                self._address = None
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Run the clock while the head of a request is still to come, and only then."""
            if self.conn.their_state is not h11.IDLE:
                self._stop()
            elif self._late is None:
                self._late = self.loop.call_later(header_s, self._end)

        def _stop(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _end(self) -> None:
            self._late = None
            if not self.transport.is_closing():
                self.transport.write(_TOO_LATE)
                self.transport.close()

    return Limited
