"""Canonical Huffman codes: optimality, limits, closed forms, and strict reading."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.bitio import BitReader, BitWriter
from linepress_codecs.errors import CorruptDataError, SpecError
from linepress_codecs.huffman.canonical import (
    check_lengths,
    code_lengths,
    decode_table,
    mean_length,
    pack_lengths,
    reversed_codes,
    unpack_lengths,
)

counts_of = st.lists(st.integers(0, 5000), min_size=1, max_size=256)


def huffman_cost(counts: list[int]) -> int:
    """Total bits of an optimal code without a limit."""
    heap = [c for c in counts if c]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@settings(deadline=None)
@given(counts_of)
def test_as_short_as_huffman_where_the_limit_allows(counts: list[int]) -> None:
    lengths = code_lengths(counts, 15)
    check_lengths(lengths, 15)
    used = [c for c in counts if c]
    if len(used) > 1 and sum(used) < 987:  # Fibonacci: no Huffman code of so few samples is deeper than 15
        assert int((np.array(counts) * lengths).sum()) == huffman_cost(counts)


def test_limited_lengths_are_optimal_on_a_small_alphabet() -> None:
    counts = [1, 1, 2, 4, 8, 16, 32]
    best = min(
        sum(c * length for c, length in zip(counts, lengths, strict=True))
        for lengths in np.ndindex(*(4,) * 7)
        if sum(2.0 ** -(n + 1) for n in lengths) == 1.0
        for lengths in [tuple(n + 1 for n in lengths)]
    )
    assert int((np.array(counts) * code_lengths(counts, 4)).sum()) == best


def test_closed_forms() -> None:
    assert code_lengths([5] * 8, 12).tolist() == [3] * 8
    assert code_lengths([8, 4, 2, 1, 1], 12).tolist() == [1, 2, 3, 4, 4]
    assert code_lengths([0, 7, 0], 12).tolist() == [0, 1, 0]
    assert code_lengths([0, 0], 12).tolist() == [0, 0]
    assert code_lengths([1] * 256, 8).tolist() == [8] * 256
    assert mean_length([8, 4, 2, 1, 1], code_lengths([8, 4, 2, 1, 1], 12)) == 1.875


def test_rfc1951_example() -> None:
    """RFC 1951 § 3.2.2: ABCDEFGH with lengths 3,3,3,3,3,2,4,4."""
    lengths = np.array([3, 3, 3, 3, 3, 2, 4, 4], np.uint8)
    want = ["010", "011", "100", "101", "110", "00", "1110", "1111"]
    codes = reversed_codes(lengths)
    assert [f"{c:0{n}b}"[::-1] for c, n in zip(codes, lengths, strict=True)] == want


@settings(deadline=None, max_examples=60)
@given(counts_of, st.integers(0, 2**32))
def test_codes_decode_and_lengths_survive_writing(counts: list[int], seed: int) -> None:
    lengths = np.zeros(256, np.uint8)
    lengths[: len(counts)] = code_lengths(counts, 12)
    data = pack_lengths(lengths)
    again, end = unpack_lengths(b"xy" + data + b"z", 2, 12)
    assert np.array_equal(again, lengths)
    assert end == 2 + len(data)
    used = np.flatnonzero(lengths)
    if len(used) == 0:
        return
    message = np.random.Generator(np.random.PCG64(seed)).choice(used, 50)
    codes, table = reversed_codes(lengths), decode_table(lengths, 12)
    writer = BitWriter()
    for symbol in message:
        writer.write(int(codes[symbol]), int(lengths[symbol]))
    reader = BitReader(writer.to_bytes(), end_bit=writer.bits)
    for symbol in message:
        entry = int(table[reader.peek(12)])
        assert entry & 255 == symbol
        reader.skip(entry >> 8)
    assert reader.position == writer.bits


@pytest.mark.parametrize(
    ("lengths", "what"),
    [([1, 1, 1], "over-subscribe"), ([1, 2], "under-subscribe"), ([2], "one symbol"), ([0, 3], "one symbol")],
)
def test_wrong_code_spaces_are_refused(lengths: list[int], what: str) -> None:
    with pytest.raises(CorruptDataError, match=what):
        check_lengths(np.array(lengths, np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x05\x04\x11",  # last before first
        b"\x00\x01\x01",  # one length of two is missing: a zero nibble is a run that passes the last symbol
        b"\x00\x02\x01",
        b"\x00\x01\x21",  # lengths 1, 2: under-subscribed
        b"\x00\x02\x11\x01",  # three codes of one bit
        b"\x00\x00\x11",  # padding not zero
        b"\x00\x04\x01\x00\x00\x01",  # a run of one then a run of one, which would have been a run of two
        b"\x00\x01\xdd",  # lengths over the limit of 12
    ],
)
def test_what_no_writer_writes_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptDataError):
        unpack_lengths(data, 0, 12)


def test_limits_are_checked() -> None:
    with pytest.raises(SpecError, match="raise the limit"):
        code_lengths([1] * 9, 3)
    with pytest.raises(SpecError, match="out of range"):
        code_lengths([1, 1], 16)
    with pytest.raises(SpecError, match="cannot hold"):
        decode_table(np.array([1, 2, 3, 3], np.uint8), 2)


def test_bit_io_bounds() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        BitWriter().write(4, 2)
    reader = BitReader(b"\x0f", end_bit=5)
    assert reader.read(5) == 15
    with pytest.raises(CorruptDataError, match="ends at bit 5"):
        reader.read(1)
