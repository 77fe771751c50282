"""Recorded casts, streamed: floating-point tensors to OFP8 or KIVI, block-quantised tensors to what they stand for.

A cast is written ``e4m3:scale=tensor``. Each element is divided by its scale in binary32, clipped to the format's
largest finite value (the saturating mode of the OCP 8-bit floating point specification 1.0, § 5.2.1: infinities
become the largest value, NaN stays NaN) and rounded to nearest, ties to even, by ml_dtypes. The scale is
``absmax / largest`` in binary32 over finite elements, 1 where absmax is zero:

- ``none``: 1 for every element;
- ``tensor``: one scale for the tensor (per-tensor absmax);
- ``channel``: one per channel: a row of a weight ``[out, in]``, a head and channel of a cache
  ``[heads, tokens, head_dim]``.

``int4:scale=kivi`` and ``int8:scale=kivi`` quantise a KV cache as KIVI does (Liu et al., arXiv 2402.02750;
jy-yuan/KIVI@150def8 quant/new_pack.py): keys by groups of `KIVI_GROUP` tokens of a channel, values by groups of as
many channels of a token, each from its least to its largest value; the newest `KIVI_RESIDUAL` tokens stay as they
are. The cast is of the codes alone, in the order of the cache (KIVI packs along the groups); `kivi_beside_bytes` says
what scales, least values and the newest tokens take beside them.

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
from functools import cache, lru_cache
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
KIVI = "kivi"
KIVI_BITS: Mapping[str, int] = {"int4": 4, "int8": 8}
KIVI_GROUP, KIVI_RESIDUAL = 32, 128
"""Values of a group (jy-yuan/KIVI@52f7615 example.py) and newest tokens kept in full precision (Transformers 5.24.0,
cache_utils.py, QuantizedLayer)."""


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
    def kind(self) -> str: ...

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
        if target in KIVI_BITS:
            if options != [f"scale={KIVI}"]:
                raise CastError(f"cast {text!r} does not say how it is quantised: use {target}:scale={KIVI}")
            return cls(target, KIVI)
        if target not in _TARGETS:
            known = ", ".join((*_TARGETS, *(f"{name}:scale={KIVI}" for name in KIVI_BITS)))
            raise CastError(f"unknown cast {text!r}: use {known} or {DEQUANT}:bf16, for example e4m3:scale=tensor")
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
            return _kivi_shape(tensor, self.target) if self.scale == KIVI else tensor.shape
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


@lru_cache(maxsize=16)
def _cast_table(stored_format: str, scale: float, target: str) -> Bytes:
    """Bits of ``target`` for each value of a 16-bit format under one scale, uint8[65536]."""
    every, shift = float_bits(np.arange(1 << 16, dtype="<u2").view(np.uint8), stored_format)
    table = _cast(every, shift, np.array([scale], np.float32), target)
    table.setflags(write=False)
    return table


@njit(cache=True)
def look_up(items, table, out):  # type: ignore[no-untyped-def]
    """``table[items]`` of items uint16[n] into out uint8[n]."""
    for i in range(items.shape[0]):
        out[i] = table[items[i]]


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
    if cast.scale == KIVI:
        return _kivi(stored, start_byte, end_byte, cast.target)
    width = _width(stored)
    raw, scales = stored.read(start_byte * width, end_byte * width), scales_of(stored, cast)
    if width == 2 and len(scales) == 1 and end_byte - start_byte >= 1 << 16:
        out = np.empty(end_byte - start_byte, np.uint8)
        look_up(raw.view("<u2"), _cast_table(stored.stored_format, float(scales[0]), cast.target), out)
        return out
    items, shift = float_bits(raw, stored.stored_format)
    if cast.scale == "channel":
        scales = scales[channel_of(stored.shape, start_byte, end_byte)[0]]
    return _cast(items, shift, scales, cast.target)


def _kivi_shape(tensor: Stored, target: str) -> tuple[int, ...]:
    """Shape of the codes, two of four bits to a byte; raises `CastError` for what is no cache of one sequence."""
    spec = f"{target}:scale={KIVI}"
    if tensor.kind not in ("key", "value") or len(tensor.shape) != 3:
        raise CastError(f"tensor {tensor.name!r} is no KV cache [kv_heads, tokens, head_dim], which {spec} quantises")
    if tensor.metadata.get("arrangement", "contiguous") != "contiguous":
        raise CastError(
            f"{spec} groups the tokens of one sequence; {tensor.name!r} lies as {tensor.metadata['arrangement']}: "
            "capture it contiguous"
        )
    heads, tokens, dim = tensor.shape
    quantised = (tokens - KIVI_RESIDUAL) // KIVI_GROUP * KIVI_GROUP
    if quantised <= 0 or dim % KIVI_GROUP:
        raise CastError(
            f"tensor {tensor.name!r} has {tokens} tokens of {dim} channels; {spec} takes more than "
            f"{KIVI_RESIDUAL + KIVI_GROUP - 1} tokens and a head of a multiple of {KIVI_GROUP}"
        )
    return heads, quantised, dim * KIVI_BITS[target] // 8


def kivi_codes(
    values: NDArray[np.float32], kind: str, bits: int, stored_format: str
) -> tuple[Bytes, NDArray[np.float32], NDArray[np.float32]]:
    """KIVI's codes of runs of `KIVI_GROUP` tokens, and the scale and least value of each group.

    Parameters
    ----------
    values : float32[runs, KIVI_GROUP, head_dim]
        Finite.
    kind : str
        ``key``: a group is a channel of a run; ``value``: `KIVI_GROUP` channels of a token.
    stored_format : str
        Format of the cache, to which scales are rounded since they are stored in it (least values are in it).

    Returns
    -------
    tuple
        Codes 0 … 2^bits − 1, uint8 of the shape of ``values``, and two float32 arrays: [runs, 1, head_dim] for keys,
        [runs, KIVI_GROUP, head_dim / KIVI_GROUP, 1] for values. A group of one value has codes 0.
    """
    grouped = values if kind == "key" else values.reshape(*values.shape[:2], -1, KIVI_GROUP)
    axis = 1 if kind == "key" else 3
    least = grouped.min(axis=axis, keepdims=True)
    span = (grouped.max(axis=axis, keepdims=True) - least) / np.float32((1 << bits) - 1)
    scale = span.astype(_FLOATS[stored_format]).astype(np.float32)
    codes = np.rint((grouped - least) / np.where(scale > 0, scale, np.float32(1)))
    whole: Bytes = np.clip(codes, 0, (1 << bits) - 1).astype(np.uint8).reshape(values.shape)
    return whole, scale, least


def kivi_beside_bytes(stored: Stored) -> tuple[int, int]:
    """(bytes of scales and least values, bytes of the newest tokens) beside the codes of one cache tensor."""
    heads, tokens, dim = stored.shape
    quantised = _kivi_shape(stored, "int8")[1]
    width = _width(stored)
    return 2 * width * heads * quantised * dim // KIVI_GROUP, width * heads * (tokens - quantised) * dim


def _kivi(stored: Stored, start_byte: int, end_byte: int, target: str) -> Bytes:
    """Bytes ``start_byte … end_byte`` of the codes: four bits two to a byte, low nibble first; eight less 128."""
    _, tokens, dim = stored.shape
    _, quantised, row = _kivi_shape(stored, target)
    runs = quantised // KIVI_GROUP
    run_bytes, item = KIVI_GROUP * row, dim * _width(stored)
    first, last = start_byte // run_bytes, -(-end_byte // run_bytes)
    raw = []
    for head in range(first // runs, -(-last // runs)):
        low, high = max(first - head * runs, 0), min(last - head * runs, runs)
        at = head * tokens
        raw.append(stored.read((at + low * KIVI_GROUP) * item, (at + high * KIVI_GROUP) * item))
    values = to_float32(np.concatenate(raw), stored.stored_format).reshape(-1, KIVI_GROUP, dim)
    if not np.isfinite(values).all():
        raise SourceError(f"tensor {stored.name!r} has values that are not finite, which {KIVI} cannot quantise")
    codes = kivi_codes(values, stored.kind, KIVI_BITS[target], stored.stored_format)[0].reshape(-1)
    if target == "int4":
        codes = np.bitwise_or(codes[0::2], np.left_shift(codes[1::2], np.uint8(4)))
    else:
        codes = np.bitwise_xor(codes, np.uint8(128))
    at = start_byte - first * run_bytes
    part: Bytes = codes[at : at + end_byte - start_byte].copy()
    return part


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
