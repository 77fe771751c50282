"""Per-page check sums: what a format cannot tell, the flag does."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from linepress_codecs.codecs.huffman import Huffman
from linepress_codecs.codecs.raw import Raw
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.packing import parse_packing
from linepress_codecs.packing.checksum import corrupt_lines, page_checksums
from linepress_codecs.testing import changed, gaussian_bits

LINES = to_lines(gaussian_bits(FORMATS["bf16"], 32 * 150, 0.02, 3), "row", FORMATS["bf16"])


def test_every_coded_bit_is_covered_and_no_other() -> None:
    codec = Huffman()
    packed = codec.encode(LINES, codec.fit([LINES]))
    sums = page_checksums(packed)
    assert len(sums) == 3
    assert not corrupt_lines(packed, sums).any()
    rng = np.random.Generator(np.random.PCG64(5))
    coded = np.zeros(8 * len(packed.payload), bool)
    for start, bits in zip(packed.starts.tolist(), packed.bits.tolist(), strict=True):
        coded[start : start + bits] = True
    for bit in rng.integers(0, len(coded), 60):
        payload = packed.payload.copy()
        payload[bit // 8] ^= 1 << (bit % 8)
        flags = corrupt_lines(changed(packed, payload=payload), sums)
        line = int(np.searchsorted(packed.starts, np.uint64(bit), side="right")) - 1
        want = np.arange(150) // 64 == line // 64 if coded[bit] else np.zeros(150, bool)
        assert np.array_equal(flags, want), bit


def test_a_flipped_mantissa_bit_decodes_and_is_flagged() -> None:
    codec = Huffman()
    tables = codec.fit([LINES])
    packed = codec.encode(LINES, tables)
    sums = page_checksums(packed)
    payload = packed.payload.copy()
    payload[int(packed.starts[70]) // 8 + 4] ^= 1
    bent = changed(packed, payload=payload)
    assert not np.array_equal(codec.decode(bent, tables), LINES.data)
    assert corrupt_lines(bent, sums)[70]
    assert not corrupt_lines(bent, sums)[:64].any()


def test_sum_by_hand() -> None:
    packed = Raw().encode(LINES[:2], Raw().fit([]))
    want = zlib.crc32(bytes([0, 2, 0, 2]) + LINES.data[:2].tobytes())
    assert page_checksums(packed).tolist() == [want]


def test_cost_and_misuse() -> None:
    bits = np.full(150, 340, np.uint16)
    for spec in ("stream", "classes"):
        plain, summed = parse_packing(spec).cost(bits), parse_packing(f"{spec}:crc=on").cost(bits)
        assert summed.metadata_bytes - plain.metadata_bytes == 3 * 4
    packed = Raw().encode(LINES[:2], Raw().fit([]))
    with pytest.raises(CorruptDataError, match="do not match"):
        corrupt_lines(packed, np.zeros(2, np.uint32))
    with pytest.raises(CorruptDataError, match="line 1"):
        page_checksums(changed(packed, payload=packed.payload[:100]))
