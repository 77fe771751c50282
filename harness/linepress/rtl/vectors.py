"""Vectors of a design: lines coded by the Python codec, damaged lines with its verdict, tables as table writes."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from linepress.errors import LinepressError
from linepress.rtl.crafted import Code, near_limit
from linepress_codecs.codecs.window import WindowTables
from linepress_codecs.contracts import NOWHERE, LineCodec, Lines, NoTables, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import Format
from linepress_codecs.huffman.tables import HuffmanTables
from linepress_codecs.tans.static import SIGN_CODED, SIGN_RAW, StaticTables
from linepress_hardware.errors import HardwareError
from linepress_hardware.rtl.catalog import ENCODER, Design
from linepress_hardware.rtl.decoders.adaptive import adaptive_config
from linepress_hardware.rtl.decoders.huffman import huffman_config
from linepress_hardware.rtl.decoders.tans import tans_config
from linepress_hardware.rtl.decoders.window import window_config
from linepress_hardware.rtl.encoders.huffman import huffman_encoder_config
from linepress_hardware.rtl.simulate.vectors import Vectors

_IN_BYTES, _OUT_BYTES = 72, 68
"""A line and what comes out of an engine, whole words: up to 576 and 544 bits."""


def config_of(design: Design, codec: LineCodec, tables: Tables, fmt: Format) -> list[tuple[int, int]]:
    """Table writes of ``tables``; raises `LinepressError` where the design has no room for them."""
    if isinstance(tables, NoTables):
        return []
    try:
        if codec.codec_id == "window":
            return window_config(cast(WindowTables, tables).base)
        if codec.codec_id == "huffman":
            huffman = cast(HuffmanTables, tables)
            if design.kind == ENCODER:
                return huffman_encoder_config(huffman.lengths[0], huffman.zero_lines)
            return huffman_config(huffman.lengths[0], huffman.zero_lines, design.symbols)
        static = cast(StaticTables, tables)
        field = static.field
        coded = len(static.frequency) > 0
        if codec.codec_id == "adaptive":
            if static.tail:
                raise LinepressError(
                    f"{codec.spec} stores the last {static.tail} elements of a line of this tensor raw, which the "
                    f"design {design.name} does not: take a tensor with fewer zeros"
                )
            low, sign_coded = (field.low, field.signed == SIGN_CODED) if coded else (fmt.mantissa_bits, False)
            return adaptive_config(static.machine.decode, static.first, low, sign_coded, len(static.frequency))
        if coded and (field.signed != SIGN_RAW or field.low != fmt.mantissa_bits or static.tail):
            raise LinepressError(
                f"{codec.spec} codes the sign or mantissa bits of this tensor with the exponent, which the design "
                f"{design.name} does not: take a tensor of both signs, or mantissa=0"
            )
        return tans_config(static.machine.decode, static.first, len(static.frequency))
    except HardwareError as error:
        raise LinepressError(f"{codec.spec}: {error}") from None


def line_vectors(design: Design, codec: LineCodec, tables: Tables, lines: Lines, rng: np.random.Generator) -> Vectors:
    """Undamaged lines: code in and line out, or for an encoder the other way."""
    packed = codec.encode(lines, tables)
    codes, sizes = _codes_of(packed, rng), packed.bits.astype(np.uint32)
    n = len(lines)
    plain = np.full(n, 512, np.uint32)
    config = config_of(design, codec, tables, lines.format)
    none = np.zeros(n, np.bool_)
    if design.kind == ENCODER:
        return Vectors(config, _words(lines.data, _IN_BYTES), plain, _words(codes, _OUT_BYTES), sizes, none)
    return Vectors(config, codes.view("<u4"), sizes, _words(lines.data, _OUT_BYTES), plain, none)


def damaged_vectors(
    design: Design, codec: LineCodec, tables: Tables, lines: Lines, n: int, rng: np.random.Generator
) -> Vectors:
    """``n`` damaged lines, and after them the crafted ones, each with the Python decoder's verdict.

    Damage: one bit flipped among the first or anywhere, a size a little off or of any value, all bits random, and
    the code of one line under the size of another.
    """
    packed = codec.encode(lines, tables)
    codes, sizes = _codes_of(packed, rng), packed.bits.astype(np.int64)
    pick = rng.integers(0, len(lines), n)
    given, size = codes[pick].copy(), sizes[pick].copy()
    for i, kind in enumerate(rng.integers(0, 8, n)):
        if kind <= 3:
            at = int(rng.integers(0, min(size[i], 110) if kind <= 2 else size[i]))
            given[i, at // 8] ^= np.uint8(1 << (at % 8))
        elif kind == 4:
            size[i] = max(0, size[i] + rng.integers(-3, 4))
        elif kind == 5:
            size[i] = rng.choice([rng.integers(0, 6), rng.integers(510, 523), rng.integers(0, 523)])
        elif kind == 6:
            given[i] = np.frombuffer(rng.bytes(_IN_BYTES), np.uint8)
        else:
            size[i] = sizes[rng.integers(0, len(lines))]
    crafted = near_limit(codec, tables, lines.format, rng)
    if crafted:
        more = np.array([_bytes_of(code, rng) for code in crafted])
        given, size = np.concatenate([given, more]), np.concatenate([size, [bits for _, bits in crafted]])
    return _with_verdict(design, codec, tables, lines, given, size)


def _with_verdict(
    design: Design, codec: LineCodec, tables: Tables, lines: Lines, given: NDArray[np.uint8], size: NDArray[np.int64]
) -> Vectors:
    n = len(given)
    data, error = np.zeros((n, 64), np.uint8), np.zeros(n, np.bool_)
    for i in range(n):
        payload = np.concatenate([given[i], np.zeros(64, np.uint8)])[: max(-(-int(size[i]) // 64), 1) * 8]
        one = Packed(payload, np.zeros(1, np.uint64), size[i : i + 1].astype(np.uint16), lines.format, 64)
        try:
            data[i] = codec.decode(one, tables)[0]
        except CorruptDataError:
            error[i] = True
    config = config_of(design, codec, tables, lines.format)
    return Vectors(
        config, given.view("<u4"), size.astype(np.uint32), _words(data, _OUT_BYTES), np.full(n, 512, np.uint32), error
    )


def corner_lines(lines: Lines, n: int, rng: np.random.Generator) -> Lines:
    """Four kinds of ``n`` lines each that real tensors seldom hold: zero, many zeros, noise, a few odd elements.

    The first two hold no value that ``lines`` has not, so tables may be fitted on them too.
    """
    kind = lines.format.storage
    noise = rng.integers(0, 256, (n, 64), dtype=np.uint8)
    odd, holes = (lines.data[rng.integers(0, len(lines), n)].copy() for _ in range(2))
    count = odd.view(kind).shape[1]
    for i in range(n):
        at = rng.choice(count, i % count, replace=False)
        odd.view(kind)[i, at] = np.frombuffer(rng.bytes(kind.itemsize * len(at)), kind)
        holes.view(kind)[i, rng.choice(count, i % count, replace=False)] = 0
    return replace(lines, data=np.concatenate([np.zeros((n, 64), np.uint8), holes, noise, odd]), geometry=NOWHERE)


def _codes_of(packed: Packed, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each line's code from bit 0, random bits behind it, uint8[n, 72]."""
    words = np.concatenate([packed.payload.view(np.uint8), np.zeros(_IN_BYTES, np.uint8)])
    starts = (packed.starts // np.uint64(8)).astype(np.int64)
    out = words[starts[:, None] + np.arange(_IN_BYTES)]
    left = np.clip(packed.bits.astype(np.int64)[:, None] - 8 * np.arange(_IN_BYTES), 0, 8)
    mask = ((1 << left) - 1).astype(np.uint8)
    noise = np.frombuffer(rng.bytes(out.size), np.uint8).reshape(out.shape)
    return np.ascontiguousarray((out & mask) | (noise & ~mask))


def _bytes_of(code: Code, rng: np.random.Generator) -> NDArray[np.uint8]:
    value, bits = code
    noise = int.from_bytes(rng.bytes(2 * _IN_BYTES), "little") << bits
    return np.frombuffer(((value | noise) & ((1 << 8 * _IN_BYTES) - 1)).to_bytes(_IN_BYTES, "little"), np.uint8)


def _words(data: NDArray[np.uint8], width: int) -> NDArray[np.uint32]:
    """Rows of bytes as rows of 32-bit words, zeros behind."""
    out = np.zeros((len(data), width), np.uint8)
    out[:, : min(data.shape[1], width)] = data[:, :width]
    return out.view("<u4")
