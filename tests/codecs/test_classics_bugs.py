"""Bugs of public implementations of these codecs, each shown not to be here.

Each test was seen to fail with its bug put into the kernels: the signed comparison, runs of any length, the threshold
of 50 %, half of the 64-bit range, failed deltas that count, a dictionary that survives, partial matches left out,
zeros at the wrong end, bases of one size, 31-bit constants, rows not cleared, an escape of one bit.
"""

from __future__ import annotations

import numpy as np
import pytest

from linepress_codecs.codecs.bdi import Bdi
from linepress_codecs.codecs.bpc import Bpc
from linepress_codecs.codecs.cpack import Cpack
from linepress_codecs.codecs.fpc import Fpc
from linepress_codecs.codecs.sc2 import Sc2
from linepress_codecs.contracts import LineCodec, Lines, Tables
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec


def lines_of(items: list[list[int]], size: int = 4) -> Lines:
    data = [b"".join((x % 2 ** (8 * size)).to_bytes(size, "little") for x in line) for line in items]
    return Lines(np.frombuffer(b"".join(data), np.uint8).reshape(len(items), -1), FORMATS["uint8"])


def bits_of(codec: LineCodec, lines: Lines, tables: Tables | None = None) -> list[int]:
    """Sizes, after a round trip."""
    tables = codec.fit([]) if tables is None else tables
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    sizes: list[int] = codec.measure(lines, tables).tolist()
    return sizes


def test_fpc_takes_all_256_signed_bytes_in_either_halfword() -> None:
    """gem5's comparison of a signed with an unsigned halfword loses the negative half of pattern 5."""
    for high in (0x0012, 0xFF9A):
        pairs = [high << 16 | (byte - 256 if byte > 127 else byte) % 65536 for byte in range(256)]
        # A word whose low halfword is nil has pattern 4, of the same 19 bits.
        assert bits_of(Fpc(), lines_of([[word] + [0] * 15 for word in pairs])) == [1 + 19 + 12] * 256
        swapped = [word >> 16 | (word & 65535) << 16 for word in pairs if (word & 65535) not in (0, 65535)]
        assert bits_of(Fpc(), lines_of([[word] + [0] * 15 for word in swapped])) == [1 + 19 + 12] * len(swapped)


def test_fpc_runs_end_at_eight_words_and_never_cross_a_line() -> None:
    """A public model counts one run for any number of zeros and reads on into the next line."""
    assert bits_of(Fpc(), lines_of([[0] * 16])) == [1 + 12]
    assert bits_of(Fpc(), lines_of([[5] * 9 + [0] * 7, [0] * 7 + [5] * 9])) == [1 + 9 * 7 + 6] * 2


def test_bdi_keeps_38_and_41_byte_lines_unless_told() -> None:
    """gem5's outer threshold of 50 % makes its 38 B and 41 B encodings raw; here that is an option."""
    base8 = [0x1122334455667788 + (delta << 24) for delta in (0, 99, -99, 80, -80, 1, 7, 120)]
    base2 = [0x1122 + delta for delta in range(-16, 16)]
    for items, size, bits in ((base8, 8, 328), (base2, 2, 304)):
        lines = lines_of([items], size)
        assert bits_of(Bdi(accounting="gem5"), lines) == [4 + bits]
        assert bits_of(Bdi(accounting="gem5", threshold=50), lines) == [4 + 512]


@pytest.mark.parametrize("spec", ["bdi", "bdi:accounting=gem5"])
def test_bdi_arithmetic_on_whole_words(spec: str) -> None:
    """32-bit shifts by 63, sign extension by a mask and differences that overflow break public models at the ends of
    the number range; differences here wrap in the element's width."""
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    top, half = 2**64 - 1, 2**63
    around = [half - 2, half - 1, half, half + 1] * 2
    wrapping = [top - 1, top, 0, 1, 2, top, 1, 0]
    sizes = bits_of(codec, lines_of([around, wrapping], 8))
    mask = 8 if codec == Bdi(accounting="gem5") else 0
    assert sizes == [4 + 128 + mask] * 2


