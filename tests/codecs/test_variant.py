"""Variants as text and as sweeps."""

from __future__ import annotations

import pickle

import pytest

from linepress_codecs.errors import SpecError
from linepress_codecs.packing import parse_packing
from linepress_codecs.variant import Variant, expand, parse_bytes, show_size


def test_only_non_defaults_are_printed() -> None:
    assert Variant.parse("huffman:tables=1:layout=row:line=64:packing=stream").spec == "huffman"
    text = "huffman:tables=4:layout=channel:line=32:packing=classes,set=0/22/44/64"
    variant = Variant.parse(text)
    assert variant.spec == text
    assert Variant.parse(variant.spec) == variant
    assert variant.packing == parse_packing("classes:set=0/22/44/64")
    assert variant.line_codec.codec_id == "huffman"
    assert Variant.parse("zstd:level=3:block=4096").spec == "zstd:level=3:block=4KiB"


def test_identity_is_what_changes_a_row() -> None:
    base = Variant.parse("huffman:tables=4")
    assert base.identity() == Variant.parse("huffman:tables=4:layout=row:line=64:packing=stream").identity()
    for other in (
        "huffman", "huffman:tables=4:layout=channel", "huffman:tables=4:line=32", "raw",
        "huffman:tables=4:packing=slots",
    ):  # fmt: skip
        assert Variant.parse(other).identity() != base.identity()


def test_variants_travel() -> None:
    variant = Variant.parse("huffman:tables=16:packing=groups,lines=48,size=33")
    assert pickle.loads(pickle.dumps(variant)) == variant
    assert len({variant, Variant.parse(variant.spec)}) == 1


def test_sweeps_are_full_grids() -> None:
    variants = expand({"codec": "huffman", "tables": [1, 4], "layout": ["row", "channel"], "limit": 11})
    assert [v.spec for v in variants] == [
        "huffman:limit=11",
        "huffman:limit=11:layout=channel",
        "huffman:tables=4:limit=11",
        "huffman:tables=4:limit=11:layout=channel",
    ]
    assert [v.spec for v in expand("zstd:level=3")] == ["zstd:level=3"]
    assert [v.spec for v in expand({"codec": "zstd:level=9", "block": ["4KiB", "1MiB"]})] == [
        "zstd:level=9:block=4KiB",
        "zstd:level=9:block=1MiB",
    ]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("", "empty variant"),
        ("hufman", "unknown codec"),
        ("huffman:tables", "not key=value"),
        ("huffman:tables=17", "not one of"),
        ("huffman:tabels=4", "no option"),
        ("huffman:layout=diagonal", "unknown layout"),
        ("huffman:packing=heap", "unknown packing"),
        ("huffman:line=48", "not one of 32, 64"),
        ("zstd:block=100", "power of two"),
        ("zstd:block=2MiB", "power of two"),
        ("zstd:block=soon", "not valid"),
        ("deflate:lib=isal", "levels 1 to 3"),
        ({"codec": "huffman", "tables": []}, "is empty"),
        ({"codec": "huffman", "tables": [4, 4]}, "twice"),
        ({"codec": "huffman:tables=4", "tables": [1]}, "twice"),
        ({"tables": [4]}, "mapping with"),
        (["huffman"], "mapping with"),
    ],
)
def test_bad_entries_get_one_sentence(entry: object, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        expand(entry)  # type: ignore[arg-type]


def test_kinds_are_told_apart() -> None:
    with pytest.raises(SpecError, match="block codec"):
        _ = Variant.parse("zstd").line_codec
    with pytest.raises(SpecError, match="line codec"):
        _ = Variant.parse("huffman").block_codec


def test_sizes_round_trip() -> None:
    for text, size in (("64B", 64), ("4KiB", 4096), ("1MiB", 1 << 20), ("1536B", 1536)):
        assert parse_bytes(text) == size
        assert show_size(size) == text
    assert parse_bytes("64") == 64
    assert (parse_bytes("64 kB"), parse_bytes("1GiB"), parse_bytes("2TB")) == (64_000, 1 << 30, 2 * 10**12)
    for bad in ("", "64 kb", "1.5MiB", "-1B", "64KiBs"):
        with pytest.raises(ValueError, match="64KiB"):
            parse_bytes(bad)
