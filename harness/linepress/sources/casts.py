"""Recorded casts, streamed: bf16, fp16 and fp32 tensors to OFP8, and block-quantised tensors to what they stand for.

A cast is written ``e4m3:scale=tensor``. Each element is divided by its scale in binary32, clipped to the format's
largest finite value (the saturating mode of the OCP 8-bit floating point specification 1.0, § 5.2.1: infinities
become the largest value, NaN stays NaN) and rounded to nearest, ties to even, by ml_dtypes. The scale is
``absmax / largest`` in binary32 over finite elements, 1 where absmax is zero:

- ``none``: 1 for every element;
- ``tensor``: one scale for the tensor (per-tensor absmax);
- ``channel``: one per channel: a row of a weight ``[out, in]``, a head and channel of a cache
  ``[heads, tokens, head_dim]``.

How a tensor was scaled changes how far it compresses, so the cast is part of the case.

``dequant:bf16`` (``fp16``, ``fp32``) unpacks the blocks of a GGUF tensor to binary32
(`linepress.sources.gguf.dequantise`) and rounds to nearest, ties to even; floating-point tensors of the same file
are rounded alike, as a loader does.
Dequantised weights take few values and overstate how far trained weights compress: reports name them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress.errors import EXIT_USAGE, SourceError
from linepress.sources.bytes import Bytes, Location
from linepress.sources.gguf.dequantise import DEQUANTISERS
from linepress.sources.gguf.ggml import ggml_type
from linepress.sources.memo import Memo

PASS_BYTES = 8 << 20

_FLOATS: Mapping[str, Any] = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
}
_TARGETS: Mapping[str, Any] = {
    "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
# largest finite values: OCP OFP8 specification 1.0, table 1; FNUZ: arXiv 2206.02915
_LARGEST: Mapping[str, float] = {"e4m3": 448.0, "e5m2": 57344.0, "e4m3fnuz": 240.0, "e5m2fnuz": 57344.0}
SCALES = ("none", "tensor", "channel")
DEQUANT = "dequant"


class CastError(SourceError):
    """A cast that does not exist, or that does not take the tensor's format."""

    exit_code = EXIT_USAGE


