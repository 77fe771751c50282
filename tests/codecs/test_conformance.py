"""The conformance kit over every registered codec, and the kit's own teeth: broken codecs must fail it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from linepress_codecs import testing
from linepress_codecs.codecs.block import sample_blocks
from linepress_codecs.codecs.raw import Raw
from linepress_codecs.contracts import BlockCodec, LineCodec, Lines, Packed, Tables
from linepress_codecs.registry import codecs, make, parse_spec
from linepress_codecs.testing import block_checks, line_checks

VARIANTS = [
    "huffman:tables=4",
    "huffman:tables=16:substreams=8",
    "huffman:limit=9:substreams=2",
    "window:bits=4",
    "tans:streams=1:mantissa=2",
    "adaptive:tables=2:streams=8:precision=9",
    "context:streams=4",
    "delta:streams=4:precision=9",
    "bdi:accounting=gem5:threshold=50",
    "cpack:threshold=75",
    "bpc:delta=32",
    "sc2:capacity=16",
    "best-of:of=zero+sc2,capacity=64+huffman",
    "lz4:level=9:block=4KiB",
    "zstd:level=3:block=64B",
    "zstd:level=9:block=1MiB",
    "deflate:level=1:lib=isal",
    "deflate:level=6:lib=libdeflate",
]
"""Options under which other code runs than under the defaults; every registered codec passes by itself."""
SPECS = [*codecs(), *VARIANTS]


def of_kind(kind: str) -> list[str]:
    return [spec for spec in SPECS if codecs()[spec.split(":")[0]].kind == kind]


def test_no_codec_skips_the_kit() -> None:
    assert set(of_kind("line")) | set(of_kind("block")) == set(SPECS) >= set(codecs())


@pytest.mark.parametrize("check", line_checks(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("spec", of_kind("line"))
def test_line_codecs(spec: str, check: testing.LineCheck) -> None:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    check(codec)


@pytest.mark.parametrize("check", block_checks(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("spec", of_kind("block"))
def test_block_codecs(spec: str, check: testing.BlockCheck) -> None:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, BlockCodec)
    check(codec)


def test_every_codec_is_described() -> None:
    for name, cls in codecs().items():
        testing.check_identity(cls())
        assert cls.codec_id == name


@dataclass(frozen=True)
class Broken(Raw):
    """Raw with one promise broken, chosen by ``fault``."""

    codec_id: ClassVar[str] = "raw"
    fault: str = ""

    def measure(self, lines: Lines, tables: Tables) -> np.ndarray:
        bits = super().measure(lines, tables)
        if self.fault == "small sizes":
            return bits - np.uint16(1)
        if self.fault == "tiny" and len(bits):
            bits[:] = 3
        return bits

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        if self.fault == "writes its input":
            lines.data[:1] ^= 1
        packed = super().encode(lines, tables)
        if self.fault == "loses a bit" and len(packed):
            packed.payload[-1] &= 0x7F
        return packed

    def decode(self, packed: Packed, tables: Tables) -> np.ndarray:
        if self.fault == "trusts starts":
            first = (packed.starts // np.uint64(8)).astype(np.int64) % max(len(packed.payload), 1)
            padded = np.concatenate([packed.payload, np.zeros(64, np.uint8)])
            return padded[first[:, None] + np.arange(packed.line_bytes)]
        return super().decode(packed, tables)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> np.ndarray:
        if self.fault == "reads its neighbour":
            line = super().decode_line(packed, i, tables)
            return line ^ packed.payload[0] ^ packed.payload[0] if i == 0 else line ^ (packed.payload[0] & 1)
        return super().decode_line(packed, i, tables)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("loses a bit", testing.check_lossless),
        ("writes its input", testing.check_lossless),
        ("small sizes", testing.check_lossless),
        ("tiny", testing.check_measure),
        ("reads its neighbour", testing.check_random_access),
        ("trusts starts", testing.check_hostile_geometry),
    ],
)
def test_the_kit_has_teeth(fault: str, check: testing.LineCheck) -> None:
    with pytest.raises((AssertionError, ValueError, OverflowError)):
        check(Broken(fault=fault))


def test_the_kit_passes_what_is_whole() -> None:
    for check in line_checks()[1:]:
        check(Broken())


def test_samples_of_blocks() -> None:
    assert sample_blocks(5, seed=1, k=9).tolist() == [0, 1, 2, 3, 4]
    one, two = sample_blocks(100000, seed=1, k=500), sample_blocks(100000, seed=1, k=500)
    assert np.array_equal(one, two)
    assert len(np.unique(one)) == 500
    assert (np.diff(one) > 0).all()
    assert not np.array_equal(one, sample_blocks(100000, seed=2, k=500))
    assert one.max() < 100000
