"""``planes``: bit planes of a block's elements, exponents less their run's smallest, then Zstandard; after TRACE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.codecs.block import BLOCK_METADATA
from linepress_codecs.codecs.zstd import Zstd
from linepress_codecs.registry import register

RUN = 32
"""Elements that share a base exponent: the tokens of one channel in a 64 B line of layout `channel`."""
MANTISSA, EXPONENT = 7, 0xFF


def to_planes(block: bytes | memoryview) -> bytes:
    """bf16 elements as base exponents, one a run, then sixteen bit planes, the sign's first; what is no whole run of
    elements follows as it is."""
    data = np.frombuffer(block, np.uint8)
    whole = len(data) // (2 * RUN) * 2 * RUN
    runs = data[:whole].view("<u2").reshape(-1, RUN).astype(np.uint16)
    exponent = (runs >> MANTISSA) & EXPONENT
    base = exponent.min(axis=1, keepdims=True) if len(runs) else np.zeros((0, 1), np.uint16)
    less = (runs & ~np.uint16(EXPONENT << MANTISSA)) | ((exponent - base) << MANTISSA)
    planes = np.unpackbits(less.astype(">u2").reshape(-1).view(np.uint8).reshape(-1, 2), axis=1).T
    packed: NDArray[np.uint8] = np.packbits(planes, axis=1)
    return base.astype(np.uint8).tobytes() + packed.tobytes() + data[whole:].tobytes()


def from_planes(code: bytes) -> bytes:
    """Inverse of `to_planes`."""
    runs = len(code) // (2 * RUN + 1)
    data = np.frombuffer(code, np.uint8)
    base, body, rest = data[:runs], data[runs : runs * (2 * RUN + 1)], data[runs * (2 * RUN + 1) :]
    bits = np.unpackbits(body.reshape(16, -1), axis=1) if runs else np.zeros((16, 0), np.uint8)
    less = np.packbits(bits.T, axis=1).reshape(-1).view(">u2").astype(np.uint16).reshape(-1, RUN)
    exponent = ((less >> MANTISSA) & EXPONENT) + base[:, None].astype(np.uint16)
    elements = (less & ~np.uint16(EXPONENT << MANTISSA)) | ((exponent & EXPONENT) << MANTISSA)
    return elements.astype("<u2").tobytes() + rest.tobytes()


@register
@dataclass(frozen=True)
class Planes(Zstd):
    """What TRACE says of its code: channel-major lines, base exponents, bit planes, then a general code on 4 KiB.

    For bf16 in layout `channel`. The publication leaves open which general code and which runs; here Zstandard and
    the 32 tokens of one channel in a line.
    """

    codec_id: ClassVar[str] = "planes"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "bit planes of bf16 blocks, base exponents taken off, then Zstandard (TRACE-like)"
    source: ClassVar[str] = "TRACE, arXiv:2509.03377, as its abstract tells it; Zstandard, RFC 8878"

    level: int = field(default=3, metadata={"choices": tuple(range(1, 23)), "help": "Zstandard's level"})
    block: int = field(default=4 << 10, metadata=BLOCK_METADATA)

    def _compress(self, block: memoryview) -> bytes:
        return super()._compress(memoryview(to_planes(block)))

    def _decompress(self, code: memoryview, n: int) -> bytes:
        return from_planes(super()._decompress(code, n + n // (2 * RUN)))
