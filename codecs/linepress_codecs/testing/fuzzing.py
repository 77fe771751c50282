"""Hostile input by the thousand: mutations of payload, sizes, starts and tables, and what a decoder made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from linepress_codecs.contracts import LineCodec, Lines, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.testing import changed, decode_or_refuse

TABLE_SHARE = 50
"""One mutation in this many bends the tables; they cost a rebuild of look-ups."""


@dataclass(frozen=True)
class FuzzCount:
    """Mutations tried, refused with the typed error, and decoded to lines of the right shape."""

    tried: int
    refused: int
    decoded: int


def fuzz(codec: LineCodec, lines: Lines, mutations: int, seed: int) -> FuzzCount:
    """Decode ``mutations`` damaged versions of the code of ``lines``.

    Any outcome but `CorruptDataError` or lines of the right shape raises: an AssertionError for a wrong shape, or
    whatever the decoder threw. A crash or a hang ends the process, which is the point of running it.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    tables = codec.fit([lines])
    table_bytes = tables.to_bytes()
    packed = codec.encode(lines, tables)
    refused = 0
    kinds = rng.integers(0, 6, mutations)
    draws = rng.integers(0, 1 << 62, (mutations, 4))
    for i in range(mutations):
        a, b, c, d = (int(x) for x in draws[i])
        hostile, used = packed, tables
        if i % TABLE_SHARE == 0 and table_bytes:
            found = _bent_tables(codec, table_bytes, a, b, c)
            if found is None:
                refused += 1
                continue
            used = found
        elif kinds[i] <= 1:
            payload = packed.payload.copy()
            for draw in (a, b) if kinds[i] else (a,):
                payload[(draw >> 3) % len(payload)] ^= 1 << (draw & 7)
            hostile = changed(packed, payload=payload)
        elif kinds[i] == 2:
            payload = packed.payload.copy()
            start = a % len(payload)
            span = payload[start : start + 1 + b % 32]
            span[:] = np.frombuffer((c * (d | 1)).to_bytes(16, "little") * 2, np.uint8)[: len(span)]
            hostile = changed(packed, payload=payload)
        elif kinds[i] == 3:
            hostile = changed(packed, payload=packed.payload[: a % len(packed.payload)])
        elif kinds[i] == 4:
            bits = packed.bits.copy()
            bits[a % len(bits)] = b % 65536 if c & 1 else max(0, int(bits[a % len(bits)]) + b % 9 - 4)
            hostile = changed(packed, bits=bits)
        else:
            starts = packed.starts.copy()
            new = b % (1 << 40) if c & 1 else b % (8 * len(packed.payload)) // 64 * 64
            starts[a % len(starts)] = np.uint64(new if d & 3 else (1 << 64) - 64)
            hostile = changed(packed, starts=starts)
        refused += decode_or_refuse(codec, hostile, used, f"{codec.spec} mutation {i} of seed {seed}") == "refused"
    return FuzzCount(mutations, refused, mutations - refused)


def _bent_tables(codec: LineCodec, data: bytes, a: int, b: int, c: int) -> Tables | None:
    """Tables from damaged bytes, None where they were refused."""
    bent = bytearray(data)
    bent[a % len(bent)] = b & 255
    if c % 4 == 0:
        bent = bent[: b % len(bent)]
    try:
        return codec.tables_from_bytes(bytes(bent))
    except CorruptDataError:
        return None
