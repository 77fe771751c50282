"""Each row of the published tables, worked by hand: the code of a line field by field, in the order it is written."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_codecs.bitio import BitWriter
from linepress_codecs.classic import fpcd
from linepress_codecs.classic.bdi import table_bits
from linepress_codecs.codecs.bdi import Bdi
from linepress_codecs.codecs.bpc import Bpc
from linepress_codecs.codecs.cpack import Cpack
from linepress_codecs.codecs.fpc import Fpc
from linepress_codecs.codecs.fpcd import Fpcd
from linepress_codecs.codecs.sc2 import Sc2
from linepress_codecs.codecs.zero import Repeat, Zero
from linepress_codecs.contracts import LineCodec, Lines, Tables
from linepress_codecs.errors import CorruptDataError, SpecError, UnsupportedFormatError
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec

Field = tuple[int, int] | str
"""(value, width), or a prefix code as it is printed, leftmost bit first."""

NOISE = [0x9E3779B9 * (i + 1) * 0x01000193 % 2**32 | 0x01010000 for i in range(16)]
"""Words that no pattern of any codec has."""


def line_of(items: list[int], size: int = 4) -> Lines:
    """One line of little-endian items of ``size`` bytes."""
    data = b"".join((item % 2 ** (8 * size)).to_bytes(size, "little") for item in items)
    return Lines(np.frombuffer(data, np.uint8).reshape(1, -1), FORMATS["uint8"])


def check_code(codec: LineCodec, lines: Lines, fields: list[Field], tables: Tables | None = None) -> None:
    """The line's code is these fields and nothing else, and decodes."""
    tables = codec.fit([]) if tables is None else tables
    writer = BitWriter()
    for field in fields:
        if isinstance(field, str):
            for bit in field:
                writer.write(int(bit), 1)
        else:
            writer.write(*field)
    packed = codec.encode(lines, tables)
    assert packed.bits.tolist() == [writer.bits]
    assert codec.measure(lines, tables).tolist() == [writer.bits]
    code = int.from_bytes(packed.payload.tobytes(), "little")
    assert code & ((1 << writer.bits) - 1) == int.from_bytes(writer.to_bytes(), "little")
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    assert np.array_equal(codec.decode_line(packed, 0, tables), lines.data[0])


def raw_fields(lines: Lines, header: Field) -> list[Field]:
    return [header, *((int(byte), 8) for byte in lines.data[0])]


# --- zero, repeat ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [16, 8])
def test_zero(words: int) -> None:
    check_code(Zero(), line_of([0] * words), [(1, 1)])
    one = line_of([0] * (words - 1) + [1 << 31])
    check_code(Zero(), one, raw_fields(one, (0, 1)))


@pytest.mark.parametrize("words", [8, 4])
def test_repeat(words: int) -> None:
    value = 0x0123456789ABCDEF
    check_code(Repeat(), line_of([value] * words, 8), [(1, 1), (value, 64)])
    check_code(Repeat(), line_of([0] * words, 8), [(1, 1), (0, 64)])
    almost = line_of([value] * (words - 1) + [value + 1], 8)
    check_code(Repeat(), almost, raw_fields(almost, (0, 1)))


# --- BDI ------------------------------------------------------------------------------------------------------------

BASES = {8: 0x1122334455667788, 4: 0x11223344, 2: 0x1122}
DELTA_ROWS = [
    # tag, bytes of base and elements, bytes of a delta, bytes of the paper, bits of gem5
    (2, 8, 1, 16, 136),
    (3, 8, 2, 24, 200),
    (4, 8, 4, 40, 328),
    (5, 4, 1, 20, 176),
    (6, 4, 2, 36, 304),
    (7, 2, 1, 34, 304),
]