def test_bdi_failed_deltas_give_no_mixed_size() -> None:
    """One element out of 32 that fits no base: the line is raw, not a sum of what did fit."""
    items = [0x1122 + i for i in range(32)]
    items[17] = 0x7A5B
    lines = lines_of([items], 2)
    assert bits_of(Bdi(accounting="gem5"), lines) == [516]


def test_cpack_dictionary_is_of_the_line() -> None:
    """A public model keeps the dictionary from line to line, takes the first match, does not insert partial matches
    and looks for zeros at the wrong end of the word."""
    word = 0xA1B2C3D4
    alone = lines_of([[word] * 16])
    twice = lines_of([[word] * 16, [word] * 16])
    assert bits_of(Cpack(), twice) == bits_of(Cpack(), alone) * 2
    best = [word, word ^ 0xFF00, word ^ 0xFF01] + [0] * 13
    assert bits_of(Cpack(), lines_of([best])) == [1 + 34 + 24 + 16 + 13 * 2]
    partial = [word, word ^ 0xFF00, word ^ 0xFF00] + [0] * 13
    assert bits_of(Cpack(), lines_of([partial])) == [1 + 34 + 24 + 6 + 13 * 2]
    assert bits_of(Cpack(), lines_of([[0x000000C7] + [0] * 15])) == [1 + 12 + 15 * 2]
    assert bits_of(Cpack(), lines_of([[0xC7000000] + [0] * 15])) == [1 + 34 + 15 * 2]


@pytest.mark.parametrize(("base", "bits"), [(0, 3), (5, 7), (-100, 11), (20000, 19), (0x9ABCDEF0, 33)])
def test_bpc_bases_have_five_sizes(base: int, bits: int) -> None:
    """Two public models assign in the test (`base = 0`), so that every base costs 7 bits."""
    assert bits_of(Bpc(), lines_of([[base] * 16])) == [1 + bits + 7]


def test_bpc_planes_of_fifteen_bits() -> None:
    """Public constants of 31-bit planes (ones 0x7fffffff, sizes 10 and 32) are 0x7fff, 9 and 16 on 64 B."""
    ones = lines_of([list(range(16))])
    assert bits_of(Bpc(), ones) == [1 + 3 + 7 + 5]
    single = lines_of([[0] * 15 + [1]])
    assert bits_of(Bpc(), single) == [1 + 3 + 7 + 9]
    plain = lines_of([[0, 1, 1, 2] + [2] * 12])
    assert bits_of(Bpc(), plain) == [1 + 3 + 7 + 16]


def test_bpc_depends_on_the_line_alone() -> None:
    """A public model copies four bytes into an uninitialised 64-bit word: deltas depend on what lay there."""
    rng = np.random.Generator(np.random.PCG64(1))
    noise = rng.integers(0, 2**32, (50, 16), dtype=np.uint64).tolist()
    line = [7 * i for i in range(16)]
    mixed = [x for other in noise for x in (other, line)]
    assert set(bits_of(Bpc(), lines_of(mixed))[1::2]) == set(bits_of(Bpc(), lines_of([line])))


def test_sc2_codes_are_prefix_free_and_none_is_dropped() -> None:
    """gem5's model keys codes by their bits without the length, drops those over the limit and always gives the
    escape one bit. Fibonacci counts would give lengths far over 15."""
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    items = [value for value, count in enumerate(counts) for _ in range(count)]
    items += [0] * (-len(items) % 16)
    lines = Lines(np.array(items, "<u4").view(np.uint8).reshape(-1, 64), FORMATS["uint8"])
    tables = Sc2().fit([lines])
    lengths = [tables.escape_length, *map(int, tables.lengths)]
    assert max(lengths) == 15
    assert tables.escape_length > 1
    assert sum(2.0**-length for length in lengths) == 1.0
    codes = [f"{int(code):0{length}b}"[::-1] for code, length in zip(tables.codes, lengths, strict=True)]
    for i, one in enumerate(codes):
        assert not any(other.startswith(one) for other in codes[:i] + codes[i + 1 :])
    bits_of(Sc2(), lines, tables)
