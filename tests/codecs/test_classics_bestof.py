"""``best-of``: the smallest part line by line, its selector counted, in any mixture of codecs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from linepress_codecs.codecs.bestof import BestOf
from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.errors import CorruptDataError, SpecError, UnsupportedFormatError
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import changed, sample_lines
from linepress_codecs.variant import Variant, expand

BF16 = FORMATS["bf16"]


def lines_of(rows: list[list[int]]) -> Lines:
    return Lines(np.array(rows, "<u4").view(np.uint8), FORMATS["uint8"])


@pytest.mark.parametrize(
    ("of", "selector"), [("bdi+fpc", 1), ("bdi+fpc+bpc", 2), ("bdi+fpc+cpack+bpc", 2), ("zero+repeat+bdi+fpc+bpc", 3)]
)
def test_selector_bits_are_counted(of: str, selector: int) -> None:
    codec = BestOf(of)
    assert codec.selector_bits == selector
    for _, lines in sample_lines(BF16):
        tables = codec.fit([lines])
        parts = [part.measure(lines, part.fit([lines])) for part in codec.parts]
        smallest = np.min(parts, axis=0) if len(lines) else np.zeros(0, np.uint16)
        assert np.array_equal(codec.measure(lines, tables), smallest + selector)


def test_the_first_bits_name_the_part() -> None:
    """Near one 64-bit base: bdi. Repeated bytes: fpc. Equal steps of 32-bit words: bpc."""
    codec = BestOf("bdi+fpc+bpc")
    near = [part for i in range(8) for part in (0x9ABCDEF0 + (37 * i) % 101, 0x13579BDF)]
    repeated = [(37 * i + 9) % 256 * 0x01010101 for i in range(16)]
    steps = [0x9ABCDEF0 + 5 * i for i in range(16)]
    packed = codec.encode(lines_of([near, repeated, steps]), codec.fit([]))
    first = packed.payload[packed.starts.astype(np.int64) // 8] & 3
    assert first.tolist() == [0, 1, 2]
    # Steps of 5: base 33, a run of 30 planes, three planes: all ones, all ones again (xor), all ones.
    assert packed.bits.tolist() == [2 + 4 + 128, 2 + 1 + 16 * 11, 2 + 1 + 33 + 7 + 3 * 5]


def test_equal_sizes_go_to_the_first() -> None:
    lines = lines_of([[0x9E3779B9 * (3 * i + 1) * 0x01000193 % 2**32 | 0x01010000 for i in range(16)]])
    for of in ("fpc+fpcd", "fpcd+fpc"):
        codec = BestOf(of)
        packed = codec.encode(lines, codec.fit([]))
        assert packed.bits.tolist() == [1 + 513]
        assert packed.payload[0] & 1 == 0


def test_parts_with_options_and_tables() -> None:
    codec = BestOf("huffman,tables=2+sc2,capacity=64+bdi,accounting=gem5")
    lines = dict(sample_lines(BF16))["mixed"]
    tables = codec.fit([lines])
    own = [part.fit([lines]).to_bytes() for part in codec.parts]
    assert tables.to_bytes() == b"".join(len(data).to_bytes(4, "little") + data for data in own)
    assert codec.tables_from_bytes(tables.to_bytes()).to_bytes() == tables.to_bytes()
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    assert set((packed.payload[packed.starts.astype(np.int64) // 8] & 3).tolist()) == {0, 1}


def test_channels_reach_the_parts() -> None:
    """`context` codes a line by its channel's parameters; best-of hands each part the channels of its lines."""
    codec = BestOf("zero+context")
    lines = dict(sample_lines(BF16))["channels"]
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    for i in range(len(lines)):
        assert np.array_equal(codec.decode_line(packed, i, tables), lines.data[i])


def test_one_spelling_and_identity() -> None:
    one = make(*parse_spec("best-of:of=bdi,accounting=paper + fpc"))
    assert one == BestOf("bdi+fpc")
    assert one.spec == "best-of:of=bdi+fpc"
    assert BestOf("bdi+fpc") != BestOf("fpc+bdi")
    assert BestOf().spec == "best-of"
    assert pickle.loads(pickle.dumps(one)) == one
    spec = "best-of:of=bdi,accounting=gem5+bpc,delta=32:layout=channel:packing=classes,set=0/32/64"
    assert Variant.parse(spec).spec == spec
    assert Variant.parse(spec).identity()["options"] == {
        "of": "bdi,accounting=gem5+bpc,delta=32",
        "versions_of": [1, 1],
    }
    swept = expand({"codec": "best-of", "of": ["bdi+fpc", "bdi+fpc+bpc"]})
    assert [variant.spec for variant in swept] == ["best-of:of=bdi+fpc", "best-of:of=bdi+fpc+bpc"]


