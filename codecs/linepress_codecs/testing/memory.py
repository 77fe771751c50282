"""Checks of a codec together with the packings: its lines end by themselves, and come back out of a packed memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import single
from linepress_codecs.contracts import LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.packing import Placement, parse_packing

PACKED = ("stream", "classes", "slots:slot=auto", "groups", "pairs", "spill")
NEAR, NEARER = 40, 8
"""Bits around a line's own size that are tried: of a tensor's first line, and of others."""
FAR = (0, 1, 4, 8, 64, 128, 256, 384, 510, 511, 512, 513, 514, 522, 600)


def code_of(packed: Packed, i: int) -> NDArray[np.uint8]:
    """The coded bits of line ``i``, uint8[bits] of 0 and 1."""
    start, bits = int(packed.starts[i]), int(packed.bits[i])
    part = packed.payload[start // 8 : (start + bits + 7) // 8]
    return np.unpackbits(part, bitorder="little")[start % 8 : start % 8 + bits]


def line_of(packed: Packed, i: int, code: NDArray[np.uint8], bits: int) -> Packed:
    """A `Packed` of line ``i`` alone, read from ``code`` as if it had ``bits`` bits."""
    payload = np.packbits(code, bitorder="little")
    return replace(
        single(packed, i), payload=payload, starts=np.zeros(1, np.uint64), bits=np.array([bits], np.uint16)
    )


def check_ends(codec: LineCodec, lines: Lines, where: str) -> None:
    """A line followed by anything decodes under its own size only: the code says where it ends."""
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    after = np.random.Generator(np.random.PCG64(1)).integers(0, 2, 1024).astype(np.uint8)
    for i in range(0, len(lines), max(len(lines) // 6, 1)):
        own = int(packed.bits[i])
        code = np.concatenate([code_of(packed, i), after])
        near = NEARER if i else NEAR
        for size in sorted({own, *FAR, *range(max(own - near, 0), own + near)}):
            try:
                out = codec.decode_line(line_of(packed, i, code, size), 0, tables)
            except CorruptDataError:
                assert size != own, f"{where}: line {i} does not decode with other bits behind it"
                continue
            assert size == own, f"{where}: line {i} of {own} bits also decodes as one of {size}"
            assert np.array_equal(out, lines.data[i]), f"{where}: line {i} differs with other bits behind it"


def check_packed_memory(codec: LineCodec, lines: Lines, tables: Tables, packed: Packed, where: str) -> None:
    """Lines written where each packing places them come back from that memory alone."""
    for spec in PACKED:
        place = parse_packing(spec).place(packed.bits, lines.line_bytes)
        memory = np.zeros(place.total_bytes, np.uint8)
        raw = _raw(place, spec)
        for i in range(len(lines)):
            bits = np.unpackbits(lines.data[i], bitorder="little") if raw[i] else code_of(packed, i)
            if place.length_bytes[i]:
                _write(memory, place, i, bits, backward=_backward(spec, i, raw))
        for i in range(len(lines)):
            found = _read(memory, place, i, backward=_backward(spec, i, raw))
            if not place.length_bytes[i]:
                # The tag repeats the flag that is all the code of such a line.
                out = codec.decode_line(packed, i, tables)
            elif raw[i]:
                out = np.packbits(found, bitorder="little")
            else:
                out = codec.decode_line(line_of(packed, i, found, int(packed.bits[i])), 0, tables)
            assert np.array_equal(out, lines.data[i]), f"{where}: line {i} does not come back from {spec}"


def _raw(place: Placement, spec: str) -> NDArray[np.bool_]:
    """Which lines are stored raw, as the length code says: by line, or in ``pairs`` by pair."""
    whole: NDArray[np.bool_] = place.length_bytes == place.line_bytes
    if spec != "pairs":
        return whole
    start = np.append(place.start_bytes[::2], place.total_bytes)
    return np.repeat(np.diff(start) == 2 * place.line_bytes, 2)[: len(whole)]


def _backward(spec: str, i: int, raw: NDArray[np.bool_]) -> bool:
    return spec == "pairs" and i % 2 == 1 and not raw[i]


def _bytes(place: Placement, i: int) -> NDArray[np.int64]:
    parts = [np.arange(start[i], start[i] + length[i]) for start, length in place.extents()]
    return np.concatenate(parts)


def _write(memory: NDArray[np.uint8], place: Placement, i: int, bits: NDArray[np.uint8], *, backward: bool) -> None:
    at = _bytes(place, i)
    image = np.zeros(8 * len(at), np.uint8)
    image[: len(bits)] = bits
    # A pair's two lines may meet in a byte; each leaves the other's bits alone.
    memory[at] |= np.packbits(image[::-1] if backward else image, bitorder="little")


def _read(memory: NDArray[np.uint8], place: Placement, i: int, *, backward: bool) -> NDArray[np.uint8]:
    bits = np.unpackbits(memory[_bytes(place, i)], bitorder="little")
    return bits[::-1] if backward else bits
