"""The ``huffman`` codec against a plain reading of ``FORMAT.md``, by hand, and in what it promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.bitio import BitReader
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.codecs.huffman import Huffman
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import CorruptDataError, SpecError, UnsupportedFormatError
from linepress_codecs.fields import exponent_field
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.huffman.canonical import reversed_codes
from linepress_codecs.huffman.tables import HuffmanTables
from linepress_codecs.layout import to_lines
from linepress_codecs.testing import changed, gaussian_bits, sample_lines

BF16 = FORMATS["bf16"]


def coding_order(fmt: Format, line_bytes: int) -> list[int]:
    """Item indices in coding order, from the words of FORMAT.md."""
    size = fmt.storage.itemsize
    n = line_bytes // size
    if size == 1:
        return list(range(n))
    per_word, side = 8 // size, 2 if size == 2 else 4
    return [
        (group * side + word) * per_word + item
        for group in range(n // (side * per_word))
        for item in range(per_word)
        for word in range(side)
    ]


def reference_line(packed: Packed, i: int, codec: Huffman, tables: HuffmanTables) -> tuple[np.ndarray, int]:
    """Line ``i`` and its size, read field by field."""
    fmt, line_bytes = packed.format, packed.line_bytes
    field, size = exponent_field(fmt), fmt.storage.itemsize
    n = line_bytes // size
    start = int(packed.starts[i])
    reader = BitReader(packed.payload, start)
    if not reader.read(1):
        if tables.zero_lines and reader.read(1):
            return np.zeros(line_bytes, np.uint8), reader.position - start
        raw = bytes(reader.read(8) for _ in range(line_bytes))
        return np.frombuffer(raw, np.uint8), reader.position - start
    table = tables.lengths[reader.read((len(tables) - 1).bit_length())]
    parts = min(codec.substreams, n // 2)
    width = (n // parts * codec.limit).bit_length() if parts > 1 else 0
    stated = [reader.read(width) for _ in range(parts - 1)]
    order = coding_order(fmt, line_bytes)
    rest = [0] * n
    for item in order if field.rest_bits == 8 else range(n):
        rest[item] = reader.read(field.rest_bits)
    codes = {(int(length), int(c)): s for s, (length, c) in enumerate(zip(table, reversed_codes(table), strict=True))}
    values = np.zeros(n, np.uint64)
    ends = [reader.position]
    for k, item in enumerate(order):
        value = length = 0
        while (length, value) not in codes or length == 0:
            value |= reader.read(1) << length
            length += 1
        symbol = codes[length, value]
        low = rest[item] & ((1 << field.shift) - 1)
        high = rest[item] >> field.shift
        values[item] = low | symbol << field.shift | high << (field.shift + field.bits)
        if (k + 1) % (n // parts) == 0:
            ends.append(reader.position)
    assert stated == [b - a for a, b in pairwise(ends)][: parts - 1]
    return values.astype(fmt.storage).view(np.uint8), reader.position - start


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32", "int16", "int32", "e4m3", "int8", "int4"])
@pytest.mark.parametrize(
    "options", [{}, {"tables": 3}, {"substreams": 4}, {"tables": 5, "substreams": 8, "limit": 9}]
)
def test_streams_read_as_the_format_says(name: str, options: dict[str, int]) -> None:
    codec = Huffman(**options)
    for line_bytes in (64, 32):
        for label, lines in sample_lines(FORMATS[name], line_bytes):
            if label in ("mixed", "gaussian", "sparse", "zeros"):
                part = lines[:24]
                tables = codec.fit([part])
                packed = codec.encode(part, tables)
                for i in range(len(part)):
                    line, bits = reference_line(packed, i, codec, tables)
                    assert np.array_equal(line, part.data[i]), (name, label, line_bytes, i)
                    assert bits == packed.bits[i], (name, label, line_bytes, i)


def test_a_line_by_hand() -> None:
    """Exponents 127 (18 of 32, one bit) and 126 (14, one bit), k = 1, no zero lines: 1 + 256 + 32 bits."""
    values = np.array([127] * 18 + [126] * 14, "<u2") << 7
    lines = to_lines(values, "row", BF16)
    codec = Huffman()
    tables = codec.fit([lines])
    assert tables.to_bytes() == bytes([1 << 1, 1, 126, 127, 0x11])
    packed = codec.encode(lines, tables)
    assert packed.bits.tolist() == [289]
    reader = BitReader(packed.payload)
    assert reader.read(1) == 1
    assert [reader.read(64) for _ in range(4)] == [0] * 4
    # Coding order a0 b0 a1 b1 …: items 0 4 1 5 2 6 3 7, then 8 12 …; code 1 is exponent 127, code 0 is 126.
    order = coding_order(BF16, 64)
    assert order[:8] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert [reader.read(1) for _ in range(32)] == [int(item < 18) for item in order]


def test_sizes_by_hand() -> None:
    """A zero line is 2 bits, a raw one then 514, and 513 in a tensor without zero lines."""
    rng = np.random.Generator(np.random.PCG64(2))
    noise = rng.integers(0, 1 << 16, (400, 32)).astype("<u2")
    body = gaussian_bits(BF16, 32 * 400, 0.02, 1).reshape(400, 32)
    codec = Huffman()
    tables = codec.fit([to_lines(body, "row", BF16)])
    assert codec.measure(to_lines(noise[:1], "row", BF16), tables).tolist() == [513]
    with_zeros = np.concatenate([body, np.zeros((3, 32), "<u2")])
    tables = codec.fit([to_lines(with_zeros, "row", BF16)])
    mixed = to_lines(np.concatenate([np.zeros((1, 32), "<u2"), noise[:1]]), "row", BF16)
    assert codec.measure(mixed, tables).tolist() == [2, 514]


@pytest.mark.parametrize("sigma", [0.02, 1.0])
def test_payload_is_within_one_and_a_half_percent_of_the_bound(sigma: float) -> None:
    lines = to_lines(gaussian_bits(BF16, 1 << 18, sigma, 7), "row", BF16)
    codec = Huffman()
    bits = codec.measure(lines, codec.fit([lines]))
    bound = BoundAccumulator(BF16).add(lines).bounds()["field_order0"]
    per_value = int(bits.sum()) / (1 << 18)
    assert bound.bits_per_value <= per_value <= 1.015 * bound.bits_per_value


def test_several_tables_pay_on_mixtures_and_never_cost() -> None:
    small, large = gaussian_bits(BF16, 1 << 16, 1e-3, 1), gaussian_bits(BF16, 1 << 16, 10.0, 2)
    mixture = np.stack([small.reshape(-1, 32), large.reshape(-1, 32)], axis=1).reshape(-1)
    for values, gain in ((mixture, 1.05), (small, 1.0)):
        lines = to_lines(values, "row", BF16)
        totals = []
        for k in (1, 2, 16):
            codec = Huffman(tables=k)
            tables = codec.fit([lines])
            totals.append(int(codec.measure(lines, tables).sum()) + 8 * len(tables.to_bytes()))
        assert totals[0] >= gain * totals[1]
        assert totals[2] <= totals[0]


def test_substreams_cost_exactly_their_length_fields() -> None:
    lines = to_lines(gaussian_bits(BF16, 1 << 14, 0.02, 4), "row", BF16)
    plain = Huffman()
    sizes = plain.measure(lines, plain.fit([lines])).astype(int)
    for parts, field_bits in ((2, 8), (4, 7), (8, 6)):
        codec = Huffman(substreams=parts)
        more = codec.measure(lines, codec.fit([lines])).astype(int) - sizes
        assert set(more.tolist()) == {(parts - 1) * field_bits}


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=64, max_size=640),
    name=st.sampled_from(["bf16", "fp16", "fp32", "e4m3", "int32", "e2m1"]),
    tables=st.sampled_from([1, 2, 7]),
    substreams=st.sampled_from([1, 2, 8]),
    repeat=st.integers(1, 5),
)
def test_any_bytes_come_back(data: bytes, name: str, tables: int, substreams: int, repeat: int) -> None:
    fmt = FORMATS[name]
    whole = np.frombuffer((data * repeat)[: len(data) * repeat // 64 * 64], np.uint8).reshape(-1, 64)
    lines = Lines(whole, fmt)
    codec = Huffman(tables=tables, substreams=substreams)
    fitted = codec.fit([lines])
    packed = codec.encode(lines, fitted)
    assert np.array_equal(codec.decode(packed, fitted), whole)
    assert np.array_equal(codec.measure(lines, fitted), packed.bits)
    assert packed.bits.max() <= 514


def test_each_lie_has_its_sentence() -> None:
    lines = to_lines(gaussian_bits(BF16, 32 * 40, 0.02, 9), "row", BF16)
    codec = Huffman(tables=3, substreams=2)
    rows = np.zeros((3, 256), np.uint8)
    rows[:, 118:122] = 2
    tables = HuffmanTables(rows, zero_lines=False)
    packed = codec.encode(
        Lines(np.resize((np.arange(118, 122, dtype="<u2") << 7).view(np.uint8), (8, 64)), BF16), tables
    )

    def bent(bit: int) -> Packed:
        payload = packed.payload.copy()
        at = int(packed.starts[5]) + bit
        payload[at // 8] ^= 1 << (at % 8)
        return changed(packed, payload=payload)

    with pytest.raises(CorruptDataError, match="line 5: the code does not end"):
        codec.decode(bent(0), tables)
    selector = changed(packed, payload=bent(1).payload)
    selector.payload[int(packed.starts[5]) // 8] |= 0b110
    with pytest.raises(CorruptDataError, match="line 5: a table selector"):
        codec.decode(selector, tables)
    with pytest.raises(CorruptDataError, match="line 5: a sub-stream"):
        codec.decode(bent(3), tables)
    short = changed(packed, bits=packed.bits - np.uint16(1))
    with pytest.raises(CorruptDataError, match="line 0: the code does not end"):
        codec.decode(short, tables)
    one = HuffmanTables(np.where(np.arange(256) == 120, 1, 0).astype(np.uint8)[None], zero_lines=False)
    plain = Huffman()
    same = plain.encode(Lines(np.resize(np.array([120 << 7], "<u2").view(np.uint8), (2, 64)), BF16), one)
    same.payload[int(same.starts[1]) // 8 + 33] ^= 1
    with pytest.raises(CorruptDataError, match="line 1: a bit pattern"):
        plain.decode(same, one)
    with pytest.raises(CorruptDataError, match="line 1: a bit pattern"):
        plain.decode_line(same, 1, one)
    wide = HuffmanTables(np.where(np.arange(256) >= 254, 1, 0).astype(np.uint8)[None], zero_lines=False)
    fp16 = to_lines(np.full(64, 0x3C00, "<u2"), "row", FORMATS["fp16"])
    lying = HuffmanTables(np.where(np.isin(np.arange(256), (15, 16)), 1, 0).astype(np.uint8)[None], False)
    with pytest.raises(CorruptDataError, match="wider than"):
        plain.decode(plain.encode(fp16, lying), wide)
    assert len(lines) == 40


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "too few"),
        (b"\x04\x01\x01\x00", "version 2"),
        (b"\x02\x00", "0 Huffman tables"),
        (b"\x02\x11", "17 Huffman tables"),
        (b"\x02\x01\x01\x00\x00", "1 B follow"),
        (b"\x02\x02\x01\x00", "end before"),
        (b"\x02\x01\x00\x01\x21", "under-subscribe"),
    ],
)
def test_damaged_tables_are_named(data: bytes, what: str) -> None:
    with pytest.raises(CorruptDataError, match=what):
        Huffman().tables_from_bytes(data)


def test_what_it_does_not_take() -> None:
    lines = Lines(np.zeros((2, 128), np.uint8), BF16)
    with pytest.raises(UnsupportedFormatError, match="128 B"):
        Huffman().fit([lines])
    some = to_lines(gaussian_bits(BF16, 640, 0.02, 1), "row", BF16)
    with pytest.raises(SpecError, match="list of chunks"):
        Huffman(tables=2).fit(iter([some]))
    tables = Huffman().fit([some])
    deep = HuffmanTables(np.r_[np.arange(1, 12), [12, 12], np.zeros(243)].astype(np.uint8)[None], False)
    with pytest.raises(CorruptDataError, match="codes over 8 bits"):
        Huffman(limit=8).measure(some, deep)
    with pytest.raises(IndexError, match="choose 0 to"):
        Huffman().decode_line(Huffman().encode(some, tables), 99, tables)


def test_read_only_and_unaligned_memory() -> None:
    buffer = b"\0" * 3 + gaussian_bits(BF16, 640, 0.02, 1).tobytes()
    lines = Lines(np.frombuffer(buffer, np.uint8, offset=3).reshape(-1, 64), BF16)
    codec = Huffman()
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    frozen = np.frombuffer(b"\0" + packed.payload.tobytes(), np.uint8, offset=1)
    assert np.array_equal(codec.decode(changed(packed, payload=frozen), tables), lines.data)