class Stored(Location, Protocol):
    """An array as stored that a cast reads: a stretch of bytes that says what its elements are (`TensorRef`)."""

    @property
    def name(self) -> str: ...

    @property
    def stored_format(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast to ``target`` with scaling ``scale``; ``spec`` is how it is written and recorded.

    ``dequant`` unpacks block-quantised tensors; ``target`` is then a 16- or 32-bit format and nothing is scaled.
    """

    target: str
    scale: str = "none"
    dequant: bool = False

    @classmethod
    def parse(cls, text: str) -> Cast:
        """``e4m3``, ``e5m2:scale=tensor``, ``dequant:bf16`` …; raises `CastError` with a valid example."""
        target, *options = text.strip().split(":")
        if target == DEQUANT:
            if len(options) != 1 or options[0] not in _FLOATS:
                raise CastError(
                    f"cast {text!r} does not say to what: use {', '.join(_FLOATS)}, for example dequant:bf16"
                )
            return cls(options[0], dequant=True)
        if target not in _TARGETS:
            raise CastError(
                f"unknown cast {text!r}: use {', '.join(_TARGETS)} or {DEQUANT}:bf16, for example e4m3:scale=tensor"
            )
        scale = "none"
        for option in options:
            key, _, value = option.partition("=")
            if key != "scale" or value not in SCALES:
                raise CastError(
                    f"cast {text!r}: {option!r} is not scale={'|'.join(SCALES)}; for example {target}:scale=tensor"
                )
            scale = value
        return cls(target, scale)

    @property
    def spec(self) -> str:
        """Canonical text; the scaling is always spelt out, for it belongs in every record."""
        return f"{DEQUANT}:{self.target}" if self.dequant else f"{self.target}:scale={self.scale}"

    def shape_of(self, tensor: Stored) -> tuple[int, ...]:
        """Shape after the cast; raises `CastError` unless ``tensor`` can be cast."""
        if tensor.stored_format in _FLOATS and "#" not in tensor.name:
            return tensor.shape
        if not self.dequant:
            raise CastError(
                f"tensor {tensor.name!r} is stored as {tensor.stored_format}: a cast to {self.target} takes "
                f"{', '.join(_FLOATS)}"
            )
        name = tensor.metadata.get("ggml_type", "")
        if name not in DEQUANTISERS or "#" in tensor.name:
            raise CastError(
                f"tensor {tensor.name!r} is stored as {name or tensor.stored_format}: {DEQUANT} takes GGUF tensors, "
                f"not split, of {', '.join(DEQUANTISERS)}, F16, BF16 and F32; measure it as stored"
            )
        kind = ggml_type(name)
        return (*tensor.shape[:-1], tensor.shape[-1] // kind.block_bytes * kind.block_elements)


def largest(target: str) -> float:
    """Largest finite value of a cast's target format: 448 for e4m3, 57344 for e5m2, 240 and 57344 for FNUZ."""
    return _LARGEST[target]


def cast_values(values: NDArray[np.float32], scales: NDArray[np.float32] | np.float32, target: str) -> Bytes:
    """Cast binary32 ``values`` with ``scales`` (broadcastable); uint8 bits of ``target``, same shape.

    Bit for bit what ml_dtypes gives for ``clip(values / scales)``.
    """
    given = np.ascontiguousarray(values)
    each = np.broadcast_to(np.asarray(scales, np.float32), given.shape).reshape(-1)
    return _cast(given.reshape(-1).view(np.uint32), 0, each, target).reshape(given.shape)


def _cast(items: NDArray[np.unsignedinteger], shift: int, scales: NDArray[np.float32], target: str) -> Bytes:
    out = np.empty(items.shape, np.uint8)
    cast_flat(items, np.uint32(shift), scales, np.float32(largest(target)), rounding_table(target), out)
    return out


def float_bits(raw: Bytes, stored_format: str) -> tuple[NDArray[np.unsignedinteger], int]:
    """Stored bytes of bf16, fp16 or fp32 as (items, how far to the left each is a binary32)."""
    if stored_format == "bf16":
        return raw.view("<u2"), 16
    return to_float32(raw, stored_format).view(np.uint32), 0


@cache
def rounding_table(target: str) -> Bytes:
    """Bits of ``target`` for each upper half of a binary32, uint8[65536].

    A binary32 is cut to its upper half with the lowest bit set where anything is lost (rounding to odd, Boldo and
    Melquiond 2008): seven bits of mantissa are more than two above the three of the widest target, so that rounding
    again, to nearest, gives what rounding once would.
    """
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(ml_dtypes.bfloat16)
    with np.errstate(over="ignore", invalid="ignore"):
        table: Bytes = halves.astype(np.float32).astype(_TARGETS[target]).view(np.uint8)
    table.setflags(write=False)
    return table


@njit(cache=True, error_model="numpy")
def cast_flat(items, shift, scales, top, table, out):  # type: ignore[no-untyped-def]
    """Divide, clip and round the binary32 ``items << shift`` into out uint8[n]; scales float32[n], or [1] for all."""
    per_value = scales.shape[0] > 1
    scale = scales[0] if scales.shape[0] else np.float32(1)
    scaled = np.empty(256, np.float32)
    words = scaled.view(np.uint32)
    for start in range(0, items.shape[0], 256):
        n = min(256, items.shape[0] - start)
        for k in range(n):
            words[k] = np.uint32(items[start + k]) << shift
        for k in range(n):
            value = scaled[k] / (scales[start + k] if per_value else scale)
            # A comparison with NaN is false, so that NaN passes.
            if value > top:
                value = top
            elif value < -top:
                value = -top
            scaled[k] = value
        for k in range(n):
            word = words[k]
            out[start + k] = table[(word >> np.uint32(16)) | np.uint32((word & np.uint32(0xFFFF)) != 0)]


def to_float32(raw: Bytes, stored_format: str) -> NDArray[np.float32]:
    """Stored bytes of bf16, fp16 or fp32 as binary32, exactly."""
    with np.errstate(invalid="ignore"):
        values: NDArray[np.float32] = raw.view(_FLOATS[stored_format]).astype(np.float32)
        return values


def channel_of(shape: tuple[int, ...], start: int, end: int) -> tuple[NDArray[np.int64], int]:
    """Channel of elements ``start … end`` in row-major order, and how many channels there are.

    A channel of ``[heads, tokens, head_dim]`` is (head, d); of ``[out, in]`` a row; of one axis the whole tensor.
    """
    index = np.arange(start, end, dtype=np.int64)
    if len(shape) == 3:
        heads, tokens, dim = shape
        return (index // (tokens * dim)) * dim + index % dim, heads * dim
    if len(shape) < 2:
        return np.zeros(end - start, dtype=np.int64), 1
    row = math.prod(shape[1:])
    return index // row, shape[0]


def cast_range(stored: Stored, cast: Cast, start_byte: int, end_byte: int) -> Bytes:
    """Bytes ``start_byte … end_byte`` of ``stored`` after the cast, uint8, for whole elements."""
    if cast.dequant:
        return _dequantised(stored, start_byte, end_byte, cast.target)
    width = _width(stored)
    items, shift = float_bits(stored.read(start_byte * width, end_byte * width), stored.stored_format)
    scales = scales_of(stored, cast)
    if cast.scale == "channel":
        scales = scales[channel_of(stored.shape, start_byte, end_byte)[0]]
    return _cast(items, shift, scales, cast.target)


def _width(stored: Stored) -> int:
    """Bytes of an element of a floating-point array."""
    return int(_FLOATS[stored.stored_format].itemsize)


def _dequantised(stored: Stored, start_byte: int, end_byte: int, target: str) -> Bytes:
    """Bytes ``start_byte … end_byte`` of the values that a block-quantised or float tensor stands for."""
    out = np.dtype(_FLOATS[target])
    first, last = start_byte // out.itemsize, -(-end_byte // out.itemsize)
    if stored.stored_format in _FLOATS:
        width = _width(stored)
        values = to_float32(stored.read(first * width, last * width), stored.stored_format)
        offset = 0
    else:
        kind = ggml_type(stored.metadata["ggml_type"])
        begin, end = first // kind.block_elements, -(-last // kind.block_elements)
        blocks = stored.read(begin * kind.block_bytes, end * kind.block_bytes).reshape(-1, kind.block_bytes)
        with np.errstate(over="ignore", invalid="ignore"):  # scales that are not finite stay what they are
            values = DEQUANTISERS[kind.name](blocks).reshape(-1)
        offset = first - begin * kind.block_elements
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values[offset : offset + last - first].astype(out).view(np.uint8)
    at = start_byte - first * out.itemsize
    part: Bytes = rounded[at : at + end_byte - start_byte].copy()
    return part


def scales_of(stored: Stored, cast: Cast) -> NDArray[np.float32]:
    """The scales of a cast, float32[channels] (one where the scaling is none or per tensor).

    The absmax pass streams the tensor once; the result is kept per process for the next variants of the same tensor.
    """
    return _SCALES.get(f"{stored.identity}|{cast.spec}", lambda: _find_scales(stored, cast))


_SCALES: Memo[NDArray[np.float32]] = Memo(16)


@njit(cache=True)
def widen(items, shift, channel, top):  # type: ignore[no-untyped-def]
    """Raise top uint32[channels], bits of a binary32, to the largest finite ``items << shift``.

    channel : int64[n], or [1] for all
    """
    low, finite = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
    if channel.shape[0] == 1:
        most = top[channel[0]]
        for i in range(items.shape[0]):
            magnitude = (np.uint32(items[i]) << shift) & low
            most = max(most, magnitude if magnitude < finite else np.uint32(0))
        top[channel[0]] = most
    else:
        for i in range(items.shape[0]):
            magnitude = (np.uint32(items[i]) << shift) & low
            if magnitude < finite and magnitude > top[channel[i]]:
                top[channel[i]] = magnitude


def _find_scales(stored: Stored, cast: Cast) -> NDArray[np.float32]:
    if cast.scale == "none":
        return np.ones(1, dtype=np.float32)
    width = _width(stored)
    n = stored.n_bytes // width
    n_channels = channel_of(stored.shape, 0, 0)[1] if cast.scale == "channel" else 1
    absmax = np.zeros(n_channels, dtype=np.float32)
    step = PASS_BYTES // width
    for start in range(0, n, step):
        end = min(start + step, n)
        items, shift = float_bits(stored.read(start * width, end * width), stored.stored_format)
        channel = channel_of(stored.shape, start, end)[0] if n_channels > 1 else np.zeros(1, np.int64)
        widen(items, np.uint32(shift), channel, absmax.view(np.uint32))
    scales = absmax / np.float32(largest(cast.target))
    scales[scales == 0] = 1  # a silent channel, or one so small that its scale would be zero
    if not np.isfinite(scales).all():
        raise SourceError(f"tensor {stored.name!r}: no finite scale for {cast.spec}")
    scales.setflags(write=False)
    return scales
