"""Inputs of the conformance kit, made by seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES, Geometry, Lines
from linepress_codecs.formats import FORMATS, Format

SEED = 20260718


def special_values(fmt: Format) -> NDArray[np.unsignedinteger]:
    """Stored bits that break careless codecs: ±0, ±inf, quiet and signalling NaN payloads, subnormals, extremes."""
    width = 8 * fmt.storage.itemsize
    mantissa, exponent = fmt.mantissa_bits, fmt.exponent_bits
    top = ((1 << exponent) - 1) << mantissa
    values = {0, 1, (1 << width) - 1, 1 << (width - 1), (1 << (width - 1)) - 1, (1 << (width - 1)) + 1}
    if fmt.bits >= 8 and fmt.is_float:
        quiet = 1 << max(mantissa - 1, 0)
        for sign in (0, 1 << (width - 1)) if fmt.sign_bits else (0,):
            for low in (0, 1, quiet, quiet | 1, max((1 << mantissa) - 1, 0)):
                values |= {sign | top | low, sign | low, sign | (1 << mantissa) | low, sign | (top - (1 << mantissa))}
    return np.array(sorted(v & ((1 << width) - 1) for v in values), dtype=fmt.storage)


def gaussian_bits(fmt: Format, n: int, sigma: float, seed: int) -> NDArray[np.unsignedinteger]:
    """``n`` stored items whose values follow a normal distribution, as closely as the format's bits allow."""
    rng = np.random.Generator(np.random.PCG64(seed))
    values = rng.normal(0.0, sigma, n).astype(np.float32)
    bits32 = values.view(np.uint32)
    if fmt.name == "fp32":
        return bits32.astype(fmt.storage)
    if fmt.name == "bf16":
        return (bits32 >> 16).astype(fmt.storage)
    if fmt.name == "fp16":
        return values.astype(np.float16).view(np.uint16).astype(fmt.storage)
    if fmt.is_float and fmt.bits == 8:
        # Truncated to the format's fields: the distribution counts here, not the rounding.
        bias = (1 << max(fmt.exponent_bits - 1, 0)) - 1
        exponent = (bits32 >> 23 & 0xFF).astype(np.int64) - 127 + bias + 4
        exponent = np.clip(exponent, 0, (1 << fmt.exponent_bits) - 1)
        mantissa = (bits32 >> (23 - fmt.mantissa_bits)) & ((1 << fmt.mantissa_bits) - 1)
        sign = (bits32 >> 31) << 7 if fmt.sign_bits else 0
        return (sign | exponent << fmt.mantissa_bits | mantissa).astype(fmt.storage)
    scaled = np.round(values / max(sigma, 1e-30) * 20).astype(np.int64)
    return (scaled & ((1 << 8 * fmt.storage.itemsize) - 1)).astype(fmt.storage)