def deltas(k: int, d: int) -> list[int]:
    """An offset an element: none, both extremes that either accounting takes, then ones too wide for a delta less."""
    top = 2 ** (8 * d - 1) - 1
    return [0, top, -top] + [(top - i * max(3, top // 40)) * (-1) ** i for i in range(64 // k - 3)]


@pytest.mark.parametrize(("tag", "k", "d", "paper_bytes", "gem5_bits"), DELTA_ROWS)
def test_bdi_near_one_base(tag: int, k: int, d: int, paper_bytes: int, gem5_bits: int) -> None:
    offsets = deltas(k, d)
    lines = line_of([BASES[k] + delta for delta in offsets], k)
    body: list[Field] = [(delta % 2 ** (8 * d), 8 * d) for delta in offsets]
    base: Field = (BASES[k], 8 * k)
    check_code(Bdi(), lines, [(tag, 4), base, *body])
    count = 64 // k
    check_code(Bdi(accounting="gem5"), lines, [(tag, 4), (2**count - 1, count), base, *body])
    assert table_bits(lines, gem5=False).tolist() == [8 * paper_bytes]
    assert table_bits(lines, gem5=True).tolist() == [gem5_bits]
    assert Bdi().measure(lines, Bdi().fit([])).tolist() == [4 + 8 * paper_bytes]


@pytest.mark.parametrize(("tag", "k", "d", "paper_bytes", "gem5_bits"), DELTA_ROWS)
def test_bdi_near_zero_and_a_base(tag: int, k: int, d: int, paper_bytes: int, gem5_bits: int) -> None:
    """The paper's bytes have no place for the mask: its bits come on top, one an element."""
    offsets = deltas(k, d)
    zero = [i % 3 == 1 for i in range(64 // k)]
    lines = line_of([delta + (0 if near else BASES[k]) for near, delta in zip(zero, offsets, strict=True)], k)
    count = 64 // k
    mask: Field = (sum((not near) << i for i, near in enumerate(zero)), count)
    body: list[Field] = [(delta % 2 ** (8 * d), 8 * d) for delta in offsets]
    check_code(Bdi(), lines, [(tag + 6, 4), mask, (BASES[k], 8 * k), *body])
    check_code(Bdi(accounting="gem5"), lines, [(tag, 4), mask, (BASES[k], 8 * k), *body])
    assert table_bits(lines, gem5=False).tolist() == [8 * paper_bytes]
    assert table_bits(lines, gem5=True).tolist() == [gem5_bits] == [8 * paper_bytes + count]


@pytest.mark.parametrize(("tag", "k", "d", "paper_bytes", "gem5_bits"), DELTA_ROWS)
def test_bdi_near_zero_only(tag: int, k: int, d: int, paper_bytes: int, gem5_bits: int) -> None:
    """Without a word far from zero the base is zero; gem5 charges it all the same."""
    offsets = deltas(k, d)
    lines = line_of(offsets, k)
    body: list[Field] = [(delta % 2 ** (8 * d), 8 * d) for delta in offsets]
    check_code(Bdi(), lines, [(tag, 4), (0, 8 * k), *body])
    check_code(Bdi(accounting="gem5"), lines, [(tag, 4), (0, 64 // k), (0, 8 * k), *body])
    assert table_bits(lines, gem5=True).tolist() == [gem5_bits]


def test_bdi_zeros_repeated_raw() -> None:
    zeros, value = line_of([0] * 16), 0x0123456789ABCDEF
    check_code(Bdi(), zeros, [(0, 4), (0, 8)])
    check_code(Bdi(accounting="gem5"), zeros, [(0, 4)])
    assert table_bits(zeros, gem5=False).tolist() == [8]
    assert table_bits(zeros, gem5=True).tolist() == [0]
    repeated = line_of([value] * 8, 8)
    for codec in (Bdi(), Bdi(accounting="gem5")):
        check_code(codec, repeated, [(1, 4), (value, 64)])
        noise = line_of(NOISE)
        check_code(codec, noise, raw_fields(noise, (15, 4)))
    assert table_bits(repeated, gem5=False).tolist() == table_bits(repeated, gem5=True).tolist() == [64]
    assert table_bits(line_of(NOISE), gem5=True).tolist() == [512]


@pytest.mark.parametrize("row", DELTA_ROWS)
def test_bdi_lines_of_32_bytes(row: tuple[int, int, int, int, int]) -> None:
    """Table 2 of the paper gives both line sizes: a base and half as many deltas."""
    tag, k, d, _, _ = row
    offsets = deltas(k, d)[: 32 // k]
    lines = line_of([BASES[k] + delta for delta in offsets], k)
    body: list[Field] = [(delta % 2 ** (8 * d), 8 * d) for delta in offsets]
    check_code(Bdi(), lines, [(tag, 4), (BASES[k], 8 * k), *body])
    paper = {2: 12, 3: 16, 4: 24, 5: 12, 6: 20, 7: 18}
    assert table_bits(lines, gem5=False).tolist() == [8 * paper[tag]]


@pytest.mark.parametrize(("k", "d"), [(8, 1), (8, 2), (8, 4), (4, 1), (4, 2), (2, 1)])
def test_bdi_most_negative_delta(k: int, d: int) -> None:
    """The paper takes the whole range of a signed delta; gem5 refuses its lower end."""
    items = [BASES[k], BASES[k] - 2 ** (8 * d - 1)] + [BASES[k] + delta for delta in deltas(k, d)[2:]]
    lines = line_of(items, k)
    paper, gem5 = (int(table_bits(lines, gem5=g)[0]) for g in (False, True))
    assert paper == 8 * (k + 64 // k * d)
    assert gem5 > paper + 64 // k


# --- FPC ------------------------------------------------------------------------------------------------------------

REST: list[Field] = [(0, 3), (7, 3), (0, 3), (6, 3)]
"""Fifteen zero words: a run of eight and one of seven."""


@pytest.mark.parametrize(
    ("word", "prefix", "data", "width"),
    [
        (1, 1, 1, 4),
        (7, 1, 7, 4),
        (-1, 1, 15, 4),
        (-8, 1, 8, 4),
        (8, 2, 8, 8),
        (127, 2, 127, 8),
        (-9, 2, 0xF7, 8),
        (-128, 2, 0x80, 8),
        (128, 3, 128, 16),
        (32767, 3, 0x7FFF, 16),
        (-129, 3, 0xFF7F, 16),
        (-32768, 3, 0x8000, 16),
        (0x00010000, 4, 1, 16),
        (0xABCD0000, 4, 0xABCD, 16),
        (0x80000000, 4, 0x8000, 16),
        (0x007F0001, 5, 0x7F01, 16),
        (0x0001FF80, 5, 0x0180, 16),
        (0xFF80007F, 5, 0x807F, 16),
        (0xFF81FF82, 5, 0x8182, 16),
        (0x12121212, 6, 0x12, 8),
        (0x80808080, 6, 0x80, 8),
        (0x12345678, 7, 0x12345678, 32),
        (0x00808000, 7, 0x00808000, 32),
    ],
)
def test_fpc_patterns(word: int, prefix: int, data: int, width: int) -> None:
    check_code(Fpc(), line_of([word] + [0] * 15), [(1, 1), (prefix, 3), (data, width), *REST])


@pytest.mark.parametrize("run", range(1, 17))
def test_fpc_zero_runs_end_at_eight_words_and_at_the_line(run: int) -> None:
    """A run of n words, one word that is not zero, and the rest."""
    fields: list[Field] = [(1, 1)]
    for length in ([8] * (run // 8) + [run % 8]) if run % 8 else [8] * (run // 8):
        fields += [(0, 3), (length - 1, 3)]
    items = [0] * run
    if run < 16:
        items.append(5)
        fields += [(1, 3), (5, 4)]
        rest = 15 - run
        items += [0] * rest
        for length in [8] * (rest // 8) + ([rest % 8] if rest % 8 else []):
            fields += [(0, 3), (length - 1, 3)]
    check_code(Fpc(), line_of(items), fields)


def test_fpc_of_32_bytes_and_raw() -> None:
    check_code(Fpc(), line_of([0] * 8), [(1, 1), (0, 3), (7, 3)])
    noise = line_of(NOISE)
    check_code(Fpc(), noise, raw_fields(noise, (0, 1)))


# --- FPC-D ----------------------------------------------------------------------------------------------------------

A, B = 0xA1B2C3D4, 0x51627384


@pytest.mark.parametrize(
    ("words", "prefixes", "stored"),
    [
        ([0], [0], []),
        ([0xFFFFFFFF], [1], []),
        # The first word sits in Q, so that the second matches it there; from the third on P is the one before.
        ([A, A], [15, 3], [(A, 32)]),
        ([A, B, B], [15, 15, 2], [(A, 32), (B, 32)]),
        ([A, B, A], [15, 15, 3], [(A, 32), (B, 32)]),
        ([0x000000C7], [4], [(0xC7, 8)]),
        ([0xC7000000], [5], [(0xC7, 8)]),
        ([0xC7C7C7C7], [6], [(0xC7, 8)]),
        ([A, B, B ^ 0xFF], [15, 15, 7], [(A, 32), (B, 32), ((B ^ 0xFF) & 0xFF, 8)]),
        ([A, B, A ^ 0xFF], [15, 15, 8], [(A, 32), (B, 32), ((A ^ 0xFF) & 0xFF, 8)]),
        ([A, A ^ 1], [15, 8], [(A, 32), ((A ^ 1) & 0xFF, 8)]),
        ([0x0000C7D8], [9], [(0xC7D8, 16)]),
        ([0x00C700D8], [10], [(0xC7D8, 16)]),
        ([0xFFFFC7D8], [11], [(0xC7D8, 16)]),
        ([0xC7D80000], [12], [(0xC7D8, 16)]),
        ([A, B, B ^ 0xFF00], [15, 15, 13], [(A, 32), (B, 32), ((B ^ 0xFF00) & 0xFFFF, 16)]),
        ([A, B, A ^ 0xFF00], [15, 15, 14], [(A, 32), (B, 32), ((A ^ 0xFF00) & 0xFFFF, 16)]),
        ([A], [15], [(A, 32)]),
        # Ties: no history before Q, Q before P.
        ([A, B, A, A], [15, 15, 3, 2], [(A, 32), (B, 32)]),
        ([A, A, A], [15, 3, 3], [(A, 32)]),
        ([0xC7C7C7C7, 0xC7C7C7D8, 0xD8D8D8D8], [6, 8, 6], [(0xC7, 8), (0xD8, 8), (0xD8, 8)]),
        ([0x00001234, 0x00005678], [9, 9], [(0x1234, 16), (0x5678, 16)]),
        # Zero words enter the history too.
        ([A, 0, 0x0000C7D8], [15, 0, 9], [(A, 32), (0xC7D8, 16)]),
        ([A, 0, 0, A], [15, 0, 0, 15], [(A, 32), (A, 32)]),
    ],
)
def test_fpcd_patterns(words: list[int], prefixes: list[int], stored: list[Field]) -> None:
    rest = 16 - len(words)
    heads: list[Field] = [(p, 4) for p in prefixes] + [(0, 4)] * rest
    check_code(Fpcd(), line_of(words + [0] * rest), [(1, 1), *heads, *stored])


def test_fpcd_sizes_are_those_of_the_table() -> None:
    bits = {0: 4, 1: 4, 2: 4, 3: 4, 4: 12, 5: 12, 6: 12, 7: 12, 8: 12} | dict.fromkeys(range(9, 15), 20) | {15: 36}
    assert [4 + int(b) for b in fpcd.DATA_BITS] == [bits[p] for p in range(16)]


def test_fpcd_of_32_bytes_and_raw() -> None:
    check_code(Fpcd(), line_of([0] * 8), [(1, 1), (0, 32)])
    noise = line_of(NOISE)
    check_code(Fpcd(), noise, raw_fields(noise, (0, 1)))


# --- C-Pack ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([0], ["00"]),
        ([A], ["01", (A, 32)]),
        ([A, A], ["01", (A, 32), "10", (0, 4)]),
        ([A, B, B], ["01", (A, 32), "01", (B, 32), "10", (1, 4)]),
        ([A, A ^ 0xFF00], ["01", (A, 32), "1100", (0, 4), ((A ^ 0xFF00) & 0xFFFF, 16)]),
        ([0x000000C7], ["1101", (0xC7, 8)]),
        ([A, A ^ 0xFF], ["01", (A, 32), "1110", (0, 4), ((A ^ 0xFF) & 0xFF, 8)]),
        # Neither zero words nor ZZZX enter the dictionary.
        ([0xC7, 0xC7, A, A], ["1101", (0xC7, 8), "1101", (0xC7, 8), "01", (A, 32), "10", (0, 4)]),
        # Partial matches enter it, and the best match counts, not the first: entry 1 matches three bytes, 0 two.
        (
            [A, A ^ 0xFF00, A ^ 0xFF01],
            ["01", (A, 32), "1100", (0, 4), ((A ^ 0xFF00) & 0xFFFF, 16), "1110", (1, 4), ((A ^ 0xFF01) & 0xFF, 8)],
        ),
        (
            [A, A ^ 0xFF, A ^ 0xFF],
            ["01", (A, 32), "1110", (0, 4), ((A ^ 0xFF) & 0xFF, 8), "10", (1, 4)],
        ),
    ],
)
def test_cpack_patterns(words: list[int], fields: list[Field]) -> None:
    rest = 16 - len(words)
    check_code(Cpack(), line_of(words + [0] * rest), [(1, 1), *fields, *["00"] * rest])


def test_cpack_uses_the_whole_index_and_starts_each_line_anew() -> None:
    words = [0x01000000 * (i + 1) for i in range(13)]
    fields: list[Field] = [(1, 1)]
    for word in words:
        fields += ["01", (word, 32)]
    check_code(Cpack(), line_of([*words, words[12], 0, 0]), [*fields, "10", (12, 4), "00", "00"])
    one = line_of([A] * 16)
    two = Lines(np.concatenate([one.data, one.data]), one.format)
    assert Cpack().measure(two, Cpack().fit([])).tolist() == [1 + 34 + 15 * 6] * 2


def test_cpack_of_32_bytes_and_raw() -> None:
    check_code(Cpack(), line_of([0] * 8), [(1, 1), *["00"] * 8])
    noise = line_of(NOISE)
    check_code(Cpack(), noise, raw_fields(noise, (0, 1)))


# --- BPC ------------------------------------------------------------------------------------------------------------


def words_of(base: int, planes: dict[int, int], count: int = 16) -> list[int]:
    """The words whose differences have these bit planes (bit i - 1 of plane j is bit j of difference i)."""
    words = [base]
    for i in range(count - 1):
        delta = sum((plane >> i & 1) << j for j, plane in planes.items())
        words.append(words[-1] + delta - (2**33 if delta >> 32 else 0))
    return words


@pytest.mark.parametrize(
    ("base", "fields"),
    [
        (0, ["000"]),
        (1, ["001", (1, 4)]),
        (-8, ["001", (8, 4)]),
        (8, ["010", (8, 8)]),
        (-128, ["010", (0x80, 8)]),
        (128, ["011", (128, 16)]),
        (-32768, ["011", (0x8000, 16)]),
        (32768, ["1", (32768, 32)]),
        (0x9ABCDEF0, ["1", (0x9ABCDEF0, 32)]),
    ],
)
@pytest.mark.parametrize("delta", [33, 32])
def test_bpc_bases(base: int, fields: list[Field], delta: int) -> None:
    """Equal words: every plane of every difference is zero, one run of 33 (or 32) planes."""
    check_code(Bpc(delta=delta), line_of([base] * 16), [(1, 1), *fields, "01", (delta - 2, 5)])


@pytest.mark.parametrize(
    ("planes", "fields"),
    [
        # Highest plane first. All ones in plane 0: every difference is 1.
        ({0: 0x7FFF}, ["01", (30, 5), "00000"]),
        # DBX not zero, DBP zero: plane 1 has the bits of no pattern, plane 0 is empty under it.
        ({1: 0x1235}, ["01", (29, 5), "1", (0x1235, 15), "00001"]),
        ({0: 0b11 << 5}, ["01", (30, 5), "00010", (5, 4)]),
        ({0: 0b11 << 13}, ["01", (30, 5), "00010", (13, 4)]),
        ({0: 1 << 14}, ["01", (30, 5), "00011", (14, 4)]),
        ({0: 1}, ["01", (30, 5), "00011", (0, 4)]),
        ({0: 0b101}, ["01", (30, 5), "1", (0b101, 15)]),
        # One zero plane: planes 2 and 1 alike xor to zero.
        ({2: 0x1235, 1: 0x1235, 0: 0x1234}, ["01", (28, 5), "1", (0x1235, 15), "001", "00011", (0, 4)]),
        # A run of two, at its shortest.
        ({3: 0x1235, 2: 0x1235, 1: 0x1235, 0: 0}, ["01", (27, 5), "1", (0x1235, 15), "01", (0, 5), "00001"]),
    ],
)
def test_bpc_planes(planes: dict[int, int], fields: list[Field]) -> None:
    check_code(Bpc(), line_of(words_of(0, planes)), [(1, 1), "000", *fields])


def test_bpc_sign_plane_and_the_wrapping_variant() -> None:
    """Word 15 is one less than the others: difference -1 has all 33 planes, which differ from none above but the
    first. Wrapped, it has 32."""
    lines = line_of([1] * 15 + [0])
    check_code(Bpc(), lines, [(1, 1), "001", (1, 4), "00011", (14, 4), "01", (30, 5)])
    check_code(Bpc(delta=32), lines, [(1, 1), "001", (1, 4), "00011", (14, 4), "01", (29, 5)])
    # A step over 2^31 upward: the sign plane says so, wrapped arithmetic takes it for a step down.
    step = line_of([0] * 15 + [0x80000000])
    check_code(Bpc(), step, [(1, 1), "000", "001", "00011", (14, 4), "00001", "01", (28, 5)])
    check_code(Bpc(delta=32), step, [(1, 1), "000", "00011", (14, 4), "00001", "01", (28, 5)])


def test_bpc_of_32_bytes() -> None:
    """Seven differences: planes of 7 bits, positions of 3."""
    check_code(Bpc(), line_of(words_of(0, {0: 0x7F}, 8)), [(1, 1), "000", "01", (30, 5), "00000"])
    check_code(Bpc(), line_of(words_of(0, {0: 1 << 6}, 8)), [(1, 1), "000", "01", (30, 5), "00011", (6, 3)])
    check_code(Bpc(), line_of(words_of(0, {0: 0b11 << 5}, 8)), [(1, 1), "000", "01", (30, 5), "00010", (5, 3)])
    check_code(Bpc(), line_of(words_of(0, {0: 0b1011}, 8)), [(1, 1), "000", "01", (30, 5), "1", (0b1011, 7)])


# --- SC2 ------------------------------------------------------------------------------------------------------------


def test_sc2_book_and_codes() -> None:
    """Counts 8, 4, 2 and one other value: lengths 1, 2, 3 and 3 for the escape, canonical by (length, value)."""
    items = [7] * 8 + [0xFFFFFFFF] * 4 + [3] * 2 + [0x12345678, 0x0BADF00D]
    lines = line_of(items)
    codec = Sc2()
    tables = codec.fit([lines])
    assert tables.escape_length == 3
    assert tables.values.tolist() == [7, 0xFFFFFFFF, 3]
    assert tables.lengths.tolist() == [1, 2, 3]
    head = bytes([1, 3]) + np.array([1, 1, 1] + [0] * 12, "<u2").tobytes()
    assert tables.to_bytes() == head + np.array([7, 0xFFFFFFFF, 3], "<u4").tobytes()
    fields: list[Field] = [*["0"] * 8, *["10"] * 4, *["111"] * 2, "110", (0x12345678, 32), "110", (0x0BADF00D, 32)]
    check_code(codec, lines, [(1, 1), *fields], tables)


def test_sc2_capacity_and_rare_values() -> None:
    """The most frequent values stay; a value seen once is never in the book."""
    items = [i for i in range(40) for _ in range(41 - i)] + [1000]
    items += [2000 + i for i in range(-len(items) % 16)]
    lines = Lines(np.array(items, "<u4").view(np.uint8).reshape(-1, 64), FORMATS["uint8"])
    assert sorted(Sc2(capacity=16).fit([lines]).values.tolist()) == list(range(16))
    assert sorted(Sc2().fit([lines]).values.tolist()) == list(range(40))
    empty = Sc2().fit([])
    assert (empty.escape_length, len(empty)) == (1, 0)
    noise = line_of(NOISE)
    check_code(Sc2(), noise, raw_fields(noise, (0, 1)), empty)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda b: b[:31], "end before"),
        (lambda b: b"\x02" + b[1:], "version 2"),
        (lambda b: b + b"\0", "values take"),
        (lambda b: b[:1] + b"\x00" + b[2:], "escape of 0"),
        (lambda b: b[:1] + b"\x10" + b[2:], "escape of 16"),
        (lambda b: b[:1] + b"\x02" + b[2:], "over-subscribe"),
        (lambda b: b[:1] + b"\x04" + b[2:], "under-subscribe"),
        (lambda b: b[:2] + b"\xff\xff" + b[4:], "capacity"),
        (lambda b: b[:-4] + b[-8:-4], "twice"),
    ],
)
def test_sc2_damaged_books(damage, what: str) -> None:  # type: ignore[no-untyped-def]
    book = Sc2().fit([line_of([7] * 8 + [0xFFFFFFFF] * 4 + [3] * 2 + [5, 6])]).to_bytes()
    with pytest.raises(CorruptDataError, match=what):
        Sc2().tables_from_bytes(damage(book))


def test_sc2_values_out_of_order() -> None:
    book = bytearray(Sc2().fit([line_of([1, 2, 3, 4] * 4)]).to_bytes())
    book[-8:] = book[-4:] + book[-8:-4]
    with pytest.raises(CorruptDataError, match="out of order"):
        Sc2().tables_from_bytes(bytes(book))


def test_sc2_tables_of_another_capacity() -> None:
    lines = Lines(np.repeat(np.arange(400, dtype="<u4"), 4).view(np.uint8).reshape(-1, 64), FORMATS["uint8"])
    tables = Sc2().fit([lines])
    with pytest.raises(CorruptDataError, match="capacity"):
        Sc2(capacity=64).measure(lines, tables)


# --- thresholds and options -----------------------------------------------------------------------------------------


def test_threshold_counts_the_code_without_its_header() -> None:
    """136 bits of gem5 accounting are 26.56 % of 512: raw at 26, kept at 27."""
    lines = line_of([BASES[8] + delta for delta in deltas(8, 1)], 8)
    for threshold, bits in ((26, 516), (27, 140), (100, 140)):
        codec = Bdi(accounting="gem5", threshold=threshold)
        assert codec.measure(lines, codec.fit([])).tolist() == [bits]
        packed = codec.encode(lines, codec.fit([]))
        assert np.array_equal(codec.decode(packed, codec.fit([])), lines.data)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("bdi:accounting=mine", "not one of"),
        ("bdi:threshold=0", "1 to 100"),
        ("fpc:threshold=101", "1 to 100"),
        ("bpc:delta=31", "not one of"),
        ("sc2:capacity=1000", "not one of"),
        ("zero:threshold=50", "no option"),
    ],
)
def test_bad_options_get_one_sentence(spec: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        make(*parse_spec(spec))


def test_threshold_of_a_codec_made_by_hand() -> None:
    with pytest.raises(SpecError, match="1 to 100 percent"):
        Fpc(threshold=0)


@pytest.mark.parametrize("codec", [Zero(), Repeat(), Bdi(), Fpc(), Fpcd(), Cpack(), Bpc(), Sc2()], ids=str)
def test_lines_of_128_bytes_are_refused(codec: LineCodec) -> None:
    long = Lines(np.zeros((2, 128), np.uint8), FORMATS["uint8"])
    for action in (codec.measure, codec.encode):
        with pytest.raises(UnsupportedFormatError, match="not 128 B"):
            action(long, codec.fit([]))
    with pytest.raises(UnsupportedFormatError, match="not 128 B"):
        codec.fit([long])
