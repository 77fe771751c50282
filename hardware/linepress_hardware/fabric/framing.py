"""What a payload costs on the wire: requests, headers, granules, flits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class Framing:
    """How a link cuts a payload.

    Attributes
    ----------
    payload_max_bytes : float
        Largest payload of one packet or request.
    header_bytes, gap_bytes : float
        Added to each packet: what it carries (header, check), what lies between packets (preamble, gap).
    granule_bytes : float
        Payload and header are padded to a multiple of it.
    minimum_bytes : float
        Least size of a packet without its gap.
    flit_bytes, flit_payload_bytes : float
        A data-link flit and what of it is not overhead; equal (or 0) without flits.
    """

    payload_max_bytes: float
    header_bytes: float = 0.0
    gap_bytes: float = 0.0
    granule_bytes: float = 0.0
    minimum_bytes: float = 0.0
    flit_bytes: float = 0.0
    flit_payload_bytes: float = 0.0

    def wire_bytes(self, size_bytes: ArrayLike) -> Any:
        """Bytes on the wire of payloads (float64 of the same shape); flits are shared with neighbours in a stream."""
        size = np.asarray(size_bytes, np.float64)
        if np.any(size < 0):
            raise ConfigurationError(f"payload of {float(size.min()):g} bytes; give 0 or more")
        if not np.isfinite(self.payload_max_bytes):
            return size * self._flits
        whole = np.floor(size / self.payload_max_bytes)
        rest = size - whole * self.payload_max_bytes
        total = whole * self._packet(self.payload_max_bytes)
        total = total + np.where((rest > 0) | (size == 0), self._packet(rest), 0.0)
        return total * self._flits

    def _packet(self, payload: Any) -> Any:
        size = payload + self.header_bytes
        if self.granule_bytes > 0:
            size = np.ceil(size / self.granule_bytes) * self.granule_bytes
        return np.maximum(size, self.minimum_bytes) + self.gap_bytes

    @property
    def _flits(self) -> float:
        return self.flit_bytes / self.flit_payload_bytes if self.flit_payload_bytes else 1.0

    def efficiency(self, size_bytes: float) -> float:
        """Payload over wire bytes of one message of `size_bytes`."""
        if not size_bytes > 0:
            raise ConfigurationError(f"payload of {size_bytes:g} bytes has no efficiency; give a size above 0")
        return float(size_bytes / self.wire_bytes(size_bytes))

    def header_efficiency(self, payload_bytes: float) -> float:
        """P / (P + H) of one packet: headers alone, without padding, gaps and flits."""
        return payload_bytes / (payload_bytes + self.header_bytes)


IDEAL = Framing(float("inf"))
"""No headers: bytes on the wire are the payload."""