def sample_lines(fmt: Format, line_bytes: int = LINE_BYTES) -> Iterator[tuple[str, Lines]]:
    """Named inputs of one format: (name, lines)."""
    per = line_bytes // fmt.storage.itemsize
    rng = np.random.Generator(np.random.PCG64(SEED))

    def lines(items: NDArray[np.unsignedinteger]) -> Lines:
        whole = np.ascontiguousarray(items[: len(items) // per * per].astype(fmt.storage))
        return Lines(whole.view(np.uint8).reshape(-1, line_bytes), fmt)

    special = special_values(fmt)
    full = (1 << 8 * fmt.storage.itemsize) - 1
    gauss = gaussian_bits(fmt, 97 * per, 0.02, SEED)
    mixed = gauss.copy()
    mixed[5 * per : 9 * per] = 0
    mixed[11 * per : 12 * per] = full
    mixed[20 * per : 24 * per] = rng.integers(0, full + 1, 4 * per, dtype=np.uint64).astype(fmt.storage)
    mixed[rng.integers(0, len(mixed), 40)] = rng.choice(special, 40)
    yield "empty", lines(gauss[:0])
    yield "one line", lines(gauss[:per])
    yield "zeros", lines(np.zeros(5 * per, fmt.storage))
    yield "all equal", lines(np.full(7 * per, special[len(special) // 2], fmt.storage))
    yield "all ones", lines(np.full(3 * per, full, fmt.storage))
    yield "special values", lines(np.resize(special, 31 * per))
    yield "every byte value", lines(np.frombuffer(np.arange(256, dtype=np.uint8).tobytes() * 16, fmt.storage))
    yield "random bytes", lines(rng.integers(0, full + 1, 33 * per, dtype=np.uint64).astype(fmt.storage))
    yield "gaussian", lines(gauss)
    yield "wide gaussian", lines(gaussian_bits(fmt, 64 * per, 1e4, SEED + 1))
    yield "mixed", lines(mixed)
    yield "sparse", lines(np.where(rng.random(40 * per) < 0.9, 0, gaussian_bits(fmt, 40 * per, 1.0, SEED + 2)))
    channels = lines(np.repeat(gaussian_bits(fmt, 24, 0.5, 3), 2 * per) ^ gaussian_bits(fmt, 48 * per, 1e-3, 4))
    ids = np.tile(np.arange(12, dtype=np.uint32), 4)
    yield "channels", Lines(channels.data, fmt, Geometry(ids, 12))
    # Neighbours of different channels, as in rows and pages: a line reaches back to its own channels' last token.
    woven = lines(np.tile(gaussian_bits(fmt, 8, 0.5, 5), 6 * per) ^ gaussian_bits(fmt, 48 * per, 1e-3, 6))
    yield "woven", Lines(woven.data, fmt, Geometry(np.zeros(48, np.uint32), 8, 1, 8))
    yield "turning", _turning(fmt, line_bytes)
    yield "revised", _revised(lines(gauss), rng)


def _revised(base: Lines, rng: np.random.Generator) -> Lines:
    """Lines against a base: equal ones, ones with a few elements off by little, and ones that are new altogether."""
    items = base.data.view(base.format.storage).copy()
    near: NDArray[np.int64] = np.where(rng.random(items.shape) < 0.3, rng.integers(-3, 4, items.shape), 0)
    near[::5] = 0
    items += near.astype(items.dtype)
    items[3] = rng.integers(0, 256, base.line_bytes, dtype=np.uint8).view(items.dtype)
    return Lines(np.ascontiguousarray(items).view(np.uint8), base.format, Geometry(base=base.data))


def _turning(fmt: Format, line_bytes: int) -> Lines:
    """Tokens of one head whose channels turn in pairs with the position, where the format has such values."""
    dim, tokens = 8, 256
    per = line_bytes // fmt.storage.itemsize
    noise = gaussian_bits(fmt, tokens * dim, 0.02, 7)
    if fmt.is_float and fmt.sign_bits and fmt.bits >= 8:
        angle = np.arange(tokens)[:, None] * 2.0 ** -np.arange(dim // 2)
        means = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) + 0.01 * np.sin(
            np.arange(tokens * dim)
        ).reshape(-1, dim)
        bits = np.ascontiguousarray(means, np.float32).view(np.uint32) >> (32 - 16)
        top = bits.astype(np.int64) & 0x7FFF
        bias = (1 << (fmt.exponent_bits - 1)) - 1
        exponent = np.clip((top >> 7) - 127 + bias, 0, (1 << fmt.exponent_bits) - 2)
        mantissa = (top & 127) << max(fmt.mantissa_bits - 7, 0) >> max(7 - fmt.mantissa_bits, 0)
        sign = (bits >> 15).astype(np.int64) << (fmt.bits - 1)
        noise = (sign | exponent << fmt.mantissa_bits | mantissa).reshape(-1).astype(fmt.storage)
    n = len(noise) // per
    data = np.ascontiguousarray(noise[: n * per]).view(np.uint8).reshape(n, line_bytes)
    first = per * np.arange(n)
    channel, position = (first % dim).astype(np.uint32), (first // dim).astype(np.uint32)
    return Lines(data, fmt, Geometry(channel, dim, 1, dim, position, dim))


def sample_blocks_of(block: int) -> Iterator[tuple[str, bytes]]:
    """Named blocks of up to ``block`` bytes."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    n = min(block, 1 << 16)
    yield "empty", b""
    yield "one byte", b"\x80"
    yield "zeros", bytes(n)
    yield "random", rng.bytes(n)
    yield "repeating", (bytes(range(64)) * (n // 64 + 1))[:n]
    yield "gaussian", gaussian_bits(FORMATS["bf16"], n // 2, 0.02, SEED).tobytes()
    yield "odd length", rng.integers(0, 4, max(n - 1, 1), dtype=np.uint8).tobytes()