@pytest.mark.parametrize(
    ("of", "what"),
    [
        ("bdi", "2 to 16"),
        ("", "2 to 16"),
        ("bdi+", "empty variant"),
        ("bdi+bdi", "twice"),
        ("bdi+bdi,accounting=paper", "twice"),
        ("bdi+best-of", "its own parts"),
        ("bdi+zstd", "block codec"),
        ("bdi+nothing", "unknown codec"),
        ("bdi+bpc,delta=31", "not one of"),
        ("bdi+bpc,delta", "not key=value"),
    ],
)
def test_bad_lists_get_one_sentence(of: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        BestOf(of)


def test_formats_are_those_all_parts_take() -> None:
    codec = BestOf("bdi+window")
    assert codec.supports(BF16)
    assert not codec.supports(FORMATS["int8"])
    with pytest.raises(UnsupportedFormatError):
        codec.measure(lines_of([[0] * 16]), codec.fit([]))


def test_damage_names_the_line_of_the_whole() -> None:
    codec = BestOf("zero+fpc+bpc")
    lines = lines_of([[0] * 16, [1] * 8 + [0] * 8, [0] * 16, [i << 20 for i in range(16)]])
    tables = codec.fit([])
    packed = codec.encode(lines, tables)
    at = int(packed.starts[3]) // 8
    payload = packed.payload.copy()
    payload[at] |= 3
    with pytest.raises(CorruptDataError, match=r"line 3: selector 3 is not one of 3 parts"):
        codec.decode(changed(packed, payload=payload), tables)
    bits = packed.bits.copy()
    bits[3] -= 1
    with pytest.raises(CorruptDataError, match="line 3"):
        codec.decode(changed(packed, bits=bits), tables)
    with pytest.raises(CorruptDataError, match="line 3"):
        codec.decode_line(changed(packed, bits=bits), 3, tables)
    bits[2] = 1
    with pytest.raises(CorruptDataError, match="line 2: 1 bits end before the selector"):
        codec.decode(changed(packed, bits=bits), tables)


def test_tables_of_another_list() -> None:
    lines = lines_of([[0] * 16])
    with pytest.raises(CorruptDataError, match="2 parts"):
        BestOf("bdi+fpc+bpc").measure(lines, BestOf("bdi+fpc").fit([]))


@pytest.mark.parametrize(
    ("data", "what"), [(b"", "before the length"), (b"\x05\0\0\0", "5 B"), (b"\0" * 9, "left behind")]
)
def test_damaged_tables(data: bytes, what: str) -> None:
    with pytest.raises(CorruptDataError, match=what):
        BestOf("bdi+fpc").tables_from_bytes(data)


def test_the_card_is_the_slowest_part_and_a_cycle() -> None:
    card = BestOf("bdi+fpc+cpack").card(BF16)
    assert card.decode_latency_cycles.value == 9 + 1
    assert card.encode_latency_cycles.value == 13 + 1
    assert BestOf("bdi+sc2").card(BF16).table_sram_bytes.value == 6 * 1024


@pytest.mark.parametrize(
    ("spec", "decode", "encode"),
    [
        ("zero", 1, 1),
        ("repeat", 1, 1),
        ("bdi:accounting=gem5", 1, 2),
        ("fpc", 5, 3),
        ("fpcd", 4, 5),
        ("cpack", 9, 13),
        ("sc2", 16, 17),
        ("bpc", 12, 12),
    ],
)
def test_cards_state_the_published_cycles(spec: str, decode: int, encode: int) -> None:
    card = make(*parse_spec(spec)).card(BF16)  # type: ignore[attr-defined]
    assert card.decode_latency_cycles.value == decode
    assert card.encode_latency_cycles.value == encode
    assert card.decode_latency_cycles.status == "published"


@pytest.mark.parametrize("name", ["turning", "revised"])
def test_parts_get_the_place_of_their_own_lines(name: str) -> None:
    """Positions and base lines go to the part that codes the line, as channels do."""
    codec = make(*parse_spec("best-of:of=context+delta+zero"))
    assert isinstance(codec, LineCodec)
    lines = dict(sample_lines(FORMATS["bf16"]))[name]
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    assert np.array_equal(codec.decode_line(packed, 7, tables), lines.data[7])
